"""Kernels of keras2gp in scikit-learn, GPflow and TensorFlow Probability.

The last two are no dependencies: their tests run where they are installed. GPflow 2.11 needs
numpy < 2, TensorFlow Probability needs tf_keras.
"""

from __future__ import annotations

import copy
import pickle
import sys

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras2gp
from keras2gp import adapters
from keras2gp.errors import InputError, MissingLibraryError

HE = {"kernel_initializer": "he_normal"}
NOISE = 0.1


@pytest.fixture(scope="module")
def kernel():
    network = [keras.Input((4, 4, 1)), layers.Conv2D(4, 3, activation="relu", **HE)]
    network += [layers.Flatten(), layers.Dense(2, **HE)]
    return keras2gp.convert(keras.Sequential(network), dtype="float64")


@pytest.fixture(scope="module")
def problem():
    """Flattened images, targets, and images to predict."""
    random = np.random.default_rng(0)
    x = random.normal(size=(24, 16))
    return x, np.sin(x.sum(axis=1)), random.normal(size=(7, 16))


@pytest.fixture(scope="module")
def expected(kernel, problem):
    """Our own mean, variance and log marginal likelihood."""
    x, y, test = problem
    ours = keras2gp.GPRegressor(kernel, NOISE).fit(x, y)
    mean, std = ours.predict(test, return_std=True)
    return mean, std**2, ours.log_marginal_likelihood_value_


def images(x):
    return x.reshape(-1, 4, 4, 1)


def test_scikit_learn_values(kernel, problem):
    x, _, test = problem
    ours = adapters.sklearn_kernel(kernel)
    matrix, gradient = ours(x, eval_gradient=True)
    np.testing.assert_array_equal(matrix, np.asarray(kernel(images(x))))
    assert gradient.shape == (24, 24, 0)
    np.testing.assert_array_equal(ours(test, x), np.asarray(kernel(images(test), images(x))))
    np.testing.assert_array_equal(ours.diag(x), np.asarray(kernel.diag(images(x))))
    assert not ours.is_stationary()
    assert ours.theta.size == 0
    assert ours.bounds.size == 0
    again = clone(ours)
    assert again == ours
    assert again.kernel is kernel
    assert ours != ConstantKernel()
    assert "NetworkKernel" in repr(ours)
    matrix[:] = 0.0  # the caller's own
    assert ours(x).all()
    with pytest.raises(ValueError, match="Y is None"):
        ours(x, test, eval_gradient=True)
    with pytest.raises(InputError, match="received shape"):
        ours(x[:, :5])


def test_scikit_learn_regression(kernel, problem, expected):
    x, y, test = problem
    peer = GaussianProcessRegressor(adapters.sklearn_kernel(kernel), alpha=NOISE).fit(x, y)
    mean, std = peer.predict(test, return_std=True)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-8)
    np.testing.assert_allclose(std**2, expected[1], rtol=1e-8)
    assert peer.log_marginal_likelihood() == pytest.approx(expected[2], rel=1e-8)


def test_scikit_learn_trains_what_is_around_it(kernel, problem):
    x, y, _ = problem
    around = ConstantKernel(1.0) * adapters.sklearn_kernel(kernel) + WhiteKernel(1.0)
    fitted = GaussianProcessRegressor(around).fit(x, y)
    before = fitted.log_marginal_likelihood(around.theta)
    assert fitted.log_marginal_likelihood() > before + 0.1
    _, gradient = fitted.log_marginal_likelihood(around.theta, eval_gradient=True)
    for i in range(2):
        step = np.eye(2)[i] * 1e-5
        ends = [fitted.log_marginal_likelihood(around.theta + s) for s in (step, -step)]
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)
    labels = GaussianProcessClassifier(adapters.sklearn_kernel(kernel)).fit(x, y > 0)
    assert labels.score(x, y > 0) > 0.8


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "clone": clone,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301 (made here)
}


