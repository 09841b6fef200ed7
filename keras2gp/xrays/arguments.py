"""The arguments of an X-ray, checked; and its images, of a model with one input or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from keras2gp._util.arrays import Array, Indices, InputsLike, Targets, TargetsLike
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.arguments.inputs import check_length, check_targets
from keras2gp.gp.arguments.labels import check_labels
from keras2gp.kernel.kernel import Kernel
from keras2gp.xrays.scores import Task, subsets_of

__all__ = [
    "Inputs",
    "arrays_of",
    "checked_conversion",
    "checked_names",
    "checked_rows",
    "checked_subsets",
    "of_each",
    "taken",
    "without_mean",
]

Inputs: TypeAlias = Array | list[Array] | dict[str, Array]
"""An array [N, *shape]; for several inputs a list of them, or a dict by input name."""


def arrays_of(x: Inputs) -> list[Array]:
    """The arrays of all inputs."""
    if isinstance(x, dict):
        return list(x.values())
    return x if isinstance(x, list) else [x]


def of_each(x: InputsLike, function: Callable[[Any], Array]) -> Inputs:
    """A function of the array of every input."""
    if isinstance(x, Mapping):
        return {str(name): function(array) for name, array in x.items()}
    return list(map(function, x)) if isinstance(x, list | tuple) else function(x)


def taken(x: Inputs, rows: slice | Indices) -> Inputs:
    """Some rows of every input."""
    return of_each(x, lambda array: array[rows])


_ALLOWED = ("output", "max_pooling", "tolerance", "activations", "layers", "input_shape")
_FEWEST = 8
_SHOWN = 5


def checked_rows(
    x: InputsLike, y: TargetsLike, test: tuple[InputsLike, TargetsLike] | None
) -> tuple[Inputs, Task, Inputs | None]:
    """The images and targets, checked. Raises: InputError."""
    images = of_each(x, _array)
    if any(array.dtype == np.uint8 for array in arrays_of(images)):
        raise InputError(
            "x holds uint8 pixels, which are not scaled here in silence. Try: "
            "x.astype('float32') / 255, or without the division if the model rescales them itself"
        )
    regression = np.asarray(y).dtype.kind == "f"
    check: Callable[[Any], Targets] = check_targets if regression else check_labels
    targets = check(y)
    _check_lengths(images, targets, "targets")
    if len(targets) < _FEWEST:
        raise InputError(f"x has {len(targets)} rows: {_FEWEST} or more are compared")
    if test is None:
        return images, Task(targets, None, regression), None
    if not isinstance(test, Sequence) or len(test) != 2:
        raise InputError(f"test={received_text(test)}: expected a pair of images and targets")
    held, others = of_each(test[0], _array), check(test[1])
    _check_lengths(held, others, "targets of test rows")
    _check_like(targets, others, regression=regression)
    return images, Task(targets, others, regression), held


def _check_like(targets: Targets, others: Targets, *, regression: bool) -> None:
    """Refuse test targets that are of other columns, or labels of none of the rows."""
    if regression:
        if targets.shape[1:] != others.shape[1:]:
            raise InputError(
                f"test: its targets have shape {others.shape}, and those of the rows "
                f"{targets.shape}"
            )
        return
    texts = [labels.dtype.kind in "USO" for labels in (targets, others)]
    if texts[0] != texts[1] or not np.isin(others, targets).any():
        known = [received_text(label) for label in np.unique(targets)]
        more = ", ..." if len(known) > _SHOWN else ""
        raise InputError(
            f"test: its labels, such as {received_text(others[0])}, are of none of the rows, whose "
            f"labels are {', '.join(known[:_SHOWN])}{more}. Try: labels of one kind"
        )


def _array(value: Any) -> Array:
    try:
        return np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"x is no array: {error}") from error


def _check_lengths(x: Inputs, y: Targets, name: str) -> None:
    arrays = arrays_of(x)
    if not arrays:
        raise InputError("x holds no array")
    for array in arrays:
        if not array.ndim:
            raise InputError(f"x={received_text(array.item())}: expected an array of images")
        check_length(array, y, name)


def checked_subsets(task: Task, halvings: int, seed: int) -> list[Indices]:
    """The halves of the rows. Raises: InputError if one holds one class, or one target."""
    subsets = subsets_of(task, halvings, seed)
    if task.regression:
        if _constant(task.y):
            raise InputError("the targets of all rows are the same: nothing tells them apart")
        if any(_constant(task.y[rows]) for rows in subsets):
            raise InputError(
                "the targets of half of the rows are the same, and every half is fitted too. "
                "Try: rows with more of the other targets, or whole numbers, which are labels"
            )
        return subsets
    if len(np.unique(task.y)) < 2:
        raise InputError("the labels of all rows are the same: two or more classes are told apart")
    if any(len(np.unique(task.y[rows])) < 2 for rows in subsets):
        raise InputError(
            "the labels of all rows but one are the same, and every half of the rows is fitted "
            "too. Try: rows with more of the rare class"
        )
    return subsets


def _constant(y: Targets) -> bool:
    """Whether a column of real targets is the same in all rows."""
    return bool((y.max(axis=0) == y.min(axis=0)).any())


def checked_names(variants: Any) -> dict[str, Any]:
    """The user's own variants. Raises: InputError."""
    if variants is None:
        return {}
    if not isinstance(variants, Mapping) or not all(isinstance(n, str) and n for n in variants):
        raise InputError(f"variants={received_text(variants)}: expected a dict of models by name")
    return dict(variants)


def checked_conversion(given: Mapping[str, Any]) -> dict[str, Any]:
    """Further arguments of `convert`. Raises: InputError."""
    for name in given:
        if name not in _ALLOWED:
            reason = ""
            if name in ("prior", "trained_until"):
                reason = ": variants have no trained weights. Try: overrides"
            raise InputError(f"{name} is no argument of xray{reason}")
    return dict(given)


def without_mean(task: Task, kernel: Kernel, x: Inputs, test: Inputs | None) -> Task:
    """The targets of a regression less the mean of a kernel's process."""
    mean = kernel.mean
    if mean is None:
        return task

    def less(y: Targets, images: Inputs) -> Targets:
        values = np.asarray(mean(images), np.float64).reshape(len(y), -1)
        return y - (values[:, 0] if y.ndim == 1 else values)

    held = None if task.test is None or test is None else less(task.test, test)
    return Task(less(task.y, x), held, regression=True)
