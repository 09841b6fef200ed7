"""Checks of the arguments of estimators where they enter: inputs, targets, labels and kernels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from keras2gp._util.arrays import Array, Images, Targets, Vector
from keras2gp._util.checks import refuse_masked
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, ModelFileError

__all__ = [
    "KernelFunction",
    "check_feature_names",
    "check_inputs",
    "check_kernel",
    "check_labels",
    "check_length",
    "check_targets",
    "check_texts",
    "check_variances",
    "classes_from_state",
    "classes_state",
    "feature_names",
    "kernel_values",
    "prior_variances",
    "takes_text",
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
            f'kernel is {received_text(kernel)}: expected "precomputed", or a kernel such as '
            "keras2gp.convert gives: kernel(x1, x2) -> [N1, N2] and kernel.diag(x) -> [N]"
        )


def takes_text(kernel: object) -> bool:
    """Whether an input of a kernel is text, so that a table for it is text too."""
    return any(getattr(spec, "dtype", "") == "string" for spec in getattr(kernel, "inputs", ()))


def check_texts(x: Any) -> Images:
    """Inputs as an array [N, columns] of text, numbers among them written as text.

    Raises:
        InputError: x is empty, has another number of axes, or holds a missing value.
    """
    refuse_masked("X", x)
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise InputError(f"X is no array: {error}") from error
    if array.ndim < 2 or not array.size:
        raise InputError(f"X has shape {array.shape}; expected [N, columns], not empty")
    if array.dtype.kind == "O":
        for value in array.flat:
            if not isinstance(value, str | int | float | np.number):
                raise InputError(f"X holds {received_text(value)}, neither text nor a number")
    return array.astype(str)


def check_inputs(x: Any, *, precomputed: bool) -> Images:
    """Inputs as an array [N, features] or [N, *shape] of floating-point numbers.

    Raises:
        InputError: x is empty, is no array of numbers, has one axis, holds uint8 pixels (unless it
            is a precomputed matrix), or is not finite.
    """
    array = _as_array(x, "X")
    if not array.ndim:
        raise InputError(
            f"X is {received_text(x)}: expected an array, [N, features] or [N, *shape]. Reshape "
            "your data if it is a single number"
        )
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
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        return _float64(array, "X")
    _require_finite(array, "X", " (NaN or inf)")
    return array


def feature_names(x: Any) -> Vector | None:
    """The names of the columns of a data frame, [features]; None for anything else.

    Raises:
        InputError: some columns have names that are strings, and some have not.
    """
    # scikit-learn finds the names, and sets them on the estimator that it is given.
    holder = BaseEstimator()
    try:
        validate_data(holder, x, reset=True, skip_check_array=True, ensure_2d=False)
    except TypeError as error:
        raise InputError(str(error)) from error
    names: Vector | None = getattr(holder, "feature_names_in_", None)
    if names is None and hasattr(x, "__dataframe__"):
        columns = list(x.__dataframe__().column_names())
        if columns and all(isinstance(column, str) for column in columns):
            names = np.array(columns, dtype=object)
    return names


def check_feature_names(estimator: BaseEstimator, x: Any) -> None:
    """Refuse a data frame whose columns are not those of the fit, in their order.

    Raises:
        InputError: other names, or another order.
    """
    names, fitted = feature_names(x), getattr(estimator, "feature_names_in_", None)
    if names is None or fitted is None:
        # Warns where only one of the two has names.
        validate_data(estimator, x, reset=False, skip_check_array=True, ensure_2d=False)
    elif not np.array_equal(names, fitted):
        message = "The feature names should match those that were passed during fit.\n"
        for heading, strangers in (
            ("Feature names unseen at fit time:", set(names) - set(fitted)),
            ("Feature names seen at fit time, yet now missing:", set(fitted) - set(names)),
        ):
            if strangers:
                message += "\n- ".join([heading, *sorted(strangers)[:5]]) + "\n"
        if set(names) == set(fitted):
            message += "Feature names must be in the same order as they were in fit.\n"
        raise InputError(message + "Try: the columns of fit, in their order")


def check_length(x: Sized, y: Sized, noun: str) -> None:
    """Refuse targets of another length than the inputs with an InputError."""
    if len(x) != len(y):
        raise InputError(
            f"y has {len(y)} {noun} and X has {len(x)} inputs: inconsistent numbers of samples"
        )


def check_targets(y: Any) -> Targets:
    """Targets of a regression in float64, [N] or [N, C].

    Raises:
        InputError: y is missing, empty, no array of real numbers, not finite, or holds numbers
            that float64 does not hold.
    """
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None")
    targets = _as_array(y, "y")
    if targets.ndim not in (1, 2) or not targets.size:
        raise InputError(f"y has shape {targets.shape}; expected [N] or [N, C], not empty")
    targets = _float64(targets, "y")
    largest = np.abs(targets).max(axis=0)
    tiny = (largest > 0.0) & (largest < np.finfo(np.float64).tiny)
    if tiny.any():
        raise InputError(
            f"the largest target of y is {np.max(largest[tiny]):g}, which float64 holds with few "
            "digits. Try: targets in another unit"
        )
    return targets


def check_labels(y: Any) -> Vector:
    """Class labels, [N], of any type.

    Raises:
        InputError: y is missing, has two axes, is not finite, or holds continuous values.
    """
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None")
    refuse_masked("y", y)
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
        if labels.dtype.kind == "O" and any(isinstance(v, float) and math.isnan(v) for v in labels):
            raise InputError("y holds a missing label, NaN")
        if labels.dtype.kind == "c":
            raise InputError(f"Complex data not supported: y holds values of type {labels.dtype}")
        check_classification_targets(labels)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"y holds no labels: {error}") from error
    return labels


def kernel_values(values: Any, shape: tuple[int, ...], what: str) -> Array:
    """The result of a kernel as an array of the expected shape; its floating-point type is kept.

    Raises:
        InputError: the shape is another, or a value is masked or not a finite real number.
    """
    refuse_masked(what, values)
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


def prior_variances(kernel: Any, x: Images, diag: Any) -> Vector:
    """The variances k(x, x) of inputs, [M]; `diag` has them for a precomputed kernel.

    Raises:
        InputError: they are not given, or are no variances.
    """
    if not isinstance(kernel, str):
        return check_variances(kernel.diag(x), len(x), "the diagonal of the kernel")
    if diag is None:
        raise InputError(
            "variances of a precomputed kernel need diag=, the prior variance k(x, x) of each "
            "input, [M]"
        )
    return check_variances(diag, len(x), "diag")


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
        place = first_place(~finite)
        raise InputError(f"{what} is not finite: entry {place} is {array[tuple(place)]}{note}")


def first_place(wrong: Array) -> list[int]:
    """Index of the first true entry."""
    return [int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape)]


def _float64(array: Array, what: str) -> Array:
    """Real numbers in float64; InputError where float64 does not hold a number."""
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} holds values of type {array.dtype}; expected real numbers")
    _require_finite(array, what, " (NaN or inf)")
    with np.errstate(over="ignore", under="ignore"):
        result = array.astype(np.float64)
    lost = ~np.isfinite(result) | ((result == 0.0) & (array != 0))
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        # Compared as whole numbers: numpy compares int64 with float64 in float64.
        large = np.argwhere(np.abs(result) >= 2.0**53)
        for place in map(tuple, large.tolist()):
            lost[place] = int(result[place]) != int(array[place])
    if lost.any():
        first = first_place(lost)
        raise InputError(
            f"{what} holds a number that float64 does not hold: entry {first} is "
            f"{array[tuple(first)]}. Try: subtract a constant, or {what} in another unit; "
            f"{what}.astype('float64') rounds"
        )
    return result


def _as_array(x: Any, what: str) -> Array:
    """Real numbers as a numpy array; InputError for a sparse, complex or other array."""
    refuse_masked(what, x)
    if hasattr(x, "toarray"):
        raise InputError(f"{what} is sparse: sparse input is not supported. Try: {what}.toarray()")
    try:
        array = np.asarray(x)
        if array.dtype.kind == "O" and array.ndim:
            return _numbers(array, what)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what} is no array of numbers: {error}") from error
    if array.dtype.kind == "c":
        raise InputError(f"Complex data not supported: {what} holds values of type {array.dtype}")
    return array


def _numbers(objects: Array, what: str) -> Array:
    """An array of Python objects as float64; InputError for objects that are no real numbers."""
    for value in objects.flat:
        if isinstance(value, str | bytes | complex | np.complexfloating):
            raise InputError(f"{what} holds objects that are no numbers: {received_text(value)}")
    try:
        result = objects.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} holds objects that are no numbers: {error}") from error
    except OverflowError as error:
        raise InputError(f"{what} holds a number beyond float64: {error}") from error
    for value, number in zip(objects.flat, result.flat, strict=True):
        if isinstance(value, int | np.integer) and int(value) != int(number):
            raise InputError(
                f"{what} holds a number that float64 does not hold: {received_text(value)}. Try: "
                f"subtract a constant, or {what} in another unit"
            )
    return result
