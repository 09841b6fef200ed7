"""Predictions whose scale was learned, against scipy's Student t, refits and draws of the prior."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from scipy.stats import kstest, norm, t
from sklearn.gaussian_process.kernels import RBF

from keras2gp._util.digest import with_digest
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp import GPRegressor, load_head, save_head
from keras2gp.gp.noise.curve import NoiseCurve
from keras2gp.gp.process.student import Student

KERNEL = RBF(1.0)
RATIO = 0.3
"""The noise over the scale of the prior."""


@pytest.fixture
def known_ratio(monkeypatch):
    """The choice of the noise finds the true one, so that the scale alone is learned."""
    known = NoiseCurve((), (), RATIO, 8, "known")
    monkeypatch.setattr("keras2gp.gp.process.solving.choose_noise", lambda *_, **__: known)


def draws(train, outputs, *, test=3, scale=4.0, shift=0.0, seed=0):
    """Inputs, and targets drawn from the prior at each of as many outputs; and further of both."""
    random = np.random.default_rng(seed)
    x = random.uniform(0.0, 4.0, (train + test, 1))
    lower = np.linalg.cholesky(KERNEL(x) + RATIO * np.eye(len(x)))
    y = shift + math.sqrt(scale) * lower @ random.standard_normal((len(x), outputs))
    return x[:train], y[:train], x[train:], y[train:]


@pytest.mark.parametrize("degrees", [3.0, 9.0, 1e4, math.inf])
def test_student_is_scipys_of_deviation_1(degrees):
    ours, value = Student(degrees), np.linspace(-4.0, 4.0, 9)
    unit = 1.0 if math.isinf(degrees) else math.sqrt(1.0 - 2.0 / degrees)
    scipys = norm() if math.isinf(degrees) else t(degrees, scale=unit)
    assert scipys.std() == pytest.approx(1.0)
    for level in (0.5, 0.95, 0.999):
        assert ours.width(level) == pytest.approx(scipys.interval(level)[1], rel=1e-9)
    density = ours.log_density(2.5 * value, np.full(9, 2.5))
    np.testing.assert_allclose(density, scipys.logpdf(value) - np.log(2.5), rtol=1e-9)
    assert ours.log_density(np.zeros(1), np.zeros(1)) == math.inf
    assert ours.log_density(np.ones(1), np.zeros(1)) == -math.inf


@pytest.mark.parametrize("rows", [4, 8, 25])
@pytest.mark.filterwarnings("ignore::keras2gp.gp.NoiseWarning")
@pytest.mark.usefixtures("known_ratio")
def test_intervals_hold_what_they_say(rows):
    x, y, test, truth = draws(rows, 4000)
    ours = GPRegressor(KERNEL, normalize_y=False).fit(x, y)
    assert ours.degrees_of_freedom_ == rows
    mean, std = ours.predict(test, return_std=True, observations=True)
    for level in (0.5, 0.9, 0.95):
        low, high = ours.predict_interval(test, level)
        inside = ((low < truth) & (truth < high)).mean(axis=1)
        assert (np.abs(inside - level) < 4.0 * math.sqrt(level * (1 - level) / 4000)).all()
    scale = math.sqrt(1.0 - 2.0 / rows)
    for standardised in (truth - mean) / std:
        assert kstest(standardised, t(rows, scale=scale).cdf).pvalue > 1e-3
    # What 0.2.0 made of the same rows before: a Gaussian whose scale is taken for certain.
    narrow = std * math.sqrt((rows - 2.0) / rows)
    inside = (np.abs(truth - mean) < 1.96 * narrow).mean()
    assert inside < {4: 0.9, 8: 0.925, 25: 0.943}[rows]


@pytest.mark.filterwarnings("ignore::keras2gp.gp.NoiseWarning")
@pytest.mark.usefixtures("known_ratio")
def test_intervals_around_a_mean_that_is_not_known():
    x, y, test, truth = draws(10, 4000, shift=50.0)
    ours = GPRegressor(KERNEL).fit(x, y)
    assert ours.degrees_of_freedom_ == 9
    low, high = ours.predict_interval(test)
    assert 0.935 < ((low < truth) & (truth < high)).mean() < 0.96


@pytest.mark.filterwarnings("ignore::keras2gp.gp.NoiseWarning")
@pytest.mark.usefixtures("known_ratio")
def test_left_out_rows_are_those_of_a_fit_without_them():
    x, y, *_ = draws(8, 3)
    ours = GPRegressor(KERNEL, normalize_y=False).fit(x, y)
    mean, variance = ours.leave_one_out()
    density = ours.leave_one_out_log_density()
    for row in range(8):
        rest = np.delete(np.arange(8), row)
        without = GPRegressor(KERNEL, normalize_y=False).fit(x[rest], y[rest])
        own_mean, own_std = without.predict(x[[row]], return_std=True, observations=True)
        np.testing.assert_allclose(mean[row], own_mean[0], rtol=1e-9)
        np.testing.assert_allclose(variance[row], own_std[0] ** 2, rtol=1e-9)
        np.testing.assert_allclose(density[row], without.log_density(x[[row]], y[[row]])[0])


def test_units_of_kernel_and_targets():
    x, y, test, truth = draws(12, 2)
    plain = GPRegressor(KERNEL).fit(x, y)
    scaled = GPRegressor("precomputed").fit(1e6 * KERNEL(x), 5.0 * y - 3.0)
    low, high = plain.predict_interval(test)
    cross, diag = 1e6 * KERNEL(test, x), np.full(3, 1e6)
    others = scaled.predict_interval(cross, diag=diag)
    for one, other in zip((low, high), others, strict=True):
        np.testing.assert_allclose(other, 5.0 * one - 3.0, rtol=1e-5)
    density = scaled.log_density(cross, 5.0 * truth - 3.0, diag=diag)
    expected = plain.log_density(test, truth) - np.log(5.0)
    np.testing.assert_allclose(density, expected, rtol=1e-5)


def test_a_stated_noise_is_gaussian():
    x, y, test, truth = draws(5, 1)
    ours = GPRegressor(KERNEL, 0.5, normalize_y=True).fit(x, y[:, 0])
    assert math.isinf(ours.degrees_of_freedom_)
    np.testing.assert_array_equal(ours.deviation_, ours.y_scale_)
    mean, std = ours.predict(test, return_std=True, observations=True)
    low, high = ours.predict_interval(test)
    np.testing.assert_allclose((high - low) / 2.0, norm.ppf(0.975) * std)
    expected = norm(mean, std).logpdf(truth[:, 0])
    np.testing.assert_allclose(ours.log_density(test, truth[:, 0]), expected)
    function = ours.predict(test, return_std=True)[1]
    low, high = ours.predict_interval(test, observations=False)
    np.testing.assert_allclose((high - low) / 2.0, norm.ppf(0.975) * function)


def test_many_rows_are_gaussian():
    x, y, test, _ = draws(800, 1)
    ours = GPRegressor(KERNEL).fit(x, y[:, 0])
    std = ours.predict(test, return_std=True)[1]
    alpha = np.linalg.solve(KERNEL(x) + ours.noise_variance_ * np.eye(800), KERNEL(x, test))
    variance = 1.0 - np.einsum("nm,nm->m", KERNEL(x, test), alpha)
    plain = ours.y_scale_ * np.sqrt(ours.scale_ * variance)
    np.testing.assert_allclose(std, plain, rtol=2e-3)
    low, high = ours.predict_interval(test, observations=False)
    np.testing.assert_allclose((high - low) / 2.0, 1.96 * plain, rtol=3e-3)


@pytest.mark.parametrize("noise", ["auto", "auto-per-output"])
def test_draws_have_a_scale_of_their_own(noise):
    x, y, test, _ = draws(9, 2)
    ours = GPRegressor(KERNEL, noise).fit(x, y)
    for observations in (False, True):
        mean, std = ours.predict(test, return_std=True, observations=observations)
        values = ours.sample_y(test, 4000, observations=observations)
        scale = math.sqrt(1.0 - 2.0 / 8.0)
        for row, column in np.ndindex(mean.shape):
            standardised = (values[row, column] - mean[row, column]) / std[row, column]
            assert kstest(standardised, t(8, scale=scale).cdf).pvalue > 1e-4
    if noise == "auto":
        paths = ours.sample_paths(4000)(test)
        mean, std = ours.predict(test, return_std=True)
        standardised = (paths[0, 0] - mean[0, 0]) / std[0, 0]
        assert kstest(standardised, t(8, scale=scale).cdf).pvalue > 1e-4


@pytest.mark.filterwarnings("ignore::keras2gp.gp.process.out_of_distribution.RangeWarning")
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_fewer_rows_than_a_deviation_needs(rows):
    x, y, test, _ = draws(rows, 1)
    ours = GPRegressor(KERNEL).fit(x, y[:, 0])
    assert ours.degrees_of_freedom_ == 3
    for values in (*ours.predict(test, return_std=True), *ours.predict_interval(test)):
        assert np.isfinite(values).all()
    assert np.isfinite(ours.leave_one_out_log_density()).all()


def test_saved_loaded_and_updated(tmp_path):
    kernel, x = ImageKernel(2.0), images(14, shape=(2, 2, 1))
    y, test = x.mean(axis=(1, 2, 3)), images(3, seed=2, shape=(2, 2, 1))
    ours = GPRegressor(kernel).fit(x, y)
    save_head(ours, tmp_path)
    head = json.loads((tmp_path / "head.json").read_text())
    assert head["degrees_of_freedom"] == 13
    loaded = load_head(tmp_path, kernel)
    assert loaded.degrees_of_freedom_ == 13
    expected = ours.predict_interval(test)
    np.testing.assert_array_equal(loaded.predict_interval(test), expected)
    for value, text in ((None, ""), (7.0, "7.0 degrees of freedom, and the targets have 13")):
        changed = dict(head)
        del changed["degrees_of_freedom"]
        if value is not None:
            changed["degrees_of_freedom"] = value
        (tmp_path / "head.json").write_text(json.dumps(with_digest(changed)))
        if value is None:  # as earlier fits, which did not state it
            again = load_head(tmp_path, kernel)
            np.testing.assert_array_equal(again.predict_interval(test), expected)
        else:
            with pytest.raises(ModelFileError, match=text):
                load_head(tmp_path, kernel)
    assert ours.remove_rows([0, 5]).degrees_of_freedom_ == 11
    assert ours.add_rows(x[:1], y[:1]).degrees_of_freedom_ == 12


def test_arguments_out_of_range():
    x, y, test, truth = draws(6, 2)
    ours = GPRegressor(KERNEL, 0.1).fit(x, y)
    for level in (0.0, 1.0, 95, "0.95", math.nan):
        with pytest.raises(InputError, match="level is"):
            ours.predict_interval(test, level)
    with pytest.raises(InputError, match=r"y has shape \(3,\), and the predictions have \(3, 2\)"):
        ours.log_density(test, truth[:, 0])
