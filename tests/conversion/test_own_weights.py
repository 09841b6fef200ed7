"""Weights of a user's own layer, read as those of the Keras layer that they act as."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras2gp

X = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0], [0.0, 1.5, -1.0]])
NORMAL = keras.initializers.RandomNormal(stddev=0.4)


class Linear(layers.Layer):
    """As in Keras's guide: an __init__ that takes no name."""

    def __init__(self, units=8, start=NORMAL):
        super().__init__()
        self.units, self.start = units, start

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer="he_normal")
        self.b = self.add_weight(shape=(self.units,), initializer=self.start)

    def call(self, x):
        return ops.matmul(x, self.w) + self.b


class Scaled(layers.Layer):
    """A product without biases, written with @, whose units have one factor at its start."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 6), initializer="glorot_uniform")
        self.gamma = self.add_weight(shape=(6,), initializer=keras.initializers.Constant(0.5))

    def call(self, x):
        return ops.relu((x @ self.kernel) * self.gamma)


class TwoReaders(layers.Layer):
    """Biases that are not alone in what reads the product."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 6), initializer="he_normal")
        self.b = self.add_weight(shape=(6,), initializer=NORMAL)

    def call(self, x):
        h = x @ self.w
        return ops.concatenate([h, h + self.b], -1)


class FeedForward(layers.Layer):
    """Biases that are added after the residual sum, and a constant that is added first."""

    def build(self, shape):
        (*_, units) = shape
        self.w1 = self.add_weight(shape=(units, 12), initializer="he_normal")
        self.w2 = self.add_weight(shape=(12, units), initializer="he_normal")
        self.b1 = self.add_weight(shape=(12,), initializer="zeros")
        self.b2 = self.add_weight(shape=(1, units), initializer=NORMAL)
        self.level = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.25))

    def call(self, x):
        return x + ops.relu(self.level + (x @ self.w1 + self.b1)) @ self.w2 + self.b2


class Bias(layers.Layer):
    """Biases alone, before the tensor."""

    def build(self, shape):
        self.b = self.add_weight(shape=(shape[-1],), initializer=NORMAL)

    def call(self, x):
        return self.b + x


class AboutOne(layers.Layer):
    """RMSNormalization with factors 1 + scale, as in language models, and one of 2 - level / 2."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="zeros")
        self.level = self.add_weight(shape=(1, 1), initializer="ones")

    def call(self, x):
        square = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return (2 - self.level * 0.5) * (x * ops.rsqrt(square + 0.1) * (1.0 + self.scale))


class Within(layers.Layer):
    """A layer with weights of its own within another."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return ops.relu(self.inner(x))


class MovedBias(Bias):
    """Biases that are other ones before they are added."""

    def call(self, x):
        return x + (self.b - 1.0)


class DoubleMatrix(Linear):
    """A matrix that is another one before it is multiplied."""

    def call(self, x):
        return x @ (2.0 * self.w)


class Places(layers.Layer):
    """A number for each position, which all channels share."""

    def build(self, shape):
        self.b = self.add_weight(shape=(shape[1], 1), initializer=NORMAL)

    def call(self, x):
        return x + self.b


class Standardized(layers.Layer):
    """A convolution whose filters are normalised first."""

    def build(self, shape):
        self.w = self.add_weight(shape=(1, shape[-1], 4), initializer="he_normal")

    def call(self, x):
        mean, variance = tf.nn.moments(self.w, [0, 1], keepdims=True)
        return ops.conv(x, (self.w - mean) / tf.sqrt(variance + 1e-5))


class Distances(layers.Layer):
    """A unit for each centre: exp(-|x - centre|^2)."""

    def build(self, shape):
        self.centres = self.add_weight(shape=(shape[-1], 4), initializer="uniform")

    def call(self, x):
        return ops.exp(-ops.sum(ops.square(x[..., None] - self.centres), axis=1))


class Outer(layers.Layer):
    """Weights of an __init__ that takes an object."""

    def __init__(self, layer):
        super().__init__()
        self.w = layer.add_weight(shape=(3, 4), initializer="he_normal")

    def call(self, x):
        return x @ self.w


class Product(layers.Layer):
    """A product with a matrix, as one of several functions writes it, with biases."""

    def __init__(self, multiply):
        super().__init__()
        self.multiply = multiply

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 8), initializer="he_normal")
        self.b = self.add_weight(shape=(8,), initializer=NORMAL)

    def call(self, x):
        return tf.nn.bias_add(self.multiply(x, self.w), self.b, data_format="NHWC")


