"""Embedded positions, class tokens and other weights without images, compared with numpy."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras2gp

NORMAL = keras.initializers.RandomNormal(stddev=0.4)
V = 0.16
COUNT, STEPS, UNITS = 4, 5, 6


class TokenAndPosition(layers.Layer):
    """As in Keras's examples of text classification."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.tokens = layers.Embedding(7, UNITS, embeddings_initializer=NORMAL)
        self.positions = layers.Embedding(STEPS, UNITS, embeddings_initializer=NORMAL)

    def call(self, x):
        positions = ops.arange(start=0, stop=ops.shape(x)[-1], step=1)
        return self.tokens(x) + self.positions(positions)


class OwnTable(TokenAndPosition):
    """Positions by a weight of the layer's own."""

    def build(self, shape):
        self.table = self.add_weight(shape=(STEPS, UNITS), initializer=NORMAL)

    def call(self, x):
        return self.table + self.tokens(x)


class PatchEncoder(layers.Layer):
    """As in Keras's example of vision transformers: numbers with an axis of one image."""

    def __init__(self):
        super().__init__()
        self.project = layers.Dense(UNITS, kernel_initializer="he_normal")
        self.positions = layers.Embedding(STEPS, UNITS, embeddings_initializer=NORMAL)

    def call(self, x):
        numbers = ops.expand_dims(ops.arange(STEPS), axis=0)
        return self.project(x) + self.positions(numbers)


class Stored(PatchEncoder):
    """A weight with an axis of one image, of which as many steps are taken as there are."""

    def build(self, shape):
        self.table = self.add_weight(shape=(1, STEPS + 2, UNITS), initializer=NORMAL)

    def call(self, x):
        return self.project(x) + self.table[:, : x.shape[1]]


class Half(PatchEncoder):
    """A weight without that axis, times a number."""

    def build(self, shape):
        self.table = self.add_weight(shape=(STEPS + 2, UNITS), initializer=NORMAL)

    def call(self, x):
        return self.project(x) + 0.5 * self.table[: x.shape[1]]


