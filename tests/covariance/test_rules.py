"""Every op in a small network, against all oracles: one row for each.

The rows end in pooling where their op can: it needs the covariance of different positions.
"""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers
from oracles import full_covariance as full_oracle
from oracles import naive as oracle

import keras2gp
from keras2gp.covariance import registry
from keras2gp.covariance.base import Rule
from keras2gp.covariance.forward_pass import ForwardPass
from keras2gp.covariance.pairs import ImageBlock
from keras2gp.covariance.program import Program
from keras2gp.errors import RegistryError
from keras2gp.graph import GraphBuilder, ops
from keras2gp.graph.analysis import Analysis
from keras2gp.graph.distributions import check_gaussianity

HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
IMAGE = (4, 3, 2)


def conv(x, window=2, activation="relu", **settings):
    settings = HE | {"padding": "same", "activation": activation} | settings
    return layers.Conv2D(6, window, **settings)(x)


def linear(x, window=2, **settings):
    return conv(x, window, None, **settings)


def pool(x, window=2, stride=1):
    return layers.AveragePooling2D(window, stride)(x)


def depthwise(x):
    return layers.DepthwiseConv2D(2, depthwise_initializer="he_normal")(x)


def transposed(x):
    return layers.Conv2DTranspose(6, 2, strides=2, activation="relu", **HE)(x)


def spread(x):
    return layers.Reshape((2, 3, 4))(layers.Dense(24, **HE)(layers.Flatten()(x)))


def lookup(x):
    return layers.GlobalAveragePooling1D()(keras.ops.erf(layers.Embedding(5, 6)(x)))


def recurrence(x, **settings):
    h = layers.SimpleRNN(6, activation="relu", return_sequences=True, **HE, **settings)(x)
    return layers.AveragePooling1D(2, 1)(h)


def siamese(x):
    """The difference of one tower at an image and at another image of it."""
    first = layers.Conv2D(6, 2, padding="same", activation="relu", **HE)
    second = layers.Conv2D(6, 2, padding="same", **HE)
    other = layers.Rescaling(0.5, 0.25)(x)
    return layers.Subtract()([second(pool(first(x))), second(pool(first(other)))])


class Highway(layers.Layer):
    """t h + (1 - t) x, which the oracle knows."""

    def call(self, t, h, x):
        return t * h + (1 - t) * x


class Beside(layers.Layer):
    """h + LayerNormalization(h), which the oracle knows."""

    factors, epsilon = (1.0, 1.0), 0.1

    def call(self, h):
        return h


class BesideFunction(Beside):
    """h + erf(LayerNormalization(h)), which the oracle knows."""

    def __init__(self, *factors):
        super().__init__()
        self.factors = factors


class TimesFunction(BesideFunction):
    """h relu(LayerNormalization(h)), which the oracle knows."""


def highway(x, mix):
    return mix(conv(x), conv(x, activation="leaky_relu"), linear(x))


def heads(*sources):
    """One layer on each of several tensors."""
    layer = layers.Conv2D(6, 2, padding="same", **HE)
    return [layer(source) for source in sources]


