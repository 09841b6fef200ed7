"""Tiled Cholesky factorisation in float64: half the memory of the matrix, checked throughout."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.checks import whole_number
from keras2gp._util.memory import require_memory
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.solvers.factor import PREFIX, CholeskyFactor, CholeskyReport, JitterStep
from keras2gp.gp.solvers.matrices import (
    MatrixLike,
    Progress,
    check_mirror,
    check_shape,
    read_block,
    refuse_asymmetry,
)
from keras2gp.gp.solvers.panels import PackedPanels
from keras2gp.gp.solvers.precision import relative_error

__all__ = [
    "JITTER_LADDER",
    "MatrixLike",
    "Progress",
    "check_jitter",
    "check_noise",
    "cholesky_memory",
    "climb",
    "factorize",
]

# Relative to the mean of the diagonal; each is tried only if the one before it fails.
JITTER_LADDER = (0.0, 1e-10, 1e-8, 1e-6, 1e-4)

# A pair of rows is a duplicate if they agree to five digits: entries in float32 of one image
# given twice do. Candidates beyond the first few come only from a matrix that is no covariance.
_SAME_ROW = 1e-5
_MOST_PAIRS = 16
_COMPARED = 512


def factorize(
    matrix: MatrixLike,
    noise_variance: float = 0.0,
    jitter: float | str = "auto",
    tile: int = 512,
    progress: Progress | None = None,
) -> CholeskyFactor:
    """Cholesky factor of A = matrix + (noise_variance + jitter mean(diag matrix)) I.

    Left-looking over block columns, LAPACK and BLAS on each, in place in packed storage; the
    matrix is read block by block, and only its lower triangle is used. A pivot L_ii^2 at or
    below u A_ii is rounding error and not information: the factorisation counts as failed. u is
    precision.relative_error: 16 eps(float32) for a float32 matrix, N eps for a float64 one.

    Shapes: matrix [N, N], anything that slices to arrays.
    jitter: "auto" tries 0, 1e-10, 1e-8, 1e-6, 1e-4 until one succeeds; a number is that one
        only. Relative to the mean of the diagonal.
    progress: called with (panels done, panels in all) after each panel; starts again at each
        step of the ladder.

    Raises:
        InputError: not square, empty, not finite (the first such entry is named), asymmetric by
            more than 1e-5 of the largest entry of the diagonal, too large for the memory, or
            noise_variance, jitter or tile out of range.
        NumericalError: not positive definite even with the last jitter; names the smallest
            pivot, its row, and the likely cause.

    Reference: Higham, Accuracy and Stability of Numerical Algorithms, section 10.1.
    """
    size = check_shape(matrix)
    noise = check_noise(noise_variance)
    check_jitter(jitter)
    tile = min(whole_number("tile", tile, 1), size)
    require_memory(
        cholesky_memory(size, tile),
        f"the Cholesky factor of a {size} x {size} matrix",
        "fewer training images, or solver='cg'",
    )
    started = time.perf_counter()
    panels = PackedPanels(size, tile, PREFIX)
    _read(matrix, panels, checked=True)
    error = relative_error(read_block(matrix, slice(0, 1), slice(0, 1)).dtype, size)
    fresh = True

    def attempt(added: float) -> tuple[bool, float, int]:
        nonlocal fresh
        if not fresh:
            _read(matrix, panels, checked=False)
        fresh = False
        return _attempt(panels, added, error, progress)

    report = climb(matrix, panels.diagonal(), noise, jitter, attempt)
    return CholeskyFactor(panels, replace(report, seconds=time.perf_counter() - started))


def cholesky_memory(size: int, tile: int = 512) -> int:
    """Bytes that `factorize` takes for an [N, N] matrix: the factor, and two panels."""
    tile = min(tile, size)
    return 8 * (PackedPanels.length(size, tile) + 2 * size * tile)


def climb(
    matrix: MatrixLike,
    diagonal: Array,
    noise: float,
    jitter: float | str,
    attempt: Callable[[float], tuple[bool, float, int]],
) -> CholeskyReport:
    """Try to factorise with more and more jitter, until it succeeds.

    attempt: called with what is added to the diagonal; gives whether it succeeded, the smallest
        pivot, and its row

    Raises: NumericalError if the last of the ladder fails.
    """
    started = time.perf_counter()
    fixed = check_jitter(jitter)
    mean = float(diagonal.mean())
    steps: list[JitterStep] = []
    for relative in JITTER_LADDER if fixed is None else (fixed,):
        succeeded, smallest, index = attempt(noise + relative * mean)
        steps.append(JitterStep(relative, smallest, index))
        if succeeded:
            duplicate = _find_duplicate(matrix, diagonal) if len(steps) > 1 else None
            seconds = time.perf_counter() - started
            return CholeskyReport(relative, mean, tuple(steps), seconds, duplicate)
    raise NumericalError(_failure(matrix, diagonal, steps))


def check_noise(noise_variance: float) -> float:
    """The noise variance as a float.

    Raises: InputError unless it is a finite number, 0 or more.
    """
    if not _is_number(noise_variance) or not 0.0 <= noise_variance < math.inf:
        raise InputError(
            f"noise_variance is {noise_variance!r}: expected a finite number, 0 or more"
        )
    return float(noise_variance)


def check_jitter(jitter: float | str) -> float | None:
    """The jitter as a float, or None for "auto".

    Raises: InputError if it is neither "auto" nor a finite number, 0 or more.
    """
    if isinstance(jitter, str) and jitter == "auto":
        return None
    if not _is_number(jitter) or not 0.0 <= float(jitter) < math.inf:
        raise InputError(f'jitter is {jitter!r}: expected "auto" or a finite number, 0 or more')
    return float(jitter)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _read(matrix: MatrixLike, panels: PackedPanels, *, checked: bool) -> None:
    """Copy the lower triangle into the panels; if `checked`, refuse what is no Gram matrix."""
    end = panels.size
    worst = (0.0, 0, 0)
    for j in range(len(panels)):
        start, stop = panels.bounds(j)
        panel = panels.panel(j)
        panel[...] = read_block(matrix, slice(start, end), slice(start, stop))
        if checked:
            mirror = read_block(matrix, slice(start, stop), slice(start, end))
            worst = max(worst, check_mirror(panel, mirror, start))
    refuse_asymmetry(worst, float(np.abs(panels.diagonal()).max()))


def _attempt(
    panels: PackedPanels, added: float, error: float, progress: Progress | None
) -> tuple[bool, float, int]:
    """Factorise in place after adding to the diagonal: did it succeed, smallest pivot, its row."""
    smallest, index, succeeded = math.inf, 0, True
    for j in range(len(panels)):
        start, stop = panels.bounds(j)
        tile = panels.panel(j)[: stop - start]
        np.fill_diagonal(tile, np.diagonal(tile) + added)
        before = np.diagonal(tile).copy()
        info = panels.factor_panel(j)
        # Where LAPACK stopped, the diagonal holds the pivot itself, not its root.
        count = info - 1 if info else stop - start
        pivots = np.diagonal(tile)[:count] ** 2
        succeeded = not info and bool((pivots > error * before).all())
        if info:
            pivots = np.append(pivots, tile[info - 1, info - 1])
        if pivots.min() < smallest:
            smallest, index = float(pivots.min()), start + int(pivots.argmin())
        if not succeeded:
            break
        if progress is not None:
            progress(j + 1, len(panels))
    return succeeded, smallest, index


def _find_duplicate(matrix: MatrixLike, diagonal: Array) -> tuple[int, int] | None:
    """The first pair of rows that agree to five digits, or None.

    For a Gram matrix K_ii - 2 K_ij + K_jj is a squared distance: where it vanishes, so does the
    difference of the rows. For a matrix that is none the rows themselves are compared.
    """
    size = diagonal.size
    for start in range(0, size, _COMPARED):
        stop = min(start + _COMPARED, size)
        block = read_block(matrix, slice(start, size), slice(start, stop))
        total = diagonal[start:, None] + diagonal[None, start:stop]
        close = np.tril(total - 2.0 * block <= _SAME_ROW * total, -1)
        for row, column in np.argwhere(close)[:_MOST_PAIRS]:
            pair = (start + int(column), start + int(row))
            one, other = (read_block(matrix, slice(i, i + 1), slice(0, size)) for i in pair)
            if np.abs(one - other).max() <= _SAME_ROW * np.abs(diagonal).max():
                return pair
    return None


def _failure(matrix: MatrixLike, diagonal: Array, steps: list[JitterStep]) -> str:
    last = steps[-1]
    tried = ", ".join(f"{step.jitter:g}" for step in steps)
    message = (
        f"the matrix ({diagonal.size} x {diagonal.size}) is not positive definite: the smallest "
        f"pivot is {last.smallest_pivot:.3g}, at row {last.index}, with jitter {tried} (of the "
        f"mean diagonal, {diagonal.mean():.3g}). Likely cause: "
    )
    duplicate = _find_duplicate(matrix, diagonal)
    if duplicate is not None:
        return message + (
            f"rows {duplicate[0]} and {duplicate[1]} agree to five digits: the same input twice? "
            'Try: without one of them, a noise_variance, or jitter="auto"'
        )
    flat = int(diagonal.argmin())
    if diagonal[flat] <= 0.0:
        return message + (
            f"entry {flat} of the diagonal is {diagonal[flat]:.3g}, and a variance is positive: "
            "an input that is zero everywhere, in a model without biases? "
            "Try: without that input, a bias variance, or a noise_variance"
        )
    if len(steps) < len(JITTER_LADDER):
        return message + (
            "inputs that are almost alike, or combinations of each other. "
            'Try: a noise_variance, or jitter="auto"'
        )
    return message + (
        "the matrix is no covariance: rows and columns in different order, entries from "
        "different kernels, or entries with large errors. Try: a noise_variance"
        + (f" above {-last.smallest_pivot:.3g}" if last.smallest_pivot else "")
        + " if the entries are right"
    )
