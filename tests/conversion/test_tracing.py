"""The user's own code, traced: what it computes, which line is refused, what is left alone."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras2gp
from keras2gp.errors import ModelFileError, PriorError, UnsupportedModelError

HE = {"kernel_initializer": "he_normal"}
X = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0], [0.0, 1.5, -1.0]])


def dense(units=8, name=None, **settings):
    return layers.Dense(units, name=name, **(HE | settings))


class Block(keras.layers.Layer):
    """A residual block whose two layers have one name."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.first, self.second = dense(name="dense"), dense(name="dense")
        self.skip = dense(name="skip")
        self.dropout = layers.Dropout(0.5, name="dropout")

    def call(self, x, training=None):
        h = self.dropout(ops.relu(self.first(x)), training=training)
        return self.second(h) + self.skip(x)


class Net(keras.Model):
    """Code at two depths, a list of layers and a nested Sequential."""

    def __init__(self):
        super().__init__(name="net")
        self.blocks = [Block(name="a"), Block(name="b")]
        self.head = keras.Sequential([layers.ReLU(name="relu"), dense(1, name="out")], name="head")

    def call(self, x):
        for block in self.blocks:
            x = ops.tanh(block(x))
        return self.head(dense_free(x))


def dense_free(x):
    """A helper outside of the class."""
    return 0.5 * x if x.shape[-1] else x


class LastNet(Net):
    """As a network whose last activation is on the output of a block."""

    def call(self, x):
        x = ops.tanh(self.blocks[0](x))
        return self.head(0.5 * self.blocks[1](x))


def by_hand():
    """LastNet with the functional interface."""

    def block(x, name):
        h = ops.relu(dense(name=f"{name}1")(x))
        return dense(name=f"{name}2")(h) + dense(name=f"{name}3")(x)

    x = keras.Input((3,))
    h = 0.5 * block(ops.tanh(block(x, "a")), "b")
    return keras.Model(x, dense(1)(ops.relu(h)))


def both(model, **settings):
    kernel = keras2gp.convert(model, dtype="float64", **settings)
    return kernel.matrix(X, get="both")


def test_a_subclassed_model_is_read_at_any_depth():
    model = LastNet()
    np.testing.assert_array_equal(both(model, input_shape=(3,)), both(by_hand()))
    report = keras2gp.inspect(model, input_shape=(3,))
    paths = [row.path for row in report.rows]
    assert paths == [
        *("a/dense", "a/relu", "a/dropout", "a/dense#2", "a/skip", "a/add", "tanh"),
        *("b/dense", "b/relu", "b/dropout", "b/dense#2", "b/skip", "b/add", "multiply"),
        *("head/relu", "head/out"),
    ]
    assert [row.path for row in keras2gp.inspect(model, input_shape=(3,)).rows] == paths
    model(X)  # Keras notes the shape of what it was called on.
    np.testing.assert_array_equal(both(model), both(by_hand()))


class SumNet(Net):
    """As a network whose last activation is on a sum of activations."""

    def call(self, x):
        return self.head(ops.tanh(self.blocks[0](x)) + ops.tanh(self.blocks[1](x)))


def test_an_obstacle_inside_names_its_path_and_the_line():
    (obstacle,) = keras2gp.inspect(SumNet(), input_shape=(3,)).obstacles
    assert obstacle.where == "head/relu"
    assert "relu of the output of" in obstacle.received


def test_a_layer_of_ones_own_inside_a_functional_model():
    x = keras.Input((3,))
    model = keras.Model(x, dense(1, name="last")(ops.relu(Block(name="block")(x))))
    y = keras.Input((3,))
    first = dense(name="dense")(y)
    h = dense(name="second")(ops.relu(first)) + dense(name="skip")(y)
    np.testing.assert_array_equal(both(model), both(keras.Model(y, dense(1)(ops.relu(h)))))
    weights = keras2gp.convert(model, prior="weights").parameters
    assert set(weights) == {"block/dense", "block/dense#2", "block/skip", "last"}
    first = model.get_layer("block").first
    moment = 3 * float(np.mean(np.square(first.get_weights()[0])))
    assert weights["block/dense"].weight == pytest.approx(moment, rel=1e-6)
    assert keras2gp.convert(model, output="block/dense").parameters.keys() == {"block/dense"}


