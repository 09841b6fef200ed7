"""Bounded reads of .keras archives and .json files; nothing is built, imported or run here."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from keras2gp._util.files import require_disk
from keras2gp._util.memory import require_memory
from keras2gp.errors import ModelFileError, one_line

__all__ = [
    "CONFIG_LIMIT",
    "advice_for_keras_2",
    "extracted_weights",
    "printable",
    "read_config",
    "weights_size",
]

CONFIG_LIMIT = 64 * 2**20
_BYTES_PER_VALUE = 250
"""Memory that a JSON value and its copies take, at most: a list of one number in a list."""
_CHUNK = 2**20
_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"
_METADATA_LIMIT = 2**16
_MOST_HDF5_OBJECTS = 1_000_000

# Errors that zipfile raises for damaged archives; RuntimeError stands for an encrypted member.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def printable(text: object, limit: int = 80) -> str:
    """Text out of a file as one line of at most `limit` characters, without control characters."""
    shown = one_line(str(text)[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def read_config(path: Path) -> tuple[dict[str, Any], str | None]:
    """Read the configuration of a model from a .keras archive or a .json file.

    Returns:
        The parsed JSON object, of at most 64 MB of text; and the version of Keras that the file
        states, if any.

    Raises:
        ModelFileError: the file is missing, of another kind, damaged, or holds no object.
    """
    _check_kind(path)
    is_archive = path.suffix.lower() != ".json"
    data = _member(path, _CONFIG, CONFIG_LIMIT) if is_archive else _json_bytes(path)
    values = 1 + sum(map(data.count, (b",", b"[", b"{")))
    require_memory(
        values * _BYTES_PER_VALUE,
        f"{path}: its configuration of {values} values",
        "a machine with more memory, or a smaller model",
        ModelFileError,
    )
    try:
        config = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = printable(error, 200)
        raise ModelFileError(f"{path}: its configuration is not valid JSON: {reason}") from error
    if not isinstance(config, dict):
        raise ModelFileError(
            f"{path}: its configuration is a {type(config).__name__}, not an object; write the "
            "text of model.to_json() as it is, or use model.save()"
        )
    metadata = config
    if is_archive:
        with contextlib.suppress(ModelFileError, ValueError, RecursionError):
            metadata = json.loads(_member(path, _METADATA, _METADATA_LIMIT))
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return config, printable(version, 20) if isinstance(version, str) else None


def advice_for_keras_2(path: Path, config: dict[str, Any], version: str | None) -> str | None:
    """The reason and the remedy for a file that Keras 2 wrote; None for any other file."""
    module = str(config.get("module"))
    old_text = "module" not in config and config.get("class_name") in _KERAS_2_MODELS
    if not ((version or "").startswith(("1.", "2.")) or ".engine" in module or old_text):
        return None
    loaded = "load_model({!r}, compile=False)" if zipfile.is_zipfile(path) else _FROM_JSON
    return (
        f"{path}: was written by Keras {version or '2 or older'}, and this package reads files of "
        f"Keras 3. Try: with Keras 2 (python -m pip install tf_keras) tf_keras.models."
        f"{loaded.format(path.name)}.save('NAME.h5'), and then {_THEN_KERAS_3}"
    )


_KERAS_2_MODELS = ("Sequential", "Functional", "Model")
_FROM_JSON = "model_from_json(open({!r}).read())"
_THEN_KERAS_3 = (
    "with Keras 3 keras.saving.load_model('NAME.h5', compile=False).save('NAME.keras'). Or build "
    "the model anew with the layers of Keras 3"
)


def weights_size(path: Path) -> int:
    """Bytes of uncompressed weights that a .keras archive declares; 0 if it has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(m.file_size for m in archive.infolist() if m.filename == _WEIGHTS)
    except _ZIP_ERRORS:
        return 0


@contextlib.contextmanager
def extracted_weights(path: Path, limit: int) -> Iterator[Path]:
    """Yield the weights of a .keras archive as an HDF5 file in a temporary directory.

    Args:
        path: the archive.
        limit: most bytes of uncompressed weights, declared and actual.

    Raises:
        ModelFileError: there are no weights, or they are damaged, larger than the limit, or refer
            to anything outside of the file.
    """
    with tempfile.TemporaryDirectory(prefix="keras2gp-") as directory:
        target = Path(directory) / _WEIGHTS
        require_disk(target, min(weights_size(path), limit), f"{path}: its weights")
        with target.open("wb") as stream:
            _copy_member(path, _WEIGHTS, limit, stream)
        _check_hdf5(path, target, limit)
        yield target


