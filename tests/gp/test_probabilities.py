"""Probabilities: temperature against a search; the largest value against Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import norm

from keras2gp.errors import InputError
from keras2gp.gp import (
    GPClassifier,
    calibration_error_by_chance,
    expected_calibration_error,
    expected_softmax,
    fit_temperature,
    largest_probabilities,
    negative_log_likelihood,
    tempered_softmax,
)
from keras2gp.gp.probabilities import softmax as probabilities

KERNEL = ImageKernel(2.0)


def drawn(count, temperature, classes=4, seed=0):
    """Means, and labels drawn from their softmax at a temperature."""
    random = np.random.default_rng(seed)
    mean = random.standard_normal((count, classes))
    gumbel = random.gumbel(size=mean.shape)
    return mean, (mean / temperature + gumbel).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_the_temperature_of_the_labels_is_found(temperature):
    mean, columns = drawn(20_000, temperature)
    found = fit_temperature(mean, columns)
    # The information on b = 1 / T is the variance of the means under the softmax, N times.
    p = tempered_softmax(mean, temperature)
    information = ((p * mean**2).sum(axis=1) - (p * mean).sum(axis=1) ** 2).sum()
    assert abs(1.0 / found - 1.0 / temperature) < 4.0 / np.sqrt(information)


def test_it_is_the_minimum_of_what_is_documented():
    mean, columns = drawn(300, 0.5)
    once = 1.0 / 301

    def loss(log_inverse):
        logs = log_softmax(np.exp(log_inverse) * mean, axis=1)
        label = logs[np.arange(300), columns]
        return -((1.0 - once) * label + once * logs.mean(axis=1)).mean()

    best = minimize_scalar(loss, bounds=(-3.0, 4.0), method="bounded", options={"xatol": 1e-9})
    assert np.exp(-best.x) == pytest.approx(fit_temperature(mean, columns), rel=1e-5)


@pytest.mark.parametrize("factor", [1e-9, 3.0, 1e9])
def test_units_of_the_means(factor):
    mean, columns = drawn(200, 0.5)
    shifted = factor * (mean + 5.0 * np.arange(200)[:, None])
    expected = factor * fit_temperature(mean, columns)
    assert fit_temperature(shifted, columns) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [10, 1000, 100_000])
def test_no_wrong_prediction_is_no_certainty(count):
    # Means of 1 and -1: the best probability of the label is that of the counts, e / C less.
    columns = np.arange(count) % 5
    mean = np.where(np.eye(5)[columns] > 0, 1.0, -1.0)
    p = tempered_softmax(mean, fit_temperature(mean, columns))
    expected = 1.0 - (4 / 5) / (count + 1)
    np.testing.assert_allclose(p[np.arange(count), columns], expected, rtol=1e-6)


def test_worse_than_chance_is_nearly_uniform():
    columns = np.arange(100) % 4
    mean = -np.eye(4)[columns]
    p = tempered_softmax(mean, fit_temperature(mean, columns))
    np.testing.assert_allclose(p, 0.25, atol=1e-3)
    assert (p.min(axis=1) < p.max(axis=1)).all()


def test_classes_of_one_member_are_left_out():
    mean, columns = drawn(200, 0.5)
    alone = np.concatenate([columns, [4, 5]])
    wider = np.full((202, 6), -50.0)
    wider[:200, :4] = mean
    wider[200:, 0] = 0.0
    expected = fit_temperature(np.pad(mean, ((0, 0), (0, 2)), constant_values=-50.0), columns)
    assert fit_temperature(wider, alone) == expected
    assert fit_temperature(np.eye(3), np.arange(3)) == 1.0
    assert fit_temperature(np.ones((6, 2)), np.array([0, 1] * 3)) == 1.0


def test_rows_that_nothing_tells_apart():
    ours = GPClassifier(KERNEL, probabilities="temperature").fit(images(3), ["a", "b", "c"])
    assert ours.temperature_ == 1.0
    p = ours.predict_proba(images(3))
    np.testing.assert_array_equal(p.argmax(axis=1), [0, 1, 2])
    few = GPClassifier(KERNEL).fit(images(4), ["a", "b", "a", "c"])
    assert np.isfinite(few.predict_proba(images(5, seed=1))).all()


def overlapping(count, seed):
    """Images of three classes which no classifier tells apart without error."""
    index = np.random.default_rng(seed).integers(3, size=count)
    x = 1.5 * images(count, seed=seed + 1) + 0.6 * index[:, None, None, None].astype(np.float32)
    return x, np.array(["p", "q", "r"])[index]


def test_probabilities_of_new_images_are_calibrated():
    ours = GPClassifier(ImageKernel(3.0), noise_variance=0.3).fit(*overlapping(400, 0))
    largest = GPClassifier(ImageKernel(3.0), 0.3, probabilities="largest").fit(*overlapping(400, 0))
    assert largest.temperature_ is None
    x, y = overlapping(3000, 50)
    p, q = ours.predict_proba(x), largest.predict_proba(x)
    error = expected_calibration_error(y, p, ours.classes_)
    # Chance, and what 400 leave-one-out predictions leave open: an error of 1 / sqrt(400) of the
    # confidence's slope at the most.
    assert error < calibration_error_by_chance(p) + 0.05
    before = expected_calibration_error(y, q, ours.classes_)
    assert error < before
    losses = [negative_log_likelihood(y, values, ours.classes_) for values in (p, q)]
    assert losses[0] < losses[1]


def test_the_temperature_follows_the_fit():
    x, y = overlapping(200, 0)
    first = GPClassifier(KERNEL, 0.3, probabilities="temperature").fit(x, y)
    mean, _ = first.leave_one_out()
    assert first.temperature_ == fit_temperature(mean, np.searchsorted(first.classes_, y))
    again = first.set_params(probabilities="largest").fit(x, y)
    assert again.temperature_ is None


def test_two_classes_in_closed_form():
    mean = np.array([[0.3, -0.2], [1.0, 1.0], [-5.0, 5.0], [0.0, 30.0]])
    deviation = np.array([0.4, 2.0, 1.5, 1.0])
    expected = norm.cdf((mean[:, 0] - mean[:, 1]) / (np.sqrt(2.0) * deviation))
    p = largest_probabilities(mean, deviation)
    np.testing.assert_allclose(p[:, 0], expected, rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(p[:, 1], norm.sf(norm.ppf(expected)), atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 10, 40])
def test_monte_carlo(classes):
    random = np.random.default_rng(classes)
    mean, deviation = random.standard_normal((4, classes)), np.array([0.1, 0.5, 1.0, 3.0])
    p = largest_probabilities(mean, deviation)
    count = 40_000
    for row in range(4):
        draws = mean[row] + deviation[row] * random.standard_normal((count, classes))
        found = np.bincount(draws.argmax(axis=1), minlength=classes) / count
        # Four standard errors of a proportion, and what one draw more or less makes.
        error = np.sqrt(p[row] * (1.0 - p[row]) / count)
        assert (np.abs(found - p[row]) < 4.0 * error + 2.0 / count).all()


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_finer_quadrature_agrees(monkeypatch, classes):
    mean = np.random.default_rng(0).standard_normal((20, classes))
    deviation = np.geomspace(0.01, 100.0, 20)
    p = largest_probabilities(mean, deviation)
    nodes, weights = np.polynomial.legendre.leggauss(600)
    monkeypatch.setattr(probabilities, "_GRID", 12.0 * nodes)
    monkeypatch.setattr(probabilities, "_WEIGHTS", weights)
    np.testing.assert_allclose(p, largest_probabilities(mean, deviation), atol=1e-12)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-14)
    np.testing.assert_array_equal(p.argmax(axis=1), mean.argmax(axis=1))


def test_no_variance_is_certainty():
    mean = np.array([[0.1, 0.2, 0.15], [1.0, 1.0, 0.0], [3.0, -1e300, 2.0]])
    expected = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(largest_probabilities(mean, np.zeros(3)), expected)


def test_tiny_variance_is_its_limit():
    mean = np.array([[0.0, 1e300], [1.0, 1.0], [0.0, 1e-3]])
    p = largest_probabilities(mean, np.array([1e-300, 1e-300, 1e-6]))
    np.testing.assert_allclose(p, [[0.0, 1.0], [0.5, 0.5], [0.0, 1.0]], atol=1e-15)


def test_batches_do_not_change_it(monkeypatch):
    mean = np.random.default_rng(1).standard_normal((50, 4))
    whole = largest_probabilities(mean, np.linspace(0.0, 2.0, 50))
    monkeypatch.setattr(probabilities, "_BATCH_BYTES", 3 * 8 * 4 * 128)
    batched = largest_probabilities(mean, np.linspace(0.0, 2.0, 50))
    np.testing.assert_allclose(batched, whole, rtol=1e-13)


@pytest.mark.parametrize(
    "call",
    [
        *(
            lambda t=t: tempered_softmax(np.zeros((1, 2)), t)
            for t in (0.0, -1.0, np.nan, True, "1")
        ),
        lambda: tempered_softmax(np.array([[np.nan, 0.0]]), 1.0),
        lambda: largest_probabilities(np.zeros((1, 2)), np.array([-1.0])),
        lambda: largest_probabilities(np.zeros((1, 2)), np.array([np.nan])),
        lambda: largest_probabilities(np.zeros(2), np.ones(1)),
        lambda: expected_softmax(np.zeros((1, 2)), np.array([[-1.0, 1.0]])),
        lambda: expected_softmax(np.array([[np.inf, 0.0]]), np.ones((1, 2))),
        lambda: expected_softmax(np.zeros((1, 2)), np.full((1, 2), 1e30)),
    ],
)
def test_what_has_no_probability(call):
    with pytest.raises(InputError, match=r"expected|holds values|needs .* of memory"):
        call()
