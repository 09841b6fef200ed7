"""Every dual activation, by the case table: against quadrature, in float64 and in float32."""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracles import quadrature
from oracles.activations import CASES

from keras2gp.covariance import expansion, program  # noqa: F401 (registers the duals)
from keras2gp.covariance.dual import LARGEST_ERROR
from keras2gp.covariance.duals.elementary import arcsin
from keras2gp.covariance.duals.hermite import Hermite
from keras2gp.covariance.duals.piecewise import Piecewise
from keras2gp.covariance.registry import dual_of, dual_table
from keras2gp.errors import InputError
from keras2gp.graph.ops import Activation

RHO = (-1.0, -0.999999, -0.9, -0.3, 0.0, 1e-9, 0.2, 0.77, 0.9999, 1.0)
VARIANCES = ((1.0, 1.0), (1.0, 1.01), (0.3, 2.5), (1e-3, 1e-3), (1e-3, 40.0), (100.0, 0.01),
             (50.0, 80.0))  # fmt: skip
CLOSED = ((1e-12, 1e-12), (1e-6, 3.0), (900.0, 0.1), (1e4, 1e2))
"""Variances for duals in closed form; a series states at which variances it holds."""


def rows(*conditions):
    """Names of the cases that fulfil all conditions, the slow ones marked."""
    names = [name for name, case in CASES.items() if all(holds(case) for holds in conditions)]
    return [pytest.param(n, marks=pytest.mark.slow) if CASES[n].slow else n for n in names]


def differentiable(case):
    return case.functions()[1] is not None


def dual_named(name, **changes):
    return dual_of(Activation(name, tuple({**CASES[name].constants, **changes}.items())))


def tensors(dtype, *values):
    return [tf.constant(np.atleast_1d(v), dtype) for v in values]


def entries(dual, c, q1, q2, dtype="float64", derivative=False):
    c, q1, q2 = tensors(dtype, c, q1, q2)
    form = dual.derivative if derivative else dual.covariance
    return np.asarray(form(c, dual.prepare(q1), dual.prepare(q2)), "float64")


def variances(dual, q, dtype="float64", derivative=False):
    (q,) = tensors(dtype, q)
    form = dual.derivative_variance if derivative else dual.variance
    return np.asarray(form(q, dual.prepare(q)), "float64")


def scale(dual, q1, q2, derivative=False):
    """sqrt(E phi(u)^2 E phi(v)^2), to which errors are relative."""
    return np.sqrt(
        variances(dual, q1, "float64", derivative) * variances(dual, q2, "float64", derivative)
    )


def grid(case, pairs):
    """c, q1, q2, [n] each."""
    pairs = [q for q in pairs if max(q) <= case.largest]
    rho, q1, q2 = np.array([(r, *q) for r, q in itertools.product(RHO, pairs)]).T
    return rho * np.sqrt(q1 * q2), q1, q2


def expected(case, c, q1, q2, derivative=False):
    """E[phi(u) phi(v)], or of phi', by quadrature."""
    phi, slope, corners = case.functions()
    if case.exact and not derivative:
        return np.array([case.exact(*values) for values in zip(c, q1, q2, strict=True)])
    f = slope if derivative else phi
    return np.array([quadrature.pair(f, corners, *v) for v in zip(c, q1, q2, strict=True)])


def bound(case, dual, q1, q2, derivative=False):
    """The error that the dual promises."""
    if case.expanded:
        both = [dual.bounds(q, derivative=derivative) for q in (q1, q2)]
        return np.maximum(*both)
    if not case.functions()[2]:
        return np.full(len(q1), case.bound)
    # Reports promise what integration over corners gives up to a variance of 100.
    beyond = np.maximum(q1, q2) > 100
    return np.where(beyond, 1e-7, case.bound) if not derivative else np.full(len(q1), 1e-5)


def test_every_dual_has_a_row():
    assert set(dual_table()) == set(CASES)
    for name, case in CASES.items():
        assert isinstance(dual_named(name), Hermite) == case.expanded, name
        assert dual_named(name).differentiable == differentiable(case), name
        assert bool(case.reason) == (case.bound > 1e-9 or case.single > 2e-5), name


