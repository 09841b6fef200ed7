"""The solver by preconditioned conjugate gradients."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from keras2gp._util.arrays import Noise, Targets
from keras2gp._util.progress import Advance
from keras2gp.errors import NumericalError
from keras2gp.gp.solvers.conjugate_gradients import IndefiniteError
from keras2gp.gp.solvers.iterative_system import IterativeSolver, IterativeSystem, shortfall
from keras2gp.gp.solvers.jitter import JITTER_LADDER, check_jitter, check_range
from keras2gp.gp.solvers.matrices import MatrixProduct
from keras2gp.gp.solvers.precision import precision_hint
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep
from keras2gp.gp.solvers.system import Fit
from keras2gp.gp.solvers.training import Training

__all__ = ["ConjugateGradients"]


@dataclass(frozen=True)
class ConjugateGradients(IterativeSolver):
    """Conjugate gradients with a randomly pivoted Cholesky preconditioner; exact to a tolerance.

    The matrix is only multiplied, so that it may lie on disk or on Dask workers. Predictive
    variances and leave-one-out take a solve for each test or training input; without probes there
    is no log marginal likelihood.

    Args:
        tolerance: bound on the relative residual |y - A alpha| / |y| of each column.
        rank: columns of the preconditioner at most; None for N / 10, between 100 and 1000; 0 for
            no preconditioner.
        max_iterations: bound on the iterations of each solve.
        seed: seed of the pivots and the probes.
        probes: number of random vectors that estimate log det A, and with it the log marginal
            likelihood (lanczos.log_determinant), for some tens of products more; 0 for none. The
            standard error is solver_report_.evidence_error.

    Raises:
        InputError: a setting is out of range.

    References:
        Hestenes and Stiefel 1952, for the iteration (conjugate_gradients.conjugate_gradients);
        Chen, Epperly, Tropp and Webber, Randomly pivoted Cholesky, for the preconditioner.

    >>> import numpy as np
    >>> from keras2gp.gp import ConjugateGradients, GPRegressor
    >>> gp = GPRegressor("precomputed", 1.0, solver=ConjugateGradients(tolerance=1e-8))
    >>> gp.fit(np.eye(3), [2.0, 4.0, 6.0]).predict(np.eye(3)).round(6)
    array([1., 2., 3.])
    >>> gp.solver_report_.solver
    'cg'
    """

    name: ClassVar[str] = "cg"

    def fit(
        self,
        training: Training,
        targets: Targets,
        noise: Noise,
        jitter: float | str,
        progress: Advance | None,
    ) -> Fit:
        """See Solver.fit.

        Raises:
            NumericalError: the tolerance is not reached; names the residual that was.
        """
        self.require(training, targets.shape[1])
        started = time.perf_counter()
        bare = IterativeSystem(self, training, 0.0)
        partial = bare.partial
        fixed = check_jitter(jitter)
        mean = check_range(partial.diagonal, noise, fixed)
        steps: list[JitterStep] = []
        reached: list[str] = []
        for relative in JITTER_LADDER if fixed is None else (fixed,):
            system = bare.shifted(noise + relative * mean)
            try:
                solution = system.solution(targets, progress)
            except IndefiniteError as error:
                steps.append(JitterStep(relative, error.curvature, -1))
                reached.append(str(error))
                continue
            steps.append(JitterStep(relative, min(solution.curvature, mean), -1))
            if solution.converged:
                determinant = system.log_determinant() if self.probes else None
                seconds = time.perf_counter() - started
                return Fit(
                    system,
                    solution.x,
                    solution.x,
                    None if determinant is None else determinant.value,
                    CholeskyReport(relative, mean, tuple(steps), seconds),
                    str(bare.product.dtype),
                    iterations=solution.iterations,
                    residual=solution.residual,
                    rank=partial.rank,
                    determinant_error=None if determinant is None else determinant.error,
                )
            reached.append(shortfall(solution, self.tolerance))
        raise NumericalError(_failure(bare.product, steps, reached, partial.rank))


def _failure(product: MatrixProduct, steps: list[JitterStep], reached: list[str], rank: int) -> str:
    """The message for a fit that reaches the tolerance with no jitter of the ladder."""
    size, (low, remedy) = product.shape[0], precision_hint(product.dtype)
    tried = "; ".join(
        f"jitter {step.jitter:g}: {text}" for step, text in zip(steps, reached, strict=True)
    )
    return (
        f"conjugate gradients on a {size} x {size} matrix, preconditioned with rank {rank}, did "
        f"not reach the tolerance. {tried}. Likely cause: inputs that are almost alike, or more "
        f"than the entries' precision allows.{low} Try: {remedy}a noise_variance, a larger "
        "tolerance, rank or max_iterations, or solver='cholesky'"
    )