CASES = {
    ops.Tokens: ((4,), lookup),
    ops.Recurrent: ((4, 2), recurrence),
    ops.Weigh: ((4,), lambda x: layers.GlobalAveragePooling1D()(
        keras.ops.erf(layers.Embedding(5, 6)(x)), mask=keras.ops.less(x, 4))),
    ops.Input: (IMAGE, lambda x: x),
    ops.Affine: (IMAGE, lambda x: pool(linear(linear(x)))),
    ops.Depthwise: (IMAGE, lambda x: pool(depthwise(conv(x)))),
    ops.Mixture: (IMAGE, lambda x: pool(conv(layers.Concatenate()([conv(x), linear(x, 1)])))),
    ops.Activation: (IMAGE, lambda x: pool(conv(x, activation="gelu"))),
    ops.Sum: (IMAGE, lambda x: pool(layers.Subtract()([conv(x), conv(x, 1)]))),
    ops.Product: (IMAGE, lambda x: pool(layers.Multiply()([conv(x), conv(x, 1)]))),
    ops.Polynomial: (IMAGE, lambda x: pool(highway(x, lambda t, h, x: t * h + (1 - t) * x))),
    ops.Total: (IMAGE, lambda x: layers.Dot(1)([
        layers.Dense(6, **HE)(layers.Flatten()(conv(x))) for _ in range(2)])),
    ops.Composed: (IMAGE, lambda x: pool((h := linear(x)) + layers.ReLU()(h))),
    ops.Gain: (IMAGE, lambda x: pool(layers.BatchNormalization(
        gamma_initializer=keras.initializers.RandomNormal(-0.5, 0.7))(conv(x)) + conv(x, 1))),
    ops.Shift: (IMAGE, lambda x: pool(conv(x) + 0.5)),
    ops.Scale: (IMAGE, lambda x: pool(layers.BatchNormalization()(conv(x)))),
    ops.Normalize: (IMAGE, lambda x: pool(layers.LayerNormalization()(conv(x)))),
    ops.NormalizeAdded: (IMAGE, lambda x: pool((h := conv(x)) + layers.LayerNormalization(
        epsilon=0.1)(h))),
    ops.Multiple: (IMAGE, lambda x: pool((h := linear(x)) * keras.ops.relu(
        layers.LayerNormalization(epsilon=0.1)(h)))),
    ops.Rest: (IMAGE, lambda x: pool((h := linear(x)) + keras.ops.erf(layers.LayerNormalization(
        epsilon=0.1)(h)))),
    ops.Patches: (IMAGE, lambda x: pool(conv(conv(x), (3, 2), strides=(1, 2)))),
    ops.Positions: (IMAGE, lambda x: layers.Dense(4, "relu", **HE)(layers.Flatten()(conv(x)))),
    ops.Pad: (IMAGE, lambda x: pool(layers.ZeroPadding2D(((1, 0), (0, 2)))(conv(x)))),
    ops.Crop: (IMAGE, lambda x: pool(layers.Cropping2D(((1, 0), (0, 1)))(conv(x)))),
    ops.Dilate: (IMAGE, lambda x: pool(transposed(linear(x)))),
    ops.Axes: (IMAGE, lambda x: layers.AveragePooling1D(2, 1)(layers.TimeDistributed(
        layers.GlobalAveragePooling1D())(conv(x)))),
    ops.Reshape: (IMAGE, lambda x: conv(layers.Reshape((2, 6, 6))(conv(x)))),
    ops.ReshapeEach: (IMAGE, lambda x: layers.AveragePooling3D((2, 1, 1))(
        layers.TimeDistributed(layers.Reshape((1, 3, 6)))(conv(x)))),
    ops.Shuffle: ((2, 2, 2), lambda x: pool(layers.ReLU()(keras.ops.depth_to_space(
        layers.Conv2D(8, 2, padding="same", **HE)(x), 2)))),
    ops.Flip: (IMAGE, lambda x: pool(conv(conv(x)[:, ::-1]))),
    ops.Permute: (IMAGE, lambda x: pool(conv(layers.Permute((2, 1, 3))(conv(x)), (2, 1)))),
    ops.Interpolate: ((2, 3, 2), lambda x: pool(
        layers.UpSampling2D(2, interpolation="bilinear")(conv(x)))),
    ops.Matrix: (IMAGE, lambda x: pool(conv(keras.ops.matmul(
        np.array([[1.0, -0.5, 0.0], [0.25, 0.0, 2.0]]), conv(x))))),
    ops.Select: (IMAGE, lambda x: pool(conv(keras.ops.roll(conv(x), 1, axis=2)))),
    ops.Repeat: (IMAGE, lambda x: pool(layers.ReLU()(
        linear(x) + layers.GlobalAveragePooling2D(keepdims=True)(linear(x, 1))))),
    ops.Spread: (IMAGE, lambda x: pool(spread(x))),
    ops.AveragePool: (IMAGE, lambda x: pool(conv(pool(conv(x), (2, 1), (2, 1))))),
    ops.Calls: (IMAGE, lambda x: pool(layers.ReLU()(siamese(x)))),
    ops.Stack: (IMAGE, lambda x: pool(layers.ReLU()(layers.Subtract()(
        heads(conv(x), conv(x, 1)))))),
    ops.Upsample: (IMAGE, lambda x: pool(layers.UpSampling2D((1, 2))(conv(x)))),
    ops.Combination: (IMAGE, lambda x: layers.Add()([
        h := linear(x), layers.AveragePooling2D(2, 1, padding="same")(h)])),
}  # fmt: skip
"""For each op the shape of the images, and a network that ends before the last Dense layer."""

