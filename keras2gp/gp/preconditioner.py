"""A preconditioner for conjugate gradients from a few columns of the matrix."""

from __future__ import annotations

import numpy as np

from keras2gp.gp.panels import Array
from keras2gp.gp.pivoted import PartialCholesky

__all__ = ["Preconditioner", "no_preconditioner"]


class Preconditioner:
    """P = F F^T + s I with F the randomly pivoted partial Cholesky factor, [N, rank].

    s is what noise and jitter add to the diagonal, and the mean of what F F^T leaves of it: what
    the columns do not explain is taken for noise, so that P is regular without any.

    Math: F = U S V^T;  P^-1 r = r / s + U (1 / (S^2 + s) - 1 / s) U^T r

    That is Woodbury's identity with the capacitance matrix diagonal: applied through F^T F + s I
    it would lose the digits of |F|^2 / s.
    """

    def __init__(self, partial: PartialCholesky, added: float) -> None:
        self.rank = partial.rank
        mean = float(partial.diagonal.mean())
        self._shift = added + float(partial.residual.mean())
        # Where F F^T is all of the matrix and there is no noise, anything small and positive does.
        self._shift = max(self._shift, np.finfo(np.float64).eps * abs(mean))
        self._vectors, values, _ = np.linalg.svd(partial.factor, full_matrices=False)
        self._factors = 1.0 / (values**2 + self._shift) - 1.0 / self._shift

    def apply(self, r: Array) -> Array:
        """P^-1 r for r of shape [N, C]."""
        inner = self._factors[:, None] * (self._vectors.T @ r)
        result: Array = r / self._shift + self._vectors @ inner
        return result


def no_preconditioner(r: Array) -> Array:
    """P = I."""
    return r
