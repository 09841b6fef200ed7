"""The mean of the process: what a model adds after its last random layer, against numpy."""

import json
import pickle

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras2gp
from keras2gp._util.digest import with_digest
from keras2gp.errors import InputError, ModelFileError, UnsupportedModelError

W2, B2 = 2.0, 0.09
HE = {
    "kernel_initializer": "he_normal",
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3),
}
Constant = keras.initializers.Constant


def dense(x, units=3, **settings):
    return layers.Dense(units, **(HE | settings))(x)


def normalized(x, **settings):
    return layers.BatchNormalization(epsilon=0.0, **settings)(dense(x))


CASES = {
    "a number": (lambda x: dense(x) + 0.5, 0.5, 1, B2),
    "an array": (lambda x: dense(x) + np.array([1.0, -1.0, 0.25]), [1.0, -1.0, 0.25], 1, B2),
    "an array of equal numbers": (lambda x: ops.add(np.full(3, 0.5), dense(x)), 0.5, 1, B2),
    "a number less the output": (lambda x: 1.0 - dense(x), 1.0, 1, B2),
    "constant biases": (lambda x: dense(x, bias_initializer=Constant(0.3)), 0.3, 1, 0.0),
    "unequal biases": (
        lambda x: dense(x, bias_initializer=Constant([0.1, 0.2, 0.4])), [0.1, 0.2, 0.4], 1, 0.0
    ),
    "one bias in an array": (
        lambda x: dense(x, 1, bias_initializer=Constant(np.log([3.0])), activation="sigmoid"),
        np.log(3.0), 1, 0.0,
    ),
    "uniform biases": (
        lambda x: dense(x, bias_initializer=keras.initializers.RandomUniform(0.0, 1.0)),
        0.5, 1, 1 / 12,
    ),
    "a rescaling": (
        lambda x: layers.Rescaling(2.0, [0.5, 1.0, 0.0])(dense(x)), [0.5, 1.0, 0.0], 2, B2
    ),
    "a factor after it": (lambda x: 2.0 * (dense(x) + np.array([1.0, 2.0, 3.0])), [2, 4, 6], 2, B2),
    "a beta": (lambda x: normalized(x, beta_initializer=Constant(0.7)), 0.7, 1, B2),
    "betas": (
        lambda x: normalized(x, beta_initializer=Constant([0.0, 1.0, 2.0]),
                             moving_mean_initializer="ones", gamma_initializer=Constant(2.0)),
        [-2.0, -1.0, 0.0], 2, B2,
    ),
    "under a softmax": (lambda x: ops.softmax(dense(x) + np.array([0, 1, 2])), [0, 1, 2], 1, B2),
    "constants of a sum": (
        lambda x: layers.Average()([dense(x) + 1.0, dense(x) - np.array([2.0, 0.0, 0.0])]),
        [-0.5, 0.5, 0.5], np.sqrt(0.5), B2,
    ),
    "constants that cancel": (lambda x: (dense(x) + 1.5) - 1.5, None, 1, B2),
    "the input": (lambda x: layers.Add()([x, dense(x)]), lambda x: x, 1, B2),
    "less the input": (lambda x: dense(x) - x, lambda x: -x, 1, B2),
    "half of the input": (lambda x: layers.Average()([x, dense(x)]), lambda x: x / 2, 0.5, B2),
    "the input and constants": (
        lambda x: 2.0 * (x + dense(x) + np.array([0.0, 1.0, 2.0])),
        lambda x: 2 * x + np.array([0.0, 2.0, 4.0]), 2, B2,
    ),
    "another function of the input": (lambda x: dense(x) + ops.sin(x), np.sin, 1, B2),
    "the input that cancels": (lambda x: (x + dense(x)) - x, None, 1, B2),
    "the input twice": (lambda x: (x + dense(x)) + x, lambda x: 2 * x, 1, B2),
    "what is left of the input": (
        lambda x: (x + dense(x)) - x + ops.sin(x), np.sin, 1, B2
    ),
    "a slice of channels": (
        lambda x: (dense(x, 4) + np.array([1.0, 2.0, 3.0, 4.0]))[:, 1:3], [2.0, 3.0], 1, B2
    ),
}  # fmt: skip
"""A model, its mean, the factor of its output, and the variance of its biases."""


def kernel_of(function, shape=(3,), **settings):
    x = keras.Input(shape)
    return keras2gp.convert(keras.Model(x, function(x)), dtype="float64", **settings)


