"""Samples of a classifier: latent values of the posterior, and labels as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import ImageKernel, images

from keras2gp.errors import InputError, NotFittedError
from keras2gp.gp import GPClassifier, GPRegressor

KERNEL = ImageKernel(2.0)
CLASSES = np.array(["cat", "dog", "owl"])
DRAWS = 20_000


def fitted(probabilities, kernel=KERNEL):
    x = images(40)
    y = CLASSES[np.digitize(x[:, 0, 0, 0] + 0.3 * x[:, 1, 1, 0], [-0.5, 0.5])]
    return GPClassifier(kernel, 0.3, probabilities=probabilities).fit(x, y)


# Two inputs that are close to each other, and a third.
TEST = np.concatenate([images(1, seed=3), images(1, seed=3) + 0.05, images(1, seed=4)])


@pytest.mark.parametrize("probabilities", ["linear", "temperature", "largest", "dirichlet"])
def test_labels_are_as_often_as_their_probability(probabilities):
    model = fitted(probabilities)
    draws = model.sample_y(TEST, DRAWS, random_state=1)
    assert draws.shape == (3, DRAWS)
    assert set(np.unique(draws)) <= set(CLASSES)
    p = model.predict_proba(TEST)
    frequency = (draws[:, :, None] == CLASSES).mean(axis=1)
    assert np.abs(frequency - p).max() < 4.5 * 0.5 / DRAWS**0.5
    assert p.max() < 0.97  # else there would be little to see
    np.testing.assert_array_equal(draws, model.sample_y(TEST, DRAWS, random_state=1))
    assert model.sample_y(TEST).shape == (3, 1)


def test_labels_of_close_inputs_go_together():
    """Drawn jointly: two inputs that are almost the same nearly always have one label."""
    same = {}
    for probabilities in ("temperature", "largest"):
        draws = fitted(probabilities).sample_y(TEST, DRAWS, random_state=1)
        same[probabilities] = (draws[0] == draws[1]).mean()
    assert same["largest"] > 0.95
    assert same["temperature"] < 0.9


def test_latent_values_have_the_posterior_as_their_moments():
    model = fitted("largest")
    draws = model.sample_latent(TEST, DRAWS, random_state=2)
    assert draws.shape == (3, 3, DRAWS)
    mean, variance = model.posterior(TEST)
    spread = np.sqrt(variance)[:, None]
    assert np.abs(draws.mean(axis=2) - mean).max() < 5 * spread.max() / DRAWS**0.5
    np.testing.assert_allclose(draws.var(axis=2), np.tile(variance[:, None], 3), rtol=0.06)
    # The joint covariance is a regression's, on one class's targets, times the scale.
    peer = GPRegressor(KERNEL, 0.3).fit(model.x_train_, model.targets_[:, 0])
    _, covariance = peer.predict(TEST, return_cov=True)
    found = np.cov(draws[:, 1])
    scale = model.scale_ * covariance
    np.testing.assert_allclose(found, scale, atol=5 * scale.max() / DRAWS**0.5)


def test_latent_values_of_the_dirichlet_regression():
    model = fitted("dirichlet")
    dirichlet = model.dirichlet_
    cross, prior = np.asarray(KERNEL(TEST, model.x_train_)), np.asarray(KERNEL(TEST))
    covariances = list(dirichlet.covariances(cross, prior))
    # A_c, written out.
    train = np.asarray(KERNEL(model.x_train_)) + model.factor_.report.jitter * np.eye(40)
    other, own = dirichlet.transformation.noises()
    for c, found in enumerate(covariances):
        member = model.targets_[:, c] > 0
        a = train + (0.3 + np.where(member, own, other)) * np.eye(40)
        exact = dirichlet.transformation.scale * (prior - cross @ np.linalg.solve(a, cross.T))
        np.testing.assert_allclose(found, exact, rtol=1e-8, atol=1e-10)
    variance = dirichlet.variance(cross, np.diagonal(prior))
    np.testing.assert_allclose(np.diagonal(covariances, axis1=1, axis2=2).T, variance, rtol=1e-9)
    draws = model.sample_latent(TEST, DRAWS, random_state=3)
    deviation = np.sqrt(variance)
    gap = np.abs(draws.mean(axis=2) - dirichlet.mean(cross)) / deviation
    assert gap.max() < 5 / DRAWS**0.5
    np.testing.assert_allclose(draws.var(axis=2), variance, rtol=0.06)


def test_what_is_refused():
    model = fitted("temperature")
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(InputError, match="n_samples"):
            model.sample_y(TEST, wrong)
        with pytest.raises(InputError, match="n_samples"):
            model.sample_latent(TEST, wrong)
    with pytest.raises(NotFittedError):
        GPClassifier(KERNEL).sample_y(TEST)
    matrix = np.asarray(KERNEL(model.x_train_))
    labels = model.classes_[model.targets_.argmax(axis=1)]
    alone = GPClassifier("precomputed", 0.3, probabilities="temperature").fit(matrix, labels)
    with pytest.raises(InputError, match="samples need the kernel between"):
        alone.sample_latent(matrix[:2])
    # Independent labels take nothing but the mean.
    np.testing.assert_array_equal(
        alone.sample_y(matrix[:5], 3), model.sample_y(model.x_train_[:5], 3)
    )
