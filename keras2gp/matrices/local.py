"""Matrices and diagonals in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import numpy as np

from keras2gp._util.arrays import Images, Matrix, Vector
from keras2gp._util.memory import NEGLIGIBLE, require_memory
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.executors import executor_of
from keras2gp.matrices.plan import Block
from keras2gp.matrices.work import BlockProgram, Executor, Work, require_finite

__all__ = ["diagonal_of", "in_memory", "matrix_of"]


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
    return in_memory(Work.of(program, parameters, first, second), executor_of("auto"))


def diagonal_of(
    program: BlockProgram,
    parameters: Mapping[str, LayerVariances],
    images: Sequence[Images],
) -> Vector:
    """Variances of all images, [N]; a program of both kernels gives [2, N].

    Raises: NumericalError if one is not finite; InputError if memory is short.
    """
    work = Work.of(program, parameters, images, None)
    _require(work, len(images[0]), f"the kernel's diagonal of {len(images[0])} images")
    return work.diagonal


def _require(work: Work, entries: int, purpose: str) -> None:
    """Refuse a result that does not fit in memory beside one block at work.

    Raises: InputError
    """
    entries += work.program.working_set(work.partition.shape, 1)
    if (needed := entries * np.dtype(work.program.dtype).itemsize) > NEGLIGIBLE:
        hint = "fewer images at a time, or keras2gp.gram(..., out='K.zarr'), a matrix on disk"
        require_memory(needed, purpose, hint)


def in_memory(
    work: Work, executor: Executor, finished: Callable[[int], object] = lambda _pairs: None
) -> Matrix:
    """The matrix of the work, [N1, N2]; `finished` is told the pairs of every finished block.

    Raises: NumericalError if an entry is not finite; InputError if the matrix does not fit in
            memory.
    """
    n1, n2 = work.partition.size
    kernels = (2,) if work.program.kind == "both" else ()
    shape, dtype = (*kernels, n1, n2), np.dtype(work.program.dtype)
    _require(work, math.prod(shape), f"a kernel matrix of {n1} x {n2} images in {dtype}")
    sink = _Matrix(np.empty(shape, dtype))
    with closing(executor.run(work, work.partition.blocks(), sink)) as run:
        for block in run:
            finished(block.pairs)
    if work.second is None:
        matrices = sink.matrix.reshape(-1, n1, n2)
        for matrix, variances in zip(matrices, np.atleast_2d(work.diagonal), strict=True):
            _mirror(matrix)
            np.fill_diagonal(matrix, variances)
    return sink.matrix


class _Matrix:
    """A sink: an array in memory."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix

    def holds(self, block: Block) -> bool:
        return False

    def write(self, block: Block, values: Matrix) -> None:
        require_finite(values, block.row, block.column)
        self.matrix[(..., *block.slices)] = values


def _mirror(matrix: Matrix, size: int = 1024) -> None:
    """Copy the upper triangle onto the lower, piece by piece."""
    n = len(matrix)
    for i in range(0, n, size):
        for j in range(0, i, size):
            matrix[i : i + size, j : j + size] = matrix[j : j + size, i : i + size].T
        corner = matrix[i : i + size, i : i + size]
        corner[...] = np.triu(corner) + np.triu(corner, 1).T
