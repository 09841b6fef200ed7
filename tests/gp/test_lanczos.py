"""The estimated determinant: against the exact one, within the error that it states."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import ImageKernel

from keras2gp.errors import InputError, NumericalError
from keras2gp.gp import ConjugateGradients, GPClassifier, GPRegressor, load_head, save_head
from keras2gp.gp.solvers.lanczos import log_determinant
from keras2gp.gp.solvers.preconditioner import Preconditioner, randomly_pivoted
from keras2gp.gp.solvers.products import TiledProduct

KERNEL = ImageKernel(3.0)


def exponential(size, dimensions=3):
    points = np.random.default_rng(4).standard_normal((size, dimensions))
    squares = ((points[:, None] - points[None]) ** 2).sum(-1)
    return np.exp(-np.sqrt(squares))


def preconditioner(matrix, rank, added):
    partial = randomly_pivoted(TiledProduct(matrix), rank, 1e-14, seed=0)
    return Preconditioner(partial, added)


def estimate(matrix, rank, added=0.0, *, probes=16, seed=0, max_steps=400):
    return log_determinant(
        lambda p: matrix @ p + added * p,
        preconditioner(matrix, rank, added),
        len(matrix),
        probes=probes,
        max_steps=max_steps,
        seed=seed,
    )


@pytest.mark.parametrize(("rank", "added"), [(0, 0.1), (30, 0.1), (30, 0.0), (120, 1e-3)])
def test_the_stated_error_is_honest(rank, added):
    """Sixty estimates: unbiased, and off by what they say (E z^2 is 15/13 of 16 probes)."""
    matrix = exponential(250)
    exact = np.linalg.slogdet(matrix + added * np.eye(250))[1]
    found = [estimate(matrix, rank, added, seed=seed) for seed in range(60)]
    z = np.array([(one.value - exact) / one.error for one in found])
    assert abs(z.mean()) < 4.0 * (15 / 13 / 60) ** 0.5
    assert 0.6 < (z**2).mean() < 1.9
    assert np.abs(z).max() < 5.0


def test_a_better_preconditioner_leaves_less_error():
    errors = [estimate(exponential(250), rank, 0.01).error for rank in (0, 25, 100, 250)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < errors[0] / 4
    assert errors[3] < 1e-6


def test_few_distinct_eigenvalues_are_exact():
    for values in ([3.0], [0.5, 7.0]):
        diagonal = np.repeat(values, 30)
        found = estimate(np.diag(diagonal), 0)
        # Random signs have the trace of a diagonal matrix exactly.
        assert found.value == pytest.approx(np.log(diagonal).sum(), rel=1e-12)
        assert found.error < 1e-10
        assert found.steps <= len(values)
    assert estimate(np.full((1, 1), 2.5), 0).value == pytest.approx(np.log(2.5))


def test_seeds():
    matrix = exponential(80)
    assert estimate(matrix, 10, 0.1, seed=3) == estimate(matrix, 10, 0.1, seed=3)
    assert estimate(matrix, 10, 0.1, seed=3).value != estimate(matrix, 10, 0.1, seed=4).value


def test_what_has_no_determinant():
    matrix = exponential(60) - 0.3 * np.eye(60)
    with pytest.raises(NumericalError, match=r"Ritz value -.* no log determinant"):
        log_determinant(
            lambda p: matrix @ p,
            preconditioner(exponential(60), 0, 0.0),
            60,
            probes=4,
            max_steps=60,
            seed=0,
        )
    with pytest.raises(NumericalError, match="after 3 Lanczos steps"):
        estimate(exponential(250), 0, 1e-4, max_steps=3)
    for wrong in (-1, 1):
        with pytest.raises(InputError, match="probes"):
            ConjugateGradients(probes=wrong)


@pytest.mark.parametrize("kind", [GPRegressor, GPClassifier])
def test_log_marginal_likelihood(rng, tmp_path, kind):
    x = rng.normal(size=(150, 5))
    y = np.sign(x[:, 0] * x[:, 1]).astype(int) + (x[:, 2] > 1)
    solver = ConjugateGradients(rank=60, probes=12)
    settings = {"intercept": 0} if kind is GPClassifier else {}
    ours = kind(KERNEL, 0.1, solver=solver, **settings).fit(x, y)
    exact = kind(KERNEL, 0.1, solver="cholesky", **settings).fit(x, y)
    report = ours.solver_report_
    gap = ours.log_marginal_likelihood() - exact.log_marginal_likelihood()
    assert 0.0 < abs(gap) < 4.0 * report.evidence_error
    # All of the error is the determinant's, which the outputs share.
    outputs = ours.targets_.shape[1]
    fitted = GPRegressor(KERNEL, 0.1, solver=solver).fit(x, np.zeros(150))
    assert report.evidence_error == pytest.approx(
        outputs * fitted.solver_report_.evidence_error, rel=1e-9
    )
    assert exact.solver_report_.evidence_error is None
    other = kind(KERNEL, 0.3, solver=solver, **settings).fit(x, y)
    assert ours.log_marginal_likelihood(0.3) == pytest.approx(
        other.log_marginal_likelihood_value_, rel=1e-12
    )
    save_head(ours, tmp_path)
    after = load_head(tmp_path, KERNEL)
    assert after.log_marginal_likelihood() == ours.log_marginal_likelihood()
    assert after.solver_report_ == report
    assert after.solver == solver
