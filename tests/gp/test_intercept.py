"""The intercept of a classification: added to the kernel, and chosen where labels gain by it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from gp_kernels import OnlyProducts, TensorLike
from keras import layers
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

import keras2gp
from keras2gp import GPClassifier, GPRegressor
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp import (
    Cholesky,
    ConjugateGradients,
    MixedPrecision,
    Nystroem,
    ProjectedProcess,
    TensorFlowCholesky,
)
from keras2gp.gp.noise.pilot import NoisePilot
from keras2gp.gp.noise.spectra import label_likelihoods
from keras2gp.gp.process import intercept, solving
from keras2gp.gp.process.intercept import gain_by_intercept
from keras2gp.gp.saving import load_head, save_head
from keras2gp.gp.solvers.training import Training

SHIFT = 0.7


def iris():
    """The second class against the others, standardised: rows to fit to, and to test on."""
    x, y = load_iris(return_X_y=True)
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), np.where(y == 1, "second", "other")
    return x[::2], y[::2], x[1::2], y[1::2]


def network(features=4, **settings):
    """The kernel of a network of ReLUs, without biases unless they are stated."""
    hidden = layers.Dense(8, activation="relu", **settings)
    model = keras.Sequential([keras.Input((features,)), hidden, layers.Dense(2)])
    return keras2gp.convert(model, dtype="float64")


KERNEL = network()


@pytest.mark.parametrize("noise", [0.1, "auto"])
@pytest.mark.parametrize("probabilities", ["linear", "temperature", "largest", "dirichlet"])
def test_is_a_constant_added_to_the_kernel(noise, probabilities):
    x, y, new, _ = iris()
    settings = {"noise_variance": noise, "probabilities": probabilities}
    ours = GPClassifier(KERNEL, intercept=SHIFT, **settings).fit(x, y)
    sums = GPClassifier(KERNEL + SHIFT, intercept=0, **settings).fit(x, y)
    assert (ours.intercept_, sums.intercept_) == (SHIFT, 0.0)
    for some, other in zip(ours.predictive(new), sums.predictive(new), strict=True):
        np.testing.assert_allclose(some, other, rtol=1e-9, atol=1e-12)
    for some, other in zip(ours.leave_one_out(), sums.leave_one_out(), strict=True):
        np.testing.assert_allclose(some, other, rtol=1e-9, atol=1e-12)
    assert ours.log_marginal_likelihood() == pytest.approx(sums.log_marginal_likelihood())
    assert ours.log_marginal_likelihood(0.3) == pytest.approx(sums.log_marginal_likelihood(0.3))
    np.testing.assert_allclose(ours.prior_variance(new), sums.prior_variance(new), rtol=1e-9)
    draws = (gp.sample_latent(new[:3], 2, random_state=0) for gp in (ours, sums))
    np.testing.assert_allclose(*draws, rtol=1e-5, atol=1e-5)


def test_precomputed_matrices_and_rows_that_come_and_go():
    x, y, new, _ = iris()
    matrix = np.asarray(KERNEL.matrix(np.concatenate([x, new])))
    n = len(x)
    rows, diag = slice(5, n), KERNEL.diag(new)
    ours = GPClassifier("precomputed", 0.1, intercept=SHIFT).fit(matrix[:n, :n], y)
    sums = GPClassifier(KERNEL + SHIFT, 0.1, intercept=0).fit(x, y)

    def assert_alike(cross):
        mean, variance, _ = sums.predictive(new)
        np.testing.assert_allclose(ours.predictive(cross, diag).mean, mean, atol=1e-10)
        np.testing.assert_allclose(ours.predictive(cross, diag).variance, variance, atol=1e-10)

    assert_alike(matrix[n:, :n])
    gone = np.arange(5)
    ours.remove_rows(gone)
    sums.remove_rows(gone)
    assert_alike(matrix[n:, rows])
    order = np.concatenate([np.arange(5, n), gone])
    ours.add_rows(matrix[np.ix_(gone, order)], y[gone])
    sums.add_rows(x[gone], y[gone])
    assert_alike(matrix[n:][:, order])


def test_is_chosen_where_labels_gain():
    x, y, new, truth = iris()
    chosen = GPClassifier(KERNEL).fit(x, y)
    none = GPClassifier(KERNEL, intercept=0).fit(x, y)
    assert chosen.intercept_ == pytest.approx(float(np.mean(KERNEL.diag(x))))
    assert chosen.score(new, truth) > none.score(new, truth) + 0.05
    stated = GPClassifier(KERNEL, intercept=chosen.intercept_).fit(x, y)
    np.testing.assert_array_equal(stated.predict_proba(new), chosen.predict_proba(new))
    assert chosen.noise_variance_ == stated.noise_variance_


def test_is_not_chosen_where_nothing_is_gained_or_probabilities_are_not_of_means():
    x, y, _, _ = iris()
    assert GPClassifier(ConstantKernel(4.0) + RBF(1.0)).fit(x, y).intercept_ == 0.0
    assert GPClassifier(KERNEL + 1e9, 0.1).fit(x, y).intercept_ == 0.0
    for probabilities in ("largest", "dirichlet"):
        fit = GPClassifier(KERNEL, 0.1, probabilities=probabilities).fit(x, y)
        assert fit.intercept_ == 0.0
    assert not hasattr(GPRegressor(KERNEL), "intercept_")


def left_out(fit):
    """The logarithms of the probabilities of labels that are left out, in a fit."""
    return label_likelihoods(fit.leave_one_out()[0], fit.targets_.argmax(axis=1))


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("c", [1e-9, 0.01, 1.0, 100.0])
def test_what_labels_gain_is_that_of_two_fits(weights, c):
    x, y, _, _ = iris()
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y)) if weights else None
    none, some = (
        GPClassifier(KERNEL, 0.2, intercept=v).fit(x, y, sample_weight=weight) for v in (0, c)
    )
    expected = left_out(some).sum() - left_out(none).sum()
    found = gain_by_intercept(none.factor_, none.targets_, none.alpha_, c)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("weights", [False, True])
def test_what_labels_gain_at_their_best_noises(weights):
    x, y, _, _ = iris()
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y)) if weights else None
    fits = [GPClassifier(KERNEL, 0.2, intercept=0).fit(x, y)]
    targets, matrix = fits[0].targets_, np.asarray(KERNEL.matrix(x))
    relative = None if weight is None else 1.0 / weight
    pilot = NoisePilot(
        Training("precomputed", None, matrix), targets, labels=True, jitter=None, relative=relative
    )
    c, unit = 0.7, np.diagonal(matrix if weight is None else matrix * weight).mean()
    best = []
    for variance in (0.0, c):
        noises = unit * 10.0 ** (0.5 * np.arange(-16, 7))
        fits = (
            GPClassifier(KERNEL, noise, intercept=variance).fit(x, y, sample_weight=weight)
            for noise in noises
        )
        best.append(max(left_out(fit).sum() for fit in fits))
    assert pilot.gain_by(c) == pytest.approx(best[1] - best[0], rel=1e-6)


def test_a_kernel_whose_values_can_only_be_read_as_arrays():
    class Kernel:
        dtype = np.dtype("float64")

        def __call__(self, x1, x2=None):
            return TensorLike(KERNEL(x1, x2))

        def diag(self, x):
            return TensorLike(KERNEL.diag(x))

    x, y, new, _ = iris()
    some, other = (GPClassifier(k, 0.1, intercept=SHIFT).fit(x, y) for k in (Kernel(), KERNEL))
    np.testing.assert_allclose(some.predict_proba(new), other.predict_proba(new), rtol=1e-9)


def test_some_rows_decide_for_many(monkeypatch):
    x, y, _, _ = iris()
    for module in (intercept, solving):
        monkeypatch.setattr(module, "ROWS", 40)
    some = GPClassifier(KERNEL, 0.1).fit(x, y)
    assert some.intercept_ == pytest.approx(float(np.mean(KERNEL.diag(x))))
    mixed = GPClassifier(KERNEL, 0.1, solver="mixed").fit(x, y)
    assert mixed.intercept_ == some.intercept_
    np.testing.assert_allclose(mixed.alpha_, some.alpha_, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("rows", [40, 512])
def test_a_choice_against_an_intercept_leaves_the_fit_as_it_is(monkeypatch, rows):
    x, y, _, _ = iris()
    for module in (intercept, solving):
        monkeypatch.setattr(module, "ROWS", rows)
    some, none = (GPClassifier(KERNEL + 1e3, 0.1, intercept=c).fit(x, y) for c in ("auto", 0))
    assert some.intercept_ == 0.0
    np.testing.assert_array_equal(some.alpha_, none.alpha_)
    assert some.solver_report_.memory == none.solver_report_.memory


@pytest.mark.parametrize(
    ("place", "wrong", "said"),
    [((70, 3), 1e9, r"\[3, 70\] and .* differ"), ((70, 3), np.nan, r"entry \[70, 3\]")],
)
@pytest.mark.parametrize("rows", [40, 70, 512])
def test_a_wrong_matrix_is_refused_by_its_own_places(monkeypatch, place, wrong, said, rows):
    x, y, _, _ = iris()
    for module in (intercept, solving):
        monkeypatch.setattr(module, "ROWS", rows)
    matrix = np.array(KERNEL.matrix(x))
    matrix[place] = wrong
    with pytest.raises(InputError, match=said):
        GPClassifier("precomputed", 0.1).fit(matrix, y)


WHOLE = np.arange(75)


@pytest.mark.parametrize("given", ["nothing", "array", "store", "product", "rectangle"])
@pytest.mark.parametrize(
    "solver",
    [
        Cholesky(),
        MixedPrecision(),
        TensorFlowCholesky(),
        ConjugateGradients(tolerance=1e-10, rank=20),
        Nystroem(rank=75),
        ProjectedProcess(inducing=tuple(WHOLE)),
    ],
    ids=lambda solver: solver.name,
)
def test_every_solver_chooses_the_same_and_solves_the_same(tmp_path, solver, given):
    x, y, new, _ = iris()
    expected = GPClassifier(KERNEL, 0.1).fit(x, y)
    assert expected.intercept_ > 0.0
    matrix = np.array(KERNEL.matrix(x))
    iterative = solver.name in ("cg", "nystroem", "projected")
    if given in ("product", "rectangle") and not iterative:
        pytest.skip("a direct solver reads a square matrix")
    if given == "rectangle" and solver.name != "projected":
        pytest.skip("only the projected process takes a rectangle")
    if given == "product" and solver.name == "projected":
        pytest.skip("the projected process reads no product")
    gram = {"nothing": None, "array": matrix, "product": OnlyProducts(matrix)}.get(given)
    if given == "store":
        gram = keras2gp.gram(KERNEL, x, out=tmp_path / "K.zarr")
    if given == "rectangle":
        gram = matrix[:, WHOLE]
    fit = GPClassifier(KERNEL, 0.1, solver=solver).fit(x, y, gram=gram)
    assert fit.intercept_ == pytest.approx(expected.intercept_, rel=1e-12)
    for some, other in zip(fit.predictive(new), expected.predictive(new), strict=True):
        np.testing.assert_allclose(some, other, rtol=1e-5, atol=1e-6)
    if solver.name != "cg":
        evidence = expected.log_marginal_likelihood()
        assert fit.log_marginal_likelihood() == pytest.approx(evidence, rel=1e-6)
        if given != "product":
            again = fit.log_marginal_likelihood(0.3, None if given == "nothing" else gram)
            assert again == pytest.approx(expected.log_marginal_likelihood(0.3), rel=1e-6)


@pytest.mark.parametrize("added", ["auto", SHIFT])
def test_is_saved_and_exported(tmp_path, added):
    x, y, new, _ = iris()
    fit = GPClassifier(KERNEL, 0.1, intercept=added).fit(x, y)
    fit.save(tmp_path / "fit")
    again = keras2gp.load(tmp_path / "fit")
    assert (again.intercept, again.intercept_) == (added, fit.intercept_)
    assert again.intercept_ > 0.0
    for some, other in zip(fit.predictive(new), again.predictive(new), strict=True):
        np.testing.assert_allclose(some, other, rtol=1e-10, atol=1e-12)
    keras2gp.export(fit, tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    outputs = served(images=tf.constant(new))
    for name, values in zip(("mean", "variance", "probability"), fit.predictive(new), strict=True):
        np.testing.assert_allclose(outputs[name], values, rtol=1e-8, atol=1e-10)


def test_derivatives_by_the_inputs():
    x, y, new, _ = iris()
    gp = GPClassifier(KERNEL, 0.1, intercept=SHIFT).fit(x, y)
    inputs, step = tf.constant(new[:3]), 1e-5
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        mean, variance, _ = gp.predict_tensors(inputs)
        total = tf.reduce_sum(mean[:, 0] + variance)
    found = tape.gradient(total, inputs).numpy()
    moved = (new[:3] + sign * step * np.eye(4)[0] for sign in (1.0, -1.0))
    above, below = (gp.predictive(at) for at in moved)
    expected = (above.mean[:, 0] + above.variance - below.mean[:, 0] - below.variance) / (2 * step)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-7)


def test_a_stated_intercept_is_that_of_the_fit(tmp_path):
    x, y, _, _ = iris()
    fit = GPClassifier("precomputed", 0.1, intercept=SHIFT).fit(np.asarray(KERNEL.matrix(x)), y)
    save_head(fit, tmp_path / "head")
    fit.intercept = 0.3
    fit._intercept = SHIFT
    save_head(fit, tmp_path / "other")
    assert load_head(tmp_path / "head", "precomputed").intercept_ == SHIFT
    with pytest.raises(ModelFileError, match=r"an intercept of 0\.7, and 0\.3 stated"):
        load_head(tmp_path / "other", "precomputed")


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, "always", None, True, [1.0]])
def test_settings_that_are_none(value):
    x, y, _, _ = iris()
    with pytest.raises(InputError, match=r"intercept is .*: expected"):
        GPClassifier(KERNEL, intercept=value).fit(x, y)


def test_a_stated_intercept_of_a_matrix_that_can_only_be_multiplied():
    labels, gram = [0, 1, 0, 1], np.diag([1.0, 2.0, 3.0, 4.0])
    products, matrix = (
        GPClassifier("precomputed", 0.1, intercept=SHIFT, solver=solver).fit(None, labels, gram=of)
        for solver, of in ((ConjugateGradients(), OnlyProducts(gram)), (Cholesky(), gram))
    )
    np.testing.assert_allclose(products.alpha_, matrix.alpha_, rtol=1e-6)


def test_a_clone_has_the_setting():
    assert clone(GPClassifier(KERNEL, intercept=SHIFT)).intercept == SHIFT
