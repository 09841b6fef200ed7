"""Paired differences of two kernels' losses, their errors, and tests that count all comparisons.

Two things are random: the rows that are predicted, and the rows that predict them. The first gives
the standard error of a mean of paired differences, s / sqrt(N), which is right for leave-one-out
predictions of stable fits. Fits whose noise or scale depends on few rows vary more. Random halves
of the rows see all of it, as both halves are fitted anew and have no row in common:

Math: half^2 = mean over halvings of (d_1 - d_2)^2 / 4 f^2
  f = s / s_half of the log likelihood of labels, from 1 to 1.5; 1 of other losses
  error^2 = max(row^2, half * pooled),  pooled^2 = row^2 sum(half^2) / sum(row^2) over all variants

A variant's own half^2 has the noise of few halvings, and is drawn towards that of all. Half of few
rows says less, so that log likelihoods differ less from row to row, by s_half in the place of s:
without the factor f their errors were 0.8 times the spread over data sets of 60 rows. Those of a
regression were not too small without it.

References:
    McCarthy 1969, Pseudo-replication: half samples; Bayle, Bayle, Janson and Mackey 2020,
    Cross-validation confidence intervals for test error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from keras2gp._util.arrays import Vector

__all__ = ["ALPHA", "Difference", "Sample", "differences", "holm"]

ALPHA = 0.05
"""Probability of any false claim among all that are tested."""
_POWER = 0.8
_BETWEEN = 0.8
"""Probability of the interval whose larger end says how few rows cannot be enough."""
_MOST_RAISED = 1.5
"""Bound on s / s_half: it is estimated, and was above that in one of ten data sets of 60 rows."""
_MOST = 10**7
"""Rows beyond which a number needed is not worth stating."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Paired losses of one variant less those of the model.

    Attributes:
        rows: of each row, [N].
        parts: mean losses of halves of the rows, [2 H]; those of one halving follow each other.
        within: the variance of the losses of rows within a half, on average; 0.0 where it does not
            count.
        apart: whether the rows were not those of the fit, so that both errors add up.
    """

    rows: Vector
    parts: Vector
    within: float = 0.0
    apart: bool = False

    @property
    def mean(self) -> float:
        """The mean difference."""
        return float(self.rows.mean())

    @property
    def row_error(self) -> float:
        """Standard error of the mean over independent rows."""
        return float(self.rows.std(ddof=1)) / math.sqrt(len(self.rows))

    @property
    def half_error(self) -> float:
        """Standard error of the mean over new rows and fits, by halves; 0 without any."""
        if not len(self.parts):
            return 0.0
        error = math.sqrt(float(((self.parts[::2] - self.parts[1::2]) ** 2).mean())) / 2.0
        if not self.within > 0.0:
            return error
        ratio = math.sqrt(float(self.rows.var(ddof=1)) / self.within)
        return error * min(max(1.0, ratio), _MOST_RAISED)


@dataclass(frozen=True)
class Difference:
    """The mean loss of a variant less that of the model.

    Attributes:
        mean: the difference; above 0 the variant is worse.
        error: its standard error.
        low, high: ends of an interval that holds the true one in 95% of cases.
        low_of_all, high_of_all: ends of intervals that all hold theirs in 95% of cases.
        p: probability of one at least as large where there is none.
        p_of_all: the same, corrected for the number of comparisons (Holm).
        detectable: the smallest difference that these rows show in 80% of cases, corrected.
        needed: rows that would show this difference in 80% of cases, corrected, if it stayed as
            large; None where it is 0, or more than ten million would be needed.
        needed_at_least: the same of the largest difference that an interval of 80% holds: fewer
            would hardly do. More may not do either, as differences mostly shrink with more rows.
    """

    mean: float
    error: float
    low: float
    high: float
    low_of_all: float
    high_of_all: float
    p: float
    p_of_all: float
    detectable: float
    needed: int | None
    needed_at_least: int | None

    @property
    def verdict(self) -> str:
        """The variant is "worse" or "better", or there is "no difference"; corrected."""
        if self.p_of_all > ALPHA:
            return "no difference"
        return "worse" if self.mean > 0.0 else "better"


def differences(families: Sequence[Sequence[Sample]]) -> list[list[Difference]]:
    """The differences of all variants, by measure; all tests of all measures count as one family.

    Args:
        families: for each measure the samples of all variants.

    References:
        Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    samples = [sample for family in families for sample in family]
    errors = [error for family in families for error in _errors(family)]
    p = [_probability(s.mean, *error) for s, error in zip(samples, errors, strict=True)]
    found = [
        _difference(sample, *error, p=(single, of_all), count=len(p))
        for sample, error, single, of_all in zip(samples, errors, p, holm(p), strict=True)
    ]
    ends = np.cumsum([0, *map(len, families)]).tolist()
    return [found[i:j] for i, j in pairwise(ends)]


def holm(p: Sequence[float]) -> list[float]:
    """Probabilities corrected for their number.

    Math: the i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_j)

    >>> from keras2gp.xrays.measuring.comparisons import holm
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    result, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        result[index] = largest
    return result


def _errors(family: Sequence[Sample]) -> list[tuple[float, int]]:
    """Standard error and degrees of freedom of each sample's mean."""
    rows, halves = (
        np.array([getattr(s, name) ** 2 for s in family]) for name in ("row_error", "half_error")
    )
    ratio = float(halves.sum() / rows.sum()) if rows.any() else 1.0
    result = []
    for sample, row, half in zip(family, rows.tolist(), halves.tolist(), strict=True):
        if sample.apart:
            error, raised = math.sqrt(row + half), half > row
        else:
            drawn = math.sqrt(half * row * ratio) if row else half
            error, raised = math.sqrt(max(row, drawn)), drawn > row
        result.append((error, len(sample.parts) if raised else len(sample.rows) - 1))
    return result


def _probability(mean: float, error: float, freedom: int) -> float:
    if error == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return float(2.0 * stats.t.sf(abs(mean) / error, freedom))


def _difference(
    sample: Sample, error: float, freedom: int, *, p: tuple[float, float], count: int
) -> Difference:
    mean = sample.mean
    one, every = (float(stats.t.isf(a / 2.0, freedom)) for a in (ALPHA, ALPHA / count))
    reach = every + float(stats.norm.ppf(_POWER))
    around = float(stats.t.isf((1.0 - _BETWEEN) / 2.0, freedom)) * error

    def needed(size: float) -> int | None:
        ratio = reach * error / size if size > 0.0 else math.inf
        rows = len(sample.rows) * ratio * ratio
        return math.ceil(rows) if rows <= _MOST else None

    return Difference(
        mean=mean,
        error=error,
        low=mean - one * error,
        high=mean + one * error,
        low_of_all=mean - every * error,
        high_of_all=mean + every * error,
        p=p[0],
        p_of_all=p[1],
        detectable=reach * error,
        needed=needed(abs(mean)),
        needed_at_least=needed(abs(mean) + around),
    )
