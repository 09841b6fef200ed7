"""Functions that are made of several ops on one Gaussian tensor, against quadrature."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops
from oracles import full_covariance as full_oracle
from oracles import quadrature
from scipy import special

import keras2gp
from keras2gp.errors import UnsupportedModelError
from keras2gp.graph.ops import Activation, Composed

W2, B2 = 2.0, 0.09
HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}


def relu(u):
    return np.maximum(u, 0)


def hard_swish(u):
    return u * np.clip(u + 3, 0, 6) / 6


def dense(x, **settings):
    return layers.Dense(8, **(HE | settings))(x)


def gelu(h):
    return 0.5 * h * (1.0 + ops.erf(h / math.sqrt(2.0)))


FUNCTIONS = {
    "swish": (lambda h: h * ops.sigmoid(h), lambda u: u * special.expit(u), (), 1e-6),
    "gelu": (gelu, lambda u: u * special.ndtr(u), (), 1e-9),
    "hard swish": (lambda h: ops.relu6(h + 3) / 6 * h, hard_swish, (-3, 3), 1e-9),
    "x + relu(x)": (lambda h: h + ops.relu(h), lambda u: u + relu(u), (), 1e-9),
    "three terms": (
        lambda h: layers.Add()([h, ops.relu(h), ops.relu(-h)]), lambda u: u + abs(u), (), 1e-9
    ),
    "square": (lambda h: h * h, lambda u: u * u, (), 1e-9),
    "cube": (lambda h: ops.power(h, 3), lambda u: u**3, (), 1e-6),
    "relu squared": (lambda h: ops.square(ops.relu(h)), lambda u: relu(u) ** 2, (), 1e-9),
    "shifted relu": (lambda h: ops.relu(h + 0.7), lambda u: relu(u + 0.7), (-0.7,), 1e-9),
    "one minus relu": (lambda h: 1.0 - ops.relu(h), lambda u: 1 - relu(u), (), 1e-9),
    "relu of one minus": (lambda h: ops.relu(1.0 - h), lambda u: relu(1 - u), (1.0,), 1e-9),
    "erf of tanh": (
        lambda h: ops.erf(ops.tanh(h)), lambda u: special.erf(np.tanh(u)), (), 1e-5
    ),
    "shifted tanh": (lambda h: ops.tanh(h - 0.5), lambda u: np.tanh(u - 0.5), (), 1e-6),
    "relu of a normalisation": (
        lambda h: ops.relu(layers.BatchNormalization(
            beta_initializer=keras.initializers.Constant(0.4), moving_mean_initializer="ones",
            epsilon=0.0)(h)),
        lambda u: relu(u - 0.6), (0.6,), 1e-9,
    ),
    "relu of relu": (
        lambda h: ops.relu(ops.relu(h) - 0.5), lambda u: relu(relu(u) - 0.5), (0.5,), 1e-9
    ),
    "rescaled": (
        lambda h: ops.relu(layers.Rescaling(2.0, 0.5)(h)), lambda u: relu(2 * u + 0.5), (-0.25,),
        1e-9,
    ),
}  # fmt: skip


LONG = {"hard swish", "relu of relu", "constants of a sum", "constant biases"}


def cases(names):
    """The names, the long ones marked."""
    return [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in names]


@pytest.mark.parametrize("name", cases(FUNCTIONS))
def test_agrees_with_quadrature(name, rng):
    """NNGP and NTK: d/dc E[psi(u) psi(v)] = E[psi'(u) psi'(v)]."""
    function, psi, corners, tolerance = FUNCTIONS[name]
    x = keras.Input((3,))
    model = keras.Model(x, dense(function(dense(x))))
    kernel = keras2gp.convert(model, dtype="float64")
    data = rng.normal(size=(3, 3))
    k = B2 + W2 * data @ data.T / 3
    q = k.diagonal()
    nngp, ntk = np.asarray(kernel.matrix(data, None, "both"))

    def moment(i, j, step=0.0):
        return quadrature.pair(psi, corners, k[i, j] + step, q[i], q[j])

    for i in range(3):
        for j in range(i):
            expected = B2 + W2 * moment(i, j)
            size = math.sqrt(nngp[i, i] * nngp[j, j])
            assert abs(nngp[i, j] - expected) < tolerance * size
            h = 1e-3
            near, far = (moment(i, j, s * h) - moment(i, j, -s * h) for s in (1, 2))
            slope = (8 * near - far) / (12 * h)
            tangent = expected + W2 * k[i, j] * slope
            assert abs(ntk[i, j] - tangent) < 1e-6 * abs(ntk.diagonal()).max() + 30 * tolerance
        expected = B2 + W2 * quadrature.pair(psi, corners, q[i] * (1 - 1e-15), q[i], q[i])
        assert nngp[i, i] == pytest.approx(expected, rel=max(tolerance, 1e-7))


@pytest.mark.parametrize(("name", "known"), [("swish", "silu"), ("gelu", "gelu")])
def test_a_function_of_a_name_is_named(name, known):
    x = keras.Input((3,))
    kernel = keras2gp.convert(keras.Model(x, dense(FUNCTIONS[name][0](dense(x)))))
    (op,) = [node.op for node in kernel.graph.nodes if isinstance(node.op, Activation)]
    assert op.name == known
    assert any(f"is {known}" in note for note in kernel.report.notes)


def test_a_composed_kernel_comes_back_from_its_file(tmp_path, rng):
    x = keras.Input((3,))
    h = dense(x)
    model = keras.Model(x, dense(h * ops.tanh(h + 0.5) + 0.25))
    kernel = keras2gp.convert(model, dtype="float64")
    assert any(isinstance(node.op, Composed) for node in kernel.graph.nodes)
    kernel.save(tmp_path / "kernel")
    data = rng.normal(size=(3, 3))
    again = keras2gp.load(tmp_path / "kernel")
    np.testing.assert_array_equal(again(data), kernel(data))


def conv(x, window=2, **settings):
    return layers.Conv2D(6, window, **(HE | {"padding": "same"} | settings))(x)


NETWORKS = {
    "features and a constant": lambda x: conv(conv(x, activation="relu") + 0.5, 2),
    "pooled features and a constant": lambda x: layers.AveragePooling2D(2, 1)(
        conv(x, activation="relu") - 0.5),
    "constant biases": lambda x: conv(
        conv(x, activation="relu", bias_initializer=keras.initializers.Constant(0.4)), 1),
    "constant biases before pooling": lambda x: layers.ReLU()(layers.AveragePooling2D(2)(
        conv(x, bias_initializer=keras.initializers.Constant(-0.3)))),
    "constants of a sum": lambda x: layers.ReLU()(
        conv(x, bias_initializer="ones") + 0.5 * conv(x, bias_initializer="ones")),
    "a gate of ones": lambda x: conv(conv(x, activation="relu") * (
        ops.erf(layers.GlobalAveragePooling2D(keepdims=True)(conv(x))) + 1.0)),
    "depthwise with constant biases": lambda x: conv(layers.DepthwiseConv2D(
        2, depthwise_initializer="he_normal", bias_initializer="ones")(conv(x)), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", cases(NETWORKS))
def test_constants_agree_with_all_positions(name, rng):
    x = keras.Input((3, 2, 2))
    h = NETWORKS[name](x)
    model = keras.Model(x, layers.Dense(3, **HE)(layers.Flatten()(h)))
    data = rng.normal(size=(3, 3, 2, 2))
    kernel = keras2gp.convert(model, dtype="float64")
    parts = data[:1], data[1:]
    np.testing.assert_allclose(kernel(*parts), full_oracle.full_kernel(model, *parts), rtol=1e-8)


REFUSED = {
    "two tensors": (lambda x: (h := dense(x)) * ops.tanh(h + dense(x)), "same random layer"),
    "an unknown function": (lambda x: dense((h := dense(x)) * ops.sign(h)), "sign is not known"),
    "a function of the user's": (
        lambda x: dense((h := dense(x)) * layers.Activation(lambda u: ops.sin(3 * u))(h)),
        "one function",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_reason(name):
    function, why = REFUSED[name]
    x = keras.Input((3,))
    with pytest.raises(UnsupportedModelError, match=why) as error:
        keras2gp.convert(keras.Model(x, function(x)))
    assert all(obstacle.hint for obstacle in error.value.obstacles)
