"""Scores of strange inputs, and the warning for inputs outside the training range."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from sklearn.gaussian_process.kernels import RBF

from keras2gp.errors import InputError
from keras2gp.gp import (
    GPClassifier,
    GPRegressor,
    InputRange,
    RangeWarning,
    ood_scores,
    out_of_distribution_auroc,
)
from keras2gp.gp.process.out_of_distribution import SCORES, scores_of

KERNEL = ImageKernel(2.0)
X = np.array([[0.0, 5.0], [1.0, 5.0], [0.5, 5.0]])


def test_the_scores_of_a_classification():
    x, new = images(24), images(6, seed=2)
    for how in ("temperature", "largest", "dirichlet"):
        gp = GPClassifier(KERNEL, 0.1, probabilities=how).fit(x, ["a", "b", "c"] * 8)
        scores, prediction = ood_scores(gp, new), gp.predictive(new)
        assert list(scores) == list(SCORES)
        np.testing.assert_allclose(scores["variance"], prediction.variance)
        np.testing.assert_allclose(scores["uncertainty"], 1 - prediction.probability.max(axis=1))
        relative = scores["relative_variance"]
        assert ((relative >= 0) & (relative <= 1)).all()
        prior = np.asarray(KERNEL.diag(new))
        np.testing.assert_allclose(relative * gp.prior_variance(new), prediction.variance)
        np.testing.assert_allclose(np.ptp(gp.prior_variance(new) / prior), 0.0, atol=1e-12)
        norms, fitted = (np.linalg.norm(a.reshape(len(a), -1), axis=1) for a in (new, x))
        expected = np.abs(norms - fitted.mean()) / fitted.std()
        np.testing.assert_allclose(scores["norm"], expected, rtol=1e-4)
    again = scores_of(gp, new, prediction.variance, prediction.probability)
    np.testing.assert_array_equal(again["variance"], scores["variance"])


def test_the_scores_of_a_regression():
    y = np.array([0.0, 3.0, 9.0])
    for targets in (y, np.stack([y, 10.0 * y], 1)):
        for noise in ("auto", 0.1):
            gp = GPRegressor(RBF(0.5), noise).fit(X, targets)
            scores = ood_scores(gp, np.array([[0.5, 5.0], [0.5, 90.0]]))
            assert set(scores) == set(SCORES) - {"uncertainty"}
            assert scores["relative_variance"][1] == pytest.approx(1.0)
            assert scores["relative_variance"][0] < 1.0
            prior = gp.prior_variance(X)
            assert prior.shape == targets.shape
            np.testing.assert_allclose(
                gp.predict([[0.5, 90.0]], return_std=True)[1][0] ** 2, prior[0]
            )
    with pytest.raises(InputError, match="precomputed kernel"):
        GPRegressor("precomputed", 0.1).fit(np.eye(2), [0.0, 1.0]).prior_variance(np.eye(2))


def test_the_range_is_of_features_or_of_all_pixels():
    of_table = InputRange.of(X)
    far = of_table.outside(np.array([[0.5, 5.0], [3.0, 5.0], [0.5, 4.0], [-0.5, 5.5]]))
    np.testing.assert_allclose(far, [0.0, 2.0, 1.0, 0.5])  # a constant has the width of the others
    of_images = InputRange.of(np.linspace(0, 1, 2 * 4).reshape(2, 2, 2, 1))
    np.testing.assert_allclose(of_images.outside(np.full((1, 2, 2, 1), 3.0)), [2.0])
    constant = InputRange.of(np.zeros((2, 3)))
    assert constant.outside(np.ones((1, 3))).tolist() == [1.0]
    assert np.isfinite(constant.far_norm(np.ones((1, 3)))).all()
    assert InputRange.of(np.array([["a"]])) is None
    assert InputRange.of(None) is None


def test_inputs_outside_the_range_are_warned_of():
    x = images(24)
    x = (x - x.min()) / np.ptp(x)
    gp = GPRegressor(KERNEL, 0.1).fit(x, np.arange(24.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gp.predict(x)
        gp.predict(1.5 * x)
    for wrong, text in (
        (255 * x[:5], r"5 of 5 inputs are far outside the range .* from 0 to 1\. Try: the scaling"),
        (x[:5] / 255, "5 of 5 inputs are ten times fainter"),
        (np.concatenate([x[:3], np.zeros_like(x[:1])]), "1 of 4 inputs are ten times fainter"),
    ):
        with pytest.warns(RangeWarning, match=text) as told:
            gp.predict(wrong)
        assert told[0].filename == __file__


@pytest.mark.parametrize(
    ("train", "new", "strange"),
    [
        # A line or a plane is filled up to 0: being near it says nothing.
        (np.linspace(-1.0, 1.0, 20)[:, None], np.linspace(-1.0, 1.0, 21)[:, None], 0),
        (np.linspace(0.5, 6.0, 12)[:, None], [[0.0], [0.01], [7.0]], 0),
        (np.linspace(0.5, 6.0, 12)[:, None, None], [[[0.0]], [[0.01]]], 0),
        (np.linspace(0.5, 6.0, 12)[:, None], [[0.0], [80.0], [-60.0]], 2),
        (np.stack(np.meshgrid([-1.0, 1.0], [-0.1, 0.1]), -1).reshape(-1, 2), [[0.0, 0.0]], 0),
        # Features that never vary do not count.
        (np.pad(np.linspace(0.5, 6.0, 12)[:, None], ((0, 0), (0, 3))), [[0.0] * 4], 0),
        # Of many numbers norms are far from 0, and an input near it is another one, or scaled.
        (np.random.default_rng(0).uniform(0.2, 1.0, (30, 8)), np.full((3, 8), 1e-3), 3),
        (np.random.default_rng(0).standard_normal((30, 20)), np.zeros((2, 20)), 2),
    ],
)
def test_faint_inputs_of_few_and_of_many_numbers(train, new, strange):
    told = InputRange.of(np.asarray(train)).warning(np.asarray(new))
    assert told.startswith(f"{strange} of {len(new)} inputs") if strange else not told


def test_the_range_of_a_loaded_fit(tmp_path):
    from keras2gp.gp import load_head, save_head

    gp = GPClassifier(RBF(1.0), 0.1).fit(X, ["a", "b", "a"])
    save_head(gp, tmp_path)
    again = load_head(tmp_path, RBF(1.0))
    np.testing.assert_array_equal(again.input_range_.width, gp.input_range_.width)
    assert again.input_range_.norm == gp.input_range_.norm


def test_out_of_distribution_auroc():
    inside, outside = [1.0, 2.0, 2.0, 5.0], [2.0, 6.0]
    pairs = [(b > a) + 0.5 * (b == a) for a in inside for b in outside]
    assert out_of_distribution_auroc(inside, outside) == pytest.approx(np.mean(pairs))
    assert out_of_distribution_auroc([0.0], [1.0]) == 1.0
    for bad in ([], [np.nan], [[1.0]]):
        with pytest.raises(InputError, match="scores"):
            out_of_distribution_auroc(inside, bad)
