"""Properties that hold for every model and every input, on examples that hypothesis draws.

Examples are the same in every run (derandomize), and few: each random architecture is converted and
compiled. `tools/fuzz.py` is the long form of the comparison with the oracle.
"""

import functools
import json

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import layers
from oracles.full_covariance import full_kernel

import keras2gp
from keras2gp.graph.serial import graph_from_dict, graph_to_dict

SETTINGS = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
DRAWN = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
SHAPE = (4, 3, 2)
COUNT = 5
"""Images of an example: one number, since TensorFlow compiles each size anew."""


def conv(h, window, stride=1, padding="same", activation=None):
    return layers.Conv2D(
        8, window, strides=stride, padding=padding, activation=activation, **DRAWN
    )(h)


def convolved(h, window, stride, padding):
    return conv(h, window, stride, padding)


def activated(h, window, stride, padding):
    return layers.Activation("relu" if padding == "same" else "leaky_relu")(conv(h, 1))


def pooled(h, window, stride, padding):
    return layers.AveragePooling2D(window, stride, padding)(h)


def residual(h, window, stride, padding):
    h = conv(h, 1)
    return layers.Add()([h, conv(layers.ReLU()(h), window)])


def concatenated(h, window, stride, padding):
    return layers.Concatenate()([conv(h, window, activation="relu"), conv(h, 1)])


def normalised_by_statistics(h, window, stride, padding):
    return layers.BatchNormalization(epsilon=window / 8)(h)


def enlarged(h, window, stride, padding):
    return layers.UpSampling2D((1, stride))(h)


BLOCKS = (
    convolved,
    activated,
    pooled,
    residual,
    concatenated,
    normalised_by_statistics,
    enlarged,
)


def architectures(most):
    """Plans of small convolutional networks; Keras draws random numbers, and so builds outside."""
    one = st.tuples(
        st.sampled_from(BLOCKS),
        st.integers(1, 3),
        st.integers(1, 2),
        st.sampled_from(["same", "valid"]),
    )
    shape = st.tuples(st.integers(2, 4), st.integers(2, 4), st.integers(1, 2))
    end = st.sampled_from([layers.Flatten, layers.GlobalAveragePooling2D])
    return st.tuples(shape, st.lists(one, min_size=1, max_size=most), end)


def build(plan):
    shape, blocks, end = plan
    x = keras.Input(shape)
    h = conv(x, 2, activation="relu")
    for block, window, stride, padding in blocks:
        h = block(h, min(window, *h.shape[1:3]), stride, padding)
    h = conv(h, 1, activation="relu")
    return keras.Model(x, layers.Dense(1, **DRAWN)(end()(h)))


def images_for(model, count, seed):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(seed).normal(size=shape)


@settings(SETTINGS, max_examples=6)
@given(architectures(3), st.integers(0, 2**16))
def test_random_architectures_agree_with_the_oracle(plan, seed):
    model = build(plan)
    x = images_for(model, 5, seed)
    kernel = keras2gp.convert(model, dtype="float64")
    np.testing.assert_allclose(
        np.asarray(kernel(x[:3], x[3:])), full_kernel(model, x[:3], x[3:]), rtol=1e-9
    )


@settings(SETTINGS, max_examples=15)
@given(architectures(6))
def test_graphs_come_back_from_json(plan):
    graph = keras2gp.convert(build(plan)).program.graph
    assert graph_from_dict(json.loads(json.dumps(graph_to_dict(graph)))) == graph


def convolutional():
    x = keras.Input(SHAPE)
    h = layers.AveragePooling2D(2, 1)(conv(x, 3, activation="relu"))
    h = layers.Add()([h, conv(layers.ReLU()(h), 2)])
    return keras.Model(x, layers.Dense(1, name="head", **DRAWN)(layers.Flatten()(h)))


def normalised():
    x = keras.Input(SHAPE)
    h = layers.LayerNormalization()(conv(x, 2))
    h = layers.GlobalAveragePooling2D()(layers.Activation("gelu")(h))
    return keras.Model(x, layers.Dense(1, name="head", **DRAWN)(h))


