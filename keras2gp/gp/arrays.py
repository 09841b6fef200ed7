"""Array files in numpy's format, read with nothing taken on trust."""

from __future__ import annotations

import tokenize
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras2gp._util.files import Writer
from keras2gp.errors import ModelFileError

__all__ = ["array_writer", "checksum", "read_array"]

# What numpy raises for a file that is not an array file, is cut short, or has a mangled header.
_DAMAGE = (EOFError, OSError, SyntaxError, tokenize.TokenError, TypeError, ValueError)


def array_writer(array: npt.NDArray[Any]) -> Writer:
    """Writes one array in .npy format, without pickle."""
    return lambda handle: np.save(handle, array, allow_pickle=False)


def read_array(path: Path, dimensions: int) -> npt.NDArray[Any]:
    """One floating-point array from a .npy file, in memory.

    The file is mapped first: its length is compared with what its header claims before anything
    is allocated, and an array of objects (a pickle) is never read.

    dimensions: the number of axes expected

    Raises: ModelFileError if the file is missing, is not a .npy file, is cut short or too long,
        holds another kind of array, or holds values that are not finite.
    """
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing") from error
    except _DAMAGE as error:
        raise ModelFileError(f"{path} is damaged or no .npy file: {error}") from error
    if mapped.dtype.kind != "f" or mapped.ndim != dimensions:
        raise ModelFileError(
            f"{path} holds an array of shape {mapped.shape} and type {mapped.dtype}; "
            f"expected {dimensions} axes of floating-point numbers"
        )
    if path.stat().st_size != mapped.offset + mapped.nbytes:
        raise ModelFileError(f"{path} is longer than its header says")
    array = np.array(mapped, order="C")
    if not np.isfinite(array).all():
        raise ModelFileError(f"{path} holds values that are not finite")
    return array


def checksum(array: npt.NDArray[Any]) -> int:
    """CRC-32 of an array's elements in C order."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return zlib.crc32(flat.view(np.uint8).data)
