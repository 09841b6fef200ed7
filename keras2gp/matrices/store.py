"""A Gram matrix on disk that reads like an array.

    K.zarr/zarr.json      group; its attributes hold the fingerprint (fingerprint.py)
    K.zarr/matrix/        [N1, N2], one chunk for each block, each with its crc32c
    K.zarr/diagonal/      [N], of a symmetric matrix

Of a symmetric matrix the chunks that touch the upper triangle are there; what lies below the
diagonal is zero in them, NaN where there is no chunk, and mirrored when read through GramStore.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.files import temporary_name
from keras2gp.errors import InputError, StoreError
from keras2gp.matrices.executor import require_finite
from keras2gp.matrices.fingerprint import FORMAT, differences, digest
from keras2gp.matrices.layout import KEY, open_array, require_layout, sound, write_metadata
from keras2gp.matrices.plan import Block, BlockShape, blocks
from keras2gp.matrices.reading import Selection, gather

__all__ = ["GramStore"]


_RESUME = (
    "Run keras2gp.gram again with the same arguments and out={path!r} to compute what is missing"
)


class GramStore:
    """A kernel matrix on disk, [N1, N2], made by keras2gp.gram(..., out=PATH).

    store[i0:i1, j0:j1] reads the entries asked for and no more than the blocks that hold them;
    integers, steps and negative indices work as in numpy. np.asarray(store) reads all of it.

    path: directory of the store
    Raises: StoreError if there is no store, or if it is malformed or of another format.
    """

    def __init__(self, path: str | Path, *, writable: bool = False) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise StoreError(f"{self.path}: no such store. keras2gp.gram(..., out=PATH) makes one")
        try:
            self._read_metadata(writable)
        except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(
                f"{self.path} is not a Gram matrix that this version of keras2gp can read: {error}"
            ) from error

    @classmethod
    def open(cls, path: str | Path) -> GramStore:
        """A finished or unfinished store, for reading."""
        return cls(path)

    @classmethod
    def create(cls, path: Path, fingerprint: Mapping[str, Any]) -> None:
        """Make an empty store; does nothing if there is something at `path` already.

        The store has its name only when its metadata are whole, so that of two processes that
        make the same store one comes first, and the other finds it.
        """
        temporary = temporary_name(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_metadata(temporary, fingerprint)
            temporary.rename(path)
        except OSError as error:
            if not path.exists():
                raise StoreError(f"{path} cannot be made: {error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _read_metadata(self, writable: bool) -> None:
        attributes = json.loads((self.path / "zarr.json").read_text())["attributes"]
        self.fingerprint: dict[str, Any] = dict(attributes[KEY])
        recorded = self.fingerprint.pop("sha256")
        if self.fingerprint["format"] != FORMAT:
            raise ValueError(f"format {self.fingerprint['format']}, expected {FORMAT}")
        if digest(self.fingerprint) != recorded:
            raise ValueError("its fingerprint was changed")
        n1, n2 = self.fingerprint["shape"]
        self.shape: tuple[int, int] = (int(n1), int(n2))
        self.block_shape = BlockShape(*(int(n) for n in self.fingerprint["block"]))
        self.dtype: np.dtype[Any] = np.dtype(str(self.fingerprint["dtype"]))
        self.symmetric = self.fingerprint["x2"] is None
        chunks = (self.block_shape.rows, self.block_shape.columns)
        self._matrix = open_array(self.path, "matrix", writable=writable)
        require_layout(self._matrix, self.shape, chunks, self.dtype)
        if self.symmetric:
            self._variances = open_array(self.path, "diagonal", writable=writable)
            require_layout(self._variances, self.shape[:1], self.shape[:1], self.dtype)

    # What an array has.

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def chunks(self) -> tuple[int, int]:
        """Rows and columns of a block: reading along these reads each block once."""
        return self.block_shape.rows, self.block_shape.columns

    @property
    def size(self) -> int:
        """Number of entries, N1 N2."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the matrix in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Entries as a numpy array in the store's dtype.

        Raises: StoreError if a block that holds some of them is missing or damaged; IndexError
                for an integer out of range; InputError for indices other than integers and slices.
        """
        selection = Selection(key, self.shape)
        values = gather(
            selection,
            self.shape,
            self.block_shape,
            self.dtype.name,
            self.read,
            symmetric=self.symmetric,
        )
        return selection.shaped(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a matrix on disk becomes an array only by a copy: copy=False")
        values: Array = self[:, :]
        return values if dtype is None else values.astype(dtype, copy=False)

    def __repr__(self) -> str:
        kind = "symmetric " if self.symmetric else ""
        return f"<GramStore {self.path}, {kind}{list(self.shape)} {self.dtype}>"

    def diagonal(self) -> Array:
        """Prior variances, [N], exact; of a matrix of two sets of images its main diagonal.

        Raises: StoreError if the store is unfinished or damaged there.
        """
        if not self.symmetric:
            return np.array([self[i, i] for i in range(min(self.shape))], self.dtype)
        if not self.holds_diagonal():
            raise StoreError(f"{self.path}: the diagonal is missing or damaged. {self._hint}")
        return self._diagonal.copy()

    # Completeness.

    @property
    def complete(self) -> bool:
        """Whether every block is there and sound. Reads all of the store."""
        return not self.missing() and (not self.symmetric or self.holds_diagonal())

    def blocks(self) -> list[Block]:
        """All blocks that a complete store holds."""
        return list(blocks(self.block_shape, *self.shape, symmetric=self.symmetric))

    def missing(self) -> list[Block]:
        """Blocks that are not there, or damaged: those that a resumed run computes.

        Reads all of the store. Raises: StoreError if files cannot be read at all.
        """
        return [block for block in self.blocks() if not self.holds(block)]

    def holds(self, block: Block) -> bool:
        """Whether a block reads back with a right checksum, and is finite."""
        return sound(self._matrix, _region(block), self.path) is not None

    def holds_diagonal(self) -> bool:
        """Whether the diagonal of a symmetric matrix reads back sound."""
        try:
            return len(self._diagonal) == self.shape[0]
        except StoreError:
            return False

    def require(self, fingerprint: Mapping[str, Any]) -> None:
        """Refuse the store unless it is of this fingerprint.

        Raises: StoreError with both fingerprints and what differs.
        """
        if parts := differences(self.fingerprint, fingerprint):
            raise StoreError(
                f"{self.path} holds another matrix: its fingerprint is "
                f"{digest(self.fingerprint)}, the one asked for {digest(fingerprint)}. They differ "
                f"in {'; '.join(parts)}. Try another path, or remove the store"
            )

    def read(self, block: Block) -> Array:
        """One block as it is stored: of a symmetric matrix zero below the matrix's diagonal.

        Raises: StoreError if it is missing or damaged.
        """
        values = sound(self._matrix, _region(block), self.path)
        if values is None:
            rows = f"{block.row}:{block.row + block.rows}"
            columns = f"{block.column}:{block.column + block.columns}"
            raise StoreError(
                f"{self.path}: the block [{rows}, {columns}] is missing or damaged. {self._hint}"
            )
        return values

    # Writing.

    def write(self, block: Block, values: Array) -> None:
        """Keep one whole block, [block.rows, block.columns]; the same bytes whoever writes it.

        Raises: NumericalError if a value is not finite; InputError for another shape; StoreError
                if the disk does not take it.
        """
        if values.shape != (block.rows, block.columns):
            raise InputError(f"a block of shape {values.shape}, expected {block}")
        require_finite(values, block.row, block.column)
        if self.symmetric and block.column < block.row + block.rows:
            values = self._upper(block, values)
        self._put(self._matrix, _region(block), values)

    def write_diagonal(self, values: Array) -> None:
        """Keep the diagonal, [N]; before any block, since blocks repeat it.

        Raises: NumericalError if a value is not finite; StoreError if the disk does not take it.
        """
        require_finite(values, column=None)
        self._put(self._variances, (slice(None),), values)

    def _upper(self, block: Block, values: Array) -> Array:
        values = np.triu(values, block.row - block.column)
        first = max(block.row, block.column)
        last = min(block.row + block.rows, block.column + block.columns)
        places = np.arange(first, last)
        values[places - block.row, places - block.column] = self._diagonal[places]
        return values

    def _put(self, array: Any, region: tuple[slice, ...], values: Array) -> None:
        try:
            array[region] = values
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(
                f"{self.path} cannot be written: {reason}. What was finished is kept. "
                f"Make room, then: {self._hint}"
            ) from error

    @cached_property
    def _diagonal(self) -> Array:
        values = sound(self._variances, (slice(None),), self.path)
        if values is None:
            raise StoreError(f"{self.path}: the diagonal is missing or damaged. {self._hint}")
        return values

    @property
    def _hint(self) -> str:
        return _RESUME.format(path=str(self.path))


def _region(block: Block) -> tuple[slice, slice]:
    rows = slice(block.row, block.row + block.rows)
    return rows, slice(block.column, block.column + block.columns)
