"""Interfaces and checks of kernel matrices, in memory or on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from keras2gp._util.arrays import GramLike, Matrix
from keras2gp.errors import InputError

__all__ = [
    "MatrixLike",
    "MatrixProduct",
    "check_finite",
    "check_mirror",
    "check_shape",
    "check_symmetry",
    "read_block",
    "refuse_asymmetry",
    "rows_at_once",
]

# Rows read at once, unless the matrix lies in larger chunks.
_TILE = 512

# Float32 entries computed in tiles of different shape differ from their mirror images by about
# 1e-6; a matrix that is not meant to be symmetric differs by far more.
_ASYMMETRY = 1e-5
_COMPARED_ROWS = 256


class MatrixLike(Protocol):
    """A square array, or a store on disk that reads like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, N]."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """A block, for a pair of slices."""
        ...


@runtime_checkable
class MatrixProduct(Protocol):
    """A symmetric matrix [N, N] of which products can be computed, wherever its entries are.

    Any object with these attributes is accepted as `gram` by an estimator whose solver is
    ConjugateGradients() or Nystroem().
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, N]."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the entries."""
        ...

    def diagonal(self) -> Any:
        """Variances, [N]."""
        ...

    def columns(self, indices: Sequence[int], /) -> Matrix:
        """Columns by their indices, [N, count], in float64.

        Args:
            indices: numbers of the columns.

        Returns:
            Columns, [N, count].
        """
        ...

    def corner(self, indices: Sequence[int], /) -> Matrix:
        """The entries between these rows and the same columns, [count, count], in float64.

        Args:
            indices: numbers of rows and columns.

        Returns:
            Entries, [count, count].
        """
        ...

    def product(self, b: Matrix, /) -> Matrix:
        """The matrix times b, [N, C], in float64.

        Args:
            b: vectors, [N, C].

        Returns:
            The products, [N, C].
        """
        ...


def check_shape(matrix: GramLike) -> int:
    """N of a matrix [N, N].

    Raises:
        InputError: it is not square, or empty.
    """
    shape = tuple(getattr(matrix, "shape", ()))
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise InputError(f"the matrix has shape {shape}; expected [N, N] with N at least 1")
    return int(shape[0])


def read_block(matrix: MatrixLike, rows: slice, columns: slice) -> Matrix:
    """A block of a matrix as an array of real numbers; InputError for any other type."""
    block = np.asarray(matrix[rows, columns])
    if block.dtype.kind not in "fiub":
        raise InputError(f"the matrix holds values of type {block.dtype}; expected real numbers")
    return block


def check_finite(block: Matrix, row: int, column: int) -> None:
    """Refuse NaN and infinity in a block that starts at `row` and `column` of the matrix.

    Raises:
        InputError: names the first such entry.
    """
    finite = np.isfinite(block)
    if not finite.all():
        at = np.unravel_index(int(finite.argmin()), block.shape)
        raise InputError(
            f"entry [{row + int(at[0])}, {column + int(at[1])}] of the matrix is {block[at]}. "
            "Try: inputs scaled to about 1, and smaller weight variances"
        )


def check_mirror(panel: Matrix, mirror: Matrix, start: int) -> tuple[float, int, int]:
    """The largest difference between a panel of columns and its mirror image, and its place.

    A few rows are compared at a time, so that hardly any memory is needed.

    Shapes:
        panel [N - start, columns], mirror [columns, N - start].

    Raises:
        InputError: entries are not finite.
    """
    worst, row, column = -1.0, 0, 0
    wide = np.result_type(panel, mirror, np.float32)
    for first in range(0, len(panel), _COMPARED_ROWS):
        below = panel[first : first + _COMPARED_ROWS]
        right = mirror[:, first : first + _COMPARED_ROWS]
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.subtract(below, right.T, dtype=wide)
        np.abs(gap, out=gap)
        most = float(gap.max())
        if not math.isfinite(most):  # of two finite entries the difference is finite, or nearly so
            check_finite(below, start + first, start)
            check_finite(right, start, start + first)
        if most > worst:
            at = np.unravel_index(int(gap.argmax()), gap.shape)
            worst, row, column = most, start + first + int(at[0]), start + int(at[1])
    return worst, row, column


def check_symmetry(matrix: Matrix) -> None:
    """Refuse an array that is not finite, or not symmetric.

    Raises:
        InputError: entries differ from their mirror images by more than 1e-5 of the largest entry
            of the diagonal, or are not finite.
    """
    size = len(matrix)
    gaps = [
        check_mirror(matrix[i:, i : i + _TILE], matrix[i : i + _TILE, i:], i)
        for i in range(0, size, _TILE)
    ]
    refuse_asymmetry(max(gaps), float(np.abs(np.diagonal(matrix)).max()))


def refuse_asymmetry(worst: tuple[float, int, int], scale: float) -> None:
    """Refuse a matrix whose largest difference from its mirror image is no rounding error.

    Args:
        worst: that difference, its row and its column.
        scale: the largest entry of the diagonal.

    Raises:
        InputError: names the place of the difference.
    """
    gap, row, column = worst
    if gap > _ASYMMETRY * scale:
        raise InputError(
            f"the matrix is not symmetric: entries [{row}, {column}] and [{column}, {row}] "
            f"differ by {gap:.3g}, and the largest entry of the diagonal is {scale:.3g}"
        )


def rows_at_once(matrix: MatrixLike | None, size: int) -> int:
    """Rows of a panel of a store: a multiple of the rows of its chunks."""
    side = int(getattr(matrix, "chunks", (_TILE,))[0])
    return min(max(_TILE // side, 1) * side, size)
