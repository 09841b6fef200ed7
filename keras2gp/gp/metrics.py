"""Measures of class predictions: errors, likelihood, Brier score and calibration.

scikit-learn computes the error rate and the likelihood. It has the Brier score of several classes
only from version 1.7, and its calibration curve is of two classes alone. The measure of scores
that detect foreign inputs is in process/out_of_distribution.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import log_loss, zero_one_loss

from keras2gp._util.arrays import Indices, LabelsLike, Matrix, ProbabilitiesLike, Vector
from keras2gp._util.checks import require_plain, whole_number
from keras2gp.errors import InputError

__all__ = [
    "ReliabilityBin",
    "brier_score",
    "calibration_error_by_chance",
    "error_rate",
    "expected_calibration_error",
    "negative_log_likelihood",
    "reliability",
]


_MOST_BINS = 2**20


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions whose confidence is in (lower, upper].

    Attributes:
        lower: lower end of the bin.
        upper: upper end of the bin.
        count: number of predictions.
        confidence: their mean confidence.
        accuracy: the fraction of them that is right.
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def error_rate(y_true: LabelsLike, y_pred: LabelsLike) -> float:
    """Fraction of labels that are wrong, 0 to 1.

    Args:
        y_true: true labels.
        y_pred: predicted labels.

    Shapes:
        y_true [M], y_pred [M].

    Returns:
        The fraction.

    Raises:
        InputError: the lengths differ, or there is no label.

    >>> from keras2gp.gp import error_rate
    >>> error_rate(["cat", "dog", "cat", "dog"], ["cat", "cat", "cat", "dog"])
    0.25
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


def negative_log_likelihood(
    y_true: LabelsLike, probabilities: ProbabilitiesLike, classes: LabelsLike
) -> float:
    """Mean of -log p(true class), in nats; smaller probabilities count as 2.2e-16.

    Args:
        y_true: true labels.
        probabilities: a distribution in each row.
        classes: labels in the order of the columns.

    Shapes:
        y_true [M], probabilities [M, C], classes [C].

    Returns:
        The mean, in nats.

    Raises:
        InputError: shapes do not fit, rows are no distributions, or a label is no class.

    >>> from keras2gp.gp import negative_log_likelihood
    >>> round(negative_log_likelihood([0, 1], [[0.5, 0.5], [0.5, 0.5]], [0, 1]), 6)
    0.693147
    """
    columns, p = _checked(y_true, probabilities, classes)
    return float(log_loss(columns, p, labels=np.arange(p.shape[1])))


def brier_score(y_true: LabelsLike, probabilities: ProbabilitiesLike, classes: LabelsLike) -> float:
    """Mean over inputs of sum_c (p_c - [c is the true class])^2, 0 to 2.

    For two classes this is twice the score of the second class alone.

    Args:
        y_true: true labels.
        probabilities: a distribution in each row.
        classes: labels in the order of the columns.

    Shapes:
        y_true [M], probabilities [M, C], classes [C].

    Returns:
        The score; 0 is best.

    Raises:
        InputError: shapes do not fit, rows are no distributions, or a label is no class.

    References:
        Brier (1950), Verification of forecasts expressed in terms of probability.

    >>> from keras2gp.gp import brier_score
    >>> brier_score([0, 1], [[1.0, 0.0], [0.5, 0.5]], [0, 1])
    0.25
    """
    columns, p = _checked(y_true, probabilities, classes)
    truth = np.eye(p.shape[1])[columns]
    return float(((p - truth) ** 2).sum(axis=1).mean())


def expected_calibration_error(
    y_true: LabelsLike, probabilities: ProbabilitiesLike, classes: LabelsLike, bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy, over bins of equal width in confidence, 0 to 1.

    Math: sum over b of (M_b / M) |accuracy_b - mean confidence_b|; the confidence is the largest
        probability, the prediction its class (the first of equal ones); bin b is
        ((b - 1) / bins, b / bins].

    Args:
        y_true: true labels.
        probabilities: a distribution in each row.
        classes: labels in the order of the columns.
        bins: number of bins.

    Shapes:
        y_true [M], probabilities [M, C], classes [C].

    Returns:
        The mean gap; 0 is best.

    Raises:
        InputError: shapes do not fit, rows are no distributions, or a label is no class.

    References:
        Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks.

    >>> from keras2gp.gp import expected_calibration_error
    >>> p = [[0.75, 0.25]] * 4
    >>> expected_calibration_error([0, 0, 0, 1], p, [0, 1])
    0.0
    >>> expected_calibration_error([0, 0, 0, 0], p, [0, 1])
    0.25
    """
    filled = reliability(y_true, probabilities, classes, bins)
    total = sum(b.count for b in filled)
    return math.fsum(b.count * abs(b.accuracy - b.confidence) for b in filled) / total


def reliability(
    y_true: LabelsLike, probabilities: ProbabilitiesLike, classes: LabelsLike, bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """The bins of `expected_calibration_error` that hold a prediction: a reliability diagram.

    Args:
        y_true: true labels.
        probabilities: a distribution in each row.
        classes: labels in the order of the columns.
        bins: number of bins.

    Shapes:
        y_true [M], probabilities [M, C], classes [C].

    Returns:
        The filled bins, in increasing confidence.

    Raises:
        InputError: shapes do not fit, rows are no distributions, or a label is no class.

    >>> from keras2gp.gp import reliability
    >>> reliability([0, 1], [[0.75, 0.25], [0.75, 0.25]], [0, 1], bins=2)
    (ReliabilityBin(lower=0.5, upper=1.0, count=2, confidence=0.75, accuracy=0.5),)
    """
    whole_number("bins", bins, 1, _MOST_BINS)
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


def calibration_error_by_chance(probabilities: ProbabilitiesLike, bins: int = 15) -> float:
    """The expected calibration error of M perfectly calibrated predictions.

    An estimate from M labels is never 0: the number of right labels in a bin is random.

    Math: (1 / M) sum over b of sqrt(2 V_b / pi),  V_b = sum over the bin of p (1 - p): the mean of
        |accuracy - confidence| M_b for a sum of independent draws, taken as normal.

    Args:
        probabilities: a distribution in each row, [M, C].
        bins: number of bins.

    Returns:
        The error that perfect calibration would show.

    Raises:
        InputError: rows are no distributions, or bins is no whole number.

    >>> from keras2gp.gp import calibration_error_by_chance
    >>> calibration_error_by_chance([[1.0, 0.0]] * 10)
    0.0
    >>> round(calibration_error_by_chance([[0.5, 0.5]] * 100), 3)
    0.04
    """
    whole_number("bins", bins, 1, _MOST_BINS)
    confidence = _distributions(probabilities).max(axis=1)
    index = _bin_of(confidence, bins)
    variance = np.bincount(index, weights=confidence * (1.0 - confidence), minlength=bins)
    return float(np.sqrt(2.0 / math.pi * variance).sum() / len(confidence))


def _bin_of(confidence: Vector, bins: int) -> Indices:
    index: Indices = np.clip(np.ceil(confidence * bins).astype(np.intp) - 1, 0, bins - 1)
    return index


def _checked(
    y_true: LabelsLike, probabilities: ProbabilitiesLike, classes: LabelsLike
) -> tuple[Indices, Matrix]:
    """The column of each label, [M], and the probabilities, [M, C]."""
    require_plain("y_true", y_true)
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


def _distributions(probabilities: ProbabilitiesLike) -> Matrix:
    """Probabilities [M, C], each row a distribution."""
    require_plain("probabilities", probabilities)
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
