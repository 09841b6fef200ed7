"""How good predictions are, and how honest their probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss, roc_auc_score, zero_one_loss

from keras2gp._util.arrays import Array
from keras2gp._util.checks import whole_number
from keras2gp.errors import InputError

__all__ = [
    "ReliabilityBin",
    "brier_score",
    "calibration_error_by_chance",
    "error_rate",
    "expected_calibration_error",
    "negative_log_likelihood",
    "out_of_distribution_auroc",
    "reliability",
]


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions whose confidence is in (lower, upper].

    count:      how many there are
    confidence: their mean confidence
    accuracy:   the fraction of them that is right
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


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
    found = reliability(y_true, probabilities, classes, bins)
    total = sum(b.count for b in found)
    return math.fsum(b.count * abs(b.accuracy - b.confidence) for b in found) / total


def reliability(
    y_true: Any, probabilities: Any, classes: Any, bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """The bins of `expected_calibration_error` that hold a prediction: a reliability diagram.

    Shapes: y_true [M] labels; probabilities [M, C]; classes [C], in the order of the columns.

    Raises: InputError
    """
    whole_number("bins", bins, 1)
    columns, p = _checked(y_true, probabilities, classes)
    confidence = p.max(axis=1)
    right = p.argmax(axis=1) == columns
    index = _bin_of(confidence, bins)
    counts = np.bincount(index, minlength=bins)
    confidences = np.bincount(index, weights=confidence, minlength=bins)
    rights = np.bincount(index, weights=right, minlength=bins)
    return tuple(
        ReliabilityBin(
            lower=b / bins,
            upper=(b + 1) / bins,
            count=int(counts[b]),
            confidence=float(confidences[b] / counts[b]),
            accuracy=float(rights[b] / counts[b]),
        )
        for b in np.flatnonzero(counts).tolist()
    )


def calibration_error_by_chance(probabilities: Any, bins: int = 15) -> float:
    """The calibration error to be expected of M predictions that are calibrated perfectly.

    An estimate from M labels is never 0: the number of right ones in a bin is random.

    Math: (1 / M) sum over b of sqrt(2 V_b / pi),  V_b = sum over the bin of p (1 - p): the mean of
        |accuracy - confidence| M_b for a sum of independent draws, taken as normal.

    Shapes: probabilities [M, C].

    Raises: InputError
    """
    whole_number("bins", bins, 1)
    confidence = _distributions(probabilities).max(axis=1)
    index = _bin_of(confidence, bins)
    variance = np.bincount(index, weights=confidence * (1.0 - confidence), minlength=bins)
    return float(np.sqrt(2.0 / math.pi * variance).sum() / len(confidence))


def out_of_distribution_auroc(inside: Any, outside: Any) -> float:
    """How well a score tells inputs from elsewhere: P(score outside > score inside), 0 to 1.

    0.5 is chance; equal scores count half. With posterior variances as the scores it is the area
    under the ROC curve of "the variance is high".

    Shapes: inside [M], of inputs like those of the fit; outside [M'].

    Raises: InputError if one is empty, or holds values that are not finite.
    """
    scores = [np.asarray(values, dtype=np.float64) for values in (inside, outside)]
    if any(s.ndim != 1 or not s.size or not np.isfinite(s).all() for s in scores):
        shapes = " and ".join(str(s.shape) for s in scores)
        raise InputError(f"scores have shapes {shapes}; expected [M] and [M'], finite, not empty")
    labels = np.repeat([0, 1], [len(s) for s in scores])
    return float(roc_auc_score(labels, np.concatenate(scores)))


def _bin_of(confidence: Array, bins: int) -> npt.NDArray[np.intp]:
    places: npt.NDArray[np.intp] = np.ceil(confidence * bins).astype(np.intp) - 1
    return np.clip(places, 0, bins - 1)


def _checked(y_true: Any, probabilities: Any, classes: Any) -> tuple[npt.NDArray[np.intp], Array]:
    """The column of each label, [M], and the probabilities, [M, C]."""
    true, names = np.asarray(y_true), np.asarray(classes)
    p = _distributions(probabilities)
    if true.ndim != 1 or p.shape != (true.size, names.size) or names.ndim != 1:
        raise InputError(
            f"y_true has shape {true.shape}, probabilities {p.shape} and classes {names.shape}; "
            "expected [M], [M, C] and [C]"
        )
    column = {name: i for i, name in enumerate(names.tolist())}
    try:
        indices = [column[label] for label in true.tolist()]
    except KeyError as error:
        raise InputError(f"label {error} is not one of the classes {names.tolist()}") from error
    return np.array(indices, dtype=np.intp), p


def _distributions(probabilities: Any) -> Array:
    """Probabilities [M, C], each row a distribution."""
    try:
        p = np.asarray(probabilities, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the probabilities are no array of numbers: {error}") from error
    if p.ndim != 2 or not p.size:
        raise InputError(f"probabilities have shape {p.shape}; expected [M, C], not empty")
    # Written so that NaN fails both.
    if not ((p >= 0.0) & (p <= 1.0)).all() or not (np.abs(p.sum(axis=1) - 1.0) <= 1e-6).all():
        raise InputError("the probabilities are not between 0 and 1 with rows that sum to 1")
    return p
