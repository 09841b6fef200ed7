"""Files of Keras 2, and HDF5 files of Keras 3, against the models that they were made of."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from model_files import sequential, write
from older_files import keras_2_config, write_h5, write_keras

import keras2gp
from keras2gp.modelfile.loading import load_model_file


def network():
    x = inputs = keras.Input((8, 8, 2), name="images")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = y = layers.LeakyReLU(0.2)(x)
    x = layers.Conv2D(
        4, 3, padding="same", kernel_regularizer="l2", kernel_initializer="he_normal"
    )(x)
    x = layers.DepthwiseConv2D(3, padding="same")(layers.Add()([x, y]))
    x = layers.SeparableConv2D(4, 3)(layers.SpatialDropout2D(0.1)(x))
    x = layers.LayerNormalization()(x)
    x = layers.Concatenate()([layers.ReLU(6.0)(x), layers.Activation("swish")(x)])
    x = layers.Conv2DTranspose(3, 3, activation=layers.ELU(0.5))(x)
    return keras.Model(inputs, layers.Dense(2, "softmax")(layers.Flatten()(x)), name="net")


def operations():
    x = inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = keras.ops.relu(x) * 2.0 + x / 3.0
    x = 1.0 - keras.ops.leaky_relu(x[:, 1:5, ..., :2], 0.1)
    x = keras.ops.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    x = keras.ops.concatenate([x, keras.ops.sigmoid(x)], axis=-1) * np.linspace(0.5, 1, 4)
    x = keras.ops.reshape(keras.ops.mean(x, axis=1, keepdims=True), (-1, 24))
    return keras.Model(inputs, layers.Dense(3)(keras.ops.erf(x)))


def nested():
    core = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, "tanh"), layers.Dense(4)], name="core"
    )
    a, b = keras.Input((4,)), keras.Input((4,))
    middle = keras.Model([a, b], layers.Add()([core(a), core(b)]), name="middle")
    c, d = keras.Input((4,), name="c"), keras.Input((4,), name="d")
    x = middle([middle([c, d]), d])
    return keras.Model([c, d], [layers.Dense(1)(x), x, layers.Dense(2)(d)], name="outer")


def convertible():
    start = keras.Input((4,))
    return keras.Sequential([start, layers.Dense(8, "relu"), layers.LeakyReLU(), layers.Dense(2)])


def ends_in_models():
    head = keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="head")
    x = keras.Input((4,))
    return keras.Model(x, head(layers.Dense(4, "relu")(x)))


def recurrent():
    x = inputs = keras.Input((5, 4))
    x = layers.TimeDistributed(layers.Dense(3, "relu"))(x)
    x = layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True))(x)
    return keras.Model(inputs, layers.LSTM(3)(x))


MODELS = [sequential, network, operations, nested, ends_in_models, recurrent]


def filled(build):
    keras.backend.clear_session()
    model, draw = build(), np.random.default_rng(1)
    model.set_weights([draw.uniform(0.1, 1, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def outputs(model):
    draw = np.random.default_rng(0)
    x = [draw.normal(size=(2, *t.shape[1:])).astype("float32") for t in model.inputs]
    return [np.asarray(y) for y in keras.tree.flatten(model(x))]


def write_json(path, model):
    return write(path, json.dumps(keras_2_config(model) | {"keras_version": "2.15.0"}))


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize(
    "kind", ["h5", "h5 of Keras 3", "layers", "_layer_checkpoint_dependencies"]
)
def test_models_and_their_weights(build, kind, tmp_path):
    model = filled(build)
    path = tmp_path / ("m.keras" if kind[0] in "l_" else "m.h5")
    if kind == "h5":
        write_h5(path, model)
    elif kind == "h5 of Keras 3":
        model.save(path)
    else:
        write_keras(path, model, kind)
    loaded = load_model_file(path, weights=True)
    assert dict(loaded.unreadable) == {}
    for ours, theirs in zip(outputs(loaded.model), outputs(model), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    without = load_model_file(path, weights=False).model
    assert [w.shape for w in without.weights] == [w.shape for w in model.weights]
    names = [[v.name for v in m.layers] for m in (without, model)]
    assert names[0] == names[1]


@pytest.mark.parametrize("build", MODELS)
def test_architectures_alone(build, tmp_path):
    model = filled(build)
    loaded = load_model_file(write_json(tmp_path / "m.json", model), weights=False)
    assert dict(loaded.unreadable) == {}
    ours, theirs = (m.get_config() for m in (loaded.model, model))
    for one, other in zip(ours["layers"], theirs["layers"], strict=True):
        assert one["class_name"].lower() == other["class_name"].lower()  # Relu, ReLU
    if isinstance(model, keras.Sequential):
        assert ours["layers"] == theirs["layers"]


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_float16"])
def test_hdf5_files_of_other_precisions(policy, tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d", dtype=policy)])
    model.save(tmp_path / "m.h5")
    loaded = load_model_file(tmp_path / "m.h5", weights=True).model
    assert loaded.layers[0].dtype_policy.name == policy
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_operations_with_a_dtype_in_hdf5_files(tmp_path):
    x = keras.Input((4,))
    h = keras.ops.cast(keras.ops.relu(layers.Dense(8, dtype="bfloat16")(x)), "float32")
    model = keras.Model(x, layers.Dense(1)(h))
    model.save(tmp_path / "m.h5")
    loaded = load_model_file(tmp_path / "m.h5", weights=True)
    assert dict(loaded.unreadable) == {}
    data = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(loaded.model(data), model(data))


def test_low_rank_updates_are_in_the_file(tmp_path):
    model = filled(convertible)
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign(np.ones((2, 8)))
    model.save(tmp_path / "m.keras")
    expected, report = (keras2gp.inspect(m, "weights") for m in (model, tmp_path / "m.keras"))
    assert report.exact
    assert report.parameters == expected.parameters


def test_kernels_are_those_of_the_model(tmp_path):
    model = filled(convertible)
    files = write_h5(tmp_path / "m.h5", model), write_keras(tmp_path / "m.keras", model)
    for prior in ("initializers", "weights"):
        expected = keras2gp.inspect(model, prior)
        assert expected.exact
        for path in files:
            report = keras2gp.inspect(path, prior)
            assert report.parameters == expected.parameters
            assert [row.became for row in report.rows] == [row.became for row in expected.rows]