@pytest.mark.parametrize("name", CASES)
def test_mean_and_covariance_are_those_of_the_model(name, rng):
    function, expected, factor, b2 = CASES[name]
    kernel = kernel_of(function)
    x = rng.normal(size=(4, 3))
    np.testing.assert_allclose(kernel(x), factor**2 * (b2 + W2 * x @ x.T / 3), rtol=1e-12)
    if expected is None:
        assert kernel.mean is None
        assert not any("mean" in note for note in kernel.report.notes)
        return
    values = (
        expected(x) if callable(expected) else np.broadcast_to(expected, (4, np.size(expected)))
    )
    np.testing.assert_allclose(kernel.mean(x), values, rtol=1e-12)
    assert kernel.mean.depends_on_input == callable(expected)
    assert "kernel.mean" in str(kernel.report)
    assert "mean" in repr(kernel)
    assert kernel.without_mean().mean is None
    np.testing.assert_array_equal(kernel.with_parameters({}).mean(x), kernel.mean(x))


@pytest.mark.parametrize("name", ["an array", "another function of the input"])
def test_a_mean_is_saved_with_its_kernel(name, rng, tmp_path):
    kernel, x = kernel_of(CASES[name][0]), rng.normal(size=(4, 3))
    kernel.save(tmp_path / "kernel")
    loaded = keras2gp.load(tmp_path / "kernel")
    np.testing.assert_array_equal(loaded.mean(x), kernel.mean(x))
    np.testing.assert_array_equal(loaded(x), kernel(x))


def test_a_constant_is_an_array():
    kernel = kernel_of(lambda x: dense(x) + np.array([1.0, -1.0, 0.25]))
    np.testing.assert_array_equal(np.asarray(kernel.mean), [1.0, -1.0, 0.25])
    assert repr(kernel.mean) == "<mean 1, -1, 0.25>"
    of_input = kernel_of(lambda x: dense(x) + x).mean
    assert repr(of_input) == "<mean data of the input>"
    with pytest.raises(InputError, match="depends on the input"):
        np.asarray(of_input)


def test_a_model_file_keeps_an_array_of_biases(tmp_path):
    x = keras.Input((3,))
    model = keras.Model(x, dense(x, bias_initializer=Constant(np.array([0.5, 1.0, 2.0]))))
    model.save(tmp_path / "model.keras")
    mean = keras2gp.convert(tmp_path / "model.keras").mean
    np.testing.assert_array_equal(np.asarray(mean), [0.5, 1.0, 2.0])


