"""Duals without closed form, expanded or integrated, against quadrature in two dimensions."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracles import naive as oracle
from oracles import quadrature

from keras2gp.covariance import program  # noqa: F401 (registers the duals)
from keras2gp.covariance.duals.hermite import LARGEST_DEGREE, TOLERANCE, Hermite
from keras2gp.covariance.duals.piecewise import Piecewise
from keras2gp.covariance.registry import dual_of, dual_table
from keras2gp.graph.ops import Activation

NAMES = sorted(quadrature.FUNCTIONS)
RHO = (-1.0, -0.999, -0.4, 0.0, 0.3, 0.95, 0.99999, 1.0)
VARIANCES = ((1e-3, 1e-3), (0.1, 0.3), (1.0, 1.0), (1.0, 1.01), (4.0, 2.5), (100.0, 0.01),
             (100.0, 100.0), (50.0, 80.0))  # fmt: skip
PIECEWISE = {name for name in NAMES if name in {
    "clipped_relu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "relu6",
    "soft_shrink", "sparse_plus", "sparse_sigmoid", "square", "threshold"}}  # fmt: skip
FAST = {"elu", "hard_silu", "hard_tanh", "relu6", "silu", "softplus", "tanh", "threshold"}
JUMPS = {"hard_shrink", "threshold"}


def marked(names):
    """One of each kind by default, all with -m slow."""
    return [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in names]


SLOW = {"arctan", "celu", "elu", "selu", "softsign"}
"""Series that fall slowly: a corner in the function or a derivative, or a pole near the axis."""


def dual_named(name):
    _, constants, _ = quadrature.FUNCTIONS[name]
    return dual_of(Activation(name, tuple(constants.items())))


def tensors(dtype, *values):
    return [tf.constant(np.atleast_1d(v), dtype) for v in values]


def found(dual, c, q1, q2, dtype="float64", derivative=False):
    c, q1, q2 = tensors(dtype, c, q1, q2)
    form = dual.derivative if derivative else dual.covariance
    return np.asarray(form(c, dual.prepare(q1), dual.prepare(q2)), "float64")


def moment(dual, q, derivative=False):
    (q,) = tensors("float64", q)
    return np.asarray(dual.derivative_second_moment(q) if derivative else dual.second_moment(q))


def grid():
    """rho, q1, q2; float32 holds the variances."""
    return np.array([(r, *q) for r, q in itertools.product(RHO, VARIANCES)]).astype("float32").T


def some(step):
    """Every step-th point of the grid, in float64: c, q1, q2."""
    rho, q1, q2 = grid().astype("float64")[:, ::step]
    return rho * np.sqrt(q1 * q2), q1, q2


def bound(dual, q1, q2):
    """What the dual promises at these variances, against the square root of the two moments."""
    if isinstance(dual, Hermite):
        return np.maximum(dual.bounds(q1), dual.bounds(q2))
    return np.full(len(q1), 1e-9 if dual.differentiable else 1e-6)


def test_every_dual_is_tested():
    closed = set(oracle.HOMOGENEOUS) | set(oracle.FUNCTIONS)
    assert set(dual_table()) == closed | set(NAMES)
    assert all(isinstance(dual_named(name), Piecewise) == (name in PIECEWISE) for name in NAMES)


@pytest.mark.parametrize("name", marked(NAMES))
def test_agrees_with_quadrature_within_its_bound(name):
    f, _, corners = quadrature.function(name)
    dual = dual_named(name)
    c, q1, q2 = some(3)
    # A shrunk variable of a small variance is next to nothing, and so is its scale.
    kept = np.minimum(moment(dual, q1), moment(dual, q2)) > 1e-12
    c, q1, q2 = c[kept], q1[kept], q2[kept]
    expected = [quadrature.pair(f, corners, *values) for values in zip(c, q1, q2, strict=True)]
    scale = np.sqrt(moment(dual, q1) * moment(dual, q2))
    error = np.abs(found(dual, c, q1, q2) - expected) / scale
    assert (error <= bound(dual, q1, q2)).all(), error


@pytest.mark.parametrize("name", marked(n for n in NAMES if n not in JUMPS))
def test_the_derivative_agrees_with_quadrature(name):
    _, slope, corners = quadrature.function(name)
    dual = dual_named(name)
    c, q1, q2 = some(5)
    kept = np.minimum(moment(dual, q1), moment(dual, q2)) > 1e-12
    c, q1, q2 = c[kept], q1[kept], q2[kept]
    expected = [quadrature.pair(slope, corners, *values) for values in zip(c, q1, q2, strict=True)]
    scale = np.sqrt(moment(dual, q1, derivative=True) * moment(dual, q2, derivative=True))
    error = np.abs(found(dual, c, q1, q2, derivative=True) - expected) / scale
    if name in PIECEWISE:
        assert error.max() <= 1e-5, error
    else:
        bounds = [dual.bounds(q, derivative=True) for q in (q1, q2)]
        assert (error <= np.maximum(*bounds)).all(), error


@pytest.mark.parametrize("name", marked(NAMES))
def test_mean_and_variances_are_exact(name):
    f, slope, corners = quadrature.function(name)
    dual, q = dual_named(name), np.array([1e-3, 0.3, 1.0, 7.0, 100.0])
    for form, of in (
        (dual.mean, lambda v: quadrature.one(f, corners, v)),
        (dual.second_moment, lambda v: quadrature.one(lambda u: f(u) ** 2, corners, v)),
        (
            dual.derivative_second_moment,
            lambda v: quadrature.one(lambda u: slope(u) ** 2, corners, v),
        ),
    ):
        if form == dual.derivative_second_moment and name in JUMPS:
            continue
        expected = [of(v) for v in q]
        np.testing.assert_allclose(form(tensors("float64", q)[0]), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", marked(NAMES))
def test_float32_is_close_to_float64(name):
    dual = dual_named(name)
    rho, q1, q2 = grid()
    c = (rho * np.sqrt(q1 * q2)).astype("float32").astype("float64")
    kept = np.minimum(moment(dual, q1), moment(dual, q2)) > 1e-12
    c, q1, q2 = c[kept], q1[kept].astype("float64"), q2[kept].astype("float64")
    scale = np.sqrt(moment(dual, q1) * moment(dual, q2))
    error = np.abs(found(dual, c, q1, q2, "float32") - found(dual, c, q1, q2)) / scale
    assert error.max() <= (2e-4 if name in JUMPS else 2e-5)


@pytest.mark.parametrize("name", marked(NAMES))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_diagonal_and_a_variance_of_zero(name, dtype):
    f, _, _ = quadrature.function(name)
    dual, q = dual_named(name), np.array([1e-2, 1.0, 30.0])
    nothing, zero = np.zeros(3), float(f(np.zeros(1))[0])
    c, q1, q2 = np.array([[q, q, q], [nothing, q, nothing], [nothing] * 3]).swapaxes(0, 1)
    same, mixed, none = found(dual, c.ravel(), q1.ravel(), q2.ravel(), dtype).reshape(3, 3)
    tolerance = 2e-5 if dtype == "float32" else 1e-8
    np.testing.assert_allclose(same, moment(dual, q), rtol=tolerance, atol=1e-12)
    mean = np.asarray(dual.mean(tensors("float64", q)[0]))
    np.testing.assert_allclose(mixed, zero * mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(none, zero**2, atol=1e-7)


@pytest.mark.parametrize("name", marked(NAMES))
def test_positive_semi_definite(name, rng):
    x = rng.normal(size=(12, 5)) * np.linspace(0.3, 1.5, 12)[:, None]
    k = np.concatenate([x, x[:2], -x[:3]])
    k = k @ k.T / 5
    q1, q2 = np.broadcast_arrays(np.diag(k)[:, None], np.diag(k)[None, :])
    matrix = found(dual_named(name), k.ravel(), q1.ravel(), q2.ravel()).reshape(k.shape)
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2)[0] > -1e-6 * matrix.max()


@pytest.mark.parametrize("name", sorted(set(NAMES) - PIECEWISE))
def test_the_degree_is_the_least_that_reaches_the_tolerance(name):
    dual = dual_named(name)
    q = np.array([0.1, 0.5, 1.0, 2.0, 4.0])
    coarse = dual.with_degree(dual.least_degree(1e-3))
    assert coarse.degree < dual.degree or coarse.degree == LARGEST_DEGREE
    assert coarse.bounds(q).max() <= 1e-3
    less = dual.with_degree(coarse.degree - 1)
    assert coarse.degree == 1 or less.bounds(q).max() > 1e-3
    if dual.degree < LARGEST_DEGREE:
        assert dual.bounds(q).max() <= TOLERANCE
    else:
        assert name in SLOW


def test_nothing_is_claimed_beyond_the_table():
    dual = dual_named("tanh")
    q = np.array([1e11, 1e13])
    values = found(dual, 0.5 * q, q, q)
    assert np.isfinite(values[0])
    assert np.isnan(values[1])


def test_clipped_relu_is_what_keras_computes():
    for constants in itertools.product((0.7, 2.0, np.inf), (-0.5, 0.0, 0.4, 1.0), (0.0, 0.3)):
        names = "max_value", "threshold", "negative_slope"
        params = dict(zip(names, constants, strict=True))
        dual = dual_of(Activation("clipped_relu", tuple(params.items())))
        u = np.linspace(-3, 3, 61) + 1e-3
        params["max_value"] = None if params["max_value"] == np.inf else params["max_value"]
        expected = keras.activations.relu(tf.constant(u), **params)
        np.testing.assert_allclose([dual.phi(v) for v in u], expected, atol=1e-12)
