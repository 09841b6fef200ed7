"""The float32 factor with refined solves beside numpy in float64, and when it gives way."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import ImageKernel, images

from keras2gp._util import memory
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp import (
    Cholesky,
    ConjugateGradients,
    GPClassifier,
    GPRegressor,
    JitterWarning,
    MixedPrecision,
    load_head,
    save_head,
)
from keras2gp.gp.solvers import choice
from keras2gp.gp.solvers.mixed_system import MixedSystem
from keras2gp.gp.solvers.products import LowerTriangle
from keras2gp.gp.solvers.refinement import refine
from keras2gp.gp.solvers.single import SingleFactor, factorize_single
from keras2gp.gp.solvers.system import Origin
from keras2gp.gp.solvers.training import Training

COUNT = 600
DTYPES = [np.float32, np.float64]


def matrix_of(condition, count=COUNT, dtype=np.float64, seed=0):
    """Eigenvalues from 1 down to 1 / condition, and a mean diagonal of 1."""
    random = np.random.default_rng(seed)
    q = np.linalg.qr(random.standard_normal((count, count)))[0]
    matrix = (q * np.geomspace(1.0, 1.0 / condition, count)) @ q.T
    matrix = (matrix + matrix.T) / 2.0
    return (matrix / np.diagonal(matrix).mean()).astype(dtype)


def targets_of(count=COUNT, outputs=3):
    return np.random.default_rng(1).standard_normal((count, outputs))


def fitted(matrix, solver, noise=0.0):
    return GPRegressor("precomputed", noise, solver=solver).fit(matrix, targets_of(len(matrix)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("condition", [1e2, 1e4, 1e5, 1e6])
def test_agrees_with_numpy(condition, dtype):
    matrix = matrix_of(condition, dtype=dtype)
    inverse = np.linalg.inv(matrix.astype(np.float64))
    ours = fitted(matrix, "mixed")
    report = ours.solver_report_
    assert (report.solver, report.reason) == ("mixed", "asked for")
    assert report.residual <= 1e-10
    assert report.iterations <= 8
    expected = inverse @ targets_of()
    assert np.abs(ours.alpha_ - expected).max() < 1e-9 * np.abs(expected).max()
    cross = matrix[::7].astype(np.float64) * np.linspace(0.9, 1.0, COUNT)
    explained = np.einsum("mn,nk,mk->m", cross, inverse, cross)
    # Of float32 entries as exact as the entries are, of float64 ones as Cholesky in float64.
    close = 1e-5 if dtype is np.float32 else 1e-15 * condition + 1e-10
    np.testing.assert_allclose(ours.system_.explained(cross), explained, rtol=close)
    np.testing.assert_allclose(ours.system_.explained(cross[:5]), explained[:5], rtol=close)
    whole = ours.system_.explained_covariance(cross)
    np.testing.assert_allclose(np.diagonal(whole), explained, rtol=close)
    np.testing.assert_allclose(whole, cross @ inverse @ cross.T, atol=close * explained.max())
    mean, variance = ours.leave_one_out()
    np.testing.assert_allclose(variance[:, 0], 1.0 / np.diagonal(inverse), rtol=1e-3)
    gap = expected / np.diagonal(inverse)[:, None]
    assert np.abs(mean - (targets_of() - gap)).max() < 1e-3 * np.abs(gap).max()
    exact = fitted(matrix, "cholesky")
    error = report.evidence_error
    assert abs(ours.log_marginal_likelihood() - exact.log_marginal_likelihood()) < 5.0 * error
    assert error < 1e-3 * COUNT


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("condition", [1e7, 1e8, 1e9])
def test_gives_way_to_float64(condition, dtype):
    matrix = matrix_of(condition, dtype=dtype)
    if dtype is np.float32 and condition == 1e9:  # rounding makes it indefinite
        with pytest.warns(JitterWarning):
            ours, exact = fitted(matrix, "mixed"), fitted(matrix, "cholesky")
    else:
        ours, exact = fitted(matrix, "mixed"), fitted(matrix, "cholesky")
    np.testing.assert_array_equal(ours.alpha_, exact.alpha_)
    assert ours.jitter_report_.steps == exact.jitter_report_.steps
    report = ours.solver_report_
    assert report.solver == "cholesky"
    assert report.reason.startswith("float32 is not enough: ")
    assert report.evidence_error is None
    np.testing.assert_array_equal(ours.leave_one_out()[1], exact.leave_one_out()[1])


def test_gives_way_to_conjugate_gradients_without_memory_for_a_factor(monkeypatch):
    twice = np.r_[0, 0:500]
    matrix = matrix_of(1e2, 500)[np.ix_(twice, twice)]
    needed = Cholesky().memory(Training("precomputed", None, matrix), 3)
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    monkeypatch.setattr(ConjugateGradients, "memory", lambda *_: 0)
    with pytest.warns(JitterWarning):
        ours = fitted(matrix, MixedPrecision())
    assert ours.solver_report_.solver == "cg"
    assert "a float64 factor needs" in ours.solver_report_.reason


def test_leave_one_out_gives_way(monkeypatch):
    matrix = matrix_of(1e6)
    exact = fitted(matrix, "cholesky").leave_one_out()[1]
    rough = fitted(matrix, MixedPrecision(accuracy=0.5)).leave_one_out()[1]
    assert 1e-4 < np.abs(rough / exact - 1.0).max() < 0.1
    fine = fitted(matrix, MixedPrecision(accuracy=1e-6))
    assert fine.solver_report_.solver == "mixed"
    np.testing.assert_allclose(fine.leave_one_out()[1], exact, rtol=1e-12)
    monkeypatch.setattr(memory, "available_memory", lambda: 2**22)
    np.testing.assert_allclose(fine.leave_one_out()[1], exact, rtol=1e-8)


def test_variances_give_way():
    matrix = matrix_of(1e4, 60)
    exact = fitted(matrix, "cholesky").system_
    system = fitted(matrix, "mixed").system_
    system._factor.panels.storage[:] *= 3.0  # refinement takes hundreds of steps
    np.testing.assert_array_equal(system.explained(matrix[:3]), exact.explained(matrix[:3]))
    np.testing.assert_array_equal(
        system.explained_covariance(matrix[:3]), exact.explained_covariance(matrix[:3])
    )
    every = np.arange(60)
    np.testing.assert_array_equal(system.inverse_diagonal(every), exact.inverse_diagonal(every))


def test_only_the_lower_triangle_counts():
    matrix = matrix_of(1e3, 300)
    upper = matrix + np.triu(np.full_like(matrix, 3e-6), 1)
    for solver in ("mixed", "cholesky"):
        one, other = fitted(matrix, solver), fitted(upper, solver)
        np.testing.assert_allclose(one.alpha_, other.alpha_, rtol=1e-9, atol=1e-9)
    vector = targets_of(300)
    np.testing.assert_allclose(LowerTriangle(upper).product(vector), matrix @ vector, atol=1e-12)
    np.testing.assert_array_equal(LowerTriangle(upper).corner(5), matrix[:5, :5])
    np.testing.assert_array_equal(LowerTriangle(upper).diagonal(), np.diagonal(matrix))


@pytest.mark.parametrize("unit", [1e-150, 1e-30, 1.0, 1e30, 1e150])
def test_any_unit(unit):
    matrix, y = matrix_of(1e3, 100), targets_of(100)
    ours = GPRegressor("precomputed", 0.0, solver="mixed").fit(unit * matrix, y * unit)
    assert ours.solver_report_.solver == "mixed"
    expected = np.linalg.solve(matrix, y)
    assert np.abs(ours.alpha_ - expected).max() < 1e-9 * np.abs(expected).max()
    loo = GPRegressor("precomputed", 0.0, solver="cholesky").fit(matrix, y).leave_one_out()[1]
    np.testing.assert_allclose(ours.leave_one_out()[1], unit * loo, rtol=1e-4)


def test_noise_jitter_and_zero_targets():
    matrix, y = matrix_of(1e9, 100), targets_of(100)
    y[:, 1] = 0.0
    ours = GPRegressor("precomputed", 0.1, jitter=0.01, solver="mixed").fit(matrix, y)
    assert ours.solver_report_.solver == "mixed"
    assert ours.jitter_report_.jitter == 0.01
    system = matrix + 0.11 * np.eye(100)
    expected = np.linalg.solve(system, y)
    residuals = np.linalg.norm(y - system @ ours.alpha_, axis=0)
    assert (residuals <= 1e-10 * np.linalg.norm(y, axis=0)).all()  # the solver's tolerance
    errors = np.linalg.norm(ours.alpha_ - expected, axis=0)
    assert (errors <= np.linalg.norm(np.linalg.inv(system), 2) * residuals + 1e-13).all()
    assert not ours.alpha_[:, 1].any()


def test_the_matrix_is_checked():
    for place, value in (((70, 3), np.nan), ((5, 5), np.inf)):
        wrong = matrix_of(1e3, 100)
        wrong[place] = value
        with pytest.raises(InputError, match=rf"entry \[{place[0]}, {place[1]}\].*is"):
            GPRegressor("precomputed", 0.0, solver="mixed").fit(
                None, targets_of(100), gram=Block(wrong)
            )
    wrong = matrix_of(1e3, 100)
    wrong[3, 90] += 0.1
    with pytest.raises(InputError, match="not symmetric"):
        GPRegressor("precomputed", 0.0, solver="mixed").fit(wrong, targets_of(100))


class Block:
    """A matrix that is read by blocks."""

    def __init__(self, matrix):
        self.matrix, self.shape = matrix, matrix.shape

    def __getitem__(self, key):
        return self.matrix[key].copy()


def test_the_classifier_and_its_temperature():
    kernel, x = ImageKernel(3.0), images(200)
    labels = np.random.default_rng(2).integers(0, 3, 200)
    how = {"probabilities": "temperature"}
    ours = GPClassifier(kernel, 0.05, solver="mixed", **how).fit(x, labels)
    peer = GPClassifier(kernel, 0.05, solver="cholesky", **how).fit(x, labels)
    test = images(40, seed=7)
    assert ours.temperature_ == pytest.approx(peer.temperature_, rel=1e-3)
    np.testing.assert_allclose(ours.posterior(test)[0], peer.posterior(test)[0], atol=1e-8)
    np.testing.assert_allclose(ours.posterior(test)[1], peer.posterior(test)[1], rtol=1e-4)
    with pytest.raises(InputError, match='solver="cholesky"'):
        GPClassifier(kernel, 0.05, solver="mixed", probabilities="dirichlet").fit(x, labels)


def test_damaged_files(tmp_path):
    kernel, x = ImageKernel(3.0), images(50)
    ours = GPRegressor(kernel, 0.05, solver="mixed").fit(x, np.arange(50.0))
    save_head(ours, tmp_path)
    again = load_head(tmp_path, kernel)
    np.testing.assert_array_equal(again.predict(x), ours.predict(x))
    np.testing.assert_array_equal(again.leave_one_out()[1], ours.leave_one_out()[1])
    state = again.system_.state()
    origin = Origin(Training(kernel, x, None), "mixed", 0.05)
    for facts in (
        *(state["unit.npy"][:2], [50.0, 1.0, -1.0, 0.1]),
        *([50.0, 1.0, np.nan, 0.1], [50.0, 1.0, 0.1, 1.0]),
    ):
        with pytest.raises(ModelFileError):
            MixedSystem.from_state({**state, "unit.npy": np.array(facts)}, origin)
    storage, facts = state["single.npy"], state["unit.npy"][:2]
    for panels, numbers in (
        (storage[:-1], facts),
        (storage.astype(np.float64), facts),
        (storage * np.float32(-1), facts),
        (storage * np.float32(np.nan), facts),
        (storage, facts[:1]),
        (storage, np.array([0.0, 1.0])),
        (storage, np.array([1e300, 1.0])),
        (storage, np.array([50.0, -1.0])),
        (storage, np.array([50.0, np.nan])),
    ):
        with pytest.raises(ModelFileError):
            SingleFactor.from_arrays(panels, numbers, 50)


def test_auto_takes_it_where_a_float64_factor_does_not_fit(monkeypatch):
    training = Training(ImageKernel(3.0), np.ones((2000, 3)), None)
    whole = training.bytes_to_compute
    factor, half = (s.memory(training, 10) for s in (Cholesky(), MixedPrecision()))
    assert half < 0.8 * factor
    for available, name in (
        (whole + factor, "cholesky"),
        (whole + factor - 1, "mixed"),
        (whole + half, "mixed"),
        (whole + half - 1, "cg"),
    ):
        monkeypatch.setattr(memory, "available_memory", lambda value=available: value)
        solver, reason = choice.chosen_solver("auto", training, 10)
        assert solver.name == name
        assert "MiB" in reason


def test_refinement_stops_where_the_approximation_is_too_rough():
    b = np.ones((4, 2))
    a = np.diag([1.0, 1.6, 1.0, 1.0])
    settings = {"tolerance": 1e-9, "max_iterations": 50}
    rough = refine(lambda p: a @ p, b, b.copy(), a @ b, lambda r: r, **settings)
    assert not rough.converged
    assert rough.rate > 0.25
    assert rough.iterations == 1
    exact = refine(lambda p: a @ p, b, b / np.diagonal(a)[:, None], b, lambda r: r, **settings)
    assert exact.converged
    assert exact.iterations == 1


def test_a_pivot_near_rounding_is_no_factor():
    matrix = np.eye(50)
    matrix[7, 7] = 1e-12
    matrix[7, 0] = matrix[0, 7] = 1e-6 * (1.0 - 1e-9)
    factor, smallest, index = factorize_single(matrix, np.diagonal(matrix), 0.0, None)
    assert factor is None
    assert index == 7
    assert smallest < 1e-15


@pytest.mark.parametrize(
    "settings",
    [{"tolerance": 0.0}, {"tolerance": "x"}, {"accuracy": 1.0}, {"max_iterations": 0}],
)
def test_settings_are_checked(settings):
    with pytest.raises(InputError, match="expected"):
        MixedPrecision(**settings)
