"""Parts of a matrix, as an index selects them, out of its blocks."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Matrix
from keras2gp._util.memory import require_memory
from keras2gp.errors import InputError, StoreError
from keras2gp.matrices.blocks import Block
from keras2gp.matrices.plan import Partition

__all__ = ["Selection", "gather"]

Pieces = dict[int, tuple[slice, slice]]


class Selection:
    """Rows and columns that an index selects, as numpy understands integers and slices.

    key:  an integer, a slice, an ellipsis, or a tuple of at most two of them
    size: N1, N2
    Raises: IndexError for an integer out of range or too many indices; InputError for an index of
            another kind.
    """

    def __init__(self, key: Any, size: tuple[int, int]) -> None:
        keys = list(key) if isinstance(key, tuple) else [key]
        if any(k is Ellipsis for k in keys):
            place = next(i for i, k in enumerate(keys) if k is Ellipsis)
            keys[place : place + 1] = [slice(None)] * (3 - len(keys))
        if len(keys) > 2:
            raise IndexError(f"too many indices for a matrix: {len(keys)}")
        keys += [slice(None)] * (2 - len(keys))
        self.rows, self.columns = (_range(k, n) for k, n in zip(keys, size, strict=True))
        self._final = tuple(slice(None) if isinstance(k, slice) else 0 for k in keys)

    def shaped(self, values: Array) -> Any:
        """The selected values without the axes of integer indices."""
        return values[self._final]


def _range(key: Any, count: int) -> range:
    if isinstance(key, slice):
        return range(*key.indices(count))
    if isinstance(key, bool | np.bool_) or not hasattr(key, "__index__"):
        raise InputError(
            f"a stored matrix takes integers and slices as indices, received {type(key).__name__}. "
            "Try: store[i0:i1, j0:j1], and numpy's indexing on what that gives"
        )
    place = operator.index(key)
    if not -count <= place < count:
        raise IndexError(f"index {place} is out of range for an axis of {count}")
    return range(place % count, place % count + 1)


def gather(
    selection: Selection, partition: Partition, dtype: np.dtype[Any], load: Callable[[Block], Array]
) -> Matrix:
    """The selected entries, [rows, columns, *positions], one block in memory at a time.

    load: reads a block; of a symmetric matrix only entries on or above the diagonal are used

    Raises: StoreError if the entries do not fit in memory.
    """
    rows, columns = _ascending(selection.rows), _ascending(selection.columns)
    positions = partition.positions
    needed = len(rows) * len(columns) * math.prod(positions) * dtype.itemsize
    hint = "a smaller part of the matrix"
    require_memory(needed, f"{len(rows)} x {len(columns)} entries", hint, StoreError)
    out = np.empty((len(rows), len(columns), *positions), dtype)
    flags = (..., *[None] * len(positions))  # axes of one for the positions
    shape, symmetric = partition.shape, partition.symmetric
    direct = _pieces(rows, shape.rows), _pieces(columns, shape.columns)
    mirror = _pieces(columns, shape.rows), _pieces(rows, shape.columns)
    for block in _touched(direct, mirror, partition):
        values = load(block)
        i, j = partition.place(block)
        whole = not symmetric or not block.meets_diagonal
        if i in direct[0] and j in direct[1]:
            (to_row, of_row), (to_column, of_column) = direct[0][i], direct[1][j]
            upper = whole or _above(block, of_row, of_column, 0)[flags]
            np.copyto(out[to_row, to_column], values[of_row, of_column], where=upper)
        if symmetric and i in mirror[0] and j in mirror[1]:
            (to_column, of_row), (to_row, of_column) = mirror[0][i], mirror[1][j]
            lower = whole or _above(block, of_row, of_column, 1).T[flags]
            mirrored = values[of_row, of_column].swapaxes(0, 1)
            np.copyto(out[to_row, to_column], mirrored, where=lower)
    backwards = tuple(
        slice(None, None, -1 if r.step < 0 else 1) for r in (selection.rows, selection.columns)
    )
    return np.ascontiguousarray(out[backwards])


def _ascending(indices: range) -> range:
    return indices if indices.step > 0 else indices[::-1]


def _pieces(indices: range, side: int) -> Pieces:
    """For each block, the positions of the result that it fills, and their indices within it."""
    pieces: Pieces = {}
    position = 0
    while position < len(indices):
        block = indices[position] // side
        stop = len(range(indices.start, min(indices.stop, (block + 1) * side), indices.step))
        first, last = indices[position] - block * side, indices[stop - 1] - block * side
        pieces[block] = slice(position, stop), slice(first, last + 1, indices.step)
        position = stop
    return pieces


def _touched(
    direct: tuple[Pieces, Pieces], mirror: tuple[Pieces, Pieces], partition: Partition
) -> Iterator[Block]:
    """The stored blocks that hold entries of either, row by row."""
    places = {(i, j) for i in direct[0] for j in direct[1]}
    if partition.symmetric:
        places |= {(i, j) for i in mirror[0] for j in mirror[1]}
    for i, j in sorted(places):
        if block := partition.block(i, j):
            yield block


def _above(block: Block, rows: slice, columns: slice, distance: int) -> Array:
    """Which of these entries are at least `distance` above the diagonal of the matrix."""
    i = block.row + np.arange(rows.start, rows.stop, rows.step)
    j = block.column + np.arange(columns.start, columns.stop, columns.step)
    above: Array = j[None, :] - i[:, None] >= distance
    return above
