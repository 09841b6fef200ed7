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
from keras2gp._util.checks import whole_number
from keras2gp._util.files import write_file
from keras2gp._util.paths import read_if_regular
from keras2gp.errors import StoreError
from keras2gp.matrices.blocks import BlockShape
from keras2gp.matrices.fingerprint import FORMAT, digest
from keras2gp.matrices.plan import Partition

__all__ = [
    "CHUNK_EXTRA",
    "LARGEST_SIDE",
    "ChunkedArray",
    "Description",
    "read_description",
    "write_metadata",
]

_KEY = "keras2gp"
_TAG = 16
_END = 4 + 16 + 4
CHUNK_EXTRA = _TAG + _END + 4096
"""Bytes of a chunk beside its values: tag, checksums, index, and what file systems round up to."""
_LARGEST_JSON = 2**20
LARGEST_SIDE = 2**13
"""Rows or columns of a block."""
_MOST_ROWS, _MOST_BLOCKS = 2**40, 10**8
_MOST_AXES, _MOST_ENTRIES = 8, 2**26


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

        The tag tells a chunk that was swapped with another, or is of another store.

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
        data = _read_json(self.store / self.name / "zarr.json")
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


def _read_json(path: Path) -> Any:
    """The content of one of a store's JSON files. Raises: ValueError, OSError."""
    data = read_if_regular(path, _LARGEST_JSON)
    if data is None:
        raise ValueError(f"{path.name} is missing")
    return json.loads(data)


@dataclass(frozen=True)
class Description:
    """The metadata of a store, each number bounded.

    Attributes:
        fingerprint: hashes of all that the entries depend on.
        shape: N1 and N2, and the positions of each entry.
        dtype: type of the entries.
        symmetric: whether rows and columns are the same images.
        partition: the blocks.
        matrix: the array of the blocks.
        diagonal: the array of the diagonal, [N1, *positions]; it is there if symmetric.
    """

    fingerprint: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    symmetric: bool
    partition: Partition
    matrix: ChunkedArray
    diagonal: ChunkedArray


def read_description(path: Path) -> Description:
    """Read the metadata of a store, each number bounded before anything is made of it.

    Raises:
        OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError: they are
            malformed, or of another format.
    """
    fingerprint = dict(_read_json(path / "zarr.json")["attributes"][_KEY])
    recorded = fingerprint.pop("sha256")
    if fingerprint["format"] != FORMAT:
        raise ValueError(f"format {fingerprint['format']}, expected {FORMAT}")
    if digest(fingerprint) != recorded:
        raise ValueError("its fingerprint was changed")
    if fingerprint["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype {fingerprint['dtype']!r}, expected 'float32' or 'float64'")
    n1, n2, *positions = (
        whole_number("shape", n, 1, _MOST_ROWS) for n in fingerprint["shape"][:_MOST_AXES]
    )
    sides = [whole_number("block", n, 1, LARGEST_SIDE) for n in fingerprint["block"]]
    dtype = np.dtype(fingerprint["dtype"])
    symmetric = fingerprint["x2"] is None
    if symmetric and n1 != n2:
        raise ValueError(f"a symmetric matrix of shape {[n1, n2]}")
    if math.prod((*sides[:2], *positions)) > _MOST_ENTRIES:
        raise ValueError(f"blocks of {sides[:2]} entries of {positions} positions")
    partition = Partition(n1, n2, symmetric, BlockShape(*sides), tuple(positions))
    blocks = -(-n1 // sides[0]) * -(-n2 // sides[1])
    if blocks > _MOST_BLOCKS:
        raise ValueError(f"{blocks} blocks, expected at most {_MOST_BLOCKS}")
    chunk = (partition.shape.rows, partition.shape.columns, *positions)
    of_store = dtype, digest(fingerprint)
    matrix = ChunkedArray(path, "matrix", (n1, n2, *positions), chunk, *of_store)
    diagonal = ChunkedArray(path, "diagonal", (n1, *positions), (n1, *positions), *of_store)
    for array in (matrix, diagonal) if symmetric else (matrix,):
        array.require_metadata()
    return Description(fingerprint, matrix.shape, dtype, symmetric, partition, matrix, diagonal)


def write_metadata(path: Path, fingerprint: Mapping[str, Any]) -> None:
    """Write a new store without chunks. A chunk that is not there reads as NaN."""
    import zarr  # noqa: PLC0415 (slow to import, and needed for new stores alone)
    from zarr.codecs import BytesCodec, Crc32cCodec  # noqa: PLC0415

    attributes = {_KEY: {**fingerprint, "sha256": digest(fingerprint)}}
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
