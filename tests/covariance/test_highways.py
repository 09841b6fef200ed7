"""Sums of products that share factors, and sums over channels, beside the oracle of all positions.

The oracle has the moments of a gate from a layer of its own, in the place of its sum of products.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops
from oracles import full_covariance as full_oracle
from scipy import special

import keras2gp
from keras2gp.errors import UnsupportedModelError

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
IMAGE = (3, 2, 2)


class Highway(layers.Layer):
    """t h + (1 - t) x."""

    def call(self, t, h, x):
        return t * h + (1 - t) * x


class Gated(layers.Layer):
    """h + h g."""

    def call(self, h, g):
        return h + h * g


class Beside(layers.Layer):
    """A tensor beside its LayerNormalization, with a factor each."""

    epsilon = 0.1

    def __init__(self, *factors, **settings):
        super().__init__(**settings)
        self.factors = factors

    def call(self, h):
        return h


class BesideSize(Beside):
    """A tensor beside a function of two slopes of its LayerNormalization: slope, both factors."""


class BesideFunction(Beside):
    """A tensor beside a function of its LayerNormalization: phi, both factors."""


class TimesFunction(Beside):
    """A tensor times a function of its LayerNormalization."""


FUNCTIONS = {"erf": ops.erf, "gelu": keras.activations.gelu, "relu": ops.relu, "sin": ops.sin}


def written_beside_function(phi, skip, factor):
    def call(h):
        norm = layers.LayerNormalization(epsilon=Beside.epsilon)(h)
        return skip * h + factor * FUNCTIONS[phi](norm)

    return call


def written_times_function(phi):
    def call(h):
        return h * FUNCTIONS[phi](layers.LayerNormalization(epsilon=Beside.epsilon)(h))

    return call


def written_beside_size(slope, skip, factor):
    def call(h):
        norm = layers.LayerNormalization(epsilon=Beside.epsilon)(h)
        if slope == -1.0:
            return skip * h + factor * ops.abs(norm)
        phi = layers.LeakyReLU(negative_slope=slope) if slope else layers.ReLU()
        return factor * phi(norm) + (h if skip == 1.0 else skip * h)

    return call


def written_beside(*factors):
    def call(h):
        _, factor = factors
        norm = layers.LayerNormalization(epsilon=Beside.epsilon)(h)
        if factor == -1.0:
            return h - norm
        return h + (norm if factor == 1.0 else factor * norm)

    return call


def written_highway(t, h, x):
    return t * h + (1 - t) * x


def written_gated(h, g):
    return h + h * g


WRITTEN = {"highway": written_highway, "gated": written_gated, "beside": written_beside,
           "size": written_beside_size, "function": written_beside_function,
           "times": written_times_function}  # fmt: skip


def oracles():
    return {
        "highway": Highway(),
        "gated": Gated(),
        "beside": Beside,
        "size": BesideSize,
        "function": BesideFunction,
        "times": TimesFunction,
    }


def conv(x, window=2, activation=None):
    return layers.Conv2D(6, window, padding="same", activation=activation, **HE)(x)


def dense(x, activation=None, units=6):
    return layers.Dense(units, activation, **HE)(x)


def pool(x):
    return layers.AveragePooling2D(2, 1)(x)


def two_layers(x, ops_):
    for _ in range(2):
        x = ops_["highway"](dense(x, "relu"), dense(x, "leaky_relu"), x)
    return x


def excited(x, ops_):
    h = conv(x, activation="relu")
    g = dense(layers.GlobalAveragePooling2D(keepdims=True)(h), "relu")
    return pool(ops_["gated"](h, g))


GATES = {
    "a highway of features": (IMAGE, lambda x, o: pool(o["highway"](
        conv(x, activation="relu"), conv(x, 1, "leaky_relu"), conv(x, activation="relu")))),
    "a highway around its input": (IMAGE, lambda x, o: pool(conv(o["highway"](
        conv(h := conv(x), 1, "relu"), conv(h, activation="relu"), h), 1))),
    "highways": ((5,), lambda x, o: two_layers(dense(x), o)),
    "squeeze and excitation beside its input": (IMAGE, excited),
    "a Gaussian tensor beside its normalisation": (IMAGE, lambda x, o: pool(layers.ReLU()(
        o["beside"](1.0, 1.0)(conv(x))))),
    "features beside their normalisation": (IMAGE, lambda x, o: pool(
        o["beside"](1.0, 0.5)(conv(x, activation="relu")))),
    "groups of channels less their normalisation": ((5,), lambda x, o: o["beside"](1.0, -1.0)(
        layers.Concatenate()([dense(x, "relu", 2), dense(x, units=4)]))),
    "relu of its normalisation beside a tensor": ((5,), lambda x, o: o["size"](0.0, 1.0, 1.0)(
        (h := dense(x)) + dense(layers.ReLU()(h)))),
    "two slopes of a normalisation less a tensor": (IMAGE, lambda x, o: pool(
        o["size"](0.3, -0.5, 1.0)(conv(x)))),
    "the size of a normalisation beside a tensor": (IMAGE, lambda x, o: pool(
        o["size"](-1.0, 1.0, 2.0)(conv(x)))),
    "gelu of its normalisation beside a tensor": ((5,), lambda x, o: o["function"](
        "gelu", 1.0, 1.0)((h := dense(x)) + dense(layers.ReLU()(h)))),
    "erf of its normalisation less a tensor": (IMAGE, lambda x, o: pool(
        o["function"]("erf", -0.5, 1.5)(conv(x)))),
    "sin of its normalisation beside a tensor": (IMAGE, lambda x, o: pool(
        o["function"]("sin", 1.0, 0.5)(conv(x)))),
    "a tensor times relu of its normalisation": (IMAGE, lambda x, o: pool(
        o["times"]("relu")(conv(x)))),
    "a gate on a sum of branches": (IMAGE, lambda x, o: pool(o["gated"](
        (h := conv(x)) + conv(conv(h, activation="relu")), conv(h, 1, "relu")))),
}  # fmt: skip


def model_of(shape, function, *rest):
    x = keras.Input(shape)
    h = function(x, *rest)
    return keras.Model(x, dense(layers.Flatten()(h) if len(h.shape) > 2 else h, units=3))


def agree(model, reference, rng):
    x = rng.normal(size=(4, *model.input_shape[1:]))
    kernel = keras2gp.convert(model, dtype="float64")
    nngp, ntk = np.asarray(kernel.matrix(x, None, "both"))
    np.testing.assert_allclose(nngp, full_oracle.full_kernel(reference, x, x), rtol=1e-9)
    tangent = full_oracle.full_tangent(reference, x[:2], x[2:])
    np.testing.assert_allclose(ntk[:2, 2:], tangent, rtol=1e-9)
    np.testing.assert_allclose(kernel.diag(x), nngp.diagonal(), rtol=1e-12)


QUICK = {"highways", "groups of channels less their normalisation", "a highway around its input"}
"""Gates that are tested by default; the others are slow."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in GATES],
)
def test_gates_agree_with_all_positions(case, rng):
    agree(model_of(*GATES[case], WRITTEN), model_of(*GATES[case], oracles()), rng)


