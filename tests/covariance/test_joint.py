"""Both kernels as one complex map: what it adds up, and that each is what it is by itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras2gp
from keras2gp.covariance.joint import apart, joint, scaled, total, weighted_total
from keras2gp.matrices.blocks import Block, BlockShape
from keras2gp.matrices.compiled import CompiledProgram

layers = keras.layers
HE = {"kernel_initializer": "he_normal"}


@pytest.mark.parametrize("size", [(1,), (7,), (2, 3), (31,), (37,), (28, 28), (5, 67), (3, 4, 91)])
def test_total_adds_all_positions(size, rng):
    k = rng.normal(size=(2, *size, 3, 2))
    both = total(joint(*tf.constant(k)), len(size), lambda k: k)
    expected = k.sum(tuple(range(1, len(size) + 1)))
    np.testing.assert_allclose(apart(both), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total(tf.constant(k[0]), len(size), lambda k: k), expected[0])


def test_real_factors_act_on_either_part(rng):
    k, weights = rng.normal(size=(2, 4, 3)), rng.normal(size=(4, 1))
    both = joint(*tf.constant(k))
    np.testing.assert_allclose(apart(scaled(both, weights)), weights * k)
    found = apart(weighted_total(tf.constant(weights), both, 0))
    np.testing.assert_allclose(found, (weights * k).sum(1))


def network():
    """Strides, a residual sum, overlapping pooling, several branches, a transposed convolution."""
    image = keras.Input((9, 7, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="gelu", **HE)(image)
    y = layers.Conv2D(4, 3, padding="same", activation="relu", bias_initializer="normal", **HE)(x)
    x = layers.AveragePooling2D(3, 2, padding="same")(layers.Add()([x, y]))
    y = layers.Conv2DTranspose(4, 2, padding="same", activation="relu", **HE)(x)
    x = layers.Concatenate()([layers.Conv2D(4, 2, padding="same", **HE)(x), y])
    x = layers.Conv2D(4, 3, strides=2, activation="relu", **HE)(x)
    return keras.Model(image, layers.Dense(1)(layers.Flatten()(x)))


@pytest.mark.parametrize("method", ["shifts", "conv2d"])
def test_both_kernels_are_each_by_itself(method, rng):
    kernel = keras2gp.convert(network(), dtype="float64")
    x1, x2 = rng.normal(size=(2, 5, 9, 7, 2))
    program = CompiledProgram(kernel.graph, "float64", method, "both")
    variances = program.variances(kernel.parameters)
    shape = BlockShape(8, 8, 4, 8)
    both = program.block([x1], [x2], Block(0, 0, 5, 5), shape, variances)
    diagonal = program.diagonal([x1], 0, shape, variances)[:, :5]
    for values, variance, kind in zip(both, diagonal, ("nngp", "ntk"), strict=True):
        np.testing.assert_allclose(values, kernel(x1, x2, get=kind), rtol=1e-11)
        np.testing.assert_allclose(variance, kernel.diag(x1, get=kind), rtol=1e-11)