class ClassToken(PatchEncoder):
    """One more step for each image, repeated as often as there are images."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, UNITS), initializer=NORMAL)

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, UNITS))
        return ops.concatenate([token, self.project(x)], axis=1)


class Deeper(layers.Layer):
    """Within another layer, with one more Dense layer on the numbers of positions."""

    def __init__(self):
        super().__init__()
        self.project = layers.Dense(UNITS, kernel_initializer="he_normal")
        self.of_numbers = layers.Dense(UNITS, kernel_initializer="he_normal")

    def call(self, x):
        numbers = ops.reshape(ops.cast(ops.arange(STEPS), "float32"), (1, STEPS, 1))
        return self.project(x) + self.of_numbers(numbers)


class Grid(layers.Layer):
    """Positions of a map."""

    def build(self, shape):
        self.table = self.add_weight(shape=(1, 2, 3, UNITS), initializer=NORMAL)

    def call(self, x):
        return x + self.table


def tokens(rng):
    return rng.integers(0, 7, (COUNT, STEPS))


def steps(rng):
    return rng.normal(size=(COUNT, STEPS, 3))


def equal(x):
    return V * (x[:, None, :, None] == x[None, :, None, :])


def projected(x):
    return 2 / 3 * np.einsum("igc,jhc->ijgh", x, x)


def places(factor=V):
    return factor * np.eye(STEPS)


def with_token(x):
    k = np.zeros((len(x), len(x), STEPS + 1, STEPS + 1))
    k[..., 0, 0] = V
    k[..., 1:, 1:] = projected(x)
    return k


def of_numbers(x):
    return projected(x) + 2 * np.outer(np.arange(STEPS), np.arange(STEPS))


CASES = {
    TokenAndPosition: (tokens, lambda x: equal(x) + places()),
    OwnTable: (tokens, lambda x: equal(x) + places()),
    PatchEncoder: (steps, lambda x: projected(x) + places()),
    Stored: (steps, lambda x: projected(x) + places()),
    Half: (steps, lambda x: projected(x) + places(V / 4)),
    ClassToken: (steps, with_token),
    Deeper: (steps, of_numbers),
}


def head(k, t):
    """A Dense layer with a ReLU, means over positions and a Dense layer, all of variance 2."""
    k, t = 2 * k, 2 * (k + t)
    q = np.einsum("iigg->ig", k)
    size = np.sqrt(q[:, None, :, None] * q[None, :, None, :])
    sine, cosine = np.sqrt(np.maximum(size**2 - k**2, 0.0)), k
    angle = np.arctan2(sine, cosine)
    slope = (np.pi - angle) / (2 * np.pi)
    k, t = sine / (2 * np.pi) + k * slope, t * slope
    k, t = k.mean((2, 3)), t.mean((2, 3))
    return 2 * k, 2 * (k + t)


def model_of(layer, x):
    inputs = keras.Input(x.shape[1:], dtype="int32" if x.dtype.kind == "i" else "float32")
    y = layers.Dense(8, "relu", kernel_initializer="he_normal")(layer()(inputs))
    y = layers.Dense(1, kernel_initializer="he_normal")(layers.GlobalAveragePooling1D()(y))
    return keras.Model(inputs, y)


@pytest.mark.parametrize("layer", CASES)
def test_kernels_are_those_of_numpy(layer, rng):
    data, first = CASES[layer]
    x = data(rng)
    kernel = keras2gp.convert(model_of(layer, x), dtype="float64")
    found = kernel.matrix(x, get="both")
    k = first(x)
    expected = head(k, k)  # sums that are linear in their weights
    for matrix, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(matrix, other, rtol=1e-9)


def test_positions_of_a_map(rng):
    x = rng.normal(size=(COUNT, 2, 3, 2))
    inputs = keras.Input(x.shape[1:])
    y = layers.Conv2D(UNITS, 1, kernel_initializer="he_normal")(inputs)
    kernel = keras2gp.convert(keras.Model(inputs, Grid()(y)), dtype="float64")
    expected = np.einsum("ighc,jghc->ijgh", x, x) + V
    np.testing.assert_allclose(kernel(x), expected, rtol=1e-9)


def test_a_random_factor_of_each_channel(rng):
    class Drawn(layers.Layer):
        def build(self, shape):
            self.gamma = self.add_weight(shape=(shape[-1],), initializer=NORMAL)

        def call(self, x):
            return x * self.gamma

    x = rng.normal(size=(COUNT, 3))
    inputs = keras.Input((3,))
    y = Drawn()(layers.Dense(8, kernel_initializer="he_normal")(inputs))
    y = layers.Dense(1, kernel_initializer="he_normal")(y)
    kernel = keras2gp.convert(keras.Model(inputs, y), dtype="float64")
    first = 2 / 3 * x @ x.T
    np.testing.assert_allclose(kernel.matrix(x), 2 * V * first, rtol=1e-9)
    np.testing.assert_allclose(kernel.matrix(x, get="ntk"), 2 * V * 3 * first, rtol=1e-9)


def test_a_part_with_its_present_weights(rng):
    x = tokens(rng)
    inputs = keras.Input((STEPS,), dtype="int32")
    own = OwnTable(name="cut")
    y = layers.Dense(1, kernel_initializer="he_normal")(
        layers.GlobalAveragePooling1D()(own(inputs))
    )
    kernel = keras2gp.convert(keras.Model(inputs, y), dtype="float64", trained_until="cut")
    table, words = (np.asarray(w, "float64") for w in (own.table, own.tokens.embeddings))
    h = (words[x] + table).mean(1)
    np.testing.assert_allclose(kernel(x), 2 / UNITS * h @ h.T, rtol=1e-5)


def test_the_second_moments_of_trained_weights(rng):
    x = steps(rng)
    model = model_of(Stored, x)
    found = keras2gp.convert(model, prior="weights").parameters
    (variances,) = (v for path, v in found.items() if path.endswith("/table"))
    (table,) = (w for w in model.get_weights() if w.shape == (1, STEPS + 2, UNITS))
    assert variances.weight == pytest.approx(np.mean(np.square(table)), rel=1e-6)


class SummedSteps(PatchEncoder):
    def call(self, x):
        return self.project(x) + ops.sum(self.positions(ops.arange(STEPS)), 0)


class OfTwo(layers.Layer):
    def __init__(self):
        super().__init__()
        self.both = layers.Attention(use_scale=True)

    def call(self, x):
        places = ops.ones((1, STEPS, 3))
        return x + self.both([places, places])


REFUSED = {SummedSteps: "acts on constants", OfTwo: "acts on constants"}


@pytest.mark.parametrize("layer", REFUSED)
def test_other_uses_are_refused(layer, rng):
    report = keras2gp.inspect(model_of(layer, steps(rng)))
    assert REFUSED[layer] in report.obstacles[0].why
    assert report.obstacles[0].hint


@pytest.mark.slow
@pytest.mark.parametrize("layer", [TokenAndPosition, Stored, ClassToken])
@pytest.mark.usefixtures("traced")
def test_wide_copies_agree(layer, rng):
    x = CASES[layer][0](rng)
    report = keras2gp.verify(model_of(layer, x), data=x, widths=(16, 32, 64), samples=400)
    assert report.accepted, report
