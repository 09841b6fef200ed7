"""Partial Cholesky with random pivots, and inducing inputs against the equations of FITC."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from scipy.stats import multivariate_normal

from keras2gp.errors import InputError, NumericalError
from keras2gp.gp import GPRegressor, Nystroem
from keras2gp.gp.solvers.preconditioner import partial_cholesky, randomly_pivoted
from keras2gp.gp.solvers.products import TiledProduct

KERNEL = ImageKernel(3.0)


def low_rank(size=200, seed=0):
    points = np.random.default_rng(seed).standard_normal((size, 2))
    return np.exp(-((points[:, None] - points[None]) ** 2).sum(-1) / 2)


@pytest.mark.parametrize("rank", [1, 10, 60, 150])
def test_partial_cholesky_is_exact_at_the_pivots(rank):
    matrix = low_rank() + 1e-6 * np.eye(200)
    partial = randomly_pivoted(TiledProduct(matrix), rank, 1e-14, seed=1)
    chosen, factor = list(partial.pivots), partial.factor
    assert partial.rank == rank == len(set(chosen)) == factor.shape[1]
    product = factor @ factor.T
    np.testing.assert_allclose(product[chosen], matrix[chosen], atol=1e-12)
    inverse = np.linalg.solve(matrix[np.ix_(chosen, chosen)], matrix[chosen])
    np.testing.assert_allclose(product, matrix[:, chosen] @ inverse, atol=1e-9)
    np.testing.assert_array_equal(np.triu(factor[chosen], 1), 0.0)
    left = np.diagonal(matrix - product)
    np.testing.assert_allclose(partial.residual, np.maximum(left, 0.0), atol=1e-12)
    # Theorem 2.3 of Chen et al. bounds the mean; this is one draw, and within twice the bound.
    if rank >= 60:
        best = np.sort(np.linalg.eigvalsh(matrix))[: 200 - rank // 3].sum()
        assert partial.residual.sum() < 2.0 * best


def test_pivots_follow_the_diagonal():
    # Of a diagonal matrix the first pivot is i with probability K_ii / tr K: 0.9 for one of four.
    diagonal = np.diag([0.02, 0.9, 0.04, 0.04])
    first = [randomly_pivoted(TiledProduct(diagonal), 1, 1e-14, s).pivots[0] for s in range(400)]
    share = np.mean(np.array(first) == 1)
    assert abs(share - 0.9) < 5 * np.sqrt(0.9 * 0.1 / 400)


def test_thinned_proposals_are_distributed_as_one_after_the_other():
    matrix = low_rank(4, seed=3) + np.diag([0.0, 0.5, 0.1, 0.0])
    counts = np.zeros((4, 4))
    draws = 3000
    for seed in range(draws):
        counts[randomly_pivoted(TiledProduct(matrix), 2, 1e-14, seed).pivots] += 1
    left = np.diagonal(matrix)
    expected = np.zeros((4, 4))
    for i in range(4):
        after = left - matrix[:, i] ** 2 / matrix[i, i]
        after[i] = 0.0
        expected[i] = left[i] / left.sum() * after / after.sum()
    deviation = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(counts / draws - expected) <= 4.5 * deviation + 1e-12).all()


def test_it_ends_where_nothing_is_left():
    points = np.random.default_rng(0).standard_normal((50, 3))
    partial = randomly_pivoted(TiledProduct(points @ points.T), 40, 1e-12, seed=0)
    assert partial.rank == 3
    np.testing.assert_array_equal(partial.residual < 1e-12, True)
    assert randomly_pivoted(TiledProduct(np.zeros((5, 5))), 3, 1e-12, seed=0).rank == 0
    given = partial_cholesky(TiledProduct(low_rank()), [3, 3, 150, 7, 3], 1e-10)
    assert given.pivots == (3, 150, 7)


def dense_fitc(x, y, test, chosen, noise, floor=0.0):
    """Quinonero-Candela and Rasmussen 2005, equations 24 and 20, with dense matrices."""
    whole = np.asarray(KERNEL(np.concatenate([x, test])))
    count = len(x)
    basis = list(chosen)
    inverse = np.linalg.inv(whole[np.ix_(basis, basis)])
    low = whole[:, basis] @ inverse @ whole[basis]
    conditional = np.diagonal(whole - low)[:count] + noise
    covariance = low[:count, :count] + np.diag(np.maximum(conditional, floor))
    solved = np.linalg.solve(covariance, np.column_stack([y, low[:count, count:]]))
    mean = low[count:, :count] @ solved[:, : y.shape[1]]
    posterior = whole[count:, count:] - low[count:, :count] @ solved[:, y.shape[1] :]
    evidence = sum(multivariate_normal(cov=covariance).logpdf(column) for column in y.T)
    inverse = np.linalg.inv(covariance)
    loo = y - (inverse @ y) / np.diagonal(inverse)[:, None]
    return mean, posterior, evidence, loo, 1.0 / np.diagonal(inverse)


@pytest.mark.parametrize("noise", [0.3, 0.01, 0.0])
@pytest.mark.parametrize("inducing", [None, (5, 80, 33, 2, 41, 7, 19)])
def test_matches_the_dense_equations(noise, inducing):
    x, test = images(90), images(12, seed=4)
    y = np.random.default_rng(0).standard_normal((90, 2))
    solver = Nystroem(rank=30) if inducing is None else Nystroem(inducing=inducing)
    ours = GPRegressor(KERNEL, noise, solver=solver).fit(x, y)
    if inducing is not None:
        assert tuple(ours.inducing_) == inducing
    floor = 1e-6 * KERNEL.variance
    expected = dense_fitc(x, y, test, ours.inducing_, noise, floor)
    mean, covariance = ours.predict(test, return_cov=True)
    loose = {"rtol": 1e-5, "atol": 1e-6} if noise == 0.0 else {"rtol": 1e-8, "atol": 1e-9}
    np.testing.assert_allclose(mean, expected[0], **loose)
    np.testing.assert_allclose(covariance[..., 0], expected[1], **loose)
    np.testing.assert_allclose(
        ours.predict(test, return_std=True)[1][:, 0] ** 2, np.diagonal(expected[1]), **loose
    )
    assert ours.log_marginal_likelihood() == pytest.approx(expected[2], rel=1e-8)
    loo, variance = ours.leave_one_out()
    np.testing.assert_allclose(loo, expected[3], **loose)
    np.testing.assert_allclose(variance[:, 0], expected[4], **loose)
    assert ours.jitter_report_.jitter == (1e-6 if noise == 0.0 else 0.0)
    np.testing.assert_array_equal(ours.predict(test), ours.predict(test.reshape(12, 3, 3, 1)))
    np.testing.assert_allclose(
        ours.predict(test), np.asarray(KERNEL(test, ours.basis_)) @ ours.weights_
    )


def test_variances_are_between_those_of_the_inducing_inputs_and_the_prior():
    x, test = images(90), images(40, seed=4)
    ours = GPRegressor(KERNEL, 0.0, solver=Nystroem(rank=20)).fit(x, np.ones(90))
    alone = GPRegressor(KERNEL, 0.0, solver="cholesky").fit(x[ours.inducing_], np.ones(20))
    variance = ours.predict(test, return_std=True)[1] ** 2
    assert (variance <= KERNEL.variance).all()
    assert (variance >= alone.predict(test, return_std=True)[1] ** 2 - 1e-9).all()


def test_only_the_columns_are_computed():
    pairs = 0

    class Counted(ImageKernel):
        def __call__(self, x1, x2=None):
            nonlocal pairs
            pairs += len(x1) * len(x1 if x2 is None else x2)
            return super().__call__(x1, x2)

    GPRegressor(Counted(3.0), 0.1, solver=Nystroem(rank=20)).fit(images(1000), np.ones(1000))
    assert pairs <= 1000 * 20 + 3 * 20 * 20


def test_refusals():
    x, y = images(30), np.ones(30)
    with pytest.raises(InputError, match="row 30, and there are 30"):
        GPRegressor(KERNEL, 0.0, solver=Nystroem(inducing=(1, 30))).fit(x, y)
    with pytest.raises(NumericalError, match="no conditional variance"):
        GPRegressor(KERNEL, 0.0, jitter=0.0, solver=Nystroem(rank=10)).fit(x, y)
    fixed = GPRegressor(KERNEL, 0.0, jitter=1e-3, solver=Nystroem(rank=10)).fit(x, y)
    assert fixed.jitter_report_.jitter == 1e-3
    with pytest.raises(NumericalError, match="zero on all"):
        GPRegressor("precomputed", 0.1, solver="nystroem").fit(np.zeros((3, 3)), np.ones(3))


class Contradiction(ImageKernel):
    """Entries that do not agree with the diagonal."""

    def __init__(self, factor):
        super().__init__(2.0)
        self.factor = factor

    def __call__(self, x1, x2=None):
        return self.factor * np.asarray(super().__call__(x1, x2))


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_entries_that_do_not_agree_with_the_diagonal(factor):
    with pytest.raises(NumericalError, match="do not agree with its diagonal"):
        GPRegressor(Contradiction(factor), 0.1, solver="nystroem").fit(images(24), np.ones(24))


def test_entries_less_precise_than_their_type_end_the_choice_of_pivots():
    """The last residuals are rounding: no row is proposed for ever."""
    matrix = np.asarray(ImageKernel(50.0)(images(60)))
    rounded = matrix + 1e-5 * np.random.default_rng(0).standard_normal(matrix.shape)
    source = TiledProduct((rounded + rounded.T) / 2.0)
    assert randomly_pivoted(source, 60, 1e-12, seed=0).rank <= 60
