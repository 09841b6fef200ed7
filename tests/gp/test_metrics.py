"""Metrics against scikit-learn and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from keras2gp.errors import InputError
from keras2gp.gp import (
    brier_score,
    calibration_error_by_chance,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)

CLASSES = np.array(["ant", "bee", "cow"])


def predictions(count=200, seed=0):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(3), size=count)
    return CLASSES[random.integers(3, size=count)], p


def test_error_rate():
    assert error_rate(["a", "b", "c", "c"], ["a", "b", "a", "c"]) == 0.25
    assert error_rate([1, 2], [1, 2]) == 0.0
    for y_true, y_pred in (([], []), ([1], [1, 2]), ([[1]], [[1]]), (["a"], [0.5])):
        with pytest.raises(InputError, match="y_true"):
            error_rate(y_true, y_pred)


def test_negative_log_likelihood():
    y, p = predictions()
    index = np.searchsorted(CLASSES, y)
    expected = -np.log(p[np.arange(200), index]).mean()
    assert negative_log_likelihood(y, p, CLASSES) == pytest.approx(expected, rel=1e-12)
    assert negative_log_likelihood(y, p, CLASSES) == pytest.approx(log_loss(y, p, labels=CLASSES))
    certain = negative_log_likelihood(["bee"], [[1.0, 0.0, 0.0]], CLASSES)
    assert 30.0 < certain < 40.0


def test_order_of_the_classes_is_the_callers():
    y, p = predictions()
    for metric in (negative_log_likelihood, brier_score, expected_calibration_error):
        swapped = metric(y, p[:, ::-1], CLASSES[::-1])
        assert swapped == pytest.approx(metric(y, p, CLASSES), rel=1e-12)


def test_brier_score():
    y, p = predictions()
    assert brier_score(["ant"], [[1.0, 0.0, 0.0]], CLASSES) == 0.0
    assert brier_score(["bee"], [[1.0, 0.0, 0.0]], CLASSES) == 2.0
    truth = y == "bee"
    two = np.stack([1.0 - p[:, 1], p[:, 1]], axis=1)
    expected = 2.0 * brier_score_loss(truth, p[:, 1])
    assert brier_score(truth, two, [False, True]) == pytest.approx(expected, rel=1e-12)
    loops = sum((p[m, c] - (y[m] == CLASSES[c])) ** 2 for m in range(200) for c in range(3))
    assert brier_score(y, p, CLASSES) == pytest.approx(loops / 200, rel=1e-12)


def by_hand(y, p, bins):
    total = 0.0
    for b in range(bins):
        inside = [m for m in range(len(p)) if b / bins < p[m].max() <= (b + 1) / bins]
        if inside:
            accuracy = np.mean([CLASSES[p[m].argmax()] == y[m] for m in inside])
            total += len(inside) / len(p) * abs(accuracy - np.mean([p[m].max() for m in inside]))
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_expected_calibration_error(bins):
    y, p = predictions()
    found = expected_calibration_error(y, p, CLASSES, bins=bins)
    assert found == pytest.approx(by_hand(y, p, bins), rel=1e-12)
    assert bins != 15 or found == expected_calibration_error(y, p, CLASSES)


def test_calibrated_predictions_have_a_small_calibration_error():
    random = np.random.default_rng(1)
    p = random.dirichlet(np.ones(3), size=20_000)
    draws = (random.random((20_000, 1)) > p.cumsum(axis=1)).sum(axis=1)
    y = CLASSES[np.minimum(draws, 2)]
    # 15 bins of about 1300: each accuracy has a standard error of 0.014 or less.
    assert expected_calibration_error(y, p, CLASSES) < 0.014
    assert expected_calibration_error(["ant"] * 4, [[1.0, 0.0, 0.0]] * 4, CLASSES) == 0.0
    assert expected_calibration_error(["bee"] * 4, [[1.0, 0.0, 0.0]] * 4, CLASSES) == 1.0


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        (["ant"], [[0.5, 0.5]], "shape"),
        ([], np.zeros((0, 3)), "shape"),
        (["ant"], [[0.5, 0.6, 0.2]], "sum to 1"),
        (["ant"], [[1.5, -0.5, 0.0]], "between 0 and 1"),
        (["ant"], [[np.nan, 0.5, 0.5]], "between 0 and 1"),
        (["dog"], [[1.0, 0.0, 0.0]], "'dog' is not one of the classes"),
        (["ant"], [["x", "y", "z"]], "numbers"),
        (np.ma.masked_array(["ant"], [True]), [[1.0, 0.0, 0.0]], "y_true: 1 of its values"),
        (["ant"], np.ma.masked_array([[1.0, 0.0, 0.0]], True), "probabilities: 3 of its values"),
    ],
)
def test_bad_predictions(y, p, message):
    for metric in (negative_log_likelihood, brier_score, expected_calibration_error):
        with pytest.raises(InputError, match=message):
            metric(y, p, CLASSES)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_reliability(bins):
    y, p = predictions()
    found = reliability(y, p, CLASSES, bins=bins)
    assert sum(b.count for b in found) == 200
    assert bins == 1 or len(found) < bins  # three classes: no confidence is below a third
    for b in found:
        inside = (p.max(axis=1) > b.lower) & (p.max(axis=1) <= b.upper)
        right = CLASSES[p.argmax(axis=1)] == y
        assert b.count == inside.sum()
        assert b.confidence == pytest.approx(p.max(axis=1)[inside].mean())
        assert b.accuracy == pytest.approx(right[inside].mean())


@pytest.mark.parametrize("count", [500, 5000])
def test_calibration_error_by_chance(count):
    random = np.random.default_rng(2)
    p = random.dirichlet(np.full(3, 0.3), size=count)
    draws = [
        np.minimum((random.random((count, 1)) > p.cumsum(axis=1)).sum(axis=1), 2)
        for _ in range(100)
    ]
    errors = [expected_calibration_error(CLASSES[d], p, CLASSES) for d in draws]
    found = calibration_error_by_chance(p)
    # Four standard errors of the mean, and 3% for the normal approximation in sparse bins.
    assert abs(found - np.mean(errors)) < 4.0 * np.std(errors) / 10.0 + 0.03 * found
    assert calibration_error_by_chance([[1.0, 0.0]]) == 0.0
    with pytest.raises(InputError, match="not empty"):
        calibration_error_by_chance(np.zeros((0, 3)))
    with pytest.raises(InputError, match="bins"):
        calibration_error_by_chance(p, bins=0)


def test_bins_are_checked():
    y, p = predictions(3)
    for bins in (0, 1.5, True):
        with pytest.raises(InputError, match="bins"):
            expected_calibration_error(y, p, CLASSES, bins=bins)
