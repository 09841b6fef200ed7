"""The projected process, whose covariances are read in passes, against its dense equations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import multivariate_normal

from keras2gp._util import memory
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp import GPClassifier, GPRegressor, ProjectedProcess, fit_temperature
from keras2gp.gp.solvers import matrices, training
from keras2gp.gp.solvers.choice import solver_from_dict, solver_to_dict

KERNEL = ImageKernel(3.0)
COUNT = 150


class Rows:
    """Covariances with the inducing inputs as a store: read by slices alone."""

    chunks = (16, 16)
    symmetric = False

    def __init__(self, entries):
        self.entries, self.shape, self.largest = entries, entries.shape, 0

    def __getitem__(self, key):
        block = self.entries[key]
        self.largest = max(self.largest, block.shape[0])
        return block.copy()


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(matrices, "_TILE", 32)
    monkeypatch.setattr(training, "SLAB", 64)


def problem():
    random = np.random.default_rng(5)
    return images(COUNT), random.standard_normal((COUNT, 2)), images(12, seed=4)


def dense(x, y, test, chosen, noise):
    """Quinonero-Candela and Rasmussen 2005, equations 19 and 20, with dense matrices."""
    whole = np.asarray(KERNEL(np.concatenate([x, test])))
    basis, count = list(chosen), len(x)
    low = whole[:, basis] @ np.linalg.solve(whole[np.ix_(basis, basis)], whole[basis])
    covariance = low[:count, :count] + noise * np.eye(count)
    mean = low[count:, :count] @ np.linalg.solve(covariance, y)
    # The weights' posterior in the basis of the M covariances, and what they do not explain.
    cross, basic = whole[:count, basis], whole[np.ix_(basis, basis)]
    ahead = whole[count:, basis]
    posterior = noise * ahead @ np.linalg.solve(noise * basic + cross.T @ cross, ahead.T)
    posterior += whole[count:, count:] - low[count:, count:]
    evidence = sum(multivariate_normal(cov=covariance).logpdf(column) for column in y.T)
    inverse = np.linalg.inv(covariance)
    loo = y - (inverse @ y) / np.diagonal(inverse)[:, None]
    return mean, posterior, evidence, loo, 1.0 / np.diagonal(inverse)


@pytest.mark.parametrize("noise", [0.3, 0.01])
@pytest.mark.parametrize("inducing", [None, (5, 80, 33, 2, 41, 7, 149)])
@pytest.mark.parametrize("given", ["kernel", "array", "store", "square"])
def test_matches_the_dense_equations(noise, inducing, given):
    x, y, test = problem()
    solver = ProjectedProcess(rank=30) if inducing is None else ProjectedProcess(inducing=inducing)
    rows = solver.rows(COUNT)
    block = np.asarray(KERNEL(x, x[rows]))
    stored = Rows(block)
    gram = {"kernel": None, "array": block, "store": stored, "square": np.asarray(KERNEL(x))}[given]
    ours = GPRegressor(KERNEL, noise, solver=solver).fit(x, y, gram=gram)
    np.testing.assert_array_equal(ours.inducing_, rows)
    mean, covariance = ours.predict(test, return_cov=True)
    expected = dense(x, y, test, rows, noise)
    near = {"rtol": 1e-8, "atol": 1e-9}
    np.testing.assert_allclose(mean, expected[0], **near)
    np.testing.assert_allclose(covariance[..., 0], expected[1], **near)
    std = ours.predict(test, return_std=True)[1]
    np.testing.assert_allclose(std[:, 0] ** 2, np.diagonal(expected[1]), **near)
    assert ours.log_marginal_likelihood() == pytest.approx(expected[2], rel=1e-9)
    left_out, spread = ours.leave_one_out()
    np.testing.assert_allclose(left_out, expected[3], **near)
    np.testing.assert_allclose(spread[:, 1], expected[4], **near)
    assert stored.largest <= 32
    report = ours.solver_report_
    assert (report.solver, report.rank) == ("projected", len(rows))


def test_the_noise_of_the_largest_evidence():
    x, y, _ = problem()
    y = y[:, :1] * 0.3 + np.sin(x.reshape(COUNT, -1).sum(1) / 3.0)[:, None]
    ours = GPRegressor(KERNEL, solver=ProjectedProcess(rank=25)).fit(x, y)
    columns = ours.targets_
    rows = list(ours.inducing_)
    whole = np.asarray(KERNEL(x))
    low = whole[:, rows] @ np.linalg.solve(whole[np.ix_(rows, rows)], whole[rows])

    def evidence(noise):
        covariance = low + noise * np.eye(COUNT)
        factor = columns[:, 0] @ np.linalg.solve(covariance, columns[:, 0]) / COUNT
        return multivariate_normal(cov=factor * covariance).logpdf(columns[:, 0])

    curve = ours.noise_curve_
    for noise, value in zip(curve.candidates, curve.values, strict=True):
        assert value == pytest.approx(evidence(noise), rel=1e-6)
    best = minimize_scalar(lambda log: -evidence(np.exp(log)), bounds=(-8.0, 3.0), method="bounded")
    assert curve.chosen == pytest.approx(np.exp(best.x), rel=0.02)
    assert ours.log_marginal_likelihood() == pytest.approx(evidence(curve.chosen), rel=1e-8)
    assert curve.rows == COUNT
    assert "under the projected process" in curve.reason


def test_the_noise_of_the_most_probable_labels():
    x, _, test = problem()
    labels = (x.reshape(COUNT, -1).sum(1) + np.random.default_rng(0).normal(size=COUNT) > 0) + 0
    ours = GPClassifier(KERNEL, solver=ProjectedProcess(rank=25), intercept=0).fit(x, labels)
    rows, targets, curve = list(ours.inducing_), ours.targets_, ours.noise_curve_
    whole = np.asarray(KERNEL(x))
    low = whole[:, rows] @ np.linalg.solve(whole[np.ix_(rows, rows)], whole[rows])
    for noise, value in zip(curve.candidates, curve.values, strict=True):
        inverse = np.linalg.inv(low + noise * np.eye(COUNT))
        left_out = targets - (inverse @ targets) / np.diagonal(inverse)[:, None]
        temperature = fit_temperature(left_out, labels)
        likelihood = log_softmax(left_out / temperature, axis=1)[np.arange(COUNT), labels].sum()
        # Predictions are kept in float32; the smallest noises lose digits in this inverse.
        assert value == pytest.approx(likelihood, rel=1e-3)
    step = curve.candidates[1] / curve.candidates[0]
    best = curve.candidates[int(np.argmax(curve.values))]
    assert best / step < curve.chosen < best * step
    assert ours.predict_proba(test).shape == (12, 2)


def test_jitter_and_what_cannot_be():
    x, y, test = problem()
    solver = ProjectedProcess(rank=10)
    bare = GPRegressor(KERNEL, 0.0, solver=solver).fit(x, y)
    assert bare.jitter_report_.added == pytest.approx(1e-6 * KERNEL.variance)
    fixed = GPRegressor(KERNEL, 0.0, jitter=0.05, solver=solver).fit(x, y)
    noisy = GPRegressor(KERNEL, 0.1, solver=solver).fit(x, y)
    np.testing.assert_allclose(fixed.predict(test), noisy.predict(test), rtol=1e-9)
    for case, error, text in [
        (
            lambda: GPRegressor(KERNEL, 0.0, jitter=0.0, solver=solver).fit(x, y),
            NumericalError,
            "no noise and no jitter",
        ),
        (
            lambda: GPRegressor(KERNEL, 0.1, solver=ProjectedProcess(inducing=(1, 150))).fit(x, y),
            InputError,
            "row 150, and there are 150",
        ),
        (
            lambda: GPRegressor("precomputed", 0.1, solver=solver).fit(
                np.zeros((3, 3)), np.ones(3)
            ),
            NumericalError,
            "zero on all",
        ),
        (lambda: ProjectedProcess(inducing=(3, 3)), InputError, "none twice"),
        (lambda: ProjectedProcess(rank=0), InputError, "rank"),
        (lambda: ProjectedProcess(inducing="ab"), InputError, "inducing"),
    ]:
        with pytest.raises(error, match=text):
            case()


def test_covariances_of_something_else_are_refused():
    x, y, _ = problem()
    solver = ProjectedProcess(rank=10)
    block = np.asarray(KERNEL(x, x[solver.rows(COUNT)]))
    gp = GPRegressor(KERNEL, 0.1, solver=solver)
    for gram, text in [
        (block[:, ::-1], "inducing inputs: entries of rows"),
        (block[:, :9], "10 inducing ones of 150 inputs"),
        (block[1:], "of 150 inputs"),
        (np.where(np.arange(COUNT)[:, None] == 70, np.nan, block), "not finite"),
    ]:
        with pytest.raises(InputError, match=text):
            gp.fit(x, y, gram=gram)
    broken = block.copy()
    broken[70, 3] = np.inf
    with pytest.raises(InputError, match=r"entry \[70, 3\]"):
        gp.fit(x, y, gram=Rows(broken))
    with pytest.raises(InputError, match="two sets of inputs"):
        GPRegressor(KERNEL, 0.1).fit(x, y, gram=block)
    with pytest.raises(InputError, match="takes the square matrix"):
        GPRegressor("precomputed", 0.1, solver=solver).fit(None, y, gram=block)


def test_repeated_inducing_inputs_are_taken_once():
    x, y, test = problem()
    x = np.concatenate([x, x[:5]])
    y = np.concatenate([y, y[:5] + 1.0])
    rows = (3, 20, 153, 60)
    ours = GPRegressor(KERNEL, 0.1, solver=ProjectedProcess(inducing=rows)).fit(x, y)
    np.testing.assert_array_equal(ours.inducing_, [3, 20, 60])
    expected = dense(x, y, test, [3, 20, 60], 0.1)
    np.testing.assert_allclose(ours.predict(test), expected[0], rtol=1e-8)


def test_memory_is_stated_and_compared(monkeypatch):
    x, y, _ = problem()
    solver = ProjectedProcess(rank=20)
    whole = training.Training(KERNEL, x, None)
    block = Rows(np.asarray(KERNEL(x, x[solver.rows(COUNT)])))
    stored = training.Training(KERNEL, x, None, rectangle=block)
    assert solver.memory(whole, 2) - solver.memory(stored, 2) == 8 * 20 * (COUNT + 64)
    many = training.Training(KERNEL, np.zeros((100_000, 1)), None)
    lean = training.Training(KERNEL, many.x, None, rectangle=Rows(np.empty((100_000, 0))))
    assert ProjectedProcess(rank=2000).memory(lean, 10) < 2.5e8
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: solver.memory(stored, 2))
    gp = GPRegressor(KERNEL, 0.1, solver=solver)
    gp.fit(x, y, gram=block)
    with pytest.raises(InputError, match=r"20 inducing ones needs .* gram=keras2gp"):
        gp.fit(x, y)


def test_progress_and_settings():
    x, y, _ = problem()
    seen = []
    labels = (y[:, 0] > 0) + 0
    for gp, targets in (
        (GPRegressor(KERNEL, 0.1, solver=ProjectedProcess(rank=9)), y),
        (GPRegressor(KERNEL, solver=ProjectedProcess(rank=9)), y),
        (GPClassifier(KERNEL, solver=ProjectedProcess(rank=9)), labels),
    ):
        seen.clear()
        gp.fit(x, targets, progress=lambda done, total: seen.append((done, total)))
        assert [done for done, _ in seen] == list(range(1, 1 + seen[-1][1]))
    for solver in (ProjectedProcess(inducing=[3, 1]), ProjectedProcess(rank=3, seed=2)):
        assert solver_from_dict(json.loads(json.dumps(solver_to_dict(solver)))) == solver
