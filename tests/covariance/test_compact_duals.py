"""Compact duals: their bounds, against the general forms, and where a kernel uses them."""

from itertools import product

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracles import quadrature
from oracles.activations import CASES

import keras2gp
from keras2gp.covariance import program  # noqa: F401 (registers the duals)
from keras2gp.covariance.duals import sampled
from keras2gp.covariance.duals.hermite import LARGEST_DEGREE, TOLERANCE
from keras2gp.covariance.duals.sample_points import ALL, ODD
from keras2gp.covariance.registry import dual_of
from keras2gp.graph.ops import Activation
from keras2gp.matrices import compiled

RHO = np.array([-1.0, -0.9999, -0.9, -0.5, -0.1, 0.0, 1e-6, 0.3, 0.6, 0.9, 0.99, 0.9999, 1.0])
FAST = {"elu": {}, "tanh": {}}
SLOW = {
    "celu": {"alpha": 1.0},
    "gelu_tanh": {},
    "mish": {},
    "selu": {},
    "sigmoid": {},
    "silu": {},
    "softplus": {},
}
FAR = {
    "relu6": {},
    "clipped_relu": {"max_value": 6.5, "negative_slope": 0.2},
}
NEAR = {"hard_sigmoid": {}, "hard_tanh": {}, "clipped_relu at 1": {"max_value": 1.0}}
CURVED = {"hard_silu": {}, "sparse_plus": {}}
ROWS = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
NARROW = ["tanh", *(pytest.param(name, marks=pytest.mark.slow) for name in ("elu", *SLOW))]


def duals(name, tangent=False, form="compact"):
    """The compact or the narrow form, and the longest series or the integrals."""
    constants = tuple((FAST | SLOW | FAR | NEAR | CURVED)[name].items())
    dual = dual_of(Activation(name.partition(" at ")[0], constants))
    return dual.compact(tangent=tangent, reach=form), dual.with_degree(LARGEST_DEGREE)


def grid(limit):
    """c, q1, q2, [n] each."""
    q = np.array([0.0, 1e-6, 1e-3, 0.1, 0.4, 1.0, 0.5 * limit, limit])
    rho, q1, q2 = (a.ravel() for a in np.meshgrid(RHO, q, q))
    return rho * np.sqrt(q1 * q2), q1, q2


def values(dual, arrays, dtype="float64", derivative=False):
    c, q1, q2 = (tf.constant(a, dtype) for a in arrays)
    form = dual.derivative if derivative else dual.covariance
    return np.asarray(form(c, dual.prepare(q1), dual.prepare(q2)), "float64")


def scale(dual, arrays, derivative=False):
    form = dual.derivative_second_moment if derivative else dual.second_moment
    size = np.sqrt(form(tf.constant(arrays[1])) * form(tf.constant(arrays[2])))
    return np.where(size > 0, size, 1)


def own_error(dual, limit, derivative=False):
    """Of the longest series, which states it; integrals have none in float64."""
    q = np.array([0.4, 1.0, limit])
    return dual.bounds(q, derivative=derivative).max() if isinstance(dual, keras2gp.Hermite) else 0


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("hard_tanh", "narrow"),
        ("clipped_relu at 1", "narrow"),
        *(
            pytest.param(name, form, marks=pytest.mark.slow)
            for name, form in [
                *product([*FAR, *NEAR], ["compact", "narrow"]),
                *product(CURVED, ["compact"]),
            ]
        ),
    ],
)
def test_corners_are_within_their_bound(name, form, rng):
    dual, integrals = duals(name, form=form)
    for arrays in (grid(dual.limit), adversarial(dual.limit, rng)):
        for dtype, rounding in (("float64", 1e-11), ("float32", 1e-6)):
            error = np.abs(values(dual, arrays, dtype) - values(integrals, arrays))
            assert (error / scale(integrals, arrays)).max() <= dual.errors[0] + rounding
    assert dual.errors[0] <= TOLERANCE


