"""A fitted model on disk: DIR/kernel, DIR/head, and DIR/fit.json, which says what it was fitted to.

A directory is written under another name and takes its place as a whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras2gp.errors import ModelFileError

__all__ = ["RECORD", "FitRecord", "data_digest", "identity", "read_record", "staged_directory"]

RECORD = "fit.json"
_FORMAT = 1
_LARGEST = 2**24


@dataclass(frozen=True)
class FitRecord:
    """What a model was fitted to.

    task:    "classification" or "regression"
    model:   the argument MODEL
    source:  the data as it was asked for; `identity` is the same for another path of the same file
    rows:    the first that many rows of the source's training data
    sha256:  of those rows, images and labels
    """

    task: str
    model: str
    source: str
    identity: str
    rows: int
    sha256: str

    def write(self, directory: Path) -> None:
        """Write DIR/fit.json."""
        text = json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)
        (directory / RECORD).write_text(text + "\n", encoding="utf-8")


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
        if path.stat().st_size > _LARGEST:
            raise ModelFileError(f"{path} is damaged: it is larger than any that is written")
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != _FORMAT:
            raise ModelFileError(f"{path} is of another version of keras2gp: fit again")
        record = FitRecord(**data)
        kinds = {"rows": int}
        wrong = [k for k, v in asdict(record).items() if type(v) is not kinds.get(k, str)]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if wrong or record.task not in ("classification", "regression"):
        raise ModelFileError(f"{path} is damaged: {', '.join(wrong) or 'task'}")
    return record


def identity(source: str) -> str:
    """One name for one data source: paths resolved, others as they are."""
    if source == "sample" or source.startswith("tfds:"):
        return source
    return str(Path(source).expanduser().resolve())


def data_digest(*arrays: Any) -> str:
    """SHA-256 of arrays: types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """A new directory that becomes `target` when the block ends well, and vanishes otherwise.

    What `target` held is there until then, and gone after.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}-"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as temporary:
        staged, old = Path(temporary) / "new", Path(temporary) / "old"
        staged.mkdir()
        yield staged
        if target.exists():
            target.rename(old)
        try:
            staged.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
