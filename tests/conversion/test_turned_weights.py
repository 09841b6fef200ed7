"""Weights of a user's own that are used with their axes exchanged: x @ w^T."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras2gp

X = np.random.default_rng(0).normal(size=(3, 5))
NORMAL = keras.initializers.RandomNormal(stddev=0.4)
DRAWN = keras.initializers.RandomNormal(stddev=0.5)
"""What he_normal draws for [8, C]: its variance is 2 / 8, whatever the other axis is."""


class Columns(layers.Layer):
    """A matrix [units, channels], whose rows are units, and biases."""

    def __init__(self, multiply):
        super().__init__()
        self.multiply = multiply

    def build(self, shape):
        self.w = self.add_weight(shape=(8, shape[-1]), initializer="he_normal")
        self.b = self.add_weight(shape=(8,), initializer=NORMAL)

    def call(self, x):
        return self.multiply(x, self.w) + self.b


PRODUCTS = {
    "transpose": lambda x, w: ops.matmul(x, ops.transpose(w)),
    "transpose with axes": lambda x, w: x @ ops.transpose(w, axes=(-1, 0)),
    "swapaxes": lambda x, w: ops.dot(x, ops.swapaxes(w, 0, 1)),
    "moveaxis": lambda x, w: x @ ops.moveaxis(w, 0, -1),
    "three times": lambda x, w: x @ ops.transpose(ops.transpose(ops.transpose(w))),
    "transpose_b": lambda x, w: tf.matmul(x, w, transpose_b=True),
    "transpose of TensorFlow": lambda x, w: tf.matmul(x, tf.transpose(w)),
    "transpose of TensorFlow with axes": lambda x, w: tf.matmul(x, tf.transpose(a=w, perm=[1, 0])),
    "matrix_transpose": lambda x, w: tf.matmul(x, tf.linalg.matrix_transpose(w)),
    "keras.backend": lambda x, w: tf.keras.backend.dot(x, tf.keras.backend.transpose(w)),
    "einsum": lambda x, w: ops.einsum("bi,oi->bo", x, w),
    "einsum of any axes": lambda x, w: tf.einsum("...i,oi->...o", x, w),
    "tensordot": lambda x, w: ops.tensordot(x, w, axes=[[-1], [1]]),
    "tensordot of TensorFlow": lambda x, w: tf.tensordot(x, w, [[1], [-1]]),
}


def dense(units=8, start=DRAWN, **settings):
    return layers.Dense(units, kernel_initializer=start, **{"bias_initializer": NORMAL} | settings)


def network(layer, x):
    """A network with the layer on six channels."""
    return dense(1)(ops.relu(layer(ops.relu(dense(6)(x)))))


def converted(layer, **settings):
    x = keras.Input((5,))
    return keras2gp.convert(keras.Model(x, network(layer, x)), dtype="float64", **settings)


@pytest.mark.parametrize("case", PRODUCTS)
def test_products_are_those_of_dense(case):
    own, known = (converted(layer) for layer in (Columns(PRODUCTS[case]), dense()))
    expected = known.matrix(X, get="both")
    np.testing.assert_allclose(own.matrix(X, get="both"), expected, rtol=1e-12)


def test_a_kernel_is_that_of_numpy():
    """Sums over six channels of weights of variance 2 / 8, and over eight ones of 1 / 4."""

    def relu(k, theta):
        deviations = np.sqrt(np.diag(k))
        rho = np.clip(k / np.outer(deviations, deviations), -1.0, 1.0)
        angle = np.pi - np.arccos(rho)
        dual = np.outer(deviations, deviations) * (np.sqrt(1 - rho**2) + angle * rho) / (2 * np.pi)
        return dual, theta * angle / (2 * np.pi)

    k = theta = 0.25 * X @ X.T + 0.16
    for fan_in in (6, 8):
        dual, theta = relu(k, theta)
        k = 0.25 * fan_in * dual + 0.16
        theta = k + 0.25 * fan_in * theta
    kernel = converted(Columns(PRODUCTS["transpose"]))
    nngp, ntk = kernel.matrix(X, get="both")
    np.testing.assert_allclose(nngp, k, rtol=1e-9)
    np.testing.assert_allclose(ntk, theta, rtol=1e-6)  # arccos at 1 of the diagonal


def test_present_weights():
    x = keras.Input((5,))
    own = Columns(PRODUCTS["transpose"])
    model = keras.Model(x, network(own, x))
    found = keras2gp.convert(model, prior="weights").parameters
    (variances,) = (v for path, v in found.items() if path.endswith("/w"))
    assert variances.weight == pytest.approx(6 * np.mean(own.w.numpy() ** 2), rel=1e-6)
    assert variances.bias == pytest.approx(np.mean(own.b.numpy() ** 2), rel=1e-6)


def test_a_part_with_its_present_weights():
    x = keras.Input((5,))
    own = Columns(PRODUCTS["transpose"])
    model = keras.Model(x, dense(1)(layers.ReLU(name="cut")(own(x))))
    kernel = keras2gp.convert(model, dtype="float64", trained_until="cut")
    h = np.maximum(X @ own.w.numpy().T + own.b.numpy(), 0.0)
    np.testing.assert_allclose(kernel(X), 0.16 + 0.25 * h @ h.T, rtol=1e-5)


class Filters(layers.Layer):
    """Filters with their channels in front, as PyTorch keeps them."""

    def build(self, shape):
        self.w = self.add_weight(shape=(8, shape[-1], 3), initializer=DRAWN)

    def call(self, x):
        return ops.conv(x, ops.transpose(self.w, (2, 1, 0)), padding="same")


def test_filters():
    known = layers.Conv1D(8, 3, padding="same", kernel_initializer=DRAWN, use_bias=False)

    def matrix(layer):
        x = keras.Input((5,))
        y = ops.relu(layer(layers.Conv1D(4, 2)(layers.Reshape((5, 1))(x))))
        kernel = keras2gp.convert(keras.Model(x, dense(1)(layers.Flatten()(y))), dtype="float64")
        return kernel.matrix(X, get="both")

    np.testing.assert_allclose(matrix(Filters()), matrix(known), rtol=1e-12)


class Autoencoder(layers.Layer):
    """A matrix and its transpose."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 7), initializer="he_normal")

    def call(self, x):
        return ops.relu(x @ self.w) @ ops.transpose(self.w)


