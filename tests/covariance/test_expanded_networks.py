"""Small networks with activations without closed form, against oracles with quadrature."""

import math
from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import layers
from oracles import naive as oracle
from oracles import quadrature
from oracles.full_covariance import full_kernel
from scipy.integrate import quad
from scipy.special import erf, ndtr

import keras2gp

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}


def mlp(*activations):
    parts = [layers.Dense(8, activation=a, **HE) for a in activations]
    return lambda: keras.Sequential([keras.Input((7,)), *parts, layers.Dense(2, **HE)])


def with_layer(layer):
    def build():
        hidden = layers.Dense(8, **HE)
        return keras.Sequential([keras.Input((7,)), hidden, layer(), layers.Dense(2, **HE)])

    return build


def convnet():
    parts = [
        layers.Conv2D(8, 2, activation="tanh", **HE),
        layers.Conv2D(8, (2, 1), activation="hard_silu", **HE),
    ]
    head = [layers.Flatten(), layers.Dense(2, **HE)]
    return keras.Sequential([keras.Input((3, 2, 2)), *parts, *head])


TIGHT, LOOSE = 1e-9, 1e-6
CASES = {
    "tanh": (mlp("tanh", "silu"), LOOSE),
    "elu and selu": (mlp("elu", "selu"), 1e-5),
    "softplus": (mlp("softplus", "mish"), LOOSE),
    "relu6": (mlp("relu6", "hard_tanh"), TIGHT),
    "soft_shrink": (mlp("soft_shrink", "sparse_plus"), TIGHT),
    "hard_shrink": (mlp("hard_shrink"), LOOSE),
    "ELU": (with_layer(lambda: layers.ELU(0.3)), 1e-5),
    "ReLU of max_value": (with_layer(lambda: layers.ReLU(2.0, negative_slope=0.3)), TIGHT),
    "convolutions": (convnet, LOOSE),
}


def images(model, rng, counts=(2, 2)):
    return [rng.normal(size=(n, *model.inputs[0].shape[1:])) for n in counts]


FAST = {"tanh", "ELU"}


