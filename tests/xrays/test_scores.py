"""Leave-one-out scores against refits, and evidences against scipy."""

import json

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax
from sklearn.gaussian_process.kernels import RBF

from keras2gp.gp import GPClassifier, GPRegressor
from keras2gp.xrays.measuring.scores import SPREAD, score_kernel
from keras2gp.xrays.reporting.findings import sample_of
from keras2gp.xrays.rows import ScoredTargets, draw_halves


@pytest.fixture
def data(rng):
    x = rng.normal(size=(24, 2))
    y = np.array(["a", "b", "c"])[(x[:, 0] > 0) * 1 + (x[:, 1] > 0.5) * 1]
    return x, y


def test_labels_against_refits(data):
    x, y = data
    matrix = RBF(1.0)(x)
    scores = score_kernel(matrix, ScoredTargets(y, None, regression=False))
    gp = GPClassifier("precomputed", probabilities="temperature", intercept=0).fit(matrix, y)
    for i in range(len(y)):
        rest = np.delete(np.arange(len(y)), i)
        weights = np.linalg.solve(
            matrix[np.ix_(rest, rest)] + gp.noise_variance_ * np.eye(len(rest)), gp.targets_[rest]
        )
        mean = matrix[i, rest] @ weights
        assert scores.error[i] == (gp.classes_[mean.argmax()] != y[i])
        column = gp.classes_.tolist().index(y[i])
        expected = -log_softmax(mean / gp.temperature_)[column]
        assert scores.nats[i] == pytest.approx(expected, rel=1e-7)


def test_evidence_of_labels_is_that_of_the_best_scale(data):
    x, y = data
    matrix = RBF(1.0)(x)
    scores = score_kernel(matrix, ScoredTargets(y, None, regression=False))
    gp = GPClassifier("precomputed", probabilities="temperature", intercept=0).fit(matrix, y)
    covariance = matrix + gp.noise_variance_ * np.eye(len(y))

    def evidence(scale):
        law = stats.multivariate_normal(np.zeros(len(y)), scale * covariance)
        return sum(law.logpdf(column) for column in gp.targets_.T)

    assert scores.evidence * len(y) == pytest.approx(evidence(gp.scale_), rel=1e-8)
    assert scores.evidence * len(y) >= max(evidence(gp.scale_ * f) for f in (0.9, 1.1))


def test_real_targets_against_refits(rng):
    x = rng.normal(size=(20, 2))
    y = np.stack([x[:, 0] ** 2, 3.0 + x[:, 1]], axis=1) + 0.1 * rng.normal(size=(20, 2))
    matrix = RBF(1.0)(x)
    scores = score_kernel(matrix, ScoredTargets(y, None, regression=True))
    gp = GPRegressor("precomputed").fit(matrix, y)
    mean, variance = gp.leave_one_out()
    expected = ((y - mean) ** 2 / y.var(axis=0)).mean(axis=1)
    np.testing.assert_allclose(scores.error, expected, rtol=1e-10)
    density = stats.t.logpdf(y, 18, mean, np.sqrt(variance * 16 / 18)).sum(axis=1)
    np.testing.assert_allclose(scores.nats, -density, rtol=1e-8)
    covariance = matrix + gp.noise_variance_ * np.eye(20)
    total = sum(
        stats.multivariate_normal(np.full(20, shift), scale**2 * factor * covariance).logpdf(column)
        for column, shift, scale, factor in zip(
            y.T, gp.y_shift_, gp.y_scale_, gp.scale_, strict=True
        )
    )
    assert scores.evidence * 20 == pytest.approx(total, rel=1e-8)


def test_subsets_and_test_rows(data, rng):
    x, y = data
    new = rng.normal(size=(5, 2))
    labels = np.array(["a", "a", "b", "c", "b"])
    subsets = draw_halves(ScoredTargets(y, None, regression=False), 4, seed=1)
    for one, other in zip(subsets[::2], subsets[1::2], strict=True):
        assert sorted([*one, *other]) == list(range(24))
        for label in "abc":
            assert abs(int((y[one] == label).sum()) - int((y[other] == label).sum())) <= 1
    matrix, cross = RBF(1.0)(x), RBF(1.0)(new, x)
    scores = score_kernel(matrix, ScoredTargets(y, labels, regression=False), subsets, cross)
    gp = GPClassifier("precomputed", probabilities="temperature", intercept=0).fit(matrix, y)
    assert list(scores.test_error) == list((gp.predict(cross) != labels) * 1.0)
    rows = subsets[2]
    alone = score_kernel(
        matrix[np.ix_(rows, rows)],
        ScoredTargets(y[rows], labels, regression=False),
        (),
        cross[:, rows],
    )
    part = scores.parts[2]
    assert part.error == np.mean(alone.error)
    assert part.nats == np.mean(alone.nats)
    assert part.evidence == alone.evidence
    assert part.test_error == np.mean(alone.test_error)
    assert part.rows == alone.nats
    assert [bool(p.rows) for p in scores.parts] == [True] * SPREAD + [False] * 4
    assert type(scores).from_state(json.loads(json.dumps(scores.state()))) == scores


def test_a_sample_knows_how_much_losses_vary_within_halves(data, rng):
    x, y = data
    targets = ScoredTargets(y, None, regression=False)
    one, other = (
        score_kernel(RBF(width)(x), targets, draw_halves(targets, 4, seed=1))
        for width in (1.0, 2.0)
    )
    found = [
        np.var(np.subtract(a.rows, b.rows), ddof=1)
        for a, b in zip(one.parts[:SPREAD], other.parts, strict=False)
    ]
    assert sample_of(one, other, "nats").within == pytest.approx(np.mean(found))
    assert sample_of(one, other, "error").within == 0.0
