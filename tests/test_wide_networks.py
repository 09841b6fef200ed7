"""Finite Keras networks with random weights: their outputs' covariance tends to the kernel.

Every sample draws all weights of a network anew, and gives the second moments of its outputs,
averaged over the units of the last layer, m[i, j] = mean over units of f(x_i) f(x_j). Samples are
independent, so their mean has an error bar of its own: the covariance of the moments over samples.

A finite width n biases the moments by a / n + O(1 / n^2). Two widths, n and 2 n, remove the first
term (Richardson): 2 m(2n) - m(n), whose error bar is 4 V(2n) + V(n). What is left, O(1 / n^2), is
allowed for as the square of the relative first term seen, times the kernel: a systematic error of
unknown sign, added to the variance of each entry.

The test is chi^2 = z^T V^-1 z over the entries i <= j, at a probability of 1e-6. It must pass for
the kernel, and fail for one whose weight variances, or that of the last layer alone, are off by a
tenth.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import stats

import keras2gp

UNITS, SAMPLES, PROBABILITY = 32, 4000, 1e-6


def weights(scale=2.0):
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(
            scale, "fan_in", "untruncated_normal"
        ),
        "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
    }


def mlp(width):
    x = h = keras.Input((6,))
    for _ in range(2):
        h = layers.Dense(width, activation="relu", **weights())(h)
    return x, h


def strided(width):
    x = keras.Input((6, 5, 2))
    h = layers.Conv2D(width, 3, strides=2, padding="same", activation="relu", **weights())(x)
    h = layers.Conv2D(width, 2, padding="same", activation="leaky_relu", **weights())(h)
    return x, layers.Flatten()(h)


def residual(width):
    x = keras.Input((5, 4, 2))
    h = layers.Conv2D(width, 2, **weights())(x)
    r = layers.Conv2D(width, 3, padding="same", **weights())(layers.ReLU()(h))
    h = layers.Add()([h, layers.Conv2D(width, 1, **weights())(layers.ReLU()(r))])
    return x, layers.Flatten()(layers.ReLU()(h))


def twice(width):
    x = keras.Input((6,))
    h = layers.Dense(width, **weights(0.5))(x)
    return x, layers.ReLU()(layers.Add()([h, h]))


def difference(width):
    x = keras.Input((6,))
    h = layers.Dense(width, activation="relu", **weights())(x)
    one, two = layers.Dense(width, **weights())(h), layers.Dense(width, **weights())(h)
    h = layers.Subtract()([layers.Add()([one, two, one]), two])
    return x, layers.ReLU()(h)


def average(width):
    x = keras.Input((5, 2))
    h = [layers.Conv1D(width, k, padding="same", **weights())(x) for k in (1, 2, 3)]
    h = keras.ops.erf(layers.Average()(h))
    return x, layers.Flatten()(layers.Conv1D(width, 2, activation="gelu", **weights())(h))


ARCHITECTURES = {
    "mlp": (mlp, 24),
    "strided convolutions": (strided, 16),
    "residual": (residual, 16),
    "x + x": (twice, 24),
    "difference of branches": (difference, 24),
    "average of branches": (average, 16),
}


def model_of(architecture, width):
    x, h = architecture(width)
    return keras.Model(x, layers.Dense(UNITS, **weights())(h))


def deviation(variable, layer):
    """Standard deviation of one weight as the layer draws it."""
    if variable is layer.bias:
        return layer.bias_initializer.stddev
    return (layer.kernel_initializer.scale / np.prod(variable.shape[:-1])) ** 0.5


def moments(model, x, seed):
    """Second moments of the outputs for every draw of the weights, [SAMPLES, N (N + 1) / 2]."""
    drawn = [(v, deviation(v, la)) for la in model.layers for v in la.trainable_variables]
    upper = np.triu_indices(len(x))
    place = tf.constant(np.stack(upper, 1))

    def one(number):
        values = [
            tf.random.stateless_normal(v.shape, tf.stack([number, i])) * s
            for i, (v, s) in enumerate(drawn)
        ]
        outputs, _ = model.stateless_call(values, [], x)
        return tf.gather_nd(tf.matmul(outputs, outputs, transpose_b=True) / UNITS, place)

    @tf.function(autograph=False)
    def all_of(numbers):
        return tf.map_fn(one, numbers, fn_output_signature=tf.float32, parallel_iterations=4)

    numbers = tf.range(seed * SAMPLES, (seed + 1) * SAMPLES)
    return np.asarray(all_of(numbers), "float64")


def probability(matrix, narrow, wide):
    """That chance makes the extrapolated moments as different from the matrix as they are."""
    upper = np.triu_indices(len(matrix))
    means = narrow.mean(axis=0), wide.mean(axis=0)
    entries = matrix[upper]
    z = 2 * means[1] - means[0] - entries
    v = (4 * np.cov(wide.T) + np.cov(narrow.T)) / SAMPLES
    first = np.abs(means[0] - means[1]).max() / entries.max()
    rest = (first**2 * entries) ** 2
    chi2 = z @ np.linalg.solve(v + np.diag(rest), z)
    return stats.chi2.sf(chi2, len(z))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_moments_tend_to_the_kernel(name, rng):
    architecture, width = ARCHITECTURES[name]
    narrow, wide = model_of(architecture, width), model_of(architecture, 2 * width)
    x = rng.normal(size=(3, *narrow.input_shape[1:])).astype("float32")
    kernel = keras2gp.convert(narrow, dtype="float64")
    sampled = moments(narrow, x, 1), moments(wide, x, 2)
    assert probability(np.asarray(kernel(x)), *sampled) > PROBABILITY
    off = {name: {"weight": 1.1 * v.weight} for name, v in kernel.parameters.items()}
    last = list(off)[-1]
    for changes in (off, {last: off[last]}):
        changed = np.asarray(kernel.with_parameters(changes)(x))
        assert probability(changed, *sampled) < PROBABILITY