class InLetters(Autoencoder):
    """The same, as two einsums."""

    def call(self, x):
        return ops.einsum("bj,ij->bi", ops.relu(ops.einsum("bi,ij->bj", x, self.w)), self.w)


class Decoder(layers.Layer):
    """A layer that multiplies by the transposed kernel of another one."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def build(self, shape):
        self.b = self.add_weight(shape=(self.encoder.kernel.shape[0],), initializer="zeros")

    def call(self, x):
        return tf.matmul(x, self.encoder.kernel, transpose_b=True) + self.b


class Reversed(layers.Layer):
    """The logits of the words of an Embedding."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.table.embeddings))


def test_a_weight_and_its_transpose_are_refused():
    """They depend on each other: with independent ones the kernel would be another."""
    x = keras.Input((5,))
    encoder = dense(7)
    for kind in (Autoencoder, InLetters):
        with pytest.raises(keras2gp.UnsupportedModelError, match="is also that of"):
            keras2gp.convert(keras.Model(x, dense(1)(kind()(x))), prior="weights")
    tied = keras.Model(x, Decoder(encoder)(ops.relu(encoder(x))))
    with pytest.raises(keras2gp.UnsupportedModelError, match="is also that of dense"):
        keras2gp.convert(tied, prior="weights")
    words, table = keras.Input((4,), dtype="int32"), layers.Embedding(9, 6)
    y = layers.Dense(6)(ops.relu(layers.Dense(6)(layers.GlobalAveragePooling1D()(table(words)))))
    with pytest.raises(keras2gp.UnsupportedModelError, match="is also that of embedding"):
        keras2gp.convert(keras.Model(words, Reversed(table)(y)), prior="weights")


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_wide_copies_agree():
    x = keras.Input((5,))
    model = keras.Model(x, network(Columns(PRODUCTS["einsum"]), x))
    report = keras2gp.verify(model, widths=(16, 32, 64), samples=400)
    assert report.accepted, report
