"""Small models and files for the tests of loading."""

import json
import zipfile

import keras
from keras import layers

from keras2gp.modelfile.loading import load_model_file


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pack(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


def sequential():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(2, activation=layers.LeakyReLU(0.1), kernel_regularizer="l2"),
        ],
        name="digits",
    )


def base():
    """The configuration of Input, Dense, operation."""
    inputs = keras.Input((3,), name="in")
    x = layers.Dense(3, activation="relu", name="victim")(inputs)
    return json.loads(keras.Model(inputs, x + 1.0, name="top").to_json())


def load_config(tmp_path, config):
    return load_model_file(write(tmp_path / "m.json", json.dumps(config)), weights=False)
