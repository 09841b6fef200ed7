"""From moments of random networks to what they say of a kernel, with error bars.

Everything is relative to the kernel: an entry is divided by sqrt(K_ii K_jj). There is one
statistic for each entry i <= j, and a first one, the mean of the diagonal: the variance.

Finite widths n bias the moments: E[m_n] = m + c1 / n + c2 / n^2 + ... The coefficients beyond c1
are expected to be as large as those of exp(c1 / n), the series of a product over layers, by the
largest c1 that is seen, chance included. The estimate of m is the combination of the means at all
widths that is free of c1 and has the least error, draws and c2 together: nearly a straight line
where the widths hardly differ, and the parabola where they do. What it leaves of c2 and c3 is a
second error bar, and no smaller than ROUNDING.

The moments of deep narrow networks are products over layers, with heavy tails: the mean of too few
draws is then far below the true one, and its error bar far too small. What is averaged here is what
controls have left of them (controls.py), which has the same mean and little of the tails. For what
is left of those there are two precautions. A further error bar, `doubt`, is how much of the known
mean of the controls has not been drawn, times the ratio of what is left to what was taken away.
And widths are left out where fewer than TAIL of the draws make the error bar: of log-normal draws,
the logarithm's deviation being s, those 2 s above the median make it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from keras2gp._util.arrays import Array

__all__ = [
    "FALSE_ALARM",
    "POWER",
    "ROUNDING",
    "TAIL",
    "Judgement",
    "Moments",
    "judged",
    "moments_of",
]


FALSE_ALARM = 1e-3
"""How often a true kernel may be rejected."""
POWER = 0.99
"""How often a kernel that is off by the resolution has to be rejected."""
ROUNDING = 1e-3
"""Never held against a kernel, relative: float32 networks, an activation's expansion."""
TAIL = 10
"""Draws that make an error bar, at least."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Statistics at one width, relative to the kernel; see the module's text for their order.

    place:   1 / width
    mean:    [1 + N (N + 1) / 2]
    error:   one standard deviation of the mean
    freedom: degrees of freedom of that error bar
    tail:    how many draws make the error bar of the variance, if they are log-normal
    """

    place: float
    mean: Array
    error: Array
    freedom: Array
    tail: float

    @property
    def usable(self) -> bool:
        """Whether the mean and its error bar can be trusted."""
        return self.tail >= TAIL


@dataclass(frozen=True, eq=False)
class Judgement:
    """The limit of the statistics at infinite width, against 1 for the variance.

    limit:      the statistics extrapolated
    sampling:   their error bars from the draws
    remainder:  that of what the extrapolation leaves
    deviations: from the kernel, in units of what they may be: beyond 1 it is rejected
    resolution: the relative error of the kernel's variance that is rejected as often as POWER
    usable:     whether there are widths enough whose error bars can be trusted
    """

    limit: Array
    sampling: Array
    remainder: float
    deviations: Array
    resolution: float
    usable: bool

    @property
    def error(self) -> Array:
        """Both error bars."""
        return np.hypot(self.sampling, self.remainder)

    @property
    def rejected(self) -> bool:
        """Whether any statistic is farther off than FALSE_ALARM allows."""
        return self.usable and bool(self.deviations.max() > 1.0)


def moments_of(draws: Array, matrix: Array, width: int, doubt: float = 0.0) -> Moments:
    """Mean and error bars of networks' second moments.

    draws:  [samples, N, N], independent of each other
    matrix: [N, N], the kernel's
    doubt:  a further error bar of all of them, relative to the mean of the variance

    The error bars of few draws with heavy tails are rough. A variance estimated from S draws of
    kurtosis k has a relative variance of (k - 1) / S, where that of normal draws has 2 / freedom.
    """
    values = _statistics(draws, matrix)
    count = len(values)
    mean = values.mean(axis=0)
    squares = np.square(values - mean)
    variance = squares.mean(axis=0)
    quartic = np.square(squares).mean(axis=0)
    # Of draws that are all alike nothing is uncertain.
    kurtosis = np.where(variance > 0, quartic / np.where(variance > 0, variance**2, 1.0), 3.0)
    freedom = np.minimum(count - 1.0, 2.0 * count / np.maximum(kurtosis - 1.0, 1e-9))
    error = np.hypot(np.sqrt(variance / (count - 1)), doubt * abs(mean[0]))
    spread = float(variance[0]) / float(mean[0]) ** 2 if mean[0] > 0 else 0.0
    tail = count * float(stats.norm.sf(2.0 * math.sqrt(math.log1p(spread))))
    return Moments(1.0 / width, mean, error, freedom, tail)


