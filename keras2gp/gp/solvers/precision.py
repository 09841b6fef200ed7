"""Bounds on rounding errors: of kernel entries, pivots and posterior variances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from keras2gp._util.arrays import Vector
from keras2gp.errors import NumericalError
from keras2gp.gp.solvers.report import CholeskyReport

__all__ = ["clipped_variance", "precision_hint", "relative_error", "rounding_bound"]

# Measured on deep networks in float32: entries err by up to 12 eps, and the pivot of a repeated
# image, which is zero in exact arithmetic, by up to 15 eps.
_ENTRY_ERROR = 16.0


def relative_error(dtype: npt.DTypeLike, size: int) -> float:
    """Relative error of an entry of an [N, N] kernel matrix: an upper bound.

    Math: max(16 eps(dtype of the entries), N eps(float64)): the error with which the entries
        were computed, or the error of a Cholesky factorisation in float64.

    References:
        Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3.
    """
    computed = np.finfo(dtype).eps if np.dtype(dtype).kind == "f" else 0.0
    return max(_ENTRY_ERROR * float(computed), size * float(np.finfo(np.float64).eps))


def precision_hint(dtype: npt.DTypeLike) -> tuple[str, str]:
    """A sentence and a remedy for messages about entries below float64; empty for float64."""
    if np.dtype(dtype).kind != "f" or np.dtype(dtype).itemsize >= 8:
        return "", ""
    return (
        f" The entries are {np.dtype(dtype)}, whose rounding may be the cause.",
        'dtype="float64" in the kernel\'s convert or load, ',
    )


def rounding_bound(
    prior: Vector, size: int, dtype: npt.DTypeLike, report: CholeskyReport
) -> Vector:
    """Distance below zero to which rounding alone can take a posterior variance, [M].

    With entries that err by u relative to their variance, the explained variance k^T A^-1 k errs
    by at most about 2 u |w|_1 + u |w|_1^2, where w = A^-1 k are the interpolation weights (100
    allows |w|_1 up to 9). The errors of k explain another N u^2 / lambda_min; the smallest pivot
    stands in for lambda_min.

    Math: bound = prior u (100 + N u / p), p the smallest pivot over the mean diagonal,
        u = relative_error(dtype of the entries, N)

    Args:
        prior: prior variances, [M].
        size: N.
        dtype: type of the kernel's entries.
        report: the report of the factorisation, which has the smallest pivot.
    """
    error = relative_error(dtype, size)
    smallest = report.smallest_pivot
    # No pivot above rounding is known of a matrix that is zero.
    pivot = smallest / max(report.mean_diagonal, smallest) if smallest > 0.0 else error
    return prior * (error * (100.0 + size * error / pivot))


def clipped_variance(variance: Vector, prior: Vector, bound: Vector, first: int) -> Vector:
    """Posterior variances [M], where values within `bound` below zero are set to zero.

    Args:
        variance: as computed, [M].
        prior: prior variances, [M].
        bound: `rounding_bound` of the inputs, [M].
        first: the index of the first of them among all inputs, for the error.

    Raises:
        NumericalError: a variance lies further below zero.
    """
    wrong = variance < -bound
    if wrong.any():
        at = int((variance + bound).argmin())
        raise NumericalError(
            f"the posterior variance of input {first + at} (counted from 0) is {variance[at]:.3g}, "
            f"below zero by more than rounding explains ({bound[at]:.3g}; prior variance "
            f"{prior[at]:.3g}): the matrices are not of one kernel, or their entries are less "
            'precise than their type. Try: a noise_variance, or dtype="float64" in the kernel\'s '
            "convert or load"
        )
    return np.maximum(variance, 0.0)
