"""The evidence of every noise variance, from one tridiagonalisation of the kernel matrix.

Why not eigenvectors: the quadratic form and the determinant need T and Q^T Y alone, which cost a
fifth of a decomposition with vectors. Every further noise variance costs N C operations.
"""

from __future__ import annotations

import math
from copy import copy
from typing import Self

import numpy as np
from scipy.linalg import LinAlgError, eigvalsh_tridiagonal, lapack, solveh_banded

from keras2gp._util.arrays import Matrix, Targets, Vector

__all__ = ["Tridiagonal", "profiled_evidence"]

_PANEL = 64
"""Columns that LAPACK reduces at once: without it the work space is that of one, and slow."""


def profiled_evidence(quadratic: Vector, log_determinant: float, rows: int) -> float:
    """log p(Y) in nats, at the factors on kernel and noise that make it largest, one an output.

    Math: q_c = y_c^T A^-1 y_c;  the factor s_c = q_c / N;
        log p = -1/2 sum_c (N log s_c + log det A + N + N log 2 pi)

    Args:
        quadratic: q, positive.
        log_determinant: log det A.
        rows: N.

    Shapes:
        quadratic [C].

    References:
        Rasmussen and Williams, equation 5.8, at the factor where its derivative is zero.
    """
    logs = float(np.log(quadratic / rows).sum())
    constant = log_determinant + rows * (1.0 + math.log(2.0 * math.pi))
    return -0.5 * (rows * logs + len(quadratic) * constant)


class Tridiagonal:
    """K = Q T Q^T with T tridiagonal, and Q^T Y.

    Math: log det (K + r I) = sum_k log(t_k + r), t the eigenvalues of T
        y^T (K + r I)^-1 y = (Q^T y)^T (T + r I)^-1 (Q^T y)

    Args:
        matrix: K, symmetric; overwritten.
        targets: Y.

    Shapes:
        matrix [N, N], N at least 3; targets [N, C].

    References:
        Golub and Van Loan, Matrix Computations, section 8.3.1.
    """

    def __init__(self, matrix: Matrix, targets: Targets) -> None:
        size = len(matrix)
        reduced, self._diagonal, self._below, tau, _ = lapack.dsytrd(
            matrix.T, lower=1, lwork=_PANEL * size, overwrite_a=1
        )
        rotated = np.array(targets, dtype=np.float64, order="F")
        # The reflectors of Q leave the first row as it is.
        part, _, _ = lapack.dormqr(
            "L", "T", reduced[1:, :-1], tau, rotated[1:], lwork=_PANEL * max(size, targets.shape[1])
        )
        rotated[1:] = part
        self.rotated = rotated
        self._eigenvalues = eigvalsh_tridiagonal(self._diagonal, self._below)

    @property
    def outputs(self) -> int:
        """C."""
        return int(self.rotated.shape[1])

    def of_output(self, column: int) -> Self:
        """The same matrix with the targets of one output.

        Args:
            column: which.
        """
        one = copy(self)
        one.rotated = self.rotated[:, column : column + 1]
        return one

    @staticmethod
    def memory(size: int, outputs: int) -> int:
        """Bytes beyond the matrix: the reflectors' copy, work space, and targets."""
        return 8 * size * (size + 4 * _PANEL + 6 * outputs)

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue of K."""
        return float(self._eigenvalues[0])

    def value(self, shift: float) -> float | None:
        """log p(Y) of A = K + shift I (profiled_evidence); None where A is not positive definite.

        Args:
            shift: noise and jitter.
        """
        if not self.smallest + shift > 0.0:
            return None
        banded = np.stack([self._diagonal + shift, np.append(self._below, 0.0)])
        try:
            solved = solveh_banded(banded, self.rotated, lower=True, check_finite=False)
        except LinAlgError:
            return None
        quadratic = np.einsum("nc,nc->c", self.rotated, solved)
        if not (np.isfinite(quadratic).all() and (quadratic > 0.0).all()):
            return None
        log_determinant = float(np.log(self._eigenvalues + shift).sum())
        return profiled_evidence(quadratic, log_determinant, len(banded[0]))
