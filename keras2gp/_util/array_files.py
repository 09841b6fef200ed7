"""Array files in .npy format, checked in full when they are read."""

from __future__ import annotations

import tokenize
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.files import Writer
from keras2gp._util.memory import require_memory
from keras2gp.errors import ModelFileError

__all__ = ["array_writer", "checksum", "read_array"]

# The exceptions of numpy for a file that is no array file, is cut short, or has a damaged header.
_DAMAGE = (EOFError, OSError, SyntaxError, tokenize.TokenError, TypeError, ValueError)


def array_writer(array: Array) -> Writer:
    """A writer of one array in .npy format, without pickle."""
    # Into a file numpy writes past Python, and does not say why a disk takes no more.
    return lambda handle: np.save(_Stream(handle), array, allow_pickle=False)


class _Stream:
    """A stream that numpy takes for no file."""

    def __init__(self, handle: BinaryIO) -> None:
        self.write = handle.write


def read_array(path: Path, dimensions: int, *, text: bool = False) -> Array:
    """Read one array of floating-point numbers, or of text, from a .npy file into memory.

    The file is mapped first: its length is compared with its header before anything is allocated,
    and an array of objects (a pickle) is never read.

    Args:
        path: the file.
        dimensions: the number of axes expected.
        text: whether it may be text.

    Raises:
        ModelFileError: the file is missing, is no .npy file, is cut short or too long, holds
            another kind of array, or holds values that are not finite.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ModelFileError(
                f"{path} is missing" if not path.exists() else f"{path} is no file"
            )
        mapped = np.lib.format.open_memmap(path, mode="r")
    except _DAMAGE as error:
        raise ModelFileError(f"{path} is damaged or no .npy file: {error}") from error
    if mapped.dtype.kind not in ("fU" if text else "f") or mapped.ndim != dimensions:
        raise ModelFileError(
            f"{path} holds an array of shape {mapped.shape} and type {mapped.dtype}; "
            f"expected {dimensions} axes of floating-point numbers"
        )
    if path.stat().st_size != mapped.offset + mapped.nbytes:
        raise ModelFileError(f"{path} is longer than its header says")
    require_memory(mapped.nbytes, str(path), "a machine with more memory", ModelFileError)
    array = np.array(mapped, order="C")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelFileError(f"{path} holds values that are not finite")
    return array


def checksum(array: Array) -> int:
    """CRC-32 of an array's elements in C order."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return zlib.crc32(flat.view(np.uint8).data)