def dot(*towers, **settings):
    return layers.Dot(1, **settings)(list(towers))


TOTALS = {
    "towers": lambda x: dot(dense(x), dense(dense(x, "relu"))),
    "a tower that ends in an activation": lambda x: dot(dense(x, "relu"), dense(x)),
    "unit vectors": lambda x: dot(dense(x), dense(x), normalize=True),
    "beside biases": lambda x: dot(dense(x), dense(x)) + dense(x, units=1),
    "groups of channels": lambda x: dot(
        layers.Concatenate()([dense(x, "relu", 2), dense(x, units=4)]), dense(x)),
    "a written product": lambda x: ops.sum(dense(x) * ops.erf(dense(x)), axis=-1, keepdims=True),
    "a mean over channels": lambda x: ops.mean(ops.erf(dense(x)), axis=-1, keepdims=True),
}  # fmt: skip


@pytest.mark.parametrize("case", TOTALS)
def test_sums_over_channels_agree_with_all_positions(case, rng):
    x = keras.Input((5,))
    model = keras.Model(x, TOTALS[case](x))
    agree(model, model, rng)


def test_networks_of_many_channels_have_these_moments(rng):
    """Over many random networks, the kernel is the covariance at any number of channels."""
    x = rng.normal(size=(3, 4))
    t, h, y, a, b = (np.einsum("sco,nc->sno", rng.normal(size=(20000, 4, 6)) / 2, x)
                     for _ in range(5))  # fmt: skip
    t, h = np.maximum(t, 0), np.maximum(h, 0)
    settings = {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.5)}

    def layer(z, activation=None):
        return layers.Dense(6, activation, use_bias=False, **settings)(z)

    z = keras.Input((4,))
    mixed = written_highway(layer(z, "relu"), layer(z, "relu"), layer(z))
    head = layers.Dense(1, use_bias=False, kernel_initializer="lecun_normal")(mixed)
    found = keras2gp.convert(keras.Model(z, head), dtype="float64")(x)
    drawn = t * h + (1 - t) * y
    products = np.einsum("sno,smo->snm", drawn, drawn) / 6
    error = products.std(0) / np.sqrt(len(products))
    assert (np.abs(products.mean(0) - found) < 5 * error).all()
    found = keras2gp.convert(keras.Model(z, dot(layer(z), layer(z))), dtype="float64")(x)
    inner = (a * b).sum(-1)
    products = inner[:, :, None] * inner[:, None, :]
    error = products.std(0) / np.sqrt(len(products))
    assert (np.abs(products.mean(0) - found) < 5 * error).all()


