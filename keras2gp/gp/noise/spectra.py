"""One decomposition of a kernel matrix, from which the value of every noise is cheap."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from keras2gp._util.arrays import Indices, Matrix, Targets, Vector
from keras2gp.gp.probabilities.softmax import calibration_rows, tempered_at
from keras2gp.gp.solvers.tridiagonal import Tridiagonal

__all__ = [
    "Eigenvectors",
    "EvidenceSpectrum",
    "LabelSpectrum",
    "label_likelihoods",
    "plus_constant",
]

_PRECISION = 1e-6
"""The error of the logarithm of a temperature at which labels are compared."""


def label_likelihoods(left_out: Matrix, columns: Indices) -> Vector:
    """Log probabilities of labels, each predicted from all others, in nats.

    Math: log softmax(m_n / T)_{y_n}, T that of fit_temperature

    The only member of a class is predicted by inputs that have never seen it, and does not count.

    Shapes:
        left_out m [N, C], columns y [N]; the result is one number for each label that counts.
    """
    left_out, columns = calibration_rows(left_out, columns)
    # The likelihood is at its largest there: of an error e of log T it loses about e^2.
    temperature = tempered_at(left_out, columns, precision=_PRECISION)
    log_p: Matrix = log_softmax(left_out / temperature, axis=1)
    result: Vector = log_p[np.arange(len(columns)), columns]
    return result


def plus_constant(
    alpha: Targets, diagonal: Vector, u: Vector, ones: Vector, c: float
) -> tuple[Targets, Vector]:
    """A^-1 Y and the diagonal of A^-1, of A + c 1 1^T in place of A.

    Math: (A + c 1 1^T)^-1 = A^-1 - g u u^T,  u = A^-1 1,  g = c / (1 + c 1^T u)

    Args:
        alpha: A^-1 Y, [N, C].
        diagonal: of A^-1, [N].
        u: A^-1 1, [N].
        ones: 1, [N], or what stands for it where the rows are scaled.
        c: the constant.

    References:
        Rasmussen and Williams, equation A.9.
    """
    g = c / (1.0 + c * float(ones @ u))
    return alpha - g * np.outer(u, ones @ alpha), diagonal - g * u**2


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

    def solved(self, shift: float) -> tuple[Matrix, Vector]:
        """A^-1 Y, [N, C], and the diagonal of A^-1, [N], for noise and jitter `shift`."""
        inverse = 1.0 / (self._eigenvalues + shift)
        alpha: Matrix = self._vectors @ (inverse[:, None] * self._rotated)
        return alpha, self._squares @ inverse


class LabelSpectrum(Eigenvectors):
    """The leave-one-out likelihood of labels, at any noise, from an eigendecomposition."""

    def __init__(self, matrix: Matrix, targets: Targets, roots: Vector) -> None:
        super().__init__(matrix, targets)
        self._columns, self._roots = targets.argmax(axis=1), roots[:, None]
        self._ones = self._vectors.T @ roots

    def parts(self, shift: float, intercept: float = 0.0) -> Vector:
        """The part of each label in the likelihood at this noise and jitter, in nats.

        Args:
            shift: noise and jitter.
            intercept: a constant that is added to the kernel.
        """
        alpha, diagonal = self.solved(shift)
        if intercept:
            ones = self._roots[:, 0]
            u = self._vectors @ (self._ones / (self._eigenvalues + shift))
            alpha, diagonal = plus_constant(alpha, diagonal, u, ones, intercept)
        left_out = (self._targets - alpha / diagonal[:, None]) / self._roots
        return label_likelihoods(left_out, self._columns)


class EvidenceSpectrum(Tridiagonal):
    """The evidence of targets, at any noise, from a tridiagonalisation."""

    def __init__(self, matrix: Matrix, targets: Targets, roots: Vector) -> None:
        super().__init__(matrix, targets)
        self._logs = float(np.log(roots).sum())

    def parts(self, shift: float) -> Vector | None:
        """The evidence at this noise and jitter, [1], in nats; None where A is singular."""
        value = self.value(shift)
        return None if value is None else np.array([value + self.outputs * self._logs])
