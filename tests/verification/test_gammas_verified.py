"""Random gammas in random copies, which are drawn as Keras's initialisers draw them."""

import keras
import numpy as np
import pytest
import small_models
import tensorflow as tf
from keras import initializers as init
from keras import layers

import keras2gp
from keras2gp.conversion.initial_values import moments_of
from keras2gp.verification.laws import Law, gamma_law

LAWS = {
    "normal": init.RandomNormal(-0.5, 0.7),
    "truncated": init.TruncatedNormal(1.0, 0.5),
    "uniform": init.RandomUniform(-0.5, 2.0),
}
LAYERS = {
    "batch": lambda law: layers.BatchNormalization(gamma_initializer=law),
    "layer": lambda law: layers.LayerNormalization(gamma_initializer=law),
    "group": lambda law: layers.GroupNormalization(2, gamma_initializer=law),
}


@pytest.mark.parametrize("name", LAWS)
def test_values_have_the_moments_of_the_law(name):
    count = 100_000
    values = Law(LAWS[name]).values((count,), tf.constant([1, 2], tf.int64)).numpy()
    known = moments_of(LAWS[name])
    for found, expected in ((values, known.mean), (values**2, known.square)):
        assert abs(found.mean() - expected) < 4.5 * found.std() / np.sqrt(count)


def test_another_law_is_not_drawn():
    with pytest.raises(TypeError, match="Orthogonal"):
        Law(init.Orthogonal()).values((2,), tf.constant([1, 2], tf.int64))


def test_gammas_that_start_at_a_constant_have_no_law():
    layer = layers.BatchNormalization(scale=False, gamma_initializer=LAWS["normal"])
    layer.build((None, 3))
    assert gamma_law(layer) is None
    assert gamma_law(layers.BatchNormalization(gamma_initializer="zeros")) is None


def network(norm, law):
    x = keras.Input((4,))
    h = LAYERS[norm](LAWS[law])(layers.Dense(8, **small_models.biased())(x))
    h = layers.ReLU()(h) + layers.Dense(8, activation="relu", **small_models.biased())(x)
    return small_models.head(x, h, 4)


@pytest.mark.parametrize(
    ("norm", "law"), [("batch", "normal"), ("layer", "truncated"), ("group", "uniform")]
)
def test_kernels_with_random_gammas_are_accepted(norm, law):
    report = keras2gp.verify(network(norm, law), widths=(16, 64), samples=300, units=64)
    assert report.accepted, report


def test_a_kernel_of_another_gamma_is_rejected():
    """With gammas whose E[gamma^2] is the same, and E[|gamma|] another."""
    right, other = (network("batch", law) for law in ("uniform", "normal"))
    report = keras2gp.verify(
        right, keras2gp.convert(other, dtype="float64"), widths=(16, 64), samples=300, units=64
    )
    assert report.verdict == "rejected", report
