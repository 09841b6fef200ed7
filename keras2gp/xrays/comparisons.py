"""Paired differences of two kernels' losses, their errors, and tests that count all comparisons.

Two things are random: the rows that are predicted, and the rows that predict them. The first gives
the standard error of a mean of paired differences, s / sqrt(N). Leave-one-out predictions share
their rows, so that these differences depend on each other; a jackknife over random groups of rows
sees both. The standard error here is the larger of the two, where the first is raised by the
square root of the mean ratio of their squares over all variants, if that is above 1.
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
_MOST = 10**7
"""Rows beyond which a number needed is not worth stating."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Paired losses of one variant less those of the model.

    Attributes:
        rows: of each row, [N].
        parts: mean losses of subsets that leave out one group each, [G].
        apart: whether the rows were not those of the fit, so that both errors add up.
    """

    rows: Vector
    parts: Vector
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
    def group_error(self) -> float:
        """Jackknife standard error over the groups that subsets leave out; 0 without subsets."""
        if len(self.parts) < 2:
            return 0.0
        spread = float(((self.parts - self.parts.mean()) ** 2).sum())
        return math.sqrt((len(self.parts) - 1) / len(self.parts) * spread)


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
        needed: rows that would show this difference in 80% of cases, corrected; None where it is 0,
            or more than ten million would be needed.
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
        Holm 1979, A simple sequentially rejective multiple test procedure; Efron and Tibshirani
        1993, An introduction to the bootstrap, chapter 11, for the jackknife.
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

    >>> from keras2gp.xrays.comparisons import holm
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
    ratios = [(s.group_error / s.row_error) ** 2 for s in family if s.row_error > 0.0]
    raised = math.sqrt(max(1.0, float(np.mean(ratios)))) if ratios else 1.0
    result = []
    for sample in family:
        rows, groups, freedom = sample.row_error, sample.group_error, len(sample.rows) - 1
        if sample.apart:
            result.append((math.hypot(rows, groups), freedom))
        elif rows * raised >= groups:
            result.append((rows * raised, freedom))
        else:
            result.append((groups, len(sample.parts) - 1))
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
    needed = None
    if mean != 0.0:
        rows = len(sample.rows) * (reach * error / mean) ** 2
        needed = math.ceil(rows) if rows <= _MOST else None
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
        needed=needed,
    )
