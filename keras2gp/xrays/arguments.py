"""The arguments of an X-ray, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Targets
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.inputs import check_labels, check_length, check_targets
from keras2gp.kernel.kernel import Kernel
from keras2gp.xrays.scores import Task

__all__ = ["checked_conversion", "checked_names", "checked_rows", "without_mean"]

_ALLOWED = ("output", "max_pooling", "tolerance", "activations", "layers", "input_shape")
_FEWEST = 8


def checked_rows(x: Any, y: Any, test: Any) -> tuple[Array, Task, Array | None]:
    """The images and targets, checked. Raises: InputError."""
    if isinstance(x, list | tuple | Mapping):
        raise InputError("x: an X-ray is of a model with one input, and takes one array of images")
    images = np.asarray(x)
    if images.dtype == np.uint8:
        raise InputError(
            "x holds uint8 pixels, which are not scaled here in silence. Try: "
            "x.astype('float32') / 255, or without the division if the model rescales them itself"
        )
    regression = np.asarray(y).dtype.kind == "f"
    check: Callable[[Any], Targets] = check_targets if regression else check_labels
    targets = check(y)
    check_length(images, targets, "targets")
    if len(images) < _FEWEST:
        raise InputError(f"x has {len(images)} rows: {_FEWEST} or more are compared")
    if test is None:
        return images, Task(targets, None, regression), None
    if not isinstance(test, Sequence) or len(test) != 2:
        raise InputError(f"test={received_text(test)}: expected a pair of images and targets")
    held, others = np.asarray(test[0]), check(test[1])
    check_length(held, others, "targets of test rows")
    return images, Task(targets, others, regression), held


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


def without_mean(task: Task, kernel: Kernel, x: Array, test: Array | None) -> Task:
    """The targets of a regression less the mean of a kernel's process."""
    mean = kernel.mean
    if mean is None:
        return task

    def less(y: Targets, images: Array) -> Targets:
        values = np.asarray(mean(images), np.float64).reshape(len(y), -1)
        return y - (values[:, 0] if y.ndim == 1 else values)

    held = None if task.test is None or test is None else less(task.test, test)
    return Task(less(task.y, x), held, regression=True)
