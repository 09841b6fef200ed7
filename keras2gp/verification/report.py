"""What comes out of a verification: figures at each width, the limit, and a verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from keras2gp.verification.statistics import FALSE_ALARM, POWER

__all__ = ["RESOLUTION", "Verdict", "VerificationReport", "WidthEstimate"]

RESOLUTION = 0.10
"""A kernel is accepted only if one whose variance is off by this much would be rejected."""
_LINE = 41

Matrix = tuple[tuple[float, ...], ...]


class Verdict(StrEnum):
    """What the random networks say of the kernel."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class WidthEstimate:
    """Networks of one width. Variances are relative to the kernel's: 1 is agreement.

    width:      channels of the narrowest hidden layer
    factor:     of the channels of all hidden layers, beside those of the model
    units:      of the output, over which second moments are averaged
    samples:    networks drawn
    variance:   mean over the images
    error:      its standard deviation, from the draws
    covariance: [N][N] second moments of the outputs
    errors:     [N][N] their standard deviations
    seconds:    of drawing
    gain:       how many times as many networks would take the same error bar without controls
    used:       whether it has a part in the limit: the draws are enough for their heavy tails
    """

    width: int
    factor: float
    units: int
    samples: int
    variance: float
    error: float
    covariance: Matrix
    errors: Matrix
    seconds: float
    gain: float
    used: bool = True


@dataclass(frozen=True)
class VerificationReport:
    """A kernel beside random networks of growing width, whose limit it should be.

    model:       name of the model
    verdict:     accepted, rejected or undecided
    reason:      why, in a sentence
    kernel:      [N][N] the kernel's matrix of the images
    levels:      estimates by width, narrow to wide
    variance:    extrapolated to infinite width, relative to the kernel's, mean over the images
    error:       its standard deviation: `sampling` and `remainder` together
    sampling:    the part that comes from the draws
    remainder:   the part that is allowed for what the extrapolation leaves
    covariance:  [N][N] extrapolated second moments
    errors:      [N][N] their standard deviations
    worst:       the entry (i, j) that is farthest off, against what it may be
    deviation:   that entry's, in units of what it may be: beyond 1 the kernel is rejected
    resolution:  relative error of a kernel's variance that would be rejected with probability
                 `power`; to be accepted takes RESOLUTION
    false_alarm: how often a true kernel is rejected
    seed:        that the networks, and images of our own, were drawn with
    """

    model: str
    verdict: Verdict
    reason: str
    kernel: Matrix
    levels: tuple[WidthEstimate, ...]
    variance: float
    error: float
    sampling: float
    remainder: float
    covariance: Matrix
    errors: Matrix
    worst: tuple[int, int]
    deviation: float
    resolution: float
    seed: int
    false_alarm: float = FALSE_ALARM
    power: float = POWER

    @property
    def accepted(self) -> bool:
        """Whether the kernel was found to be that of the networks."""
        return self.verdict is Verdict.ACCEPTED

    def to_dict(self) -> dict[str, Any]:
        """The report as data for JSON."""
        return {**asdict(self), "verdict": str(self.verdict)}

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