def shared(x):
    layer = layers.Dense(6)
    return dot(layer(x), layer(2.0 * x))


REFUSED = {
    "towers of features": (lambda x: dot(dense(x, "relu"), dense(x, "relu")), "has a mean"),
    "one tower twice": (lambda x: dot(h := dense(x), h), "has a mean"),
    "a shared tower": (shared, "has a mean"),
    "towers of one layer": (
        lambda x: dot(h := dense(x), dense(ops.concatenate([dense(h), h]), "relu") + h),
        "made of the same random layer",
    ),
    "weights after it": (lambda x: dense(dot(dense(x), dense(x))), "one number, however wide"),
    "matrices": (
        lambda x: layers.Flatten()(layers.Dot(2)([layers.Reshape((2, 3))(dense(x)),
                                                  layers.Reshape((2, 3))(dense(x))])),
        "matrix of inner products",
    ),
    "features over channels": (lambda x: ops.mean(dense(x, "relu"), -1, True), "has a mean"),
    "weights after dueling heads": (
        lambda x: dense(dense(x, units=1) + (a := dense(x, units=4)) - ops.mean(a, -1, True)),
        "depend on each other",
    ),
    "an activation of a highway": (
        lambda x: dense(layers.ReLU()(written_highway(dense(x, "relu"), dense(x), dense(x)))),
        "sum of products of random branches",
    ),
    "tanh beside gelu of its normalisation": (
        lambda x: dense(ops.tanh(h := dense(x)) + ops.gelu(layers.LayerNormalization()(h))),
        "same random layer",
    ),
    "a square of a gate": (
        lambda x: dense((t := dense(x, "relu")) * (h := dense(x)) + t * t * h),
        "same random layer",
    ),
}  # fmt: skip


EPSILON = 0.1


def bend(t):
    """The derivative of erf."""
    return 2 / np.sqrt(np.pi) * np.exp(-t * t)


SMOOTH = {
    "a gate beside its tensor": (
        lambda h, n: h + h * ops.erf(n),
        lambda u, r: u + u * special.erf(r * u),
        lambda u, r: 1 + special.erf(r * u) + r * u * bend(r * u),
    ),
    "less three times its tensor": (
        lambda h, n: 2.0 * (h * ops.erf(n)) - 3.0 * h,
        lambda u, r: 2 * u * special.erf(r * u) - 3 * u,
        lambda u, r: 2 * (special.erf(r * u) + r * u * bend(r * u)) - 3,
    ),
    "two gates and the tensor": (
        lambda h, n: h * ops.erf(n) + (h * ops.sin(n) + h),
        lambda u, r: u * special.erf(r * u) + u * np.sin(r * u) + u,
        lambda u, r: 1 + special.erf(r * u) + r * u * bend(r * u) + np.sin(r * u)
        + r * u * np.cos(r * u),
    ),
    "a gate of the turned tensor": (
        lambda h, n: h - (-h) * ops.erf(n),
        lambda u, r: u + u * special.erf(r * u),
        lambda u, r: 1 + special.erf(r * u) + r * u * bend(r * u),
    ),
}  # fmt: skip
"""Of h and its normalisation n: the sum, f(u, r) = it for n = r h, and its derivative by u."""


