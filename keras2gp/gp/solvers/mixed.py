"""The solver in mixed precision: a float32 Cholesky factor, and solves refined in float64."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from keras2gp._util import memory
from keras2gp._util.arrays import Noise, Targets
from keras2gp._util.checks import proper_share, whole_number
from keras2gp._util.progress import Advance
from keras2gp._util.text import size_text
from keras2gp.gp.solvers.direct import REMEDY, Cholesky
from keras2gp.gp.solvers.iterative import ConjugateGradients
from keras2gp.gp.solvers.jitter import check_jitter, check_range
from keras2gp.gp.solvers.mixed_system import PROBES, MixedSystem
from keras2gp.gp.solvers.products import LowerTriangle
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep
from keras2gp.gp.solvers.single import factorize_single, single_memory
from keras2gp.gp.solvers.system import Fit, LinearSystem, Solver
from keras2gp.gp.solvers.training import Training

__all__ = ["MixedPrecision"]


@dataclass(frozen=True)
class MixedPrecision(Solver):
    """A float32 Cholesky factor, with solves that float64 products refine; exact to a tolerance.

    The factor takes half the time and half the memory of one in float64, and the matrix is kept.
    It is refused, and the solve done by Cholesky in float64 (or by conjugate gradients, if that
    does not fit in memory), where float32 is not enough: a pivot near its rounding error, which
    includes every matrix that needs jitter, or a tolerance that is not reached.

    The weights meet the tolerance. Posterior variances are refined until they are as exact as the
    kernel's entries (precision.relative_error). Leave-one-out variances are within `accuracy`. The
    log marginal likelihood is an estimate with the standard error solver_report_.evidence_error.

    Args:
        tolerance: bound on the relative residual |y - A alpha| / |y| of each column.
        accuracy: bound on the relative error of leave-one-out variances; it is checked on 32 rows
            each time, with a margin of 2.
        max_iterations: bound on the products with the matrix.

    Raises:
        InputError: a setting is out of range.

    References:
        Higham and Mary (2022), Mixed precision algorithms in numerical linear algebra, section 7.

    >>> import numpy as np
    >>> from keras2gp.gp import GPRegressor, MixedPrecision
    >>> gp = GPRegressor("precomputed", 1.0, solver=MixedPrecision())
    >>> gp.fit(np.eye(3), [2.0, 4.0, 6.0]).predict(np.eye(3)).round(6)
    array([1., 2., 3.])
    >>> gp.solver_report_.solver
    'mixed'
    """

    tolerance: float = 1e-10
    accuracy: float = 1e-3
    max_iterations: int = 20
    name: ClassVar[str] = "mixed"
    system: ClassVar[type[LinearSystem]] = MixedSystem
    takes: ClassVar[str] = "the float32 factor"
    remedy: ClassVar[str] = REMEDY

    def __post_init__(self) -> None:
        proper_share("tolerance", self.tolerance)
        proper_share("accuracy", self.accuracy)
        whole_number("max_iterations", self.max_iterations, 1)

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes beyond the kernel matrix: the factor, panels, and a few vectors."""
        count = len(training)
        held = training.given is None or isinstance(training.given, np.ndarray)
        vectors = 8 * (outputs + PROBES)
        panels = LowerTriangle.memory(count, held=held)
        return single_memory(count) + panels + 8 * count * vectors

    def fit(
        self,
        training: Training,
        targets: Targets,
        noise: Noise,
        jitter: float | str,
        progress: Advance | None,
    ) -> Fit:
        """See Solver.fit."""
        outputs, extra = targets.shape[1], training.bytes_to_compute
        self.require(training, outputs)
        training = training.with_matrix(training.matrix())
        fit = self._attempt(training, targets, noise, check_jitter(jitter) or 0.0, progress)
        if isinstance(fit, Fit):
            return fit
        solver, why = _in_float64(training, outputs)
        taken = (solver.name, f"float32 is not enough: {fit}{why}")
        found = solver.fit(training, targets, noise, jitter, progress)
        return replace(found, instead=(*taken, solver.memory(training, outputs) + extra))

    def _attempt(
        self,
        training: Training,
        targets: Targets,
        noise: Noise,
        jitter: float,
        progress: Advance | None,
    ) -> Fit | str:
        """The fit, or the reason why float32 is not enough for it."""
        started = time.perf_counter()
        matrix = LowerTriangle(training.matrix())
        diagonal = matrix.diagonal()
        mean = check_range(diagonal, noise, jitter)
        added = noise + jitter * mean
        factor, smallest, index = factorize_single(training.matrix(), diagonal, added, progress)
        if factor is None:
            place = f"at row {index} (counted from 0)"
            return f"the pivot {smallest:.3g}, {place}, is near its rounding error"
        system = MixedSystem(training, factor, added, self.accuracy)
        solution, determinant = system.solved(targets, self.tolerance, self.max_iterations)
        if not solution.converged:
            return (
                f"relative residual {solution.residual:.3g} after {solution.iterations} "
                f"iterations, tolerance {self.tolerance:g}"
            )
        step = JitterStep(jitter, smallest, index)
        return Fit(
            system,
            solution.x,
            solution.x,
            determinant.value,
            CholeskyReport(jitter, mean, (step,), time.perf_counter() - started),
            str(matrix.dtype),
            iterations=solution.iterations,
            residual=solution.residual,
            determinant_error=determinant.error,
        )


def _in_float64(training: Training, outputs: int) -> tuple[Cholesky | ConjugateGradients, str]:
    """The solver that takes over, and the reason if it is not Cholesky."""
    cholesky, available = Cholesky(), memory.available_memory()
    needed = cholesky.memory(training, outputs)
    if available is None or needed <= available:
        return cholesky, ""
    return ConjugateGradients(), (
        f"; a float64 factor needs {size_text(needed)}, and {size_text(available)} is available"
    )