@pytest.mark.parametrize("how", COPIES)
def test_scikit_learn_copies(how, kernel, problem):
    x, y, test = problem
    ours = adapters.sklearn_kernel(kernel)
    ours(x)
    assert len(pickle.dumps(ours)) < len(pickle.dumps(kernel)) + 2000  # without the matrix
    np.testing.assert_allclose(COPIES[how](ours)(x), ours(x), rtol=1e-12)
    around = ConstantKernel(2.0) * ours + WhiteKernel(0.1)
    fitted = GaussianProcessRegressor(around, optimizer=None).fit(x, y)
    np.testing.assert_allclose(COPIES[how](around)(x), around(x), rtol=1e-12)
    if how != "clone":  # an estimator's clone is not fitted
        again = COPIES[how](fitted)
        np.testing.assert_allclose(again.predict(test), fitted.predict(test), rtol=1e-10)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_scikit_learn_searches_over_kernels(jobs, kernel, problem):
    x, y, _ = problem
    network = [keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(8, "tanh"), layers.Dense(2)]
    kernels = [kernel, keras2gp.convert(keras.Sequential(network), dtype="float64")]
    candidates = [adapters.sklearn_kernel(k) for k in kernels]
    peer = GaussianProcessRegressor(candidates[0], alpha=NOISE)
    search = GridSearchCV(peer, {"kernel": candidates}, cv=3, n_jobs=jobs).fit(x, y)
    by_hand = [
        cross_val_score(keras2gp.GPRegressor(k, NOISE), images(x), y, cv=3).mean() for k in kernels
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], by_hand, rtol=1e-6)


def test_our_estimators_in_a_pipeline_and_a_grid_search(kernel, problem):
    x, y, test = problem
    labels = np.where(y > 0, "above", "below")
    pipeline = make_pipeline(StandardScaler(), keras2gp.GPClassifier(kernel))
    grid = {"gpclassifier__noise_variance": [0.01, 1.0]}
    search = GridSearchCV(pipeline, grid, scoring="neg_log_loss", cv=3).fit(x, labels)
    chosen = search.best_estimator_[-1]
    assert chosen.kernel is kernel
    assert chosen.noise_variance == search.best_params_["gpclassifier__noise_variance"]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    scaled = StandardScaler().fit(x)
    direct = keras2gp.GPClassifier(kernel, chosen.noise_variance).fit(scaled.transform(x), labels)
    expected = direct.predict_proba(scaled.transform(test))
    np.testing.assert_allclose(search.predict_proba(test), expected, rtol=1e-9)
    scores = cross_val_score(keras2gp.GPRegressor(kernel, NOISE), images(x), y, cv=3)
    assert scores.shape == (3,)


def test_the_matrix_of_the_training_inputs_is_computed_once(problem):
    x, y, _ = problem
    calls = []

    class Counted:
        def __call__(self, x1, x2=None):
            calls.append(len(x1))
            return x1 @ (x1 if x2 is None else x2).T

        def diag(self, x):
            return (x**2).sum(axis=1)

    ours = adapters.sklearn_kernel(Counted())
    GaussianProcessRegressor(ours + WhiteKernel(1.0)).fit(x, y)
    assert calls == [24]
    changed = x.copy()
    changed[3] += 1.0
    np.testing.assert_array_equal(ours(changed), changed @ changed.T)
    np.testing.assert_array_equal(ours(x, x), x @ x.T)


@pytest.mark.parametrize("kernel", [None, "precomputed", "rbf", np.eye(2)])
def test_what_is_no_kernel(kernel):
    with pytest.raises(InputError, match="expected"):
        adapters.sklearn_kernel(kernel)


@pytest.mark.parametrize(
    ("adapter", "library"),
    [("gpflow_kernel", "gpflow"), ("tfp_kernel", "tensorflow_probability")],
)
def test_a_library_that_is_missing(kernel, adapter, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match="pip install") as caught:
        getattr(adapters, adapter)(kernel)
    assert isinstance(caught.value, ImportError)


