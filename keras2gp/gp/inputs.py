"""What estimators are handed: inputs, targets and kernels, checked where they enter."""

from __future__ import annotations

import warnings
from collections.abc import Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from keras2gp._util.arrays import Array
from keras2gp.errors import InputError

__all__ = [
    "KernelFunction",
    "check_inputs",
    "check_kernel",
    "check_labels",
    "check_length",
    "first_place",
    "kernel_values",
]


@runtime_checkable
class KernelFunction(Protocol):
    """A covariance function of two sets of inputs."""

    def __call__(self, x1: Any, x2: Any = None, /) -> Any:
        """The matrix [N1, N2], as an array or tensor; x2=None is x1 with itself."""
        ...

    def diag(self, x: Any, /) -> Any:
        """The variances [N], as an array or tensor."""
        ...


def check_kernel(kernel: object) -> None:
    """Refuse what is neither a kernel nor "precomputed".

    Raises: InputError
    """
    if isinstance(kernel, str) and kernel == "precomputed":
        return
    if isinstance(kernel, type) or not isinstance(kernel, KernelFunction):
        raise InputError(
            f'kernel is {kernel!r}: expected "precomputed", or a kernel such as '
            "keras2gp.convert gives: kernel(x1, x2) -> [N1, N2] and kernel.diag(x) -> [N]"
        )


def check_inputs(x: Any, *, precomputed: bool) -> npt.NDArray[Any]:
    """Inputs as an array [N, features] or [N, *shape] of floating-point numbers.

    Raises: InputError if x is empty, is no array of numbers, has one axis, holds uint8 pixels
        (unless it is a precomputed matrix), or is not finite.
    """
    array = _as_array(x)
    if array.ndim < 2:
        raise InputError(
            f"X has shape {array.shape}; expected [N, features] or [N, *shape]. Reshape your "
            "data: X.reshape(-1, 1) if it has one feature, X[None] if it is one input"
        )
    if not array.size:
        counted = "sample" if not len(array) else "feature"
        raise InputError(
            f"X is empty: 0 {counted}(s) (shape={array.shape}) while a minimum of 1 is required."
        )
    if array.dtype == np.uint8 and not precomputed:
        raise InputError(
            "X holds uint8 pixels, which are not scaled here in silence. Try: "
            "X.astype('float32') / 255, or without the division if the model rescales them itself"
        )
    if array.dtype.kind not in "fiub":
        raise InputError(f"X holds values of type {array.dtype}; expected real numbers")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        place = first_place(~np.isfinite(array))
        raise InputError(f"X is not finite: entry {place} is {array[tuple(place)]} (NaN or inf)")
    return array


def check_length(x: Sized, y: Sized, noun: str) -> None:
    """Refuse targets of another length than the inputs.

    Raises: InputError
    """
    if len(x) != len(y):
        raise InputError(
            f"y has {len(y)} {noun} and X has {len(x)} inputs: inconsistent numbers of samples"
        )


def kernel_values(values: Any, shape: tuple[int, ...], what: str) -> npt.NDArray[Any]:
    """A kernel's answer as an array of the expected shape; its floating-point type is kept.

    Raises: InputError if the shape is another, or a value is not a finite real number.
    """
    array = np.asarray(values)
    if array.shape != shape:
        raise InputError(f"{what} has shape {array.shape}; expected {shape}")
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        raise InputError(f"{what} holds values of type {array.dtype}; expected real numbers")
    if not np.isfinite(array).all():
        place = first_place(~np.isfinite(array))
        raise InputError(f"{what} is not finite: entry {place} is {array[tuple(place)]}")
    return array


def check_variances(values: Any, count: int, what: str) -> Array:
    """Prior variances, [count], float64.

    Raises: InputError if the shape is another, or a value is negative or not finite.
    """
    variances = kernel_values(values, (count,), what).astype(np.float64)
    if variances.min() < 0.0:
        index = int(variances.argmin())
        raise InputError(f"{what} holds a negative variance: entry {index} is {variances[index]}")
    return variances


def first_place(wrong: npt.NDArray[np.bool_]) -> list[int]:
    """Index of the first true entry."""
    return [int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape)]


def _as_array(x: Any) -> npt.NDArray[Any]:
    if hasattr(x, "toarray"):
        raise InputError("X is sparse: sparse input is not supported. Try: X.toarray()")
    try:
        array = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise InputError(f"X is no array of numbers: {error}") from error
    if array.dtype.kind == "c":
        raise InputError(f"Complex data not supported: X holds values of type {array.dtype}")
    if array.dtype.kind != "O" or not array.ndim:
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"X holds objects that are no numbers: {error}") from error


def check_labels(y: Any) -> npt.NDArray[Any]:
    """Labels, [N], of any type. Raises: InputError for what is none."""
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None")
    try:
        labels = np.asarray(y)
        if labels.ndim == 2 and labels.shape[1] == 1:
            warnings.warn(
                "A column-vector y was passed when a 1d array was expected: its one column is "
                "taken",
                DataConversionWarning,
                stacklevel=3,
            )
            labels = labels[:, 0]
        if labels.ndim != 1 or not labels.size:
            raise InputError(
                f"y has shape {labels.shape}; expected one label for each input, [N]. Try: "
                "y.argmax(axis=1) if it is one-hot"
            )
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise InputError("y is not finite: it holds NaN or inf")
        check_classification_targets(labels)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"y holds no labels: {error}") from error
    return labels
