"""Preconditioned conjugate gradients: products with the matrix are all they need."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp.errors import NumericalError

__all__ = ["Apply", "IndefiniteError", "Solution", "conjugate_gradients"]

Apply = Callable[[Array], Array]

# The residual that the recurrence carries along drifts from the true one. Where the two disagree
# at the end, the solution so far is the start of another run.
_MOST_RUNS = 10
_WORTH_ANOTHER = 0.5


class IndefiniteError(NumericalError):
    """A direction p with p^T A p <= 0 was met; `curvature` is p^T A p / p^T p."""

    def __init__(self, curvature: float) -> None:
        self.curvature = curvature
        super().__init__(f"a direction of curvature {curvature:.3g}: A is not positive definite")


@dataclass(frozen=True)
class Solution:
    """x with A x ~ b.

    x:          [N, C]
    rest:       b - A x, [N, C], recomputed from x
    iterations: products with A, those that recompute the residual not counted
    residual:   the largest |b_c - A x_c| / |b_c| over the columns, recomputed from x
    curvature:  the smallest p^T A p / p^T p of a search direction: a bound on the smallest
                eigenvalue of A from above; infinite where there was none
    converged:  whether the residual is within the tolerance
    """

    x: Array
    rest: Array
    iterations: int
    residual: float
    curvature: float
    converged: bool


def conjugate_gradients(
    apply: Apply,
    b: Array,
    precondition: Apply,
    *,
    tolerance: float,
    max_iterations: int,
    advance: Callable[[float], None] | None = None,
) -> Solution:
    """Solve A x = b for all columns of b at once, each with its own step lengths.

    A column that has reached the tolerance takes no further part. At the end the residual is
    recomputed from x, and where rounding has kept it above the tolerance, the iteration is started
    again from x, as long as that helps.

    apply:        p -> A p, for p of shape [N, C]
    precondition: r -> P^-1 r, symmetric and positive definite
    advance:      called after each iteration with the largest relative residual so far

    Raises: IndefiniteError if A is found not to be positive definite.

    Reference: Hestenes and Stiefel 1952; Saad, Iterative Methods, algorithm 9.1.
    """
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
    b: Array,
    scale: Array,
    precondition: Apply,
    *,
    tolerance: float,
    most: int,
    advance: Callable[[float], None] | None,
) -> tuple[Array, int, float]:
    """One run from zero: x, iterations, and the smallest curvature met."""
    result = np.zeros_like(b)
    size = np.linalg.norm(b, axis=0) / scale
    # What is left to do: `active` are columns of b; x, r, p and rho hold those only.
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