def adversarial(limit, rng):
    """c, q1, q2, [500] each: nearly equal variances, correlations near 1, -1 and 0, the limit."""
    q1, q2 = limit * rng.uniform(size=(2, 500))
    q2[:200] = np.minimum(q1[:200] * rng.choice([0.9, 0.99, 0.999, 1.0, 1.001], 200), limit)
    q1[:20] = q2[:20] = limit
    rho = (1 - 2 * rng.uniform(size=500) ** 3) * rng.choice([-1, 1], 500)
    rho[20:60] = 1e-4 * rng.normal(size=40)
    return rho * np.sqrt(q1 * q2), q1, q2


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("hard_tanh", "narrow"),
        *(
            pytest.param(name, form, marks=pytest.mark.slow)
            for name, form in product(NEAR, ["compact", "narrow"])
            if (name, form) != ("hard_tanh", "narrow")
        ),
    ],
)
def test_slopes_at_corners_are_within_their_bound(name, form, rng):
    dual, integrals = duals(name, tangent=True, form=form)
    for arrays in (grid(dual.limit), adversarial(dual.limit, rng)):
        exact, size = values(integrals, arrays, derivative=True), scale(integrals, arrays, True)
        error = np.abs(values(dual, arrays, derivative=True) - exact) / size
        assert error.max() <= dual.errors[1] + 1e-8
        # The slope of the derivative is infinite at |rho| = 1, as that of ReLU's is.
        error = np.abs(values(dual, arrays, "float32", derivative=True) - exact) / size
        inside = np.abs(arrays[0]) < 0.999 * np.sqrt(arrays[1] * arrays[2])
        assert error[inside].max() <= dual.errors[1] + 5e-6
        # At the largest variances float32 may not tell: the general form has no number there.
        told = np.isfinite(values(integrals, arrays, "float32", derivative=True))
        assert told.mean() > 0.99
        assert error[told].max() <= 5e-4
        assert np.isnan(error[~told]).all()
    assert dual.errors[1] <= 1e-5


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("hard_tanh", "narrow"),
        *(
            pytest.param(name, form, marks=pytest.mark.slow)
            for name, form in [
                ("hard_tanh", "compact"),
                *product(["hard_sigmoid", "clipped_relu at 1"], ["narrow", "compact"]),
                ("hard_silu", "compact"),
            ]
        ),
    ],
)
def test_corners_agree_with_quadrature(name, form):
    dual, _ = duals(name, tangent=True, form=form)
    function = name.partition(" at ")[0], (NEAR | CURVED)[name]
    rho = np.array([-0.9999, -0.8, -1e-5, 0.4, 0.97, 0.99999, 1.0])
    q2 = np.array([0.3, 0.5, 0.2, 0.02, dual.limit, 0.999, dual.limit])
    q1 = np.array([0.3, 0.9, 1.0, 1.0, 0.8 * dual.limit, 1.0, dual.limit])
    arrays = rho * np.sqrt(q1 * q2), q1, q2
    for derivative in (False, True):
        exact = quadrature.dual(*function, *arrays, derivative=derivative)
        error = np.abs(values(dual, arrays, derivative=derivative) - exact)
        error /= scale(dual, arrays, derivative)
        assert error.max() <= dual.errors[derivative] + 1e-8


@pytest.mark.parametrize("name", ["hard_tanh", pytest.param("relu6", marks=pytest.mark.slow)])
def test_the_bound_of_points_holds_between_its_deviations(name, rng):
    whole = dual_of(Activation(name))
    edges, jumps = whole.edges, whole.slope_jumps
    sigma = np.geomspace(min(t for t in edges if t > 0) / 10, 2, 512)
    rows = sampled._bounds(whole, edges, jumps, sigma, whole.slope_at_zero)
    between = sigma[0] * (sigma[-1] / sigma[0]) ** rng.uniform(size=40)
    nearest = np.abs(np.log(between[:, None] / sigma)).argmin(1)
    sizes = np.asarray(whole.second_moment(tf.constant(between**2))) / between**2
    n = np.arange(4000)
    terms = 0.0
    for t, a in zip(edges, jumps, strict=True):
        if t:
            sign = np.where(n % 2, np.sign(t), 1)
            terms = terms + a * sign * sampled._densities(abs(t) / between)[:4000].T
    for count, (x, w) in sampled._points(edges, jumps).items():
        missed = np.abs(w @ np.array(x)[:, None] ** n - 1 / ((n + 1.0) * (n + 2)))
        assert (terms**2 @ missed / sizes <= rows[count][nearest]).all()


