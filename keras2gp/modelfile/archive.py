"""Bounded reads of the members of .keras archives, where nothing is built, imported or run."""

from __future__ import annotations

import io
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from keras2gp._util.keras_objects import KerasModel
from keras2gp.errors import ModelFileError, StoreError, one_line

__all__ = ["copy_member", "member_of", "member_size", "printable", "save_archive", "too_large"]

_CHUNK = 2**20
_YEARS = 1980, 2107
"""Years that a zip archive can state of its members."""

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


def save_archive(model: KerasModel, path: Path) -> None:
    """Save a Keras model as a .keras archive.

    Raises:
        StoreError: the clock is at a year that a zip archive cannot state.
        OSError: the file cannot be written.
    """
    year = time.localtime(time.time()).tm_year
    if not _YEARS[0] <= year <= _YEARS[1]:
        raise StoreError(
            f"a .keras file cannot be written: the clock of this machine is in the year {year}, "
            f"and such a file states one from {_YEARS[0]} to {_YEARS[1]}. Try: set the clock"
        )
    model.save(path)


def printable(text: object, limit: int = 80) -> str:
    """Text out of a file as one line of at most `limit` characters, without control characters."""
    shown = one_line(str(text)[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def member_size(path: Path, name: str) -> int:
    """Uncompressed bytes that a zip archive declares for a member; 0 if it has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(m.file_size for m in archive.infolist() if m.filename == name)
    except _ZIP_ERRORS:
        return 0


def member_of(path: Path, name: str, limit: int) -> bytes:
    """One member of a zip archive. See `copy_member`."""
    stream = io.BytesIO()
    copy_member(path, name, limit, stream)
    return stream.getvalue()


def copy_member(path: Path, name: str, limit: int, target: BinaryIO) -> None:
    """Decompress one member of a zip archive, never more than `limit` bytes of it.

    Args:
        path: the archive.
        name: the member's name.
        limit: most uncompressed bytes, declared and actual.
        target: where they are written.

    Raises:
        ModelFileError: the archive is damaged, or the member missing, doubled or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            count = archive.namelist().count(name)
            if count == 0:
                raise ModelFileError(f"{path}: holds no {name}: not a model that Keras saved")
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
                raise too_large(path, name, limit)
            written = 0
            with archive.open(member) as source:
                while chunk := source.read(_CHUNK):
                    written += len(chunk)
                    if written > limit:
                        raise too_large(path, name, limit)
                    target.write(chunk)
    except _ZIP_ERRORS as error:
        raise ModelFileError(
            f"{path}: truncated or damaged ({printable(error, 200)}); copy or save it again"
        ) from error


def too_large(path: Path, name: str, limit: int) -> ModelFileError:
    """The refusal of a part of a model file."""
    return ModelFileError(
        f"{path}: its {name} is larger than {limit / 2**20:.0f} MB, more than this model can need"
    )
