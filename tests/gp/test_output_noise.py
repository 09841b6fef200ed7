"""A noise for each output, against scipy and numpy column by column."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.gaussian_process.kernels import RBF

from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp import GPClassifier, GPRegressor, load_head, save_head
from keras2gp.gp.noise import choice as noise
from keras2gp.gp.noise import pilot as noise_pilot
from keras2gp.gp.solvers import by_output

KERNEL, ROWS, OUTPUTS = RBF(1.0), 40, 4
RANDOM = np.random.default_rng(0)
X, TEST = RANDOM.uniform(-3.0, 3.0, (ROWS, 2)), RANDOM.uniform(-3.0, 3.0, (7, 2))
NOISES = np.array([0.02, 0.2, 0.2, 0.5])
Y = np.sin(X[:, :1] + np.arange(OUTPUTS)) + np.sqrt(NOISES) * RANDOM.standard_normal(
    (ROWS, OUTPUTS)
)
WAYS = ("factors", "eigenvectors")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    monkeypatch.setattr(by_output, "_FEW", 16 if request.param == "factors" else 1)
    return request.param


def written_out(noises, weights=None):
    """Of every column: mean, covariance, left-out mean and variance, evidence."""
    weights = np.ones(ROWS) if weights is None else weights
    cross, columns = KERNEL(TEST, X), []
    for y, variance in zip(Y.T, noises, strict=True):
        a = KERNEL(X) + np.diag(variance / weights)
        inverse = np.linalg.inv(a)
        left_out = y - inverse @ y / np.diag(inverse), 1.0 / np.diag(inverse)
        evidence = multivariate_normal(np.zeros(ROWS), a).logpdf(y)
        covariance = KERNEL(TEST) - cross @ inverse @ cross.T
        columns.append((cross @ inverse @ y, covariance, *left_out, evidence))
    return [np.stack(values, axis=-1) for values in zip(*columns, strict=True)]


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("shape", [(OUTPUTS,), (1, OUTPUTS)])
def test_matches_scipy_column_by_column(way, shape):
    ours = GPRegressor(KERNEL, NOISES.reshape(shape)).fit(X, Y)
    assert ("eigendecomposition" in ours.solver_report_.reason) == (way == "eigenvectors")
    mean, covariance, *left_out, evidence = written_out(NOISES)
    found, std = ours.predict(TEST, return_std=True)
    same(found, mean)
    same(std**2, np.einsum("mmc->mc", covariance))
    std = ours.predict(TEST, return_std=True, observations=True)[1]
    same(std**2, np.einsum("mmc->mc", covariance) + NOISES)
    same(ours.predict(TEST, return_cov=True)[1], covariance)
    for one, other in zip(ours.leave_one_out(), left_out, strict=True):
        same(one, other)
    densities = -0.5 * (np.log(2.0 * np.pi * left_out[1]) + (Y - left_out[0]) ** 2 / left_out[1])
    same(ours.leave_one_out_log_density(), densities)
    same(ours.log_marginal_likelihood(), evidence.sum())
    same(ours.log_marginal_likelihood(0.3), written_out([0.3] * OUTPUTS)[-1].sum())
    same(ours.noise_std_, np.sqrt(NOISES))
    same(ours.prior_variance(TEST), np.ones((7, OUTPUTS)))
    copied = clone(ours).fit(X, Y)
    np.testing.assert_array_equal(copied.predict(TEST), ours.predict(TEST))


def test_saved(way, tmp_path):
    for number, setting in enumerate([NOISES, "auto-per-output"]):
        ours = GPRegressor(KERNEL, setting).fit(X, Y)
        save_head(ours, tmp_path / str(number))
        again = load_head(tmp_path / str(number), KERNEL)
        for ask in ({"return_std": True}, {"return_cov": True}):
            for one, other in zip(
                ours.predict(TEST, **ask), again.predict(TEST, **ask), strict=True
            ):
                np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(again.leave_one_out(), ours.leave_one_out())
        np.testing.assert_array_equal(again.noise_variance_, ours.noise_variance_)
        assert again.noise_curve_ == ours.noise_curve_
        with pytest.raises(ModelFileError, match="not the one of the fit"):
            load_head(tmp_path / str(number), RBF(3.0))


def test_weights_divide_them(way):
    weights = RANDOM.uniform(0.5, 2.0, ROWS)
    ours = GPRegressor(KERNEL, NOISES).fit(X, Y, sample_weight=weights)
    mean, covariance, *left_out, evidence = written_out(NOISES, weights)
    found, std = ours.predict(TEST, return_std=True)
    same(found, mean)
    same(std**2, np.einsum("mmc->mc", covariance))
    same(ours.leave_one_out()[1], left_out[1])
    same(ours.log_marginal_likelihood(), evidence.sum())


def test_each_output_chooses_its_own(way):
    ours = GPRegressor(KERNEL, "auto-per-output").fit(X, Y)
    alone = [GPRegressor(KERNEL).fit(X, column) for column in Y.T]
    same(ours.noise_variance_, [one.noise_variance_ for one in alone])
    same(ours.scale_, [one.scale_[0] for one in alone])
    one, other = ours.predict(TEST, return_std=True, observations=True)
    peers = [peer.predict(TEST, return_std=True, observations=True) for peer in alone]
    same(one, np.stack([peer[0] for peer in peers], axis=1))
    same(other, np.stack([peer[1] for peer in peers], axis=1))
    evidence = sum(peer.log_marginal_likelihood() for peer in alone)
    same(ours.log_marginal_likelihood(), evidence)
    assert evidence > GPRegressor(KERNEL).fit(X, Y).log_marginal_likelihood() + 5.0
    assert [curve.chosen for curve in ours.noise_curve_] == ours.noise_variance_.tolist()
    flat = np.column_stack([Y[:, 0], np.full(ROWS, 3.0)])
    same(GPRegressor(KERNEL, "auto-per-output").fit(X, flat).noise_variance_[1], 0.0)
    single = GPRegressor(KERNEL, "auto-per-output").fit(X, Y[:, 0])
    assert single.noise_variance_ == alone[0].noise_variance_


def test_factorisations_are_shared(monkeypatch):
    monkeypatch.setattr(noise_pilot, "ROWS", 20)
    counted = []
    climb = noise.Climb._tried
    monkeypatch.setattr(noise.Climb, "_tried", lambda self, n: counted.append(n) or climb(self, n))
    ours = GPRegressor(KERNEL, "auto-per-output").fit(X, Y)
    assert len(set(counted)) < len(counted)
    for column, curve in enumerate(ours.noise_curve_):
        peer = GPRegressor(KERNEL).fit(X, Y[:, column])
        assert abs(np.log(curve.chosen / peer.noise_variance_)) < 0.3


def test_draws_have_the_covariance(way):
    ours = GPRegressor(KERNEL, NOISES).fit(X, Y)
    mean, covariance = ours.predict(TEST, return_cov=True)
    for draws in (ours.sample_y(TEST, 4000), ours.sample_paths(4000)(TEST)):
        assert draws.shape == (7, OUTPUTS, 4000)
        assert np.abs(draws.mean(axis=2) - mean).max() < 0.08
        for c in range(OUTPUTS):
            assert np.abs(np.cov(draws[:, c]) - covariance[..., c]).max() < 0.08
    noisy = ours.sample_y(TEST, 4000, observations=True)
    ratio = noisy.var(axis=2) / (np.einsum("mmc->mc", covariance) + NOISES)
    assert np.abs(ratio - 1.0).max() < 0.15


def test_a_singular_matrix_takes_the_ladder(way):
    rows = np.r_[np.arange(ROWS), 0]
    with pytest.warns(UserWarning, match="singular"):
        ours = GPRegressor(KERNEL, [0.0, 0.1, 0.2, 0.3], normalize_y=False).fit(X[rows], Y[rows])
    assert "a factor for each" in ours.solver_report_.reason
    assert ours.jitter_report_.jitter > 0.0
    same(ours.predict(TEST)[:, 3], GPRegressor(KERNEL, 0.3).fit(X[rows], Y[rows, 3]).predict(TEST))


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        (np.ones(5), "expected 40 numbers, one for each target, or 4, one for each output"),
        (-NOISES, "0 or more"),
        ("auto-per-outputs", "Did you mean auto-per-output"),
    ],
)
def test_what_is_refused(setting, match):
    with pytest.raises(InputError, match=match):
        GPRegressor(KERNEL, setting).fit(X, Y)


def test_refusals_say_why():
    with pytest.raises(InputError, match=r"shape \[N, 1\] for those of rows, \[1, C\]"):
        GPRegressor(KERNEL, np.ones(3)).fit(X[:3], Y[:3, :3])
    assert np.ndim(GPRegressor(KERNEL, np.ones((3, 1))).fit(X[:3], Y[:3, :3]).noise_variance_) == 0
    for solver in ("cg", "nystroem", "projected", "mixed"):
        with pytest.raises(InputError, match="a matrix of its own, and solver"):
            GPRegressor(KERNEL, NOISES, solver=solver).fit(X, Y)
    with pytest.raises(InputError, match="told apart by one noise"):
        GPClassifier(KERNEL, "auto-per-output").fit(X, np.arange(ROWS) % 3)
    ours = GPRegressor(KERNEL, NOISES).fit(X, Y)
    with pytest.raises(InputError, match="rows that come and go update one factor"):
        ours.add_rows(TEST, Y[:7])
    with pytest.raises(InputError, match="a variance of its own"):
        ours.predict_tensors(TEST)
