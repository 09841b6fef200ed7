"""The lower triangle of a symmetric matrix in block columns, with BLAS and LAPACK calls on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import blas, lapack

from keras2gp._util.arrays import Matrix, Vector

__all__ = ["PackedPanels"]


@dataclass(frozen=True)
class _Routines:
    """The routines of BLAS and LAPACK for one type."""

    syrk: Callable[..., Any]
    gemm: Callable[..., Any]
    trsm: Callable[..., Any]
    potrf: Callable[..., Any]


_ROUTINES = {
    np.dtype(np.float64): _Routines(blas.dsyrk, blas.dgemm, blas.dtrsm, lapack.dpotrf),
    np.dtype(np.float32): _Routines(blas.ssyrk, blas.sgemm, blas.strsm, lapack.spotrf),
}


class PackedPanels:
    """The lower triangle of an [N, N] matrix as a run of block columns, or panels.

    Entries are float64 or float32, and right-hand sides are of the same type.

    Panel j holds columns [start, stop) = [j T, min((j + 1) T, N)) and rows [start, N), row by row:
    its first rows are the diagonal tile, the others the tiles below. Only the lower triangle of a
    diagonal tile is ever read. The storage is one vector of at most N (N + T) / 2 numbers, behind
    `prefix` numbers that the owner fills.

    A panel is one block, not a column of tiles, so that one BLAS call spans all rows below the
    diagonal and its threads share a long product.

    Attributes:
        size: N.
        tile: T.
        storage: the vector, [prefix + length(N, T)].
    """

    def __init__(
        self,
        size: int,
        tile: int,
        prefix: int = 0,
        storage: Vector | None = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        self.size = size
        self.tile = tile
        self.prefix = prefix
        total = prefix + self.length(size, tile)
        self.storage: Vector = np.empty(total, dtype) if storage is None else storage
        starts = range(0, size, tile)
        self._bounds = [(start, min(start + tile, size)) for start in starts]
        counts = [(size - start) * (stop - start) for start, stop in self._bounds]
        self._offsets = [prefix, *(prefix + np.cumsum(counts, dtype=np.int64)).tolist()]

    @staticmethod
    def length(size: int, tile: int) -> int:
        """Number of entries in the panels of an [N, N] matrix with panels of T columns."""
        full, rest = divmod(size, tile)
        return tile * (full * size - tile * (full * (full - 1) // 2)) + rest * rest

    def __len__(self) -> int:
        return len(self._bounds)

    @property
    def _routines(self) -> _Routines:
        return _ROUTINES[self.storage.dtype]

    def bounds(self, j: int) -> tuple[int, int]:
        """First column of panel j, and the column after its last."""
        return self._bounds[j]

    def panel(self, j: int) -> Matrix:
        """Panel j: a view, [N - start, stop - start]."""
        start, stop = self._bounds[j]
        run = self.storage[self._offsets[j] : self._offsets[j + 1]]
        return run.reshape(self.size - start, stop - start)

    def diagonal(self) -> Vector:
        """Copy of the diagonal, [N]."""
        tiles = (np.diagonal(self.panel(j)) for j in range(len(self)))
        return np.concatenate(list(tiles))

    def factor_panel(self, j: int) -> int:
        """Turn panel j of A into panel j of L, left-looking: panels before j hold L already.

        Math: A[:, j] - sum over k < j of L[:, k] L[j, k]^T = L[:, j] L[j, j]^T

        Returns:
            0, or 1 + the row within the diagonal tile whose pivot is not positive; the diagonal of
            the tile then holds that pivot.
        """
        start, stop = self._bounds[j]
        width = stop - start
        panel, routines = self.panel(j), self._routines
        # scipy's wrappers work in place on Fortran order: the transpose of a row-major block,
        # in which the lower triangle is the upper one.
        tile, below = panel[:width].T, panel[width:].T
        for k in range(j):
            left = self.panel(k)[start - self._bounds[k][0] :]
            top = left[:width].T
            routines.syrk(-1.0, top, beta=1.0, c=tile, trans=1, overwrite_c=1)
            if below.size:
                routines.gemm(
                    -1.0, top, left[width:].T, beta=1.0, c=below, trans_a=1, overwrite_c=1
                )
        _, info = routines.potrf(tile, lower=0, clean=0, overwrite_a=1)
        if info == 0 and below.size:
            routines.trsm(1.0, tile, below, side=0, lower=0, trans_a=1, overwrite_b=1)
        return int(info)

    def solve_lower(self, b: Matrix, first: int = 0) -> None:
        """Overwrite b with L^-1 b; b is [N - start of panel `first`, C], row by row.

        Rows of b before panel `first` are zero, as in a block of the identity.
        """
        origin, routines = self._bounds[first][0], self._routines
        for j in range(first, len(self)):
            start, stop = self._bounds[j]
            panel = self.panel(j)
            here, below = b[start - origin : stop - origin].T, b[stop - origin :].T
            tile = panel[: stop - start].T
            routines.trsm(1.0, tile, here, side=1, lower=0, trans_a=0, overwrite_b=1)
            if below.size:
                rest = panel[stop - start :].T
                routines.gemm(-1.0, here, rest, beta=1.0, c=below, overwrite_c=1)

    def solve_lower_transposed(self, b: Matrix) -> None:
        """Overwrite b with L^-T b; b is [N, C], row by row."""
        routines = self._routines
        for j in reversed(range(len(self))):
            start, stop = self._bounds[j]
            panel = self.panel(j)
            here, below = b[start:stop].T, b[stop:].T
            if below.size:
                rest = panel[stop - start :].T
                routines.gemm(-1.0, below, rest, beta=1.0, c=here, trans_b=1, overwrite_c=1)
            tile = panel[: stop - start].T
            routines.trsm(1.0, tile, here, side=1, lower=0, trans_a=1, overwrite_b=1)
