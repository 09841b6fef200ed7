"""The report of a verification: estimates at each width, their limit and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np

from keras2gp._util import html
from keras2gp._util.arrays import Array, Matrix, Vector
from keras2gp.verification.statistics import FALSE_ALARM, POWER, LimitTest, Moments

__all__ = [
    "RESOLUTION",
    "Verdict",
    "VerificationReport",
    "WidthEstimate",
    "estimate",
    "make_report",
]

RESOLUTION = 0.10
"""A kernel is accepted only if one whose variance is off by this much would be rejected."""
_LINE = 41

Rows: TypeAlias = tuple[tuple[float, ...], ...]
"""A matrix [N, N] as tuples, for JSON."""


class Verdict(StrEnum):
    """The outcome of a verification."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class WidthEstimate:
    """Networks of one width. Variances are relative to the kernel's: 1 is agreement.

    Attributes:
        width: Channels of the narrowest hidden layer.
        factor: Channels of every hidden layer, relative to those of the model.
        units: Units of the output, over which second moments are averaged.
        samples: How many networks were drawn.
        variance: Mean over the images.
        error: Its standard deviation, from the draws.
        covariance: Second moments of the outputs, [N][N].
        errors: Their standard deviations, [N][N].
        seconds: Time of drawing.
        gain: How many times as many networks would take the same error bar without controls.
        used: Whether the limit uses this width: the draws are enough for their heavy tails.
    """

    width: int
    factor: float
    units: int
    samples: int
    variance: float
    error: float
    covariance: Rows
    errors: Rows
    seconds: float
    gain: float
    used: bool = True


@dataclass(frozen=True)
class VerificationReport:
    """A kernel beside random networks of growing width, whose limit it should be.

    Attributes:
        model: Name of the model.
        verdict: Accepted, rejected or undecided.
        reason: Why, in a sentence.
        kernel: The kernel's matrix of the images, [N][N].
        levels: Estimates by width, narrow to wide.
        variance: Variance extrapolated to infinite width, relative to the kernel's, mean over the
            images.
        error: Its standard deviation: `sampling` and `remainder` together.
        sampling: The part of the error that comes from the draws.
        remainder: The part of the error that comes from the extrapolation.
        covariance: Extrapolated second moments, [N][N].
        errors: Their standard deviations, [N][N].
        worst: The entry (i, j) that is farthest off, in units of the largest distance allowed.
        deviation: That distance: beyond 1 the kernel is rejected.
        resolution: Relative error of a kernel's variance that would be rejected with probability
            `power`. It must be RESOLUTION or less for the kernel to be accepted.
        seed: Seed of the networks, and of random images.
        false_alarm: Probability that a true kernel is rejected.
        power: Probability that belongs to `resolution`.
    """

    model: str
    verdict: Verdict
    reason: str
    kernel: Rows
    levels: tuple[WidthEstimate, ...]
    variance: float
    error: float
    sampling: float
    remainder: float
    covariance: Rows
    errors: Rows
    worst: tuple[int, int]
    deviation: float
    resolution: float
    seed: int
    false_alarm: float = FALSE_ALARM
    power: float = POWER

    @property
    def accepted(self) -> bool:
        """Whether the verdict is "accepted"."""
        return self.verdict is Verdict.ACCEPTED

    def to_dict(self) -> dict[str, Any]:
        """The report as data for JSON."""
        return {**asdict(self), "verdict": str(self.verdict)}

    def _repr_html_(self) -> str:
        """The report in a notebook: the verdict, and the variance by width."""
        rows = [
            (str(level.width), str(level.samples), f"{level.variance:.4f}", f"{level.error:.4f}")
            for level in self.levels
        ]
        rows.append(("limit", "", f"{self.variance:.4f}", f"{self.error:.4f}"))
        header = ("width", "networks", "variance / kernel", "standard deviation")
        return html.page(
            f"{self.model}: {self.verdict}",
            html.lines([self.reason]),
            html.table(header, rows, header),
        )

    def drawing(self) -> list[str]:
        """The variance by width beside the kernel's, with bars of two standard deviations."""
        rows = [
            (f"{'' if level.used else '*'}{level.width}", level.variance, level.error)
            for level in self.levels
        ]
        rows.append(("limit", self.variance, self.error))
        off = [(label, value - 1.0, error) for label, value, error in rows]
        reach = max(abs(value) + 2.0 * error for _, value, error in off)
        lines = [
            f"{label:>8} {100 * value:>+8.2f}% {100 * error:>7.2f}%  {_bar(value, error, reach)}"
            for label, value, error in off
        ]
        if not all(level.used for level in self.levels):
            lines.append("* not used: too few draws for tails as heavy as theirs")
        half = _LINE // 2
        scale = f"{f'{-100 * reach:.2g}%':<{half}}0{f'{100 * reach:+.2g}%':>{half}}"
        header = f"{'width':>8} {'variance':>9} {'error':>8}"
        return [f"{header}  {scale}", *lines]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.model}: {self.verdict}. {self.reason}",
                "networks' mean variance of the output, against the kernel's:",
                *self.drawing(),
            ]
        )


