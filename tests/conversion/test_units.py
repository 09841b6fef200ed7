"""Outputs whose units depend on each other, or come from several heads: units as positions."""

import keras
import networks
import numpy as np
import pytest
from keras import layers, ops

import keras2gp
from keras2gp.errors import UnsupportedModelError, WideningError

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}


def dense(x, units, **settings):
    return layers.Dense(units, **(HE | settings))(x)


def kernel_of(inputs, output):
    return keras2gp.convert(keras.Model(inputs, output), dtype="float64")


@pytest.fixture
def x():
    return keras.Input((5,))


@pytest.fixture
def data(rng):
    return rng.normal(size=(3, 5))


BASIS = np.array([[1.0, 1.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.25, 1.0]])
MIXED = {
    "centred": (0.0, np.eye(3) - 1 / 3, lambda v, a: a - ops.mean(a, axis=-1, keepdims=True)),
    "dueling": (1.0, np.eye(3) - 1 / 3, lambda v, a: v + (a - ops.mean(a, axis=1, keepdims=True))),
    "a level and its parts": (4.0, np.eye(3) / 4, lambda v, a: layers.Add()([2.0 * v, a / 2])),
    "less the sum": (0.25, np.eye(3) + 1, lambda v, a: a - ops.sum(a, -1, keepdims=True) - v / 2),
    "sums up to each": (
        0.0, np.array([[1, 1, 1], [1, 2, 2], [1, 2, 3]]), lambda v, a: ops.cumsum(a, axis=-1)),
    "sums up to each, of a level and its parts": (
        np.outer([1, 2, 3], [1, 2, 3])[:, None, :], np.array([[1, 1, 1], [1, 2, 2], [1, 2, 3]]),
        lambda v, a: ops.cumsum(v + a, axis=1)),
    "of a basis": (1.0, BASIS.T @ BASIS, lambda v, a: v + ops.matmul(a, BASIS)),
    "a basis of a level and its parts": (
        np.outer(BASIS.sum(0), BASIS.sum(0))[:, None, :], BASIS.T @ BASIS,
        lambda v, a: ops.tensordot(v + a, BASIS, 1)),
    "softmax of it": (1.0, np.eye(3), lambda v, a: layers.Softmax()(v + a)),
}  # fmt: skip


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c == "dueling" else pytest.mark.slow) for c in MIXED]
)
def test_linear_maps_of_units_have_their_covariance(case, x, data):
    """Cov(y_p, y_q) = c k_v + M_pq k_a, of the two branches' own kernels."""
    factor, matrix, function = MIXED[case]
    h = dense(x, 16, activation="relu")
    v, a = dense(h, 1), dense(h, 3)
    mixed, level, parts = kernel_of(x, function(v, a)), kernel_of(x, v), kernel_of(x, a)
    assert mixed.positions == (3,)
    pair = data[:2], data[2:]
    for kind in ("nngp", "ntk"):
        k_v, k_a = (np.asarray(k(*pair, get=kind)) for k in (level, parts))
        expected = factor * k_v[:, None, :, None] + k_a[:, None, :, None] * matrix[:, None, :]
        found = mixed(*pair, get=kind, positions="all")
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        diagonal = np.einsum("ipjp->ijp", expected)
        np.testing.assert_allclose(mixed(*pair, get=kind), diagonal, rtol=1e-9, atol=1e-12)


def test_sums_up_to_each_unit_have_no_weights_after_them(x):
    model = keras.Model(x, dense(ops.cumsum(dense(x, 3), axis=1), 2))
    with pytest.raises(UnsupportedModelError, match="sums that share their terms"):
        keras2gp.convert(model)


TIMES_A_BASIS = {
    "@": lambda h, b: h @ b,
    "dot": ops.dot,
    "tensordot": lambda h, b: ops.tensordot(h, b, 1),
    "tensordot of axes": lambda h, b: ops.tensordot(h, b, [[-1], [0]]),
}