@pytest.mark.parametrize("points", [ALL, ODD])
def test_terms_beyond_the_longest_are_within_their_bound(points):
    n = np.arange(sampled._LONGEST, 2**21)
    n = n[n % 2 == 1] if points is ODD else n
    for count in sorted(points)[-3:]:
        x, w = points[count]
        taken = sum(b * np.exp(n * np.log(a)) for a, b in zip(x, w, strict=True))
        missed = np.abs(taken - 1 / ((n + 1.0) * (n + 2))) @ np.sqrt(n[0] / n)
        bound = sampled._missed_beyond(x, w, odd=points is ODD)
        assert missed <= bound <= 1.3 * missed


def test_hermite_functions_are_within_their_bound():
    h = np.linspace(0, 12, 500)
    squares = (sampled._densities(h) * np.exp(h * h / 4) * np.sqrt(2 * np.pi)) ** 2
    for n in (0, 1, 2, 3, 4, 7, 20, 99, 1000, 16000):
        assert (squares[n] <= sampled._sonin(n, h) * (1 + 1e-9)).all()


def test_a_narrow_form_of_corners_has_fewer_points():
    for name in NEAR:
        (compact, _), (narrow, _) = duals(name), duals(name, form="narrow")
        assert 1.05 <= narrow.limit < compact.limit == pytest.approx(4)
        assert narrow.width < compact.width


@pytest.mark.parametrize("name", ROWS)
def test_the_covariance_is_within_its_bound(name):
    compact, series = duals(name)
    arrays = grid(compact.limit)
    exact = values(series, arrays)
    own = own_error(series, compact.limit)
    for dtype, rounding in (("float64", 1e-12), ("float32", 1e-6)):
        error = np.abs(values(compact, arrays, dtype) - exact) / scale(series, arrays)
        assert error.max() <= compact.errors[0] + own + rounding
    assert compact.errors[0] <= TOLERANCE


@pytest.mark.parametrize("name", NARROW)
def test_the_narrow_form_is_within_its_bounds_in_fewer_steps(name):
    narrow, series = duals(name, tangent=True, form="narrow")
    compact, _ = duals(name, tangent=True)
    assert narrow.limit < compact.limit
    assert narrow.cost < compact.cost
    arrays = grid(narrow.limit)
    for derivative in (False, True):
        exact = values(series, arrays, derivative=derivative)
        error = np.abs(values(narrow, arrays, derivative=derivative) - exact)
        error = (error / scale(series, arrays, derivative)).max()
        bound = narrow.errors[derivative] + own_error(series, narrow.limit, derivative)
        assert error <= bound + (1e-8 if derivative else 1e-12)
    assert narrow.errors[0] <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *product(NARROW[:1], ["compact", "narrow"]),
        *(
            pytest.param(name, form, marks=pytest.mark.slow)
            for name, form in [*product(["elu", *SLOW], ["compact", "narrow"]), ("selu", "wide")]
        ),
    ],
)
def test_it_agrees_with_quadrature(name, form):
    constants = (FAST | SLOW)[name]
    dual, _ = duals(name, tangent=True, form=form)
    for rho, q1, q2 in ((-0.8, 0.5, 0.9), (0.4, 0.02, 1.0), (0.97, 0.8 * dual.limit, dual.limit)):
        arrays = rho * np.sqrt(q1 * q2), q1, q2
        arrays = [np.array([a]) for a in arrays]
        for derivative in (False, True):
            exact = quadrature.dual(name, constants, *(a[0] for a in arrays), derivative=derivative)
            for dtype, rounding in (("float64", 1e-9), ("float32", 5e-7)):
                error = values(dual, arrays, dtype, derivative) - exact
                error = np.abs(error / scale(dual, arrays, derivative))
                assert error <= dual.errors[derivative] + rounding


