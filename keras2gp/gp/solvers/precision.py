"""What rounding can do: to the entries of a matrix, its pivots, and posterior variances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from keras2gp._util.arrays import Array
from keras2gp.errors import NumericalError
from keras2gp.gp.solvers.factor import CholeskyReport

__all__ = ["clipped_variance", "relative_error", "rounding_bound"]

# Measured on deep networks in float32: entries err by up to 12 eps, and the pivot of an image given
# twice, which is zero, by up to 15 eps.
_ENTRY_ERROR = 16.0


def relative_error(dtype: npt.DTypeLike, size: int) -> float:
    """How far an entry of an [N, N] kernel matrix may be off, relative to its variance.

    Math: max(16 eps(dtype of the entries), N eps(float64)): the error with which the entries
        were computed, or that of a Cholesky factorisation in float64.

    Reference: Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3.
    """
    computed = np.finfo(dtype).eps if np.dtype(dtype).kind == "f" else 0.0
    return max(_ENTRY_ERROR * float(computed), size * float(np.finfo(np.float64).eps))


def rounding_bound(prior: Array, size: int, dtype: npt.DTypeLike, report: CholeskyReport) -> Array:
    """How far below zero rounding alone can take a posterior variance, [M].

    With entries that err by u relative to their variance, the explained variance k^T A^-1 k errs
    by at most about 2 u |w|_1 + u |w|_1^2 (w = A^-1 k, the interpolation weights: 100 allows
    |w|_1 up to 9), and by N u^2 / lambda_min for what the errors of k explain themselves; the
    smallest pivot stands in for lambda_min.

    Math: bound = prior u (100 + N u / p), p the smallest pivot over the mean diagonal,
        u = relative_error(dtype of the entries, N)

    Shapes: prior [M]; size N.
    """
    error = relative_error(dtype, size)
    pivot = report.smallest_pivot / max(report.mean_diagonal, report.smallest_pivot)
    return prior * (error * (100.0 + size * error / pivot))


def clipped_variance(variance: Array, prior: Array, bound: Array, first: int) -> Array:
    """Variances [M] with those within `bound` below zero set to zero.

    first: the index of the first of them among the inputs, for the error

    Raises: NumericalError if one lies further below zero.
    """
    wrong = variance < -bound
    if wrong.any():
        at = int((variance + bound).argmin())
        raise NumericalError(
            f"the posterior variance of input {first + at} is {variance[at]:.3g}, below zero by "
            f"more than rounding explains ({bound[at]:.3g}; prior variance {prior[at]:.3g}): the "
            "matrices are not of one kernel, or their entries are less precise than their type. "
            "Try: a noise_variance, or a kernel in float64"
        )
    return np.maximum(variance, 0.0)
