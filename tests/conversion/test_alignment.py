"""Sums of concatenated branches, channel by channel, against samples of every single channel.

The oracle draws the units of the first layers as what they are in the limit, independent Gaussian
functions of the input, and does the rest of the network with numpy on single channels.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras2gp
from keras2gp.graph.ops import Scale, Sum

X = np.array([[1.0, 1.0, 1.0], [1.0, -0.5, 2.0]])
Q = 2 / 3 * X @ X.T
SAMPLES = 400_000
UNIT = keras.initializers.RandomNormal(stddev=1.0)


class InKeras:
    """Operations of a functional model."""

    def __init__(self):
        self.x = keras.Input((3,))

    def units(self, count):
        return layers.Dense(count, kernel_initializer="he_normal")(self.x)

    @staticmethod
    def concat(*terms):
        return layers.Concatenate()(list(terms))

    @staticmethod
    def add(*terms):
        return layers.Add()(list(terms))

    @staticmethod
    def subtract(a, b):
        return layers.Subtract()([a, b])

    @staticmethod
    def average(*terms):
        return layers.Average()(list(terms))

    @staticmethod
    def relu(h):
        return layers.ReLU()(h)

    @staticmethod
    def times(h, factor):
        return h * factor

    @staticmethod
    def scaled_sum(a, b):
        return a + ops.negative(b)

    def kernel(self, h):
        model = keras.Model(self.x, layers.Dense(1, kernel_initializer=UNIT)(h))
        return keras2gp.convert(model, dtype="float64")


class Sampled:
    """The same operations on samples of each channel: [samples, images, channels]."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def units(self, count):
        normal = self.rng.normal(size=(SAMPLES, count, 2))
        return np.moveaxis(normal @ np.linalg.cholesky(Q).T, 1, 2)

    @staticmethod
    def concat(*terms):
        return np.concatenate(terms, axis=-1)

    @staticmethod
    def add(*terms):
        return sum(terms)

    @staticmethod
    def subtract(a, b):
        return a - b

    @staticmethod
    def average(*terms):
        return sum(terms) / len(terms)

    @staticmethod
    def relu(h):
        return np.maximum(h, 0.0)

    @staticmethod
    def times(h, factor):
        return h * factor

    @staticmethod
    def scaled_sum(a, b):
        return a - b

    @staticmethod
    def kernel(h):
        """Sum over channels of the second moments, as by weights of variance 1."""
        return np.einsum("sic,sjc->ij", h, h) / SAMPLES


class Counted(Sampled):
    """The same operations on coefficients, [unit, channel]: exact for linear networks."""

    def __init__(self):
        self.drawn = 0

    def units(self, count):
        self.drawn += count
        return np.eye(99)[:, self.drawn - count : self.drawn]

    @staticmethod
    def kernel(h):
        """Units are independent, with covariance Q each."""
        return (h**2).sum() * Q


def swapped(n, combine, activation=False):
    a, b = n.units(1), n.units(2)
    if activation:
        a, b = n.relu(a), n.relu(b)
    return combine(n.concat(a, b), n.concat(b, a))


def cut_before(n):
    h = n.add(n.units(4), n.concat(n.units(2), n.units(2)))
    return n.add(n.concat(n.units(2), h), n.concat(h, n.units(2)))


def nested(n):
    a, b, c = n.units(1), n.units(2), n.units(3)
    return n.add(n.concat(n.concat(a, b), c), n.concat(c, n.concat(b, a)))


def twice_the_same(n):
    a = n.units(2)
    return n.add(n.concat(a, a, n.units(1)), n.concat(n.units(1), a, a))


def sums_of_sums(n):
    """Three channels of one tensor in each sum, one of them twice."""
    a, b = n.units(3), n.units(1)
    h = n.add(n.concat(a, b), n.concat(b, a))
    return n.add(n.concat(h, n.units(1)), n.concat(n.units(1), h))


def cancelled(n):
    a, b = n.units(1), n.units(2)
    return n.subtract(n.add(n.concat(a, b), n.concat(b, a)), n.concat(b, a))


def scaled(n):
    a, b = n.units(1), n.units(2)
    return n.add(n.times(n.concat(a, b), 3.0), n.concat(b, a))


CASES = {
    "add": lambda n: swapped(n, n.add),
    "subtract": lambda n: swapped(n, n.subtract),
    "average": lambda n: swapped(n, n.average),
    "operations": lambda n: swapped(n, n.scaled_sum),
    "three terms": lambda n: n.average(
        n.concat(a := n.units(1), b := n.units(2)), n.concat(b, a), n.concat(a, b)
    ),
    "relu before": lambda n: swapped(n, n.add, activation=True),
    "difference of relus": lambda n: swapped(n, n.subtract, activation=True),
    "relu after": lambda n: n.relu(swapped(n, n.add)),
    "relu between": lambda n: n.add(h := n.relu(swapped(n, n.add)), n.times(h, 0.5)),
    "cut before": cut_before,
    "nested": nested,
    "relu of nested": lambda n: n.relu(nested(n)),
    "a tensor twice": twice_the_same,
    "sums of sums": sums_of_sums,
    "relu of sums of sums": lambda n: n.relu(sums_of_sums(n)),
    "cancelled": cancelled,
    "scaled": scaled,
    "scaled and relu": lambda n: n.relu(scaled(n)),
}