class OwnSequential(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs)


class OwnFunctional(keras.Model):
    def __init__(self):
        x = keras.Input((3,))
        super().__init__(x, dense(4)(x))

    def call(self, inputs):
        return 2 * super().call(inputs)


@pytest.mark.parametrize(
    "build",
    [
        OwnFunctional,
        lambda: OwnSequential([keras.Input((3,)), dense(4)]),
        lambda: keras.Sequential([keras.Input((3,)), OwnSequential([dense(4)])]),
    ],
    ids=["functional", "Sequential", "nested"],
)
def test_a_call_of_ones_own_on_top_of_a_graph(build):
    kernel = keras2gp.convert(build(), dtype="float64", input_shape=(3,))
    np.testing.assert_allclose(kernel(X), 4 * 2 / 3 * X @ X.T, rtol=1e-12, atol=1e-12)


def pair(a, b):
    return ops.concatenate([ops.relu(dense(name="left")(a)), ops.relu(dense(name="right")(b))], -1)


class TwoArguments(keras.Model):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.out = dense(), dense(), dense(1)

    def call(self, a, b, training=False):
        h = ops.concatenate([ops.relu(self.left(a)), ops.relu(self.right(b))], -1)
        return self.out(h)


class OneDict(TwoArguments):
    def call(self, inputs):
        return super().call(inputs["a"], inputs["b"])


class OneList(TwoArguments):
    def call(self, inputs):
        a, b = inputs
        return super().call(a, b)


@pytest.mark.parametrize(
    ("kind", "shape", "names"),
    [
        (TwoArguments, [(3,), (2,)], ["a", "b"]),
        (TwoArguments, {"b": (2,), "a": (3,)}, ["a", "b"]),
        (OneDict, {"b": (2,), "a": (3,)}, ["a", "b"]),
        (OneList, [(3,), (2,)], ["inputs_0", "inputs_1"]),
    ],
    ids=["arguments", "arguments by name", "dict", "list"],
)
def test_several_inputs(kind, shape, names):
    a, b = keras.Input((3,)), keras.Input((2,))
    expected = keras2gp.convert(keras.Model([a, b], dense(1)(pair(a, b))), dtype="float64")
    kernel = keras2gp.convert(kind(), dtype="float64", input_shape=shape)
    assert sorted(spec.name for spec in kernel.inputs) == names
    arrays = dict(zip(names, (X, X[:, :2]), strict=True))
    np.testing.assert_array_equal(kernel(arrays), expected([X, X[:, :2]]))


class Wrapped(keras.Model):
    """Dense, a layer of one's own, Dense."""

    def __init__(self, layer):
        super().__init__(name="wrapped")
        self.first, self.own, self.last = dense(), layer, dense(1)

    def call(self, x):
        return self.last(self.own(self.first(x)))


class OfTensorFlow(layers.Layer):
    def call(self, x):
        return tf.math.bessel_i0e(x)


class OfNumpy(layers.Layer):
    def call(self, x):
        return np.tanh(x)


class Branch(layers.Layer):
    def call(self, x):
        return x if ops.sum(x) > 0 else -x


class Loop(layers.Layer):
    def call(self, x):
        return sum(row for row in x)


class Weights(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 8), name="mine")

    def call(self, x):
        return ops.matmul(x, self.w)


class ReadWeights(Weights):
    def call(self, x):
        return x @ ops.square(self.w)


class WeightsOfTensorFlow(Weights):
    def call(self, x):
        return tf.math.bessel_i0e(tf.matmul(x, self.w))


class Noise(layers.Layer):
    def call(self, x):
        return x + keras.random.normal((8,))


class Dropping(layers.Layer):
    def call(self, x):
        return keras.random.dropout(x, 0.5)


class NoiseOfNumpy(layers.Layer):
    def call(self, x):
        return x * float(np.random.default_rng().normal())


class NoiseOfTensorFlow(layers.Layer):
    def call(self, x):
        return 0.5 * x * tf.random.normal(())


class Batch(layers.Layer):
    def call(self, x):
        return x / ops.cast(ops.shape(x)[0], "float32")


class OtherRows(layers.Layer):
    """Constants that differ between the images of a batch."""

    def call(self, x):
        return ops.concatenate([x, ops.reshape(1.0 * ops.arange(x.shape[0]), (-1, 1))], -1)