def judged(levels: Sequence[Moments], matrix: Array) -> Judgement:
    """What the moments at all widths say of the kernel's matrix.

    The statistics are tested one by one, each at FALSE_ALARM divided by their number (Bonferroni),
    against Student's distribution with the degrees of freedom of Welch and Satterthwaite.
    """
    kept = [m for m in levels if m.usable]
    usable = len(kept) >= min(2, len(levels))
    levels = kept if usable else levels
    slope = _slope(levels)
    places = [m.place for m in levels]
    weights = extrapolation(places, [float(m.error[0]) for m in levels], slope**2 / 2.0)
    parts = [(w * m.error) ** 2 for w, m in zip(weights, levels, strict=True)]
    limit = np.sum([w * m.mean for w, m in zip(weights, levels, strict=True)], axis=0)
    variance = np.sum(parts, axis=0)
    powers = np.vander(places, 4, increasing=True)[:, 2:].T
    terms = [slope**k / math.factorial(k) * (weights @ p) for k, p in enumerate(powers, 2)]
    remainder = max(ROUNDING, math.hypot(*terms))
    error = np.sqrt(variance + remainder**2)
    doubt = np.sum([p**2 / m.freedom for p, m in zip(parts, levels, strict=True)], axis=0)
    freedom = error**4 / np.maximum(doubt, 1e-300)
    bound = stats.t.isf(FALSE_ALARM / (2 * len(limit)), freedom) * error
    expected = _statistics(matrix[None], matrix)[0]
    # A kernel that is 1 + r too large sees the networks 1 - r / (1 + r) of it.
    seen = float(bound[0] + stats.norm.ppf(POWER) * error[0])
    return Judgement(
        limit=limit,
        sampling=np.sqrt(variance),
        remainder=remainder,
        deviations=np.abs(limit - expected) / bound,
        resolution=seen / (1.0 - seen) if usable and seen < 1.0 else math.inf,
        usable=usable,
    )


def extrapolation(places: Sequence[float], errors: Sequence[float], bend: float) -> Array:
    """Weights whose sum over values at `places` estimates the value at 0.

    errors: standard deviations of the values
    bend:   that of the coefficient of places^2, which is not known
    Math:   w minimises w^T V w, V = diag(errors^2) + bend^2 p^2 (p^2)^T, under w^T 1 = 1 and, with
            two places or more, w^T p = 0
    """
    p, deviations = np.asarray(places, float), np.asarray(errors, float)
    known = np.vander(p / p.max(), min(len(p), 2), increasing=True)
    noise = np.maximum(deviations, 1e-3 * max(*errors, 1e-9))
    bent = bend * np.square(p)
    root = np.linalg.cholesky(np.diag(noise**2) + np.outer(bent, bent))
    inverse: Array = np.linalg.pinv(np.linalg.solve(root, known))
    return np.asarray(np.linalg.solve(root.T, inverse[0]))


def _slope(levels: Sequence[Moments]) -> float:
    """The largest |c1| of all statistics, by the widest and the narrowest networks."""
    last, first = (pick(levels, key=lambda m: m.place) for pick in (min, max))
    if first is last:
        return 0.0
    return float(np.abs(last.mean - first.mean).max() / (first.place - last.place))


def _statistics(matrices: Array, kernel: Array) -> Array:
    """[..., 1 + N (N + 1) / 2]: mean of the diagonal, and the entries i <= j, all relative."""
    scale = np.sqrt(np.diagonal(kernel))
    relative = matrices / np.outer(scale, scale)
    rows, columns = np.triu_indices(len(kernel))
    entries = relative[..., rows, columns]
    mean = np.diagonal(relative, axis1=-2, axis2=-1).mean(axis=-1, keepdims=True)
    return np.concatenate([mean, entries], axis=-1)