IMAGE = (4, 3, 2)
MAPS = {
    "biases": (
        lambda x: layers.Conv2D(2, 1, bias_initializer=Constant([1.0, 2.0]))(x + 0.0),
        lambda x: np.broadcast_to([1.0, 2.0], x.shape),
    ),
    "an array of positions": (
        lambda x: layers.Conv2D(2, 1)(x) + np.arange(12.0).reshape(4, 3, 1),
        lambda x: np.broadcast_to(np.arange(12.0).reshape(4, 3, 1), (len(x), 4, 3, 1)),
    ),
    "an array of rows": (
        lambda x: layers.Conv2D(2, 1)(x) + np.arange(4.0).reshape(1, 4, 1, 1),
        lambda x: np.broadcast_to(np.arange(4.0).reshape(4, 1, 1), (len(x), 4, 3, 1)),
    ),
    "the input": (lambda x: x - layers.Conv2D(2, 3, padding="same")(x), lambda x: x),
    "a constant, cropped": (
        lambda x: layers.Cropping2D(((1, 0), (0, 0)))(layers.Conv2D(2, 1)(x) + 0.5),
        lambda x: np.full((len(x), 3, 3, 1), 0.5),
    ),
    "units as positions": (
        lambda x: (
            layers.Reshape((4, 3, 1))(
                layers.Dense(12, bias_initializer=Constant(0.5))(layers.Flatten()(x))
            )
            + x[..., :1]
        ),
        lambda x: 0.5 + x[..., :1],
    ),
    "channels first": (
        lambda x: layers.Conv2D(
            2, 1, data_format="channels_first", bias_initializer=Constant([1.0, 2.0])
        )(layers.Permute((3, 1, 2))(x)),
        lambda x: np.broadcast_to([1.0, 2.0], x.shape),
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_means_of_maps(name, rng):
    function, expected = MAPS[name]
    kernel = kernel_of(function, IMAGE)
    x = rng.normal(size=(2, *IMAGE))
    values = expected(x)
    np.testing.assert_allclose(kernel.mean(x), values, rtol=1e-12)
    single = kernel.at((1, 2))
    np.testing.assert_allclose(single.mean(x), values[:, 1, 2], rtol=1e-12)


def test_the_mean_at_a_position_is_saved(rng, tmp_path):
    kernel, x = kernel_of(MAPS["the input"][0], IMAGE), rng.normal(size=(2, *IMAGE))
    kernel.at((1, 2)).save(tmp_path / "kernel")
    loaded = pickle.loads(pickle.dumps(keras2gp.load(tmp_path / "kernel")))  # noqa: S301
    np.testing.assert_allclose(loaded.mean(x), x[:, 1, 2], rtol=1e-12)


def test_a_shared_tower_keeps_its_mean(rng):
    def siamese(x):
        tower = layers.Dense(8, **HE)
        return dense(layers.Concatenate()([tower(x), tower(2.0 * x)]), 1) + ops.sum(
            x, axis=-1, keepdims=True
        )

    x = rng.normal(size=(3, 3))
    np.testing.assert_allclose(kernel_of(siamese).mean(x), x.sum(axis=1, keepdims=True), rtol=1e-12)


CONSTANTS = np.array([1.0, 2.0, 3.0])
INSIDE = {
    "an array before weights": (
        lambda x: dense(dense(x) + CONSTANTS),
        lambda x: CONSTANTS + 0.0 * x,
    ),
    "unequal biases before weights": (
        lambda x: dense(dense(x, bias_initializer=Constant(CONSTANTS))),
        lambda x: CONSTANTS + 0.0 * x,
    ),
    "the input before weights": (lambda x: dense(dense(x) - x), lambda x: x),
}


@pytest.mark.parametrize("name", INSIDE)
def test_data_inside_the_network_is_what_weights_sum_over(name, rng):
    """k' = b2 + w2 (k + mean over channels of d d')."""
    function, data = INSIDE[name]
    x = rng.normal(size=(4, 3))
    kernel = kernel_of(function)
    first = kernel_of(dense)
    k, d = np.asarray(first(x)), data(x)
    (w2, b2), *_ = {(v.weight, v.bias) for v in first.parameters.values()}
    biased = np.asarray(b2) if "biases" not in name else 0.0
    expected = b2 + w2 * (k - b2 + biased + d @ d.T / 3)
    np.testing.assert_allclose(kernel(x), expected, rtol=1e-12)
    assert kernel.mean is None
    assert any("as if repeated" in note for note in kernel.report.notes)


REFUSED = {
    "an array in front of an activation": (
        lambda x: ops.relu(dense(x) + np.array([1.0, 2.0, 3.0])), "or constants, were added"
    ),
    "unequal biases inside": (
        lambda x: dense(dense(x, bias_initializer=Constant([1.0, 2.0, 3.0]), activation="relu")),
        "or constants, were added",
    ),
    "the input inside": (lambda x: ops.relu(x + dense(x)), "the input, or constants, were added"),
    "the input and an array inside": (
        lambda x: dense(dense(x) - x + CONSTANTS), "hold the input or constants"
    ),
    "an activation and a constant": (lambda x: ops.relu(dense(x)) + 1.0, "ends in an activation"),
    "images of a batch": (lambda x: dense(x) + np.arange(6.0).reshape(2, 3), "of one image"),
    "the input alone": (lambda x: x + 1.0, "deterministic function"),
    "a constant before a normalisation": (
        lambda x: layers.RMSNormalization()(dense(x) + 1.0), "added before the output"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_reason(name):
    function, why = REFUSED[name]
    with pytest.raises(UnsupportedModelError, match=why) as error:
        kernel_of(function)
    assert all(obstacle.hint for obstacle in error.value.obstacles)


DAMAGED = {
    "a number that is none": {"constant": [float("nan")]},
    "no number": {"constant": []},
    "text": {"constant": ["a"]},
    "too many axes": {"constant": [[1.0, 2.0, 3.0]]},
    "positions": {"sizes": [4]},
    "a tensor that is not there": {"data": [[7, 1.0]]},
    "a position": {"position": [0]},
    "a factor that is none": {"data": [[0, float("inf")]]},
}


def test_a_damaged_mean_is_refused(tmp_path):
    kernel = kernel_of(lambda x: dense(x) + np.array([1.0, -1.0, 0.25]))
    kernel.save(tmp_path / "kernel")
    file = tmp_path / "kernel" / "kernel.json"
    data = json.loads(file.read_text())
    data.pop("digest", None)
    for change in DAMAGED.values():
        changed = {**data, "mean": {**data["mean"], **change}}
        file.write_text(json.dumps(with_digest(changed)))
        with pytest.raises(ModelFileError, match=r"kernel\.json"):
            keras2gp.load(tmp_path / "kernel")


def test_a_mean_is_never_left_out_by_an_older_version(tmp_path):
    kernel_of(lambda x: dense(x) + 1.0).save(tmp_path / "kernel")
    assert json.loads((tmp_path / "kernel" / "kernel.json").read_text())["format"] == 2
    kernel_of(dense).save(tmp_path / "plain")
    assert json.loads((tmp_path / "plain" / "kernel.json").read_text())["format"] == 1