class Constant(layers.Layer):
    def call(self, x):
        return ops.ones((1, 8))


class OfConstants(layers.Layer):
    """Positions through a layer with weights."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.inner = layers.Embedding(8, 8)

    def call(self, x):
        return x + ops.sum(self.inner(ops.arange(8)), 0)


class Fails(layers.Layer):
    def call(self, x):
        return self.nothing(x)


REFUSED = {
    OfTensorFlow: ("tf.math.bessel_i0e(x)", "a function of TensorFlow", "keras.ops"),
    OfNumpy: ("np.tanh(x)", "values of a symbolic tensor", "keras.ops"),
    Branch: ("if ops.sum(x) > 0", "a branch or a loop of Python", "reader of your own"),
    Loop: ("for row in x", "a branch or a loop of Python", "reader of your own"),
    ReadWeights: ("ops.square(self.w)", "weights of its own (mine)", "Dense"),
    WeightsOfTensorFlow: ("i0e(tf.matmul", "weights of its own (mine), which no", "reader"),
    Noise: ("keras.random.normal", "draws random numbers", "Dropout"),
    Dropping: ("keras.random.dropout", "draws random numbers", "Dropout"),
    NoiseOfNumpy: ("np.random.default_rng", "draws random numbers", "Dropout"),
    NoiseOfTensorFlow: ("tf.random.normal", "draws random numbers", "Dropout"),
    Batch: ("ops.cast(ops.shape(x)[0]", "size of the batch", "reader of your own"),
    OtherRows: ("ops.arange(x.shape[0])", "size of the batch", "reader of your own"),
    OfConstants: ("self.inner(ops.arange", "acts on constants", "as an input of the model"),
    Fails: ("self.nothing(x)", "AttributeError", "reader of your own"),
}


def relu_moment(k):
    """E[relu(u) relu(v)] of all pairs, of covariances [N, N, ...]."""
    q = np.einsum("ii...->i...", k)
    size = np.sqrt(q[:, None] * q)
    angle = np.arccos(np.clip(k / size, -1.0, 1.0))
    return size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)


class Coordinates(layers.Layer):
    """CoordConv: the place of each position, as channels beside the others."""

    def call(self, x):
        count, height, width = ops.shape(x)[0], x.shape[1], x.shape[2]
        places = ops.meshgrid(ops.arange(height), ops.arange(width), indexing="ij")
        places = ops.cast(ops.stack(places, -1), "float32") / 2
        return ops.concatenate([x, ops.tile(places[None], (count, 1, 1, 1))], -1)


class Rows(layers.Layer):
    """Positions in one row, by the size of the batch."""

    def call(self, x):
        return ops.reshape(x, (ops.shape(x)[0], x.shape[1] * x.shape[2], x.shape[3]))


class OpenRows(layers.Layer):
    """The same, and how many there are is left to Keras."""

    def call(self, x):
        return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[3]))


class Both(layers.Layer):
    """A layer that reads the size inside of one that does."""

    def __init__(self):
        super().__init__()
        self.first = Coordinates()

    def call(self, x):
        ones = ops.tile(ops.ones((1, *x.shape[1:3], 1)), (ops.shape(x)[0], 1, 1, 1))
        return ops.concatenate([self.first(x), ones], -1)


COORDINATES = {
    Coordinates: (np.stack(np.meshgrid([0, 0.5, 1], [0, 0.5], indexing="ij"), -1)),
    Both: np.stack([*np.meshgrid([0, 0.5, 1], [0, 0.5], indexing="ij"), np.ones((3, 2))], -1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", COORDINATES)
def test_code_that_reads_the_size_of_the_batch(kind, dtype, rng):
    """Features and constant channels are averaged by how many there are of either."""
    he = {"kernel_initializer": "he_normal"}
    x = keras.Input((3, 2, 4))
    h = kind()(layers.Conv2D(6, 1, activation="relu", **he)(x))
    h = Rows()(layers.Conv2D(8, 1, activation="relu", **he)(h))
    model = keras.Model(x, layers.Dense(1, **he)(layers.Flatten()(h)))
    kernel = keras2gp.convert(model, dtype=dtype)
    data = rng.normal(size=(3, 3, 2, 4)).astype("float32")
    k = 2 * np.einsum("ihwc,jhwc->ijhw", data, data, dtype="float64") / 4
    places = COORDINATES[kind]
    count = places.shape[-1]
    mixed = (6 * relu_moment(k) + (places**2).sum(-1)) / (6 + count)
    expected = 2 * relu_moment(2 * mixed).mean((2, 3))
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(kernel(data), expected, rtol=tolerance)
    assert (model.predict(data, verbose=0).shape) == (3, 1)


@pytest.mark.parametrize("kind", COORDINATES)
def test_channels_of_places_at_the_input(kind, rng):
    x = keras.Input((3, 2, 4))
    h = layers.Conv2D(5, 1, kernel_initializer="he_normal")(kind()(x))
    kernel = keras2gp.convert(keras.Model(x, h), dtype="float64")
    data = rng.normal(size=(3, 3, 2, 4)).astype("float32")
    places = COORDINATES[kind]
    k = np.einsum("ihwc,jhwc->ijhw", data, data, dtype="float64") + (places**2).sum(-1)
    np.testing.assert_allclose(kernel(data), 2 * k / (4 + places.shape[-1]), rtol=1e-12)


def test_a_reshape_with_two_open_sizes(rng):
    data = rng.normal(size=(3, 3, 2, 4))
    kernels = []
    for kind in (Rows, OpenRows):
        x = keras.Input((3, 2, 4))
        h = layers.Conv2D(5, 2, padding="same", kernel_initializer="he_normal")(x)
        h = layers.GlobalAveragePooling1D()(kind()(h))
        model = keras.Model(x, layers.Dense(1, kernel_initializer="he_normal")(h))
        kernels.append(keras2gp.convert(model, dtype="float64")(data))
    np.testing.assert_array_equal(*kernels)


def test_constants_of_several_images_are_refused():
    x = keras.Input((4,))
    h = ops.concatenate([layers.Dense(6)(x), np.ones((2, 3), "float32")], -1)
    (obstacle,) = keras2gp.inspect(keras.Model(x, layers.Dense(1)(h))).obstacles
    assert "(2, 3)" in obstacle.why
    assert "(1, ...)" in obstacle.hint


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_code_that_cannot_be_traced_is_refused_by_its_line(kind):
    line, why, hint = REFUSED[kind]
    model = Wrapped(kind(name="own"))
    (obstacle,) = keras2gp.inspect(model, input_shape=(3,)).obstacles
    assert "test_tracing.py, line " in obstacle.why
    assert line in obstacle.why
    assert why in obstacle.why
    assert hint in obstacle.hint
    assert not model.built
    assert not model.weights


def test_a_result_that_does_not_depend_on_the_input():
    (obstacle,) = keras2gp.inspect(Wrapped(Constant()), input_shape=(3,)).obstacles
    assert "does not depend on its input" in obstacle.why


def test_what_has_no_rule_inside_names_the_line_that_calls_it():
    class Sorts(layers.Layer):
        def call(self, x):
            return ops.sort(x)

    (obstacle,) = keras2gp.inspect(Wrapped(Sorts(name="own")), input_shape=(3,)).obstacles
    assert obstacle.where == "own/sort"
    assert "return ops.sort(x)" in obstacle.received


@pytest.mark.parametrize("kind", [OfTensorFlow, Weights], ids=lambda kind: kind.__name__)
def test_a_reader_wins(kind):
    def read(call, context):
        return context.scaled(call.tensors[0], 3.0)

    x = keras.Input((3,))
    model = keras.Model(x, dense(1)(kind()(dense()(x))))
    kernel = keras2gp.convert(model, layers={kind: read}, dtype="float64")
    np.testing.assert_allclose(kernel(X), 9 * 2 * 2 / 3 * X @ X.T, rtol=1e-12)


def test_the_model_and_the_process_stay_as_they_are():
    model = LastNet()
    model.note = ["mine"]
    before = {id(layer): dict(vars(layer)) for layer in model._flatten_layers()}
    name, state = layers.Dense(1).name, random.getstate()
    numbers = np.random.get_state()[1].tolist()  # noqa: NPY002
    both(model, input_shape=(3,))
    assert random.getstate() == state
    assert np.random.get_state()[1].tolist() == numbers  # noqa: NPY002
    assert int(layers.Dense(1).name.split("_")[1]) == int((name + "_0").split("_")[1]) + 1
    assert not model.built
    assert not model.weights
    assert {id(layer): dict(vars(layer)) for layer in model._flatten_layers()} == before
    assert not model.blocks[0].first._inbound_nodes
    assert np.asarray(model(X)).shape == (3, 1)  # It is built as ever.
    values = model.get_weights()
    before = np.asarray(model(X))
    both(model)
    for old, new in zip(values, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(before, model(X))


def test_state_that_a_call_changes_is_given_back():
    class Counts(Wrapped):
        calls = 0

        def call(self, x):
            self.calls += 1
            self.seen = x
            return super().call(x)

    model = Counts(layers.ReLU())
    assert keras2gp.inspect(model, input_shape=(3,)).exact
    assert model.calls == 0
    assert not hasattr(model, "seen")


def test_trained_weights_of_a_model_that_has_none():
    with pytest.raises(PriorError, match="call the model on data"):
        keras2gp.convert(LastNet(), input_shape=(3,), prior="weights")


def test_lambdas():
    x = keras.Input((3,))
    h = layers.Lambda(lambda t: ops.relu(2 * t), name="doubled")(dense()(x))
    expected = keras.Model(x, dense(1)(layers.ReLU()(2 * dense()(x))))
    np.testing.assert_array_equal(both(keras.Model(x, dense(1)(h))), both(expected))


@pytest.mark.parametrize(
    "layer",
    [layers.Lambda(lambda t: tf.abs(t) + 1), layers.Lambda(lambda t: ops.abs(t) + 1)],
    ids=["TensorFlow", "keras.ops"],
)
def test_code_on_the_data_runs(layer, tmp_path):
    x = keras.Input((3,))
    kernel = keras2gp.convert(keras.Model(x, dense(1)(layer(x))), dtype="float64")
    y = np.abs(X) + 1
    np.testing.assert_allclose(kernel(X), 2 / 3 * y @ y.T, rtol=1e-12)
    if "Lambda" in [row.layer for row in kernel.report.rows]:
        with pytest.raises(ModelFileError, match="holds code"):
            kernel.save(tmp_path / "kernel")


def test_a_layer_of_ones_own_on_the_data_runs():
    x = keras.Input((3,))
    kernel = keras2gp.convert(keras.Model(x, dense(1)(OfTensorFlow()(x))), dtype="float64")
    values = tf.math.bessel_i0e(X).numpy()
    np.testing.assert_allclose(kernel(X), 2 / 3 * values @ values.T, rtol=1e-12)

    class Random(layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    with pytest.raises(UnsupportedModelError, match="depend on the other images"):
        keras2gp.convert(keras.Model(x, dense(1)(Random()(x))))


def test_code_in_training_is_refused():
    class Trains(layers.Layer):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.dropout = layers.Dropout(0.5, name="dropout")

        def call(self, x):
            return self.dropout(x, training=True)

    (obstacle,) = keras2gp.inspect(Wrapped(Trains(name="own")), input_shape=(3,)).obstacles
    assert obstacle.where == "own/dropout"
    assert "training=True" in obstacle.why


@keras.saving.register_keras_serializable(package="tracing")
class Harmful(layers.Layer):
    """Notes that it ran."""

    ran = 0

    def call(self, x):
        type(self).ran += 1
        return ops.relu(x)


def test_a_files_code_never_runs(tmp_path):
    x = keras.Input((3,))
    keras.Model(x, dense(1)(Harmful(name="own")(dense()(x)))).save(tmp_path / "m.keras")
    Harmful.ran = 0
    (obstacle,) = keras2gp.inspect(tmp_path / "m.keras").obstacles
    assert "hand over the model itself" in obstacle.hint
    assert Harmful.ran == 0

    keras2gp.deterministic(Harmful)  # so that its class may be handed over
    (obstacle,) = keras2gp.inspect(tmp_path / "m.keras", layers={Harmful: Harmful}).obstacles
    assert "never run for a model from a file" in obstacle.why
    assert "hand over the model itself" in obstacle.hint


@pytest.mark.usefixtures("traced")
def test_wide_copies_of_a_traced_model():
    """Of one that is not built: it stays so."""
    model = LastNet()
    report = keras2gp.verify(model, input_shape=(3,), widths=(8, 64), samples=200)
    assert report.accepted, report
    assert not model.built
    assert not model.weights
