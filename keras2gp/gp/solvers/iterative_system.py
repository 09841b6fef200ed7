"""The linear system that conjugate gradients leave behind: solves to a tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from keras2gp._util.arrays import Array
from keras2gp.errors import NumericalError
from keras2gp.gp.solvers.conjugate import Solution, conjugate_gradients
from keras2gp.gp.solvers.lanczos import LogDeterminant, log_determinant
from keras2gp.gp.solvers.matrices import MatrixProduct, Progress
from keras2gp.gp.solvers.pivoted import PartialCholesky
from keras2gp.gp.solvers.preconditioner import Preconditioner
from keras2gp.gp.solvers.training import Training

if TYPE_CHECKING:
    from keras2gp.gp.solvers.iterative import ConjugateGradients

__all__ = ["BATCH", "IterativeSystem", "RecomputedSystem", "shortfall"]

BATCH = 256
"""Columns that are solved for at once."""


class IterativeSystem:
    """A = K + added I, with solves to a tolerance.

    With X ~ A^-1 K*^T and its residual R = K*^T - A X, K* A^-1 K*^T is taken as (K*^T + R)^T X,
    which is too small by R^T A^-1 R, of second order in R and positive semi-definite: covariances
    stay so, and variances are never too small by more than rounding.
    """

    closed_form: ClassVar[bool] = False

    def __init__(
        self,
        options: ConjugateGradients,
        product: MatrixProduct,
        partial: PartialCholesky,
        added: float,
    ) -> None:
        self._options = options
        self._product = product
        self._added = added
        self._preconditioner = Preconditioner(partial, added)

    @property
    def basis(self) -> int:
        """N."""
        return int(self._product.shape[0])

    def solution(self, b: Array, progress: Progress | None = None) -> Solution:
        """A^-1 b for b of shape [N, C], as far as it is reached.

        Raises: IndefiniteError
        """
        options = self._options
        return conjugate_gradients(
            self._apply,
            b,
            self._preconditioner.apply,
            tolerance=options.tolerance,
            max_iterations=options.max_iterations,
            advance=None if progress is None else _percent(progress, options.tolerance),
        )

    def log_determinant(self, probes: int) -> LogDeterminant:
        """An estimate of log det A, with its standard error.

        Raises: NumericalError if A is not positive definite in float64, or the steps do not
            suffice.
        """
        options = self._options
        return log_determinant(
            self._apply,
            self._preconditioner,
            self.basis,
            probes=probes,
            max_steps=options.max_iterations,
            seed=options.seed,
        )

    def _apply(self, p: Array) -> Array:
        result: Array = self._product.product(p)
        result += self._added * p
        return result

    def solve(self, b: Array) -> Array:
        """A^-1 b for b of shape [N, C].

        Raises: NumericalError if the tolerance is not reached.
        """
        return self._solved(b).x

    def _solved(self, b: Array) -> Solution:
        solution = self.solution(np.ascontiguousarray(b))
        if not solution.converged:
            raise NumericalError(
                f"conjugate gradients: {shortfall(solution, self._options.tolerance)}. "
                "Try: a larger tolerance or rank, or a noise_variance"
            )
        return solution

    def explained(self, cross: Array) -> Array:
        """diag(k* A^-1 k*^T) for k* of shape [M, N], [M]."""
        solution = self._solved(cross.T)
        result: Array = np.einsum("nm,nm->m", cross.T + solution.rest, solution.x)
        return result

    def explained_covariance(self, cross: Array) -> Array:
        """k* A^-1 k*^T for k* of shape [M, N], [M, M]."""
        solution = self._solved(cross.T)
        product = (cross + solution.rest.T) @ solution.x
        result: Array = (product + product.T) / 2.0
        return result

    def inverse_diagonal(self, rows: npt.NDArray[np.intp]) -> Array:
        """Entries of the diagonal of A^-1, [rows], by a solve for each column of the identity."""
        parts = []
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            columns = np.arange(len(some))
            unit = np.zeros((self.basis, len(some)))
            unit[some, columns] = 1.0
            parts.append(self.solve(unit)[some, columns])
        return np.concatenate(parts)

    def leading(self, count: int) -> Array:
        """The first `count` rows and columns of K."""
        return self._product.corner(range(count))


class RecomputedSystem:
    """The system of a fit that was loaded: its matrix is not saved, and is made when it is needed.

    training: has the matrix, or the kernel and inputs to compute it
    leading:  its first rows and columns
    """

    closed_form: ClassVar[bool] = False

    def __init__(
        self, options: ConjugateGradients, training: Training, added: float, leading: Array
    ) -> None:
        self._options = options
        self._training = training
        self._added = added
        self._leading = leading

    @property
    def basis(self) -> int:
        """N."""
        return len(self._training)

    def explained(self, cross: Array) -> Array:
        """See IterativeSystem. Raises: InputError if there is no matrix, or too little memory."""
        return self._system.explained(cross)

    def explained_covariance(self, cross: Array) -> Array:
        """See IterativeSystem."""
        return self._system.explained_covariance(cross)

    def inverse_diagonal(self, rows: npt.NDArray[np.intp]) -> Array:
        """See IterativeSystem."""
        return self._system.inverse_diagonal(rows)

    def leading(self, count: int) -> Array:
        """See IterativeSystem."""
        return self._leading[:count, :count]

    @cached_property
    def _system(self) -> IterativeSystem:
        self._options.require(self._training, BATCH)
        product = self._training.product()
        partial = self._options.partial(product)
        return IterativeSystem(self._options, product, partial, self._added)


def _percent(progress: Progress, tolerance: float) -> Callable[[float], None]:
    """Progress on the logarithm of the residual, from 1 to the tolerance; it never goes back."""
    best = 0

    def advance(residual: float) -> None:
        nonlocal best
        share = math.log(max(residual, tolerance)) / math.log(tolerance)
        best = max(best, int(100 * share))
        progress(best, 100)

    return advance


def shortfall(solution: Solution, tolerance: float) -> str:
    """What was reached, in words."""
    return (
        f"relative residual {solution.residual:.3g} after {solution.iterations} iterations, "
        f"tolerance {tolerance:g}"
    )
