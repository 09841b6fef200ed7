"""Estimators under a prior with a mean, against numpy."""

import keras
import numpy as np
import pytest
from keras import layers

import keras2gp
from keras2gp import GPClassifier, GPRegressor, adapters
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp import MeanWarning, load_head, save_head
from keras2gp.search.evidence import Evidence

NOISE = 0.1


def kernel_of(function, shape=(3,)):
    x = keras.Input(shape)
    return keras2gp.convert(keras.Model(x, function(x)), dtype="float64")


def dense(x, units=3):
    h = layers.Dense(8, "relu", kernel_initializer="he_normal")(x)
    return layers.Dense(units, kernel_initializer="he_normal")(h)


KERNELS = {
    "a number": lambda x: dense(x) + 5.0,
    "an array": lambda x: dense(x) + np.array([1.0, -2.0, 30.0]),
    "the input": lambda x: dense(x) + 2.0 * x,
}


@pytest.fixture
def data(rng):
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
    return x[:8], y[:8], x[8:]


@pytest.mark.parametrize("normalize_y", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_the_posterior_is_that_of_the_targets_less_the_mean(name, normalize_y, data):
    """m* + K* (K + s)^-1 (y - m), and all that follows from it."""
    x, y, new = data
    kernel = kernel_of(KERNELS[name])
    gp = GPRegressor(kernel, noise_variance=NOISE, normalize_y=normalize_y).fit(x, y)
    m, later = kernel.mean(x), kernel.mean(new)
    plain = GPRegressor(kernel.without_mean(), noise_variance=NOISE, normalize_y=normalize_y)
    plain.fit(x, y - m)
    mean, std = gp.predict(new, return_std=True)
    expected, spread = plain.predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected + later, rtol=1e-12)
    np.testing.assert_allclose(std, spread, rtol=1e-12)
    if not normalize_y:
        k = np.asarray(kernel(x)) + NOISE * np.eye(8)
        by_hand = later + np.asarray(kernel(new, x)) @ np.linalg.solve(k, y - m)
        np.testing.assert_allclose(mean, by_hand, rtol=1e-10)
    np.testing.assert_allclose(gp.predict(new), mean, rtol=1e-12)
    np.testing.assert_allclose(gp.predict(new, return_cov=True)[0], mean, rtol=1e-12)
    left_out, variance = gp.leave_one_out()
    np.testing.assert_allclose(left_out, plain.leave_one_out()[0] + m, rtol=1e-12)
    np.testing.assert_allclose(variance, plain.leave_one_out()[1], rtol=1e-12)
    draws = gp.sample_y(new, 2)
    np.testing.assert_allclose(draws, plain.sample_y(new, 2) + later[..., None], rtol=1e-9)
    evidence = plain.log_marginal_likelihood()
    assert gp.log_marginal_likelihood() == pytest.approx(evidence, rel=1e-12)
    np.testing.assert_allclose(
        gp.leave_one_out_log_density(), plain.leave_one_out_log_density(), rtol=1e-12
    )


def test_a_constant_is_no_matter_where_targets_are_normalised(data):
    x, y, new = data
    kernel = kernel_of(KERNELS["a number"])
    found, plain = (
        GPRegressor(k, noise_variance=NOISE, normalize_y=True).fit(x, y).predict(new)
        for k in (kernel, kernel.without_mean())
    )
    np.testing.assert_allclose(found, plain, rtol=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_a_fit_with_a_mean_comes_back(name, data, tmp_path):
    x, y, new = data
    kernel = kernel_of(KERNELS[name])
    gp = GPRegressor(kernel, noise_variance=NOISE).fit(x, y)
    save_head(gp, tmp_path / "head")
    np.testing.assert_array_equal(
        load_head(tmp_path / "head", kernel).predict(new), gp.predict(new)
    )
    with pytest.raises(ModelFileError, match="another mean function"):
        load_head(tmp_path / "head", kernel.without_mean())
    plain = GPRegressor(kernel.without_mean(), noise_variance=NOISE).fit(x, y)
    save_head(plain, tmp_path / "plain")
    with pytest.raises(ModelFileError, match="another mean function"):
        load_head(tmp_path / "plain", kernel)


def test_a_mean_of_other_outputs_is_refused(data):
    x, y, _ = data
    with pytest.raises(InputError, match="3 outputs, and y has 2"):
        GPRegressor(kernel_of(KERNELS["an array"])).fit(x, y[:, :2])
    single = GPRegressor(kernel_of(KERNELS["a number"]), noise_variance=NOISE)
    assert single.fit(x, y[:, 0]).predict(x).shape == (8,)


def test_images_to_images(rng):
    """The residual of an image is what is fitted where the model adds its input to its output."""
    x, y = rng.normal(size=(2, 4, 3, 2, 1))
    kernel = kernel_of(lambda x: x + layers.Conv2D(1, 3, padding="same")(x), (3, 2, 1))
    gp = GPRegressor(kernel, noise_variance=NOISE).fit(x, y)
    plain = GPRegressor(kernel.without_mean(), noise_variance=NOISE).fit(x, y - x)
    np.testing.assert_allclose(gp.predict(2 * x), plain.predict(2 * x) + 2 * x, rtol=1e-10)
    with pytest.raises(InputError, match="2 outputs, and y has 3"):
        GPRegressor(kernel_of(lambda x: layers.Conv2D(2, 1)(x) + np.arange(2.0), (3, 2, 1))).fit(
            x, np.repeat(y, 3, axis=-1)
        )


def test_a_classification_leaves_the_mean_out_and_says_so(data):
    x, _, new = data
    kernel = kernel_of(KERNELS["an array"])
    labels = [0, 1, 2, 0, 1, 2, 0, 1]
    with pytest.warns(MeanWarning, match="units of logits"):
        gp = GPClassifier(kernel, noise_variance=NOISE).fit(x, labels)
    plain = GPClassifier(kernel.without_mean(), noise_variance=NOISE).fit(x, labels)
    np.testing.assert_array_equal(gp.predict_proba(new), plain.predict_proba(new))


def test_evidence_of_real_targets_is_without_the_mean(data):
    x, y, _ = data
    kernel = kernel_of(KERNELS["an array"])
    found = Evidence(kernel, x, y).value(kernel.parameters, NOISE)
    less = Evidence(kernel.without_mean(), x, y - kernel.mean(x)).value(kernel.parameters, NOISE)
    assert found == pytest.approx(less, rel=1e-12)


def test_exports_add_constants(data, tmp_path):
    tf = pytest.importorskip("tensorflow")
    x, y, new = data
    kernel = kernel_of(KERNELS["an array"])
    gp = GPRegressor(kernel, noise_variance=NOISE, normalize_y=True).fit(x, y)
    keras2gp.export(gp, tmp_path / "export", variance=False)
    served = tf.saved_model.load(str(tmp_path / "export")).signatures["serving_default"]
    np.testing.assert_allclose(served(images=tf.constant(new))["mean"], gp.predict(new))
    gp = GPRegressor(kernel_of(KERNELS["the input"]), noise_variance=NOISE).fit(x, y)
    with pytest.raises(InputError, match="depends on the input"):
        keras2gp.export(gp, tmp_path / "input")


def test_kernels_of_other_libraries_have_no_mean():
    kernel = kernel_of(KERNELS["a number"])
    with pytest.raises(InputError, match="without_mean"):
        adapters.sklearn_kernel(kernel)
    adapters.sklearn_kernel(kernel.without_mean())