@pytest.mark.slow
def test_the_wide_form_is_within_its_bounds_beyond_the_compact_one():
    wide, series = duals("selu", tangent=True, form="wide")
    compact, _ = duals("selu", tangent=True)
    assert compact.limit < 4 < wide.limit
    assert wide.cost < 4 * series.columns
    arrays = grid(wide.limit)
    for derivative in (False, True):
        exact = values(series, arrays, derivative=derivative)
        bound = wide.errors[derivative] + own_error(series, wide.limit, derivative)
        for dtype, rounding in (("float64", 1e-8), ("float32", 2e-6)):
            error = np.abs(values(wide, arrays, dtype, derivative) - exact)
            # In float32 a steep slope shows how coarse c is near |rho| = 1.
            if not derivative or dtype == "float64":
                assert (error / scale(series, arrays, derivative)).max() <= bound + rounding
    assert wide.errors[0] <= TOLERANCE


def test_a_form_that_reaches_far_has_no_wide_one():
    for name in ("tanh", "relu6", "gelu"):
        assert dual_of(Activation(name)).compact(reach="wide") is None


def test_a_form_that_is_cheap_has_no_narrow_one():
    for name in ("gelu", "hard_silu", "sparse_plus"):
        assert dual_of(Activation(name)).compact(reach="narrow") is None


@pytest.mark.parametrize("name", [*ROWS, "relu6", "clipped_relu"])
def test_the_derivative_is_within_its_bound(name):
    compact, series = duals(name, tangent=True)
    arrays = grid(compact.limit)
    exact = values(series, arrays, derivative=True)
    own = own_error(series, compact.limit, derivative=True)
    error = np.abs(values(compact, arrays, derivative=True) - exact) / scale(series, arrays, True)
    assert error.max() <= compact.errors[1] + own + 1e-8


@pytest.mark.parametrize("name", ROWS)
def test_moments_are_those_of_the_series(name):
    compact, series = duals(name, tangent=True)
    q = tf.constant([0.0, 1e-4, 0.3, 1.0, compact.limit], tf.float64)
    for moment in ("mean", "second_moment", "derivative_second_moment"):
        # The mean of selu vanishes at a variance of 1, where only rounding is left of it.
        found, expected = getattr(compact, moment)(q), getattr(series, moment)(q)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


def test_moments_beyond_the_limit_are_not_numbers():
    compact, _ = duals("tanh")
    q = tf.constant([compact.limit, 1.01 * compact.limit], tf.float64)
    for value in (compact.mean(q), compact.second_moment(q), compact.prepare(q)[0]):
        assert np.isfinite(value[0])
        assert np.isnan(value[1])


@pytest.mark.parametrize("name", ["relu6", "hard_sigmoid"])
def test_corners_that_are_not_seen_at_small_variances(name):
    compact, integrals = duals(name)
    q = tf.constant([0.0, 1e-4, 0.3, 1.0, compact.limit, 1.01 * compact.limit], tf.float64)
    for moment in ("mean", "second_moment"):
        found, expected = (np.asarray(getattr(d, moment)(q)) for d in (compact, integrals))
        np.testing.assert_allclose(found[:-1], expected[:-1], rtol=1e-6)
        assert np.isnan(found[-1])


@pytest.mark.parametrize(
    ("name", "constants"),
    [("square", {}), ("soft_shrink", {"threshold": 4.0}), ("clipped_relu", {"max_value": 0.01})],
)
def test_corners_too_near_or_all_of_a_function_and_no_corners_have_none(name, constants):
    assert dual_of(Activation(name, tuple(constants.items()))).compact() is None


def test_a_tangent_kernel_of_corners_among_curves_is_that_of_integrals():
    dual, integrals = duals("sparse_plus", tangent=True)
    arrays = grid(dual.limit)
    found, expected = (values(d, arrays, derivative=True) for d in (dual, integrals))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-9])
