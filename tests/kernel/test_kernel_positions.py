"""Kernels with positions: one of them, saving, SavedModels, and what takes no positions."""

import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras2gp
from keras2gp import adapters
from keras2gp.errors import InputError, ModelFileError

X = np.random.default_rng(1).normal(size=(20, 4, 2)).astype("float32")
HE = {"kernel_initializer": "he_normal"}


@pytest.fixture(scope="module")
def kernel():
    model = keras.Sequential([
        keras.Input((4, 2)), layers.Rescaling(0.5),
        layers.Conv1D(4, 2, activation="relu", **HE),
        layers.Conv1D(3, 2, padding="same", activation="softmax", **HE),
    ])  # fmt: skip
    return keras2gp.convert(model)


def test_one_position_is_a_kernel_like_any_other(kernel, tmp_path):
    one = kernel.at((2,))
    expected = np.asarray(kernel(X))[:, :, 2]
    np.testing.assert_allclose(one(X), expected, rtol=1e-6)
    np.testing.assert_array_equal(kernel(X, position=(2,)), one(X))
    one.save(tmp_path / "one")
    np.testing.assert_array_equal(keras2gp.load(tmp_path / "one")(X), one(X))
    gp = keras2gp.GPRegressor(one, noise_variance=0.1).fit(X[:6], X[:6, 0, 0])
    keras2gp.export(gp, tmp_path / "export")
    wider = kernel.with_parameters(dict.fromkeys(kernel.parameters, (1.0, 1.0)))
    np.testing.assert_allclose(wider.at((2,))(X[:3]), np.asarray(wider(X[:3]))[:, :, 2], rtol=1e-6)


def test_a_saved_kernel_keeps_its_positions(kernel, tmp_path):
    kernel.save(tmp_path / "kernel")
    copied, loaded = pickle.loads(pickle.dumps(kernel)), keras2gp.load(tmp_path / "kernel")  # noqa: S301
    assert copied.graph == loaded.graph == kernel.graph
    assert copied.report == loaded.report == kernel.report
    np.testing.assert_array_equal(loaded(X), kernel(X))
    served = tf.saved_model.load(str(tmp_path / "kernel")).signatures["serving_default"]
    matrix = served(x1=tf.constant(X), x2=tf.constant(X[:3]))["matrix"]
    assert matrix.shape == (20, 3, 3)
    np.testing.assert_allclose(matrix, kernel(X, X[:3]), rtol=1e-5, atol=1e-6)


def test_a_saved_graph_between_positions_is_refused(kernel, tmp_path):
    import json

    from keras2gp._util.digest import with_digest

    kernel.save(tmp_path / "kernel")
    file = tmp_path / "kernel" / "kernel.json"
    data = json.loads(file.read_text())
    data["graph"]["between"] = True
    file.write_text(json.dumps(with_digest(data)))
    with pytest.raises(ModelFileError, match="between positions"):
        keras2gp.load(tmp_path / "kernel")


def test_what_takes_one_number_an_image_says_so(kernel):
    with pytest.raises(InputError, match=r"kernel\.at"):
        adapters.sklearn_kernel(kernel)
    with pytest.raises(InputError, match=r"kernel\.at"):
        keras2gp.optimize_variances(kernel, X[:3], X[:3, 0, 0])
    assert adapters.sklearn_kernel(kernel.at(0))(X[:3].reshape(3, -1)).shape == (3, 3)


def test_the_second_kernel_is_compiled_once(kernel):
    assert kernel.program_of("all") is kernel.program_of("all")
    again = kernel.with_parameters({})
    assert again.program_of(position=1) is kernel.at((1,)).program
