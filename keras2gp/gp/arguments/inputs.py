"""Checks of the arrays that estimators are given: inputs, names of their columns, targets."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from keras2gp._util.arrays import Array, ArrayLike, Images, InputsLike, Targets, TargetsLike, Vector
from keras2gp._util.checks import as_float, numbers_of, require_plain
from keras2gp._util.text import received_text
from keras2gp.errors import InputError

__all__ = [
    "LEFT_OUT",
    "NOT_ADDED",
    "check_feature_names",
    "check_inputs",
    "check_length",
    "check_targets",
    "check_texts",
    "feature_names",
    "real_numbers",
    "require_finite_input",
]

LEFT_OUT = 'missing="ignore" of a GPClassifier or GPRegressor, or the rows without it'
"""The remedy for a target of a fit that is NaN."""
NOT_ADDED = 'the rows without it, or a new fit of all rows with missing="ignore"'
"""The remedy for a target that is NaN and is to be added to a fit that has none."""
_IMPUTED = "scikit-learn's SimpleImputer, or the rows without it"
"""The remedy for an input that is NaN."""


def check_texts(x: InputsLike) -> Images:
    """Inputs as an array [N, columns] of text, numbers among them written as text.

    Raises:
        InputError: x is empty, has another number of axes, or holds a missing value.
    """
    require_plain("X", x)
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


def check_inputs(x: InputsLike, *, precomputed: bool) -> Images:
    """Inputs as an array [N, features] or [N, *shape] of floating-point numbers.

    Raises:
        InputError: x is empty, is no array of numbers, has one axis, holds uint8 pixels (unless it
            is a precomputed matrix), or is not finite.
    """
    array = _as_array(x, "X")
    if not array.ndim:
        hint = ". Reshape your data: X.reshape(1, 1)" if array.dtype.kind in "fiub" else ""
        raise InputError(
            f"X is {received_text(x)}: expected an array, [N, features] or [N, *shape]{hint}"
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
    require_finite_input(array, "X", " (NaN or inf)", _IMPUTED)
    return array


def feature_names(x: InputsLike) -> Vector | None:
    """The names of the columns of a data frame, [features]; None for anything else.

    Raises:
        InputError: some columns have names that are strings, and some have not; or two are equal.
    """
    if type(x) is np.ndarray:  # it has none, and scikit-learn takes a tenth of a millisecond
        return None
    # scikit-learn finds the names, and sets them on the estimator that it is given.
    holder = BaseEstimator()
    try:
        validate_data(holder, x, reset=True, skip_check_array=True, ensure_2d=False)
    except (TypeError, ValueError) as error:  # not all are text, or two are equal
        raise InputError(f"X: {' '.join(str(error).split())}") from error
    names: Vector | None = getattr(holder, "feature_names_in_", None)
    if names is None and hasattr(x, "__dataframe__"):
        columns = list(x.__dataframe__().column_names())
        if columns and all(isinstance(column, str) for column in columns):
            names = np.array(columns, dtype=object)
    return names


def check_feature_names(estimator: BaseEstimator, x: InputsLike) -> None:
    """Refuse a data frame whose columns are not those of the fit, in their order.

    Raises:
        InputError: other names, or another order.
    """
    names, fitted = feature_names(x), getattr(estimator, "feature_names_in_", None)
    if names is None and fitted is None:
        return
    if names is None or fitted is None:
        # Warns: only one of the two has names.
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


def check_targets(y: TargetsLike, remedy: str = LEFT_OUT) -> Targets:
    """Targets of a regression in float64, [N] or [N, C].

    Args:
        y: the targets.
        remedy: for a target that is NaN.

    Raises:
        InputError: y is missing, empty, no array of real numbers, not finite, or holds numbers
            that float64 does not hold.
    """
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None")
    targets = _as_array(y, "y")
    if targets.ndim not in (1, 2) or not targets.size:
        raise InputError(f"y has shape {targets.shape}; expected [N] or [N, C], not empty")
    targets = _float64(targets, "y", remedy)
    largest = np.abs(targets).max(axis=0)
    tiny = (largest > 0.0) & (largest < np.finfo(np.float64).tiny)
    if tiny.any():
        raise InputError(
            f"the largest target of y is {np.max(largest[tiny]):g}, which float64 holds with few "
            "digits. Try: targets in another unit"
        )
    return targets


def real_numbers(values: ArrayLike, what: str) -> Array:
    """Finite real numbers in float64, of any shape.

    Raises:
        InputError: they are text, times, complex, masked or not finite, or float64 does not hold
            one.
    """
    return _float64(_as_array(values, what), what)


def require_finite_input(array: Array, what: str, note: str = "", remedy: str = "") -> None:
    """Refuse an array that is not finite with an InputError that names the first such entry.

    Args:
        array: real numbers.
        what: the argument's name.
        note: what follows the entry.
        remedy: for an entry that is NaN.
    """
    finite = np.isfinite(array)
    if not finite.all():
        place = _first_place(~finite)
        value = array[tuple(place)]
        hint = f". Try: {remedy}" if remedy and np.isnan(value) else ""
        raise InputError(
            f"{what} is not finite: entry {place} (counted from 0) is {value}{note}{hint}"
        )


def _first_place(wrong: Array) -> list[int]:
    """Index of the first true entry."""
    return [int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape)]


def _float64(array: Array, what: str, remedy: str = "") -> Array:
    """Real numbers in float64; InputError where float64 does not hold a number."""
    if array.dtype.kind not in "fiub":
        labels = what == "y" and array.dtype.kind in "US"
        hint = ". Try: a GPClassifier, or y.astype(float) if they are numbers" if labels else ""
        raise InputError(f"{what} holds values of type {array.dtype}; expected real numbers{hint}")
    require_finite_input(array, what, " (NaN or inf)", remedy)
    result = as_float(what, array)
    lost = ~np.isfinite(result) | ((result == 0.0) & (array != 0))
    if lost.any():
        first = _first_place(lost)
        raise InputError(
            f"{what} holds a number that float64 does not hold: entry {first} (counted from 0) is "
            f"{array[tuple(first)]}. Try: subtract a constant, or {what} in another unit; "
            f"{what}.astype('float64') rounds"
        )
    return result


def _as_array(x: InputsLike, what: str) -> Array:
    """Real numbers as a numpy array; InputError for a sparse, complex or other array."""
    require_plain(what, x)
    try:
        array = np.asarray(x)
        if array.dtype.kind == "O" and array.ndim:
            return numbers_of(what, array)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what} is no array of numbers: {error}") from error
    if array.dtype.kind == "c":
        raise InputError(f"Complex data not supported: {what} holds values of type {array.dtype}")
    return array