PRODUCTS = {
    "dot": ops.dot,
    "einsum": lambda x, w: ops.einsum("btc,cd->btd", x, w),
    "einsum of any axes": lambda x, w: tf.einsum("...c,cd->...d", x, w),
    "keras.backend.dot": lambda x, w: tf.keras.backend.dot(x, w),  # noqa: PLW0108 (its present one)
    "tensordot": lambda x, w: ops.tensordot(x, w, axes=1),
    "tensordot over axes": lambda x, w: ops.tensordot(x, w, axes=[[-1], [0]]),
    "tensordot of TensorFlow": lambda x, w: tf.tensordot(x, w, axes=(-1, 0)),
    "tensordot over the third axis": lambda x, w: tf.tensordot(x, w, [[2], [-2]]),
}
OTHERS = {
    "einsum over steps": lambda x, w: ops.einsum("btc,td->bcd", x[:, :2], w),
    "einsum that sums steps": lambda x, w: ops.einsum("btc,cd->bd", x, w),
    "tensordot over steps": lambda x, w: ops.tensordot(x[:, :2], w, axes=[[1], [0]]),
    "tensordot over columns": lambda x, w: ops.tensordot(x, w @ ops.ones((8, 2)), axes=[[2], [1]]),
}


def steps(layer):
    def function(x):
        x = layers.Conv1D(2, 1)(layers.Reshape((3, 1))(x))
        return dense(1)(layers.Flatten()(ops.relu(layer(x))))

    return function


@pytest.mark.parametrize("case", PRODUCTS)
def test_products_are_those_of_dense(case):
    own = matrix(steps(Product(PRODUCTS[case])))
    np.testing.assert_allclose(own, matrix(steps(dense())), rtol=1e-12)


@pytest.mark.parametrize("case", OTHERS)
def test_other_products_are_refused(case):
    class Other(Product):
        def call(self, x):
            return self.multiply(x, self.w)

    x = keras.Input((3,))
    report = keras2gp.inspect(keras.Model(x, steps(Other(OTHERS[case]))(x)))
    assert any("weights of its own" in obstacle.why for obstacle in report.obstacles)


def dense(units=8, bias=NORMAL, **settings):
    law = {"kernel_initializer": "he_normal", "bias_initializer": bias}
    return layers.Dense(units, **(law | settings))


def matrix(function, **settings):
    x = keras.Input((3,))
    kernel = keras2gp.convert(keras.Model(x, function(x)), dtype="float64", **settings)
    return kernel.matrix(X, get="both")


def scaled(x):
    plain = {"kernel_initializer": "glorot_uniform", "use_bias": False}
    return ops.relu(0.5 * layers.Dense(6, **plain)(x))


def split(x, **settings):
    """Units at three positions."""
    return dense(8, **settings)(layers.Reshape((3, 1))(x))


PAIRS = {
    "x @ w + b": (lambda x: Linear(1)(ops.relu(Linear()(x))), lambda x: dense(1)(ops.relu(
        dense()(x)))),
    "zeros as biases": (Linear(1, "zeros"), dense(1, "zeros")),
    "a mean of the biases": (
        lambda x: dense(1)(ops.relu(Linear(8, keras.initializers.Constant(0.3))(x))),
        lambda x: dense(1)(ops.relu(dense(8, keras.initializers.Constant(0.3))(x))),
    ),
    "biases of a residual sum": (
        lambda x: dense(1)(ops.relu(FeedForward()(dense()(x)))),
        lambda x: dense(1)(ops.relu(
            (h := dense()(x)) + dense()(ops.relu(dense(12, "zeros")(h) + 0.25)))),
    ),
    "two readers": (
        lambda x: dense(1)(TwoReaders()(x)),
        lambda x: dense(1)(ops.concatenate(
            [h := dense(6, use_bias=False)(x), h + dense(6, kernel_initializer="zeros")(h)], -1)),
    ),
    "biases less a number": (
        lambda x: dense(1)(ops.relu(MovedBias()(dense()(x)))),
        lambda x: dense(1)(ops.relu(
            (h := dense()(x)) + dense(kernel_initializer="zeros")(h) - 1.0)),
    ),
    "biases of a map": (
        lambda x: dense(1)(layers.Flatten()(ops.relu(Bias()(split(x, use_bias=False))))),
        lambda x: dense(1)(layers.Flatten()(ops.relu(split(x)))),
    ),
    "biases of units": (
        lambda x: dense(1)(ops.relu(Bias()(layers.Flatten()(split(x, use_bias=False))))),
        lambda x: dense(1)(ops.relu((h := layers.Flatten()(split(x, use_bias=False)))
                                    + dense(24, kernel_initializer="zeros")(h))),
    ),
    "factors about one": (
        lambda x: dense(1)(ops.relu(AboutOne()(dense()(x)))),
        lambda x: dense(1)(ops.relu(1.5 * layers.RMSNormalization(epsilon=0.1)(dense()(x)))),
    ),
    "factors about one, deeper": (
        lambda x: dense(1)(Within(AboutOne())(dense()(x))),
        lambda x: dense(1)(ops.relu(1.5 * layers.RMSNormalization(epsilon=0.1)(dense()(x)))),
    ),
    "a factor": (lambda x: dense(1)(Scaled()(dense()(x))), lambda x: dense(1)(scaled(dense()(x)))),
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRS)
def test_kernels_are_those_of_keras_layers(case):
    own, keras_layers = PAIRS[case]
    np.testing.assert_allclose(matrix(own), matrix(keras_layers), rtol=1e-12)


