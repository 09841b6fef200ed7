"""Derivatives of posterior means and variances by the inputs, against differences of values."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras2gp
from keras2gp.errors import InputError
from keras2gp.gp import GPRegressor

STEP = 1e-5


def fitted(rng, *, columns=None, **settings):
    law = {"kernel_initializer": "he_normal"}
    hidden = layers.Dense(8, "relu", bias_initializer=keras.initializers.RandomNormal(), **law)
    model = keras.Sequential([keras.Input((3,)), hidden, layers.Dense(1)])
    kernel = keras2gp.convert(model, overrides={"*": (2.0, 0.3)}, dtype="float64")
    x = rng.normal(size=(20, 3))
    y = np.sin(x[:, 0]) + 5.0
    y = y if columns is None else np.stack([y, 3 * x[:, 1]], 1)[:, :columns]
    return GPRegressor(kernel, **settings).fit(x, y)


def assert_derivatives(gp, rng):
    x = rng.normal(size=(4, 3))
    mean, std = gp.predict(x, return_std=True)
    tensor = tf.constant(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensor)
        found = gp.predict_tensors(tensor)
    np.testing.assert_allclose(found[0], mean, rtol=1e-12)
    np.testing.assert_allclose(found[1], std**2, rtol=1e-9)
    direction = rng.normal(size=x.shape)
    ends = [gp.predict(x + step * direction, return_std=True) for step in (STEP, -STEP)]
    for place, power in ((0, 1), (1, 2)):
        expected = np.sum(ends[0][place] ** power - ends[1][place] ** power) / (2 * STEP)
        gradient = np.asarray(tape.gradient(found[place], tensor))
        assert np.sum(direction * gradient) == pytest.approx(expected, rel=1e-5)


def test_means_and_variances(rng):
    assert_derivatives(fitted(rng, noise_variance=0.1), rng)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"columns": 2}, {"solver": "mixed"}, {"solver": "cg"}, {"normalize_y": False}]
)
def test_scales_outputs_and_solvers(settings, rng):
    assert_derivatives(fitted(rng, **settings), rng)


@pytest.mark.slow
def test_refusals(rng):
    gp = fitted(rng, solver="nystroem")
    with pytest.raises(InputError, match="cholesky"):
        gp.predict_tensors(tf.constant(rng.normal(size=(2, 3))))
    gp = GPRegressor("precomputed", noise_variance=1.0).fit(np.eye(2), [0.0, 1.0])
    with pytest.raises(InputError, match="precomputed"):
        gp.predict_tensors(tf.constant([[1.0, 0.0]]))
