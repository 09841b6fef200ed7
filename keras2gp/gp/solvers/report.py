"""Reports of a fit: the steps of jitter and the pivots, and the solver with its costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keras2gp._util.checks import finite_number, is_number

__all__ = ["CholeskyReport", "JitterStep", "SolverReport"]


@dataclass(frozen=True)
class JitterStep:
    """One attempt to factorise.

    Attributes:
        jitter: relative to the mean of the diagonal.
        smallest_pivot: the smallest pivot reached, L_ii^2, in the units of the matrix; not
            positive where the factorisation broke off. For conjugate gradients, the smallest
            curvature p^T A p / p^T p of a search direction p.
        index: the row of that pivot; -1 where there is none.
    """

    jitter: float
    smallest_pivot: float
    index: int


@dataclass(frozen=True)
class CholeskyReport:
    """The course of a factorisation.

    Attributes:
        jitter: the jitter in the factor, relative to `mean_diagonal`; 0.0 if none was needed.
        mean_diagonal: mean of the diagonal of the matrix as given, before noise and jitter.
        steps: every attempt; the last one succeeded.
        seconds: wall time, reading and checking the matrix included.
        duplicate: a pair of equal inputs, searched only if the matrix was singular as given.
    """

    jitter: float
    mean_diagonal: float
    steps: tuple[JitterStep, ...]
    seconds: float
    duplicate: tuple[int, int] | None = None

    @property
    def smallest_pivot(self) -> float:
        """The smallest pivot of the factor, L_ii^2, in the units of the matrix."""
        return self.steps[-1].smallest_pivot

    @property
    def smallest_pivot_index(self) -> int:
        """The row of the smallest pivot."""
        return self.steps[-1].index

    @property
    def added(self) -> float:
        """The number that the jitter added to every entry of the diagonal."""
        return self.jitter * self.mean_diagonal

    def state(self) -> dict[str, Any]:
        """The report as data for JSON."""
        return {
            **asdict(self),
            "smallest_pivot": self.smallest_pivot,
            "smallest_pivot_index": self.smallest_pivot_index,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> CholeskyReport:
        """The report of a `state`; ValueError, KeyError and the like where it is malformed.

        Args:
            state: the data.

        Returns:
            The report.

        Raises:
            ValueError: a number is none, or there is no step.
        """
        steps = tuple(
            JitterStep(
                finite_number(step["jitter"]),
                finite_number(step["smallest_pivot"]),
                int(step["index"]),
            )
            for step in state["steps"]
        )
        if not steps or not state["jitter"] >= 0.0:
            raise ValueError(f"{len(steps)} steps of jitter, jitter {state['jitter']!r}")
        pair = state.get("duplicate")
        return cls(
            jitter=finite_number(state["jitter"]),
            mean_diagonal=finite_number(state["mean_diagonal"]),
            steps=steps,
            seconds=finite_number(state["seconds"]),
            duplicate=None if pair is None else (int(pair[0]), int(pair[1])),
        )


@dataclass(frozen=True)
class SolverReport:
    """The solver of a fit, the reason for it, and its costs.

    Attributes:
        solver: "cholesky", "mixed", "tensorflow", "cg", "nystroem" or "projected".
        reason: the reason why this solver was taken, in words.
        memory: bytes that it was expected to take, the kernel matrix included if it was computed.
        seconds: wall time, the computation of the kernel included.
        iterations: number of iterations of conjugate gradients.
        residual: the largest relative residual |y - A alpha| / |y| reached, recomputed at the end.
        rank: rank of the preconditioner, or the number of inducing inputs.
        evidence_error: the standard error of the log marginal likelihood, if that is an estimate.
    """

    solver: str
    reason: str
    memory: int
    seconds: float
    iterations: int | None = None
    residual: float | None = None
    rank: int | None = None
    evidence_error: float | None = None

    def state(self) -> dict[str, Any]:
        """The report as data for JSON."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SolverReport:
        """The report of a `state`; TypeError or ValueError where it is malformed.

        Args:
            state: the data.

        Returns:
            The report.

        Raises:
            TypeError: a text is none.
            ValueError: a number is none.
        """
        report = cls(**state)
        optional = (report.iterations, report.residual, report.rank, report.evidence_error)
        numbers = [report.memory, report.seconds, *(v for v in optional if v is not None)]
        if not isinstance(report.solver, str) or not isinstance(report.reason, str):
            raise TypeError(f"solver {report.solver!r}, reason {report.reason!r}")
        if not all(is_number(v) and abs(v) < float("inf") for v in numbers):
            raise ValueError(f"figures of the solver {numbers}")
        return report
