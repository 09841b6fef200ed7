"""The statistical test of a kernel: moments of random networks, extrapolated to infinite width.

All statistics are relative to the kernel: an entry is divided by sqrt(K_ii K_jj). There is one
statistic for each entry i <= j. The mean of the diagonal, the variance, stands before them.

Finite widths n bias the moments: E[m_n] = m + c1 / n + c2 / n^2 + ... The coefficients beyond c1
are expected to be as large as those of exp(c1 / n), the series of a product over layers, by the
largest c1 that is seen, chance included. The estimate of m is the combination of the means at all
widths that is free of c1 and has the least error, of draws and c2 together. It is nearly a straight
line where the widths hardly differ, and the parabola where they do. The remainder of c2 and c3 is a
second error bar, which is no smaller than ROUNDING.

The moments of deep narrow networks are products over layers, with heavy tails: the mean of too few
draws is then far below the true one, and its error bar far too small. The moments that are averaged
here have been freed of most of their fluctuation by control variates (controls.py), which keep the
mean. Two precautions deal with the tails that remain. A further error bar, `doubt`, is the share of
the known mean of the controls that has not been drawn, times the ratio of the remaining fluctuation
to the one that was taken away. And a width is left out where fewer than TAIL of its draws make the
error bar: for log-normal draws whose logarithm has the deviation s, those are the draws more than
2 s above the median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from keras2gp._util.arrays import Array, Matrix, Vector

__all__ = [
    "FALSE_ALARM",
    "POWER",
    "ROUNDING",
    "TAIL",
    "LimitTest",
    "Moments",
    "extrapolation",
    "moments_of",
    "test_limit",
]


FALSE_ALARM = 1e-3
"""How often a true kernel may be rejected."""
POWER = 0.99
"""How often a kernel that is off by the resolution is rejected, at least."""
ROUNDING = 1e-3
"""Relative error that is never held against a kernel: float32 networks, expanded activations."""
TAIL = 10
"""The least number of draws above 2 s for which an error bar is trusted."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Statistics at one width, relative to the kernel, in the order that the module states.

    Attributes:
        place: 1 / width.
        mean: [1 + N (N + 1) / 2].
        error: One standard deviation of the mean, of the same shape.
        freedom: Degrees of freedom of that error bar, of the same shape.
        tail: How many draws make the error bar of the variance, if they are log-normal.
    """

    place: float
    mean: Vector
    error: Vector
    freedom: Vector
    tail: float

    @property
    def usable(self) -> bool:
        """Whether the mean and its error bar can be trusted."""
        return self.tail >= TAIL


@dataclass(frozen=True, eq=False)
class LimitTest:
    """The statistics at infinite width, tested against those of the kernel.

    Attributes:
        limit: The statistics, extrapolated: [1 + N (N + 1) / 2].
        sampling: Their error bars from the draws, of the same shape.
        remainder: The error bar of the terms that the extrapolation leaves.
        deviations: Distances from the kernel's statistics, in units of the largest that is allowed:
            beyond 1 the kernel is rejected.
        resolution: Relative error of the kernel's variance that is rejected as often as POWER.
        usable: Whether enough widths have an error bar that can be trusted.
    """

    limit: Vector
    sampling: Vector
    remainder: float
    deviations: Vector
    resolution: float
    usable: bool

    @property
    def error(self) -> Vector:
        """Error bars of draws and extrapolation together."""
        return np.hypot(self.sampling, self.remainder)

    @property
    def rejected(self) -> bool:
        """Whether any statistic is farther from the kernel's than FALSE_ALARM allows."""
        return self.usable and bool(self.deviations.max() > 1.0)


def moments_of(draws: Array, matrix: Matrix, width: int, doubt: float = 0.0) -> Moments:
    """Mean and error bars of the second moments of networks of one width.

    The error bars of few draws with heavy tails are rough. A variance estimated from S draws of
    kurtosis k has a relative variance of (k - 1) / S, where that of normal draws has 2 / freedom.

    Args:
        draws: Second moments [samples, N, N], independent of each other.
        matrix: The kernel's matrix [N, N].
        width: Of the networks.
        doubt: A further error bar of all statistics, relative to the mean of the variance.
    """
    values = _statistics(draws, matrix)
    count = len(values)
    mean = values.mean(axis=0)
    squares = np.square(values - mean)
    variance = squares.mean(axis=0)
    quartic = np.square(squares).mean(axis=0)
    # Equal draws have no variance to divide by, and no error.
    kurtosis = np.where(variance > 0, quartic / np.where(variance > 0, variance**2, 1.0), 3.0)
    freedom = np.minimum(count - 1.0, 2.0 * count / np.maximum(kurtosis - 1.0, 1e-9))
    error = np.hypot(np.sqrt(variance / (count - 1)), doubt * abs(mean[0]))
    spread = float(variance[0]) / float(mean[0]) ** 2 if mean[0] > 0 else 0.0
    tail = count * float(stats.norm.sf(2.0 * math.sqrt(math.log1p(spread))))
    return Moments(1.0 / width, mean, error, freedom, tail)


def test_limit(levels: Sequence[Moments], matrix: Matrix) -> LimitTest:
    """Test the kernel's matrix against the moments at all widths.

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
    # Beside a kernel that is 1 + r times the true one, the networks have the variance
    # 1 - r / (1 + r): `shift` is r / (1 + r).
    shift = float(bound[0] + stats.norm.ppf(POWER) * error[0])
    return LimitTest(
        limit=limit,
        sampling=np.sqrt(variance),
        remainder=remainder,
        deviations=np.abs(limit - expected) / bound,
        resolution=shift / (1.0 - shift) if usable and shift < 1.0 else math.inf,
        usable=usable,
    )


def extrapolation(places: Sequence[float], errors: Sequence[float], bend: float) -> Vector:
    """Weights of the values at `places` whose weighted sum estimates the value at 0.

    Math: w minimises w^T V w, V = diag(errors^2) + bend^2 p^2 (p^2)^T, under w^T 1 = 1 and, with
    two places or more, w^T p = 0.

    Args:
        places: Where the values are, p.
        errors: Standard deviations of the values.
        bend: Standard deviation of the coefficient of p^2, which is not known.
    """
    p, deviations = np.asarray(places, float), np.asarray(errors, float)
    constraints = np.vander(p / p.max(), min(len(p), 2), increasing=True)
    noise = np.maximum(deviations, 1e-3 * max(*errors, 1e-9))
    bent = bend * np.square(p)
    root = np.linalg.cholesky(np.diag(noise**2) + np.outer(bent, bent))
    inverse: Array = np.linalg.pinv(np.linalg.solve(root, constraints))
    return np.asarray(np.linalg.solve(root.T, inverse[0]))


def _slope(levels: Sequence[Moments]) -> float:
    """The largest |c1| of all statistics, from the widest and the narrowest networks."""
    last, first = (pick(levels, key=lambda m: m.place) for pick in (min, max))
    if first is last:
        return 0.0
    return float(np.abs(last.mean - first.mean).max() / (first.place - last.place))


def _statistics(matrices: Array, kernel: Matrix) -> Array:
    """Mean of the diagonal and entries i <= j, relative to the kernel: [..., 1 + N (N + 1) / 2]."""
    scale = np.sqrt(np.diagonal(kernel))
    relative = matrices / np.outer(scale, scale)
    rows, columns = np.triu_indices(len(kernel))
    entries = relative[..., rows, columns]
    mean = np.diagonal(relative, axis1=-2, axis2=-1).mean(axis=-1, keepdims=True)
    return np.concatenate([mean, entries], axis=-1)
