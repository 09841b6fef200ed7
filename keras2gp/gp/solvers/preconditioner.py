"""Randomly pivoted partial Cholesky factorisation, and the preconditioner that is made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.linalg import blas

from keras2gp._util.arrays import Indices, Matrix, Vector
from keras2gp.errors import NumericalError

__all__ = [
    "Columns",
    "PartialCholesky",
    "Preconditioner",
    "partial_cholesky",
    "randomly_pivoted",
]

# Pivots proposed at once. Columns are computed in batches, which saves passes over a matrix on
# disk.
_PROPOSALS = 256
# After _IDLE batches in a row without a pivot, the rest of the diagonal counts as rounding if it is
# below _DISAGREEMENT of the largest variance. With exact entries the first row of each is a pivot.
_IDLE, _DISAGREEMENT = 20, 1e-3
# The smallest shift of a preconditioner, relative to the mean of the diagonal.
_LEAST_SHIFT = 1e-10


class Columns(Protocol):
    """A positive semi-definite matrix [N, N] of which only some columns are computed."""

    def diagonal(self) -> Any:
        """The diagonal, [N]."""
        ...

    def columns(self, indices: Sequence[int], /) -> Matrix:
        """Columns by their indices, [N, count]."""
        ...

    def corner(self, indices: Sequence[int], /) -> Matrix:
        """The entries between these rows and the same columns, [count, count]."""
        ...


@dataclass(frozen=True)
class PartialCholesky:
    """F F^T ~ K, exact in the rows and columns of the pivots.

    Attributes:
        pivots: indices of the eliminated rows, in the order of elimination.
        factor: F, [N, rank]; its rows at the pivots are lower triangular.
        diagonal: the diagonal of K, [N].
        residual: the diagonal of K - F F^T, [N], not negative.
    """

    pivots: tuple[int, ...]
    factor: Matrix
    diagonal: Vector
    residual: Vector

    @property
    def rank(self) -> int:
        """Number of pivots."""
        return len(self.pivots)


class Preconditioner:
    """P = F F^T + s I with F the randomly pivoted partial Cholesky factor, [N, rank].

    The shift s is the sum of noise and jitter on the diagonal and of the mean residual of F F^T:
    the part of K that the columns do not explain counts as noise, so that P is regular without
    noise. For rank 0, P = I: the scale of a preconditioner changes nothing.

    Math: F = U S V^T;  P^-1 r = U (S^2 + s)^-1 U^T r + (r - U U^T r) / s

    This is Woodbury's identity with a diagonal capacitance matrix. Applied through F^T F + s I it
    would lose the digits of |F|^2 / s.
    """

    def __init__(self, partial: PartialCholesky, added: float) -> None:
        self.rank = partial.rank
        mean = float(partial.diagonal.mean())
        shift = added + float(partial.residual.mean())
        # Where F F^T is all of the matrix and there is no noise, the rounding of r - U U^T r must
        # not be divided by zero.
        self._shift = max(shift, _LEAST_SHIFT * abs(mean)) if self.rank else 1.0
        self._vectors, values, _ = np.linalg.svd(partial.factor, full_matrices=False)
        self._values = values[:, None] ** 2 + self._shift

    def apply(self, r: Matrix) -> Matrix:
        """P^-1 r for r of shape [N, C]."""
        return self._power(r, -1.0)

    def root(self, r: Matrix) -> Matrix:
        """P^-1/2 r, with the symmetric root, for r of shape [N, C]."""
        return self._power(r, -0.5)

    @property
    def log_determinant(self) -> float:
        """log det P."""
        rest = len(self._vectors) - self.rank
        return float(np.log(self._values).sum()) + rest * math.log(self._shift)

    def _power(self, r: Matrix, power: float) -> Matrix:
        if not self.rank:
            return r
        inner = self._vectors.T @ r
        result: Matrix = r - self._vectors @ inner
        # Projected twice: the component along U that rounding leaves would be divided by s too.
        result -= self._vectors @ (self._vectors.T @ result)
        result *= self._shift**power
        result += self._vectors @ (self._values**power * inner)
        return result


def randomly_pivoted(source: Columns, rank: int, error: float, seed: int) -> PartialCholesky:
    """The factor for pivots drawn with probability proportional to the residual diagonal.

    Pivots are proposed in batches and thinned by rejection, which gives the same distribution as
    drawing one after the other. The factorisation ends early where the whole residual is below
    `error` of the diagonal.

    Args:
        source: the matrix.
        rank: largest number of pivots.
        error: relative error of the entries.
        seed: seed of the draws.

    References:
        Chen, Epperly, Tropp and Webber, Randomly pivoted Cholesky, algorithm 2.1; Epperly, Tropp
        and Webber, Embrace rejection, algorithm 2.1.
    """
    random = np.random.default_rng(seed)
    elimination = _Elimination(source, rank, error)
    idle = 0
    while elimination.rank < rank and elimination.left.any() and idle < _IDLE:
        before, weights = elimination.rank, elimination.left.copy()
        proposed = random.choice(len(weights), min(_PROPOSALS, rank), p=weights / weights.sum())
        elimination.extend(proposed, weights[proposed] * random.random(len(proposed)))
        idle = 0 if elimination.rank > before else idle + 1
    elimination.require_agreement(idle)
    return elimination.result()


def partial_cholesky(source: Columns, pivots: Sequence[int], error: float) -> PartialCholesky:
    """The factor for given pivots, without those that earlier pivots explain up to `error`."""
    elimination = _Elimination(source, len(pivots), error)
    for start in range(0, len(pivots), _PROPOSALS):
        batch = np.array(pivots[start : start + _PROPOSALS], dtype=np.intp)
        elimination.extend(batch, np.zeros(len(batch)))
    return elimination.result()


class _Elimination:
    """A partial Cholesky factor that grows; `left` is the residual diagonal."""

    def __init__(self, source: Columns, rank: int, error: float) -> None:
        self._source = source
        self._diagonal = np.asarray(source.diagonal(), dtype=np.float64)
        self._floor = error * np.abs(self._diagonal)
        self._most = rank
        self._factor = np.empty((len(self._diagonal), rank))
        self._pivots: list[int] = []
        self.left = self._diagonal.copy()
        self._clear_rounding()

    @property
    def rank(self) -> int:
        return len(self._pivots)

    def extend(self, proposed: Indices, thresholds: Vector) -> None:
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
        self._clear_rounding()

    def require_agreement(self, idle: int) -> None:
        """Refuse entries that leave pivots where the diagonal has some, with a NumericalError."""
        if idle == _IDLE and self.left.max() > _DISAGREEMENT * np.abs(self._diagonal).max():
            raise NumericalError(
                "the kernel's entries do not agree with its diagonal: no row is left to eliminate "
                f"where variances of {self.left.max():.3g} remain. Try: a kernel that is a "
                'covariance, or dtype="float64" in the kernel\'s convert or load'
            )

    def _clear_rounding(self) -> None:
        """Zero the residuals of used pivots, and residuals below rounding error."""
        self.left[self._pivots] = 0.0
        self.left[self.left <= self._floor] = 0.0

    def result(self) -> PartialCholesky:
        factor = self._factor[:, : self.rank]
        explained = np.einsum("nk,nk->n", factor, factor)
        residual = np.maximum(self._diagonal - explained, 0.0)
        residual[self._pivots] = 0.0
        return PartialCholesky(tuple(self._pivots), factor, self._diagonal, residual)


def _accepted(inner: Matrix, thresholds: Vector, most: int) -> tuple[Indices, Matrix]:
    """The proposed pivots that are eliminated, and their Cholesky factor.

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