def gate_kernels(function, x):
    z = keras.Input((5,))
    h = dense(z)
    n = layers.LayerNormalization(epsilon=EPSILON)(h)
    kernel = keras2gp.convert(keras.Model(z, dense(function(h, n), units=1)), dtype="float64")
    k = 0.09 + 2 * x @ x.T / 5
    return np.asarray(kernel.matrix(x, None, "both")), k, 1 / np.sqrt(k.diagonal() + EPSILON)


@pytest.mark.parametrize("case", SMOOTH)
def test_gates_beside_their_tensor_agree_with_quadrature(case, rng):
    """E[f(u, r) f(v, r')] on a grid of Gauss-Hermite; d/dk of it is E[f'(u, r) f'(v, r')]."""
    function, f, slope = SMOOTH[case]
    (nngp, ntk), k, r = gate_kernels(function, rng.normal(size=(4, 5)))
    points, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    q = np.sqrt(k.diagonal())

    def moment(g, i, j):
        rho = min(1.0, k[i, j] / (q[i] * q[j]))
        other = rho * points[:, None] + np.sqrt(1 - rho * rho) * points
        first = g(q[i] * points, r[i])
        return weights @ (first[:, None] * g(q[j] * other, r[j])) @ weights

    pairs = [(i, j) for i in range(4) for j in range(4)]
    moments = np.array([moment(f, *pair) for pair in pairs]).reshape(4, 4)
    slopes = np.array([moment(slope, *pair) for pair in pairs]).reshape(4, 4)
    np.testing.assert_allclose(nngp, 0.09 + 2 * moments, rtol=1e-9)
    np.testing.assert_allclose(ntk, 0.09 + 2 * (moments + k * slopes), rtol=1e-9)


def test_relu_times_relu_of_the_normalisation(rng):
    """relu(h) relu(n) = r relu(h)^2, whose moments are arc-cosine kernels of degrees 2 and 1."""
    (nngp, ntk), k, r = gate_kernels(
        lambda h, n: ops.relu(h) * ops.relu(n), rng.normal(size=(4, 5))
    )
    q = np.sqrt(k.diagonal())
    size = np.outer(q, q)
    t = np.arccos(np.clip(k / size, -1, 1))
    second = 3 * np.sin(t) * np.cos(t) + (np.pi - t) * (1 + 2 * np.cos(t) ** 2)
    first = np.sin(t) + (np.pi - t) * np.cos(t)
    moments = np.outer(r, r) * size**2 * second / (2 * np.pi)
    slopes = 4 * np.outer(r, r) * size * first / (2 * np.pi)
    np.testing.assert_allclose(nngp, 0.09 + 2 * moments, rtol=1e-9)
    np.testing.assert_allclose(ntk, 0.09 + 2 * (moments + k * slopes), rtol=1e-7)


def test_homogeneous_functions_beside_their_gate_are_one_function(rng):
    """relu(h) erf(n) + relu(h) = relu(h) (erf(n) + 1)."""
    x = rng.normal(size=(4, 5))
    one, other = (
        gate_kernels(function, x)[0]
        for function in (
            lambda h, n: ops.relu(h) * ops.erf(n) + ops.relu(h),
            lambda h, n: ops.relu(h) * (ops.erf(n) + 1.0),
        )
    )
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_tensor_beside_its_normalisation_and_a_relu_is_one_function(rng):
    """h + n + relu(n), n the normalisation of h, in any order; relu(n) is n / 2 + |n| / 2."""
    x = keras.Input((5,))
    h = dense(x)
    norm = layers.LayerNormalization(epsilon=Beside.epsilon)(h)
    values = rng.normal(size=(3, 5))
    sums = (
        h + norm + ops.relu(norm),
        ops.relu(norm) + norm + h,
        h + 1.5 * norm + 0.5 * ops.abs(norm),
    )
    kernels = [keras2gp.convert(keras.Model(x, dense(s, units=1)), dtype="float64") for s in sums]
    first, *others = [kernel(values, None) for kernel in kernels]
    for other in others:
        np.testing.assert_allclose(first, other, rtol=1e-12)