ALIKE = {
    ops.NormalizeAdded: (IMAGE, lambda x: pool(Beside()(conv(x)))),
    ops.Polynomial: (IMAGE, lambda x: pool(highway(x, Highway()))),
    ops.Multiple: (IMAGE, lambda x: pool(TimesFunction("relu")(linear(x)))),
    ops.Rest: (IMAGE, lambda x: pool(BesideFunction("erf", 1.0, 1.0)(linear(x)))),
    ops.Composed: (IMAGE, lambda x: pool(2.0 * layers.LeakyReLU(0.5)(linear(x)))),
}
"""The same function as one activation, for an oracle that takes activations as sources."""

LOOPS = (ops.Affine, ops.Activation, ops.Scale, ops.Pad, ops.Crop, ops.Reshape)
"""Ops that the loops of the naive oracle know, in a network without pooling."""


def model_of(op, *, pooled=True, cases=CASES):
    shape, function = cases[op]
    x = keras.Input(shape)
    h = function(x)
    if not pooled:
        pooling = [layer for layer in keras.Model(x, h).layers if "Pooling" in type(layer).__name__]
        h = pooling[-1].input if pooling else h
    h = layers.Flatten()(h)
    return keras.Model(x, h if op is ops.Total else layers.Dense(3, **HE)(h))


def images(model, rng, count=5):
    if any(isinstance(layer, layers.Embedding) for layer in model.layers):
        return rng.integers(0, 5, size=(count, *model.input_shape[1:]))
    return rng.normal(size=(count, *model.input_shape[1:]))


@pytest.mark.parametrize("op", CASES, ids=lambda op: op.__name__)
def test_agrees_with_all_positions(op, rng):
    model = model_of(op)
    kernel = keras2gp.convert(model, dtype="float64")
    assert any(type(node.op) is op for node in kernel.graph.nodes)
    x = images(model, rng)
    nngp, ntk = np.asarray(kernel.matrix(x, None, "both"))
    model = model_of(op, cases=CASES | ALIKE)
    np.testing.assert_allclose(nngp, full_oracle.full_kernel(model, x, x), rtol=1e-9)
    tangent = full_oracle.full_tangent(model, x[:2], x[2:])
    np.testing.assert_allclose(ntk[:2, 2:], tangent, rtol=1e-9)
    for k in (nngp, ntk):
        np.testing.assert_array_equal(k, k.T)
        values = np.linalg.eigvalsh(k)
        assert values[0] > -1e-12 * values[-1]


@pytest.mark.parametrize("op", LOOPS, ids=lambda op: op.__name__)
def test_agrees_with_loops(op, rng):
    model = model_of(op, pooled=False)
    kernel = keras2gp.convert(model, dtype="float64")
    assert any(type(node.op) is op for node in kernel.graph.nodes)
    x = images(model, rng, 3)
    np.testing.assert_allclose(kernel(x), oracle.reference_kernel(model, x), rtol=1e-9)


def test_every_op_has_a_row_and_a_rule():
    stated = {value for value in vars(ops).values() if isinstance(value, type)}
    concrete = {op for op in stated if issubclass(op, ops.Op)} - {
        ops.Op, ops.Opaque, ops.Weighted, ops.Mixing,
    }  # fmt: skip
    assert set(CASES) == concrete
    ours = {op for op in registry._RULES if op.__module__.startswith("keras2gp.")}
    assert ours == {op for op in concrete if not op.mixing}


@dataclasses.dataclass(frozen=True)
class Tripled(ops.Op):
    """Three times the tensor: an op of a user's own."""

    linear = True


