"""Reading model files: round trips, what is shared or adapted, models that are not complete."""

import json
import sys

import keras
import numpy as np
import pytest
from keras import layers
from model_files import base, load_config, sequential, write

from keras2gp.errors import ModelFileError, PriorError
from keras2gp.modelfile.loading import load_model_file


def operations():
    x = inputs = keras.Input((6, 6, 2))
    x = keras.ops.erf(x + 1.0) * np.linspace(0, 1, 2) + keras.ops.relu(x)
    x = keras.ops.reshape(x[..., :1], (-1, 36))
    x = x - keras.ops.mean(x, axis=-1, keepdims=True)
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(x))


def nested():
    core = keras.Sequential([keras.Input((4,)), layers.Dense(4, "tanh")], name="core")
    a, b = keras.Input((4,)), keras.Input((4,))
    middle = keras.Model([a, b], core(a) + core(b), name="middle")
    c, d = keras.Input((4,)), keras.Input((4,))
    x = middle([middle([c, d]), d])
    return keras.Model([c, d], {"sum": x, "head": layers.Dense(1)(x)}, name="outer")


def same_activation():
    bend = layers.LeakyReLU(0.3)
    stack = [layers.Dense(3, activation=bend), layers.Dense(3, activation=bend), bend]
    return keras.Sequential([keras.Input((4,)), keras.Sequential(stack)])


def wrapped():
    x = inputs = keras.Input((5, 4))
    x = layers.TimeDistributed(layers.Dense(3))(x)
    x = layers.SpectralNormalization(layers.Conv1D(2, 2))(x)
    return keras.Model(inputs, layers.Bidirectional(layers.LSTM(2))(x))


def data_for(model):
    draw = np.random.default_rng(0)
    return [draw.normal(size=(2, *t.shape[1:])).astype("float32") for t in model.inputs]


def outputs(model):
    return [np.asarray(y) for y in keras.tree.flatten(model(data_for(model)))]


MODELS = [sequential, operations, nested, same_activation, wrapped]


