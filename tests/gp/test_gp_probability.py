"""The probability of being the largest: closed form, Monte Carlo with error bars, and limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from keras2gp.gp import largest_probabilities, probabilities


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
