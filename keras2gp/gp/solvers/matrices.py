"""Interfaces and checks of kernel matrices in memory or on disk, and products with their tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from keras2gp._util.arrays import Matrix, Vector
from keras2gp.errors import InputError

__all__ = [
    "MatrixLike",
    "MatrixProduct",
    "Progress",
    "TiledProduct",
    "check_finite",
    "check_mirror",
    "check_shape",
    "check_symmetry",
    "product_of",
    "read_block",
    "refuse_asymmetry",
    "rows_at_once",
]

Progress = Callable[[int, int], None]

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


class TiledProduct:
    """Products with an array or a store, of which one triangle is read, panel by panel.

    Math: y[P] = K[P, P:] b[P:];  y[after P] += K[P, after P]^T b[P], for each panel of rows P

    Raises:
        InputError: an array is not symmetric (checked at the start), or entries are not finite
            (checked while reading).

    >>> from keras2gp.gp.solvers.matrices import TiledProduct
    >>> import numpy as np
    >>> product = TiledProduct(np.array([[2.0, 1.0], [1.0, 3.0]]))
    >>> product.product(np.array([[1.0], [1.0]]))
    array([[3.],
           [4.]])
    """

    def __init__(self, matrix: MatrixLike) -> None:
        self._matrix = matrix
        size = check_shape(matrix)
        self.shape = (size, size)
        self.dtype = read_block(matrix, slice(0, 1), slice(0, 1)).dtype
        self._tile = (
            min(_TILE, size) if isinstance(matrix, np.ndarray) else rows_at_once(matrix, size)
        )
        if isinstance(matrix, np.ndarray):
            check_symmetry(matrix)

    @staticmethod
    def memory(size: int, tile: int = _TILE) -> int:
        """Bytes of one panel in its own type and in float64: an upper bound."""
        return 16 * min(tile, size) * size

    def diagonal(self) -> Vector:
        """Variances, [N]."""
        size, tile = self.shape[0], self._tile
        parts = []
        for start in range(0, size, tile):
            rows = slice(start, min(start + tile, size))
            parts.append(np.diagonal(read_block(self._matrix, rows, rows)).astype(np.float64))
        return np.concatenate(parts)

    def columns(self, indices: Sequence[int]) -> Matrix:
        """Columns by their indices, [N, count]."""
        asked = np.asarray(indices, dtype=np.intp)
        if isinstance(self._matrix, np.ndarray):
            result: Matrix = self._matrix[:, asked].astype(np.float64)
            return result
        result = np.empty((self.shape[0], len(asked)))
        for start, stop, panel in self._panels():
            right = np.flatnonzero(asked >= start)
            result[start:stop, right] = panel[:, asked[right] - start]
            inside = np.flatnonzero((asked >= start) & (asked < stop))
            result[start:, inside] = panel[asked[inside] - start].T
        return result

    def corner(self, indices: Sequence[int]) -> Matrix:
        """The entries between these rows and the same columns, [count, count]."""
        asked = np.asarray(indices, dtype=np.intp)
        if isinstance(self._matrix, np.ndarray):
            entries: Matrix = self._matrix[np.ix_(asked, asked)].astype(np.float64)
            return entries
        result = np.empty((len(asked), len(asked)))
        for start, stop, panel in self._panels():
            right = np.flatnonzero(asked >= start)
            inside = np.flatnonzero((asked >= start) & (asked < stop))
            block = panel[asked[inside] - start][:, asked[right] - start]
            result[np.ix_(inside, right)] = block
            result[np.ix_(right, inside)] = block.T
        return result

    def product(self, b: Matrix) -> Matrix:
        """The matrix times b, [N, C]."""
        result = np.zeros_like(b)
        for start, stop, panel in self._panels():
            result[start:stop] += panel @ b[start:]
            result[stop:] += panel[:, stop - start :].T @ b[start:stop]
        return result

    def _panels(self) -> Any:
        """Panels of the upper triangle: first row, end row, entries [rows, N - first row]."""
        size, tile = self.shape[0], self._tile
        buffer = np.empty(tile * size)
        for start in range(0, size, tile):
            stop = min(start + tile, size)
            panel = buffer[: (stop - start) * (size - start)].reshape(stop - start, size - start)
            panel[...] = read_block(self._matrix, slice(start, stop), slice(start, size))
            if not isinstance(self._matrix, np.ndarray):  # an array was checked at the start
                check_finite(panel, start, start)
            yield start, stop, panel


def product_of(matrix: MatrixLike | MatrixProduct) -> MatrixProduct:
    """The matrix itself if it is a MatrixProduct, otherwise a TiledProduct of it."""
    return matrix if isinstance(matrix, MatrixProduct) else TiledProduct(matrix)


def check_shape(matrix: Any) -> int:
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
