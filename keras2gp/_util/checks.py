"""Checks of single arguments, with one wording for all errors."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any, TypeGuard

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, InputTypeError, Keras2GPError

__all__ = [
    "as_float",
    "finite_number",
    "is_finite_and_not_negative",
    "is_missing",
    "is_number",
    "is_whole_number",
    "numbers_of",
    "one_of",
    "proper_share",
    "python_number",
    "require_plain",
    "truth",
    "whole_number",
]


_MOST = float(np.finfo(np.float64).max)


def is_number(value: object) -> bool:
    """Whether a value is a real number of Python or numpy; bool is none."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def python_number(value: Any) -> Any:
    """The Python number of a numpy scalar; other values as they are."""
    return value.item() if isinstance(value, np.generic) else value


def is_finite_and_not_negative(value: object) -> bool:
    """Whether a value is a number from 0 to the largest of float64."""
    if not is_number(value):
        return False
    # Of numpy as Python's: a comparison in float32 would overflow.
    return bool(0.0 <= python_number(value) <= _MOST)


def finite_number(value: Any) -> float:
    """A finite number of a saved state as a float; ValueError for anything else."""
    if not is_number(value) or not math.isfinite(value):
        raise ValueError(f"{value!r} where a finite number is expected")
    return float(value)


def is_whole_number(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of Python or numpy; True and 3.0 are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def whole_number(
    name: str,
    value: Any,
    least: int = 0,
    most: int | None = None,
    error: type[Keras2GPError] = InputError,
) -> int:
    """Return a value as an integer, or refuse it.

    Args:
        name: the argument's name in the message, with its place where that helps.
        value: the value received; integers of Python and numpy are accepted, bool is not.
        least: smallest value accepted.
        most: largest value accepted; None for no bound.
        error: class of the error.

    Returns:
        The value as a Python integer.

    Raises:
        Keras2GPError: of the class `error`, with the name, the value and what is expected.
    """
    if is_whole_number(value) and value >= least and (most is None or value <= most):
        return operator.index(value)
    reach = f"{least} or more" if most is None else f"from {least} to {most}"
    raise error(f"{name}={received_text(value)}: expected a whole number, {reach}")


_STREAMS = (
    ("a ragged tensor", "nested_row_splits", "{name}.to_tensor(), which fills its rows up"),
    (
        "a data set that is read in batches",
        "element_spec",
        "np.concatenate([batch for batch in {name}.as_numpy_iterator()]), or of batch[0] of pairs",
    ),
    (
        "a data set that is read in batches",
        "on_epoch_end",
        "np.concatenate([{name}[i][0] for i in range(len({name}))]), and of [1]",
    ),
    ("an iterator", "__next__", "np.array(list({name}))"),
)
"""What gives its rows one after another: what it is, an attribute that only it has, a remedy."""


def require_plain(name: str, value: Any) -> None:
    """Refuse what is no array with all of its values: sparse or symbolic ones, streams, sets.

    Raises:
        InputError: it is one of these, or an array of which values are masked.
    """
    for kind, mark, remedy in _STREAMS:
        if hasattr(value, mark):
            raise InputError(
                f"{name} is {kind}, {received_text(value)}: expected an array of all rows. Try: "
                f"{remedy.format(name=name)}"
            )
    if isinstance(value, set | frozenset):
        raise InputError(f"{name} is a set, which has no order. Try: a list")
    if hasattr(value, "toarray"):
        raise InputError(f"{name} is sparse: sparse input is not supported. Try: {name}.toarray()")
    if hasattr(value, "dense_shape"):
        raise InputError(
            f"{name} is sparse: sparse input is not supported. Try: tf.sparse.to_dense({name})"
        )
    if hasattr(value, "graph") or type(value).__name__ == "KerasTensor":
        raise InputError(
            f"{name}: a symbolic tensor, which has no values yet. Try: an array, outside of "
            "tf.function; a saved kernel and an exported fit are SavedModels, which run inside"
        )
    masked = np.count_nonzero(value.mask) if isinstance(value, np.ma.MaskedArray) else 0
    if masked:
        raise InputError(
            f"{name}: {masked} of its values are masked, and all of them are needed. Try: "
            f"values in their place, {name}.filled(value), or without the rows that lack some"
        )


def as_float(name: str, array: Array, dtype: str = "float64") -> Array:
    """Return whole numbers, or any others, in a dtype of floating point.

    Args:
        name: the argument's name in the message.
        array: real numbers.
        dtype: "float64" or "float32".

    Raises:
        InputError: float64 does not hold an integer, and would round it in silence.
    """
    with np.errstate(over="ignore", under="ignore"):
        result = array.astype(dtype)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        # Compared as whole numbers: numpy compares int64 with float64 in float64.
        for place in map(tuple, np.argwhere(np.abs(result) >= 2.0**53).tolist()):
            if int(float(array[place])) != int(array[place]):
                raise InputError(
                    f"{name} holds a number that float64 does not hold: entry {list(place)} "
                    f"(counted from 0) is {array[place]}. Try: subtract a constant, or {name} in "
                    f"another unit; {name}.astype('float64') rounds"
                )
    return result


def is_missing(value: Any) -> bool:
    """Whether an entry of an array of objects is none: None, NaN, NaT, or pandas's NA."""
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def numbers_of(name: str, objects: Array) -> Array:
    """An array of Python objects in float64, as a data frame of several types is read.

    Args:
        name: the argument's name, for messages.
        objects: real numbers of any type, or true and false; a missing one becomes NaN.

    Raises:
        InputError: an object is no real number, or one that float64 does not hold.
    """
    result = np.empty(objects.shape)
    for place, value in np.ndenumerate(objects):
        if isinstance(value, str | bytes | bytearray | complex | np.complexfloating):
            raise _no_number(name, value, place)
        try:
            result[place] = np.nan if is_missing(value) else float(value)
        except (TypeError, ValueError) as error:
            raise _no_number(name, value, place, f": {error}") from error
        except OverflowError as error:
            raise InputError(f"{name} holds a number beyond float64: {error}") from error
        if isinstance(value, int | np.integer) and int(value) != int(result[place]):
            raise InputError(
                f"{name} holds a number that float64 does not hold: {received_text(value)}. Try: "
                f"subtract a constant, or {name} in another unit"
            )
    return result


def _no_number(name: str, value: Any, place: tuple[int, ...], reason: str = "") -> InputTypeError:
    return InputTypeError(
        f"{name} holds objects that are no numbers: {received_text(value)} at {place} (counted "
        f"from 0), expected real numbers{reason}"
    )


def one_of(name: str, value: Any, choices: Iterable[str | None]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        InputError: with the value and the choices.
    """
    choices = list(choices)
    if not (value is None or isinstance(value, str)) or value not in choices:
        listed = " or ".join(map(repr, choices))
        raise InputError(f"{name}={received_text(value)}: expected {listed}")


def truth(name: str, value: Any) -> bool:
    """Return a boolean of Python or numpy, or refuse what is none: 0, NaN and text are none.

    Raises:
        InputError: with the value.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name}={received_text(value)}: expected True or False")
    return bool(value)


def proper_share(name: str, value: Any) -> float:
    """Return a number between 0 and 1, both excluded, or refuse it.

    Raises:
        InputError: with the value.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < float(value) < 1:
        return float(value)
    raise InputError(f"{name}={received_text(value)}: expected a number between 0 and 1")
