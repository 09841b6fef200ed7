"""From a judgement to a verdict, and the sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp.verification.report import RESOLUTION, Verdict, VerificationReport, WidthEstimate
from keras2gp.verification.sampling import Draws
from keras2gp.verification.statistics import Judgement, Moments
from keras2gp.verification.survey import Scale

__all__ = ["concluded", "level_of"]


def level_of(scale: Scale, draws: Draws, moments: Moments, seconds: float) -> WidthEstimate:
    """The estimates of one width."""
    values = draws.moments
    error = values.std(axis=0) / math.sqrt(len(values) - 1)
    plain, left = (np.trace(m, axis1=1, axis2=2).var() for m in (draws.plain, values))
    return WidthEstimate(
        scale.width,
        float(scale.factor),
        scale.units,
        len(values),
        float(moments.mean[0]),
        float(moments.error[0]),
        _rows(values.mean(axis=0)),
        _rows(error),
        seconds,
        float(plain / left) if left > 0 else 1.0,
        moments.usable,
    )


def concluded(
    model: str, found: Judgement, matrix: Array, levels: Sequence[WidthEstimate], *, seed: int
) -> VerificationReport:
    """The report of a judgement of the kernel's matrix."""
    verdict, reason = _verdict(found, levels)
    scale = np.sqrt(np.outer(np.diagonal(matrix), np.diagonal(matrix)))
    rows, columns = np.triu_indices(len(matrix))
    entry = int(found.deviations[1:].argmax())
    return VerificationReport(
        model=model,
        verdict=verdict,
        reason=reason,
        kernel=_rows(matrix),
        levels=tuple(levels),
        variance=float(found.limit[0]),
        error=float(found.error[0]),
        sampling=float(found.sampling[0]),
        remainder=found.remainder,
        covariance=_rows(_symmetric(found.limit[1:], len(matrix)) * scale),
        errors=_rows(_symmetric(found.error[1:], len(matrix)) * scale),
        worst=(int(rows[entry]), int(columns[entry])),
        deviation=float(found.deviations.max()),
        resolution=found.resolution,
        seed=seed,
    )


def _verdict(found: Judgement, levels: Sequence[WidthEstimate]) -> tuple[Verdict, str]:
    """The verdict, and why."""
    off, error = found.limit[0] - 1.0, found.error[0]
    measured = (
        f"the networks' variance is {100 * off:+.2g}% off it, give or take {100 * error:.2g}%"
    )
    if not found.usable:
        return Verdict.UNDECIDED, (
            "networks as narrow as these vary so much that the samples are too few for an error "
            "bar. Try: larger widths, or many more samples"
        )
    if found.rejected:
        return Verdict.REJECTED, (
            f"{measured}; the farthest entry is {found.deviations.max():.2g} times as far from "
            "the kernel as sampling and finite width allow."
        )
    if found.resolution <= RESOLUTION:
        return Verdict.ACCEPTED, (
            f"{measured}, which sampling and finite width allow; a kernel off by "
            f"{100 * found.resolution:.2g}% would have been rejected."
        )
    return Verdict.UNDECIDED, f"{measured}, too little to tell. Try: {_more(found, levels)}"


def _more(found: Judgement, levels: Sequence[WidthEstimate]) -> str:
    """What would bring the error bars down to what a verdict takes."""
    if found.remainder > found.sampling[0]:
        return "larger widths: what 1/width leaves outweighs the sampling error"
    if not math.isfinite(found.resolution):
        return "many more samples, or larger widths"
    seen, wanted = (r / (1.0 + r) for r in (found.resolution, RESOLUTION))
    samples = levels[0].samples * (seen / wanted) ** 2
    digits = 1 - math.floor(math.log10(samples))
    return f"about {math.ceil(round(samples, digits)):,} samples"


def _symmetric(entries: Array, count: int) -> Array:
    matrix = np.empty((count, count))
    rows, columns = np.triu_indices(count)
    matrix[rows, columns] = matrix[columns, rows] = entries
    return matrix


def _rows(matrix: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(v) for v in row) for row in matrix)
