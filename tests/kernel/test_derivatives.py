"""Derivatives of kernels by their inputs, that a tape records, against differences of values."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras2gp
from keras2gp.errors import InputError

LAW = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
STEP = 1e-5


def dense():
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Rescaling(0.5),
            layers.Dense(8, "relu", **LAW),
            layers.Dense(8, "gelu", **LAW),
            layers.Dense(1),
        ]
    )


def convolutional(*ends):
    hidden = layers.Conv2D(8, 3, activation="relu", padding="same", **LAW)
    return keras.Sequential([keras.Input((3, 3, 2)), hidden, *ends])


MODELS = {
    "global pooling": lambda: convolutional(layers.GlobalAveragePooling2D(), layers.Dense(1)),
    "a map": lambda: convolutional(layers.Conv2D(1, 2, activation="tanh"), layers.Conv2D(1, 1)),
    "erf": lambda: convolutional(
        layers.Flatten(), layers.Dense(1), layers.Activation(keras.ops.erf), layers.Dense(1)
    ),
    "a recurrence": lambda: keras.Sequential([
        keras.Input((3, 2)), layers.SimpleRNN(8, "relu", **LAW), layers.Dense(1)
    ]),
}  # fmt: skip


def pulled(function, arguments, upstream):
    """What a tape says of sum(upstream * function), by each argument."""
    tensors = [tf.constant(x) for x in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        total = tf.reduce_sum(upstream * function(*tensors))
    return tape.gradient(total, tensors)


def assert_derivatives(function, arguments, rng):
    """Along a random direction of each argument, to what differences of values say."""
    upstream = rng.normal(size=np.shape(function(*arguments)))
    found = pulled(function, arguments, upstream)
    for place, gradient in enumerate(found):
        direction = rng.normal(size=arguments[place].shape)
        ends = []
        for step in (STEP, -STEP):
            moved = list(arguments)
            moved[place] = moved[place] + step * direction
            ends.append(np.sum(upstream * np.asarray(function(*moved))))
        expected = (ends[0] - ends[1]) / (2 * STEP)
        assert np.sum(direction * np.asarray(gradient)) == pytest.approx(expected, rel=1e-6)


def test_a_network_of_vectors(rng):
    kernel = keras2gp.convert(dense(), dtype="float64")
    x, z = rng.normal(size=(3, 4)), rng.normal(size=(2, 4))
    assert_derivatives(kernel, [x, z], rng)
    assert_derivatives(kernel, [x], rng)


@pytest.mark.slow
def test_both_kernels(rng):
    kernel = keras2gp.convert(dense(), dtype="float64")
    x, z = rng.normal(size=(3, 4)), rng.normal(size=(2, 4))
    both = lambda *images: kernel(*images, get="both")  # noqa: E731
    assert_derivatives(both, [x, z], rng)
    assert_derivatives(both, [x], rng)
    assert_derivatives(lambda images: kernel.diag(images, get="both"), [x], rng)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nngp", "ntk"])
@pytest.mark.parametrize("name", MODELS)
def test_other_networks(name, kind, rng):
    model = MODELS[name]()
    kernel = keras2gp.convert(model, dtype="float64", kind=kind)
    x, z = (rng.normal(size=(n, *model.input_shape[1:])) for n in (3, 2))
    assert_derivatives(kernel, [x, z], rng)
    assert_derivatives(kernel, [x], rng)
    assert_derivatives(kernel.diag, [x], rng)


@pytest.mark.slow
def test_tiles_and_positions(rng, monkeypatch):
    """The tiles of a matrix add up, and one position has its own derivatives."""
    from keras2gp.matrices import gradient, input_gradient

    monkeypatch.setattr(gradient, "_TAPE_BYTES", 1)
    input_gradient.input_gradient_of.cache_clear()
    kernel = keras2gp.convert(MODELS["a map"](), dtype="float64")
    x, z = rng.normal(size=(9, 3, 3, 2)), rng.normal(size=(5, 3, 3, 2))
    assert_derivatives(kernel, [x, z], rng)
    assert_derivatives(kernel, [x], rng)
    assert_derivatives(lambda images: kernel(images, position=(1, 0)), [x], rng)
    input_gradient.input_gradient_of.cache_clear()


@pytest.mark.slow
def test_several_inputs_and_single_precision(rng):
    first, second = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    towers = layers.Dense(8, "relu", **LAW)(first), layers.Dense(8, "relu", **LAW)(second)
    model = keras.Model([first, second], layers.Dense(1)(layers.Concatenate()(towers)))
    kernel = keras2gp.convert(model, dtype="float64")
    a, b = rng.normal(size=(3, 2)), rng.normal(size=(3, 3))
    assert_derivatives(lambda *images: kernel(list(images)), [a, b], rng)
    assert_derivatives(lambda u: kernel({"a": u, "b": b}), [a], rng)
    single = keras2gp.convert(model)
    images = [tf.constant(v, tf.float32) for v in (a, b)]
    found = [pulled(lambda *v, k=k: k(list(v)), images, 1.0) for k in (kernel, single)]
    for double, one in zip(*found, strict=True):
        assert one.dtype == tf.float32
        np.testing.assert_allclose(one, double, rtol=1e-5)


@pytest.mark.slow
def test_between_positions_there_are_none(rng):
    kernel = keras2gp.convert(MODELS["a map"](), dtype="float64")
    x = tf.constant(rng.normal(size=(2, 3, 3, 2)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = kernel(x, positions="all")
    with pytest.raises(InputError, match=r"kernel\.at"):
        tape.gradient(values, x)


@pytest.mark.slow
def test_sums_and_products(rng):
    from sklearn.gaussian_process.kernels import RBF

    one = keras2gp.convert(dense(), dtype="float64")
    hidden = layers.Dense(8, "gelu", **LAW)
    other = keras.Sequential([keras.Input((4,)), hidden, layers.Dense(1)])
    two = keras2gp.convert(other, dtype="float64")
    x, z = rng.normal(size=(3, 4)), rng.normal(size=(2, 4))
    for kernel in (2.0 * one + two + 0.5, one * two):
        assert_derivatives(kernel, [x, z], rng)
        assert_derivatives(kernel, [x], rng)
        assert_derivatives(kernel.diag, [x], rng)
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        values = (one + RBF())(tensor)
    with pytest.raises(InputError, match="RBF"):
        tape.gradient(values, tensor)


@pytest.mark.slow
def test_finite_networks_say_that_they_have_none(rng):
    kernel = keras2gp.empirical_kernel(dense())
    tensor = tf.constant(rng.normal(size=(2, 4)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensor)
        values = kernel(tensor), kernel.diag(tensor)
    for value in values:
        with pytest.raises(InputError, match="finite network"):
            tape.gradient(value, tensor)
