"""Functions of TensorFlow in code that is traced: each computes what TensorFlow does."""

import keras
import networks
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from keras._tf_keras.keras import backend  # as `from tensorflow.keras import backend` gives it

import keras2gp
from keras2gp.conversion.tf_calls import functions_of_tensorflow

MATRIX = np.cos(np.arange(18.0)).reshape(6, 3).astype("float32")
STEPS, MAP = (4, 6), (4, 4, 8)

CASES = {
    "abs": (STEPS, tf.abs),
    "add_n": (STEPS, lambda x: tf.add_n([x, 2 * x])),
    "avg_pool": (MAP, lambda x: tf.nn.avg_pool2d(x, [1, 2, 1, 1], [1, 2, 1, 1], "SAME")),
    "avg_pool of one size": (MAP, lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID")),
    "bias_add": (STEPS, lambda x: tf.nn.bias_add(x, MATRIX[:, 0])),
    "bias_add of a format": (
        STEPS, lambda x: tf.nn.bias_add(x, MATRIX[:, 0], data_format="N...C")),
    "cast": (STEPS, lambda x: tf.cast(x, tf.float32)),
    "clip_by_value": (STEPS, lambda x: tf.clip_by_value(x, -0.5, 1.0)),
    "concat": (STEPS, lambda x: tf.concat([x, 2 * x], -1)),
    "concat by names": (STEPS, lambda x: tf.concat(axis=1, values=(x, x))),
    "constant minus": (STEPS, lambda x: tf.constant(1.0) - x),
    "constant times": (STEPS, lambda x: tf.ones((6,)) * x),
    "depth_to_space": (MAP, lambda x: tf.nn.depth_to_space(x, 2)),
    "einsum": (STEPS, lambda x: tf.einsum("bij,jk->bik", x, MATRIX)),
    "elu": (STEPS, tf.nn.elu),
    "erf": (STEPS, tf.math.erf),
    "exp": (STEPS, tf.exp),
    "expand_dims": (STEPS, lambda x: tf.expand_dims(x, 1)),
    "gather": (STEPS, lambda x: tf.gather(x, [2, 0], axis=1)),
    "gelu": (STEPS, tf.nn.gelu),
    "gelu of tanh": (STEPS, lambda x: tf.nn.gelu(x, approximate=True)),
    "identity": (STEPS, tf.identity),
    "cumsum": (STEPS, lambda x: tf.cumsum(x, 1)),
    "keras.backend": (STEPS, lambda x: tf.keras.backend.sum(x, axis=1)),
    "keras.backend.batch_flatten": (STEPS, tf.keras.backend.batch_flatten),
    "keras.backend.bias_add": (STEPS, lambda x: tf.keras.backend.bias_add(x, MATRIX[:, 0])),
    "keras.backend.bias_add, channels first": (
        STEPS, lambda x: tf.keras.backend.bias_add(x, MATRIX[:4, 0], "channels_first")),
    "keras.backend.bias_add of a map": (
        STEPS, lambda x: tf.keras.backend.bias_add(x, np.tile(MATRIX[:4], 2))),
    "keras.backend.bias_add of a map, channels first": (
        STEPS, lambda x: tf.keras.backend.bias_add(x, MATRIX @ MATRIX[:4].T, "channels_first")),
    "keras.backend.dot": (STEPS, lambda x: tf.keras.backend.dot(x, tf.constant(MATRIX))),
    "keras.backend.dot of more axes": (
        STEPS, lambda x: tf.keras.backend.dot(x, tf.stack([MATRIX, 2 * MATRIX]))),
    "keras.backend.ndim": (STEPS, lambda x: x * float(tf.keras.backend.ndim(x))),
    "keras.backend.ndim, imported": (STEPS, lambda x: x * float(backend.ndim(x))),
    "keras.backend.concatenate": (STEPS, lambda x: tf.keras.backend.concatenate([x, 2 * x])),
    "keras.backend.dtype": (
        STEPS, lambda x: tf.keras.backend.cast(x, tf.keras.backend.dtype(x))),
    "keras.backend.mean": (STEPS, lambda x: tf.keras.backend.mean(x, axis=[1], keepdims=True)),
    "keras.backend.batch_dot": (STEPS, lambda x: tf.keras.backend.batch_dot(x, x, [2, 2])),
    "keras.backend.batch_dot of vectors": (
        (6,), lambda x: tf.keras.backend.batch_dot(x, 2 * x, axes=1)),
    "keras.backend.prod": (STEPS, lambda x: tf.keras.backend.prod(x, -1)),
    "keras.backend.resize_images": (
        MAP, lambda x: tf.keras.backend.resize_images(x, 2, 3, "channels_last")),
    "keras.backend.resize_images, channels first": (
        MAP, lambda x: tf.keras.backend.resize_images(
            x, 2, 1, "channels_first", interpolation="bilinear")),
    "keras.backend.repeat_elements": (
        STEPS, lambda x: tf.keras.backend.repeat_elements(x, 2, axis=1)),
    "keras.backend.softmax": (STEPS, lambda x: tf.keras.backend.softmax(x, axis=1)),
    "keras.backend.std": (STEPS, lambda x: tf.keras.backend.std(x, -1)),
    "keras.backend.var": (STEPS, lambda x: tf.keras.backend.var(x, -1, keepdims=True)),
    "l2_normalize": (STEPS, lambda x: tf.math.l2_normalize(1e-6 * x, -1)),
    "leaky_relu": (STEPS, tf.nn.leaky_relu),
    "leaky_relu of a slope": (STEPS, lambda x: tf.nn.leaky_relu(x, alpha=0.3)),
    "log_softmax": (STEPS, tf.nn.log_softmax),
    "matmul": (STEPS, lambda x: tf.matmul(x, MATRIX)),
    "matmul of a transposed one": (STEPS, lambda x: tf.matmul(x, MATRIX.T, transpose_b=True)),
    "matmul of both transposed": (
        STEPS, lambda x: tf.matmul(x, x[:, :, :4], transpose_a=True, transpose_b=True)),
    "max_pool": (MAP, lambda x: tf.nn.max_pool(x, [2, 2], [2, 2], "SAME")),
    "maximum": (STEPS, lambda x: tf.maximum(0.0, x)),
    "moments": (STEPS, lambda x: tf.nn.moments(x, [1])[1]),
    "moments, kept": (STEPS, lambda x: tf.nn.moments(x, [-1], keepdims=True)[0]),
    "norm": (STEPS, lambda x: tf.norm(x, axis=-1)),
    "floordiv": (STEPS, lambda x: tf.math.floordiv(tf.cast(9.0 * x, "int32"), 2)),
    "floormod": (STEPS, lambda x: tf.math.floormod(tf.cast(9.0 * x, "int32"), 4)),
    "mod": (STEPS, lambda x: tf.math.mod(tf.cast(9.0 * x, "int32"), 4)),
    "comparisons": (
        STEPS, lambda x: tf.cast(tf.logical_or(tf.greater(x, 1.0), tf.less(x, -1.0)), "float32")),
    "comparisons or equal": (
        STEPS, lambda x: tf.cast(tf.logical_and(
            tf.greater_equal(x, -1.0), tf.math.logical_not(tf.less_equal(x, 0.0))), "float32")),
    "equal": (STEPS, lambda x: tf.cast(tf.equal(tf.round(x), 1.0), "float32")),
    "not_equal": (STEPS, lambda x: tf.cast(tf.not_equal(tf.round(x), 1.0), "float32")),
    "one_hot": ((3,), lambda x: tf.one_hot(tf.cast(x, "int32"), 4)),
    "ones_like": (STEPS, lambda x: tf.ones_like(x) - x),
    "pad": (STEPS, lambda x: tf.pad(x, [[0, 0], [1, 1], [0, 0]])),
    "pad by reflection": (STEPS, lambda x: tf.pad(
        x, tf.constant([[0, 0], [2, 1], [0, 0]]), "REFLECT")),
    "pow": (STEPS, lambda x: tf.pow(x, 2.0)),
    "reduce_max": (STEPS, lambda x: tf.reduce_max(x, 1)),
    "reduce_mean": (STEPS, lambda x: tf.math.reduce_mean(x, -1, keepdims=True)),
    "reduce_std": (STEPS, lambda x: tf.math.reduce_std(x, 1)),
    "reduce_sum": (STEPS, lambda x: tf.reduce_sum(x, [1, 2])),
    "reduce_variance": (STEPS, lambda x: tf.math.reduce_variance(x, -1)),
    "relu": (STEPS, tf.nn.relu),
    "relu6": (STEPS, lambda x: tf.nn.relu6(3 * x)),
    "repeat": (STEPS, lambda x: tf.repeat(x, 2, axis=1)),
    "reshape": (STEPS, lambda x: tf.reshape(x, (-1, 24))),
    "resize": (MAP, lambda x: tf.image.resize(x, (8, 6))),
    "resize to the nearest": (MAP, lambda x: tf.image.resize(
        x, [8, 8], method=tf.image.ResizeMethod.NEAREST_NEIGHBOR)),
    "reverse": (STEPS, lambda x: tf.reverse(x, [1])),
    "roll": (STEPS, lambda x: tf.roll(x, 1, 1)),
    "rsqrt": (STEPS, lambda x: tf.math.rsqrt(tf.square(x) + 1.0)),
    "selu": (STEPS, tf.nn.selu),
    "shape": (STEPS, lambda x: tf.reshape(x, (-1, tf.shape(x)[1] * tf.shape(x)[2]))),
    "sigmoid": (STEPS, tf.sigmoid),
    "silu": (STEPS, tf.nn.swish),
    "sin": (STEPS, tf.math.sin),
    "slice": (STEPS, lambda x: tf.slice(x, [0, 1, 0], [-1, 2, 6])),
    "softmax": (STEPS, tf.nn.softmax),
    "softplus": (STEPS, tf.math.softplus),
    "space_to_depth": (MAP, lambda x: tf.nn.space_to_depth(x, 2)),
    "split": (STEPS, lambda x: tf.split(x, 2, axis=-1)[1]),
    "split by sizes": (STEPS, lambda x: tf.split(x, [2, -1], axis=-1)[1]),
    "squared_difference": (STEPS, lambda x: tf.math.squared_difference(x, 3 * x)),
    "squeeze": ((1, 3), lambda x: tf.squeeze(x, 1)),
    "stack": (STEPS, lambda x: tf.stack([x, 2 * x], 1)),
    "subtract": (STEPS, lambda x: tf.subtract(1.0, x)),
    "tanh": (STEPS, tf.tanh),
    "tensordot": (STEPS, lambda x: tf.tensordot(x, MATRIX, 1)),
    "tensordot over axes": (STEPS, lambda x: tf.tensordot(x, MATRIX, [[2], [0]])),
    "tensordot over an axis of each": (STEPS, lambda x: tf.tensordot(x, MATRIX, axes=(-1, 0))),
    "tile": (STEPS, lambda x: tf.tile(x, [1, 2, 1])),
    "transpose": (STEPS, lambda x: tf.transpose(x, perm=[0, 2, 1])),
    "unstack": (STEPS, lambda x: tf.unstack(x, axis=1)[2]),
    "zeros_like": (STEPS, lambda x: tf.zeros_like(x, dtype=tf.float32) - x),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_function_computes_what_that_of_tensorflow_does(case, rng):
    shape, function = CASES[case]
    x = rng.normal(size=(2, *shape)).astype("float32")
    symbol = keras.Input(shape)
    with functions_of_tensorflow():
        result = function(symbol)
    computed = keras.Function([symbol], result)([x])
    expected = function(tf.constant(x))
    assert computed.shape == expected.shape
    np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-6)


UNKNOWN = {
    "without a counterpart": tf.math.lgamma,
    "in each image": lambda x: tf.gather(x, [[0]], axis=1, batch_dims=1),
    "a window of images": lambda x: tf.nn.avg_pool2d(x[..., None], [2, 1, 1, 1], 1, "SAME"),
    "an adjoint factor": lambda x: tf.matmul(x, x, adjoint_b=True),
    "biases of the first axis": lambda x: tf.nn.bias_add(x, MATRIX[:4, 0], data_format="NC..."),
    "another norm": lambda x: tf.norm(x, ord=1, axis=-1),
    "a symbolic axis": lambda x: tf.reduce_sum(x, axis=x),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_other_functions_raise_tensorflows_error(case):
    with functions_of_tensorflow(), pytest.raises(ValueError, match="KerasTensor cannot be used"):
        UNKNOWN[case](keras.Input(STEPS))


def test_outside_of_tracing_all_is_as_before():
    with pytest.raises(ValueError, match="KerasTensor cannot be used"):
        tf.nn.relu(keras.Input((3,)))


class OfTensorFlow(keras.Model):
    """A network as tutorials write it, with weights and a bias of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate = (layers.Conv2D(8, 2, name=name) for name in ("conv", "gate"))

    def build(self, shape):
        self.w = self.add_weight(shape=(16, 4), initializer="he_normal")
        self.b = self.add_weight(shape=(4,), initializer="zeros")
        super().build(shape)

    def call(self, x):
        h = tf.concat([tf.nn.relu(self.conv(x)), tf.tanh(self.gate(x))], axis=-1)
        h = tf.reduce_mean(h, axis=[1, 2])
        return tf.nn.softmax(tf.nn.bias_add(tf.matmul(h, self.w), self.b))


def of_keras():
    x = keras.Input((4, 4, 2))
    first, second = (layers.Conv2D(8, 2, name=name)(x) for name in ("conv", "gate"))
    h = ops.mean(ops.concatenate([ops.relu(first), ops.tanh(second)], axis=-1), axis=[1, 2])
    return keras.Model(x, layers.Dense(4, kernel_initializer="he_normal", name="w")(h))


@pytest.mark.slow
def test_a_network_of_tensorflows_functions_is_that_of_keras_layers(rng):
    x = rng.normal(size=(3, 4, 4, 2))
    model, same = OfTensorFlow(), of_keras()
    kernel = keras2gp.convert(model, input_shape=(4, 4, 2), dtype="float64")
    networks.assert_same(kernel, keras2gp.convert(same, dtype="float64"), x)


@pytest.mark.usefixtures("traced")
def test_a_lambda_and_its_copies(rng):
    mean = layers.Lambda(lambda h: tf.reduce_mean(tf.square(h), axis=1))
    x = keras.Input((6, 4))
    model = keras.Model(x, layers.Dense(1)(mean(layers.Conv1D(16, 3)(x))))
    report = keras2gp.verify(model, data=rng.normal(size=(3, 6, 4)))
    assert report.accepted


def test_code_that_reads_the_size_of_the_batch(rng):
    class Flat(layers.Layer):
        def call(self, x):
            return tf.reshape(x, (tf.shape(x)[0], 3 * x.shape[-1]))

    x = keras.Input((3, 4))
    own, flat = (
        keras.Model(x, layers.Dense(1)(layer(layers.Dense(8, activation="relu")(x))))
        for layer in (Flat(), layers.Flatten())
    )
    data = rng.normal(size=(3, 3, 4))
    networks.assert_same(*(keras2gp.convert(m, dtype="float64") for m in (own, flat)), data)


class Remainders(layers.Layer):
    """Embeddings of a number's quotient and remainder, multiplied."""

    def __init__(self):
        super().__init__()
        self.of_quotient, self.of_rest = layers.Embedding(5, 8), layers.Embedding(4, 8)

    def call(self, ids):
        rest = self.of_rest(tf.math.floormod(ids, 4))
        return self.of_quotient(tf.math.floordiv(ids, 4)) * rest


def test_whole_numbers_are_computed_with():
    ids = keras.Input((), dtype="int32")
    bare = layers.Dense(1, use_bias=False)(Remainders()(ids))
    kernel = keras2gp.convert(keras.Model(ids, bare), dtype="float64")
    numbers = np.array([0, 1, 4, 5, 5, 17])
    k = np.asarray(kernel(numbers))
    np.testing.assert_allclose(k, k[0, 0] * (numbers[:, None] == numbers), rtol=1e-12)
