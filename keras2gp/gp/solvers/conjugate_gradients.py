"""The preconditioned conjugate gradient iteration, which only multiplies with the matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from keras2gp._util.arrays import Matrix, Vector
from keras2gp.errors import NumericalError

__all__ = ["Apply", "IndefiniteError", "Solution", "conjugate_gradients"]

Apply = Callable[[Matrix], Matrix]

# The residual of the recurrence drifts from the true one. Where the two disagree at the end, the
# iteration starts again from the solution so far, as long as a run at least halves the residual.
_MOST_RUNS = 10
_WORTH_ANOTHER = 0.5
# Columns of larger or smaller numbers are scaled before their squares are summed.
_SQUARABLE = 1e100


class IndefiniteError(NumericalError):
    """A is not positive definite: some direction p has p^T A p <= 0.

    Attributes:
        curvature: p^T A p / p^T p.
    """

    def __init__(self, curvature: float) -> None:
        self.curvature = curvature
        super().__init__(f"a direction of curvature {curvature:.3g}: A is not positive definite")


@dataclass(frozen=True)
class Solution:
    """x with A x ~ b.

    Attributes:
        x: [N, C].
        rest: b - A x, [N, C], recomputed from x.
        iterations: products with A, without those that recompute the residual.
        residual: the largest |b_c - A x_c| / |b_c| over the columns, recomputed from x.
        curvature: the smallest p^T A p / p^T p of a search direction, an upper bound on the
            smallest eigenvalue of A; infinite where there was no direction.
        converged: whether the residual is within the tolerance.
    """

    x: Matrix
    rest: Matrix
    iterations: int
    residual: float
    curvature: float
    converged: bool


def conjugate_gradients(
    apply: Apply,
    b: Matrix,
    precondition: Apply,
    *,
    tolerance: float,
    max_iterations: int,
    advance: Callable[[float], None] | None = None,
) -> Solution:
    """Solve A x = b for all columns of b at once, each with its own step lengths.

    A column that has reached the tolerance is not iterated further. At the end the residual is
    recomputed from x. Where rounding has kept it above the tolerance, the iteration is started
    again from x, as long as that helps.

    Args:
        apply: p -> A p, for p of shape [N, C].
        b: the right-hand sides, [N, C].
        precondition: r -> P^-1 r, symmetric and positive definite.
        tolerance: bound on |b_c - A x_c| / |b_c| of every column.
        max_iterations: bound on the products with A.
        advance: called after each iteration with the largest relative residual so far.

    Raises:
        IndefiniteError: A is not positive definite.

    References:
        Hestenes and Stiefel 1952; Saad, Iterative Methods, algorithm 9.1.

    >>> from keras2gp.gp.solvers.conjugate_gradients import conjugate_gradients
    >>> import numpy as np
    >>> a = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> solution = conjugate_gradients(
    ...     lambda p: a @ p, np.array([[5.0], [4.0]]), lambda r: r,
    ...     tolerance=1e-10, max_iterations=10,
    ... )
    >>> solution.x.round(8).ravel(), solution.iterations, solution.converged
    (array([1., 1.]), 2, True)
    """
    largest = np.abs(b).max(axis=0, initial=0.0)
    if ((largest > _SQUARABLE) | ((largest > 0.0) & (largest < 1.0 / _SQUARABLE))).any():
        # Powers of two keep every digit, and squares away from overflow and underflow.
        unit = np.ldexp(1.0, np.frexp(largest)[1] - 1)
        solution = conjugate_gradients(
            apply,
            b / unit,
            precondition,
            tolerance=tolerance,
            max_iterations=max_iterations,
            advance=advance,
        )
        return replace(solution, x=solution.x * unit, rest=solution.rest * unit)
    norms = np.linalg.norm(b, axis=0)
    scale = np.where(norms > 0.0, norms, 1.0)
    start = 1.0 if norms.any() else 0.0
    total = Solution(np.zeros_like(b), b, 0, start, math.inf, not norms.any())
    for _ in range(_MOST_RUNS):
        if total.converged or total.iterations >= max_iterations:
            break
        x, count, curvature = _run(
            apply,
            total.rest,
            scale,
            precondition,
            tolerance=tolerance,
            most=max_iterations - total.iterations,
            advance=advance,
        )
        x += total.x
        rest = b - apply(x)
        reached = float((np.linalg.norm(rest, axis=0) / scale).max())
        stuck = reached > _WORTH_ANOTHER * total.residual
        total = Solution(
            x,
            rest,
            total.iterations + count,
            reached,
            min(total.curvature, curvature),
            reached <= tolerance,
        )
        if stuck:
            break
    return replace(total, converged=total.residual <= tolerance)


def _run(
    apply: Apply,
    b: Matrix,
    scale: Vector,
    precondition: Apply,
    *,
    tolerance: float,
    most: int,
    advance: Callable[[float], None] | None,
) -> tuple[Matrix, int, float]:
    """One run from zero: x, the number of iterations, and the smallest curvature."""
    result = np.zeros_like(b)
    size = np.linalg.norm(b, axis=0) / scale
    # `active` are the columns of b that have not converged; x, r, p and rho hold only those.
    active = np.flatnonzero(size > tolerance)
    x, r = np.zeros((len(b), len(active))), b[:, active].copy()
    p = precondition(r).copy()
    rho = np.einsum("nc,nc->c", r, p)
    smallest, count = math.inf, 0
    while len(active) and count < most:
        q = apply(p)
        count += 1
        curvature = np.einsum("nc,nc->c", p, q)
        relative = curvature / np.einsum("nc,nc->c", p, p)
        if not (relative > 0.0).all():
            raise IndefiniteError(float(relative.min()))
        smallest = min(smallest, float(relative.min()))
        step = rho / curvature
        x += step * p
        r -= step * q
        size = np.linalg.norm(r, axis=0) / scale[active]
        if advance is not None:
            advance(float(size.max()))
        left = size > tolerance
        if not left.all():
            result[:, active[~left]] = x[:, ~left]
            active, x, r, p, rho = active[left], x[:, left], r[:, left], p[:, left], rho[left]
        z = precondition(r)
        after = np.einsum("nc,nc->c", r, z)
        p = z + (after / rho) * p
        rho = after
    result[:, active] = x
    return result, count, smallest