@dataclasses.dataclass(frozen=True)
class Noise(ops.Op):
    """Independent noise of variance 1 at every position: an op with weights of its own."""

    random = True


@dataclasses.dataclass(frozen=True)
class Cubed(ops.Op):
    """The third power: an op that says nothing of its kind."""


def test_an_op_that_is_not_linear_gives_features():
    assert [op.kind([ops.Kind.GAUSSIAN]) for op in (Tripled(), Cubed(), Noise())] == [
        ops.Kind.GAUSSIAN, ops.Kind.FEATURES, ops.Kind.GAUSSIAN,
    ]  # fmt: skip
    assert Cubed().kind([ops.Kind.DATA]) is ops.Kind.DATA
    assert Cubed().kind([ops.Kind.UNKNOWN]) is ops.Kind.UNKNOWN
    obstacles = check_gaussianity(graph_of(ops.Affine("c"), Cubed(), ops.Activation("relu")))
    assert [obstacle.where for obstacle in obstacles] == ["Activation"]


def kernels(graph, x):
    """Both kernels of a graph of one layer, of images [N, *spatial, C], without XLA."""
    program = Program(graph, kind="both")
    ones = [np.float64(1.0)] * len(program.layers)
    _, data, statistics = program.statistics([np.moveaxis(x, 0, -1)], ones, ones)
    block = ImageBlock(data, statistics)
    return [np.asarray(k) for k in program.cross(block, block, ones, ones)]


def graph_of(*links):
    b = GraphBuilder()
    index = b.add(ops.Input(0, (4,), 2), (), "x")
    for link in (ops.Affine("a"), ops.Activation("relu"), *links, ops.Positions(1)):
        index = b.add(link, (index,), type(link).__name__)
    return b.graph(b.add(ops.Affine("b"), (index,), "b"))


def test_a_function_is_the_rule_of_a_linear_op(monkeypatch, rng):
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))

    @keras2gp.rule(Tripled)
    def tripled(op, maps, context):
        """k' = 9 k."""
        return 9.0 * maps[0]

    x = rng.normal(size=(3, 4, 2))
    found = kernels(graph_of(Tripled()), x)
    np.testing.assert_allclose(found, kernels(graph_of(ops.Scale(3.0)), x), rtol=1e-12)
    assert registry.rule_table()["Tripled"] == "k' = 9 k."
    with pytest.raises(RegistryError, match="Tripled has a rule already: tripled"):
        keras2gp.rule(Tripled)(tripled)


def test_a_function_is_no_rule_of_an_op_that_draws_weights(monkeypatch):
    monkeypatch.setattr(registry, "_RULES", {})
    with pytest.raises(RegistryError, match="Affine draws weights"):
        keras2gp.rule(ops.Affine)(lambda op, maps, context: maps[0])


def test_a_class_is_the_rule_of_any_op(monkeypatch, rng):
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))

    @keras2gp.rule(Noise)
    class NoiseRule(Rule):
        """k' = k + 1."""

        def covariance(self, maps, context):
            return maps[0] + 1.0

        def tangent(self, k, maps, thetas, context):
            return thetas[0] + 1.0

    x = rng.normal(size=(3, 4, 2))
    nngp, ntk = kernels(graph_of(Noise()), x)
    plain_nngp, plain_ntk = kernels(graph_of(), x)
    np.testing.assert_allclose(nngp, plain_nngp + 1.0, rtol=1e-12)
    np.testing.assert_allclose(ntk, plain_ntk + 2.0, rtol=1e-12)


def test_long_chains_of_activations_are_cut():
    """XLA compiles one fused loop in a time that grows with the square of its length."""
    b = GraphBuilder()
    index = b.add(ops.Input(0, (), 2), (), "x")
    for number in range(40):
        index = b.add(ops.Affine(f"dense {number}"), (index,), "dense")
        index = b.add(ops.Activation("relu"), (index,), f"relu {number}")
    graph = b.graph(b.add(ops.Affine("end"), (index,), "end"))
    cut = ForwardPass(Analysis.of(graph), {}, None, tangent=False).materialised
    assert [graph.nodes[i].path for i in sorted(cut)] == ["relu 15", "relu 31"]
