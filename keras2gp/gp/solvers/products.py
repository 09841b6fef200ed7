"""Products with a symmetric matrix of which one triangle is read, the upper or the lower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras2gp._util.arrays import Matrix, Vector
from keras2gp.gp.solvers.matrices import (
    MatrixLike,
    MatrixProduct,
    check_finite,
    check_shape,
    check_symmetry,
    read_block,
    rows_at_once,
)

__all__ = ["LowerTriangle", "TiledProduct", "product_of"]

# Rows of a lower triangle in float64 at once: few, so that they stay in the cache between two
# products, and enough for two threads to share.
_ROWS = 256


class TiledProduct:
    """Products with an array or a store, of which one triangle is read, panel by panel.

    Math: y[P] = K[P, P:] b[P:];  y[after P] += K[P, after P]^T b[P], for each panel of rows P

    Raises:
        InputError: an array is not symmetric (checked at the start), or entries are not finite
            (checked while reading).

    >>> from keras2gp.gp.solvers.products import TiledProduct
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
        self._tile = rows_at_once(matrix, size)
        if isinstance(matrix, np.ndarray):
            check_symmetry(matrix)

    @staticmethod
    def memory(size: int) -> int:
        """Bytes of one panel in its own type and in float64: an upper bound."""
        return 16 * rows_at_once(None, size) * size

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


class LowerTriangle:
    """A symmetric matrix [N, N], an array or a store, as its lower triangle says it.

    Attributes:
        whole: the array or the store.
        size: N.
        dtype: type of the entries.

    TiledProduct reads the upper triangle. Where entries differ from their mirror images by
    rounding, the two are different matrices, and only this one is that of the Cholesky factor.

    Math: y[P] = K[P, ..P] b[..P];  y[before P] += K[P, before P]^T b[P], for each panel of rows P

    >>> from keras2gp.gp.solvers.products import LowerTriangle
    >>> import numpy as np
    >>> LowerTriangle(np.array([[2.0, 9.0], [1.0, 3.0]])).product(np.array([[1.0], [1.0]]))
    array([[3.],
           [4.]])
    """

    def __init__(self, matrix: MatrixLike) -> None:
        self.whole = matrix
        self.size = check_shape(matrix)
        self.dtype = read_block(matrix, slice(0, 1), slice(0, 1)).dtype
        self._held = isinstance(matrix, np.ndarray)
        self._rows = min(_ROWS, self.size) if self._held else rows_at_once(matrix, self.size)

    @staticmethod
    def memory(size: int, *, held: bool) -> int:
        """Bytes of two panels in float64, and of what is read of a matrix that is not held."""
        return (16 if held else 32) * min(_ROWS, size) * size

    def corner(self, count: int) -> Matrix:
        """The first rows and columns, [count, count]."""
        lower = np.tril(read_block(self.whole, slice(0, count), slice(0, count)))
        result: Matrix = lower.astype(np.float64)
        return result + np.tril(result, -1).T

    def diagonal(self) -> Vector:
        """Variances, [N].

        Raises:
            InputError: an entry near the diagonal is not finite.
        """
        parts = []
        for start in range(0, self.size, self._rows):
            rows = slice(start, min(start + self._rows, self.size))
            block = read_block(self.whole, rows, rows)
            check_finite(block, start, start)
            parts.append(np.diagonal(block).astype(np.float64))
        return np.concatenate(parts)

    def product(self, b: Matrix) -> Matrix:
        """The matrix times b, [N, C], in float64.

        Raises:
            InputError: an entry of a store is not finite.
        """
        # Few columns are multiplied as rows: BLAS reads the panel once, as it lies.
        rows = np.ascontiguousarray(b.T)
        result = np.zeros_like(rows)
        buffer = np.empty(self._rows * self.size)
        for start in range(0, self.size, self._rows):
            stop = min(start + self._rows, self.size)
            panel = buffer[: (stop - start) * stop].reshape(stop - start, stop)
            panel[...] = read_block(self.whole, slice(start, stop), slice(0, stop))
            if not self._held:  # an array is checked when it is factorised
                check_finite(panel, start, 0)
            corner = panel[:, start:]
            corner[...] = np.tril(corner) + np.tril(corner, -1).T
            result[:, start:stop] += rows[:, :stop] @ panel.T
            result[:, :start] += rows[:, start:stop] @ panel[:, :start]
        return np.ascontiguousarray(result.T)
