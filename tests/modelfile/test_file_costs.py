"""Small model files that ask for much: memory and time are compared with what the file holds."""

import copy
import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers
from model_files import load_config, pack, sequential, write

from keras2gp._util import memory
from keras2gp.errors import ModelFileError
from keras2gp.modelfile import screening
from keras2gp.modelfile.loading import load_model_file


def grown(tmp_path, units, suffix=".json"):
    """A model whose last layer has so many units, but not their weights."""
    model = sequential()
    model.save(tmp_path / "small.keras")
    config = json.loads(model.to_json())
    config["config"]["layers"][-1]["config"]["units"] = units
    if suffix == ".json":
        return write(tmp_path / "m.json", json.dumps(config))
    with zipfile.ZipFile(tmp_path / "small.keras") as source:
        weights = source.read("model.weights.h5")
    members = {"config.json": json.dumps(config), "model.weights.h5": weights}
    return pack(tmp_path / "m.keras", members)


@pytest.mark.parametrize("suffix", [".json", ".keras"])
def test_weights_that_no_prior_needs_are_not_drawn(tmp_path, suffix):
    model = load_model_file(grown(tmp_path, 10**12, suffix), weights=False).model
    assert model.layers[-1].kernel.shape[-1] == 10**12
    small = [v for v in model.variables if v.shape[-1] != 10**12]
    assert all(np.isfinite(v.numpy()).all() for v in small)
    # Nothing of it is left behind for the next model.
    write(tmp_path / "m.json", sequential().to_json())
    assert load_model_file(tmp_path / "m.json", weights=False).model.built
    assert keras.layers.Dense(2)(np.ones((1, 3))).shape == (1, 2)


def test_weights_that_the_file_does_not_hold_are_not_allocated(tmp_path):
    with pytest.raises(ModelFileError, match=r"do not fit the model: it has .* TiB of weights"):
        load_model_file(grown(tmp_path, 10**12, ".keras"), weights=True)


def test_weights_beyond_the_memory(tmp_path, monkeypatch):
    keras.Sequential([keras.Input((300,)), layers.Dense(300)]).save(tmp_path / "m.keras")
    assert load_model_file(tmp_path / "m.keras", weights=True).model.built
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 10**6)
    assert load_model_file(tmp_path / "m.keras", weights=False).model.built
    with pytest.raises(ModelFileError, match=r"needs .* of memory"):
        load_model_file(tmp_path / "m.keras", weights=True)


def nested_calls(depth):
    """A model of models, each of which calls the one inside it twice."""
    x = keras.Input((3,))
    inner = keras.Model(x, layers.Dense(3)(x), name="inner")
    template = json.loads(keras.Model(x, inner(inner(x)), name="outer").to_json())
    config = template
    for _ in range(depth - 1):
        outer = copy.deepcopy(template)
        (nested,) = [v for v in outer["config"]["layers"] if v["config"]["name"] == "inner"]
        nested["config"] = {**config["config"], "name": "inner"}
        config = outer
    return config


def test_a_model_that_calls_itself_a_billion_times(tmp_path):
    """The file grows by some lines where the network doubles."""
    assert load_config(tmp_path, nested_calls(3)).model.built
    with pytest.raises(ModelFileError, match="calls of layers, models within models multiplied"):
        load_config(tmp_path, nested_calls(18))


@pytest.mark.parametrize("name", ["split", "unstack"])
def test_operations_of_countless_results_are_obstacles(tmp_path, name):
    x = keras.Input((77,))
    parts = keras.ops.split(x, 77, axis=1) if name == "split" else keras.ops.unstack(x, axis=1)
    text = keras.Model(x, parts[0]).to_json()
    assert not load_config(tmp_path, json.loads(text)).unreadable
    loaded = load_config(tmp_path, json.loads(text.replace("77", "100000000")))
    (obstacle,) = loaded.unreadable.values()
    assert "into 100000000" in obstacle.received


def test_the_bound_on_calls_is_above_every_model_of_keras():
    largest = 1_500  # NASNetLarge
    assert 10 * largest < screening._MOST_CALLS