def _bar(value: float, error: float, reach: float) -> str:
    """A line with the kernel in its middle, the value and two error bars around it."""
    half = _LINE // 2
    low, middle, high = (
        half + round(half * max(-1.0, min(1.0, v / reach)))
        for v in (value - 2 * error, value, value + 2 * error)
    )
    cells = [" "] * _LINE
    cells[half] = "|"
    cells[low : high + 1] = "-" * (high + 1 - low)
    cells[middle] = "o"
    return "".join(cells).rstrip()


def estimate(
    draws: Array, plain: Array, moments: Moments, *, scale: tuple[int, float, int], seconds: float
) -> WidthEstimate:
    """The estimates of one width.

    Args:
        draws: Second moments of the networks, less the controls: [samples, N, N].
        plain: The same without controls.
        moments: Their statistics.
        scale: Width, factor and units of the networks.
        seconds: Time of drawing.
    """
    uncontrolled, controlled = (np.trace(m, axis1=1, axis2=2).var() for m in (plain, draws))
    return WidthEstimate(
        *scale,
        samples=len(draws),
        variance=float(moments.mean[0]),
        error=float(moments.error[0]),
        covariance=_rows(draws.mean(axis=0)),
        errors=_rows(draws.std(axis=0) / math.sqrt(len(draws) - 1)),
        seconds=seconds,
        gain=float(uncontrolled / controlled) if controlled > 0 else 1.0,
        used=moments.usable,
    )


def make_report(
    model: str, test: LimitTest, matrix: Matrix, levels: Sequence[WidthEstimate], *, seed: int
) -> VerificationReport:
    """The report of a test of the kernel's matrix."""
    verdict, reason = _verdict(test, levels)
    scale = np.sqrt(np.outer(np.diagonal(matrix), np.diagonal(matrix)))
    rows, columns = np.triu_indices(len(matrix))
    entry = int(test.deviations[1:].argmax())
    return VerificationReport(
        model=model,
        verdict=verdict,
        reason=reason,
        kernel=_rows(matrix),
        levels=tuple(levels),
        variance=float(test.limit[0]),
        error=float(test.error[0]),
        sampling=float(test.sampling[0]),
        remainder=test.remainder,
        covariance=_rows(_symmetric(test.limit[1:], len(matrix)) * scale),
        errors=_rows(_symmetric(test.error[1:], len(matrix)) * scale),
        worst=(int(rows[entry]), int(columns[entry])),
        deviation=float(test.deviations.max()),
        resolution=test.resolution,
        seed=seed,
    )


def _verdict(test: LimitTest, levels: Sequence[WidthEstimate]) -> tuple[Verdict, str]:
    """The verdict, and why."""
    off, error = test.limit[0] - 1.0, test.error[0]
    measured = (
        f"the networks' variance is {100 * off:+.2g}% off it, give or take {100 * error:.2g}%"
    )
    if not test.usable:
        return Verdict.UNDECIDED, (
            "networks as narrow as these vary so much that the samples are too few for an error "
            "bar. Try: larger widths, or many more samples"
        )
    if test.rejected:
        return Verdict.REJECTED, (
            f"{measured}; the farthest entry is {test.deviations.max():.2g} times as far from "
            "the kernel as sampling and finite width allow."
        )
    if test.resolution <= RESOLUTION:
        return Verdict.ACCEPTED, (
            f"{measured}, which sampling and finite width allow; a kernel off by "
            f"{100 * test.resolution:.2g}% would have been rejected."
        )
    return Verdict.UNDECIDED, f"{measured}, too little to tell. Try: {_advice(test, levels)}"


def _advice(test: LimitTest, levels: Sequence[WidthEstimate]) -> str:
    """How to bring the error bars down to those that a verdict needs."""
    if test.remainder > test.sampling[0]:
        return "larger widths: what 1/width leaves outweighs the sampling error"
    if not math.isfinite(test.resolution):
        return "many more samples, or larger widths"
    reached, needed = (r / (1.0 + r) for r in (test.resolution, RESOLUTION))
    samples = levels[0].samples * (reached / needed) ** 2
    digits = 1 - math.floor(math.log10(samples))
    return f"about {math.ceil(round(samples, digits)):,} samples"


def _symmetric(entries: Vector, count: int) -> Matrix:
    """The matrix [count, count] of its entries i <= j."""
    matrix = np.empty((count, count))
    rows, columns = np.triu_indices(count)
    matrix[rows, columns] = matrix[columns, rows] = entries
    return matrix


def _rows(matrix: Matrix) -> Rows:
    return tuple(tuple(float(v) for v in row) for row in matrix)
