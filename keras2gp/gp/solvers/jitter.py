"""The ladder of jitters that makes singular kernel matrices regular, and the report of a fit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras2gp._util.arrays import Vector
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.solvers.matrices import MatrixLike, read_block

__all__ = [
    "JITTER_LADDER",
    "CholeskyReport",
    "JitterStep",
    "check_jitter",
    "check_noise",
    "factor_with_jitter",
    "is_number",
]

# Relative to the mean of the diagonal; each is tried only if the one before it fails.
JITTER_LADDER = (0.0, 1e-10, 1e-8, 1e-6, 1e-4)

# A pair of rows is a duplicate if they agree to five digits: float32 entries of one image given
# twice do. More candidates than the first few come only from a matrix that is no covariance.
_SAME_ROW = 1e-5
_MOST_PAIRS = 16
_COMPARED = 512


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
        duplicate: a pair of equal rows, searched only if the matrix was singular as given.
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
            JitterStep(_finite(s["jitter"]), _finite(s["smallest_pivot"]), int(s["index"]))
            for s in state["steps"]
        )
        if not steps:
            raise ValueError("no step of jitter")
        pair = state.get("duplicate")
        return cls(
            jitter=float(check_jitter(_finite(state["jitter"])) or 0.0),
            mean_diagonal=_finite(state["mean_diagonal"]),
            steps=steps,
            seconds=_finite(state["seconds"]),
            duplicate=None if pair is None else (int(pair[0]), int(pair[1])),
        )


def factor_with_jitter(
    matrix: MatrixLike,
    diagonal: Vector,
    noise: float,
    jitter: float | str,
    attempt: Callable[[float], tuple[bool, float, int]],
) -> CholeskyReport:
    """Try to factorise with more and more jitter, until it succeeds.

    Args:
        matrix: the matrix, read again only to find the cause of a failure.
        diagonal: its diagonal, [N].
        noise: the noise variance, added to the diagonal in every attempt.
        jitter: "auto" for the ladder, or one number relative to the mean of the diagonal.
        attempt: called with the number to add to the diagonal; returns whether it succeeded, the
            smallest pivot, and the row of that pivot.

    Raises:
        NumericalError: the last step of the ladder failed.
    """
    started = time.perf_counter()
    fixed = check_jitter(jitter)
    mean = float(diagonal.mean())
    steps: list[JitterStep] = []
    for relative in JITTER_LADDER if fixed is None else (fixed,):
        succeeded, smallest, index = attempt(noise + relative * mean)
        steps.append(JitterStep(relative, smallest, index))
        if succeeded:
            duplicate = _find_duplicate(matrix, diagonal) if len(steps) > 1 else None
            seconds = time.perf_counter() - started
            return CholeskyReport(relative, mean, tuple(steps), seconds, duplicate)
    raise NumericalError(_failure(matrix, diagonal, steps))


def check_noise(noise_variance: float) -> float:
    """The noise variance as a float.

    Raises:
        InputError: it is no finite number, or negative.
    """
    if not is_number(noise_variance) or not 0.0 <= noise_variance < math.inf:
        raise InputError(
            f"noise_variance is {noise_variance!r}: expected a finite number, 0 or more"
        )
    return float(noise_variance)


def check_jitter(jitter: float | str) -> float | None:
    """The jitter as a float, or None for "auto".

    Raises:
        InputError: it is neither "auto" nor a finite number, 0 or more.
    """
    if isinstance(jitter, str) and jitter == "auto":
        return None
    if not is_number(jitter) or not 0.0 <= float(jitter) < math.inf:
        raise InputError(f'jitter is {jitter!r}: expected "auto" or a finite number, 0 or more')
    return float(jitter)


def is_number(value: object) -> bool:
    """Whether a value is a real number of Python or numpy; bool is none."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _finite(value: Any) -> float:
    if not is_number(value) or not math.isfinite(value):
        raise ValueError(f"{value!r} where a finite number is expected")
    return float(value)


def _find_duplicate(matrix: MatrixLike, diagonal: Vector) -> tuple[int, int] | None:
    """The first pair of rows that agree to five digits, or None.

    For a Gram matrix K_ii - 2 K_ij + K_jj is a squared distance: where it vanishes, so does the
    difference of the rows. For any other matrix the rows themselves are compared.
    """
    size = diagonal.size
    for start in range(0, size, _COMPARED):
        stop = min(start + _COMPARED, size)
        block = read_block(matrix, slice(start, size), slice(start, stop))
        total = diagonal[start:, None] + diagonal[None, start:stop]
        close = np.tril(total - 2.0 * block <= _SAME_ROW * total, -1)
        for row, column in np.argwhere(close)[:_MOST_PAIRS]:
            pair = (start + int(column), start + int(row))
            one, other = (read_block(matrix, slice(i, i + 1), slice(0, size)) for i in pair)
            if np.abs(one - other).max() <= _SAME_ROW * np.abs(diagonal).max():
                return pair
    return None


def _failure(matrix: MatrixLike, diagonal: Vector, steps: list[JitterStep]) -> str:
    """The message for a matrix that no step of the ladder makes regular."""
    last = steps[-1]
    tried = ", ".join(f"{step.jitter:g}" for step in steps)
    message = (
        f"the matrix ({diagonal.size} x {diagonal.size}) is not positive definite: the smallest "
        f"pivot is {last.smallest_pivot:.3g}, at row {last.index}, with jitter {tried} (of the "
        f"mean diagonal, {diagonal.mean():.3g}). Likely cause: "
    )
    duplicate = _find_duplicate(matrix, diagonal)
    if duplicate is not None:
        return message + (
            f"rows {duplicate[0]} and {duplicate[1]} agree to five digits: the same input twice? "
            'Try: without one of them, a noise_variance, or jitter="auto"'
        )
    flat = int(diagonal.argmin())
    if diagonal[flat] <= 0.0:
        return message + (
            f"entry {flat} of the diagonal is {diagonal[flat]:.3g}, and a variance is positive: "
            "an input that is zero everywhere, in a model without biases? "
            "Try: without that input, a bias variance, or a noise_variance"
        )
    if len(steps) < len(JITTER_LADDER):
        return message + (
            "inputs that are almost alike, or combinations of each other. "
            'Try: a noise_variance, or jitter="auto"'
        )
    return message + (
        "the matrix is no covariance: rows and columns in different order, entries from "
        "different kernels, or entries with large errors. Try: a noise_variance"
        + (f" above {-last.smallest_pivot:.3g}" if last.smallest_pivot else "")
        + " if the entries are right"
    )
