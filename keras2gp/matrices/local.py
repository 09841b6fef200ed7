"""Matrices and diagonals in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

import numpy as np

from keras2gp._util.arrays import Array, Images, Matrix, Vector
from keras2gp._util.memory import require_memory
from keras2gp._util.progress import counted, showing_bars
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.blocks import Block
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.executors import executor_of
from keras2gp.matrices.room import room_of
from keras2gp.matrices.work import BlockProgram, Executor, Work, require_finite

__all__ = ["diagonal_of", "in_memory", "matrix_of", "within_of"]

_PIECE = 128
"""Rows and columns that are transposed at a time."""


def matrix_of(
    program: BlockProgram,
    parameters: Mapping[str, LayerVariances],
    first: Sequence[Images],
    second: Sequence[Images] | None,
) -> Matrix:
    """Covariances of all pairs, [N1, N2]; of `first` with itself if `second` is None.

    A program of both kernels gives [2, N1, N2].

    Raises: NumericalError if an entry is not finite; InputError if the matrix does not fit in
            memory.
    """
    work, driver = Work.of(program, parameters, first, second), executor_of("auto")
    if not showing_bars():
        return in_memory(work, driver)
    pairs = [block.pairs for block in work.partition.blocks()]
    with counted(True, "kernel matrix", pairs, []) as finished:
        return in_memory(work, driver, finished)


def diagonal_of(
    program: BlockProgram,
    parameters: Mapping[str, LayerVariances],
    images: Sequence[Images],
) -> Vector:
    """Variances of all images, [N]; a program of both kernels gives [2, N].

    Raises: NumericalError if one is not finite; InputError if memory is short.
    """
    work = Work.of(program, parameters, images, None)
    entries = len(images[0]) * math.prod(work.partition.positions)
    _require(work, entries, f"the kernel's diagonal of {len(images[0])} images")
    return work.diagonal


def within_of(
    program: CompiledProgram,
    parameters: Mapping[str, LayerVariances],
    images: Sequence[Images],
) -> Array:
    """Covariances between all positions of each image, [N, *positions, *positions].

    A program of both kernels gives [2, N, *positions, *positions].

    Raises: NumericalError if one is not finite; InputError if memory is short.
    """
    work, count = Work.of(program, parameters, images, None), len(images[0])
    side = work.partition.shape.per_image(program.rows).columns
    _require(work, count * program.rows**2, f"the covariances within {count} images")
    require_finite(work.diagonal, column=None)  # and within the range of the dtype
    variances = program.variances(parameters)
    parts = [program.within(images, i, side, variances) for i in range(0, count, side)]
    axis = int(program.kind == "both")
    values: Array = np.concatenate(parts, axis)
    values = values[:, :count] if axis else values[:count]
    require_finite(np.moveaxis(values, axis, -1), column=None)
    return values


def _require(work: Work, entries: int, purpose: str) -> None:
    """Refuse a result that does not fit in memory beside one block at work.

    Raises: InputError
    """
    room = room_of(work.program, work.partition.shape, 1, 0)
    if room.demands:
        require_memory(room.block, f"{purpose}: {room.demands}", room.hint)
    hint = "fewer images at a time"
    if room.available is None or room.block <= room.available:
        hint += ", or keras2gp.gram(..., out='K.zarr'), a matrix on disk"
    needed = entries * np.dtype(work.program.dtype).itemsize + room.block
    require_memory(needed, purpose, hint)


def in_memory(
    work: Work, executor: Executor, finished: Callable[[int], object] = lambda _pairs: None
) -> Matrix:
    """The matrix of the work, [N1, N2]; `finished` is told the pairs of every finished block.

    Raises: NumericalError if an entry is not finite; InputError if the matrix does not fit in
            memory.
    """
    (n1, n2), positions = work.partition.size, work.partition.positions
    kernels = (2,) if work.program.kind == "both" else ()
    shape, dtype = (*kernels, n1, n2, *positions), np.dtype(work.program.dtype)
    noun = "images" if work.partition.per_image == 1 else "images at positions"
    _require(work, math.prod(shape), f"a kernel matrix of {n1} x {n2} {noun} in {dtype}")
    symmetric, sides = work.second is None, work.partition.shape
    by_block = symmetric and sides.rows == sides.columns
    sink = _Matrix(np.zeros(shape, dtype), len(kernels), mirrors=by_block)
    with closing(executor.run(work, work.partition.blocks(), sink)) as run:
        for block in run:
            finished(block.pairs)
    if symmetric:
        matrices = _planes(sink.matrix.reshape(-1, n1, n2, *positions), 2)
        diagonals = _planes(work.diagonal.reshape(-1, n1, *positions), 1)
        for matrix, variances in zip(matrices, diagonals, strict=True):
            if not by_block:
                _mirror(matrix)
            np.fill_diagonal(matrix, variances)
    return sink.matrix


def _planes(values: Array, rank: int) -> Iterator[Array]:
    """Views of `rank` axes, one for each kernel and position: the axes after the first."""
    moved = np.moveaxis(values, range(1, 1 + rank), range(-rank, 0))
    return (moved[index] for index in np.ndindex(moved.shape[:-rank]))


class _Matrix:
    """A sink: an array in memory; `lead` axes come before the rows.

    mirrors: whether blocks are copied below the diagonal as they come, each by its thread
    """

    def __init__(self, matrix: Matrix, lead: int, *, mirrors: bool) -> None:
        self.matrix = matrix
        self.mirrors = mirrors
        self._before = (slice(None),) * lead

    @property
    def memory(self) -> int:
        return self.matrix.nbytes

    def holds(self, block: Block) -> bool:
        return False

    def place(self, block: Block) -> Matrix | None:
        return self.matrix[block.slices] if self.matrix.ndim == 2 else None

    def write(self, block: Block, values: Matrix) -> None:
        lead = len(self._before)
        require_finite(np.moveaxis(values, (lead, lead + 1), (-2, -1)), block.row, block.column)
        rows, columns = block.slices
        kept = self.matrix[(*self._before, rows, columns)]
        if not np.may_share_memory(kept, values):
            kept[...] = values
        if not self.mirrors:
            return
        other = self.matrix[(*self._before, columns, rows)]
        above, below = (part if lead else part[None] for part in (kept, other))
        for upper, lower in zip(_planes(above, 2), _planes(below, 2), strict=True):
            if block.row == block.column:
                _mirror(upper)
            else:
                _turn(upper, lower)


def _mirror(matrix: Matrix) -> None:
    """Copy the upper triangle onto the lower, piece by piece."""
    for i in range(0, len(matrix), _PIECE):
        corner = matrix[i : i + _PIECE, i : i + _PIECE]
        corner[...] = np.triu(corner) + np.triu(corner, 1).T
        _turn(matrix[i : i + _PIECE, i + _PIECE :], matrix[i + _PIECE :, i : i + _PIECE])


def _turn(source: Matrix, target: Matrix) -> None:
    """Copy a matrix's transpose, piece by piece: across whole rows it would miss every cache."""
    rows, columns = source.shape
    for i in range(0, rows, _PIECE):
        for j in range(0, columns, _PIECE):
            target[j : j + _PIECE, i : i + _PIECE] = source[i : i + _PIECE, j : j + _PIECE].T