def test_it_is_as_exact_as_the_series(tolerance):
    dual = dual_of(Activation("sigmoid"))
    dual = dual.with_degree(dual.least_degree(tolerance))
    compact = dual.compact()
    assert compact is None or compact.errors[0] <= tolerance + 2e-8


FUNCTIONS = {
    "a corner apart from 0": lambda u: tf.minimum(u, 1.0),
    "waves": lambda u: tf.sin(20 * u),
    "an overflow": lambda u: tf.exp(u * u),
    "a constant": lambda u: 1 + 0 * u,
}


@pytest.mark.parametrize(
    "name",
    ["a corner apart from 0", *(pytest.param(n, marks=pytest.mark.slow) for n in [*FUNCTIONS][1:])],
)
def test_functions_that_its_table_does_not_hold_have_none(name):
    dual = keras2gp.Hermite(degree=5)
    dual.phi, dual.constants = FUNCTIONS[name], ("phi",)
    assert dual.compact() is None


def network(activation):
    he = {"kernel_initializer": "he_normal", "padding": "same", "activation": activation}
    parts = [keras.layers.Conv2D(8, 3, **he) for _ in range(2)]
    return keras.Sequential(
        [keras.Input((4, 4, 1)), *parts, keras.layers.Flatten(), keras.layers.Dense(1)]
    )


@pytest.mark.slow
def test_a_kernel_uses_the_wide_form_where_variances_are_beyond_the_compact_one(rng):
    single, double = (keras2gp.convert(network("selu"), dtype=d) for d in ("float32", "float64"))
    forms = single._program.forms
    assert [form.program.reach for form in forms] == ["narrow", "compact", "wide", None]
    images = np.sign(rng.normal(size=(20, 4, 4, 1))).astype("float32")
    np.testing.assert_allclose(single.matrix(images), double.matrix(images), rtol=2e-5)
    assert [f.cross.experimental_get_tracing_count() for f in forms] == [0, 0, 1, 0]
    (note,) = single.report.notes
    assert "is above 2.05, in 11 terms with an error of at most" in note
    assert "and where none is above 8, in 19 terms with an error of at most" in note


@pytest.mark.parametrize("kind", ["nngp", pytest.param("ntk", marks=pytest.mark.slow)])
def test_a_kernel_uses_it_where_all_variances_of_a_block_allow(kind, rng, monkeypatch):
    monkeypatch.setattr(compiled, "XLA", kind != "nngp")
    model = network("sigmoid")
    single, double = (keras2gp.convert(model, dtype=d, kind=kind) for d in ("float32", "float64"))
    near = np.sign(rng.normal(size=(20, 4, 4, 1))).astype("float32")
    middle, far = near.copy(), near.copy()
    middle[17] *= 1.5
    far[17] *= 30
    forms = single._program.forms
    assert [form.program.reach for form in forms] == ["narrow", "compact", None]
    assert len(double._program.forms) == 1
    for turn, images in enumerate((near, middle, far)):
        k, exact = (kernel.matrix(images) for kernel in (single, double))
        np.testing.assert_allclose(k, exact, rtol=2e-5)
        used = [form.cross.experimental_get_tracing_count() for form in forms]
        assert used == [int(turn >= n) for n in range(3)]
    np.testing.assert_allclose(single.diag(near), double.diag(near), rtol=2e-5)


def test_a_report_states_it():
    (note,) = keras2gp.convert(network("elu")).report.notes
    assert "in float32, where no variance of a block of images is above 4, in 14 terms" in note
    assert "9e-07, and where none is above 2, in 12 terms with an error of at most 8e-07" in note
    (note,) = keras2gp.convert(network("relu6")).report.notes
    assert "is above 4, in 8 points with an error of at most 9e-07, and where none is above" in note
    assert "above 1.382, by its two slopes next to 0 with an error of at most 1e-06" in note
    assert set(FAST) | set(SLOW) <= set(CASES)