def test_a_layer_that_is_called_twice_is_one_layer():
    own, known = Linear(), dense()

    def towers(layer):
        return lambda x: dense(1)(ops.relu(layer(x)) - ops.relu(layer(ops.flip(x, -1))))

    np.testing.assert_allclose(matrix(towers(own)), matrix(towers(known)), rtol=1e-12)


def test_weights_of_their_own_name_and_variances():
    x = keras.Input((3,))
    model = keras.Model(x, Linear(4)(x))
    ((path, variances),) = keras2gp.convert(model).parameters.items()
    assert path.endswith("/w")
    assert variances.bias == pytest.approx(0.16)
    found = keras2gp.convert(model, prior="weights").parameters[path]
    w, b = model.get_weights()
    assert found.weight == pytest.approx(3 * np.mean(w**2), rel=1e-6)
    assert found.bias == pytest.approx(np.mean(b**2), rel=1e-6)
    stated = keras2gp.convert(model, overrides={path: {"weight": 2.0}}).parameters[path]
    assert stated.weight == 2.0


def test_a_model_that_is_not_built():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = Linear(), Linear(1)

        def call(self, x):
            return self.last(ops.relu(self.first(x)))

    kernel = keras2gp.convert(Net(), dtype="float64", input_shape=(3,))
    np.testing.assert_allclose(kernel.matrix(X, get="both"), matrix(PAIRS["x @ w + b"][1]))


def test_a_part_with_its_present_weights():
    x = keras.Input((3,))
    own = Linear()
    model = keras.Model(x, dense(1)(layers.ReLU(name="cut")(own(x))))
    kernel = keras2gp.convert(model, dtype="float64", trained_until="cut")
    h = np.maximum(X @ own.w.numpy() + own.b.numpy(), 0.0).astype("float64")
    np.testing.assert_allclose(kernel(X), 0.16 + 2 / 8 * h @ h.T, rtol=1e-5)


class Doubled(layers.Dense):
    """A Dense whose own call goes on."""

    def call(self, inputs):
        return 2 * super().call(inputs)


def test_a_subclass_of_dense_that_doubles_its_output():
    x = keras.Input((3,))
    own, plain = (
        keras2gp.convert(keras.Model(x, dense(1)(layers.ReLU()(layer))), dtype="float64")
        for layer in (Doubled(8)(x), layers.Dense(8)(x))
    )
    np.testing.assert_allclose(own(X) - 0.16, 4 * (plain(X) - 0.16), rtol=1e-12)


def test_biases_of_ones_own_with_their_present_values():
    x = keras.Input((3,))
    own, first = Bias(), dense(8)
    model = keras.Model(x, dense(1)(layers.ReLU(name="cut")(own(first(x)))))
    own.b.assign(np.linspace(-1.0, 1.0, 8))
    kernel = keras2gp.convert(model, dtype="float64", trained_until="cut")
    h = np.maximum(X @ first.kernel.numpy() + first.bias.numpy() + own.b.numpy(), 0.0)
    np.testing.assert_allclose(kernel(X), 0.16 + 2 / 8 * h @ h.T, rtol=1e-5)
    found = keras2gp.convert(model, prior="weights").parameters
    (variances,) = (v for path, v in found.items() if path.startswith("bias"))
    assert variances.weight == 0.0
    assert variances.bias == pytest.approx(np.mean(np.linspace(-1.0, 1.0, 8) ** 2), rel=1e-6)


def test_variances_of_all_weights_are_not_of_biases_alone():
    x = keras.Input((3,))
    model = keras.Model(x, dense(1, "zeros")(ops.relu(Bias()(dense(8, "zeros")(x)))))
    stated = keras2gp.convert(model, dtype="float64", overrides={"*": {"weight": 2.0}})
    plain = keras.Model(x, dense(1, "zeros")(ops.relu(dense(8)(x))))
    expected = keras2gp.convert(plain, dtype="float64")
    np.testing.assert_allclose(
        stated.matrix(X, get="both"), expected.matrix(X, get="both"), rtol=1e-12
    )


def test_biases_of_a_sum_over_channels():
    # The end of a factorisation machine: one number for each image, and a bias.
    x = keras.Input((3,))
    dot = layers.Dot(1)([dense()(x), layers.Dense(8)(ops.relu(dense(8)(x)))])
    with_bias, without = (
        keras2gp.convert(keras.Model(x, ops.sigmoid(y)), dtype="float64").matrix(X, get="both")
        for y in (Bias()(dot), dot)
    )
    np.testing.assert_allclose(with_bias, np.add(without, 0.16), rtol=1e-12)


