"""Checks of the arguments of estimators where they enter: inputs, targets, labels and kernels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from keras2gp._util.arrays import Array, Images, Targets, Vector
from keras2gp.errors import InputError, ModelFileError

__all__ = [
    "KernelFunction",
    "check_inputs",
    "check_kernel",
    "check_labels",
    "check_length",
    "check_targets",
    "check_variances",
    "classes_from_state",
    "classes_state",
    "kernel_values",
]


@runtime_checkable
class KernelFunction(Protocol):
    """A covariance function of two sets of inputs.

    >>> from keras2gp.gp import KernelFunction
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> isinstance(RBF(1.0), KernelFunction)
    True
    """

    def __call__(self, x1: Any, x2: Any = None, /) -> Any:
        """The matrix [N1, N2], as an array or tensor; x2=None stands for x1.

        Args:
            x1: inputs, [N1, ...].
            x2: inputs, [N2, ...]; None for x1.

        Returns:
            Covariances k(x1, x2).
        """
        ...

    def diag(self, x: Any, /) -> Any:
        """The variances [N], as an array or tensor.

        Args:
            x: inputs, [N, ...].

        Returns:
            Variances k(x, x).
        """
        ...


def check_kernel(kernel: object) -> None:
    """Refuse a setting `kernel` that is neither a kernel nor "precomputed".

    Raises:
        InputError: it is neither.
    """
    if isinstance(kernel, str) and kernel == "precomputed":
        return
    if isinstance(kernel, type) or not isinstance(kernel, KernelFunction):
        raise InputError(
            f'kernel is {kernel!r}: expected "precomputed", or a kernel such as '
            "keras2gp.convert gives: kernel(x1, x2) -> [N1, N2] and kernel.diag(x) -> [N]"
        )


def check_inputs(x: Any, *, precomputed: bool) -> Images:
    """Inputs as an array [N, features] or [N, *shape] of floating-point numbers.

    Raises:
        InputError: x is empty, is no array of numbers, has one axis, holds uint8 pixels (unless it
            is a precomputed matrix), or is not finite.
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
    _require_finite(array, "X", " (NaN or inf)")
    return array


def check_length(x: Sized, y: Sized, noun: str) -> None:
    """Refuse targets of another length than the inputs with an InputError."""
    if len(x) != len(y):
        raise InputError(
            f"y has {len(y)} {noun} and X has {len(x)} inputs: inconsistent numbers of samples"
        )


def check_targets(y: Any) -> Targets:
    """Targets of a regression in float64, [N] or [N, C].

    Raises:
        InputError: y is missing, empty, no array of real numbers, or not finite.
    """
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None")
    try:
        targets = np.asarray(y)
        if targets.dtype.kind not in "fiub":
            targets = targets.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"y is no array of numbers: {error}") from error
    if targets.ndim not in (1, 2) or not targets.size:
        raise InputError(f"y has shape {targets.shape}; expected [N] or [N, C], not empty")
    _require_finite(targets, "y", " (NaN or inf)")
    return targets.astype(np.float64)


def check_labels(y: Any) -> Vector:
    """Class labels, [N], of any type.

    Raises:
        InputError: y is missing, has two axes, is not finite, or holds continuous values.
    """
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


def kernel_values(values: Any, shape: tuple[int, ...], what: str) -> Array:
    """The result of a kernel as an array of the expected shape; its floating-point type is kept.

    Raises:
        InputError: the shape is another, or a value is not a finite real number.
    """
    array = np.asarray(values)
    if array.shape != shape:
        raise InputError(f"{what} has shape {array.shape}; expected {shape}")
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        raise InputError(f"{what} holds values of type {array.dtype}; expected real numbers")
    _require_finite(array, what)
    return array


def check_variances(values: Any, count: int, what: str) -> Vector:
    """Prior variances, [count], in float64.

    Raises:
        InputError: the shape is another, or a value is negative or not finite.
    """
    variances = kernel_values(values, (count,), what).astype(np.float64)
    if variances.min() < 0.0:
        index = int(variances.argmin())
        raise InputError(f"{what} holds a negative variance: entry {index} is {variances[index]}")
    return variances


def classes_state(classes: Vector) -> dict[str, Any]:
    """The classes of a classifier as data for JSON; InputError for labels JSON cannot hold."""
    values = classes.tolist()
    if not all(isinstance(value, str | int | float) for value in values):
        raise InputError(
            f"labels of type {classes.dtype} cannot be saved. Try: strings or whole numbers"
        )
    return {"dtype": classes.dtype.str, "values": values}


def classes_from_state(state: Mapping[str, Any], count: int) -> Vector:
    """The classes of a `classes_state`; KeyError, TypeError and the like where it is malformed.

    Raises:
        ModelFileError: they are not `count` different labels of one type.
    """
    values, dtype = state["values"], np.dtype(state["dtype"])
    kinds: dict[str, type | tuple[type, ...]] = {
        "U": str, "O": (str, int, float), "b": bool, "i": int, "u": int, "f": float
    }  # fmt: skip
    if not isinstance(values, list) or not all(isinstance(v, kinds[dtype.kind]) for v in values):
        raise ModelFileError(f"classes of type {dtype} are {values!r}")
    # The length of a string type is that of the longest label, not the length in the file.
    classes = np.array(values, dtype=str if dtype.kind == "U" else dtype)
    if classes.shape != (count,) or len(set(values)) != count:
        raise ModelFileError(f"{len(values)} classes, expected {count} different ones")
    return classes


def _require_finite(array: Array, what: str, note: str = "") -> None:
    """Refuse an array that is not finite with an InputError that names the first such entry."""
    finite = np.isfinite(array)
    if not finite.all():
        place = [int(i) for i in np.unravel_index(int(finite.argmin()), array.shape)]
        raise InputError(f"{what} is not finite: entry {place} is {array[tuple(place)]}{note}")


def _as_array(x: Any) -> Array:
    """Any array of numbers as a numpy array, InputError for sparse, complex or other arrays."""
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
