"""The ensemble of trained networks, beside linear models whose weights are trained explicitly."""

import math
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.linalg
from sklearn.gaussian_process.kernels import RBF

import keras2gp
from keras2gp.errors import InputError, NotFittedError, NumericalError
from keras2gp.gp import GPRegressor, TrainedEnsemble

TIMES = (0.0, 1e-3, 0.3, 4.0, math.inf)


class Linear:
    """f(x) = features(x) w, w_i of variance v_i at the start: K = P diag(v) P^T and T = P P^T."""

    def __init__(self, count, rng):
        self.directions = rng.normal(size=(2, count))
        self.variances = rng.uniform(0.2, 2.0, count)

    def features(self, x):
        return np.tanh(np.asarray(x) @ self.directions)

    def __call__(self, x1, x2=None, /, *, get="nngp"):
        p1, p2 = self.features(x1), self.features(x1 if x2 is None else x2)
        nngp, tangent = p1 * self.variances @ p2.T, p1 @ p2.T
        return {"nngp": nngp, "ntk": tangent, "both": np.stack([nngp, tangent])}[get]

    def diag(self, x, /, *, get="nngp"):
        return np.diagonal(self(x, get=get), axis1=-2, axis2=-1)

    def trained(self, x, y, new, time, regularization):
        """Mean and covariance of the trained networks at `new`, from the flow of the weights.

        dw/dt = -P^T (P w - y) - r (w - w_0): by matrix exponentials of the system with w_0 and 1.
        """
        p, q = self.features(x), self.features(new)
        size = p.shape[1]
        own = p.T @ p + regularization * np.eye(size)
        if math.isinf(time):
            inverse = np.linalg.pinv(own, rcond=1e-13)
            of_start = np.eye(size) - inverse @ (p.T @ p)
            of_targets = inverse @ p.T @ y
        else:
            system = np.zeros((2 * size + 1, 2 * size + 1))
            system[:size, :size] = -own
            system[:size, size:-1] = regularization * np.eye(size)
            system[:size, -1] = p.T @ y
            flow = scipy.linalg.expm(system * time)
            of_start = flow[:size, :size] + flow[:size, size:-1]
            of_targets = flow[:size, -1]
        spread = q @ of_start * np.sqrt(self.variances)
        return q @ of_targets, spread @ spread.T


