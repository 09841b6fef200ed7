"""Leave-one-out predictions at every noise variance, from one eigendecomposition."""

from __future__ import annotations

import numpy as np

from keras2gp._util.arrays import Matrix, Targets

__all__ = ["Eigenvectors"]


class Eigenvectors:
    """K = U diag(t) U^T.

    Math: alpha = U (U^T Y / (t + r));  (A^-1)_ii = sum_k U_ik^2 / (t_k + r), A = K + r I

    Args:
        matrix: K, symmetric.
        targets: Y.

    Shapes:
        matrix [N, N]; targets [N, C].

    References:
        Rasmussen and Williams, equations 5.10 to 5.12, in the basis of the eigenvectors.
    """

    def __init__(self, matrix: Matrix, targets: Targets) -> None:
        self._eigenvalues, self._vectors = np.linalg.eigh(matrix)
        self._squares = self._vectors**2
        self._targets, self._rotated = targets, self._vectors.T @ targets

    @staticmethod
    def memory(size: int, outputs: int) -> int:
        """Bytes beyond the matrix: vectors, their squares, and LAPACK's work space."""
        return 8 * size * (5 * size + 6 * outputs)

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue of K."""
        return float(self._eigenvalues[0])

    def left_out(self, shift: float) -> Matrix:
        """The mean of each target given all others, [N, C], for noise and jitter `shift`."""
        inverse = 1.0 / (self._eigenvalues + shift)
        alpha = self._vectors @ (inverse[:, None] * self._rotated)
        result: Matrix = self._targets - alpha / (self._squares @ inverse)[:, None]
        return result
