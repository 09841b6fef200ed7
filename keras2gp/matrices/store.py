"""GramStore: a kernel matrix on disk that reads like an array.

Only the chunks that touch the upper triangle of a symmetric matrix are stored. Entries below the
diagonal are zero in them, and are mirrored when they are read through GramStore. The layout of
the files stands in layout.py.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Matrix, Vector
from keras2gp._util.files import flush, made_folders, temporary_name
from keras2gp.errors import InputError, StoreError
from keras2gp.matrices.blocks import Block
from keras2gp.matrices.fingerprint import differences, digest
from keras2gp.matrices.layout import ChunkedArray, read_description, write_metadata
from keras2gp.matrices.reading import Selection, gather
from keras2gp.matrices.work import require_finite

__all__ = ["GramStore"]

_RESUME = (
    "Run keras2gp.gram again with the same arguments and out={path!r} to compute what is missing"
)


class GramStore:
    """A kernel matrix on disk, [N1, N2], made by keras2gp.gram(..., out=PATH).

    Of a kernel with positions each entry is the map of the covariances at equal positions,
    [N1, N2, *positions]; between positions rows and columns are images at positions, an image after
    the other.

    store[i0:i1, j0:j1] reads the selected entries, and only the blocks that hold them; integers,
    steps and negative indices work as in numpy. np.asarray(store) reads all of it.

    Args:
        path: directory of the store.
        writable: whether blocks may be written.

    Attributes:
        path: directory of the store.
        fingerprint: hashes of all that the entries depend on.
        shape: N1 and N2, and the positions of each entry.
        dtype: type of the entries.
        symmetric: whether rows and columns are the same images.

    Raises:
        StoreError: there is no store, or it is malformed or of another format.
    """

    def __init__(self, path: str | Path, *, writable: bool = False) -> None:
        self.path = Path(path)
        self._writable = writable
        if not self.path.is_dir():
            problem = "is a file and no store" if self.path.exists() else "no such store"
            raise StoreError(f"{self.path}: {problem}. keras2gp.gram(..., out=PATH) makes one")
        try:
            description = read_description(self.path)
        except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as e:
            raise StoreError(
                f"{self.path} is not a Gram matrix that this version of keras2gp can read: {e}. "
                "Try: compute the matrix again at another path, or remove the store"
            ) from e
        self.fingerprint = description.fingerprint
        self.shape, self.dtype = description.shape, description.dtype
        self.symmetric = description.symmetric
        self._partition = description.partition
        self._matrix, self._variances = description.matrix, description.diagonal

    @classmethod
    def open(cls, path: str | Path) -> GramStore:
        """Open a finished or unfinished store for reading.

        Args:
            path: directory of the store.

        Returns:
            The store.
        """
        return cls(path)

    @classmethod
    def create(cls, path: Path, fingerprint: Mapping[str, Any]) -> None:
        """Make an empty store; does nothing if there is a file or directory at `path` already.

        The store has its name only when its metadata are whole, so that of two processes that
        make the same store one comes first, and the other finds it.

        Args:
            path: directory of the store.
            fingerprint: as fingerprint_of gives it.

        Raises:
            StoreError: it cannot be made.
        """
        temporary = temporary_name(path)
        with made_folders(path.parent):
            try:
                write_metadata(temporary, fingerprint)
                flush(temporary)
                temporary.rename(path)
            except OSError as error:
                if not path.exists():
                    raise StoreError(f"{path} cannot be made: {error}") from error
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    # What an array has.

    @property
    def ndim(self) -> int:
        """The number of axes: 2, and those of the positions."""
        return len(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Rows and columns of a block: reading along these reads each block once."""
        shape = self._partition.shape
        return shape.rows, shape.columns, *self._partition.positions

    @property
    def size(self) -> int:
        """Number of entries, N1 N2 times the positions."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the matrix in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Entries as a numpy array in the store's dtype.

        Raises: StoreError if a block that holds some of them is missing or damaged, or if they do
                not fit in memory; IndexError for an integer out of range; InputError for indices
                other than integers and slices.
        """
        selection = Selection(key, self._partition.size)
        return selection.shaped(gather(selection, self._partition, self.dtype, self.read))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a matrix on disk becomes an array only by a copy: copy=False")
        values: Array = self[:, :]
        return values if dtype is None else values.astype(dtype, copy=False)

    def __repr__(self) -> str:
        kind = "symmetric " if self.symmetric else ""
        return f"<GramStore {self.path}, {kind}{list(self.shape)} {self.dtype}>"

    def diagonal(self) -> Vector:
        """The diagonal of the matrix: exact prior variances if it is symmetric.

        Returns:
            An array [min(N1, N2), *positions].

        Raises:
            StoreError: the store is unfinished or damaged there.
        """
        if self.symmetric:
            return self._diagonal.copy()
        side = max(self.chunks[:2])
        starts = range(0, min(self._partition.size), side)
        parts = [np.diagonal(self[i : i + side, i : i + side]) for i in starts]
        return np.concatenate([np.moveaxis(part, -1, 0) for part in parts])

    # Completeness.

    @property
    def complete(self) -> bool:
        """Whether every block is there and sound. Reads all of the store."""
        return not self.missing() and (not self.symmetric or self.holds_diagonal())

    def blocks(self) -> list[Block]:
        """All blocks of a complete store.

        Returns:
            The blocks, row by row.
        """
        return self._partition.blocks()

    def missing(self) -> list[Block]:
        """Blocks that are not there, damaged or of another place or store. Reads all of the store.

        Returns:
            The blocks that a resumed run computes.

        Raises:
            StoreError: files cannot be read at all.
        """
        return [block for block in self.blocks() if not self.holds(block)]

    @property
    def memory(self) -> int:
        """Bytes of memory that blocks take once they are written: none."""
        return 0

    def holds(self, block: Block) -> bool:
        """Whether a block is there: whole, finite, and written for this place of this store.

        Args:
            block: one of `blocks`.

        Returns:
            Whether `read` gives it.
        """
        return self._matrix.read_if_valid(self._place(block)) is not None

    def holds_diagonal(self) -> bool:
        """Whether the diagonal of a symmetric matrix is there.

        Returns:
            Whether `diagonal` gives it.
        """
        return self._variances.read_if_valid(self._whole) is not None

    def require(self, fingerprint: Mapping[str, Any]) -> None:
        """Refuse the store unless it is of this fingerprint.

        Args:
            fingerprint: as fingerprint_of gives it.

        Raises:
            StoreError: with both fingerprints and their differences.
        """
        if parts := differences(self.fingerprint, fingerprint):
            raise StoreError(
                f"{self.path} holds another matrix: its fingerprint is "
                f"{digest(self.fingerprint)}, the one asked for {digest(fingerprint)}. They differ "
                f"in {'; '.join(parts)}. Try: another path, or remove the store"
            )

    def read(self, block: Block) -> Matrix:
        """Read one block as it is stored: below the diagonal of a symmetric matrix it is zero.

        Args:
            block: one of `blocks`.

        Returns:
            An array [block.rows, block.columns] that cannot be written to.

        Raises:
            StoreError: the block is missing or damaged, or belongs elsewhere.
        """
        values = self._matrix.read_if_valid(self._place(block))
        if values is None:
            rows, columns = (f"{part.start}:{part.stop}" for part in block.slices)
            raise StoreError(
                f"{self.path}: the block [{rows}, {columns}] is missing or damaged, or belongs to "
                f"another place or store. {self._hint}"
            )
        return values

    # Writing.

    def place(self, block: Block) -> None:
        """Nowhere: a block is computed in an array of its own, and written in one piece.

        Args:
            block: one of `blocks`.
        """

    def write(self, block: Block, values: Matrix) -> None:
        """Keep one whole block; the same bytes whoever writes it.

        Args:
            block: one of `blocks`.
            values: array [block.rows, block.columns].

        Raises:
            NumericalError: a value is not finite.
            InputError: the values have another shape, or the store is open for reading alone.
            StoreError: the disk does not take it.
        """
        if values.shape != (block.rows, block.columns, *self._partition.positions):
            raise InputError(f"a block of shape {values.shape}, expected {block}")
        require_finite(np.moveaxis(values, (0, 1), (-2, -1)), block.row, block.column)
        if self.symmetric and block.meets_diagonal:
            values = self._upper(block, values)
        self._put(self._matrix, self._place(block), values)

    def write_diagonal(self, values: Vector) -> None:
        """Keep the diagonal of a symmetric matrix; before any block, since blocks repeat it.

        Args:
            values: array [N].

        Raises:
            NumericalError: a value is not finite.
            InputError: the store is open for reading alone.
            StoreError: the disk does not take it.
        """
        require_finite(np.moveaxis(values, 0, -1), column=None)
        self._put(self._variances, self._whole, values)

    def _place(self, block: Block) -> tuple[int, ...]:
        """The place of a block's chunk: all positions are in it."""
        return (*self._partition.place(block), *self._whole[1:])

    @property
    def _whole(self) -> tuple[int, ...]:
        """The place of the one chunk of the diagonal."""
        return (0,) * (len(self.shape) - 1)

    def _upper(self, block: Block, values: Matrix) -> Matrix:
        """A block on the diagonal, zero below the diagonal and exact on it."""
        planes = np.triu(np.moveaxis(values, (0, 1), (-2, -1)), block.row - block.column)
        values = np.moveaxis(planes, (-2, -1), (0, 1))
        first = max(block.row, block.column)
        last = min(block.row + block.rows, block.column + block.columns)
        places = np.arange(first, last)
        values[places - block.row, places - block.column] = self._diagonal[places]
        return values

    def _put(self, array: ChunkedArray, place: tuple[int, ...], values: Array) -> None:
        if not self._writable:
            raise InputError(
                f"{self.path} is open for reading. Try: GramStore(path, writable=True)"
            )
        try:
            array.write(place, values)
        except StoreError as error:
            first = "make room, and " if isinstance(error.__cause__, OSError) else ""
            # A search or an X-ray may have asked for the matrix, and not gram.
            raise StoreError(
                f"{error}. What was finished is kept. Try: {first}the same call or command again, "
                "which computes what is missing"
            ) from error.__cause__

    @cached_property
    def _diagonal(self) -> Vector:
        values = self._variances.read_if_valid(self._whole)
        if values is None:
            raise StoreError(
                f"{self.path}: the diagonal is missing or damaged, or belongs to another store. "
                f"{self._hint}"
            )
        return values

    @property
    def _hint(self) -> str:
        return _RESUME.format(path=str(self.path))
