"""A preconditioner for conjugate gradients from a few columns of the matrix."""

from __future__ import annotations

import math

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp.gp.solvers.pivoted import PartialCholesky

__all__ = ["Preconditioner"]


# Relative to the mean of the diagonal.
_LEAST_SHIFT = 1e-10


class Preconditioner:
    """P = F F^T + s I with F the randomly pivoted partial Cholesky factor, [N, rank].

    s is what noise and jitter add to the diagonal, and the mean of what F F^T leaves of it: what
    the columns do not explain is taken for noise, so that P is regular without any.

    Of rank 0 P = I: the scale of a preconditioner changes nothing.

    Math: F = U S V^T;  P^-1 r = U (S^2 + s)^-1 U^T r + (r - U U^T r) / s

    That is Woodbury's identity with the capacitance matrix diagonal: applied through F^T F + s I
    it would lose the digits of |F|^2 / s.
    """

    def __init__(self, partial: PartialCholesky, added: float) -> None:
        self.rank = partial.rank
        mean = float(partial.diagonal.mean())
        shift = added + float(partial.residual.mean())
        # Where F F^T is all of the matrix and there is no noise, the rounding of r - U U^T r must
        # not be blown up.
        self._shift = max(shift, _LEAST_SHIFT * abs(mean)) if self.rank else 1.0
        self._vectors, values, _ = np.linalg.svd(partial.factor, full_matrices=False)
        self._values = values[:, None] ** 2 + self._shift

    def apply(self, r: Array) -> Array:
        """P^-1 r for r of shape [N, C]."""
        return self._power(r, -1.0)

    def half(self, r: Array) -> Array:
        """P^-1/2 r, the symmetric root, for r of shape [N, C]."""
        return self._power(r, -0.5)

    @property
    def log_determinant(self) -> float:
        """log det P."""
        rest = len(self._vectors) - self.rank
        return float(np.log(self._values).sum()) + rest * math.log(self._shift)

    def _power(self, r: Array, power: float) -> Array:
        if not self.rank:
            return r
        inner = self._vectors.T @ r
        result: Array = r - self._vectors @ inner
        # Once more: what rounding has left of U in it would be divided by s as well.
        result -= self._vectors @ (self._vectors.T @ result)
        result *= self._shift**power
        result += self._vectors @ (self._values**power * inner)
        return result
