"""Filters of a user's own layer, read as those of the convolution layer that they act as."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras2gp

NORMAL = keras.initializers.RandomNormal(stddev=0.4)
LAW = {"kernel_initializer": "he_normal", "bias_initializer": NORMAL}
X = np.random.default_rng(0).normal(size=(3, 5, 6, 3))


class Filters(layers.Layer):
    """Filters of an __init__ that takes a function, and biases."""

    def __init__(self, convolve, window, sizes):
        super().__init__()
        self.convolve, self.window, self.sizes = convolve, window, sizes

    def build(self, shape):
        self.filters = self.add_weight(
            shape=(*self.window, *self.sizes), initializer="he_normal", name="filters"
        )
        self.b = self.add_weight(shape=(4,), initializer=NORMAL, name="b")

    def call(self, x):
        return ops.relu(self.convolve(x, self.filters) + self.b)


def network(layer, axes=2):
    x = keras.Input(X.shape[1:])
    h = x if axes == 2 else layers.Reshape((30, 3))(x)
    return keras.Model(x, layers.Dense(1)(layers.Flatten()(layer(h))))


def kernel(layer, axes=2, **settings):
    model = network(layer, axes)
    return keras2gp.convert(model, dtype="float64", **settings).matrix(X, get="both")


CASES = {
    "conv": (
        lambda x, w: ops.conv(x, w, 2, "same"),
        (layers.Conv2D, 3, {"strides": 2, "padding": "same"}),
    ),
    "conv of one axis": (
        lambda x, w: ops.conv(x, w, padding="same"),
        (layers.Conv1D, 3, {"padding": "same"}),
    ),
    "TensorFlow's": (
        lambda x, w: tf.nn.conv2d(x, w, strides=[1, 2, 2, 1], padding="SAME"),
        (layers.Conv2D, 3, {"strides": 2, "padding": "same"}),
    ),
    "TensorFlow's, dilated": (
        lambda x, w: tf.nn.conv2d(x, w, 1, "VALID", dilations=2),
        (layers.Conv2D, 2, {"dilation_rate": 2}),
    ),
    "TensorFlow's of one axis": (
        lambda x, w: tf.nn.conv1d(x, w, 2, "VALID"),
        (layers.Conv1D, 3, {"strides": 2}),
    ),
    "TensorFlow's for any axes": (
        lambda x, w: tf.nn.convolution(x, w),  # noqa: PLW0108 (with its defaults)
        (layers.Conv2D, 3, {}),
    ),
    "keras.backend": (
        lambda x, w: tf.keras.backend.conv2d(x, w, (1, 2), "same"),
        (layers.Conv2D, 3, {"strides": (1, 2), "padding": "same"}),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_kernels_are_those_of_keras_layers(case):
    convolve, (layer, size, settings) = CASES[case]
    axes = 1 if layer is layers.Conv1D else 2
    own = kernel(Filters(convolve, (size,) * axes, (3, 4)), axes)
    known = kernel(layer(4, size, activation="relu", **settings, **LAW), axes)
    np.testing.assert_allclose(own, known, rtol=1e-12)


def test_a_transposed_convolution():
    def turned(x, w):
        return ops.conv_transpose(x, w, 2, "same")

    known = layers.Conv2DTranspose(4, 3, 2, "same", activation="relu", **LAW)
    np.testing.assert_allclose(kernel(Filters(turned, (3, 3), (4, 3))), kernel(known), rtol=1e-12)


@pytest.mark.parametrize("depthwise", [
    lambda x, w: ops.depthwise_conv(x, w, 1, "same"),
    lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"),
])  # fmt: skip
def test_a_depthwise_convolution_between_pointwise_ones(depthwise):
    def between(middle):
        def function(x):
            h = middle(layers.Conv2D(4, 1, **LAW)(x))
            return ops.relu(layers.Conv2D(4, 1, **LAW)(h))

        return function

    class Depthwise(Filters):
        def call(self, x):
            return self.convolve(x, self.filters) + self.b

    known = layers.DepthwiseConv2D(
        3, padding="same", depthwise_initializer="he_normal", bias_initializer=NORMAL
    )
    own = kernel(between(Depthwise(depthwise, (3, 3), (4, 1))))
    np.testing.assert_allclose(own, kernel(between(known)), rtol=1e-12)


def test_filters_of_two_strides_are_no_two_layers():
    class Twice(Filters):
        def call(self, x):
            first, second = (ops.conv(x, self.filters, n, "same") for n in (1, 2))
            return ops.concatenate([ops.relu(first)[:, ::2, ::2], ops.relu(second)], axis=-1)

    (obstacle,) = keras2gp.inspect(network(Twice(None, (3, 3), (3, 4)))).obstacles
    assert "its weight filters is also that of twice" in obstacle.why


def test_variances_of_the_present_filters():
    layer = Filters(CASES["conv"][0], (3, 3), (3, 4))
    model = network(layer)
    found = keras2gp.convert(model, prior="weights").parameters
    (variances,) = (v for path, v in found.items() if path.endswith("/filters"))
    w, b = layer.filters.numpy(), layer.b.numpy()
    assert variances.weight == pytest.approx(27 * np.mean(w**2), rel=1e-6)
    assert variances.bias == pytest.approx(np.mean(b**2), rel=1e-6)


POSITIONS = {
    "einsum": lambda x, w: ops.einsum("ij,bjk->bik", w, x),
    "matmul": lambda x, w: ops.matmul(w, x),
}


@pytest.mark.parametrize("case", POSITIONS)
def test_weights_of_positions_are_refused_for_what_they_are(case):
    class Mixed(Filters):
        def call(self, x):
            return self.convolve(x, self.filters)

    report = keras2gp.inspect(network(Mixed(POSITIONS[case], (), (4, 30)), axes=1))
    (obstacle,) = report.obstacles
    assert "sums positions by weights of its own (filters)" in obstacle.why
