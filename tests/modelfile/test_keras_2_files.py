"""Files that Keras 2 wrote, and quantised models: one reason, and a way that ends."""

import json
import re

import keras
import pytest
from keras import layers
from model_files import pack, sequential, write

from keras2gp.errors import ModelFileError
from keras2gp.modelfile.loading import load_model_file


def keras_2(kind, module):
    """The configuration that Keras 2.15 writes: no modules in JSON, others in archives."""
    dense = {
        "class_name": "Dense",
        "config": {"name": "a", "units": 2, "batch_input_shape": [None, 3]},
    }
    start = {"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": [None, 3]}}
    config = {"name": "m", "layers": [start, dense]}
    if kind == "Functional":
        start |= {"name": "i", "inbound_nodes": []}
        dense |= {"name": "a", "inbound_nodes": [[["i", 0, 0, {}]]]}
        config |= {"input_layers": [["i", 0, 0]], "output_layers": [["a", 0, 0]]}
    for layer in (start, dense) if module else ():
        layer["module"] = "keras.layers"
    return {"class_name": kind, "config": config, **({"module": module} if module else {})}


@pytest.mark.parametrize("kind", ["Sequential", "Functional"])
def test_files_of_keras_2_have_one_reason_and_a_way_that_ends(tmp_path, kind):
    text = write(tmp_path / "m.json", json.dumps(keras_2(kind, None) | {"keras_version": "2.15.0"}))
    module = "keras" if kind == "Sequential" else "keras.src.engine.functional"
    archive = pack(tmp_path / "m.keras", {
        "config.json": json.dumps(keras_2(kind, module)),
        "metadata.json": json.dumps({"keras_version": "2.15.0"}),
    })  # fmt: skip
    for path, step in ((text, "model_from_json(open('m.json')"), (archive, "load_model('m.keras'")):
        with pytest.raises(ModelFileError) as caught:
            load_model_file(path, weights=False)
        message = str(caught.value)
        assert "was written by Keras 2.15.0" in message
        assert f"tf_keras.models.{step}" in message
        assert "keras.saving.load_model('NAME.h5', compile=False).save('NAME.keras')" in message
        assert "\n" not in message


def test_the_way_from_hdf5(tmp_path, monkeypatch):
    """The remedy in the message is followed to its end."""
    monkeypatch.chdir(tmp_path)
    sequential().save("m.h5")
    with pytest.raises(ModelFileError) as caught:
        load_model_file("m.h5", weights=False)
    (step,) = re.findall(
        r"keras\.saving\.\S+ compile=False\)\.save\('NAME\.keras'\)", str(caught.value)
    )
    eval(step, {"keras": keras})  # noqa: S307 (the text above)
    assert load_model_file("NAME.keras", weights=True).model.built
    sequential().save_weights("w.weights.h5")
    with pytest.raises(ModelFileError, match="weights only"):
        load_model_file("w.weights.h5", weights=False)


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantised_models_are_told_apart(tmp_path, mode):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="hidden"), layers.Dense(1)])
    model.quantize(mode)
    model.save(tmp_path / "m.keras")
    obstacle = load_model_file(tmp_path / "m.keras", weights=False).unreadable["hidden"]
    assert "quantised" in obstacle.why
    assert "before model.quantize()" in obstacle.hint