def test_gpflow(kernel, problem, expected):
    gpflow = pytest.importorskip("gpflow", reason="no dependency; 2.11 needs numpy < 2")
    import tensorflow as tf

    x, y, test = problem
    ours = adapters.gpflow_kernel(kernel)
    np.testing.assert_array_equal(ours(x), np.asarray(kernel(images(x))))
    np.testing.assert_array_equal(ours(test, x), np.asarray(kernel(images(test), images(x))))
    np.testing.assert_allclose(ours(x, full_cov=False), np.asarray(kernel.diag(images(x))))
    peer = gpflow.models.GPR((x, y[:, None]), ours, noise_variance=NOISE)
    mean, variance = peer.predict_f(test)
    np.testing.assert_allclose(mean[:, 0], expected[0], rtol=1e-8)
    np.testing.assert_allclose(variance[:, 0], expected[1], rtol=1e-8)
    assert float(peer.log_marginal_likelihood()) == pytest.approx(expected[2], rel=1e-8)
    # What is around it is trained, compiled too.
    scaled = gpflow.kernels.Constant(1.0) * ours
    peer = gpflow.models.GPR((x, y[:, None]), scaled, noise_variance=NOISE)
    before = float(peer.training_loss())
    gpflow.optimizers.Scipy().minimize(peer.training_loss, peer.trainable_variables)
    assert float(peer.training_loss()) < before - 0.1
    compiled = tf.function(peer.training_loss)
    with tf.GradientTape() as tape:
        loss = compiled()
    gradients = tape.gradient(loss, peer.trainable_variables)
    assert all(np.isfinite(float(g)) for g in gradients)
    # Its inputs are not: inducing points that are trainable are refused.
    sparse = gpflow.models.SGPR((x, y[:, None]), ours, inducing_variable=x[:5].copy())
    with pytest.raises(InputError, match="not differentiable"):
        gpflow.optimizers.Scipy().minimize(
            sparse.training_loss, sparse.trainable_variables, compile=False
        )
    with tf.GradientTape() as tape:
        loss = tf.function(sparse.training_loss)()
    assert np.isnan(tape.gradient(loss, sparse.inducing_variable.Z.unconstrained_variable)).all()
    gpflow.set_trainable(sparse.inducing_variable, False)
    before = float(sparse.training_loss())
    gpflow.optimizers.Scipy().minimize(sparse.training_loss, sparse.trainable_variables)
    assert float(sparse.training_loss()) < before


@pytest.mark.parametrize("flat", [False, True])
def test_tensorflow_probability(kernel, problem, expected, flat):
    tfp = pytest.importorskip("tensorflow_probability", reason="no dependency")
    import tensorflow as tf

    x, y, test = problem
    ours = adapters.tfp_kernel(kernel, 1) if flat else adapters.tfp_kernel(kernel)
    x, test = (x, test) if flat else (images(x), images(test))
    np.testing.assert_array_equal(ours.matrix(x, x), np.asarray(kernel(x)))
    np.testing.assert_array_equal(ours.matrix(test, x), np.asarray(kernel(test, x)))
    np.testing.assert_allclose(ours.apply(x, x), np.asarray(kernel.diag(x)))
    pairs = np.diagonal(np.asarray(kernel(x[:7], test)))
    np.testing.assert_allclose(ours.apply(x[:7], test), pairs, rtol=1e-12)
    peer = tfp.distributions.GaussianProcessRegressionModel(
        ours, index_points=test, observation_index_points=x, observations=y,
        observation_noise_variance=np.float64(NOISE), predictive_noise_variance=np.float64(0.0),
        jitter=0.0,
    )  # fmt: skip
    np.testing.assert_allclose(peer.mean(), expected[0], rtol=1e-8)
    np.testing.assert_allclose(peer.variance(), expected[1], rtol=1e-8)

    noise = tf.Variable(NOISE, dtype=tf.float64)

    @tf.function
    def evidence():
        prior = tfp.distributions.GaussianProcess(
            ours, index_points=x, observation_noise_variance=noise, jitter=0.0
        )
        return prior.log_prob(y)

    with tf.GradientTape() as tape:
        found = evidence()
    assert float(found) == pytest.approx(expected[2], rel=1e-8)
    assert np.isfinite(tape.gradient(found, noise))
    points = tf.Variable(x)
    with pytest.raises(InputError, match="not differentiable"), tf.GradientTape() as tape:
        tape.gradient(tf.reduce_sum(ours.matrix(points, points)), points)
    with pytest.raises(InputError, match="no batches"):
        ours.matrix(x[None], x[None])
    with pytest.raises(InputError, match="feature_ndims"):
        adapters.tfp_kernel(kernel, 2)
