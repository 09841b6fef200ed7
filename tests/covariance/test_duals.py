"""Every dual activation in closed form against integrals, in float64 and float32."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from oracles import naive as oracle

from keras2gp.covariance import program  # noqa: F401 (registers the duals)
from keras2gp.covariance.duals.elementary import arcsin
from keras2gp.covariance.registry import dual_of
from keras2gp.graph.ops import Activation

RHO = (-1.0, -0.999999, -0.9, -0.3, 0.0, 1e-9, 0.2, 0.77, 0.9999, 1.0)
SCALES = ((1.0, 1.0), (0.3, 2.5), (1e-12, 1e-12), (1e-6, 3.0), (1e-3, 40.0), (900.0, 0.1))
LARGE = ((1e4, 1e4), (1e6, 1e2))
GROWING = {"exp", "exponential"}
"""exp(u) with a variance of thousands overflows any float."""


NAMES = sorted(set(oracle.HOMOGENEOUS) | set(oracle.FUNCTIONS))
"""Duals in closed form; test_expanded_duals.py has the others."""

DOUBLE, SINGLE = {"heaviside": 3e-8}, {"heaviside": 4e-4}
"""arcsin has a vertical tangent at 1: a rounded covariance says no more than this."""


def entry(name, c, q1, q2, params=(), dtype="float64"):
    dual = dual_of(Activation(name, params))
    c, q1, q2 = (tf.constant(np.atleast_1d(v), dtype) for v in (c, q1, q2))
    return np.asarray(dual.covariance(c, dual.prepare(q1), dual.prepare(q2)))


def moment(name, q, params=(), dtype="float64"):
    dual = dual_of(Activation(name, params))
    return np.asarray(dual.second_moment(tf.constant(np.atleast_1d(q), dtype)))


def expected(name, c, q1, q2):
    if name in oracle.HOMOGENEOUS:
        return oracle.polar(*oracle.HOMOGENEOUS[name], c, q1, q2)
    if name == "sin":  # by hand: the integrand of a large variance has thousands of waves
        return np.sign(c) * np.exp(abs(c) - (q1 + q2) / 2) * -np.expm1(-2 * abs(c)) / 2
    if name == "cos":
        return np.exp(c - (q1 + q2) / 2) / 2 + np.exp(-c - (q1 + q2) / 2) / 2
    if name in GROWING:
        return np.exp((q1 + q2) / 2 + c)
    return oracle.conditional(oracle.FUNCTIONS[name], oracle.MEANS[name], c, q1, q2)


def size(name, q1, q2):
    """sqrt(E phi(u)^2 E phi(v)^2): what an error is measured against."""
    return np.sqrt(moment(name, q1)[0] * moment(name, q2)[0])


def grid(name):
    scales = SCALES if name in GROWING else SCALES + LARGE
    if name in GROWING:
        scales = tuple(s for s in scales if max(s) < 100)
    return [(rho * np.sqrt(q1 * q2), q1, q2) for rho, (q1, q2) in itertools.product(RHO, scales)]


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_an_integral(name):
    for c, q1, q2 in grid(name):
        error = abs(entry(name, c, q1, q2)[0] - expected(name, c, q1, q2))
        assert error <= DOUBLE.get(name, 1e-9) * size(name, q1, q2), (c, q1, q2)


@pytest.mark.parametrize("name", sorted(oracle.FUNCTIONS))
@pytest.mark.parametrize(("q1", "q2"), [(1.0, 1.0), (0.3, 1.5), (2.0, 1e-4)])
def test_agrees_with_hermite_points_in_two_dimensions(name, q1, q2):
    for rho in RHO:
        c = rho * np.sqrt(q1 * q2)
        points = oracle.hermite(oracle.FUNCTIONS[name], *np.array([[c], [q1], [q2]]))
        assert abs(entry(name, c, q1, q2)[0] - points[0]) <= 1e-9 * size(name, q1, q2), rho


@pytest.mark.parametrize("slope", [-3.0, -1.0, -0.2, 0.0, 0.01, 0.5, 1.0, 2.5])
def test_leaky_relu_of_any_slope(slope):
    params = (("negative_slope", slope),)
    for c, q1, q2 in grid("leaky_relu"):
        value = oracle.polar(lambda u: np.where(u > 0, u, slope * u), 1, c, q1, q2)
        found = entry("leaky_relu", c, q1, q2, params)[0]
        assert abs(found - value) <= 1e-9 * (1 + slope**2) * np.sqrt(q1 * q2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_second_moment_is_the_covariance_with_itself(name, dtype):
    q = np.array([1e-6, 0.1, 1.0, 7.0, 30.0])
    tolerance = SINGLE.get(name, 2e-5) if dtype == "float32" else DOUBLE.get(name, 1e-9)
    found = entry(name, q, q, q, dtype=dtype)
    np.testing.assert_allclose(found, moment(name, q, dtype=dtype), rtol=tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_variance_of_zero(name, dtype):
    at_zero = {"cos": 1.0, "exp": 1.0, "exponential": 1.0}.get(name, 0.0)
    mean = {"cos": np.exp(-1.0), "exp": np.exp(1.0), "exponential": np.exp(1.0)}.get(name, 0.0)
    np.testing.assert_allclose(entry(name, 0.0, 0.0, 0.0, dtype=dtype), at_zero)
    np.testing.assert_allclose(moment(name, 0.0, dtype=dtype), at_zero)
    np.testing.assert_allclose(entry(name, 0.0, 0.0, 2.0, dtype=dtype), mean, rtol=1e-6)
    np.testing.assert_allclose(entry(name, 0.0, 2.0, 0.0, dtype=dtype), mean, rtol=1e-6)


@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_heaviside_at_zero(at_zero):
    params = (("at_zero", at_zero),)
    assert entry("heaviside", 0.0, 0.0, 0.0, params) == at_zero**2
    assert moment("heaviside", 0.0, params) == at_zero**2
    assert entry("heaviside", 0.0, 0.0, 2.0, params) == at_zero / 2


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_close_to_float64(name, rng):
    q1, q2 = (10 ** rng.uniform(-6, 2 if name not in GROWING else 1, 4000) for _ in "12")
    rho = np.concatenate([rng.uniform(-1, 1, 2000), 1 - 10 ** rng.uniform(-8, -1, 1000),
                          10 ** rng.uniform(-8, -1, 998) - 1, [-1.0, 1.0]])  # fmt: skip
    c, q1, q2 = (v.astype("float32").astype("float64") for v in (rho * np.sqrt(q1 * q2), q1, q2))
    single, double = (entry(name, c, q1, q2, dtype=dtype) for dtype in ("float32", "float64"))
    scale = np.sqrt(moment(name, q1) * moment(name, q2))
    assert (np.abs(single - double) / scale).max() <= SINGLE.get(name, 2e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_beyond_one_is_harmless(name, dtype):
    q = 10.0 ** np.arange(-8, 3 if name not in GROWING else 2)
    for sign in (-1, 1):
        c = sign * np.nextafter(q.astype(dtype), np.inf)
        assert np.isfinite(entry(name, c, q, q, dtype=dtype)).all()


@pytest.mark.parametrize("name", NAMES)
def test_positive_semi_definite(name, rng):
    x = rng.normal(size=(12, 5)) * np.linspace(0.1, 1.5, 12)[:, None]
    k = np.concatenate([x, x[:2], -x[:3], 0 * x[:1]])
    k = k @ k.T / 5
    q = np.diag(k)
    q1, q2 = np.broadcast_arrays(q[:, None], q[None, :])
    found = entry(name, k.ravel(), q1.ravel(), q2.ravel()).reshape(k.shape)
    np.testing.assert_allclose(np.diag(found), moment(name, q), rtol=1e-7, atol=1e-14)
    assert np.linalg.eigvalsh(found)[0] > -1e-7 * found.max()


def differentiable():
    return sorted(name for name in NAMES if dual_of(Activation(name)).differentiable)


@pytest.mark.parametrize("name", differentiable())
def test_the_derivative_is_that_of_the_covariance(name):
    """E[phi'(u) phi'(v)] = d/dc E[phi(u) phi(v)], by central differences."""
    dual = dual_of(Activation(name))
    for rho, (q1, q2) in itertools.product((-0.9, -0.2, 0.01, 0.6, 0.95), ((1.0, 0.5), (3.0, 2.0))):
        c, h = rho * np.sqrt(q1 * q2), 1e-5
        difference = (entry(name, c + h, q1, q2) - entry(name, c - h, q1, q2)) / (2 * h)
        center, *variances = (tf.constant([v], tf.float64) for v in (c, q1, q2))
        found = dual.derivative(center, *map(dual.prepare, variances))
        np.testing.assert_allclose(found, difference, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", differentiable())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_derivative_s_second_moment_is_its_limit(name, dtype):
    dual = dual_of(Activation(name))
    q = tf.constant([1e-3, 0.7, 2.0, 5.0], dtype)
    s = dual.prepare(q)
    expected = dual.derivative(q * (1 - 1e-12 if dtype == "float64" else 1), s, s)
    tolerance = 1e-5 if dtype == "float64" else 2e-3  # arccos has a vertical tangent at 1
    np.testing.assert_allclose(dual.derivative_second_moment(q), expected, rtol=tolerance)


@pytest.mark.parametrize("name", sorted(oracle.FUNCTIONS))
@pytest.mark.parametrize("q", [1e-4, 0.3, 2.0])
def test_the_mean_is_an_integral(name, q):
    z, step = np.linspace(-12, 12, 400_001, retstep=True)
    values = oracle.FUNCTIONS[name](np.sqrt(q) * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    found = dual_of(Activation(name)).mean(tf.constant([q], tf.float64))
    np.testing.assert_allclose(found, values.sum() * step, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_what_vanishes_beyond_the_border(name):
    dual = dual_of(Activation(name))
    s1 = dual.prepare(tf.constant([1.3], tf.float64))
    nothing = tuple(tf.zeros_like(t) for t in s1)
    for c in (0.0, 0.7, -0.4):
        beyond = np.asarray(dual.covariance(tf.constant([c], tf.float64), s1, nothing))
        assert np.isfinite(beyond).all()
        if dual.vanishes:
            assert beyond == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-7), ("float64", 6e-16)])
def test_the_arcsine_of_all_sizes(dtype, tolerance):
    ends = np.logspace(-12, 0, 300)
    r = np.concatenate([np.linspace(-1, 1, 4001), ends, 1 - ends, ends - 1]).astype(dtype)
    exact = np.arcsin(r.astype(np.longdouble))
    np.testing.assert_allclose(arcsin(tf.constant(r)), exact, rtol=tolerance, atol=1e-300)


def test_the_slope_of_the_arcsine():
    r = tf.constant([-0.9, -0.2, 0.0, 0.3, 0.7], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(r)
        value = arcsin(r)
    np.testing.assert_allclose(tape.gradient(value, r), 1 / np.sqrt(1 - r.numpy() ** 2))
