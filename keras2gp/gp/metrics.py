"""How good predictions are, and how honest their probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss, zero_one_loss

from keras2gp.errors import InputError
from keras2gp.gp.panels import Array

__all__ = [
    "brier_score",
    "error_rate",
    "expected_calibration_error",
    "negative_log_likelihood",
]


def error_rate(y_true: Any, y_pred: Any) -> float:
    """Fraction of labels that are wrong, 0 to 1.

    Shapes: y_true [M], y_pred [M].

    Raises: InputError if the lengths differ, or there is no label.
    """
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim != 1 or true.shape != predicted.shape or not true.size:
        raise InputError(
            f"y_true has shape {true.shape} and y_pred {predicted.shape}; expected [M] for both"
        )
    try:
        return float(zero_one_loss(true, predicted))
    except (TypeError, ValueError) as error:
        raise InputError(f"y_true and y_pred are not labels of one kind: {error}") from error


def negative_log_likelihood(y_true: Any, probabilities: Any, classes: Any) -> float:
    """Mean of -log p(true class), in nats; probabilities below 2.2e-16 count as that.

    Shapes: y_true [M] labels; probabilities [M, C]; classes [C], in the order of the columns.

    Raises: InputError
    """
    columns, p = _checked(y_true, probabilities, classes)
    return float(log_loss(columns, p, labels=np.arange(p.shape[1])))


def brier_score(y_true: Any, probabilities: Any, classes: Any) -> float:
    """Mean over inputs of sum_c (p_c - [c is the true class])^2, 0 to 2.

    Shapes: y_true [M] labels; probabilities [M, C]; classes [C], in the order of the columns.

    Raises: InputError

    Reference: Brier (1950). For two classes it is twice the score of the second class alone.
    """
    columns, p = _checked(y_true, probabilities, classes)
    truth = np.eye(p.shape[1])[columns]
    return float(((p - truth) ** 2).sum(axis=1).mean())


def expected_calibration_error(
    y_true: Any, probabilities: Any, classes: Any, bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy, over bins of equal width in confidence, 0 to 1.

    Math: sum over b of (M_b / M) |accuracy_b - mean confidence_b|; the confidence is the largest
        probability, the prediction its class (the first of equal ones); bin b is
        ((b - 1) / bins, b / bins].

    Shapes: y_true [M] labels; probabilities [M, C]; classes [C], in the order of the columns.

    Raises: InputError

    Reference: Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks.
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise InputError(f"bins is {bins!r}: expected a whole number, 1 or more")
    columns, p = _checked(y_true, probabilities, classes)
    confidence = p.max(axis=1)
    right = p.argmax(axis=1) == columns
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # M_b |accuracy_b - confidence_b| is the size of a sum of differences.
    sums = np.bincount(index, weights=right - confidence, minlength=bins)
    return float(np.abs(sums).sum() / len(p))


def _checked(y_true: Any, probabilities: Any, classes: Any) -> tuple[npt.NDArray[np.intp], Array]:
    """The column of each label, [M], and the probabilities, [M, C]."""
    true, names = np.asarray(y_true), np.asarray(classes)
    try:
        p = np.asarray(probabilities, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the probabilities are no array of numbers: {error}") from error
    if true.ndim != 1 or not true.size or p.shape != (true.size, names.size) or names.ndim != 1:
        raise InputError(
            f"y_true has shape {true.shape}, probabilities {p.shape} and classes {names.shape}; "
            "expected [M], [M, C] and [C]"
        )
    # Written so that NaN fails both.
    if not ((p >= 0.0) & (p <= 1.0)).all() or not (np.abs(p.sum(axis=1) - 1.0) <= 1e-6).all():
        raise InputError("the probabilities are not between 0 and 1 with rows that sum to 1")
    column = {name: i for i, name in enumerate(names.tolist())}
    try:
        indices = [column[label] for label in true.tolist()]
    except KeyError as error:
        raise InputError(f"label {error} is not one of the classes {names.tolist()}") from error
    return np.array(indices, dtype=np.intp), p
