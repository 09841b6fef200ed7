"""Class labels: checked where they enter, and as data of a saved fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from keras2gp._util.arrays import Indices, LabelsLike, Targets, Vector, VectorLike
from keras2gp._util.checks import is_finite_and_not_negative, is_missing, require_plain
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp.arguments.inputs import LEFT_OUT, real_numbers
from keras2gp.gp.arguments.rows import lacking

__all__ = [
    "PROBABILITIES",
    "check_label_setting",
    "check_labels",
    "check_probabilities",
    "class_weights",
    "classes_from_state",
    "classes_state",
    "targets_of",
]

_FEW = 20
"""Up to so many labels there is no warning of many classes, as in scikit-learn."""


def check_labels(y: LabelsLike, remedy: str = LEFT_OUT) -> Vector:
    """Class labels, [N], of any type.

    Args:
        y: the labels.
        remedy: for a label that is missing.

    Raises:
        InputError: y is missing, has two axes, is not finite, or holds continuous values.
    """
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None")
    require_plain("y", y)
    try:
        labels = _one_axis(np.asarray(y), y)
        _require_values(labels, y, remedy)
        labels = _of_one_type(labels)
        if labels.dtype.kind in "biu":  # always labels; the search for a type takes 0.6 ms
            _warn_of_many(labels)
        else:
            check_classification_targets(labels)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        text = str(error).removesuffix(".")
        hint = ". Try: a GPRegressor" if "label type: continuous" in text else ""
        if "label type: unknown" in text:  # of which scikit-learn says "continuous", too
            text = "Unknown label type: neither whole numbers nor texts"
        raise InputError(f"y holds no labels: {text}{hint}") from error
    return labels


def _warn_of_many(labels: Vector) -> None:
    """Warn where most labels are of a class of their own, as scikit-learn's check does."""
    if len(labels) > _FEW and (classes := len(np.unique(labels))) > len(labels) / 2:
        warnings.warn(
            f"y holds {classes} classes among {len(labels)} labels. Try: a GPRegressor if y is a "
            "quantity",
            UserWarning,
            stacklevel=4,
        )


def _one_axis(labels: Vector, y: LabelsLike) -> Vector:
    """Labels [N], of a column too; InputError for other shapes."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected: its one column is taken",
            DataConversionWarning,
            stacklevel=4,
        )
        labels = labels[:, 0]
    if not labels.ndim:
        raise InputError(f"y is {received_text(y)}; expected one label for each input, [N]")
    if labels.ndim != 1 or not labels.size:
        hint = ". Try: y.argmax(axis=1) if it is one-hot" if labels.size else ""
        raise InputError(
            f"y has shape {labels.shape}; expected one label for each input, [N]{hint}"
        )
    return labels


def _require_values(labels: Vector, y: LabelsLike, remedy: str) -> None:
    """Refuse missing and mixed values with an InputError."""
    kind = labels.dtype.kind
    read = kind in "US" and not isinstance(y, np.ndarray)
    if read and any(isinstance(value, int | float | np.number) for value in y):
        raise InputError(
            "y holds numbers and texts, and numbers would be taken for texts. Try: labels of one "
            "type"
        )
    if kind == "f" and not np.isfinite(labels).all():
        hint = f". Try: {remedy}" if np.isnan(labels).any() else ""
        raise InputError(f"y is not finite: it holds NaN or inf{hint}")
    if kind == "O" and (missing := [value for value in labels if is_missing(value)]):
        value = "NaN" if isinstance(missing[0], float) else str(missing[0])
        raise InputError(f"y holds a missing label, {value}. Try: {remedy}")
    if kind == "c":
        raise InputError(f"Complex data not supported: y holds values of type {labels.dtype}")


def _of_one_type(labels: Vector) -> Vector:
    """Objects of Python that are all true or false, all whole numbers, or all real, as these."""
    if labels.dtype.kind == "O":
        kinds = {np.asarray(label).dtype.kind for label in labels}
        if len(kinds) == 1 and kinds <= set("biuf"):
            return np.array(labels.tolist())
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


PROBABILITIES = ("linear", "temperature", "largest", "dirichlet")
"""The ways to compute probabilities from the posterior; the first is the default."""


def targets_of(labels: Vector) -> tuple[Vector, Indices, Targets]:
    """Classes, the column of each label, and targets of -1 and 1.

    Raises:
        InputError: there is one class.
    """
    classes, index = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"y holds one class, {received_text(classes[0])}: a classifier needs at least two "
            "classes"
        )
    targets = np.full((len(labels), len(classes)), -1.0)
    targets[np.arange(len(labels)), index] = 1.0
    return classes, index, targets


def check_probabilities(probabilities: Any) -> None:
    """Refuse a setting that is not one of PROBABILITIES with an InputError."""
    if not isinstance(probabilities, str) or probabilities not in PROBABILITIES:
        names = ", ".join(f'"{name}"' for name in PROBABILITIES)
        received = received_text(probabilities)
        raise InputError(f"probabilities is {received}: expected one of {names}")


def check_label_setting(labels: Any, probabilities: str) -> None:
    """Refuse a setting `labels` that is unknown, or has no use, with an InputError."""
    if not isinstance(labels, str) or labels not in ("means", "probabilities"):
        raise InputError(f'labels is {received_text(labels)}: expected "means" or "probabilities"')
    if labels == "probabilities" and probabilities != "linear":
        raise InputError(
            f'labels="probabilities" is for probabilities="linear", and not for '
            f'"{probabilities}": there the most probable class is that of the largest mean, or '
            "takes variances, which labels do without"
        )


def _check_class_weights(weights: Mapping[Any, Any]) -> None:
    """Refuse what are no weights. Raises: InputError, with the class."""
    for label, weight in weights.items():
        if not is_finite_and_not_negative(weight):
            raise InputError(
                f"class_weight of class {received_text(label)} is {received_text(weight)}: "
                "expected a finite number, 0 or more"
            )


def class_weights(setting: Any, y: LabelsLike, weights: VectorLike) -> VectorLike:
    """The weights of all labels, from those of classes and of samples; None where all are 1.

    Raises:
        InputError: the setting is no weights of classes.
    """
    if setting is None or y is None:
        return weights
    labels = np.asarray(y)
    by_class, known = np.ones(labels.shape), ~lacking(labels)
    if isinstance(setting, Mapping):
        _check_class_weights(setting)
    elif not (isinstance(setting, str) and setting == "balanced"):
        raise InputError(
            f'class_weight is {received_text(setting)}: expected None, "balanced", or a dict from '
            "label to weight"
        )
    try:
        by_class[known] = compute_sample_weight(setting, labels[known])
    except (TypeError, ValueError) as error:
        raise InputError(f"class_weight is {received_text(setting)}: {error}") from error
    if not by_class.all() and len(set(labels[known][by_class[known] > 0.0].tolist())) < 2:
        raise InputError(
            f"class_weight is {received_text(setting)}: fewer than two classes have a weight above "
            "0, and rows of weight 0 are left out"
        )
    if weights is None:
        return by_class
    given = real_numbers(weights, "sample_weight")
    return by_class * given.reshape(*given.shape, *[1] * (labels.ndim - given.ndim))
