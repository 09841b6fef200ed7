"""Conjugate gradients: against dense solves, on matrices on the edge, and what they report."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import positive_definite

from keras2gp.errors import InputError, NumericalError
from keras2gp.gp import ConjugateGradients, GPRegressor
from keras2gp.gp.solvers.conjugate_gradients import IndefiniteError, conjugate_gradients
from keras2gp.gp.solvers.preconditioner import Preconditioner, randomly_pivoted
from keras2gp.gp.solvers.products import TiledProduct, product_of


def no_preconditioner(r):
    return r


def solve(matrix, b, precondition=no_preconditioner, tolerance=1e-10, max_iterations=500, **more):
    return conjugate_gradients(
        lambda p: matrix @ p,
        b,
        precondition,
        tolerance=tolerance,
        max_iterations=max_iterations,
        **more,
    )


def spectrum(size, values, seed=0):
    vectors, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    matrix = (vectors * values) @ vectors.T
    return (matrix + matrix.T) / 2


def test_matches_a_dense_solve():
    matrix, b = positive_definite(60), np.random.default_rng(1).standard_normal((60, 4))
    b[:, 2] = 0.0
    found = solve(matrix, b)
    np.testing.assert_allclose(found.x, np.linalg.solve(matrix, b), atol=1e-8)
    np.testing.assert_array_equal(found.x[:, 2], 0.0)
    assert found.converged
    true = np.linalg.norm(b - matrix @ found.x, axis=0) / np.maximum(np.linalg.norm(b, axis=0), 1)
    assert found.residual == pytest.approx(true.max(), rel=1e-6)
    assert found.residual <= 1e-10
    assert found.curvature >= np.linalg.eigvalsh(matrix)[0]
    nothing = solve(matrix, np.zeros((60, 2)))
    assert (nothing.converged, nothing.iterations, nothing.residual) == (True, 0, 0.0)


def test_columns_do_not_disturb_each_other():
    matrix = spectrum(80, np.geomspace(1e-3, 1.0, 80))
    b = np.random.default_rng(2).standard_normal((80, 3))
    b[:, 1] = matrix @ (matrix @ b[:, 1])  # converges long before the others
    # So far that rounding, which is not the same for one column and for three, is of no account.
    together = solve(matrix, b, tolerance=1e-11)
    for column in range(3):
        alone = solve(matrix, b[:, column : column + 1], tolerance=1e-11)
        np.testing.assert_allclose(together.x[:, column], alone.x[:, 0], rtol=1e-4, atol=1e-6)


def test_as_many_iterations_as_distinct_eigenvalues():
    matrix = spectrum(50, np.repeat([0.5, 1.0, 2.0, 7.0, 9.0], 10))
    assert solve(matrix, np.ones((50, 1)), tolerance=1e-9).iterations <= 6


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1.0])
@pytest.mark.parametrize("rank", [5, 30, 90])
def test_preconditioner_is_the_inverse_that_it_says(noise, rank):
    matrix = spectrum(90, np.geomspace(1e-6, 1.0, 90))
    partial = randomly_pivoted(TiledProduct(matrix), rank, 1e-14, seed=0)
    r = np.random.default_rng(3).standard_normal((90, 2))
    factor, shift = partial.factor, noise + partial.residual.mean()
    shift = max(shift, 1e-10 * np.diagonal(matrix).mean())
    dense = factor @ factor.T + shift * np.eye(90)
    found = Preconditioner(partial, noise).apply(r)
    np.testing.assert_allclose(dense @ found, r, atol=1e-8)


def test_preconditioner_saves_iterations_without_noise():
    points = np.random.default_rng(4).standard_normal((300, 2))
    squares = ((points[:, None] - points[None]) ** 2).sum(-1)
    matrix = np.exp(-np.sqrt(squares))
    partial = randomly_pivoted(TiledProduct(matrix), 100, 1e-14, seed=0)
    b = np.random.default_rng(5).standard_normal((300, 2))
    plain = solve(matrix, b, tolerance=1e-6)
    helped = solve(matrix, b, Preconditioner(partial, 0.0).apply, tolerance=1e-6)
    assert helped.converged
    assert plain.converged
    assert helped.iterations < plain.iterations / 3


def test_the_true_residual_decides():
    # A product that is wrong in its seventh digit: the recurrence believes in more than there is.
    matrix = spectrum(60, np.geomspace(1e-4, 1.0, 60))
    random = np.random.default_rng(6)

    def careless(p):
        return matrix @ p * (1.0 + 1e-7 * random.standard_normal(p.shape))

    b = random.standard_normal((60, 1))
    found = conjugate_gradients(
        careless, b, no_preconditioner, tolerance=1e-12, max_iterations=2000
    )
    assert not found.converged
    assert 1e-12 < found.residual < 1e-2
    assert np.linalg.norm(b - matrix @ found.x) / np.linalg.norm(b) == pytest.approx(
        found.residual, rel=0.9
    )


@pytest.mark.parametrize("value", [-1.0, 0.0])
def test_what_is_not_positive_definite_is_found(value):
    matrix = spectrum(20, np.array([value] + [1.0] * 19))
    with pytest.raises(IndefiniteError, match="not positive definite") as caught:
        solve(matrix, np.random.default_rng(0).standard_normal((20, 2)), tolerance=1e-14)
    assert caught.value.curvature <= 1e-12


def hard(size=200):
    return spectrum(size, np.geomspace(1e-9, 1.0, size))


def test_what_does_not_converge_says_what_was_reached():
    options = ConjugateGradients(tolerance=1e-10, rank=10, max_iterations=5)
    targets = np.random.default_rng(0).standard_normal((200, 2))
    with pytest.raises(NumericalError, match=r"residual .* after 5 iterations, tolerance 1e-10"):
        GPRegressor("precomputed", 0.0, jitter=0.0, solver=options).fit(hard(), targets)
    with pytest.raises(NumericalError, match=r"jitter 0: .*jitter 0.0001: relative residual"):
        GPRegressor("precomputed", 0.0, solver=options).fit(hard(), targets)
    ours = GPRegressor("precomputed", 0.1, solver=ConjugateGradients(tolerance=1e-3, rank=10))
    ours.fit(hard(), targets)
    assert ours.solver_report_.residual <= 1e-3
    assert ours.solver_report_.rank == 10
    ours.system_._settings = options
    with pytest.raises(NumericalError, match="a larger tolerance or rank"):
        ours.predict(hard()[:3], return_std=True, diag=np.ones(3))


def test_rank_above_n_and_duplicate_columns():
    matrix = np.ones((30, 30)) + np.diag(np.repeat([0.0, 1.0], 15))
    ours = GPRegressor("precomputed", 0.5, solver=ConjugateGradients(tolerance=1e-10, rank=999))
    ours.fit(matrix, np.arange(30.0))
    expected = np.linalg.solve(matrix + 0.5 * np.eye(30), np.arange(30.0))
    np.testing.assert_allclose(ours.alpha_[:, 0], expected, atol=1e-7)
    assert ours.solver_report_.rank == 16


@pytest.mark.parametrize("chunks", [(1, 1), (7, 3), (64, 64), (700, 700)])
def test_products_with_a_store(chunks):
    matrix = positive_definite(530)

    class Store:
        shape = matrix.shape

        def __getitem__(self, key):
            rows, columns = (range(530)[k] for k in key)
            assert columns.start >= rows.start, "one triangle is read"
            return matrix[key].astype(np.float32)

    store = Store()
    store.chunks = chunks
    ours = product_of(store)
    exact = matrix.astype(np.float32).astype(np.float64)
    b = np.random.default_rng(0).standard_normal((530, 3))
    np.testing.assert_allclose(ours.product(b), exact @ b, rtol=1e-9, atol=1e-9)
    wanted = [529, 0, 17, 17, 300]
    np.testing.assert_array_equal(ours.columns(wanted), exact[:, wanted])
    np.testing.assert_array_equal(ours.corner(wanted), exact[np.ix_(wanted, wanted)])
    np.testing.assert_array_equal(ours.diagonal(), np.diagonal(exact))
    assert ours.dtype == np.float32
    assert product_of(ours) is ours


def test_entries_that_are_not_finite_are_refused():
    class Store:
        shape = (20, 20)

        def __getitem__(self, key):
            matrix = np.eye(20)
            matrix[3, 8] = np.nan
            return matrix[key]

    with pytest.raises(InputError, match=r"entry \[3, 8\]"):
        GPRegressor("precomputed", solver="cg").fit(None, np.ones(20), gram=Store())
