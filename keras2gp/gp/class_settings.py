"""Settings of a classification, and its labels as targets of a regression."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight

from keras2gp._util.arrays import Indices, Targets, Vector
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.rows import lacking

__all__ = [
    "PROBABILITIES",
    "check_label_setting",
    "check_probabilities",
    "class_weights",
    "targets_of",
]

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
            f"y holds one class, {classes[0]!r}: a classifier needs at least two classes"
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


def class_weights(setting: Any, y: Any, weights: Any) -> Any:
    """The weights of all labels, from those of classes and of samples; None where all are 1.

    Raises:
        InputError: the setting is no weights of classes.
    """
    if setting is None or y is None:
        return weights
    labels = np.asarray(y)
    by_class, known = np.ones(labels.shape), ~lacking(labels)
    try:
        by_class[known] = compute_sample_weight(setting, labels[known])
    except (TypeError, ValueError) as error:
        raise InputError(f"class_weight is {received_text(setting)}: {error}") from error
    if weights is None:
        return by_class
    given = np.asarray(weights, dtype=np.float64)
    return by_class * given.reshape(*given.shape, *[1] * (labels.ndim - given.ndim))