def smooth():
    x = keras.Input(SHAPE)
    h = layers.Dense(8, activation="tanh", **DRAWN)(layers.Flatten()(x))
    h = keras.ops.erf(layers.Dense(8, **DRAWN)(h))
    return keras.Model(x, layers.Dense(1, name="head", **DRAWN)(h))


MODELS = {f.__name__: f for f in (convolutional, normalised, smooth)}


@functools.cache
def kernel_of(name):
    return keras2gp.convert(MODELS[name](), dtype="float64")


def inputs(count=COUNT):
    """Images [N, *SHAPE], some of them equal, zero, large or tiny."""
    values = st.floats(-100, 100).map(lambda v: 0.0 if abs(v) < 1e-100 else v)
    return arrays.arrays(np.float64, (count, *SHAPE), elements=values, fill=values)


each_model = pytest.mark.parametrize("name", MODELS)
each_kind = pytest.mark.parametrize("kind", ["nngp", "ntk"])


@each_model
@each_kind
@settings(SETTINGS, max_examples=15)
@given(inputs())
def test_kernels_are_symmetric_and_positive_semidefinite(name, kind, x):
    k = np.asarray(kernel_of(name)(x, get=kind))
    assert np.array_equal(k, k.T)
    assert np.linalg.eigvalsh(k).min() >= -1e-9 * np.trace(k)


@each_model
@settings(SETTINGS, max_examples=10)
@given(inputs(), st.randoms(use_true_random=False))
def test_a_permutation_of_images_permutes_the_matrix(name, x, random):
    order = list(range(len(x)))
    random.shuffle(order)
    kernel = kernel_of(name)
    k, permuted = np.asarray(kernel(x)), np.asarray(kernel(x[order]))
    np.testing.assert_allclose(permuted, k[np.ix_(order, order)], rtol=1e-12)


@each_model
@each_kind
@settings(SETTINGS, max_examples=10)
@given(inputs())
def test_diagonal_and_blocks_are_those_of_the_matrix(name, kind, x):
    kernel, cut = kernel_of(name), 2
    k = np.asarray(kernel(x, get=kind))
    scale = np.sqrt(np.outer(k.diagonal(), k.diagonal()))
    np.testing.assert_allclose(kernel.diag(x, get=kind), k.diagonal(), rtol=1e-12)
    block = np.asarray(kernel(x[:cut], x[cut:], get=kind))
    assert np.abs((block - k[:cut, cut:]) / scale[:cut, cut:]).max() <= 1e-12


@each_model
@settings(SETTINGS, max_examples=10)
@given(inputs(), st.floats(1e-3, 1e3))
def test_the_last_layers_variances_scale_the_matrix(name, x, factor):
    kernel = kernel_of(name)
    last = kernel.parameters["head"]
    scaled = kernel.with_parameters({"head": (factor * last.weight, factor * last.bias)})
    np.testing.assert_allclose(scaled(x), factor * np.asarray(kernel(x)), rtol=1e-12)


def targets(count=COUNT):
    return arrays.arrays(np.float64, count, elements=st.floats(-10, 10))


@settings(SETTINGS, max_examples=10)
@given(inputs(), targets(), targets(), st.floats(-3, 3))
def test_a_posterior_mean_is_linear_in_the_targets(x, first, second, factor):
    def mean(y):
        fitted = keras2gp.GPRegressor(kernel_of("smooth"), noise_variance=1.0).fit(x, y)
        return fitted.predict(x)

    assume(np.ptp(first) > 1e-3 and np.ptp(second) > 1e-3)
    total = first + factor * second
    assume(np.ptp(total) > 1e-3)
    scale = 1e-7 * (np.abs(first).max() + abs(factor) * np.abs(second).max())
    np.testing.assert_allclose(mean(total), mean(first) + factor * mean(second), atol=scale)
