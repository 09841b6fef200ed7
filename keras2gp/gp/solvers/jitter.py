"""The ladder of jitters that makes singular kernel matrices regular, and why it failed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from keras2gp._util.arrays import Images, Noise, Vector
from keras2gp._util.checks import is_finite_and_not_negative
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.solvers.matrices import MatrixLike, read_block
from keras2gp.gp.solvers.precision import precision_hint, relative_error
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep

__all__ = [
    "JITTER_LADDER",
    "LARGEST",
    "check_jitter",
    "check_range",
    "factor_with_jitter",
]

LARGEST = 1e280
"""The largest variance, and the inverse of the smallest: a solve multiplies a few of them."""

# Relative to the mean of the diagonal; each is tried only if the one before it fails.
JITTER_LADDER = (0.0, 1e-10, 1e-8, 1e-6, 1e-4)

# Rows are similar if they agree to five digits: float32 entries of one image given twice do. More
# candidates than the first few come only from a matrix that is no covariance.
_SAME_ROW = 1e-5
_MOST_PAIRS = 16
_COMPARED = 512


def factor_with_jitter(
    matrix: MatrixLike,
    diagonal: Vector,
    noise: Noise,
    jitter: float | str,
    attempt: Callable[[Noise], tuple[bool, float, int]],
    *,
    inputs: Images | None = None,
) -> CholeskyReport:
    """Try to factorise with more and more jitter, until it succeeds.

    Args:
        matrix: the matrix, read again only to find the cause of a failure.
        diagonal: its diagonal, [N].
        noise: the noise variance or that of each row, added to the diagonal in every attempt.
        jitter: "auto" for the ladder, or one number relative to the mean of the diagonal.
        attempt: called with the number to add to the diagonal; returns whether it succeeded, the
            smallest pivot, and the row of that pivot.
        inputs: the inputs of the matrix, [N, ...], to tell equal ones; None if they are not known.

    Raises:
        NumericalError: the last step of the ladder failed.
    """
    started = time.perf_counter()
    fixed = check_jitter(jitter)
    mean = check_range(diagonal, noise, fixed)
    steps: list[JitterStep] = []
    for relative in JITTER_LADDER if fixed is None else (fixed,):
        succeeded, smallest, index = attempt(noise + relative * mean)
        steps.append(JitterStep(relative, smallest, index))
        if succeeded:
            pair = _similar_rows(matrix, diagonal, inputs) if len(steps) > 1 else None
            seconds = time.perf_counter() - started
            duplicate = pair[0] if pair and pair[1] else None
            return CholeskyReport(relative, mean, tuple(steps), seconds, duplicate)
    raise NumericalError(_failure(matrix, diagonal, steps, inputs))


def check_jitter(jitter: float | str) -> float | None:
    """The jitter as a float, or None for "auto".

    Raises:
        InputError: it is neither "auto" nor a finite number, 0 or more.
    """
    if isinstance(jitter, str) and jitter == "auto":
        return None
    if not is_finite_and_not_negative(jitter):
        raise InputError(
            f'jitter is {received_text(jitter)}: expected "auto" or a finite number, 0 or more'
        )
    return float(jitter)


def check_range(diagonal: Vector, noise: Noise, jitter: float | None) -> float:
    """The mean of the diagonal, if the solve stays within the range of float64.

    Raises:
        NumericalError: variances, noise or jitter are so large or so small that it does not.
    """
    with np.errstate(over="ignore"):
        mean = float(diagonal.mean())
        total = abs(mean) * (1.0 + (jitter or 0.0)) + float(np.max(noise))
    if not total < LARGEST:
        raise NumericalError(
            f"the mean variance is {mean:.3g}, with noise and jitter {total:.3g}: float64 "
            "overflows in the solve. Try: a kernel whose variances are near 1, or a smaller "
            "noise_variance or jitter"
        )
    if mean and total < 1.0 / LARGEST:
        raise NumericalError(
            f"the mean variance is {mean:.3g}: float64 underflows in the solve. Try: a kernel "
            "whose variances are near 1, or a noise_variance"
        )
    return mean


def _similar_rows(
    matrix: MatrixLike, diagonal: Vector, inputs: Images | None
) -> tuple[tuple[int, int], bool] | None:
    """A pair of rows that agree to five digits, and whether their inputs are equal.

    The first pair of equal inputs, otherwise the first pair of similar rows, or None. For a Gram
    matrix K_ii - 2 K_ij + K_jj is a squared distance: where it vanishes, so does the difference of
    the rows. For any other matrix the rows themselves are compared.
    """
    size, similar = diagonal.size, None
    for start in range(0, size, _COMPARED):
        stop = min(start + _COMPARED, size)
        block = read_block(matrix, slice(start, size), slice(start, stop))
        total = diagonal[start:, None] + diagonal[None, start:stop]
        close = np.tril(total - 2.0 * block <= _SAME_ROW * total, -1)
        for row, column in np.argwhere(close)[:_MOST_PAIRS]:
            pair = (start + int(column), start + int(row))
            one, other = (read_block(matrix, slice(i, i + 1), slice(0, size)) for i in pair)
            gap, scale = np.abs(one - other).max(), np.abs(diagonal).max()
            if inputs is not None:
                equal = bool(np.array_equal(inputs[pair[0]], inputs[pair[1]]))
            else:
                equal = bool(gap <= relative_error(block.dtype, size) * scale)
            if equal and gap <= _SAME_ROW * scale:
                return pair, True
            if similar is None and gap <= _SAME_ROW * scale:
                similar = pair
    return None if similar is None else (similar, False)


def _failure(
    matrix: MatrixLike, diagonal: Vector, steps: list[JitterStep], inputs: Images | None
) -> str:
    """The message for a matrix that no step of the ladder makes regular."""
    last = steps[-1]
    tried = ", ".join(f"{step.jitter:g}" for step in steps)
    message = (
        f"the matrix ({diagonal.size} x {diagonal.size}) is not positive definite: the smallest "
        f"pivot is {last.smallest_pivot:.3g}, at row {last.index} (counted from 0), with jitter "
        f"{tried} (of the mean diagonal, {diagonal.mean():.3g}). Likely cause: "
    )
    flat = int(diagonal.argmin())
    if diagonal[flat] <= 0.0:
        return message + (
            f"entry {flat} of the diagonal (counted from 0) is {diagonal[flat]:.3g}, and a "
            "variance is positive: an input that is zero everywhere, in a model without biases? "
            "Try: without that input, a bias variance, or a noise_variance"
        )
    low, remedy = precision_hint(read_block(matrix, slice(0, 1), slice(0, 1)).dtype)
    pair = _similar_rows(matrix, diagonal, inputs)
    if pair is not None and pair[1]:
        return message + (
            f"rows {pair[0][0]} and {pair[0][1]} agree, counted from 0: the same input twice. "
            'Try: without one of them, a noise_variance, or jitter="auto"'
        )
    if pair is not None:
        return (
            message + f"rows {pair[0][0]} and {pair[0][1]} agree to five digits, counted from 0: "
            f"inputs that are almost alike.{low} Try: {remedy}without one of them, a "
            'noise_variance, or jitter="auto"'
        )
    if len(steps) < len(JITTER_LADDER):
        return message + (
            f"inputs that are almost alike, or combinations of each other.{low} "
            f'Try: {remedy}a noise_variance, or jitter="auto"'
        )
    if low:
        return message + (
            "errors of the entries that are larger than the differences of the inputs, or rows and "
            f"columns in different order.{low} Try: {remedy}or a noise_variance"
        )
    return message + (
        "the matrix is no covariance: rows and columns in different order, entries from "
        "different kernels, or entries with large errors. Try: a noise_variance"
        + (f" above {-last.smallest_pivot:.3g}" if last.smallest_pivot else "")
        + " if the entries are right"
    )
