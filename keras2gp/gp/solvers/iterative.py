"""The solver for matrices that no machine holds: conjugate gradients on their products."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from keras2gp._util.arrays import Array
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.solvers.cholesky import JITTER_LADDER, check_jitter
from keras2gp.gp.solvers.conjugate import IndefiniteError
from keras2gp.gp.solvers.factor import CholeskyReport, JitterStep
from keras2gp.gp.solvers.iterative_system import BATCH, IterativeSystem, shortfall
from keras2gp.gp.solvers.matrices import MatrixProduct, Progress, TiledProduct
from keras2gp.gp.solvers.pivoted import PartialCholesky, randomly_pivoted
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.system import Fit
from keras2gp.gp.solvers.training import Training

__all__ = ["ConjugateGradients"]

_HINT = "fewer training images, a gram on disk, or solver='nystroem'"
# A tenth of N costs a fifth more for each iteration, and saves four fifths of them; beyond 1000
# its memory counts.
_LEAST_RANK, _LARGEST_RANK, _RANK_SHARE = 100, 1000, 10


@dataclass(frozen=True)
class ConjugateGradients:
    """Conjugate gradients with a randomly pivoted Cholesky preconditioner; exact to a tolerance.

    tolerance:      on the relative residual |y - A alpha| / |y| of each column
    rank:           columns of the preconditioner at most; None for N / 10, between 100 and
                    1000; 0 for none
    max_iterations: of each solve
    probes:         random vectors that estimate log det A, and with it the log marginal likelihood
                    (lanczos.log_determinant), for some tens of products more; 0 for none. The
                    standard error is solver_report_.evidence_error
    seed:           of the pivots and the probes

    The matrix is only multiplied, so that it may lie on disk or on Dask workers. Predictive
    variances and leave-one-out take a solve for each test or training input; without probes there
    is no log marginal likelihood.
    """

    tolerance: float = 1e-6
    rank: int | None = None
    max_iterations: int = 1000
    seed: int = 0
    probes: int = 0
    name: ClassVar[str] = "cg"

    def __post_init__(self) -> None:
        if not 0.0 < self.tolerance < 1.0:
            raise InputError(f"tolerance is {self.tolerance!r}: expected a number between 0 and 1")
        if self.rank is not None and self.rank < 0:
            raise InputError(f"rank is {self.rank!r}: expected a whole number, 0 or more")
        if self.max_iterations < 1:
            raise InputError(f"max_iterations is {self.max_iterations!r}: expected 1 or more")
        if self.probes < 0 or self.probes == 1:
            raise InputError(
                f"probes is {self.probes!r}: expected 0, or 2 or more, whose spread is the error"
            )

    def rank_for(self, size: int) -> int:
        """The rank of the preconditioner for N inputs, at most."""
        return min(max(_LEAST_RANK, size // _RANK_SHARE) if self.rank is None else self.rank, size)

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes beyond the kernel matrix: the preconditioner, a panel, and a few vectors."""
        count = len(training)
        vectors = 3 * self.rank_for(count) + 8 * max(outputs, min(BATCH, count), self.probes)
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
                determinant = system.log_determinant(self.probes) if self.probes else None
                seconds = time.perf_counter() - started
                return Fit(
                    system,
                    solution.x,
                    solution.x,
                    None if determinant is None else determinant.value,
                    CholeskyReport(relative, mean, tuple(steps), seconds),
                    str(product.dtype),
                    iterations=solution.iterations,
                    residual=solution.residual,
                    rank=partial.rank,
                    determinant_error=None if determinant is None else determinant.error,
                )
            reached.append(shortfall(solution, self.tolerance))
        raise NumericalError(_failure(len(training), steps, reached, partial.rank))

    def require(self, training: Training, outputs: int) -> None:
        """Raises: InputError if the memory does not suffice."""
        training.require(self.memory(training, outputs), "conjugate gradients", _HINT)

    def partial(self, product: MatrixProduct) -> PartialCholesky:
        """The low-rank approximation that the preconditioner is made of."""
        size = product.shape[0]
        error = relative_error(product.dtype, size)
        return randomly_pivoted(product, self.rank_for(size), error, self.seed)


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