@pytest.mark.parametrize("name", TIMES_A_BASIS)
def test_units_times_a_basis(name, x, data):
    """Forecasts of N-BEATS: Cov(y_p, y_q) = k (B^T B)_pq, B of another size than its units."""
    basis = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
    theta = dense(dense(x, 16, activation="relu"), 2)
    made, plain = kernel_of(x, TIMES_A_BASIS[name](theta, basis)), kernel_of(x, theta)
    assert made.positions == (4,)
    for kind in ("nngp", "ntk"):
        pair = data[:2], data[2:]
        expected = np.asarray(plain(*pair, get=kind))[:, None, :, None] * (basis.T @ basis)[:, None]
        found = made(*pair, get=kind, positions="all")
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_units_times_a_basis_have_no_weights_after_them(x):
    mixed = ops.matmul(dense(x, 3), BASIS)
    with pytest.raises(UnsupportedModelError, match="would sum over few numbers that share"):
        keras2gp.convert(keras.Model(x, dense(mixed, 2)))
    for product in (
        lambda h: ops.tensordot(h, BASIS, [[1], [1]]),
        lambda h: ops.tensordot(BASIS, h, [[0], [1]]),
        lambda h: ops.tensordot(h, np.ones((3, 2, 2)), 1),
    ):
        with pytest.raises(UnsupportedModelError, match="it sums products over axes of its own"):
            keras2gp.convert(keras.Model(x, product(dense(x, 3))))


def test_heads_side_by_side_are_positions(x, data):
    h = dense(x, 16, activation="relu")
    heads = [dense(h, 1), dense(dense(h, 8, activation="relu"), 2)]
    joined = kernel_of(x, layers.Concatenate()(heads))
    assert joined.positions == (3,)
    first, second = (np.asarray(kernel_of(x, head)(data)) for head in heads)
    found = np.asarray(joined(data, positions="all"))
    for p, q in np.ndindex(3, 3):
        own = first if p == 0 else second
        expected = own if p == q else 0 * own
        np.testing.assert_allclose(found[:, p, :, q], expected, rtol=1e-12)


