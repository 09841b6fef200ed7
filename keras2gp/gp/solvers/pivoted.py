"""Partial Cholesky factorisation with random pivots: a low-rank approximation from few columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import blas

from keras2gp._util.arrays import Array

__all__ = ["Columns", "PartialCholesky", "partial_cholesky", "randomly_pivoted"]

_Indices = npt.NDArray[np.intp]

# Pivots proposed at once. Columns are computed in batches: the more at once, the fewer passes over
# a matrix on disk.
_PROPOSALS = 256


class Columns(Protocol):
    """A positive semi-definite matrix [N, N] of which only some columns are asked."""

    def diagonal(self) -> Any:
        """[N]."""
        ...

    def columns(self, indices: Sequence[int], /) -> Array:
        """Columns by their indices, [N, count]."""
        ...

    def corner(self, indices: Sequence[int], /) -> Array:
        """The entries between these rows and the same columns, [count, count]."""
        ...


@dataclass(frozen=True)
class PartialCholesky:
    """F F^T ~ K, exact in the rows and columns of the pivots.

    pivots:   indices of the rows that were eliminated, in that order
    factor:   F, [N, rank]; its rows at the pivots are lower triangular
    diagonal: the diagonal of K, [N]
    residual: the diagonal of K - F F^T, [N], not negative
    """

    pivots: tuple[int, ...]
    factor: Array
    diagonal: Array
    residual: Array

    @property
    def rank(self) -> int:
        """Number of pivots."""
        return len(self.pivots)


def randomly_pivoted(source: Columns, rank: int, error: float, seed: int) -> PartialCholesky:
    """Pivots drawn with probability proportional to what of the diagonal is left.

    Pivots are proposed in batches and thinned by rejection, which gives the same distribution as
    one after the other. It ends early where all that is left is below `error` of the diagonal.

    rank:  number of pivots at most
    error: how far the entries may be off, relative to their variance

    Reference: Chen, Epperly, Tropp and Webber, Randomly pivoted Cholesky, algorithm 2.1; Epperly,
        Tropp and Webber, Embrace rejection, algorithm 2.1.
    """
    random = np.random.default_rng(seed)
    elimination = _Elimination(source, rank, error)
    while elimination.rank < rank and elimination.left.any():
        weights = elimination.left.copy()
        proposed = random.choice(len(weights), min(_PROPOSALS, rank), p=weights / weights.sum())
        elimination.extend(proposed, weights[proposed] * random.random(len(proposed)))
    return elimination.result()


def partial_cholesky(source: Columns, pivots: Sequence[int], error: float) -> PartialCholesky:
    """The factor for given pivots; those that earlier ones explain up to `error` are left out."""
    elimination = _Elimination(source, len(pivots), error)
    for start in range(0, len(pivots), _PROPOSALS):
        batch = np.array(pivots[start : start + _PROPOSALS], dtype=np.intp)
        elimination.extend(batch, np.zeros(len(batch)))
    return elimination.result()


class _Elimination:
    """The factor while it grows."""

    def __init__(self, source: Columns, rank: int, error: float) -> None:
        self._source = source
        self._diagonal = np.asarray(source.diagonal(), dtype=np.float64)
        self._floor = error * np.abs(self._diagonal)
        self._most = rank
        self._factor = np.empty((len(self._diagonal), rank))
        self._pivots: list[int] = []
        self.left = self._diagonal.copy()
        self._settle()

    @property
    def rank(self) -> int:
        return len(self._pivots)

    def extend(self, proposed: _Indices, thresholds: Array) -> None:
        """Eliminate each proposed row whose pivot is above its threshold, in turn.

        Math: S = K[P, P] - F[P] F[P]^T, P the proposed rows;  G = (K[:, T] - F F[T]^T) L^-T for
            the accepted T, L the Cholesky factor of S[T, T]
        """
        done = self._factor[:, : self.rank]
        inner = self._source.corner(proposed.tolist()) - done[proposed] @ done[proposed].T
        kept, lower = _accepted(
            inner, np.maximum(thresholds, self._floor[proposed]), self._most - self.rank
        )
        chosen = proposed[kept]
        if not len(chosen):
            return
        # Row by row in memory, so that its transpose is in the order of BLAS: L G^T = new^T.
        new = np.array(self._source.columns(chosen.tolist()), dtype=np.float64, order="C")
        new -= done @ done[chosen].T
        blas.dtrsm(1.0, lower, new.T, side=0, lower=1, overwrite_b=1)
        new[chosen] = np.tril(new[chosen])
        new[self._pivots] = 0.0
        self._factor[:, self.rank : self.rank + len(chosen)] = new
        self._pivots += chosen.tolist()
        self.left -= np.einsum("nk,nk->n", new, new)
        self._settle()

    def _settle(self) -> None:
        """What is below the entries' errors is nothing, and so is what is left of a pivot."""
        self.left[self._pivots] = 0.0
        self.left[self.left <= self._floor] = 0.0

    def result(self) -> PartialCholesky:
        factor = self._factor[:, : self.rank]
        explained = np.einsum("nk,nk->n", factor, factor)
        residual = np.maximum(self._diagonal - explained, 0.0)
        residual[self._pivots] = 0.0
        return PartialCholesky(tuple(self._pivots), factor, self._diagonal, residual)


def _accepted(inner: Array, thresholds: Array, most: int) -> tuple[_Indices, Array]:
    """Which of the proposed pivots are eliminated, and the Cholesky factor of those.

    Math: accept i if its pivot, given those accepted before it, is above its threshold
    """
    count = len(inner)
    inner, lower = inner.copy(), np.zeros((count, count))
    kept: list[int] = []
    for i in range(count):
        if len(kept) == most:
            break
        pivot = inner[i, i]
        if pivot <= thresholds[i]:
            continue
        column = inner[:, i] / np.sqrt(pivot)
        inner -= np.outer(column, column)
        lower[:, len(kept)] = column
        kept.append(i)
    index = np.array(kept, dtype=np.intp)
    return index, np.asfortranarray(np.tril(lower[index, : len(kept)]))
