"""Directories that hold no model: the names of their files say what they are, and how to go on."""

from __future__ import annotations

from pathlib import Path

from keras2gp._util.paths import suffix_of
from keras2gp.fit_record import RECORD

__all__ = ["COMPILED", "CONFIG", "FORMATS", "KEEP", "METADATA", "THERE", "WEIGHTS", "no_model_in"]

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
"""The files of an unzipped .keras file."""
FORMATS = "a .keras, .h5 or .json file, or the directory of an unzipped .keras file"
THERE = "in the Python program that builds the model, hand over the model itself, or"
KEEP = f"{THERE} model.save('NAME.keras')"
COMPILED = "holds compiled functions, and not the layers that they were made of"
_BY_KERAS_2 = (
    "with Keras 2 (python -m pip install tf_keras), tf_keras.models.load_model({!r}, compile=False)"
    ".save('NAME.h5'), which is read"
)
_SUFFIXES = (".h5", ".hdf5", ".keras")
_MOST = 1000
"""Names of a directory in which a model is looked for."""


def no_model_in(path: Path) -> str:
    """Why a directory is no model, and what to hand over in its place, as the end of a sentence.

    Args:
        path: a directory without a config.json.
    """
    if (path / RECORD).is_file():
        kernel = path / "kernel"
        hint = f"; or its kernel, {kernel}, for a command that takes kernels"
        return "is a fitted model, and no model to convert. Try: keras2gp.load in Python" + (
            hint if kernel.is_dir() else ""
        )
    if (path / "kernel.json").is_file():
        return (
            "is a kernel already, and no model to convert. Try: keras2gp.load in Python; or a "
            "command that takes kernels, as fit does"
        )
    if (path / "keras_metadata.pb").exists():
        return f"is a SavedModel of Keras 2, which {COMPILED}. Try: {_BY_KERAS_2.format(path.name)}"
    if (path / "saved_model.pb").exists():
        return f"is a SavedModel, which {COMPILED}. Try: {KEEP}"
    if (path / WEIGHTS).exists() or (path / METADATA).exists():
        return (
            f"is an unzipped .keras file without its {CONFIG}, which holds the layers. Try: the "
            ".keras file, or a directory with all of its files"
        )
    within = _model_within(path)
    hint = "" if within is None else f". Try: {within}"
    return f"is a directory without {CONFIG}; a model is read from {FORMATS}{hint}"


def _model_within(path: Path) -> Path | None:
    """A model in a directory: a file, or an unzipped one; None if there is none, or two."""
    try:
        entries = [entry for entry, _ in zip(path.iterdir(), range(_MOST), strict=False)]
        found = [
            entry
            for entry in entries
            if (entry.is_file() and suffix_of(entry) in _SUFFIXES) or (entry / CONFIG).is_file()
        ]
    except OSError:
        return None
    return found[0] if len(found) == 1 else None