class OnePlainUse(Linear):
    """A matrix that is used with biases and without."""

    def call(self, x):
        return ops.relu(x[:, :2] @ self.w + self.b + x[:, 1:] @ self.w)

    def build(self, shape):
        super().build((None, 2))


class OneBias(OnePlainUse):
    """Biases of two products."""

    def build(self, shape):
        super().build(shape)
        self.v = self.add_weight(shape=(2, self.units), initializer="he_normal")

    def call(self, x):
        return ops.relu(x[:, :2] @ self.w + self.b + (x[:, 1:] @ self.v + self.b))


def test_a_weight_that_two_calls_use_is_one_weight():
    """With a layer for each use the kernels would be those of independent weights."""
    known = (
        lambda x: dense(1)(ops.relu(dense()(x[:, :2] + x[:, 1:]))),
        lambda x: dense(1)(ops.relu(
            dense(use_bias=False)(x[:, :2]) + dense(use_bias=False)(x[:, 1:])
            + 2.0 * dense(kernel_initializer="zeros")(x)
        )),
    )  # fmt: skip
    for kind, plain in zip((OnePlainUse, OneBias), known, strict=True):
        own = matrix(lambda x, kind=kind: dense(1)(kind()(x)))
        np.testing.assert_allclose(own, matrix(plain), rtol=1e-12)


class Tied(layers.Layer):
    """A Dense layer, and a product with its kernel."""

    def __init__(self):
        super().__init__()
        self.dense = dense()

    def build(self, shape):
        self.dense.build((None, 2))

    def call(self, x):
        return ops.relu(self.dense(x[:, :2])) + ops.relu(x[:, 1:] @ self.dense.kernel)


def test_a_weight_of_two_layers_is_refused():
    x = keras.Input((3,))
    with pytest.raises(keras2gp.UnsupportedModelError, match="is also that of tied/dense"):
        keras2gp.convert(keras.Model(x, dense(1)(Tied()(x))), prior="weights")


def test_keras_is_left_as_it_was():
    x = keras.Input((3,))
    changed = [*keras.Variable.__mro__[:3], keras.src.backend.numpy]
    before = [dict(vars(each)) for each in changed]
    keras2gp.inspect(keras.Model(x, AboutOne()(Bias()(dense()(x)))))
    assert before == [dict(vars(each)) for each in changed]


REFUSED = {
    "a number for each position": (lambda x: Places()(split(x)), "shares its randomness"),
    "standardised filters": (lambda x: Standardized()(split(x)), "before they act on its input"),
    "distances": (Distances(), "as distances to centres do"),
    "distances of units": (lambda x: Distances()(ops.relu(dense()(x))), "as distances to centres"),
    "twice a matrix": (DoubleMatrix(), "weights of its own"),
    "an unknown start": (Outer(Linear()), "add_weight"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_reason(case):
    layer, why = REFUSED[case]
    x = keras.Input((3,))
    (obstacle,) = keras2gp.inspect(keras.Model(x, dense(1)(layer(x)))).obstacles
    assert why in obstacle.why
    assert obstacle.hint


@pytest.mark.slow
@pytest.mark.parametrize("layer", [Scaled, FeedForward, Bias])
@pytest.mark.usefixtures("traced")
def test_wide_copies_agree(layer):
    x = keras.Input((3,))
    model = keras.Model(x, Linear(1)(ops.relu(layer()(Linear()(x)))))
    report = keras2gp.verify(model, widths=(16, 32, 64), samples=400)
    assert report.accepted, report


class Kept(keras.Model):
    """Weights of __init__ and no `build`, which Keras cannot build anew from a configuration."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.w = self.add_weight(shape=(3, 8), initializer="he_normal")
        self.head = layers.Dense(2)

    def call(self, x):
        return self.head(ops.relu(x @ self.w))


def test_warnings_of_keras_on_a_copy_are_not_shown(recwarn):
    """Nobody but Keras builds the copy; warnings of the user's own code are shown."""
    model = Kept()
    model(X.astype("float32"))
    recwarn.clear()
    kernel = keras2gp.convert(model, input_shape=(3,))
    assert not recwarn.list
    assert "w" in {row.path.split("/")[-1] for row in kernel.report.rows}

    class Told(Linear):
        def build(self, shape):
            warnings.warn("my own", UserWarning, stacklevel=1)
            super().build(shape)

    keras2gp.convert(keras.Sequential([keras.Input((3,)), Told(), layers.ReLU(), layers.Dense(2)]))
    assert {str(warning.message) for warning in recwarn} == {"my own"}
