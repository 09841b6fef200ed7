"""The linear system of solves to a tolerance, and the settings of its solver."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from keras2gp._util.arrays import Array, Indices, Matrix, Noise, Vector
from keras2gp._util.checks import proper_share, whole_number
from keras2gp._util.progress import Advance
from keras2gp.errors import InputError, ModelFileError, NumericalError
from keras2gp.gp.arguments.noise import column_of
from keras2gp.gp.solvers.conjugate_gradients import Solution, conjugate_gradients
from keras2gp.gp.solvers.lanczos import LogDeterminant, log_determinant
from keras2gp.gp.solvers.matrices import MatrixProduct
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.preconditioner import PartialCholesky, Preconditioner, randomly_pivoted
from keras2gp.gp.solvers.products import TiledProduct
from keras2gp.gp.solvers.system import PROBE, LinearSystem, Origin, Solver
from keras2gp.gp.solvers.training import Training

__all__ = ["IterativeSolver", "IterativeSystem", "shortfall"]

_BATCH = 256
"""Columns of the identity that are solved for at once."""
# A rank of N / 10 costs a fifth more for each iteration and saves four fifths of them; beyond 1000
# its memory counts.
_LEAST_RANK, _LARGEST_RANK, _RANK_SHARE = 100, 1000, 10


class IterativeSystem:
    """A = K + added I, with solves to a tolerance.

    With X ~ A^-1 K*^T and its residual R = K*^T - A X, K* A^-1 K*^T is computed as (K*^T + R)^T X.
    This is too small by R^T A^-1 R, of second order in R and positive semi-definite: covariances
    stay positive semi-definite, and variances are never too small by more than rounding.

    Args:
        settings: the solver.
        training: has the matrix, or the kernel and inputs to compute it.
        added: the sum of noise and jitter on the diagonal.
        corner: the first rows and columns of K, if they are known without the matrix.
    """

    closed_form: ClassVar[bool] = False
    files: ClassVar[tuple[str, ...]] = ("leading.npy",)

    def __init__(
        self,
        settings: IterativeSolver,
        training: Training,
        added: Noise,
        corner: Matrix | None = None,
    ) -> None:
        self._settings = settings
        self._training = training
        self._added = added
        self._corner = corner

    @property
    def basis(self) -> int:
        """N."""
        return len(self._training)

    @cached_property
    def product(self) -> MatrixProduct:
        """K, to be multiplied; computed at the first use after a fit was loaded.

        Raises:
            InputError: there is no matrix, or too little memory to compute it.
        """
        self._settings.require(self._training, _BATCH)
        return self._training.product()

    @cached_property
    def partial(self) -> PartialCholesky:
        """The low-rank approximation of K in the preconditioner."""
        error = relative_error(self.product.dtype, self.basis)
        return randomly_pivoted(
            self.product, self._settings.rank_for(self.basis), error, self._settings.seed
        )

    @cached_property
    def _preconditioner(self) -> Preconditioner:
        # Any positive definite one leaves the solution as it is.
        return Preconditioner(self.partial, float(np.mean(self._added)))

    def shifted(self, added: Noise) -> IterativeSystem:
        """The same matrix with another shift of the diagonal."""
        result = IterativeSystem(self._settings, self._training, added)
        result.product, result.partial = self.product, self.partial
        return result

    def solution(self, b: Matrix, progress: Advance | None = None) -> Solution:
        """A^-1 b for b of shape [N, C], whether or not the tolerance is reached.

        Raises:
            IndefiniteError: A is not positive definite.
        """
        settings = self._settings
        return conjugate_gradients(
            self._apply,
            b,
            self._preconditioner.apply,
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
            advance=None if progress is None else _percent(progress, settings.tolerance),
        )

    def log_determinant(self) -> LogDeterminant:
        """An estimate of log det A, with its standard error.

        Raises:
            NumericalError: A is not positive definite in float64, or the steps do not suffice.
        """
        settings = self._settings
        return log_determinant(
            self._apply,
            self._preconditioner,
            self.basis,
            probes=settings.probes,
            max_steps=settings.max_iterations,
            seed=settings.seed,
        )

    def _apply(self, p: Matrix) -> Matrix:
        result: Matrix = self.product.product(p)
        result += column_of(self._added) * p
        return result

    def _solved(self, b: Matrix) -> Solution:
        """A^-1 b for b of shape [N, C]; NumericalError if the tolerance is not reached."""
        solution = self.solution(np.ascontiguousarray(b))
        if not solution.converged:
            raise NumericalError(
                f"conjugate gradients: {shortfall(solution, self._settings.tolerance)}. "
                "Try: a larger tolerance or rank, or a noise_variance"
            )
        return solution

    def solve(self, b: Matrix) -> Matrix:
        """A^-1 b for b of shape [N, C]; NumericalError if the tolerance is not reached."""
        return self._solved(b).x

    def explained(self, cross: Matrix) -> Vector:
        """diag(k* A^-1 k*^T), [M], for k* of shape [M, N]."""
        solution = self._solved(cross.T)
        result: Vector = np.einsum("nm,nm->m", cross.T + solution.rest, solution.x)
        return result

    def explained_covariance(self, cross: Matrix) -> Matrix:
        """k* A^-1 k*^T, [M, M], for k* of shape [M, N]."""
        solution = self._solved(cross.T)
        product = (cross + solution.rest.T) @ solution.x
        result: Matrix = (product + product.T) / 2.0
        return result

    def inverse_diagonal(self, rows: Indices) -> Vector:
        """Entries of the diagonal of A^-1, [rows], by a solve for each column of the identity."""
        parts = []
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            columns = np.arange(len(batch))
            unit = np.zeros((self.basis, len(batch)))
            unit[batch, columns] = 1.0
            parts.append(self._solved(unit).x[batch, columns])
        return np.concatenate(parts)

    def kernel_corner(self, count: int, added: Noise) -> Matrix:
        """See LinearSystem.kernel_corner."""
        if self._corner is not None:
            return self._corner[:count, :count]
        return self.product.corner(range(min(count, self.basis)))

    def state(self) -> dict[str, Array]:
        """See LinearSystem.state; the matrix is not saved: it is computed again when needed."""
        return {"leading.npy": self.kernel_corner(PROBE, self._added)}

    @classmethod
    def from_state(cls, state: Mapping[str, Array], origin: Origin) -> IterativeSystem:
        """See LinearSystem.from_state."""
        corner, count = state["leading.npy"], min(PROBE, len(origin.training))
        if corner.shape != (count, count):
            raise ModelFileError("the arrays do not fit each other")
        return cls(origin.solver, origin.training, origin.added, corner)


@dataclass(frozen=True)
class IterativeSolver(Solver):
    """A solver that only multiplies with the matrix; see ConjugateGradients for its settings."""

    tolerance: float = 1e-6
    rank: int | None = None
    max_iterations: int = 1000
    seed: int = 0
    probes: int = 0
    system: ClassVar[type[LinearSystem]] = IterativeSystem
    takes: ClassVar[str] = "conjugate gradients"
    remedy: ClassVar[str] = "fewer training images, a gram on disk, or solver='nystroem'"

    def __post_init__(self) -> None:
        proper_share("tolerance", self.tolerance)
        if self.rank is not None:
            whole_number("rank", self.rank)
        whole_number("max_iterations", self.max_iterations, 1)
        whole_number("seed", self.seed)
        if whole_number("probes", self.probes) == 1:
            raise InputError("probes is 1: expected 0, or 2 or more, whose spread is the error")

    def rank_for(self, size: int) -> int:
        """The largest rank of the preconditioner for N inputs.

        Args:
            size: N.

        Returns:
            The rank.
        """
        return min(max(_LEAST_RANK, size // _RANK_SHARE) if self.rank is None else self.rank, size)

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes beyond the kernel matrix: the preconditioner, a panel, and a few vectors."""
        count = len(training)
        vectors = 3 * self.rank_for(count) + 8 * max(outputs, min(_BATCH, count), self.probes)
        return TiledProduct.memory(count) + 8 * count * vectors


def _percent(progress: Advance, tolerance: float) -> Callable[[float], None]:
    """Advance on the logarithm of the residual, from 1 to the tolerance; it never goes back."""
    best = 0

    def advance(residual: float) -> None:
        nonlocal best
        share = math.log(max(residual, tolerance)) / math.log(tolerance)
        best = max(best, int(100 * share))
        progress(best, 100)

    return advance


def shortfall(solution: Solution, tolerance: float) -> str:
    """The residual that a solve reached, in words."""
    return (
        f"relative residual {solution.residual:.3g} after {solution.iterations} iterations, "
        f"tolerance {tolerance:g}"
    )
