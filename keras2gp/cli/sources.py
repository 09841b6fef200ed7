"""The sources of a command: the model that MODEL names, its input shape, and the data.

Nothing is read here: a source that cannot be there is refused before anything heavy is imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras2gp._util.paths import expanded, missing, suffix_of
from keras2gp._util.text import did_you_mean
from keras2gp.cli.arguments import DATA_SOURCES, ZOO_NAMES
from keras2gp.cli.exit_codes import UsageError
from keras2gp.errors import DataError, ModelFileError
from keras2gp.modelfile.directories import CONFIG, no_model_in

__all__ = ["NamedModel", "check_data", "model_source", "stated_shape"]

_MODEL_SUFFIXES = (".h5", ".hdf5", ".json", ".keras")


@dataclass(frozen=True)
class NamedModel:
    """The model that MODEL names: a "file" (.keras, .h5, .json), "zoo" or a saved "kernel"."""

    kind: str
    name: str


def stated_shape(stated: Sequence[tuple[str, tuple[int, ...]]] | None, *, zoo: bool) -> Any:
    """The value of `input_shape` that options state: a shape, a list, or a dict by input name."""
    if stated is None:
        return None
    names, shapes = zip(*stated, strict=True)
    if zoo and (len(shapes) > 1 or any(names) or len(shapes[0]) != 3):
        raise UsageError("--input-shape: a network of the zoo takes one, height,width,channels")
    if any(names) and (not all(names) or len(set(names)) < len(names)):
        raise UsageError("--input-shape: expected NAME= before each of them, a name once")
    if any(names):
        return dict(zip(names, shapes, strict=True))
    return shapes[0] if len(shapes) == 1 else list(shapes)


def model_source(text: str, *, kernels: bool) -> NamedModel:
    """The model that MODEL names. Raises: UsageError; ModelFileError if there is no such file."""
    if text.startswith("zoo:"):
        name = text.removeprefix("zoo:")
        if name not in ZOO_NAMES:
            names = ", ".join(f"zoo:{entry}" for entry in ZOO_NAMES)
            hint = did_you_mean(name, ZOO_NAMES, before="zoo:")
            raise UsageError(f"{text!r}: no network of the zoo; there are {names}.{hint}")
        return NamedModel("zoo", name)
    path = Path(text)
    if path.is_dir():
        if kernels and (path / "kernel.json").is_file():
            return NamedModel("kernel", text)
        if (path / CONFIG).exists():
            return NamedModel("file", text)
        raise ModelFileError(f"{path}: {no_model_in(path)}")
    if not path.is_file():
        if path.exists():
            raise ModelFileError(f"{text}: is no regular file")
        raise ModelFileError(missing(path, "no such file or directory"))
    if suffix_of(path) not in _MODEL_SUFFIXES:
        raise ModelFileError(
            f"{text}: models are read from .keras, .h5 and .hdf5 files, and from the .json of "
            "model.to_json()"
        )
    return NamedModel("file", text)


def check_data(options: argparse.Namespace) -> None:
    """Whether the data can be there at all, and --download and --target are for a part of it.

    Raises: DataError; UsageError.
    """
    sources = [s for s in (options.data, getattr(options, "ood", None)) if s is not None]
    for source in sources:
        _check_source(source)
    named = ", ".join(sources) or "no --data"
    if options.download and not any(source.startswith("tfds:") for source in sources):
        raise UsageError(f"--download is for tfds:NAME, and there is {named}. Try: without it")
    if options.target is not None and not any(suffix_of(source) == ".csv" for source in sources):
        raise UsageError(
            f"--target {options.target} is for a .csv file, and there is {named}. Try: without it"
        )


def _check_source(source: str) -> None:
    """Whether a data source can be there at all. Raises: DataError."""
    if source == "sample" or (source.startswith("tfds:") and source != "tfds:"):
        return
    path = expanded(source)
    if path.is_dir() or (path.is_file() and suffix_of(path) in (".npz", ".npy", ".csv")):
        return
    if path.is_file():
        problem = f"{source}: is no .npz, .npy or .csv file"
    elif hint := did_you_mean(source, ("sample", "tfds:")):
        problem = f"{source}: no such file or folder.{hint}"
    else:
        problem = missing(path, "no such file or folder")
        if source.isidentifier() and not problem.endswith("?"):
            problem += f". Did you mean tfds:{source}?"
    stop = "" if problem.endswith("?") else "."
    raise DataError(f"{problem}{stop} Expected {DATA_SOURCES}")
