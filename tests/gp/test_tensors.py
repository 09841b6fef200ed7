"""Derivatives of posterior means and variances by the inputs, against differences of values."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from sklearn.gaussian_process.kernels import RBF

import keras2gp
from keras2gp.errors import InputError
from keras2gp.gp import GPClassifier, GPRegressor

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


@pytest.mark.parametrize("how", ["linear", "temperature"])
def test_classes(how, rng):
    kernel, x = fitted(rng).kernel, rng.normal(size=(30, 3))
    labels = np.digitize(x[:, 0] + 0.3 * rng.normal(size=30), [-0.4, 0.4])
    gp = GPClassifier(kernel, 0.1, probabilities=how).fit(x, labels)
    x = rng.normal(size=(4, 3))
    tensor, known = tf.constant(x), gp.predictive(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensor)
        found = gp.predict_tensors(tensor)
        parts = [found[0][:, 1], found[1], found[2][:, 1]]
    for ours, theirs in zip(found, known, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    direction = rng.normal(size=x.shape)
    ends = [gp.predictive(x + step * direction) for step in (STEP, -STEP)]
    for i, part in enumerate(parts):
        up, down = (end[i].T[1] if end[i].ndim == 2 else end[i] for end in ends)
        expected = np.sum(up - down) / (2 * STEP)
        gradient = np.asarray(tape.gradient(part, tensor))
        assert np.sum(direction * gradient) == pytest.approx(expected, rel=1e-5)


def test_classes_without_derivatives(rng):
    gp = GPClassifier(fitted(rng).kernel, 0.1, probabilities="largest")
    gp.fit(rng.normal(size=(8, 3)), np.arange(8) % 2)
    with pytest.raises(InputError, match=r'averages over the posterior.*probabilities="linear"'):
        gp.predict_tensors(tf.constant(rng.normal(size=(2, 3))))
    gp = GPClassifier("precomputed", 0.1).fit(np.eye(4), [0, 1, 0, 1])
    with pytest.raises(InputError, match="precomputed"):
        gp.predict_tensors(tf.constant(np.eye(4)))


class OfTensors:
    """exp(-|x - z|^2 / 2) by TensorFlow, or of inputs that went through numpy."""

    def __init__(self, through_numpy=False, diag=tf.ones):
        self.through_numpy, self.of_diag = through_numpy, diag

    def __call__(self, x1, x2=None):
        x1 = tf.constant(np.asarray(x1)) if self.through_numpy else x1
        differences = x1[:, None] - (x1 if x2 is None else x2)[None]
        return tf.exp(-0.5 * tf.reduce_sum(differences**2, axis=2))

    def diag(self, x):
        return self.of_diag(len(x), "float64")


def test_a_kernel_of_tensorflow(rng):
    x = rng.normal(size=(12, 3))
    assert_derivatives(GPRegressor(OfTensors(), 0.1).fit(x, np.sin(x[:, 0])), rng)


def test_a_diagonal_of_numpy_is_named(rng):
    x = rng.normal(size=(12, 3))
    gp, tensor = GPRegressor(OfTensors(diag=np.ones), 0.1).fit(x, x[:, 0]), tf.constant(x[:2])
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        variance = gp.predict_tensors(tensor)[1]
    with pytest.raises(InputError, match=r"does not see how the values of kernel\.diag come"):
        tape.gradient(variance, tensor)


@pytest.mark.parametrize("kernel", [RBF(1.0), OfTensors(through_numpy=True)])
def test_a_kernel_that_tensorflow_does_not_see_is_refused(kernel, rng):
    x = rng.normal(size=(12, 3))
    gps = [GPRegressor(kernel, 0.1).fit(x, x[:, 0]), GPClassifier(kernel, 0.1).fit(x, x[:, 0] > 0)]
    tensor = tf.Variable(x[:2])
    for gp in gps:
        with tf.GradientTape(persistent=True) as tape:
            values = gp.predict_tensors(tensor)
        for value in values:
            with pytest.raises(
                InputError, match=r"TensorFlow does not see how .* Try: a kernel of"
            ):
                tape.gradient(value, tensor)