def randomise(model):
    draw = np.random.default_rng(1)
    model.set_weights([draw.uniform(0.1, 1, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("build", MODELS)
def test_round_trip_with_weights(build, tmp_path):
    model = build()
    model.compile("adam", "mse")
    randomise(model).save(tmp_path / "m.keras")
    loaded = load_model_file(tmp_path / "m.keras", weights=True)
    assert dict(loaded.unreadable) == {}
    assert loaded.name == model.name == loaded.model.name
    assert not loaded.model.compiled
    for ours, theirs in zip(outputs(loaded.model), outputs(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("build", MODELS)
def test_round_trip_without_weights(build, tmp_path):
    model = randomise(build())
    model.save(tmp_path / "m.keras")
    (tmp_path / "m.json").write_text(model.to_json())
    for name in ("m.keras", "m.json"):
        loaded = load_model_file(str(tmp_path / name), weights=False)
        assert dict(loaded.unreadable) == {}
        ours, theirs = (m.get_config()["layers"] for m in (loaded.model, model))
        assert [w.shape for w in loaded.model.weights] == [w.shape for w in model.weights]
        assert [x["config"]["name"] for x in ours] == [x["config"]["name"] for x in theirs]
        assert not any(
            np.array_equal(a, b)
            for a, b in zip(loaded.model.get_weights(), model.get_weights(), strict=True)
            if a.ndim > 1
        )


def shared_layer():
    dense = layers.Dense(3, name="shared")
    one = keras.Sequential([keras.Input((3,)), dense], name="one")
    two = keras.Sequential([keras.Input((3,)), dense, layers.ReLU()], name="two")
    x = keras.Input((3,))
    return keras.Model(x, two(one(x)))


def shared_model():
    core = keras.Sequential([keras.Input((4,)), layers.Dense(4, "tanh")], name="core")
    a = keras.Input((4,))
    middle = keras.Model(a, core(a), name="middle")
    x = keras.Input((4,))
    return keras.Model(x, core(middle(x)), name="outer")


@pytest.mark.parametrize(("build", "path"), [(shared_layer, "two/shared"), (shared_model, "core")])
def test_weights_shared_by_two_models_are_an_obstacle(tmp_path, build, path):
    build().save(tmp_path / "m.keras")
    unreadable = load_model_file(tmp_path / "m.keras", weights=False).unreadable
    assert list(unreadable) == [path]
    assert "shared by two models" in unreadable[path].why


def test_initializers_draw_values_of_their_own(tmp_path):
    sequential().save(tmp_path / "m.keras")
    kernel = load_model_file(tmp_path / "m.keras", weights=False).model.layers[1].kernel
    assert 0.01 < float(keras.ops.std(kernel)) < 1.0


def normalised():
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(2).uniform(5, 9, (50, 3)))
    inner = keras.Sequential([keras.Input((3,)), normalization], name="inner")
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(2)(inner(x)))


def test_adapted_normalization_gets_its_statistics_also_without_weights(tmp_path):
    model = randomise_dense(normalised())
    model.save(tmp_path / "m.keras")
    loaded = load_model_file(tmp_path / "m.keras", weights=False).model
    ours, theirs = (m.get_layer("inner").layers[0] for m in (loaded, model))
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    np.testing.assert_array_equal(ours.variance, theirs.variance)
    assert np.abs(loaded.get_weights()[-2] - model.get_weights()[-2]).min() > 1.0


def randomise_dense(model):
    model.layers[-1].set_weights([np.full((3, 2), 100.0), np.zeros(2)])
    return model


def test_adapted_normalization_is_an_obstacle_in_json(tmp_path):
    (tmp_path / "m.json").write_text(normalised().to_json())
    loaded = load_model_file(tmp_path / "m.json", weights=False)
    (path,) = loaded.unreadable
    assert path.startswith("inner/normalization")
    assert "mean=" in loaded.unreadable[path].hint
    assert loaded.model is not None


def test_json_holds_no_weights(tmp_path):
    with pytest.raises(PriorError, match="holds no trained weights"):
        load_model_file(write(tmp_path / "m.json", sequential().to_json()), weights=True)


class Twice(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def test_unbuilt_and_empty_models(tmp_path):
    unbuilt = keras.Sequential([layers.Dense(2), layers.Dense(3)], name="loose")
    path = write(tmp_path / "m.json", unbuilt.to_json())
    with pytest.raises(ModelFileError, match=r"no input shape.*keras\.Input"):
        load_model_file(path, weights=False)
    unbuilt.add(Twice(name="twice"))
    loaded = load_model_file(write(path, unbuilt.to_json()), weights=False)
    assert loaded.model is None
    assert set(loaded.unreadable) == {"twice", "loose"}
    with pytest.raises(ModelFileError, match="no layers"):
        load_model_file(write(path, keras.Sequential().to_json()), weights=False)


def test_a_sequential_model_built_by_a_call(tmp_path):
    model = keras.Sequential([layers.Dense(2)])
    model(np.zeros((1, 3)))
    model.save(tmp_path / "m.keras")
    assert load_model_file(tmp_path / "m.keras", weights=True).model.input_shape == (1, 3)


def test_what_keras_cannot_build_has_a_short_reason(tmp_path):
    config = base()
    config["config"]["layers"][1]["config"]["units"] = -3
    with pytest.raises(ModelFileError, match=r"m\.json: Keras cannot build it: .*units") as caught:
        load_config(tmp_path, config)
    assert len(str(caught.value)) < 600


def test_a_sequential_model_of_many_layers_is_built_once(tmp_path, monkeypatch):
    """Keras builds it anew for every layer, and its recursion is deeper than Python's stack."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="first")])
    content = json.loads(model.to_json())
    start, dense = content["config"]["layers"]
    layers = [json.loads(json.dumps(dense)) for _ in range(1000)]
    for number, layer in enumerate(layers):
        layer["config"]["name"] = f"dense_{number}"
    layers[0]["build_config"]["input_shape"] = [None, 4]
    content["config"]["layers"] = [start, *layers]
    path = tmp_path / "deep.json"
    path.write_text(json.dumps(content))
    builds = []
    build = keras.Sequential.build
    monkeypatch.setattr(keras.Sequential, "build", lambda *a: builds.append(a) or build(*a))
    limit, reads = sys.getrecursionlimit(), keras.Sequential.from_config
    loaded = load_model_file(path, weights=False)
    assert len(loaded.model.layers) == 1000
    assert len(builds) == 1
    assert sys.getrecursionlimit() == limit
    assert keras.Sequential.from_config == reads