@pytest.mark.parametrize("regularization", [0.0, 0.3])
@pytest.mark.parametrize("time", TIMES)
def test_agrees_with_weights_that_are_trained(time, regularization, rng):
    kernel, x, new = Linear(40, rng), rng.normal(size=(6, 2)), rng.normal(size=(5, 2))
    y = rng.normal(size=6)
    ensemble = TrainedEnsemble(kernel, time, regularization).fit(x, y)
    mean, covariance = ensemble.predict(new, return_cov=True)
    expected, spread = kernel.trained(x, y, new, time, regularization)
    np.testing.assert_allclose(mean, expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(covariance, spread, rtol=1e-8, atol=1e-8)
    again, std = ensemble.predict(new, return_std=True)
    np.testing.assert_array_equal(again, mean)
    np.testing.assert_allclose(std**2, spread.diagonal(), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(ensemble.predict(new), mean, rtol=1e-12)


THEIRS = np.load(Path(__file__).parent / "neural_tangents.npz")
"""Matrices, and what neural_tangents.predict makes of them: tools/compare_neural_tangents.py."""


class Lookup:
    """Both kernels as matrices that are there: inputs are indices, [N, 1]."""

    def __call__(self, x1, x2=None, /, *, get="nngp"):
        rows, columns = (np.asarray(x)[:, 0].astype(int) for x in (x1, x1 if x2 is None else x2))
        both = np.stack([THEIRS["predict.nngp"], THEIRS["predict.ntk"]])[:, rows[:, None], columns]
        return {"nngp": both[0], "ntk": both[1], "both": both}[get]

    def diag(self, x, /, *, get="nngp"):
        return np.diagonal(self(x, get=get), axis1=-2, axis2=-1)


@pytest.mark.parametrize(("name", "regularization"), [("flow", 0.0), ("ridge", 1e-3)])
@pytest.mark.parametrize(("number", "time"), list(enumerate((0.0, 0.05, 1.0, 30.0, math.inf))))
def test_agrees_with_neural_tangents(name, regularization, number, time):
    y = THEIRS["predict.y"]
    index = np.arange(len(y) + 4.0)[:, None]
    train, test = index[: len(y)], index[len(y) :]
    fits = {"ntk": TrainedEnsemble(Lookup(), time, regularization)}
    if math.isinf(time):  # their last layer, trained to the end: the posterior
        fits["nngp"] = GPRegressor(Lookup(), noise_variance=regularization)
    for kind, fit in fits.items():
        mean, covariance = fit.fit(train, y).predict(test, return_cov=True)
        covariance = covariance[..., 0] if covariance.ndim == 3 else covariance
        theirs = THEIRS[f"predict.{name}.{number}.{kind}.mean"]
        np.testing.assert_allclose(mean, theirs, rtol=1e-8, atol=1e-10)
        theirs = THEIRS[f"predict.{name}.{number}.{kind}.covariance"]
        np.testing.assert_allclose(covariance, theirs, rtol=1e-8, atol=1e-10)


def network():
    relu = keras.layers.Dense(8, activation="relu", kernel_initializer="he_normal")
    return keras.Sequential([keras.Input((2,)), relu, keras.layers.Dense(2)])


def test_before_and_after_the_training(rng):
    x, new, y = rng.normal(size=(8, 2)), rng.normal(size=(3, 2)), rng.normal(size=(8, 2))
    kernel = keras2gp.convert(network(), overrides={"*": (2.0, 0.1)}, dtype="float64")
    ensemble = TrainedEnsemble(kernel).fit(x, y)
    mean, covariance = ensemble.predict(new, return_cov=True, time=0)
    np.testing.assert_allclose(mean, np.zeros((3, 2)))
    np.testing.assert_allclose(covariance, kernel(new), rtol=1e-12)
    tangent = keras2gp.convert(network(), overrides={"*": (2.0, 0.1)}, dtype="float64", kind="ntk")
    mean, std = ensemble.predict(new, return_std=True)
    expected = GPRegressor(tangent, noise_variance=0.0).fit(x, y).predict(new)
    np.testing.assert_allclose(mean, expected, rtol=1e-7)
    assert (std > 0).all()
    _, at_training = ensemble.predict(x, return_std=True)
    assert (at_training < 1e-5).all()
    given = TrainedEnsemble(kernel).fit(x, y, gram=kernel(x, get="both"))
    np.testing.assert_allclose(given.predict(new), mean, rtol=1e-12)


def test_a_mean_of_the_untrained_networks(rng):
    x, new, y = rng.normal(size=(6, 2)), rng.normal(size=(3, 2)), rng.normal(size=(6, 2))
    plain = network()
    kernel = keras2gp.convert(plain, dtype="float64")
    shift = np.array([3.0, -1.0])
    moved = keras.Model(plain.inputs, plain.outputs[0] + shift)
    ensemble = TrainedEnsemble(keras2gp.convert(moved, dtype="float64"), time=0.7).fit(x, y)
    mean, std = ensemble.predict(new, return_std=True)
    expected, spread = TrainedEnsemble(kernel, time=0.7).fit(x, y - shift).predict(new, True)
    np.testing.assert_allclose(mean, expected + shift, rtol=1e-10)
    np.testing.assert_allclose(std, spread, rtol=1e-10)


@pytest.mark.slow
def test_wide_networks_that_are_trained(rng):
    """Networks of 2000 units, linearised by nothing but their width, trained by small steps."""
    import tensorflow as tf

    x, new = np.array([[-1.0, 0.5], [0.3, 1.0], [1.2, -0.4]]), np.array([[0.5, 0.5], [2.0, -1.0]])
    y, width, rate, steps = np.array([1.0, -1.0, 0.5]), 2000, 0.05, 60
    outputs = []

    @tf.function
    def trained(weights):
        for _ in range(steps):
            with tf.GradientTape() as tape:
                tape.watch(weights)
                loss = tf.reduce_sum((of(x, weights) - y) ** 2) / 2
            gradients = tape.gradient(loss, weights)
            weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
        return of(new, weights)

    def of(inputs, weights):
        first, bias, second = weights
        hidden = tf.nn.relu(inputs @ first / math.sqrt(2) * math.sqrt(2.0) + bias * math.sqrt(0.1))
        return (hidden @ second / math.sqrt(width) * math.sqrt(2.0))[:, 0]

    for _ in range(300):
        shapes = ((2, width), (width,), (width, 1))
        outputs.append(trained([tf.constant(rng.normal(size=s)) for s in shapes]).numpy())
    hidden = keras.layers.Dense(8, activation="relu")
    model = keras.Sequential([keras.Input((2,)), hidden, keras.layers.Dense(1)])
    names = [layer.name for layer in model.layers]
    overrides = {names[0]: (2.0, 0.1), names[1]: (2.0, 0.0)}
    kernel = keras2gp.convert(model, overrides=overrides, dtype="float64")
    ensemble = TrainedEnsemble(kernel, time=rate * steps).fit(x, y)
    mean, std = ensemble.predict(new, return_std=True)
    error = np.std(outputs, axis=0) / math.sqrt(len(outputs))
    assert (np.abs(np.mean(outputs, axis=0) - mean) < 4 * error + 0.02).all()
    np.testing.assert_allclose(np.std(outputs, axis=0), std, rtol=0.2)


def test_the_same_input_twice_has_no_end_of_training(rng):
    x = rng.normal(size=(4, 2))
    x[3] = x[1]
    ensemble = TrainedEnsemble(Linear(20, rng), time=5.0).fit(x, [0.0, 1.0, 2.0, 3.0])
    assert np.isfinite(ensemble.predict(x)).all()
    with pytest.raises(NumericalError, match=r"singular .* no end.*finite time"):
        ensemble.predict(x, time=math.inf)
    with pytest.raises(NumericalError, match="singular"):
        TrainedEnsemble(Linear(20, rng)).fit(x, [0.0, 1.0, 2.0, 3.0])


def test_what_is_refused(rng):
    kernel, x, y = Linear(20, rng), rng.normal(size=(4, 2)), np.arange(4.0)
    for settings, words in (
        ({"kernel": "precomputed"}, "expected a kernel"),
        ({"kernel": keras.Sequential()}, r"Try: keras2gp\.convert\(model\)"),
        ({"kernel": RBF(1.0)}, r'kernel is RBF\(length_scale=1\): expected.*get="both"'),
        ({"kernel": kernel, "time": -1.0}, "time is -1.0"),
        ({"kernel": kernel, "time": math.nan}, "time is nan"),
        ({"kernel": kernel, "regularization": math.inf}, "regularization is inf"),
        ({"kernel": kernel, "regularization": True}, "regularization is True"),
    ):
        with pytest.raises(InputError, match=words):
            TrainedEnsemble(**settings).fit(x, y)
    ensemble = TrainedEnsemble(kernel)
    with pytest.raises(NotFittedError):
        ensemble.predict(x)
    with pytest.raises(InputError, match="inconsistent"):
        ensemble.fit(x, y[:3])
    with pytest.raises(InputError, match=r"\(2, 4, 4\)"):
        ensemble.fit(x, y, gram=np.eye(4))
    with pytest.raises(NumericalError, match="not positive semi-definite"):
        ensemble.fit(x, y, gram=-np.stack([np.eye(4)] * 2))
    ensemble.fit(x, y)
    with pytest.raises(InputError, match="3 features"):
        ensemble.predict(np.zeros((1, 3)))
    with pytest.raises(InputError, match="at most one"):
        ensemble.predict(x, return_std=True, return_cov=True)
    with pytest.raises(InputError, match="not finite"):
        ensemble.predict(np.full((1, 2), np.nan))


def test_positions_are_one_at_a_time():
    model = keras.Sequential([keras.Input((3, 1)), keras.layers.Conv1D(4, 2)])
    with pytest.raises(InputError, match=r"positions.*kernel.at"):
        TrainedEnsemble(keras2gp.convert(model)).fit(np.zeros((2, 3, 1)), np.zeros(2))
