"""The interface of solvers: what a fit returns, and the linear system that predictions use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeAlias, runtime_checkable

from keras2gp._util.arrays import Array, Indices, Matrix, Noise, Targets, Vector
from keras2gp._util.progress import Advance
from keras2gp.gp.solvers.report import CholeskyReport
from keras2gp.gp.solvers.training import Training

__all__ = ["PROBE", "Fit", "LinearSystem", "Origin", "Solver", "SolverLike", "Solving"]

PROBE = 8
"""Number of training inputs whose kernel matrix is compared when a fit is loaded."""


@dataclass(frozen=True)
class Origin:
    """The facts of a saved fit from which a system is restored, besides its own state.

    Attributes:
        training: the kernel and the training inputs, or the matrix.
        solver: the solver that has solved, with its settings.
        added: the sum of noise and jitter on the diagonal, or that of each row, [N].
    """

    training: Training
    solver: Any
    added: Noise


class LinearSystem(Protocol):
    """The covariance A of the training targets, as predictions use it.

    `cross` is the kernel between test inputs and the basis, [M, B]: the training inputs, or the
    inducing ones.
    """

    closed_form: ClassVar[bool]
    """Whether the whole diagonal of A^-1 is cheap; otherwise every entry takes a solve."""
    files: ClassVar[tuple[str, ...]]
    """Names of the arrays of `state`, which are the names of their files."""

    @property
    def basis(self) -> int:
        """B, the number of inputs in the basis."""
        ...

    def explained(self, cross: Matrix, /) -> Vector:
        """The part of the prior variance that the targets explain, [M]: diag(k* A^-1 k*^T)."""
        ...

    def explained_covariance(self, cross: Matrix, /) -> Matrix:
        """The part of the prior covariance that the targets explain, [M, M]."""
        ...

    def inverse_diagonal(self, rows: Indices, /) -> Vector:
        """Entries of the diagonal of A^-1, [rows]."""
        ...

    def kernel_corner(self, count: int, added: Noise, /) -> Matrix:
        """The kernel matrix of the first inputs of the basis, `count` of them at most.

        Args:
            count: how many.
            added: the sum of noise and jitter on the diagonal of A.
        """
        ...

    def state(self) -> dict[str, Array]:
        """The arrays that a saved fit keeps, by the names in `files`."""
        ...

    @classmethod
    def from_state(cls, state: Mapping[str, Array], origin: Origin) -> Self:
        """The system of a `state`.

        Raises:
            ModelFileError: the arrays do not fit each other.
        """
        ...


@runtime_checkable
class Solving(Protocol):
    """A linear system that solves for any right-hand sides."""

    def solve(self, b: Matrix, /) -> Matrix:
        """A^-1 b for b of shape [N, C], as a new array."""
        ...


@dataclass(frozen=True)
class Fit:
    """The outcome of a solver.

    Attributes:
        system: the linear system, for predictions.
        alpha: A^-1 Y, [N, C].
        weights: [B, C]: the posterior mean is k* weights; alpha, unless the basis is smaller.
        log_determinant: log det A; None if the solver does not compute it.
        report: jitter and pivots.
        dtype: type of the kernel's entries.
        inducing: rows of the training inputs that are the basis; None for all.
        iterations: as in SolverReport.
        residual: as in SolverReport.
        rank: as in SolverReport.
        determinant_error: the standard error of log_determinant, if that is an estimate.
        instead: name, reason and bytes of the solver that took over from the one that was asked;
            None if that one has solved.
    """

    system: LinearSystem
    alpha: Matrix
    weights: Matrix
    log_determinant: float | None
    report: CholeskyReport
    dtype: str
    inducing: tuple[int, ...] | None = None
    iterations: int | None = None
    residual: float | None = None
    rank: int | None = None
    determinant_error: float | None = None
    instead: tuple[str, str, int] | None = None


class Solver(ABC):
    """A way to solve for the targets; its settings are the fields of a frozen dataclass."""

    name: ClassVar[str]
    """The name by which an estimator's setting `solver` asks for it."""
    system: ClassVar[type[LinearSystem]]
    """The class of its linear system."""
    takes: ClassVar[str]
    """The part of a fit that takes the memory, in the words of a refusal."""
    remedy: ClassVar[str]
    """The remedy of that refusal."""

    @abstractmethod
    def memory(self, training: Training, outputs: int) -> int:
        """Bytes that a fit takes beyond the kernel matrix.

        Args:
            training: the covariance of the training inputs.
            outputs: C.

        Returns:
            The number of bytes.
        """

    def require(self, training: Training, outputs: int) -> None:
        """Refuse a fit for which the memory does not suffice, with an InputError.

        Args:
            training: the covariance of the training inputs.
            outputs: C.
        """
        training.require(self.memory(training, outputs), self.takes, self.remedy)

    @abstractmethod
    def fit(
        self,
        training: Training,
        targets: Targets,
        noise: Noise,
        jitter: float | str,
        progress: Advance | None,
    ) -> Fit:
        """Solve for targets [N, C].

        Args:
            training: the covariance of the training inputs.
            targets: Y, [N, C].
            noise: the noise variance, or that of each row, [N].
            jitter: "auto", or a number relative to the mean diagonal.
            progress: called with (steps done, steps in all).

        Returns:
            The fit, with alpha [N, C].

        Raises:
            InputError: the memory does not suffice, or settings do not fit the inputs.
            NumericalError: the matrix is not positive definite, or the tolerance is not reached.
        """


SolverLike: TypeAlias = Solver | str
"""What a user states: a solver with its settings, or its name."""
