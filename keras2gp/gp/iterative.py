"""The solver for matrices that no machine holds: conjugate gradients on their products."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.cholesky import JITTER_LADDER, check_jitter
from keras2gp.gp.conjugate import Apply, IndefiniteError, Solution, conjugate_gradients
from keras2gp.gp.factor import CholeskyReport, JitterStep
from keras2gp.gp.matrices import MatrixProduct, Progress, TiledProduct
from keras2gp.gp.panels import Array
from keras2gp.gp.pivoted import PartialCholesky, randomly_pivoted
from keras2gp.gp.precision import relative_error
from keras2gp.gp.preconditioner import Preconditioner, no_preconditioner
from keras2gp.gp.system import Fit
from keras2gp.gp.training import Training

__all__ = ["ConjugateGradients", "IterativeSystem", "RecomputedSystem"]

_HINT = "fewer training images, a gram on disk, or solver='nystroem'"
# A tenth of N costs a fifth more for each iteration, and saves four fifths of them; beyond 1000
# its memory counts.
_LEAST_RANK, _LARGEST_RANK, _RANK_SHARE = 100, 1000, 10
_BATCH = 256


@dataclass(frozen=True)
class ConjugateGradients:
    """Conjugate gradients with a randomly pivoted Cholesky preconditioner; exact to a tolerance.

    tolerance:      on the relative residual |y - A alpha| / |y| of each column
    rank:           columns of the preconditioner at most; None for N / 10, between 100 and
                    1000; 0 for none
    max_iterations: of each solve
    seed:           of the pivots

    The matrix is only multiplied, so that it may lie on disk or on Dask workers. Predictive
    variances and leave-one-out take a solve for each test or training input; there is no log
    marginal likelihood.
    """

    tolerance: float = 1e-6
    rank: int | None = None
    max_iterations: int = 1000
    seed: int = 0
    name: ClassVar[str] = "cg"

    def __post_init__(self) -> None:
        if not 0.0 < self.tolerance < 1.0:
            raise InputError(f"tolerance is {self.tolerance!r}: expected a number between 0 and 1")
        if self.rank is not None and self.rank < 0:
            raise InputError(f"rank is {self.rank!r}: expected a whole number, 0 or more")
        if self.max_iterations < 1:
            raise InputError(f"max_iterations is {self.max_iterations!r}: expected 1 or more")

    def rank_for(self, size: int) -> int:
        """The rank of the preconditioner for N inputs, at most."""
        return min(max(_LEAST_RANK, size // _RANK_SHARE) if self.rank is None else self.rank, size)

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes beyond the kernel matrix: the preconditioner, a panel, and a few vectors."""
        count = len(training)
        vectors = 3 * self.rank_for(count) + 8 * max(outputs, min(_BATCH, count))
        return TiledProduct.memory(count) + 8 * count * vectors

    def fit(
        self,
        training: Training,
        targets: Array,
        noise: float,
        jitter: float | str,
        progress: Progress | None,
    ) -> Fit:
        """See Solver.fit.

        Raises: NumericalError if the tolerance is not reached, with what was.
        """
        self.require(training, targets.shape[1])
        started = time.perf_counter()
        product = training.product()
        partial = self.partial(product)
        mean = float(partial.diagonal.mean())
        fixed = check_jitter(jitter)
        steps: list[JitterStep] = []
        reached: list[str] = []
        for relative in JITTER_LADDER if fixed is None else (fixed,):
            system = IterativeSystem(self, product, partial, noise + relative * mean)
            try:
                solution = system.solution(targets, progress)
            except IndefiniteError as error:
                steps.append(JitterStep(relative, error.curvature, -1))
                reached.append(str(error))
                continue
            steps.append(JitterStep(relative, min(solution.curvature, mean), -1))
            if solution.converged:
                seconds = time.perf_counter() - started
                return Fit(
                    system,
                    solution.x,
                    solution.x,
                    None,
                    CholeskyReport(relative, mean, tuple(steps), seconds),
                    str(product.dtype),
                    iterations=solution.iterations,
                    residual=solution.residual,
                    rank=partial.rank,
                )
            reached.append(_shortfall(solution, self.tolerance))
        raise NumericalError(_failure(len(training), steps, reached, partial.rank))

    def require(self, training: Training, outputs: int) -> None:
        """Raises: InputError if the memory does not suffice."""
        training.require(self.memory(training, outputs), "conjugate gradients", _HINT)

    def partial(self, product: MatrixProduct) -> PartialCholesky:
        """The low-rank approximation that the preconditioner is made of."""
        size = product.shape[0]
        error = relative_error(product.dtype, size)
        return randomly_pivoted(product, self.rank_for(size), error, self.seed)


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
        self._precondition: Apply = (
            Preconditioner(partial, added).apply if partial.rank else no_preconditioner
        )

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
            lambda p: self._product.product(p) + self._added * p,
            b,
            self._precondition,
            tolerance=options.tolerance,
            max_iterations=options.max_iterations,
            advance=None if progress is None else _percent(progress, options.tolerance),
        )

    def solve(self, b: Array) -> Array:
        """A^-1 b for b of shape [N, C].

        Raises: NumericalError if the tolerance is not reached.
        """
        return self._solved(b).x

    def _solved(self, b: Array) -> Solution:
        solution = self.solution(np.ascontiguousarray(b))
        if not solution.converged:
            raise NumericalError(
                f"conjugate gradients: {_shortfall(solution, self._options.tolerance)}. "
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
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
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
        self._options.require(self._training, _BATCH)
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


def _shortfall(solution: Solution, tolerance: float) -> str:
    return (
        f"relative residual {solution.residual:.3g} after {solution.iterations} iterations, "
        f"tolerance {tolerance:g}"
    )


def _failure(size: int, steps: list[JitterStep], reached: list[str], rank: int) -> str:
    tried = "; ".join(
        f"jitter {step.jitter:g}: {text}" for step, text in zip(steps, reached, strict=True)
    )
    return (
        f"conjugate gradients on a {size} x {size} matrix, preconditioned with rank {rank}, did "
        f"not reach the tolerance. {tried}. Likely cause: inputs that are almost alike, or more "
        "than the entries' precision allows. Try: a noise_variance, a larger tolerance, rank or "
        "max_iterations, or solver='cholesky'"
    )
