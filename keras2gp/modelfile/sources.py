"""Sources of models: .keras archives, their directories, HDF5 files, JSON; or why it is none.

Nothing is built, imported or run here. Sizes are compared with limits before anything is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from keras2gp._util.memory import require_disk, require_memory
from keras2gp._util.paths import missing, suffix_of
from keras2gp._util.text import unique_object
from keras2gp.errors import ModelFileError
from keras2gp.modelfile.archive import copy_member, member_of, member_size, printable, too_large
from keras2gp.modelfile.directories import (
    COMPILED,
    CONFIG,
    FORMATS,
    KEEP,
    METADATA,
    THERE,
    WEIGHTS,
    no_model_in,
)
from keras2gp.modelfile.hdf5 import fault_of, opened, text_of

__all__ = [
    "CONFIG_LIMIT",
    "ModelSource",
    "bytes_of",
    "extracted_weights",
    "read_config",
    "source_of",
    "stated_input",
]

CONFIG_LIMIT = 64 * 2**20
_BYTES_PER_VALUE = 350
"""Memory that a JSON value and its copies take, at most: a list of one number in a list."""
_METADATA_LIMIT = 2**16

_COMPILED_SUFFIXES = (".tflite", ".onnx", ".pb", ".mlmodel", ".mlpackage", ".engine")


@dataclass(frozen=True)
class ModelSource:
    """A path that holds the configuration of a model.

    path: the file, or the directory
    kind: "archive" (.keras), "directory" (its unzipped content), "hdf5" (.h5) or "json"
    """

    path: Path
    kind: Literal["archive", "directory", "hdf5", "json"]

    @property
    def has_weights(self) -> bool:
        """Whether the format holds weights beside the configuration."""
        return self.kind != "json"

    def weights_size(self) -> int:
        """Bytes of weights that the file holds, or more; 0 if it has none."""
        if self.kind == "archive":
            return member_size(self.path, WEIGHTS)
        weights = self.path / WEIGHTS if self.kind == "directory" else self.path
        return weights.stat().st_size if weights.is_file() else 0


def source_of(path: Path) -> ModelSource:
    """Tell by its content what a path holds.

    Raises:
        ModelFileError: it holds no configuration of a model; the message says what it is and how to
            go on.
    """
    try:
        exists, is_directory, is_file = path.exists(), path.is_dir(), path.is_file()
    except OSError as error:  # a name that is too long
        raise ModelFileError(f"{printable(path)}: {error.strerror or error}") from error
    if not exists:
        raise ModelFileError(missing(path))
    if is_directory:
        if (path / CONFIG).exists():
            return ModelSource(path, "directory")
        raise ModelFileError(f"{path}: {no_model_in(path)}")
    if not is_file:
        raise ModelFileError(f"{path}: is not a regular file")
    with _reading(path) as stream:
        head = stream.read(8)
    suffix = suffix_of(path)
    if head.startswith(b"\x89HDF"):
        return ModelSource(path, "hdf5")
    if head.startswith(b"PK") and suffix in (".keras", ".h5", ".hdf5"):
        return ModelSource(path, "archive")
    if suffix == ".json":
        return ModelSource(path, "json")
    raise ModelFileError(f"{path}: {_no_model_of(suffix, head, path)}")


def _no_model_of(suffix: str, head: bytes, path: Path) -> str:
    """Why a file is no model."""
    if suffix in _COMPILED_SUFFIXES:
        return f"a {suffix} file {COMPILED}. Try: {KEEP}"
    if suffix not in (".keras", ".h5", ".hdf5"):
        return f"a model is read from {FORMATS}"
    if not head:
        return f"is empty; save it again with model.save({path.name!r})"
    kind = "a zip archive, as .keras files are" if suffix == ".keras" else "an HDF5 file"
    return f"is not {kind}; save it again with model.save({path.name!r})"


def read_config(source: ModelSource) -> tuple[dict[str, Any], str | None]:
    """Read the configuration of a model.

    Returns:
        The parsed JSON object, of at most 64 MB of text; and the version of Keras that the file
        states, if any.

    Raises:
        ModelFileError: the file is damaged, holds weights alone, or its configuration is no object.
    """
    path = source.path
    data, stated = _texts(source)
    values = 1 + sum(map(data.count, (b",", b"[", b"{")))
    require_memory(
        values * _BYTES_PER_VALUE,
        f"{path}: its configuration of {values} values",
        "a machine with more memory, or a smaller model",
        ModelFileError,
    )
    try:
        config = json.loads(data.decode("utf-8-sig"), object_pairs_hook=unique_object)
    except (ValueError, RecursionError) as error:
        reason = printable(error, 200)
        raise ModelFileError(f"{path}: its configuration is not valid JSON: {reason}") from error
    if not isinstance(config, dict):
        raise ModelFileError(
            f"{path}: its configuration is a {type(config).__name__}, not an object; write the "
            "text of model.to_json() as it is, or use model.save()"
        )
    if "weight_map" in config and "class_name" not in config:
        raise ModelFileError(f"{path}: is the index of weights, and holds no layers. Try: {KEEP}")
    version: Any = config.get("keras_version") if source.kind == "json" else stated
    version = printable(version, 20) if isinstance(version, str) else None
    if (version or "").startswith(("0.", "1.")):
        raise ModelFileError(
            f"{path}: was written by Keras {version}, whose layers are others. Try: load it with "
            "Keras 2 (python -m pip install tf_keras), save it as .h5, and hand over that file"
        )
    return config, version


def stated_input(path: Path) -> tuple[int | None, ...] | None:
    """The shape of one image of the model that a path holds, with None for a size that is open.

    None where it has several inputs, or one of words or integers; and where it does not say or is
    damaged, which its load explains.
    """
    try:
        layers = read_config(source_of(path))[0]["config"]["layers"]
        (entrance,) = [layer["config"] for layer in layers if layer["class_name"] == "InputLayer"]
        _, *shape = entrance.get("batch_shape", entrance.get("batch_input_shape"))
        known = all(n is None or (type(n) is int and n > 0) for n in shape)
        dense = not (entrance.get("sparse") or entrance.get("ragged"))
        numbers = str(entrance.get("dtype", "float32")).startswith("float")
        return tuple(shape) if known and dense and numbers else None
    except (ModelFileError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _texts(source: ModelSource) -> tuple[bytes, Any]:
    """The text of the configuration, and the version of Keras that stands beside it."""
    path = source.path
    if source.kind == "json":
        return bytes_of(path, CONFIG_LIMIT), None
    if source.kind == "hdf5":
        return _hdf5_texts(path)

    def part(name: str, limit: int) -> bytes:
        if source.kind == "archive":
            return member_of(path, name, limit)
        return bytes_of(path / name, limit, os.O_NOFOLLOW)  # a link may lead out of it

    metadata = None
    with contextlib.suppress(ModelFileError, ValueError, RecursionError):
        metadata = json.loads(part(METADATA, _METADATA_LIMIT))
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return part(CONFIG, CONFIG_LIMIT), version


def _hdf5_texts(path: Path) -> tuple[bytes, str | None]:
    with opened(path, f"{path}:") as file:
        try:
            config = text_of(file, "model_config", CONFIG_LIMIT)
            version = text_of(file, "keras_version", _METADATA_LIMIT)
        except ValueError as error:
            raise ModelFileError(f"{path}: {error}: no model that Keras saved") from error
    if config is None:
        load = f"model.load_weights({path.name!r})"
        raise ModelFileError(
            f"{path}: is an HDF5 file that holds weights only, and no model. Try: {THERE} after "
            f"{load} there, model.save('NAME.keras')"
        )
    return config, None if version is None else version.decode("utf-8", "replace")


@contextlib.contextmanager
def _reading(path: Path, flags: int = 0) -> Iterator[BinaryIO]:
    """Open a regular file. Raises: ModelFileError."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
        with os.fdopen(number, "rb") as stream:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise ModelFileError(f"{path}: is not a regular file")
            yield stream
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error


