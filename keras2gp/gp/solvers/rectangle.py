"""Covariances of all training inputs with a few of them, read a panel of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas

from keras2gp._util.arrays import Indices, Matrix, Vector
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.solvers.matrices import MatrixLike, check_finite, read_block, rows_at_once
from keras2gp.gp.solvers.preconditioner import partial_cholesky
from keras2gp.gp.solvers.training import SAME_VARIANCE, Training

__all__ = ["Features", "Panel", "features_of"]

Advance = Callable[[], object]
Panel = tuple[slice, Matrix]
"""Rows of the training inputs, and their features, [M, rows], one input a column."""


@dataclass(frozen=True)
class Features:
    """F, [N, M], of which one panel of rows is in memory: F F^T = K_nm K_mm^-1 K_mn.

    Math: F = K_nm L^-T;  L L^T = K_mm

    Attributes:
        entries: K_nm, an array or a store.
        rows: rows of the training inputs that are the columns of `entries`.
        kept: those columns that are not combinations of earlier ones.
        corner: K_mm, [M, M].
        lower: L, of the columns that are kept, in Fortran's order.
    """

    entries: MatrixLike
    rows: Indices
    kept: Indices
    corner: Matrix
    lower: Matrix

    @property
    def count(self) -> int:
        """N."""
        return int(self.entries.shape[0])

    @property
    def rank(self) -> int:
        """The number of columns that are kept."""
        return len(self.kept)

    @property
    def pivots(self) -> tuple[int, ...]:
        """The rows of the training inputs whose columns are kept."""
        return tuple(self.rows[self.kept].tolist())

    @property
    def panels(self) -> int:
        """The number of panels of one pass."""
        return -(-self.count // self._step)

    def __iter__(self) -> Iterator[Panel]:
        """One pass over the rows.

        Raises: InputError if an entry is not finite, or is none of this kernel.
        """
        place = np.full(self.count, -1)
        place[self.rows] = np.arange(len(self.rows))
        scale = float(np.diagonal(self.corner).max())
        for start in range(0, self.count, self._step):
            part = slice(start, min(start + self._step, self.count))
            panel = np.array(
                read_block(self.entries, part, slice(0, len(self.rows))),
                dtype=np.float64,
                order="C",
            )
            check_finite(panel, start, 0)
            chosen = np.flatnonzero(place[part] >= 0)
            # The covariances of a chosen input, computed once: its feature is then a row of L.
            exact = self.corner[place[part][chosen]]
            gap = np.abs(panel[chosen] - exact).max(initial=0.0)
            if gap > SAME_VARIANCE * scale:
                raise InputError(
                    "gram is not the kernel's matrix of X with its inducing inputs: entries of "
                    f"rows {start} to {part.stop - 1} (counted from 0) differ by {gap:.3g}, "
                    f"of {scale:.3g}. Try: columns X[solver.rows(len(X))], in that order"
                )
            panel[chosen] = exact
            if self.rank < len(self.rows):
                panel = np.ascontiguousarray(panel[:, self.kept])
            # Its transpose is in Fortran's order: solved in place.
            yield part, blas.dtrsm(1.0, self.lower, panel.T, side=0, lower=1, overwrite_b=1)

    @property
    def _step(self) -> int:
        return rows_at_once(self.entries, self.count)


def features_of(training: Training, rows: Indices, error: float, advance: Advance) -> Features:
    """The features of all training inputs by some of them.

    Args:
        training: the covariance of the training inputs.
        rows: rows of the inducing ones.
        error: relative error of the entries; inputs that others explain up to it are left out.
        advance: called after each part of the rectangle that was computed.

    Raises:
        NumericalError: the kernel is zero on the inducing inputs.
    """
    corner = training.among(rows.tolist())
    partial = partial_cholesky(_Corner(corner), range(len(rows)), error)
    if not partial.rank:
        raise NumericalError("the kernel is zero on all training inputs that may be inducing")
    kept = np.array(partial.pivots, dtype=np.intp)
    lower = np.asfortranarray(partial.factor[kept])
    entries = training.rectangle(rows.tolist(), advance)
    return Features(entries, rows, kept, corner, lower)


class _Corner:
    """K_mm as a matrix of which columns are read."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix

    def diagonal(self) -> Vector:
        return np.diagonal(self._matrix)

    def columns(self, indices: Sequence[int], /) -> Matrix:
        columns: Matrix = self._matrix[:, list(indices)]
        return columns

    def corner(self, indices: Sequence[int], /) -> Matrix:
        entries: Matrix = self._matrix[np.ix_(indices, indices)]
        return entries