@pytest.mark.parametrize("name", CASES)
def test_a_row_states_the_function_of_keras(name):
    case = CASES[name]
    phi, slope, _ = case.functions()
    u = np.linspace(-7, 7, 1001) + 1e-4
    # Keras's gelu has a constant in float32.
    np.testing.assert_allclose(case.keras(tf.constant(u), **case.constants), phi(u), atol=1e-8)
    if slope:
        difference = (phi(u + 1e-6) - phi(u - 1e-6)) / 2e-6
        np.testing.assert_allclose(slope(u), difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", rows())
def test_agrees_with_quadrature_within_its_bound(name):
    case, dual = CASES[name], dual_named(name)
    pairs = VARIANCES if case.expanded else VARIANCES + CLOSED
    c, q1, q2 = (v[:: 3 if case.expanded else 1] for v in grid(case, pairs))
    # A shrunk variable of a small variance is next to nothing, and so is its scale.
    kept = np.minimum(variances(dual, q1), variances(dual, q2)) > 1e-25
    c, q1, q2 = c[kept], q1[kept], q2[kept]
    error = np.abs(entries(dual, c, q1, q2) - expected(case, c, q1, q2)) / scale(dual, q1, q2)
    assert (error <= bound(case, dual, q1, q2)).all(), error


@pytest.mark.parametrize("name", rows(differentiable))
def test_the_derivative_agrees_with_quadrature(name):
    case, dual = CASES[name], dual_named(name)
    c, q1, q2 = (v[:: 5 if case.expanded else 1] for v in grid(case, VARIANCES))
    kept = np.minimum(variances(dual, q1), variances(dual, q2)) > 1e-12
    kept &= np.maximum(q1, q2) < (10 if case.exact else np.inf)  # thousands of waves
    c, q1, q2 = c[kept], q1[kept], q2[kept]
    error = entries(dual, c, q1, q2, derivative=True) - expected(case, c, q1, q2, derivative=True)
    error = np.abs(error) / scale(dual, q1, q2, derivative=True)
    assert (error <= np.maximum(bound(case, dual, q1, q2, derivative=True), 1e-7)).all(), error


@pytest.mark.parametrize("name", rows(lambda case: not case.expanded and differentiable(case)))
def test_the_derivative_is_that_of_the_covariance(name):
    """E[phi'(u) phi'(v)] = d/dc E[phi(u) phi(v)], by central differences."""
    dual = dual_named(name)
    pairs = itertools.product((-0.9, -0.2, 0.01, 0.6, 0.95), ((1.0, 0.5), (3.0, 2.0)))
    rho, q1, q2 = np.array([(r, *q) for r, q in pairs]).T
    c, h = rho * np.sqrt(q1 * q2), 1e-5
    difference = (entries(dual, c + h, q1, q2) - entries(dual, c - h, q1, q2)) / (2 * h)
    value = entries(dual, c, q1, q2, derivative=True)
    np.testing.assert_allclose(value, difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", rows())
def test_mean_and_variances_are_exact(name):
    case, dual = CASES[name], dual_named(name)
    phi, slope, corners = case.functions()
    q = np.array([1e-3, 0.3, 1.0, 7.0, *([] if case.exact else [100.0])])
    moments = {
        "mean": (dual.mean(tensors("float64", q)[0]), phi),
        "variance": (variances(dual, q), lambda u: phi(u) ** 2),
    }
    if slope:
        moments["slope"] = (variances(dual, q, derivative=True), lambda u: slope(u) ** 2)
    for form, (value, f) in moments.items():
        exact = [quadrature.one(f, corners, v) for v in q]
        np.testing.assert_allclose(value, exact, rtol=1e-8, atol=1e-12, err_msg=form)


@pytest.mark.parametrize("name", rows())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_diagonal_and_a_variance_of_zero(name, dtype):
    case, dual = CASES[name], dual_named(name)
    q = np.array([1e-2, 1.0, 30.0])
    zero = float(case.functions()[0](np.zeros(1))[0])
    tolerance = case.single if dtype == "float32" else max(1e-8, case.bound)
    np.testing.assert_allclose(
        entries(dual, q, q, q, dtype), variances(dual, q), rtol=tolerance, atol=1e-12
    )
    mean = np.asarray(dual.mean(tensors("float64", q)[0]))
    for q1, q2 in ((q, 0 * q), (0 * q, q)):
        mixed = entries(dual, 0 * q, q1, q2, dtype)
        np.testing.assert_allclose(mixed, zero * mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(entries(dual, 0.0, 0.0, 0.0, dtype), zero**2, atol=1e-7)
    np.testing.assert_allclose(variances(dual, 0.0, dtype), zero**2, atol=1e-7)


@pytest.mark.parametrize("name", rows())
def test_float32_is_close_to_float64(name, rng):
    case, dual = CASES[name], dual_named(name)
    largest = min(2, np.log10(case.largest) - 0.9)
    q1, q2 = (10 ** rng.uniform(-3 if case.expanded else -6, largest, 4000) for _ in "12")
    rho = np.concatenate([rng.uniform(-1, 1, 2000), 1 - 10 ** rng.uniform(-8, -1, 1000),
                          10 ** rng.uniform(-8, -1, 998) - 1, [-1.0, 1.0]])  # fmt: skip
    c, q1, q2 = (v.astype("float32").astype("float64") for v in (rho * np.sqrt(q1 * q2), q1, q2))
    kept = np.minimum(variances(dual, q1), variances(dual, q2)) > 1e-12
    c, q1, q2 = c[kept], q1[kept], q2[kept]
    error = np.abs(entries(dual, c, q1, q2, "float32") - entries(dual, c, q1, q2))
    assert (error / scale(dual, q1, q2)).max() <= case.single


@pytest.mark.parametrize("name", rows())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_beyond_one_is_harmless(name, dtype):
    q = 10.0 ** np.arange(-8, 3 if CASES[name].largest > 100 else 2)
    for sign in (-1, 1):
        c = sign * np.nextafter(q.astype(dtype), np.inf)
        assert np.isfinite(entries(dual_named(name), c, q, q, dtype)).all()


@pytest.mark.parametrize("name", rows())
def test_positive_semi_definite(name, rng):
    x = rng.normal(size=(12, 5)) * np.linspace(0.3, 1.5, 12)[:, None]
    k = np.concatenate([x, x[:2], -x[:3], *([] if CASES[name].expanded else [0 * x[:1]])])
    k = k @ k.T / 5
    q1, q2 = np.broadcast_arrays(np.diag(k)[:, None], np.diag(k)[None, :])
    dual = dual_named(name)
    matrix = entries(dual, k.ravel(), q1.ravel(), q2.ravel()).reshape(k.shape)
    np.testing.assert_allclose(np.diag(matrix), variances(dual, np.diag(k)), rtol=1e-6, atol=1e-14)
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2)[0] > -1e-6 * matrix.max()


@pytest.mark.parametrize("name", rows())
def test_what_vanishes_beyond_the_border(name):
    dual = dual_named(name)
    s1 = dual.prepare(tf.constant([1.3], tf.float64))
    zeros = tuple(tf.zeros_like(t) for t in s1)
    for c in (0.0, 0.7, -0.4):
        beyond = np.asarray(dual.covariance(tf.constant([c], tf.float64), s1, zeros))
        assert np.isfinite(beyond).all()
        if dual.vanishes:
            assert beyond == 0


@pytest.mark.parametrize("name", rows(differentiable))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_derivative_s_variance_is_its_limit(name, dtype):
    dual = dual_named(name)
    q = np.array([1e-3, 0.7, 2.0, 5.0])
    near = q * (1 - 1e-12 if dtype == "float64" else 1)
    limit = entries(dual, near, q, q, dtype, derivative=True)
    tolerance = 1e-5 if dtype == "float64" else 2e-3  # arccos has a vertical tangent at 1
    value = variances(dual, q, dtype, derivative=True)
    np.testing.assert_allclose(value, limit, rtol=tolerance, atol=1e-30)


@pytest.mark.parametrize("name", ["erf", "gelu", "sin", "cos", "exp"])
def test_two_oracles_agree(name):
    """Quadrature, or the closed form of the case table, against Hermite points."""
    case = CASES[name]
    for rho, (q1, q2) in itertools.product(RHO, ((1.0, 1.0), (0.3, 1.5), (2.0, 1e-4))):
        c = np.array([rho * np.sqrt(q1 * q2)])
        points = quadrature.hermite(case.functions()[0], c, np.array([q1]), np.array([q2]))
        np.testing.assert_allclose(
            expected(case, c, np.array([q1]), np.array([q2])), points, atol=1e-9
        )


@pytest.mark.parametrize("slope", [-3.0, -1.0, -0.2, 0.0, 0.01, 0.5, 1.0, 2.5])
def test_leaky_relu_of_any_slope(slope):
    phi, _, _ = CASES["leaky_relu"].functions({"negative_slope": slope})
    dual = dual_named("leaky_relu", negative_slope=slope)
    c, q1, q2 = grid(CASES["leaky_relu"], VARIANCES + CLOSED)
    exact = [quadrature.pair(phi, (), *values) for values in zip(c, q1, q2, strict=True)]
    error = np.abs(entries(dual, c, q1, q2) - exact)
    assert (error <= 1e-9 * (1 + slope**2) * np.sqrt(q1 * q2)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_jump_at_zero(dtype):
    constants = {"threshold": 0.0, "default_value": -0.2}
    phi, _, _ = CASES["threshold"].functions(constants)
    dual = dual_named("threshold", **constants)
    c, q1, q2 = (v.astype("float32").astype(float) for v in grid(CASES["threshold"], VARIANCES))
    c = np.clip(c, -np.sqrt(q1 * q2), np.sqrt(q1 * q2))
    exact = [quadrature.pair(phi, (), *values) for values in zip(c, q1, q2, strict=True)]
    error = np.abs(entries(dual, c, q1, q2, dtype) - exact) / scale(dual, q1, q2)
    assert error.max() <= (4e-4 if dtype == "float32" else 1e-7)


def test_a_maximum_below_zero_is_refused():
    with pytest.raises(InputError, match="max_value=-1"):
        dual_named("clipped_relu", max_value=-1.0)


@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_heaviside_at_zero(at_zero):
    dual = dual_named("heaviside", at_zero=at_zero)
    assert entries(dual, 0.0, 0.0, 0.0) == at_zero**2
    assert variances(dual, 0.0) == at_zero**2
    assert entries(dual, 0.0, 0.0, 2.0) == at_zero / 2


def test_clipped_relu_is_what_keras_computes():
    u = np.linspace(-3, 3, 61) + 1e-3
    for constants in itertools.product((0.7, 2.0, np.inf), (-0.5, 0.0, 0.4, 1.0), (0.0, 0.3)):
        params = dict(zip(("max_value", "threshold", "negative_slope"), constants, strict=True))
        dual = dual_of(Activation("clipped_relu", tuple(params.items())))
        params["max_value"] = None if params["max_value"] == np.inf else params["max_value"]
        exact = keras.activations.relu(tf.constant(u), **params)
        np.testing.assert_allclose([dual.phi(v) for v in u], exact, atol=1e-12)


WIDE = ((1e-12, 1e-12), (1e-4, 1e-6), (1.0, 0.5), (30.0, 30.0), (1e3, 1e3), (1e4, 1e4),
        (1e5, 1.1e5), (1e6, 1e2), (1e7, 1e7), (1e9, 1e9), (1e12, 1e12), (1e12, 1.0))  # fmt: skip
NEAR = (-1 + 1e-7, -0.99, -0.3, 0.0, 0.5, 0.99, 1 - 1e-3, 1 - 1e-5, 1 - 1e-7)


def wide(case):
    """c, q1, q2 that float32 holds, for variances of every size and correlations next to 1."""
    pairs = [q for q in WIDE if max(q) <= case.largest]
    rho, q1, q2 = np.array([(r, *q) for r, q in itertools.product(NEAR, pairs)]).T
    c, q1, q2 = (v.astype("float32").astype("float64") for v in (rho * np.sqrt(q1 * q2), q1, q2))
    limit = np.sqrt(q1 * q2)
    return np.clip(c, -limit, limit), q1, q2


@pytest.mark.parametrize("name", rows(lambda case: not case.expanded))
@pytest.mark.parametrize("derivative", [False, True])
def test_float32_at_variances_of_every_size(name, derivative):
    """Against quadrature of the same rounded inputs; what float32 cannot hold is not a number."""
    case, dual = CASES[name], dual_named(name)
    if derivative and not dual.differentiable:
        return
    c, q1, q2 = wide(case)
    if case.exact and derivative:
        exact = entries(dual, c, q1, q2, derivative=True)
    else:
        exact = expected(case, c, q1, q2, derivative)
    size = scale(dual, q1, q2, derivative)
    kept = size > (1e-30 if derivative else 1e-25)
    value = entries(dual, c, q1, q2, "float32", derivative)[kept]
    lost = np.isnan(value)
    error = np.abs(value - exact[kept])[~lost] / size[kept][~lost]
    at = kept.nonzero()[0][~lost][error.argmax()]
    worst = f"{error.max():.1e} at {c[at]}, {q1[at]}, {q2[at]}; {lost.sum()} lost"
    assert error.max() <= (1e-3 if derivative else max(case.single, 4e-4)), worst
    assert (np.maximum(q1, q2)[kept][lost] >= 30).all()
    assert (np.abs(c / np.sqrt(q1 * q2))[kept][lost] > 0.999).all()
    one = variances(dual, q1, "float32", derivative)
    both = variances(dual, q1, "float64", derivative)
    np.testing.assert_allclose(one, both, rtol=4e-6, atol=1e-37)


def integrated(case):
    dual = dual_named(next(name for name, other in CASES.items() if other is case))
    return isinstance(dual, Piecewise) and bool(dual.edges)


@pytest.mark.parametrize("name", rows(integrated))
def test_the_figures_of_a_report_beyond_100_hold_in_float32(name, rng):
    """Of covariances of the same rounded inputs, beside those of float64."""
    dual = dual_named(name)
    stated = re.search("and (.*) \\(float64: .* beyond", expansion._integrated(name, dual))
    parallel = re.search("own covariance allows: to ([^ ]*)", expansion._integrated(name, dual))
    q1 = 10 ** rng.uniform(2, 12, 800)
    q2 = np.where(rng.random(800) < 0.5, 1.01 * q1, 10 ** rng.uniform(-2, 12, 800))
    rho = np.concatenate([rng.uniform(-1, 1, 400), 1 - 10 ** rng.uniform(-8, -1, 200),
                          10 ** rng.uniform(-8, -1, 200) - 1])  # fmt: skip
    c, q1, q2 = (v.astype("float32").astype("float64") for v in (rho * np.sqrt(q1 * q2), q1, q2))
    largest = np.sqrt(q1 * q2)
    c = np.clip(c, -largest, largest)
    error = np.abs(entries(dual, c, q1, q2, "float32") - entries(dual, c, q1, q2))
    error /= scale(dual, q1, q2)
    near = np.abs(c) > 0.999 * largest
    assert near.sum() > 100
    assert error[~near].max() <= float(stated[1])
    assert error[near].max() <= float((parallel if dual.saturates else stated)[1])


@pytest.mark.parametrize("name", rows(lambda case: integrated(case) and differentiable(case)))
def test_float32_tangent_kernels_of_nearly_parallel_inputs(name, rng):
    """Right within LARGEST_ERROR, or refused; at most one refusal in fifty without need."""
    dual = dual_named(name)
    q1 = 10 ** rng.uniform(2, 12, 1500)
    near = q1 * 10 ** rng.uniform(-0.01, 0.01, 1500)
    q2 = np.where(rng.random(1500) < 0.5, near, 10 ** rng.uniform(-2, 12, 1500))
    distance = 10 ** rng.uniform(-8, -1, 1500)
    c = np.where(rng.random(1500) < 0.5, 1 - distance, distance - 1) * np.sqrt(q1 * q2)
    c, q1, q2 = (v.astype("float32").astype("float64") for v in (c, q1, q2))
    largest, size = np.sqrt(q1 * q2), scale(dual, q1, q2, True)
    exact, low, high = (
        entries(dual, np.clip(c * factor, -largest, largest), q1, q2, derivative=True)
        for factor in (1, 1 - 2**-21, 1 + 2**-21)
    )
    value = entries(dual, c, q1, q2, "float32", derivative=True)
    lost = np.isnan(value) & np.isfinite(low + exact + high)
    assert (np.abs(value - exact) / size)[~np.isnan(value)].max() <= LARGEST_ERROR
    moved = np.maximum(np.abs(low - exact), np.abs(high - exact)) / size
    assert (moved[lost] < LARGEST_ERROR / 10).sum() <= 0.02 * lost.sum()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-7), ("float64", 6e-16)])