def _check_kind(path: Path) -> None:
    """Refuse a path that is no .keras archive or .json file, with a remedy for each kind."""
    try:
        exists, is_directory, is_file = path.exists(), path.is_dir(), path.is_file()
    except OSError as error:  # a name that is too long
        raise ModelFileError(f"{printable(path)}: {error.strerror or error}") from error
    if not exists:
        raise ModelFileError(f"{path}: no such file")
    if is_directory and (path / "saved_model.pb").exists():
        raise ModelFileError(
            f"{path}: is a SavedModel, which holds no layers. Try: model.save('NAME.keras') where "
            "the model was built. If Keras 2 wrote it: with Keras 2 (python -m pip install "
            f"tf_keras) tf_keras.models.load_model({path.name!r}, compile=False)"
            f".save('NAME.h5'), and then {_THEN_KERAS_3}"
        )
    if is_directory:
        raise ModelFileError(f"{path}: is a directory; a model is read from a .keras or .json file")
    if not is_file:
        raise ModelFileError(f"{path}: is not a regular file")
    if path.suffix.lower() in (".h5", ".hdf5"):
        raise _hdf5_refused(path, path.name)
    if path.suffix.lower() not in (".keras", ".json"):
        raise ModelFileError(f"{path}: a model is read from a .keras or .json file")


def _hdf5_refused(path: Path, name: str) -> ModelFileError:
    """The refusal of an HDF5 file. name: the name under which Keras 3 reads it."""
    try:
        with h5py.File(path, "r") as file:
            has_model = "model_config" in file.attrs
    except (OSError, RuntimeError, KeyError, TypeError, ValueError):
        has_model = True
    if not has_model:
        return ModelFileError(
            f"{path}: is an HDF5 file that holds weights only, and no model. Try: build the model "
            "with Keras 3, load the weights into it, and hand over the model itself"
        )
    renamed = "" if path.name == name else f"copy it to {name!r}, and "
    advice = _THEN_KERAS_3.replace("'NAME.h5'", repr(name))
    return ModelFileError(f"{path}: is in the HDF5 format of Keras 2. Try: {renamed}{advice}")


def _json_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(CONFIG_LIMIT + 1)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > CONFIG_LIMIT:
        raise ModelFileError(f"{path}: larger than {CONFIG_LIMIT >> 20} MB: no model's to_json()")
    return data


def _member(path: Path, name: str, limit: int) -> bytes:
    stream = io.BytesIO()
    _copy_member(path, name, limit, stream)
    return stream.getvalue()


def _copy_member(path: Path, name: str, limit: int, target: BinaryIO) -> None:
    """Decompress one member of a zip archive, never more than `limit` bytes of it."""
    try:
        _check_magic(path)
        with zipfile.ZipFile(path) as archive:
            count = archive.namelist().count(name)
            if count == 0:
                raise ModelFileError(f"{path}: holds no {name}: not a model that Keras 3 saved")
            if count > 1:
                raise ModelFileError(
                    f"{path}: holds {count} members called {name}, of which readers take different "
                    "ones; save it again with model.save('NAME.keras')"
                )
            member = archive.getinfo(name)
            # zipfile bounds the size of an inflated chunk for these two methods only.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ModelFileError(f"{path}: its {name} is compressed in a way Keras never uses")
            if member.file_size > limit:
                raise _too_large(path, name, limit)
            written = 0
            with archive.open(member) as source:
                while chunk := source.read(_CHUNK):
                    written += len(chunk)
                    if written > limit:
                        raise _too_large(path, name, limit)
                    target.write(chunk)
    except _ZIP_ERRORS as error:
        raise ModelFileError(
            f"{path}: truncated or damaged ({printable(error, 200)}); copy or save it again"
        ) from error


def _too_large(path: Path, name: str, limit: int) -> ModelFileError:
    return ModelFileError(
        f"{path}: its {name} is larger than {limit / 2**20:.0f} MB, more than this model can need"
    )


def _check_magic(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(b"\x89HDF"):
        raise _hdf5_refused(path, f"{path.stem}.h5")
    if not head.startswith(b"PK"):
        kind = "is empty" if not head else "is not a zip archive, as .keras files are"
        raise ModelFileError(f"{path}: {kind}; save it again with model.save('NAME.keras')")


def _check_hdf5(path: Path, weights: Path, limit: int) -> None:
    """Refuse an HDF5 file that is damaged, declares more than `limit` bytes, or points outside."""
    try:
        with h5py.File(weights, "r") as file:
            fault = _hdf5_fault(file, limit)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path}: its {_WEIGHTS} is damaged ({printable(error, 200)}); save it again"
        ) from error
    if fault is not None:
        raise ModelFileError(f"{path}: its {_WEIGHTS} {fault}, which Keras never writes")


def _hdf5_fault(file: h5py.File, limit: int) -> str | None:
    """The first fault on a walk over all links of an HDF5 file, or None."""
    groups, seen, declared = [file], set(), 0
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                return f"holds a link to another place ({printable(name)})"
            item = group[name]
            # Hard links may form loops: an object is visited once.
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MOST_HDF5_OBJECTS:
                return f"holds more than {_MOST_HDF5_OBJECTS} objects"
            if isinstance(item, h5py.Group):
                groups.append(item)
                continue
            if not isinstance(item, h5py.Dataset) or item.dtype.hasobject:
                return f"holds something else than numbers ({printable(name)})"
            if item.external or item.is_virtual:
                return f"keeps its numbers in another file ({printable(name)})"
            declared += item.nbytes
            if declared > limit:
                return f"declares more than {limit / 2**20:.0f} MB"
    return None