@pytest.mark.parametrize(
    "case", [c if c in FAST else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
def test_agrees_with_loops_and_quadrature(case, rng):
    build, tolerance = CASES[case]
    model = build()
    x1, x2 = images(model, rng)
    kernel = keras2gp.convert(model, dtype="float64")
    expected = oracle.reference_kernel(model, x1, x2)
    np.testing.assert_allclose(kernel(x1, x2), expected, rtol=tolerance)
    assert kernel.report.notes


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [("relu6", "tanh"), ("hard_silu", "elu"), ("hard_tanh", "softplus")]
)
def test_the_tangent_kernel_agrees_with_loops_and_quadrature(names, rng):
    model = mlp(*names)()
    x = np.concatenate(images(model, rng))
    b2, k = 0.09, x @ x.T / x.shape[1]
    k = theta = b2 + 2.0 * k
    for name in names:
        q1, q2 = np.broadcast_arrays(k.diagonal()[:, None], k.diagonal()[None, :])
        slopes = quadrature.dual(name, {}, k, q1, q2, derivative=True)
        k = b2 + 2.0 * quadrature.dual(name, {}, k, q1, q2)
        theta = k + 2.0 * theta * slopes
    nngp, ntk = keras2gp.convert(model, dtype="float64")(x, x, get="both")
    np.testing.assert_allclose(nngp, k, rtol=1e-5)
    np.testing.assert_allclose(ntk, theta, rtol=1e-4)


@pytest.mark.slow
def test_sums_of_features_with_first_moments(rng):
    x = keras.Input((3, 2, 2))
    a = layers.Conv2D(8, 2, padding="same", activation="silu", **HE)(x)
    b = layers.Conv2D(8, 1, activation="softplus", **HE)(x)
    h = layers.GlobalAveragePooling2D()(layers.Subtract()([a, b]))
    model = keras.Model(x, layers.Dense(2, **HE)(h))
    x1, x2 = images(model, rng, (1, 1))
    kernel = keras2gp.convert(model, dtype="float64")
    np.testing.assert_allclose(kernel(x1, x2), full_kernel(model, x1, x2), rtol=LOOSE)


@pytest.mark.slow
def test_expansions_between_poolings(rng):
    """Statistics are cut from blocks of images for every offset, and of the first for none."""
    x = keras.Input((4, 3, 2))
    h = layers.Conv2D(8, 2, padding="same", activation="tanh", **HE)(x)
    h = layers.AveragePooling2D((2, 1), strides=1)(h)
    h = layers.Conv2D(8, 2, padding="same", activation="silu", **HE)(h)
    h = layers.GlobalAveragePooling2D()(h)
    model = keras.Model(x, layers.Dense(2, **HE)(h))
    x1, x2 = images(model, rng, (2, 1))
    kernel = keras2gp.convert(model, dtype="float64")
    np.testing.assert_allclose(kernel(x1, x2), full_kernel(model, x1, x2), rtol=LOOSE)


@pytest.mark.parametrize("activation", ["hard_shrink"])
def test_no_tangent_kernel_of_functions_that_jump(activation):
    model = mlp(activation)()
    with pytest.raises(keras2gp.errors.UnsupportedModelError, match="tangent kernel is infinite"):
        keras2gp.convert(model, kind="ntk")
    with pytest.raises(keras2gp.errors.InputError, match="no tangent kernel"):
        keras2gp.convert(model)(np.ones((2, 7)), get="ntk")


@pytest.mark.slow
def test_saved_kernels_keep_their_degree(rng, tmp_path):
    model = mlp("tanh", "elu")()
    (x,) = images(model, rng, (4,))
    for dtype in ("float64", "float32"):
        kernel = keras2gp.convert(model, dtype=dtype, tolerance=1e-3)
        kernel.save(tmp_path / dtype)
        loaded = keras2gp.load(tmp_path / dtype)
        np.testing.assert_array_equal(loaded(x), kernel(x))
        assert loaded.graph == kernel.graph
    double = keras2gp.convert(model, dtype="float64", tolerance=1e-3)
    scale = np.sqrt(np.outer(double.diag(x), double.diag(x)))
    assert (np.abs(np.asarray(kernel(x), "float64") - double(x)) / scale).max() <= 1e-5
    fine = keras2gp.convert(model, dtype="float64")
    error = (np.abs(np.asarray(fine(x)) - double(x)) / scale).max()
    assert 1e-9 < error <= 4e-3


def test_beyond_the_table_is_a_clear_error(rng):
    model = mlp("tanh")()
    (x,) = images(model, rng, (3,))
    kernel = keras2gp.convert(model)
    first = next(iter(kernel.parameters))
    assert np.isfinite(kernel.with_parameters({first: {"weight": 1e9}})(x)).all()
    with pytest.raises(keras2gp.errors.NumericalError, match="variances"):
        kernel.with_parameters({first: {"weight": 1e14}})(x)


def clipped_mean(low, high, m, s):
    """E[min(max(v, low), high)] of a Gaussian v."""
    a, b = (low - m) / s, (high - m) / s
    density = (np.exp(-t * t / 2) / math.sqrt(2 * math.pi) for t in (a, b))
    between = m * (ndtr(b) - ndtr(a)) + s * (next(density) - next(density))
    return low * ndtr(a) + high * ndtr(-b) + between


SATURATING = {
    "hard_tanh": (lambda u: min(max(u, -1), 1), lambda m, s: clipped_mean(-1, 1, m, s)),
    "relu6": (lambda u: min(max(u, 0), 6), lambda m, s: clipped_mean(0, 6, m, s)),
    "erf": (erf, lambda m, s: erf(m / math.sqrt(1 + 2 * s * s))),
}


def saturated(name, x, y):
    """E[phi(u) phi(v)] by adaptive quadrature over u of phi(u) E[phi(v) | u]."""
    phi, mean = SATURATING[name]
    slope = (x @ y) / (x @ x)
    root, s = math.sqrt(x @ x / len(x)), math.sqrt(np.mean((y - slope * x) ** 2))

    def integrand(u):
        return math.exp(-((u / root) ** 2) / 2) * phi(u) * mean(slope * u, s)

    sizes = {9 * root, *(w * k for k in (1, 3, 10) for w in (1, 6, s, root) if w * k < 9 * root)}
    ends = sorted({0.0, *sizes, *(-w for w in sizes)})
    parts = (quad(integrand, a, b, limit=200)[0] for a, b in pairwise(ends))
    return sum(parts) / (root * math.sqrt(2 * math.pi))


@pytest.mark.parametrize("name", SATURATING)
@pytest.mark.parametrize(
    "scale", [1e4, *(pytest.param(s, marks=pytest.mark.slow) for s in (1e2, 1e3, 1e5, 1e6))]
)
def test_near_copies_of_large_inputs_are_as_exact_as_the_report_says(name, scale, rng):
    draws = {"kernel_initializer": "lecun_normal", "use_bias": False}
    activation = keras.ops.erf if name == "erf" else name
    parts = [layers.Dense(4, activation=activation, **draws), layers.Dense(1, **draws)]
    model = keras.Sequential([keras.Input((64,)), *parts])
    kernels = [keras2gp.convert(model, dtype=dtype) for dtype in ("float32", "float64")]
    assert any("to 5e-4 (float64: 1e-5)" in note for note in kernels[0].report.notes)
    x = (scale * rng.normal(size=64)).astype("float32")
    for apart in (1e-1, 1e-3, 1e-4, 1e-5):
        y = (x * (1 + apart * rng.normal(size=64))).astype("float32")
        expected = saturated(name, x.astype("float64"), y.astype("float64"))
        for kernel, error in zip(kernels, (5e-4, 1e-5), strict=True):
            found = float(np.asarray(kernel(x[None], y[None])).item())
            size = float(np.asarray(kernels[1].diag(x[None])).item())
            assert abs(found - expected) < error * size