def test_the_arcsine_of_all_sizes(dtype, tolerance):
    ends = np.logspace(-12, 0, 300)
    r = np.concatenate([np.linspace(-1, 1, 4001), ends, 1 - ends, ends - 1]).astype(dtype)
    exact = np.arcsin(r.astype(np.longdouble))
    square = ((1 - r.astype(np.longdouble)) * (1 + r)).astype(dtype)
    angle = arcsin(tf.constant(r), tf.constant(square))
    np.testing.assert_allclose(angle, exact, rtol=tolerance, atol=1e-300)


def test_the_slope_of_the_arcsine():
    r = tf.constant([-0.9, -0.2, 0.0, 0.3, 0.7], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(r)
        value = arcsin(r, (1 - r) * (1 + r))
    np.testing.assert_allclose(tape.gradient(value, r), 1 / np.sqrt(1 - r.numpy() ** 2))


@pytest.mark.parametrize("name", ["relu6", "hard_tanh", "hard_sigmoid"])
def test_clipped_functions_at_large_variances(name):
    """The limit of two levels: the differences of moments were lost beside the variance."""
    dual = dual_named(name)
    low, high = (dual.phi(side * 10.0) for side in (-1, 1))
    width = dual.edges[-1] - dual.edges[0]
    deviation = np.array([1e6, 1e8, 1e14, 1e100])
    q, near = deviation**2, 1e-12 + 10 / deviation
    level = np.full(4, (low**2 + high**2) / 2)
    slope = (high - low) ** 2 / width / deviation / np.sqrt(2 * np.pi)
    assert (abs(variances(dual, q) / level - 1) < near).all()
    assert (abs(variances(dual, q, derivative=True) / slope - 1) < near).all()
    rho = np.array([-0.99, -0.3, 0.6, 0.999])
    limit = ((low + high) / 2) ** 2 + (high - low) ** 2 / (2 * np.pi) * np.arcsin(rho)
    for order in (slice(None), slice(None, None, -1)):
        ours = entries(dual, rho[order] * q, q, q)
        assert (abs(ours - limit[order]) < (1e-6 + near) * high**2).all()
    # That of an image with itself changes by more than it is, within the rounding of q.
    assert np.isnan(entries(dual, q, q, q, derivative=True)[1:]).all()


def test_float32_is_refused_where_differences_of_densities_underflow():
    q = np.array([1e30, 1e33])
    finite = np.isfinite(entries(dual_named("hard_tanh"), q / 2, q, q, "float32"))
    np.testing.assert_array_equal(finite, [True, False])
    assert np.isfinite(entries(dual_named("soft_shrink"), q / 2, q, q, "float32")).all()


PROPERTIES = {
    "odd": (lambda phi, u: np.allclose(phi(-u), -phi(u), atol=1e-12), "is_centered"),
    "even": (lambda phi, u: np.allclose(phi(-u), phi(u), atol=1e-12), "even"),
    "never negative": (lambda phi, u: min(phi(u).min(), phi(-u).min()) >= 0.0, "never_negative"),
    "identity from 0": (lambda phi, u: np.allclose(phi(u), u), "identity_from_zero"),
    "homogeneous": (
        lambda phi, u: (
            np.allclose(phi(2 * u), 2 * phi(u)) and np.allclose(phi(-2 * u), 2 * phi(-u))
        ),
        "homogeneous",
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("holds", "property_"), PROPERTIES.values(), ids=PROPERTIES)
def test_the_ops_know_the_symmetries_of_each_function(name, holds, property_):
    phi = CASES[name].functions()[0]
    points = np.linspace(0.0123, 20.0, 997)  # no corner of a case
    known = getattr(Activation(name), property_)
    known = known([True]) if callable(known) else known
    with np.errstate(over="ignore", invalid="ignore"):
        assert holds(lambda u: np.asarray(phi(u)), points) == known
