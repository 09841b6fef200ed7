"""Tiled Cholesky factorisation in float64: half the memory of the matrix, checked throughout.

Why not LAPACK's packed formats: rectangular full packed storage (dpftrf) takes 4.0 N^2 bytes where
the panels take 4.0 N^2 + 2 KiB N, and runs at the same speed (N = 4000, one core: 0.58 s and 0.25 s
for the conversion against 0.74 s). scipy 1.17 refuses it from N = 46 341, where N (N + 1) overflows
its 32-bit lengths, and 50 000 images are promised. It also takes the whole triangle at once: a
matrix on disk is read, checked and factorised panel by panel here, with progress after each.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from keras2gp._util.arrays import Images, Noise
from keras2gp._util.checks import whole_number
from keras2gp._util.memory import require_memory
from keras2gp._util.progress import Advance
from keras2gp.gp.arguments.noise import check_noises, noise_of
from keras2gp.gp.solvers.factor import PREFIX, CholeskyFactor
from keras2gp.gp.solvers.jitter import check_jitter, factor_with_jitter
from keras2gp.gp.solvers.matrices import (
    MatrixLike,
    check_mirror,
    check_shape,
    read_block,
    refuse_asymmetry,
)
from keras2gp.gp.solvers.panels import PackedPanels
from keras2gp.gp.solvers.precision import relative_error

__all__ = ["attempt", "cholesky_memory", "factorize", "read_lower"]

# Threads that copy and check an array, one panel each: as many as a memory bus has use for.
_THREADS = 2


def factorize(
    matrix: MatrixLike,
    noise_variance: Noise = 0.0,
    jitter: float | str = "auto",
    tile: int = 512,
    progress: Advance | None = None,
    *,
    inputs: Images | None = None,
) -> CholeskyFactor:
    """Cholesky factor of A = matrix + (noise_variance + jitter mean(diag matrix)) I.

    The factorisation is left-looking over block columns, with LAPACK and BLAS on each, in place in
    packed storage. The matrix is read block by block, and only its lower triangle is used. A pivot
    L_ii^2 at or below u A_ii is rounding error and not information: the factorisation counts as
    failed. u is precision.relative_error: 16 eps(float32) for a float32 matrix, N eps for float64.

    Args:
        matrix: an array, or anything that slices to arrays, such as a store on disk.
        noise_variance: added to the diagonal, in the units of the matrix: a number, or one for each
            row, [N].
        jitter: "auto" tries 0, 1e-10, 1e-8, 1e-6, 1e-4 until one succeeds; a number is the only
            one tried. Relative to the mean of the diagonal.
        tile: columns of a panel.
        progress: called with (panels done, panels in all) after each panel; it starts again at
            each step of the ladder.
        inputs: the inputs of the matrix, to tell equal ones in messages; None if unknown.

    Shapes:
        matrix [N, N], inputs [N, ...].

    Returns:
        The factor, with its report.

    Raises:
        InputError: not square, empty, not finite (the first such entry is named), asymmetric by
            more than 1e-5 of the largest entry of the diagonal, too large for the memory, or
            noise_variance, jitter or tile out of range.
        NumericalError: not positive definite even with the last jitter; names the smallest
            pivot, its row, and the likely cause.

    References:
        Higham, Accuracy and Stability of Numerical Algorithms, section 10.1.

    >>> from keras2gp.gp import factorize
    >>> import numpy as np
    >>> factor = factorize(np.array([[2.0, 1.0], [1.0, 2.0]]), noise_variance=1.0)
    >>> factor.solve([4.0, 4.0])
    array([1., 1.])
    >>> round(factor.log_determinant, 4)
    2.0794
    """
    size = check_shape(matrix)
    noise = check_noises(noise_variance, size)
    check_jitter(jitter)
    tile = min(whole_number("tile", tile, 1), size)
    require_memory(
        cholesky_memory(size, tile),
        f"the Cholesky factor of a {size} x {size} matrix",
        "fewer training images, or solver='cg'",
    )
    started = time.perf_counter()
    panels = PackedPanels(size, tile, PREFIX)
    read_lower(matrix, panels, checked=True)
    error = relative_error(read_block(matrix, slice(0, 1), slice(0, 1)).dtype, size)
    fresh = True

    def tried(added: Noise) -> tuple[bool, float, int]:
        nonlocal fresh
        if not fresh:
            read_lower(matrix, panels, checked=False)
        fresh = False
        return attempt(panels, added, error, progress)

    report = factor_with_jitter(matrix, panels.diagonal(), noise, jitter, tried, inputs=inputs)
    return CholeskyFactor(panels, replace(report, seconds=time.perf_counter() - started))


def cholesky_memory(size: int, tile: int = 512) -> int:
    """Bytes that `factorize` takes for an [N, N] matrix: the factor and two panels."""
    tile = min(tile, size)
    return 8 * (PackedPanels.length(size, tile) + 2 * size * tile)


def read_lower(
    matrix: MatrixLike, panels: PackedPanels, *, checked: bool, unit: float = 1.0
) -> None:
    """Copy the lower triangle of matrix / unit into the panels.

    Args:
        matrix: an array, or anything that slices to arrays.
        panels: their entries are replaced.
        checked: refuse a matrix that is not finite, or asymmetric.
        unit: a power of 2.

    Raises:
        InputError: see `checked`.
    """
    end, inverse = panels.size, 1.0 / unit

    def read(j: int) -> tuple[tuple[float, int, int], float]:
        start, stop = panels.bounds(j)
        panel, block = panels.panel(j), read_block(matrix, slice(start, end), slice(start, stop))
        gap, scale = (0.0, 0, 0), 0.0
        if checked:
            mirror = read_block(matrix, slice(start, stop), slice(start, end))
            gap = check_mirror(block, mirror, start)
            scale = float(np.abs(np.diagonal(block)).max())
        if unit == 1.0:
            panel[...] = block
        else:
            with np.errstate(over="ignore"):  # an entry beyond float32 leaves no factor
                np.multiply(block, inverse, out=panel, casting="same_kind")
        return gap, scale

    if isinstance(matrix, np.ndarray) and len(panels) > _THREADS:
        # Blocks of an array are views: two threads take no more memory than one.
        with ThreadPoolExecutor(_THREADS) as threads:
            found = list(threads.map(read, range(len(panels))))
    else:
        found = [read(j) for j in range(len(panels))]
    if checked:
        gaps, scales = zip(*found, strict=True)
        refuse_asymmetry(max((0.0, 0, 0), *gaps), max(scales))


def attempt(
    panels: PackedPanels, added: Noise, error: float, progress: Advance | None
) -> tuple[bool, float, int]:
    """Factorise in place; returns whether it succeeded, the smallest pivot, and its row."""
    smallest, index, succeeded = math.inf, 0, True
    for j in range(len(panels)):
        start, stop = panels.bounds(j)
        tile = panels.panel(j)[: stop - start]
        np.fill_diagonal(tile, np.diagonal(tile) + noise_of(added, slice(start, stop)))
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
