"""Matrices and diagonals in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.executor import Executor, Work, require_finite
from keras2gp.matrices.executors import executor_of
from keras2gp.matrices.plan import Block, block_shape

__all__ = ["diagonal_of", "in_memory", "matrix_of"]


def matrix_of(
    program: CompiledProgram,
    parameters: Mapping[str, LayerVariances],
    first: Sequence[Array],
    second: Sequence[Array] | None,
) -> Array:
    """Covariances of all pairs, [N1, N2]; of `first` with itself if `second` is None.

    Of both kernels, [2, N1, N2].

    Raises: NumericalError if an entry is not finite.
    """
    return in_memory(Work.of(program, parameters, first, second), executor_of("auto"))


def in_memory(
    work: Work, executor: Executor, advance: Callable[[Block], None] = lambda _: None
) -> Array:
    """The matrix of the work, [N1, N2]; `advance` is told of every block that is finished.

    Raises: NumericalError if an entry is not finite.
    """
    count = (2,) if work.program.kind == "both" else ()
    sink = _Matrix(np.empty((*count, *work.size), work.program.dtype))
    with closing(executor.run(work, work.blocks(), sink)) as run:
        for block in run:
            advance(block)
    if work.symmetric:
        diagonal = diagonal_of(work.program, work.parameters, work.first)
        for matrix, variances in zip(
            sink.matrix.reshape(-1, *work.size), np.atleast_2d(diagonal), strict=True
        ):
            _mirror(matrix)
            np.fill_diagonal(matrix, variances)
    return sink.matrix


class _Matrix:
    """A sink: an array in memory."""

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix

    def holds(self, block: Block) -> bool:
        return False

    def write(self, block: Block, values: Array) -> None:
        require_finite(values, block.row, block.column)
        rows = slice(block.row, block.row + block.rows)
        self.matrix[..., rows, block.column : block.column + block.columns] = values


def diagonal_of(
    program: CompiledProgram,
    parameters: Mapping[str, LayerVariances],
    images: Sequence[Array],
) -> Array:
    """Variances of all images, [N]; of both kernels, [2, N].

    Raises: NumericalError if one is not finite.
    """
    count = len(images[0])
    shape = block_shape(program.graph, count, count)
    variances = program.variances(parameters)
    starts = range(0, count, shape.columns)
    parts = [program.diagonal(images, i, shape, variances) for i in starts]
    diagonal: Array = np.concatenate(parts, axis=-1)[..., :count]
    require_finite(diagonal, column=None)
    return diagonal


def _mirror(matrix: Array, size: int = 1024) -> None:
    """Copy the upper triangle onto the lower, piece by piece."""
    n = len(matrix)
    for i in range(0, n, size):
        for j in range(0, i, size):
            matrix[i : i + size, j : j + size] = matrix[j : j + size, i : i + size].T
        corner = matrix[i : i + size, i : i + size]
        corner[...] = np.triu(corner) + np.triu(corner, 1).T
