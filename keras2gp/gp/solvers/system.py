"""What a solver leaves behind: the linear system of one fit, and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from keras2gp._util.arrays import Array
from keras2gp.gp.solvers.factor import CholeskyReport
from keras2gp.gp.solvers.matrices import Progress
from keras2gp.gp.solvers.training import Training

__all__ = ["Fit", "LinearSystem", "Solver", "SolverReport"]


class LinearSystem(Protocol):
    """A, the covariance of the training targets, as predictions need it.

    `cross` is the kernel between test inputs and the basis, [M, B]: the training inputs, or the
    inducing ones.
    """

    @property
    def basis(self) -> int:
        """B, the number of inputs that predictions are compared with."""
        ...

    def explained(self, cross: Array, /) -> Array:
        """What the targets explain of the prior variance, [M]: diag(k* A^-1 k*^T) if exact."""
        ...

    def explained_covariance(self, cross: Array, /) -> Array:
        """What the targets explain of the prior covariance, [M, M]."""
        ...

    @property
    def closed_form(self) -> bool:
        """Whether the whole diagonal of A^-1 is cheap; otherwise every entry takes a solve."""
        ...

    def inverse_diagonal(self, rows: npt.NDArray[np.intp], /) -> Array:
        """Entries of the diagonal of A^-1, [rows]."""
        ...


@dataclass(frozen=True)
class Fit:
    """The outcome of a solver.

    alpha:           A^-1 Y, [N, C]
    weights:         [B, C]: the posterior mean is k* weights; alpha, unless the basis is smaller
    log_determinant: log det A; None if the solver has not got it
    inducing:        rows of the training inputs that are the basis; None for all
    report:          jitter and pivots
    iterations, residual, rank: as in SolverReport
    determinant_error: the standard error of log_determinant, if that is an estimate
    """

    system: LinearSystem
    alpha: Array
    weights: Array
    log_determinant: float | None
    report: CholeskyReport
    dtype: str
    inducing: tuple[int, ...] | None = None
    iterations: int | None = None
    residual: float | None = None
    rank: int | None = None
    determinant_error: float | None = None


class Solver(Protocol):
    """A way to solve for the targets."""

    @property
    def name(self) -> str:
        """As it is asked for."""
        ...

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes that a fit takes beyond the kernel matrix."""
        ...

    def fit(
        self,
        training: Training,
        targets: Array,
        noise: float,
        jitter: float | str,
        progress: Progress | None,
    ) -> Fit:
        """Solve for targets [N, C].

        Raises: InputError, NumericalError.
        """
        ...


@dataclass(frozen=True)
class SolverReport:
    """Which solver solved a fit, why, and what it took.

    solver:     "cholesky", "tensorflow", "cg" or "nystroem"
    reason:     why this one, in words
    memory:     bytes that it was expected to take, the kernel matrix included if it was computed
    seconds:    wall time, that of the kernel included
    iterations: of conjugate gradients
    residual:   the largest relative residual |y - A alpha| / |y| reached, recomputed at the end
    rank:       of the preconditioner, or the number of inducing inputs
    evidence_error: the standard error of the log marginal likelihood, if that is an estimate
    """

    solver: str
    reason: str
    memory: int
    seconds: float
    iterations: int | None = None
    residual: float | None = None
    rank: int | None = None
    evidence_error: float | None = None

    @classmethod
    def restored(cls, values: dict[str, Any], names: Sequence[str]) -> SolverReport:
        """A report from JSON. Raises: TypeError, ValueError or KeyError if it is malformed."""
        report = cls(**values)
        optional = (report.iterations, report.residual, report.rank, report.evidence_error)
        numbers = [report.memory, report.seconds, *(v for v in optional if v is not None)]
        if report.solver not in names or not isinstance(report.reason, str):
            raise ValueError(f"solver {report.solver!r}")
        if not all(isinstance(v, int | float) and abs(v) < float("inf") for v in numbers):
            raise ValueError(f"figures of the solver {numbers}")
        return report
