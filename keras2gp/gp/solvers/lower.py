"""Products with a symmetric matrix of which the lower triangle alone is read, as by Cholesky."""

from __future__ import annotations

import numpy as np

from keras2gp._util.arrays import Matrix, Vector
from keras2gp.gp.solvers.matrices import (
    MatrixLike,
    check_finite,
    check_shape,
    read_block,
    rows_at_once,
)

__all__ = ["LowerTriangle"]

# Rows of an array in float64 at once: few, so that they stay in the cache between two products, and
# enough for two threads to share.
_ROWS = 256


class LowerTriangle:
    """A symmetric matrix [N, N], an array or a store, as its lower triangle says it.

    Attributes:
        whole: the array or the store.
        size: N.
        dtype: type of the entries.

    TiledProduct reads the upper triangle. Where entries differ from their mirror images by
    rounding, the two are different matrices, and only this one is that of the Cholesky factor.

    Math: y[P] = K[P, ..P] b[..P];  y[before P] += K[P, before P]^T b[P], for each panel of rows P

    >>> from keras2gp.gp.solvers.lower import LowerTriangle
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