@pytest.mark.slow
def test_sums_with_a_function_of_a_normalisation_are_one_in_any_order(rng):
    """h + n + gelu(n), n the normalisation of h; a size of another function beside a slope."""
    x = keras.Input((5,))
    h = dense(x)
    norm = layers.LayerNormalization(epsilon=Beside.epsilon)(h)
    gelu = keras.activations.gelu(norm)
    values = rng.normal(size=(3, 5))
    sums = (h + norm + gelu, gelu + norm + h, h + (gelu + norm), (h + gelu) - -1.0 * norm)
    kernels = [keras2gp.convert(keras.Model(x, dense(s, units=1)), dtype="float64") for s in sums]
    first, *others = [kernel(values, None) for kernel in kernels]
    for other in others:
        np.testing.assert_allclose(first, other, rtol=1e-12)


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_reason(case):
    function, why = REFUSED[case]
    x = keras.Input((5,))
    with pytest.raises(UnsupportedModelError, match=why) as error:
        keras2gp.convert(keras.Model(x, function(x)))
    assert all(obstacle.hint for obstacle in error.value.obstacles)


SIZES = {
    "relu beside relu of its normalisation": (
        lambda h, n: ops.relu(h) + ops.relu(n),
        lambda r: (1.0 + r, 0.0 * r),
    ),
    "two slopes less relu of its normalisation": (
        lambda h, n: ops.leaky_relu(h, 0.3) - 2.0 * ops.relu(n),
        lambda r: (1.0 - 2.0 * r, 0.3 + 0.0 * r),
    ),
    "sizes of both and the tensor": (
        lambda h, n: ops.abs(2.0 * n) + (ops.abs(-1.0 * h) + h),
        lambda r: (2.0 + 2.0 * r, -2.0 * r),
    ),
    "a relu of minus it": (
        lambda h, n: ops.relu(h) + ops.relu(-1.0 * n),
        lambda r: (1.0 + 0.0 * r, -r),
    ),
}


@pytest.mark.parametrize("case", SIZES)
def test_two_homogeneous_functions_are_two_slopes(case, rng):
    """Each image has slopes of its own above and below 0: sums of arc-cosine kernels."""
    written, slopes = SIZES[case]
    z = keras.Input((3,))
    settings = {"use_bias": False, "kernel_initializer": "lecun_normal"}
    h = layers.Dense(8, **settings)(z)
    sum_ = written(h, layers.LayerNormalization(epsilon=EPSILON)(h))
    kernel = keras2gp.convert(keras.Model(z, layers.Dense(1, **settings)(sum_)), dtype="float64")
    x = rng.normal(size=(4, 3))
    k = x @ x.T / 3
    q = k.diagonal()
    above, below = slopes(1.0 / np.sqrt(q + EPSILON))
    sizes = np.sqrt(np.outer(q, q))
    rho = np.clip(k / sizes, -1.0, 1.0)

    def relus(rho):
        angle = np.pi - np.arccos(rho)
        return sizes * (np.sqrt(1 - rho**2) + angle * rho) / (2 * np.pi), angle / (2 * np.pi)

    (same, both), (opposite, unlike) = relus(rho), relus(-rho)
    # u = u+ - u-: the slopes above and below times u+ and -u-.
    signs = np.outer(above, above) + np.outer(below, below)
    mixed = np.outer(above, below) + np.outer(below, above)
    nngp, ntk = np.asarray(kernel.matrix(x, None, "both"))
    expected = signs * same - mixed * opposite
    np.testing.assert_allclose(nngp, expected, rtol=1e-9, atol=1e-12)
    tangent = expected + k * (signs * both + mixed * unlike)
    apart = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(ntk[apart], tangent[apart], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ntk, tangent, rtol=1e-6)
    np.testing.assert_allclose(kernel.diag(x), nngp.diagonal(), rtol=1e-12)
