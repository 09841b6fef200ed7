"""Iterative refinement: float64 residuals correct the solves of an approximate inverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras2gp._util.arrays import Matrix

__all__ = ["Refined", "refine"]

# Each correction has to shrink the residual so much, or the approximation is too rough.
_LEAST_GAIN = 0.25


@dataclass(frozen=True)
class Refined:
    """x with A x ~ b.

    Attributes:
        x: [N, C].
        iterations: products with A.
        residual: the largest |b_c - A x_c| / |b_c| over the columns.
        rate: the largest factor by which a correction has shrunk the residual of a column.
        converged: whether the residual is within the tolerance.
    """

    x: Matrix
    iterations: int
    residual: float
    rate: float
    converged: bool


def refine(
    apply: Callable[[Matrix], Matrix],
    b: Matrix,
    x: Matrix,
    product: Matrix,
    precondition: Callable[[Matrix], Matrix],
    *,
    tolerance: float,
    max_iterations: int,
) -> Refined:
    """Improve x ~ P^-1 b until A x = b to the tolerance, or as long as each step gains.

    Math: r = b - A x;  x <- x + P^-1 r, which multiplies r by I - A P^-1

    Args:
        apply: p -> A p, for p of shape [N, C], in float64.
        b: the right-hand sides, [N, C].
        x: the first approximation, [N, C]; it is overwritten.
        product: A x, [N, C].
        precondition: r -> P^-1 r.
        tolerance: bound on |b_c - A x_c| / |b_c| of every column.
        max_iterations: bound on the products with A, the given one included.

    References:
        Higham, Accuracy and Stability of Numerical Algorithms, chapter 12.

    >>> from keras2gp.gp.solvers.refinement import refine
    >>> import numpy as np
    >>> b = np.ones((2, 1))
    >>> found = refine(
    ...     lambda p: 1.01 * p, b, b.copy(), 1.01 * b, lambda r: r, tolerance=1e-7, max_iterations=9
    ... )
    >>> round(float(found.x[0, 0]), 6), found.iterations, round(found.rate, 3), found.converged
    (0.990099, 4, 0.01, True)
    """
    norms = np.linalg.norm(b, axis=0)
    norms = np.where(norms > 0.0, norms, 1.0)
    rest = b - product
    size = np.linalg.norm(rest, axis=0) / norms
    count, rate = 1, float(size.max())
    while count < max_iterations and rate <= _LEAST_GAIN and size.max() > tolerance:
        x += precondition(rest)
        rest = b - apply(x)
        before, size = size, np.linalg.norm(rest, axis=0) / norms
        count += 1
        # Columns that are done already gain nothing but rounding.
        left = before > tolerance
        rate = max(rate, float((size[left] / before[left]).max()))
    residual = float(size.max())
    return Refined(x, count, residual, rate, residual <= tolerance)