PARAMETERS = {
    "elu + 1": lambda h: keras.activations.elu(h) + 1.0,
    "elu + 1 + small": lambda h: 1.0 + keras.activations.elu(h) + 1e-6,
    "softplus": keras.activations.softplus,
    "exp": ops.exp,
    "clip": lambda h: ops.clip(h, -20.0, 2.0),
    "exp of clip": lambda h: ops.exp(ops.clip(h, -20.0, 2.0)),
    "tanh in an interval": lambda h: -5.0 + 3.5 * (ops.tanh(h) + 1.0),
    "exp of a layer": layers.Activation("exponential"),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_functions_of_the_parameters_of_a_distribution(x, data, case):
    """Mixture densities, means beside deviations: each head is the process before its function."""
    h = dense(x, 16, activation="relu")
    first, second = dense(h, 2), dense(h, 2)
    plain, made = (
        layers.Concatenate()([first, f(second)]) for f in (lambda h: h, PARAMETERS[case])
    )
    kernel = kernel_of(x, made)
    expected = kernel_of(x, plain)(data, positions="all")
    np.testing.assert_array_equal(kernel(data, positions="all"), expected)
    assert kernel.mean is None
    notes = [note for note in kernel.report.notes if "removed" in note]
    assert len(notes) == 1 + (case == "exp of clip")
    moved = case not in ("softplus", "exp", "exp of a layer")
    assert any("with the factor" in note for note in notes) == moved
    assert kernel.report.removed


def test_a_factor_of_all_heads_stays_on_those_without_a_function(x, data):
    h = dense(x, 16, activation="relu")
    first, second = dense(h, 2), dense(h, 2)
    kernel = kernel_of(x, 2.0 * layers.Concatenate()([ops.tanh(first), second]))
    expected = kernel_of(x, layers.Concatenate()([first, 2.0 * second]))(data, positions="all")
    np.testing.assert_array_equal(kernel(data, positions="all"), expected)


@pytest.mark.parametrize("function", ["relu", "elu"])
def test_other_functions_of_a_head_are_refused(x, function):
    h = dense(x, 16, activation="relu")
    model = keras.Model(x, layers.Concatenate()([dense(h, 2), dense(h, 2, activation=function)]))
    with pytest.raises(UnsupportedModelError, match="ends in an activation"):
        keras2gp.convert(model)


def test_heads_of_a_map(rng):
    image = keras.Input((4, 3, 2))
    h = layers.Conv2D(8, 2, padding="same", activation="relu", **HE)(image)
    boxes, classes = (layers.Conv2D(n, 1, **HE)(h) for n in (2, 3))
    joined = kernel_of(image, layers.Concatenate()([boxes, classes]))
    assert joined.positions == (4, 3, 5)
    x = rng.normal(size=(2, 4, 3, 2))
    found, expected = np.asarray(joined(x)), np.asarray(kernel_of(image, boxes)(x))
    np.testing.assert_allclose(found, np.repeat(expected[..., None], 5, -1), rtol=1e-12)


def test_the_last_value_is_added_to_a_forecast(rng):
    """NLinear: the input is broadcast over the steps of the output, and is its mean."""
    series = keras.Input((6, 2))
    last = series[:, -1:, :]
    steps = layers.Permute((2, 1))(dense(layers.Permute((2, 1))(series - last), 4))
    kernel = kernel_of(series, steps + last)
    assert kernel.positions == (4, 2)
    x = rng.normal(size=(3, 6, 2))
    expected = np.broadcast_to(x[:, -1:, :], (3, 4, 2))
    np.testing.assert_allclose(kernel.mean(x)[..., 0], expected)
    own = np.asarray(kernel_of(series, steps)(x))
    np.testing.assert_allclose(kernel(x), np.repeat(own[:, :, None], 4, 2), rtol=1e-12)


def test_a_regression_of_units_that_share_a_level(x, rng):
    h = dense(x, 16, activation="relu")
    kernel = kernel_of(x, dense(h, 1) + dense(h, 3))
    data, y = rng.normal(size=(5, 5)), rng.normal(size=(5, 3))
    found = keras2gp.GPRegressor(kernel, noise_variance=0.1, normalize_y=False).fit(data, y)
    whole = np.asarray(kernel(data, positions="all")).reshape(15, 15)
    weights = np.linalg.solve(whole + 0.1 * np.eye(15), y.ravel())
    np.testing.assert_allclose(found.predict(data).ravel(), whole @ weights, rtol=1e-6)


AFTER = {
    "weights": lambda h: dense(h, 2),
    "a product": lambda h: h * dense(h, 3),
    "a sum over them": lambda h: ops.sum(h, axis=-1, keepdims=True),
    "constants that differ": lambda h: h + np.array([0.0, 1.0, 2.0]),
}


@pytest.mark.parametrize("case", AFTER)
def test_what_follows_units_is_refused_at_the_sum(case, x):
    model = keras.Model(x, AFTER[case](layers.Add(name="both")([dense(x, 1), dense(x, 3)])))
    with pytest.raises(UnsupportedModelError) as error:
        keras2gp.convert(model)
    (obstacle,) = [o for o in error.value.obstacles if o.where == "both"]
    assert "broadcast shares its randomness" in obstacle.why


def test_copies_have_no_more_units(x):
    model = keras.Model(x, layers.Concatenate()([dense(x, 1), dense(x, 2)]))
    with pytest.raises(WideningError, match="output=LAYER"):
        keras2gp.verify(model, data=2)


@pytest.mark.parametrize(
    "function",
    [
        lambda v, a: layers.Concatenate()([a[:, :2], a[:, 1:]]),
        lambda v, a: layers.Concatenate()([v, a[:, 1:] + a[:, :2]]),
        lambda v, a: v + (a[:, 1:] - a[:, :2]),
        lambda v, a: layers.Concatenate()([a, a[:, :2]]),
    ],
    ids=["slices", "differences beside a head", "differences and a level", "a part once more"],
)
def test_units_that_share_channels_are_refused(function, x):
    h = dense(x, 16, activation="relu")
    with pytest.raises(UnsupportedModelError):
        keras2gp.convert(keras.Model(x, function(dense(h, 1), dense(h, 3))))


def test_inner_products_side_by_side(rng):
    """They are uncorrelated heads, those of independent towers and those that share one."""
    x = keras.Input((6,))
    a, b, c, d = (layers.Dense(8)(x) for _ in range(4))
    first, second, other = (
        ops.sum(u * v, axis=1, keepdims=True) for u, v in ((a, b), (c, d), (a, c))
    )
    data = rng.normal(size=(3, 6))
    heads = keras2gp.convert(keras.Model(x, layers.Concatenate()([first, second])), dtype="float64")
    found = np.asarray(heads(data, positions="all"))
    alone = np.asarray(keras2gp.convert(keras.Model(x, first), dtype="float64")(data))
    np.testing.assert_allclose(found[:, 0, :, 0], alone, rtol=1e-12)
    np.testing.assert_allclose(found[:, 1, :, 1], alone, rtol=1e-12)
    assert not found[:, 0, :, 1].any()
    shared = keras2gp.convert(keras.Model(x, layers.Concatenate()([first, other])), dtype="float64")
    np.testing.assert_allclose(np.asarray(shared(data, positions="all")), found, rtol=1e-12)


HEADS = {
    "beside one without": (lambda a, b, c: ops.concatenate([ops.tanh(a), b], -1), 1),
    "several": (lambda a, b, c: ops.concatenate([ops.tanh(a), ops.sigmoid(b), c], -1), 2),
    "joined twice": (lambda a, b, c: ops.concatenate([
        ops.softmax(a), ops.concatenate([ops.sigmoid(b), c], -1)], -1), 2),
    "stacked": (lambda a, b, c: ops.stack([ops.softmax(a), ops.softmax(c)], axis=1), 2),
    "as positions": (lambda a, b, c: ops.concatenate([
        layers.Reshape((1, 3))(ops.sigmoid(a)), layers.Reshape((1, 3))(c)], 1)[:, ::-1], 1),
    "the same under two": (lambda a, b, c: ops.concatenate([ops.tanh(a), ops.sigmoid(a)], -1), 2),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADS)
def test_activations_of_joined_heads_are_left_out(case, x, data):
    function, count = HEADS[case]
    h = dense(x, 16, activation="relu")
    a, b, c = dense(h, 3), dense(h, 2), dense(h, 3)
    kernel = kernel_of(x, function(a, b, c))
    assert sum("removed" in note for note in kernel.report.notes) == count
    names = {name: lambda u, *_: u for name in ("tanh", "sigmoid", "softmax")}
    module = type("Ops", (), {**vars(ops), **names})
    linear = type(function)(function.__code__, {**function.__globals__, "ops": module})
    expected = kernel_of(x, linear(a, b, c))
    assert kernel.positions == expected.positions
    networks.assert_same(kernel, expected, data)


def test_heads_whose_activations_stay_are_refused(x):
    h = dense(x, 16, activation="relu")
    a, b = dense(h, 2), dense(h, 2)
    p = ops.sigmoid(a)
    for joined in (
        ops.concatenate([ops.relu(a), b], -1),
        ops.concatenate([p, dense(ops.relu(dense(p, 8)), 2)], -1),
        ops.sigmoid(a) + ops.sigmoid(b),
    ):
        with pytest.raises(UnsupportedModelError, match="output ends in an activation"):
            kernel_of(x, joined)


@pytest.mark.usefixtures("traced")
def test_copies_leave_them_out_too(x, data):
    h = dense(x, 16, activation="relu")
    joined = ops.stack([dense(h, 3, activation="softmax"), ops.softmax(dense(h, 3))], axis=1)
    assert keras2gp.verify(keras.Model(x, joined), data=data).accepted
