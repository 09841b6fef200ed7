"""DIR/fit.json, the record of the model and the data of a fit, beside DIR/kernel and DIR/head."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from keras2gp._util.digest import check_digest, with_digest
from keras2gp._util.files import read_if_regular, write_file
from keras2gp.errors import Keras2GPError, ModelFileError

__all__ = [
    "RECORD",
    "FitRecord",
    "data_digest",
    "expanded",
    "identity",
    "read_record",
    "real_path",
]

RECORD = "fit.json"
_FORMAT = 1
_LARGEST = 2**24


@dataclass(frozen=True)
class FitRecord:
    """The model and the data of a fit.

    task:     "classification" or "regression"
    model:    the argument MODEL
    source:   the argument D
    identity: one name of the data for all paths of the same file
    rows:     the number of training rows, the first of the source
    sha256:   of those rows, images and labels
    """

    task: str
    model: str
    source: str
    identity: str
    rows: int
    sha256: str

    def write(self, directory: Path) -> None:
        """Write DIR/fit.json, with its digest."""
        text = json.dumps(with_digest({"format": _FORMAT, **asdict(self)}), indent=1)
        write_file(directory / RECORD, text + "\n")


def read_record(directory: Path) -> FitRecord:
    """The record of a fitted model.

    Raises: ModelFileError if the directory holds none, or it is damaged.
    """
    path = directory / RECORD
    if not directory.is_dir():
        raise ModelFileError(f"{directory}: no such directory")
    if not path.is_file():
        hint = " It is a kernel: fit it first." if (directory / "kernel.json").is_file() else ""
        raise ModelFileError(f"{directory} holds no fitted model (no {RECORD}).{hint}")
    try:
        data = json.loads(read_if_regular(path, _LARGEST) or b"")
        if data["format"] != _FORMAT:
            raise ModelFileError(f"{path} is of another version of keras2gp: fit again")
        check_digest(data, str(path))
        names = [field.name for field in fields(FitRecord)]
        record = FitRecord(**{name: data[name] for name in names})
        kinds = {"rows": int}
        wrong = [k for k, v in asdict(record).items() if type(v) is not kinds.get(k, str)]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, Keras2GPError):
            raise
        raise ModelFileError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if wrong or record.task not in ("classification", "regression"):
        raise ModelFileError(f"{path} is damaged: {', '.join(wrong) or 'task'}")
    return record


def identity(source: str) -> str:
    """One name for all paths of a data source: the resolved path; other sources as they are."""
    if source == "sample" or source.startswith("tfds:"):
        return source
    return str(real_path(expanded(source)))


def expanded(text: str) -> Path:
    """A path as a shell would read it; Path.expanduser() raises where there is no such user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


def real_path(path: Path) -> Path:
    """A path without links; Path.resolve() raises where links go in a circle."""
    return Path(os.path.realpath(path))


def data_digest(*arrays: Any) -> str:
    """SHA-256 of arrays: types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
