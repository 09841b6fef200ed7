"""Dirichlet classification: against dense algebra, Monte Carlo, refits and calibration."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gp_kernels import ImageKernel, images, positive_definite
from scipy.special import softmax

from keras2gp._util import memory
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp import (
    GPClassifier,
    Transformation,
    calibration_error_by_chance,
    expected_calibration_error,
    expected_softmax,
    factorize,
    load_head,
    save_head,
)
from keras2gp.gp.classification import dirichlet

KERNEL = ImageKernel(2.0)


@pytest.mark.parametrize("classes", [2, 5])
def test_expected_softmax_against_monte_carlo(classes):
    random = np.random.default_rng(classes)
    mean = 3.0 * random.standard_normal((6, classes))
    variance = np.geomspace(0.01, 30.0, 6)[:, None] * random.random((6, classes))
    variance[0, 0] = 0.0
    p = expected_softmax(mean, variance)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    count = 40_000
    for row in range(6):
        draws = mean[row] + np.sqrt(variance[row]) * random.standard_normal((count, classes))
        values = softmax(draws, axis=1)
        error = values.std(axis=0) / np.sqrt(count)
        assert (np.abs(values.mean(axis=0) - p[row]) < 5.0 * error + 1e-8).all()
    np.testing.assert_allclose(expected_softmax(mean, variance, step=0.25), p, atol=1e-7)


def test_expected_softmax_without_variance_is_the_softmax():
    mean = np.array([[0.0, 1.0, -2.0], [1e3, 0.0, 0.0], [-1e3, -1e3, -1e3]])
    found = expected_softmax(mean, np.zeros((3, 3)))
    np.testing.assert_allclose(found, softmax(mean, axis=1), atol=1e-8)


def test_moments_are_those_of_the_logarithm():
    found = Transformation(0.01, 2.0)
    for member, a in ((True, 1.01), (False, 0.01)):
        mean, variance = found.moments(member=member)
        # A log-normal variable of these moments has the mean and variance of Gamma(a, 1).
        assert np.exp(mean + variance / 2.0) == pytest.approx(a)
        assert np.expm1(variance) * np.exp(2.0 * mean + variance) == pytest.approx(a)
    targets = found.targets(np.array([1, 0]), 2)
    gap = found.moments(member=True)[0] - found.moments(member=False)[0]
    np.testing.assert_allclose(targets, gap * np.array([[-0.5, 0.5], [0.5, -0.5]]))


@pytest.mark.parametrize("size", [4, 30, 70])
def test_one_factorisation_serves_all_classes(size):
    k = positive_definite(size + 9)
    matrix, cross, prior = k[:size, :size], k[size:, :size], np.diag(k)[size:]
    columns = np.minimum(np.random.default_rng(1).permutation(size), 3)
    t = Transformation(1e-3, 7.0)
    ours = dirichlet.fit_dirichlet(factorize(matrix, tile=16), columns, 4, t)
    other, own = t.noises()
    for c in range(4):
        a = matrix + np.diag(np.where(columns == c, own, other))
        solved = np.linalg.solve(a, np.column_stack([t.targets(columns, 4)[:, c], cross.T]))
        np.testing.assert_allclose(ours.alpha[:, c], solved[:, 0], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(ours.mean(cross)[:, c], cross @ solved[:, 0], rtol=1e-9)
        variance = t.scale * (prior - np.einsum("mn,nm->m", cross, solved[:, 1:]))
        np.testing.assert_allclose(ours.variance(cross, prior)[:, c], variance, rtol=1e-9)


def test_leave_one_out_is_that_of_refits():
    k = positive_definite(25)
    labels = np.arange(25) % 3
    t = Transformation(1e-2, 5.0)
    losses = []
    for i in range(25):
        rest = np.arange(25) != i
        fit = dirichlet.fit_dirichlet(factorize(k[np.ix_(rest, rest)]), labels[rest], 3, t)
        cross = k[i : i + 1, rest]
        p = expected_softmax(fit.mean(cross), fit.variance(cross, k[i, i][None]), step=1.5)
        losses.append(-np.log(p[0, labels[i]]))
    found = dirichlet._leave_one_out_loss(k, labels, 3, t)
    assert found == pytest.approx(np.mean(losses), rel=1e-3)


def overlapping(count, seed):
    index = np.random.default_rng(seed).integers(3, size=count)
    x = 1.5 * images(count, seed=seed + 1) + 0.6 * index[:, None, None, None].astype(np.float32)
    return x, np.array(["p", "q", "r"])[index]


@pytest.fixture(scope="module")
def fitted():
    return GPClassifier(ImageKernel(3.0), probabilities="dirichlet").fit(*overlapping(150, 0))


def test_probabilities_of_new_images_are_calibrated(fitted):
    x, y = overlapping(1000, 50)
    p = fitted.predict_proba(x)
    error = expected_calibration_error(y, p, fitted.classes_)
    # Chance, and 0.6 / sqrt(150) for what so few training labels leave open.
    assert error < calibration_error_by_chance(p) + 0.05
    plain = GPClassifier(ImageKernel(3.0), 0.0).fit(*overlapping(150, 0))
    assert fitted.score(x, y) > plain.score(x, y) - 0.03
    mean, variance, probability = fitted.predictive(x[:9])
    np.testing.assert_array_equal(mean, fitted.decision_function(x[:9]))
    np.testing.assert_allclose(probability, p[:9], atol=1e-8)
    assert variance.shape == (9,)
    assert (variance > 0.0).all()


def test_round_trip_and_damage(fitted, tmp_path):
    save_head(fitted, tmp_path)
    after = load_head(tmp_path, ImageKernel(3.0))
    x, _ = overlapping(20, 9)
    np.testing.assert_array_equal(after.predict_proba(x), fitted.predict_proba(x))
    np.testing.assert_array_equal(after.predict(x), fitted.predict(x))
    assert after.dirichlet_.transformation == fitted.dirichlet_.transformation
    head = (tmp_path / "head.json").read_text()
    for change in (
        lambda d: d.update(dirichlet=None),
        lambda d: d["dirichlet"].update(scale=-1.0),
        lambda d: d["dirichlet"].update(scale="much"),
        lambda d: d["dirichlet"].update(more=1.0),
        lambda d: d["arrays"].pop("dirichlet_alpha.npy"),
        lambda d: d["arrays"].update({"dirichlet_inner.npy": d["arrays"]["y.npy"]}),
    ):
        document = json.loads(head)
        change(document)
        (tmp_path / "head.json").write_text(json.dumps(document))
        with pytest.raises(ModelFileError):
            load_head(tmp_path, ImageKernel(3.0))
    (tmp_path / "head.json").write_text(head)
    (tmp_path / "dirichlet_inner.npy").write_bytes(b"")
    with pytest.raises(ModelFileError, match="dirichlet_inner"):
        load_head(tmp_path, ImageKernel(3.0))


def test_classes_of_one_member():
    ours = GPClassifier(KERNEL, probabilities="dirichlet").fit(images(5), ["a", "b", "a", "c", "d"])
    assert np.isfinite(ours.predict_proba(images(4, seed=1))).all()


def test_memory_is_compared_first(monkeypatch):
    factor = factorize(positive_definite(9))
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match="Dirichlet posterior of 9 inputs"):
        dirichlet.fit_dirichlet(factor, np.arange(9) % 3, 3)
