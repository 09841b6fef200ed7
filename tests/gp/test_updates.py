"""Rows that come and go, beside fits from scratch."""

from __future__ import annotations

import numpy as np
import pytest
from gp_kernels import ImageKernel, images
from sklearn.gaussian_process.kernels import RBF

from keras2gp.errors import InputError, NotFittedError, NumericalError
from keras2gp.gp import GPClassifier, GPRegressor, factorize, load_head, save_head
from keras2gp.gp.solvers.factor_updates import with_rows, without_rows

KERNEL = RBF(1.0)
RANDOM = np.random.default_rng(0)
X, TEST = RANDOM.uniform(-3.0, 3.0, (60, 2)), RANDOM.uniform(-3.0, 3.0, (9, 2))
Y = np.column_stack([np.sin(X[:, 0]), 5.0 + np.cos(X[:, 1])]) + 0.2 * RANDOM.standard_normal(
    (60, 2)
)
LABELS = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-1.0, 1.0])]
NOISES = np.exp(RANDOM.uniform(-3.0, 0.0, 60))
GONE = np.array([0, 7, 8, 30, 59])
KEPT = np.setdiff1d(np.arange(60), GONE)


def same(one, other):
    """Whether two regressions are one to ten digits."""
    for a, b in (
        (one.predict(TEST, return_std=True), other.predict(TEST, return_std=True)),
        (one.leave_one_out(), other.leave_one_out()),
        ([one.log_marginal_likelihood()], [other.log_marginal_likelihood()]),
        ([one.scale_, one.y_shift_], [other.scale_, other.y_shift_]),
    ):
        for found, expected in zip(a, b, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
def test_added_and_removed_are_a_refit(normalize, outputs):
    y = Y[:, 0] if outputs == 1 else Y
    new = GPRegressor(KERNEL, 0.05, normalize_y=normalize)
    whole = GPRegressor(KERNEL, 0.05, normalize_y=normalize).fit(X, y)
    ours = new.fit(X[:40], y[:40]).add_rows(X[40:59], y[40:59]).add_rows(X[59:], y[59:])
    same(ours, whole)
    np.testing.assert_array_equal(ours.x_train_, X)
    less = GPRegressor(KERNEL, 0.05, normalize_y=normalize).fit(X[KEPT], y[KEPT])
    same(ours.remove_rows(GONE), less)
    assert ours.solver_report_.reason == "the factor was updated by rows"


def test_with_a_noise_that_was_chosen():
    ours = GPRegressor(KERNEL).fit(X[:50], Y[:50]).add_rows(X[50:], Y[50:])
    noise = ours.noise_variance_
    peer = GPRegressor(KERNEL, noise, normalize_y=True).fit(X, Y)
    np.testing.assert_allclose(ours.predict(TEST), peer.predict(TEST), rtol=1e-10)
    targets = peer.targets_
    expected = np.einsum("nc,nc->c", targets, peer.alpha_) / 60
    np.testing.assert_allclose(ours.scale_, expected, rtol=1e-9)


def test_rows_of_their_own_noise_and_weight():
    ours = GPRegressor(KERNEL, NOISES[:40]).fit(X[:40], Y[:40])
    ours.add_rows(X[40:], Y[40:], noise_variance=NOISES[40:])
    same(ours, GPRegressor(KERNEL, NOISES).fit(X, Y))
    same(ours.remove_rows(GONE), GPRegressor(KERNEL, NOISES[KEPT]).fit(X[KEPT], Y[KEPT]))
    weights = np.arange(60) % 3
    ours = GPRegressor(KERNEL, 0.1).fit(X[:40], Y[:40], sample_weight=weights[:40])
    ours.add_rows(X[40:], Y[40:], sample_weight=weights[40:])
    whole = GPRegressor(KERNEL, 0.1).fit(X, Y, sample_weight=weights)
    same(ours, whole)
    np.testing.assert_array_equal(ours.observed_, whole.observed_)
    ours.remove_rows(GONE)
    less = GPRegressor(KERNEL, 0.1).fit(X[KEPT], Y[KEPT], sample_weight=weights[KEPT])
    same(ours, less)
    np.testing.assert_array_equal(ours.observed_, less.observed_)


def test_a_precomputed_kernel():
    matrix, cross = KERNEL(X), KERNEL(TEST, X)
    ours = GPRegressor("precomputed", 0.1).fit(matrix[:40, :40], Y[:40])
    ours.add_rows(matrix[40:], Y[40:])
    peer = GPRegressor(KERNEL, 0.1).fit(X, Y)
    np.testing.assert_allclose(ours.predict(cross), peer.predict(TEST), rtol=1e-10)
    ours.remove_rows(GONE)
    peer = GPRegressor(KERNEL, 0.1).fit(X[KEPT], Y[KEPT])
    np.testing.assert_allclose(ours.predict(cross[:, KEPT]), peer.predict(TEST), rtol=1e-10)
    with pytest.raises(InputError, match=r"expected \[k, 55 \+ k\]"):
        ours.add_rows(matrix[:2], Y[:2])


@pytest.mark.parametrize("how", ["linear", "largest", "dirichlet"])
def test_a_classifier_and_a_new_class(how, tmp_path):
    old = LABELS != "c"
    ours = GPClassifier(KERNEL, 0.1, probabilities=how).fit(X[old], LABELS[old])
    ours.add_rows(X[~old], LABELS[~old])
    order = np.concatenate([np.flatnonzero(old), np.flatnonzero(~old)])
    peer = GPClassifier(KERNEL, 0.1, probabilities=how).fit(X[order], LABELS[order])
    assert ours.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(ours.predict_proba(TEST), peer.predict_proba(TEST), atol=1e-7)
    np.testing.assert_allclose(ours.posterior(TEST)[0], peer.posterior(TEST)[0], atol=1e-9)
    save_head(ours, tmp_path)
    again = load_head(tmp_path, KERNEL)
    np.testing.assert_array_equal(again.predict_proba(TEST), ours.predict_proba(TEST))
    ours.remove_rows(np.flatnonzero(LABELS[order] == "c"))
    assert ours.classes_.tolist() == ["a", "b"]
    with pytest.raises(InputError, match="holds one class"):
        ours.remove_rows(np.flatnonzero(LABELS[old] == "a"))
    assert ours.classes_.tolist() == ["a", "b"]


def test_images():
    x, y = images(30), np.arange(30.0)
    kernel = ImageKernel(2.0)
    ours = GPRegressor(kernel, 0.1).fit(x[:20], y[:20]).add_rows(x[20:], y[20:])
    peer = GPRegressor(kernel, 0.1).fit(x, y)
    np.testing.assert_allclose(ours.predict(images(4, 1)), peer.predict(images(4, 1)), rtol=1e-10)


@pytest.mark.parametrize(("size", "gone"), [(700, [0, 1, 333, 600]), (700, [699]), (40, range(39))])
def test_factors_of_several_panels(size, gone):
    random = np.random.default_rng(1)
    a = random.standard_normal((size, 30))
    matrix = a @ a.T / 30 + np.eye(size)
    gone = np.array(gone)
    kept = np.setdiff1d(np.arange(size), gone)
    less = without_rows(factorize(matrix), gone)
    expected = np.linalg.cholesky(matrix[np.ix_(kept, kept)])
    np.testing.assert_allclose(less.lower(), expected, atol=1e-11)
    part = factorize(matrix[:-30, :-30]) if size > 40 else factorize(matrix[:2, :2])
    n = part.size
    more = with_rows(part, matrix[n:, :n], matrix[n:, n:].copy(), 1e-13)
    np.testing.assert_allclose(more.lower(), np.linalg.cholesky(matrix), atol=1e-11)


def test_nothing_changes_where_it_fails():
    ours = GPRegressor(KERNEL, 0.0).fit(X, Y)
    before = ours.predict(TEST)
    with pytest.raises(NumericalError, match=r"new row 1 .* positive definite"):
        ours.add_rows(np.concatenate([TEST[:1], X[3:4]]), Y[:2])
    np.testing.assert_array_equal(ours.predict(TEST), before)


@pytest.mark.parametrize("solver", ["cg", "nystroem", "mixed"])
def test_solvers_without_a_factor(solver):
    ours = GPRegressor(KERNEL, 0.1, solver=solver).fit(X, Y)
    with pytest.raises(InputError, match="keeps no Cholesky factor"):
        ours.add_rows(TEST, Y[:9])
    with pytest.raises(InputError, match="keeps no Cholesky factor"):
        ours.remove_rows([0])


def test_missing_targets_that_are_added_are_told_what_to_do():
    """`missing` is no argument of add_rows: the rows without them, or a new fit."""
    remedy = r'Try: the rows without it, or a new fit of all rows with missing="ignore"$'
    ours, gap = GPRegressor(KERNEL, 0.1).fit(X, Y), Y[:9].copy()
    gap[3, 1] = np.nan
    with pytest.raises(InputError, match=rf"entry \[3, 1\] \(counted from 0\) is nan.* {remedy}"):
        ours.add_rows(TEST, gap)
    kind = "GPClassifier or GPRegressor"
    with pytest.raises(InputError, match=f'Try: missing="ignore" of a {kind}, or the rows'):
        GPRegressor(KERNEL, 0.1).fit(TEST, gap)
    with pytest.raises(InputError, match=r"\. Try: the rows without it$"):
        ours.log_density(TEST, gap)
    gap[3] = np.inf
    with pytest.raises(InputError, match=r"is inf \(NaN or inf\)$"):
        ours.add_rows(TEST, gap)
    classes = GPClassifier(KERNEL, 0.1).fit(X, LABELS)
    with pytest.raises(InputError, match=f"missing label, None. {remedy}"):
        classes.add_rows(TEST, np.array(["a", None, *"abcabca"], dtype=object))
    numbers = GPClassifier(KERNEL, 0.1).fit(X, Y[:, 0] > 0)
    with pytest.raises(InputError, match=f"it holds NaN or inf. {remedy}"):
        numbers.add_rows(TEST, [1.0, np.nan] + 7 * [0.0])


def test_what_is_refused():
    ours = GPRegressor(KERNEL, 0.1).fit(X, Y)
    with pytest.raises(NotFittedError):
        GPRegressor(KERNEL).add_rows(X, Y)
    for wrong in ([60], [-1], [], [1, 1], [0.5]):
        with pytest.raises(InputError, match="indices"):
            ours.remove_rows(wrong)
    with pytest.raises(InputError, match=r"^indices\[1\]=100: expected .* from 0 to 59"):
        ours.remove_rows([0, 100])
    with pytest.raises(InputError, match="would be left"):
        ours.remove_rows(range(60))
    with pytest.raises(InputError, match="y has 3 targets"):
        ours.add_rows(TEST, Y[:3])
    with pytest.raises(InputError, match="outputs in 2 axes"):
        ours.add_rows(TEST, Y[:9, 0])
    with pytest.raises(InputError, match="given: `fit` had one for all"):
        ours.add_rows(TEST, Y[:9], noise_variance=0.1)
    with pytest.raises(InputError, match="missing: `fit` had one for each row"):
        GPRegressor(KERNEL, NOISES).fit(X, Y).add_rows(TEST, Y[:9])
