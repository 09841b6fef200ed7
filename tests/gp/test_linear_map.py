"""The linear map of means to logits: against a search of its own, its limits, and rare classes."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from keras2gp.errors import InputError
from keras2gp.gp import (
    GPClassifier,
    LinearMap,
    fit_linear_map,
    fit_temperature,
    load_head,
    negative_log_likelihood,
    save_head,
)
from keras2gp.gp.probabilities import linear_map

KERNEL = ImageKernel(3.0)
CLASSES = np.arange(4)


def drawn(count, matrix, offset, seed=0):
    """Means, and labels drawn from the softmax of a linear function of them."""
    random = np.random.default_rng(seed)
    mean = 0.7 * random.standard_normal((count, len(offset))) - 0.5
    logits = mean @ np.asarray(matrix).T + offset
    return mean, (logits + random.gumbel(size=mean.shape)).argmax(axis=1)


MATRIX = np.array([[4.0, 0.0, 1.0, 0.0], [0.0, 2.0, 0.0, 0.0], [1.5, 0.0, 3.0, 0.0], [0, 0, 0, 5]])
OFFSET = np.array([1.0, 0.0, -1.0, 0.0])


def test_it_is_the_minimum_of_what_is_documented():
    mean, columns = drawn(400, MATRIX, OFFSET)
    ours = fit_linear_map(mean, columns)
    features = np.column_stack([(mean - mean.mean(axis=0)) / mean.std(), np.ones(400)])
    once = 1.0 / 401

    def logits(x):
        return x[0] * mean + features @ x[1:].reshape(4, 5).T

    def loss(x):
        logs = log_softmax(logits(x), axis=1)
        label = (1.0 - once) * logs[np.arange(400), columns] + once * logs.mean(axis=1)
        return -label.sum() + 0.5 * ours.ridge * (x[1:] ** 2).sum()

    best = minimize(loss, np.zeros(21), method="BFGS", options={"gtol": 1e-3})
    np.testing.assert_allclose(ours.probabilities(mean), softmax(logits(best.x), 1), atol=2e-4)


def test_a_map_is_found_and_helps():
    mean, columns = drawn(2000, MATRIX, OFFSET)
    new, truth = drawn(4000, MATRIX, OFFSET, seed=1)
    ours = fit_linear_map(mean, columns)
    assert np.isfinite(ours.ridge)
    exact = negative_log_likelihood(truth, softmax(new @ MATRIX.T + OFFSET, axis=1), CLASSES)
    single = softmax(new / fit_temperature(mean, columns), axis=1)
    losses = [negative_log_likelihood(truth, p, CLASSES) for p in (ours.probabilities(new), single)]
    assert losses[0] < exact + 0.01 < losses[1] - 0.05
    # What cross-validation promised.
    assert losses[1] - losses[0] == pytest.approx(ours.gain, abs=0.03)


def test_one_number_where_that_is_the_truth():
    mean, columns = drawn(60, 2.0 * np.eye(4), np.zeros(4))
    ours = fit_linear_map(mean, columns)
    temperature = fit_temperature(mean, columns)
    assert ours.temperature == temperature
    assert ours.ridge == np.inf
    np.testing.assert_allclose(ours.matrix, np.eye(4) / temperature)
    np.testing.assert_array_equal(ours.offset, 0.0)


@pytest.mark.parametrize(
    ("mean", "columns", "reason"),
    [
        (np.random.default_rng(0).standard_normal((40, 8)), np.arange(40) % 8, "40 rows for"),
        (np.eye(3), np.arange(3), "fewer than two classes"),
        (np.ones((12, 2)), np.arange(12) % 2, "all means are the same"),
    ],
)
def test_too_little_is_one_number(mean, columns, reason):
    ours = fit_linear_map(mean, columns)
    assert ours.reason.startswith(reason)
    expected = softmax(mean / fit_temperature(mean, columns), axis=1)
    np.testing.assert_allclose(ours.probabilities(mean), expected)


def test_units_of_the_means():
    mean, columns = drawn(300, MATRIX, OFFSET)
    expected = fit_linear_map(mean, columns)
    for factor in (1e-6, 1e6):
        ours = fit_linear_map(factor * mean, columns)
        assert ours.ridge == expected.ridge
        np.testing.assert_allclose(
            ours.probabilities(factor * mean), expected.probabilities(mean), atol=1e-5
        )


def test_a_rare_class_is_not_disfavoured():
    mean, columns = drawn(600, MATRIX[:3, :3], OFFSET[:3])
    # A fourth class with two members, whose means are drawn as those of the others.
    wide = np.column_stack([mean, 0.7 * np.random.default_rng(5).standard_normal(600) - 0.5])
    columns[:2] = 3
    ours = fit_linear_map(wide, columns)
    assert np.isfinite(ours.ridge)
    scale = ours.matrix[3, 3]
    np.testing.assert_allclose(ours.matrix[3], [0.0, 0.0, 0.0, scale], atol=1e-9)
    assert ours.offset[3] == pytest.approx(0.0, abs=1e-9)
    correction = ours.matrix[:3] - np.eye(3, 4) * scale
    np.testing.assert_allclose(correction.sum(axis=0), 0.0, atol=1e-6 * scale)


def test_folds_hold_every_class_alike(monkeypatch):
    seen = []
    problem = linear_map._Problem

    def spied(mean, columns, known, *fitted):
        seen.append(np.bincount(columns, minlength=4))
        return problem(mean, columns, known, *fitted)

    monkeypatch.setattr(linear_map, "_Problem", spied)
    mean, columns = drawn(203, MATRIX, OFFSET)
    fit_linear_map(mean, columns)
    counts = np.array(seen[:5])
    assert (np.ptp(counts, axis=0) <= 2).all()


def labelled(count, seed):
    index = np.random.default_rng(seed).integers(3, size=count)
    x = 1.5 * images(count, seed=seed + 1) + 0.6 * index[:, None, None, None].astype(np.float32)
    return x, np.array(["p", "q", "r"])[index]


def test_labels_stay_with_the_means_unless_asked(tmp_path):
    x, y = labelled(200, 0)
    by_mean = GPClassifier(KERNEL, 0.3).fit(x, y)
    by_probability = GPClassifier(KERNEL, 0.3, labels="probabilities").fit(x, y)
    test = labelled(400, 9)[0]
    p, mean = by_mean.predict_proba(test), by_mean.posterior(test)[0]
    np.testing.assert_array_equal(by_mean.predict(test), by_mean.classes_[mean.argmax(axis=1)])
    np.testing.assert_array_equal(by_mean.decision_function(test), mean)
    np.testing.assert_array_equal(by_probability.predict_proba(test), p)
    np.testing.assert_array_equal(by_probability.predict(test), by_mean.classes_[p.argmax(axis=1)])
    scores = by_probability.decision_function(test)
    np.testing.assert_allclose(softmax(scores, axis=1), p, rtol=1e-12)
    save_head(by_probability, tmp_path)
    again = load_head(tmp_path, KERNEL)
    np.testing.assert_array_equal(again.predict(test), by_probability.predict(test))
    np.testing.assert_array_equal(again.predict_proba(test), p)
    assert again.linear_map_.state()[0] == by_mean.linear_map_.state()[0]


@pytest.mark.parametrize(
    ("labels", "how", "match"),
    [
        ("softmax", "linear", 'expected "means" or "probabilities"'),
        (None, "linear", 'expected "means" or "probabilities"'),
        ("probabilities", "temperature", 'is for probabilities="linear"'),
        ("probabilities", "dirichlet", "takes variances"),
    ],
)
def test_settings_of_labels(labels, how, match):
    with pytest.raises(InputError, match=match):
        GPClassifier(KERNEL, 0.3, probabilities=how, labels=labels).fit(*labelled(20, 0))


def test_what_is_no_map():
    with pytest.raises(InputError, match="columns"):
        fit_linear_map(np.eye(3), [0, 1, 5])
    with pytest.raises(InputError, match="not finite"):
        fit_linear_map(np.full((3, 2), np.nan), [0, 1, 0])
    one = LinearMap(np.eye(2), np.zeros(2), 1.0, np.inf, 0.0, "")
    with pytest.raises(InputError, match="not finite"):
        one.probabilities(np.array([[np.inf, 0.0]]))
