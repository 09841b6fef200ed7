"""The Cholesky factor of a matrix that gains or loses rows, without factorising it again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import lapack

from keras2gp._util.arrays import Indices, Matrix
from keras2gp._util.memory import require_memory
from keras2gp.errors import NumericalError
from keras2gp.gp.solvers.factor import PREFIX, CholeskyFactor
from keras2gp.gp.solvers.panels import PackedPanels
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep

__all__ = ["with_rows", "without_rows"]

_TILE = 512
_BLOCK = 32
"""Columns that are updated at once."""


def with_rows(
    factor: CholeskyFactor, cross: Matrix, corner: Matrix, error: float
) -> CholeskyFactor:
    """The factor of A with rows and columns added behind it.

    Math: [A, B^T; B, D] has the factor [L, 0; S^T, M]:  L S = B^T,  M M^T = D - S^T S

    The cost is N^2 operations for each row.

    Args:
        factor: L.
        cross: B, covariances of the new rows with the old ones.
        corner: D, covariances of the new rows, with noise and jitter on its diagonal.
        error: relative error of an entry: a pivot below it is no information.

    Shapes:
        cross [k, N], corner [k, k].

    Raises:
        InputError: the memory does not suffice.
        NumericalError: the larger matrix is not positive definite.
    """
    size, count = factor.size, len(corner)
    _require(size + count)
    half = factor.half_solve(cross.T)
    lower, info = lapack.dpotrf(corner - half.T @ half, lower=1, clean=1)
    pivots = np.diagonal(lower) ** 2
    if info or not (pivots > error * np.diagonal(corner)).all():
        at = info - 1 if info else int((pivots / np.diagonal(corner)).argmin())
        raise NumericalError(
            f"with new row {at} (counted from 0) the matrix is not positive definite: its "
            "input is another's, or a combination of theirs. Try: a noise_variance, without that "
            "row, or a new fit, which may add jitter"
        )
    dense = np.zeros((size + count, size + count))
    dense[:size, :size] = factor.lower()
    dense[size:, :size], dense[size:, size:] = half.T, lower
    return _packed(dense, factor.report)


def without_rows(factor: CholeskyFactor, rows: Indices) -> CholeskyFactor:
    """The factor of A without some of its rows and columns.

    Math: A without them is L L^T + V V^T, L and V the kept rows of the factor, in the kept columns
        and in the others; [L, V] Q = [L', 0] with Q orthogonal, a few columns at a time

    The cost is (N - i)^2 operations for each row, i the first of them; it is stable.

    Args:
        factor: of A, [N, N].
        rows: numbers of the rows that go, different ones.

    References:
        Golub and Van Loan, Matrix Computations, section 6.5.4, with blocks for single columns.
    """
    _require(factor.size)
    dense = factor.lower()
    kept = np.setdiff1d(np.arange(factor.size), rows)
    lower, rest = dense[np.ix_(kept, kept)], dense[np.ix_(kept, rows)]
    first = int(np.searchsorted(kept, rows.min()))
    for start in range(first, len(kept), _BLOCK):
        stop = min(start + _BLOCK, len(kept))
        width = stop - start
        both = np.hstack([lower[start:, start:stop], rest[start:]])
        turn = np.linalg.qr(both[:width].T, mode="complete").Q
        both = both @ turn
        # A factor has a positive diagonal.
        lower[start:, start:stop] = both[:, :width] * np.sign(np.diagonal(both[:width, :width]))
        rest[start:] = both[:, width:]
    return _packed(lower, factor.report)


def _require(size: int) -> None:
    require_memory(
        24 * size * size, f"the update of the factor of a {size} x {size} matrix", "a new fit"
    )


def _packed(lower: Matrix, before: CholeskyReport) -> CholeskyFactor:
    size = len(lower)
    panels = PackedPanels(size, min(_TILE, size), PREFIX)
    for j in range(len(panels)):
        start, stop = panels.bounds(j)
        panels.panel(j)[...] = lower[start:, start:stop]
    pivots = np.diagonal(lower) ** 2
    at = int(pivots.argmin())
    step = JitterStep(before.jitter, float(pivots[at]), at)
    return CholeskyFactor(panels, replace(before, steps=(step,), duplicate=None))