@pytest.mark.parametrize("name", CASES)
def test_channels_that_are_not_aligned(name):
    keras_side, sampled = InKeras(), Sampled()
    kernel = keras_side.kernel(CASES[name](keras_side))
    truth = sampled.kernel(CASES[name](sampled))
    np.testing.assert_allclose(kernel(X), truth, rtol=0.01, atol=0.01 * truth.max())


LINEAR = [name for name in CASES if "relu" not in name]


@pytest.mark.parametrize("name", LINEAR)
def test_linear_sums_are_exact(name):
    keras_side, counted = InKeras(), Counted()
    kernel = keras_side.kernel(CASES[name](keras_side))
    truth = counted.kernel(CASES[name](counted))
    np.testing.assert_allclose(kernel(X), truth, rtol=1e-12)


def test_the_exact_oracle_by_hand():
    assert Counted.kernel(CASES["add"](Counted()))[0, 0] == pytest.approx(12)
    assert Counted.kernel(CASES["cut before"](Counted()))[0, 0] == pytest.approx(40)


def test_channels_of_one_tensor_in_different_sums_are_dependent():
    """relu of b0 + b1 and of b1 + b2 share b1: their sum has no rule, and is refused."""
    n = InKeras()
    a, b = n.units(1), n.units(3)
    h = n.relu(n.add(n.concat(a, b), n.concat(b, a)))
    total = n.add(n.concat(h, n.units(1)), n.concat(n.units(1), h))
    with pytest.raises(keras2gp.UnsupportedModelError, match="the same random layer"):
        n.kernel(total)


def test_aligned_sums_are_what_they_were():
    n = InKeras()
    a, b = n.units(2), n.units(3)
    joined = n.concat(a, b)
    graph = n.kernel(n.add(joined, n.times(joined, 2.0))).graph
    assert not any(isinstance(node.op, Sum) for node in graph.nodes)
    assert sum(node.op == Scale(3.0) for node in graph.nodes) == 2


def test_depthwise_weights_of_two_copies_of_a_tensor_are_independent():
    """A depthwise layer has weights for every channel, also where two channels hold the same."""
    x = keras.Input((1, 1, 3))
    one = {"kernel_initializer": "he_normal"}
    b, a, c = (layers.Conv2D(2, 1, **one)(x) for _ in range(3))
    unit = {"depthwise_initializer": keras.initializers.RandomNormal(stddev=1.0)}
    h = layers.DepthwiseConv2D(1, **unit)(layers.Concatenate()([b, b]))
    h = layers.Add()([layers.Concatenate()([h, a]), layers.Concatenate()([c, h])])
    model = keras.Model(x, layers.Dense(1, kernel_initializer=UNIT)(layers.Flatten()(h)))
    found = keras2gp.convert(model, dtype="float64")(X.reshape(2, 1, 1, 3))
    # Channels: w0 b + c, w1 b + w0 b, a + w1 b, two of each, all of them of variance 1 each.
    np.testing.assert_allclose(found, 2 * (2 + 2 + 2) * Q, rtol=1e-12)


def test_groups_of_a_normalisation_keep_their_place():
    """A cut into groups that come out alike is undone; what is not one range stays cut."""
    x = keras.Input((1, 1, 3))
    a, b = (layers.Conv2D(n, 1, kernel_initializer="he_normal")(x) for n in (4, 4))
    h = layers.GroupNormalization(2, epsilon=1e-9)(layers.Concatenate()([a, b]))
    h = layers.Add()([h, layers.Concatenate()([b, a])])
    model = keras.Model(x, layers.Dense(1, kernel_initializer=UNIT)(layers.Flatten()(h)))
    found = np.asarray(keras2gp.convert(model, dtype="float64")(X.reshape(2, 1, 1, 3)))
    scale = np.sqrt(np.outer(Q.diagonal(), Q.diagonal()))
    np.testing.assert_allclose(found, 8 * (Q / scale + Q), rtol=1e-6)


def shuffled(h, rows=2):
    """Channels as rows of a matrix that is transposed: not in their order."""
    matrix = layers.Reshape((rows, h.shape[-1] // rows))(h)
    return layers.Flatten()(layers.Permute((2, 1))(matrix))


def test_channels_in_another_order_are_told_apart():
    """Two of eight channels meet themselves, 4 Q each; the others meet others, 2 Q each."""
    n = InKeras()
    a, shape = n.units(8), (2, 4)
    for one, other, factor in (
        (a, shuffled(a), 20),
        (layers.Flatten()(layers.Reshape(shape)(a)), shuffled(a), 20),
        (n.concat(a, a), n.concat(shuffled(a), a), 20 + 32),
        (n.add(shuffled(n.units(8)), a), shuffled(a), 8 + 20),
    ):
        np.testing.assert_allclose(n.kernel(n.add(one, other))(X), factor * Q, rtol=1e-12)


def test_orders_of_independent_channels_do_not_matter():
    n = InKeras()
    a, b = n.units(8), n.units(8)
    for one, other, factor in (
        (shuffled(a), b, 16), (shuffled(a), shuffled(b), 16), (shuffled(a), shuffled(a), 32),
        (layers.Flatten()(layers.Reshape((2, 4))(a)), a, 32),
    ):  # fmt: skip
        np.testing.assert_allclose(n.kernel(n.add(one, other))(X), factor * Q, rtol=1e-12)
