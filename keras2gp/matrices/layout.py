"""Layout of a stored matrix: Zarr arrays whose chunks know their store and their place.

    K.zarr/zarr.json      group; its attributes hold the fingerprint (fingerprint.py)
    K.zarr/matrix/        [N1, N2, *positions], one chunk for each block
    K.zarr/diagonal/      [N, *positions], of a symmetric matrix, one chunk

A chunk is a Zarr shard with one inner chunk, and a tag before it. Every reader of Zarr's third
format can read it, since a shard may hold bytes that its index does not mention:

    tag       hash of the fingerprint, the array's name and the chunk's place
    values    little-endian, rows first, a ragged edge filled with NaN
    checksum  crc32c of the values
    index     offset and length of values and checksum, and the crc32c of both numbers
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.files import read_if_regular, write_file
from keras2gp.errors import StoreError
from keras2gp.matrices.fingerprint import digest

__all__ = ["CHUNK_EXTRA", "KEY", "ChunkedArray", "read_json", "write_metadata"]

KEY = "keras2gp"
_TAG = 16
_END = 4 + 16 + 4
CHUNK_EXTRA = _TAG + _END + 4096
"""Bytes of a chunk beside its values: tag, checksums, index, and what file systems round up to."""
_LARGEST_JSON = 2**20


@dataclass(frozen=True)
class ChunkedArray:
    """One array of a store, read and written chunk by chunk.

    Attributes:
        store: directory of the store.
        name: the array's name, a directory in the store.
        shape: its shape.
        chunk: shape of a chunk.
        dtype: type of its values.
        identity: the store's fingerprint as one hash.
    """

    store: Path
    name: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype[Any]
    identity: str

    def read_if_valid(self, place: tuple[int, ...]) -> Array | None:
        """The values of a chunk, read-only; None unless it is whole, finite and in its place.

        Raises: StoreError if the file cannot be read at all.
        """
        length = math.prod(self.chunk) * self.dtype.itemsize
        path = self._path(place)
        try:
            data = read_if_regular(path, _TAG + length + _END)
        except OSError as error:
            if error.errno == errno.EFBIG:
                return None
            raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
        if data is None or len(data) != _TAG + length + _END or data[:_TAG] != self._tag(place):
            return None
        stored = np.frombuffer(memoryview(data)[_TAG:-_END], self.dtype.newbyteorder("<"))
        if data[-_END:] != _end(google_crc32c.value(stored), length):
            return None
        values = stored.reshape(self.chunk)[self._inside(place)]
        array: Array = values.astype(self.dtype, copy=False)
        return array if np.isfinite(array).all() else None

    def write(self, place: tuple[int, ...], values: Array) -> None:
        """Write the values of a chunk in one piece; the same bytes whoever writes it.

        Raises: StoreError if the disk does not take it.
        """
        content = np.full(self.chunk, np.nan, self.dtype.newbyteorder("<"))
        content[self._inside(place)] = values
        end = _end(google_crc32c.value(content), content.nbytes)

        def write(stream: BinaryIO) -> None:
            stream.writelines([self._tag(place), content.data, end])

        path = self._path(place)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
        write_file(path, write)

    def require_metadata(self) -> None:
        """Refuse an array whose metadata are not those of this array. Raises: ValueError."""
        data = read_json(self.store / self.name / "zarr.json")
        shard = data["codecs"][0]["configuration"]
        layout = (
            data["shape"],
            data["data_type"],
            data["chunk_grid"]["configuration"]["chunk_shape"],
            data["fill_value"],
            [codec["name"] for codec in (*data["codecs"], *shard["codecs"])],
            shard["chunk_shape"],
            shard["index_location"],
        )
        chunk = list(self.chunk)
        codecs = ["sharding_indexed", "bytes", "crc32c"]
        if layout != (list(self.shape), self.dtype.name, chunk, "NaN", codecs, chunk, "end"):
            raise ValueError(f"its array {self.name} has an unexpected layout: {layout}")

    def _path(self, place: tuple[int, ...]) -> Path:
        return self.store.joinpath(self.name, "c", *map(str, place))

    def _inside(self, place: tuple[int, ...]) -> tuple[slice, ...]:
        """The part of a chunk that lies within the array."""
        axes = zip(place, self.chunk, self.shape, strict=True)
        return tuple(slice(0, min(side, total - i * side)) for i, side, total in axes)

    def _tag(self, place: tuple[int, ...]) -> bytes:
        text = "/".join((self.identity, self.name, *map(str, place)))
        return hashlib.blake2b(text.encode(), digest_size=_TAG).digest()


def _end(checksum: int, length: int) -> bytes:
    """The bytes of a shard after its values: their checksum, the index, the index's checksum."""
    index = struct.pack("<QQ", _TAG, length + 4)
    return struct.pack("<I16sI", checksum, index, google_crc32c.value(index))


def read_json(path: Path) -> Any:
    """The content of one of a store's JSON files. Raises: ValueError, OSError."""
    data = read_if_regular(path, _LARGEST_JSON)
    if data is None:
        raise ValueError(f"{path.name} is missing")
    return json.loads(data)


def write_metadata(path: Path, fingerprint: Mapping[str, Any]) -> None:
    """Write a new store without chunks. A chunk that is not there reads as NaN."""
    import zarr  # noqa: PLC0415 (slow to import, and needed for new stores alone)
    from zarr.codecs import BytesCodec, Crc32cCodec  # noqa: PLC0415

    attributes = {KEY: {**fingerprint, "sha256": digest(fingerprint)}}
    group = zarr.create_group(str(path), zarr_format=3, attributes=attributes)
    n1, n2, *positions = fingerprint["shape"]
    arrays: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "matrix": ((n1, n2, *positions), (*fingerprint["block"][:2], *positions))
    }
    if fingerprint["x2"] is None:
        arrays["diagonal"] = ((n1, *positions), (n1, *positions))
    for name, (shape, chunk) in arrays.items():
        group.create_array(
            name,
            shape=shape,
            shards=chunk,
            chunks=chunk,
            dtype=fingerprint["dtype"],
            serializer=BytesCodec(endian="little"),
            compressors=[Crc32cCodec()],
            filters=None,
            fill_value=float("nan"),
        )