def bytes_of(path: Path, limit: int, flags: int = 0) -> bytes:
    """The content of a file, of at most `limit` bytes."""
    with _reading(path, flags) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ModelFileError(f"{path}: larger than {limit >> 20} MB: no model's to_json()")
    return data


@contextlib.contextmanager
def extracted_weights(source: ModelSource, limit: int) -> Iterator[Path]:
    """Yield the weights of an archive or its directory as an HDF5 file in a temporary directory.

    Args:
        source: a source of that kind.
        limit: most bytes of uncompressed weights, declared and actual.

    Raises:
        ModelFileError: there are no weights, or they are damaged, larger than the limit, or refer
            to anything outside of the file.
    """
    path = source.path
    with tempfile.TemporaryDirectory(prefix="keras2gp-") as directory:
        target = Path(directory) / WEIGHTS
        size = source.weights_size()
        if size > limit:
            raise too_large(path, WEIGHTS, limit)
        require_disk(target, size, f"{path}: its weights")
        with target.open("wb") as stream:
            if source.kind == "archive":
                copy_member(path, WEIGHTS, limit, stream)
            else:
                with _reading(path / WEIGHTS, os.O_NOFOLLOW) as weights:
                    shutil.copyfileobj(weights, stream)
        with opened(target, f"{path}: its {WEIGHTS}") as file:
            fault = fault_of(file, limit)
        if fault is not None:
            raise ModelFileError(f"{path}: its {WEIGHTS} {fault}, which Keras never writes")
        yield target
