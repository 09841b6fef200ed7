"""Sample paths: their means and covariances against the exact ones, and the same at every call."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from scipy.stats import kstest
from sklearn.gaussian_process.kernels import RBF

import keras2gp.gp.regression.paths as paths_module
from keras2gp.errors import InputError
from keras2gp.gp import (
    ConjugateGradients,
    GPRegressor,
    Nystroem,
    ProjectedProcess,
    load_head,
    save_head,
)
from keras2gp.gp.regression.paths import SamplePathWarning, normals_of
from keras2gp.gp.solvers.preconditioner import randomly_pivoted
from keras2gp.gp.solvers.training import Training

KERNEL = ImageKernel(3.0)
COUNT, NOISE, DRAWS = 60, 0.2, 4000
INDUCING = {"projected": ProjectedProcess(rank=25), "nystroem": Nystroem(rank=25)}


def problem():
    x, test = images(COUNT), images(7, seed=4)
    y = np.sin(x.reshape(COUNT, -1).sum(1)) + 3.0
    return x, y, np.concatenate([test, x[:1]])


def agree(draws, mean, covariance):
    """Means and covariances of draws [M, n] within 5 standard errors of the exact ones."""
    count = draws.shape[1]
    variance = np.diagonal(covariance)
    assert (np.abs(draws.mean(1) - mean) <= 5.0 * np.sqrt(variance / count) + 1e-9).all()
    found = (draws - mean[:, None]) @ (draws - mean[:, None]).T / count
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / count)
    assert (np.abs(found - covariance) <= 5.0 * error + 1e-9).all()


def of_features(x, test, basis):
    """The posterior covariance where k - Q is independent for each input, with dense matrices.

    Math: P** - K* A^-1 PX* - P*X A^-1 KX* + K* A^-1 (PXX + D) A^-1 KX*,  P = Q + diag(K - Q)
    """
    every = np.concatenate([test, x])
    whole, cross = np.asarray(KERNEL(every)), np.asarray(KERNEL(every, basis))
    prior = cross @ np.linalg.solve(np.asarray(KERNEL(basis)), cross.T)
    same = (np.abs(every[:, None] - every[None]).reshape(len(every), len(every), -1) == 0).all(2)
    prior += np.where(same, whole - prior, 0.0)
    count = len(test)
    solved = np.linalg.solve(whole[count:, count:] + NOISE * np.eye(len(x)), whole[count:, :count])
    inner = prior[count:, count:] + NOISE * np.eye(len(x))
    mixed = solved.T @ prior[count:, :count]
    return prior[:count, :count] - mixed - mixed.T + solved.T @ inner @ solved


@pytest.mark.parametrize(
    "solver", ["cholesky", "mixed", ConjugateGradients(tolerance=1e-10)], ids=str
)
def test_the_covariance_is_exact_where_the_features_explain_all(solver):
    x, y, test = problem()
    gp = GPRegressor(KERNEL, NOISE, solver=solver).fit(x, y)
    paths = gp.sample_paths(DRAWS, random_state=3, around=test[:7])
    np.testing.assert_allclose(paths.left_out(test), 0.0, atol=1e-9)
    agree(paths(test), *gp.predict(test, return_cov=True))


@pytest.mark.parametrize("rank", [10, 60])
def test_what_the_features_leave_is_independent(rank):
    x, y, test = problem()
    gp = GPRegressor(KERNEL, NOISE).fit(x, y)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        paths = gp.sample_paths(DRAWS, random_state=5, rank=rank)
    assert paths.rank == rank
    left = (paths.left_out(x) * np.asarray(KERNEL.diag(x))).mean()
    said = (
        f"leave a variance of {left:.2g} at the training inputs, {left / NOISE:.2g} times the noise"
    )
    assert len(told) == (rank == 10)
    assert all(said in str(each.message) for each in told)
    assert all(each.category is SamplePathWarning and each.filename == __file__ for each in told)
    share = paths.left_out(test)
    assert (share[:7] > 0.01).all()
    mean, exact = gp.predict(test, return_cov=True)
    chosen = randomly_pivoted(Training(KERNEL, x, None), rank, 1e-13, 0).pivots
    assert (share[7] == 0.0) == (0 in chosen)
    expected = of_features(x, test, x[sorted(chosen)])
    agree(paths(test), mean, expected)
    if rank == 60:  # the features are all training inputs: variances are the posterior's
        np.testing.assert_allclose(np.diagonal(expected), np.diagonal(exact), rtol=1e-6)


def test_all_training_inputs_are_features_by_default(monkeypatch):
    """Of very many the features are fewer; what they leave is said beside any noise."""
    x, y, _ = problem()
    gp = GPRegressor(KERNEL, 0.0).fit(x, y)
    assert gp.sample_paths(2).rank == COUNT
    monkeypatch.setattr(paths_module, "WHOLE", COUNT - 1)
    monkeypatch.setattr(paths_module, "DEFAULT_RANK", 20)
    with pytest.warns(SamplePathWarning, match="and there is no noise"):
        assert gp.sample_paths(2).rank == 20
    noise = np.full((COUNT, 2), [1e6, NOISE])
    with pytest.warns(SamplePathWarning, match=r"0\.5 times the noise"):
        paths_module.warn_of_left_out(np.full(COUNT, 0.1), noise, 20, stacklevel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths_module.warn_of_left_out(np.full(COUNT, 0.1), noise[:, :1], 20, stacklevel=1)


@pytest.mark.parametrize("name", list(INDUCING))
def test_of_inducing_inputs(name):
    x, y, test = problem()
    gp = GPRegressor(KERNEL, NOISE, solver=INDUCING[name]).fit(x, y)
    mean, covariance = gp.predict(test, return_cov=True)
    cross, whole = np.asarray(KERNEL(test, gp.basis_)), np.asarray(KERNEL(test))
    left = whole - cross @ np.linalg.solve(np.asarray(KERNEL(gp.basis_)), cross.T)
    expected = covariance - left + np.diag(np.diagonal(left))
    agree(gp.sample_paths(DRAWS, random_state=1)(test), mean, expected)
    with pytest.raises(InputError, match="inducing inputs"):
        gp.sample_paths(2, around=test)


def test_scales_of_several_outputs():
    x, _, test = problem()
    random = np.random.default_rng(0)
    y = np.column_stack([random.normal(size=COUNT) * 0.1 + 7.0, x.reshape(COUNT, -1).sum(1)])
    gp = GPRegressor(KERNEL).fit(x, y)
    draws = gp.sample_paths(DRAWS, around=test[:7])(test)
    assert draws.shape == (8, 2, DRAWS)
    mean, covariance = gp.predict(test, return_cov=True)
    for c in (0, 1):
        agree(draws[:, c], mean[:, c], covariance[..., c])


@pytest.mark.filterwarnings("ignore::keras2gp.gp.SamplePathWarning")
def test_the_same_at_every_call(tmp_path):
    x, y, test = problem()
    gp = GPRegressor(KERNEL, NOISE).fit(x, y)
    paths = gp.sample_paths(3, random_state=2, rank=20)
    once = paths(test)
    assert once.shape == (8, 3)
    np.testing.assert_allclose(paths(test[::-1])[::-1], once, rtol=1e-9)
    np.testing.assert_allclose(paths(test[2:3])[0], once[2], rtol=1e-9)
    np.testing.assert_allclose(paths(test.astype(np.float64)), once, rtol=1e-9)
    np.testing.assert_array_equal(gp.sample_paths(3, random_state=2, rank=20)(test), once)
    assert np.abs(gp.sample_paths(3, random_state=4, rank=20)(test) - once).min() > 0.0
    save_head(gp, tmp_path)
    again = load_head(tmp_path, KERNEL).sample_paths(3, random_state=2, rank=20)
    np.testing.assert_allclose(again(test), once, rtol=1e-9)


def test_paths_through_data_without_noise():
    x, y, _ = problem()
    paths = GPRegressor(KERNEL, 0.0).fit(x, y).sample_paths(2)
    np.testing.assert_allclose(paths(x), np.stack([y, y], axis=1), atol=1e-6)


def test_the_best_of_many_inputs():
    """Thompson sampling: the input where a path is largest, from one set of solves."""
    x = np.linspace(0.0, 1.0, 12)[:, None]
    gp = GPRegressor(RBF(0.2), 1e-3).fit(x, -((x[:, 0] - 0.4) ** 2) * 20.0)
    pool = np.linspace(0.0, 1.0, 20_001)[:, None]
    best = pool[gp.sample_paths(20, around=pool[::1000])(pool).argmax(axis=0), 0]
    assert (np.abs(best - 0.4) < 0.1).all()
    assert np.unique(best).size > 1


def test_hashed_numbers_are_normal_and_independent():
    rows = np.arange(20_000.0)[:, None]
    draws = normals_of(rows, 7, 3)
    for column in draws.T:
        assert kstest(column, "norm").pvalue > 1e-4
    other = normals_of(rows, 8, 1)
    shifted = np.roll(draws[:, :1], 1, axis=0)
    correlation = np.corrcoef(np.column_stack([draws, other, shifted]).T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5.0 / np.sqrt(20_000)
    text = np.array([["a", "bc"], ["ab", "c"]])
    first, second = normals_of(text, 7, 1)[:, 0]
    assert first != second
    np.testing.assert_array_equal(normals_of(-0.0 * rows[:1], 7, 1), normals_of(rows[:1], 7, 1))


def test_refusals():
    x, y, test = problem()
    matrix = np.asarray(KERNEL(x))
    with pytest.raises(InputError, match="precomputed matrix does not hold"):
        GPRegressor("precomputed", NOISE).fit(matrix, y).sample_paths()
    gp = GPRegressor(KERNEL, NOISE).fit(x, y)
    for settings in ({"n_samples": 0}, {"rank": 0}, {"random_state": "a"}, {"around": x[:, :2]}):
        with pytest.raises(InputError):
            gp.sample_paths(**settings)
    with pytest.raises(InputError, match="fitted to"):
        gp.sample_paths()(test[:, :2])
