"""Files that are checked in full when they are read: JSON with a digest, arrays in .npy format."""

from __future__ import annotations

import hashlib
import json
import tokenize
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.files import Writer, read_if_regular
from keras2gp._util.memory import require_memory
from keras2gp._util.version import VERSION
from keras2gp.errors import Keras2GPError, ModelFileError

__all__ = [
    "array_writer",
    "check_digest",
    "checksum",
    "digest_of",
    "file_digest",
    "read_array",
    "with_digest",
]

_KEY = "digest"


def digest_of(data: Mapping[str, Any]) -> str:
    """SHA-256 of an object for JSON, without its own digest; the order of keys does not matter."""
    # Keys and tuples become what they are when they are read again.
    plain = json.loads(json.dumps({key: data[key] for key in data if key != _KEY}))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def with_digest(data: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the version of keras2gp and its digest, to be written as JSON."""
    versioned = {"keras2gp": VERSION, **data}
    return {**versioned, _KEY: digest_of(versioned)}


def check_digest(
    data: Mapping[str, Any], where: str, error: type[Keras2GPError] = ModelFileError
) -> None:
    """Refuse an object whose content is not the content that was written.

    keras2gp 0.1 wrote no digests: an object of that version, or of no version, may lack one.

    Args:
        data: the object, as it was read.
        where: the file, for the message.
        error: class of the error.

    Raises:
        Keras2GPError: of the class `error`, if the digest is another one or is missing.
    """
    old = str(data.get("keras2gp", "0.1.")).startswith("0.1.")
    if _KEY not in data and old:
        return
    if data.get(_KEY) != digest_of(data):
        raise error(
            f"{where}: its content is not what keras2gp wrote (its digest differs): it was "
            "changed, or the disk is damaged. Try: an unchanged copy, or write it again"
        )


def file_digest(path: Path) -> str | None:
    """SHA-256 of a regular file; None where there is none."""
    content = read_if_regular(path)
    return None if content is None else f"sha256:{hashlib.sha256(content).hexdigest()}"


# The exceptions of numpy for a file that is no array file, is cut short, or has a damaged header.
_DAMAGE = (EOFError, OSError, SyntaxError, tokenize.TokenError, TypeError, ValueError)


def array_writer(array: Array) -> Writer:
    """A writer of one array in .npy format, without pickle."""
    return lambda handle: np.save(handle, array, allow_pickle=False)


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
