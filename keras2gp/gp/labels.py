"""Class labels: checked where they enter, and as data of a saved fit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from keras2gp._util.arrays import Vector
from keras2gp._util.checks import refuse_masked
from keras2gp.errors import InputError, ModelFileError

__all__ = ["check_labels", "classes_from_state", "classes_state"]


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
