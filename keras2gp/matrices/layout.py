"""How a Gram matrix lies on disk: the Zarr arrays of a store, their codecs and attributes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from keras2gp._util.arrays import Array
from keras2gp.errors import StoreError
from keras2gp.matrices.fingerprint import digest
from keras2gp.matrices.store_files import WholeFiles

__all__ = ["KEY", "open_array", "require_layout", "sound", "write_metadata"]


KEY = "keras2gp"


def sound(array: Any, region: tuple[slice, ...], path: Path) -> Array | None:
    """Values that read back with a right checksum and are finite; a chunk not there is NaN."""
    try:
        values: Array = np.asarray(array[region])
    except ValueError:  # the checksum is wrong, or the file has a wrong length
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    return values if np.isfinite(values).all() else None


def write_metadata(path: Path, fingerprint: Mapping[str, Any]) -> None:
    """A new store without chunks. A chunk that is not there reads as NaN."""
    attributes = {KEY: {**fingerprint, "sha256": digest(fingerprint)}}
    group = zarr.create_group(WholeFiles(path), zarr_format=3, attributes=attributes)
    n1, n2 = fingerprint["shape"]
    wanted: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "matrix": ((n1, n2), tuple(fingerprint["block"][:2]))
    }
    if fingerprint["x2"] is None:
        wanted["diagonal"] = ((n1,), (n1,))
    for name, (shape, chunks) in wanted.items():
        group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=fingerprint["dtype"],
            serializer=BytesCodec(endian="little"),
            compressors=[Crc32cCodec()],
            filters=None,
            fill_value=float("nan"),
        )


def open_array(path: Path, name: str, *, writable: bool) -> Any:
    """One array of a store; never makes or wipes one."""
    # Without write_empty_chunks a chunk that equals the fill value would be removed.
    return zarr.open_array(
        WholeFiles(path, read_only=not writable),
        path=name,
        mode="r+" if writable else "r",
        config={"write_empty_chunks": True},
    )


def require_layout(
    array: Any, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Refuse an array that is not laid out as write_metadata does. Raises: ValueError."""
    codecs = [codec.to_dict()["name"] for codec in array.metadata.codecs]
    found = (array.shape, array.chunks, array.dtype, codecs)
    if found != (shape, chunks, dtype, ["bytes", "crc32c"]) or not np.isnan(array.fill_value):
        raise ValueError(f"its array {array.path} has an unexpected layout: {found}")
