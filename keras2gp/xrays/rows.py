"""The rows of an X-ray: images of one input or several, their targets, and random halves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from keras2gp._util.arrays import Array, Indices, InputsLike, Targets, TargetsLike
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.arguments.inputs import check_length, check_targets
from keras2gp.gp.arguments.labels import check_labels
from keras2gp.kernel.kernel import Kernel

__all__ = [
    "Inputs",
    "ScoredTargets",
    "arrays_of",
    "check_rows",
    "checked_halves",
    "draw_halves",
    "of_each",
    "take_rows",
    "without_mean",
]

Inputs: TypeAlias = Array | list[Array] | dict[str, Array]
"""An array [N, *shape]; for several inputs a list of them, or a dict by input name."""
_FEWEST = 8
_SHOWN = 5
_MOST_LABELS = 20
"""Different whole numbers of a floating-point type that may have been meant as labels."""


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


def take_rows(x: Inputs, rows: slice | Indices) -> Inputs:
    """Some rows of every input."""
    return of_each(x, lambda array: array[rows])


@dataclass(frozen=True, eq=False)
class ScoredTargets:
    """Targets of the rows, and of test rows.

    Attributes:
        y: labels [N], or real targets [N] or [N, C].
        test: those of the test rows; None without any.
        regression: whether they are real.
    """

    y: Targets
    test: Targets | None
    regression: bool

    def notes(self) -> tuple[str, ...]:
        """A sentence where labels may have been meant."""
        few = self.regression and self.y.ndim == 1 and len(np.unique(self.y)) <= _MOST_LABELS
        if not few or (self.y != np.round(self.y)).any():
            return ()
        why = "the targets are taken for real numbers, as their type is floating-point"
        return (f"{why}; labels are whole numbers, as of y.astype(int), or texts",)


def check_rows(
    x: InputsLike, y: TargetsLike, test: tuple[InputsLike, TargetsLike] | None
) -> tuple[Inputs, ScoredTargets, Inputs | None]:
    """The images, the targets and the test images, checked. Raises: InputError."""
    images = of_each(x, _array)
    if any(array.dtype == np.uint8 for array in arrays_of(images)):
        raise InputError(
            "x holds uint8 pixels, which are not scaled here in silence. Try: "
            "x.astype('float32') / 255, or without the division if the model rescales them itself"
        )
    regression = np.asarray(y).dtype.kind == "f"
    check: Callable[[Any], Targets] = check_targets if regression else check_labels
    known = check(y)
    _check_lengths(images, known, "targets")
    if len(known) < _FEWEST:
        raise InputError(f"x has {len(known)} rows: {_FEWEST} or more are compared")
    if test is None:
        return images, ScoredTargets(known, None, regression), None
    if not isinstance(test, Sequence) or len(test) != 2:
        raise InputError(f"test={received_text(test)}: expected a pair of images and targets")
    test_images, others = of_each(test[0], _array), check(test[1])
    _check_lengths(test_images, others, "targets of test rows")
    _check_like(known, others, regression=regression)
    return images, ScoredTargets(known, others, regression), test_images


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


def draw_halves(targets: ScoredTargets, halvings: int, seed: int) -> list[Indices]:
    """Row numbers of random halves, `halvings` times both; labels are split evenly between them."""
    random, result = np.random.default_rng(seed), []
    for _ in range(halvings):
        order = random.permutation(len(targets.y))
        if not targets.regression:
            order = order[np.argsort(targets.y[order], kind="stable")]
        result += [np.sort(order[::2]), np.sort(order[1::2])]
    return result


def checked_halves(targets: ScoredTargets, halvings: int, seed: int) -> list[Indices]:
    """The halves of the rows. Raises: InputError if one holds one class, or one target."""
    subsets = draw_halves(targets, halvings, seed)
    if targets.regression:
        if _constant(targets.y):
            raise InputError("the targets of all rows are the same: nothing tells them apart")
        if any(_constant(targets.y[rows]) for rows in subsets):
            raise InputError(
                "the targets of half of the rows are the same, and every half is fitted too. "
                "Try: rows with more of the other targets, or whole numbers, which are labels"
            )
        return subsets
    if len(np.unique(targets.y)) < 2:
        raise InputError("the labels of all rows are the same: two or more classes are told apart")
    if any(len(np.unique(targets.y[rows])) < 2 for rows in subsets):
        raise InputError(
            "the labels of all rows but one are the same, and every half of the rows is fitted "
            "too. Try: rows with more of the rare class"
        )
    return subsets


def _constant(y: Targets) -> bool:
    """Whether a column of real targets is the same in all rows."""
    return bool((y.max(axis=0) == y.min(axis=0)).any())


def without_mean(
    targets: ScoredTargets, kernel: Kernel, x: Inputs, test: Inputs | None
) -> ScoredTargets:
    """The targets of a regression less the mean of a kernel's process."""
    mean = kernel.mean
    if mean is None:
        return targets

    def less(y: Targets, images: Inputs) -> Targets:
        values = np.asarray(mean(images), np.float64).reshape(len(y), -1)
        return y - (values[:, 0] if y.ndim == 1 else values)

    held = None if targets.test is None or test is None else less(targets.test, test)
    return ScoredTargets(less(targets.y, x), held, regression=True)
