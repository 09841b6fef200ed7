"""Sampled: a function of straight pieces at small variances, by densities at a few correlations.

Math: with jumps a_i of phi' at t_i, f_n(q) = sum_i a_i p(t_i / s) h_n(t_i / s), s = sqrt(q), the
density p of a standard normal number and the Hermite polynomials h_n with E[h_m h_n] = [m = n],
    E[phi(u) phi(v)] = m1 m2 + e1 e2 c + sqrt(q1 q2) rho^2 int_0^1 (1 - x) F(x rho) dx,
    F(r) = sum_n f_n(q1) f_n(q2) r^n
         = sum_ij a_i a_j exp(-(h_i^2 + k_j^2 - 2 h_i k_j r) / 2 (1 - r^2)) / 2 pi sqrt(1 - r^2)
for m = E[phi], e = E[phi'], h = t / sqrt(q1), k = t / sqrt(q2). The integral is a sum over few
points x, which takes 1 / (n+1) (n+2) + d_n for the integral of (1 - x) x^n. As d_n is known, the
error relative to sqrt(q1 q2) is at most the largest sum_n |d_n| f_n(q)^2 (Cauchy-Schwarz). A corner
at 0 with itself is in closed form, f = g + z: what is left is sum_n d_n (g g + g z + z g).
That is bounded between the deviations s at which it is computed by Taylor's formula in log s,
    D f_n = sum_i a_i h sqrt(n+1) p(h) h_{n+1}(h),  |D^2 f_n| <= sum_i |a_i| (h sqrt(n+1) G_{n+1}
        + h^2 sqrt((n+1) (n+2)) G_{n+2}),  p(h) |h_n(h)| <= G_n = exp(-h^2 / 4) / sqrt(2 pi)
        times the least of 1.0865 (Cramer) and the root of sqrt(2 / pi (n-1)) / (1 - h^2 / (4n+2)),
which follows from the growth of y^2 + y'^2 / v with h, y = h_n exp(-h^2 / 4), y'' = -v y (Sonin);
beyond the last n by G_n and the sum of |d_n|; and E[phi^2] from below by the largest |phi'|.
References: Mehler 1866 (F in closed form); Szego 1939, Orthogonal polynomials (7.31 and 8.91).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, Matrix, PairMap, Tensor, Vector
from keras2gp.covariance.dual import Dual, Statistics
from keras2gp.covariance.duals.chebyshev import Tabulated, roots
from keras2gp.covariance.duals.coefficients import INTERPOLATION, HermiteMoments, moments
from keras2gp.covariance.duals.elementary import FALL_ERROR, correlation_statistics, fall
from keras2gp.covariance.duals.sample_points import ALL, ODD
from keras2gp.covariance.duals.series import with_kink

__all__ = ["Sampled", "sampled_of"]

_LONGEST = 16384
_DEVIATIONS, _AT_ONCE = 512, 64
"""Deviations sqrt(q) at which the error is computed, and those whose terms are kept at once."""
_BLOCKS, _BLOCKS_REACH = 20_000, 1e4
"""Blocks of n beyond the longest, and how many times as far they reach."""
_UNSEEN = 10.0
"""Deviations beyond which a corner is not seen: its f_n are below exp(-25)."""
_BELOW = 1e-11
_CRAMER = 1.0865
_SPAN = 100.0
"""Most that the largest and the least of the deviations differ by."""
_NODES = 192
"""Variances at which the moments are computed: corners make them waves in 1/sqrt(q)."""
_FARTHEST = 1e3
"""Corners in deviations at most: their densities are 0 from a tenth of it on."""


class Sampled(Tabulated):
    """A function of straight pieces at variances up to a limit.

    Args:
        at_nodes: its moments at the nodes of a table up to the limit.
        corners: where they are, and the jumps of phi' there.
        count: points of the integral.
        limit: the largest variance.
        error: of the covariance.
    """

    vanishes = True
    parts = "points"

    def __init__(
        self,
        at_nodes: HermiteMoments,
        corners: tuple[Sequence[float], Sequence[float]],
        count: int,
        *,
        limit: float,
        error: float,
    ) -> None:
        self.limit, self.errors, self.width = limit, [error], count
        edges, jumps = corners
        self.holds = self._tabulate(at_nodes, limit, slope=True)
        self._points = _points(edges, jumps)[count]
        self._products = _products(edges, jumps)
        self._kink = _kink(edges, jumps)

    def prepare(self, q: ImageMap) -> Statistics:
        root, inverse = correlation_statistics(q)
        columns = self._columns(root)
        mean = self._at_zero + root * columns[..., 0, :]
        return mean, root, inverse, columns[..., 3, :]

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        (mean1, root1, inverse1, slope1), (mean2, root2, inverse2, slope2) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        # From rho: beyond the border the root is 0, and the result must be 0 whatever c is.
        inside = rho * root1 * root2
        total = mean1 * mean2 + inside * (
            slope1 * slope2 + rho * self._integral(rho, inverse1, inverse2)
        )
        return with_kink(total, self._kink / 2, rho, (root1, inverse1), (root2, inverse2))

    def _integral(self, rho: PairMap, inverse1: ImageMap, inverse2: ImageMap) -> PairMap:
        """The integral of (1 - x) F(x rho), without a corner at 0 with itself."""
        terms = []
        for t1, t2, factor in self._products:
            h, k = (
                tf.clip_by_value(t * i, -_FARTHEST, _FARTHEST)
                for t, i in ((t1, inverse1), (t2, inverse2))
            )
            terms.append((factor, (h - k) * (h - k) / 2, h * k))
        total = tf.zeros_like(rho)
        for x, weight in zip(*self._points, strict=True):
            u = 1 - x * rho
            inverse = tf.math.rsqrt(u * (2 - u))
            square = inverse * inverse
            densities = (
                f * fall((distance + product * u) * square) for f, distance, product in terms
            )
            total += weight * inverse * sum(densities)
        return total


def sampled_of(
    phi: Callable[[Tensor], Tensor],
    whole: Dual,
    edges: Sequence[float],
    jumps: Sequence[float],
    *,
    start: float,
    limits: tuple[float, float],
    tolerance: float,
) -> list[Sampled]:
    """Forms in few points for variances up to limits.

    phi:    the function
    whole:  its dual, by integrals
    start:  phi' at 0, or left of a corner there
    limits: the least of any use, and that beyond which nothing is gained by one

    Returns:
        The form in the fewest points, and that for the larger limit or the largest that there is.
    """
    corners = [abs(t) for t, a in zip(edges, jumps, strict=True) if a and t]
    top = math.sqrt(limits[1])
    if not corners or _UNSEEN * top > _SPAN * min(corners):
        return []
    sigma = np.geomspace(min(min(corners) / _UNSEEN, top / 2), top, _DEVIATIONS)
    bounds = _bounds(whole, edges, jumps, sigma, start)
    forms: list[Sampled] = []
    for count, rows in bounds.items():
        within = np.flatnonzero(np.maximum.accumulate(rows) <= tolerance)
        limit = float(sigma[within[-1]]) ** 2 if len(within) else 0.0
        if limit < limits[0] or (len(forms) > 1 and forms[1].limit >= limit):
            continue
        at_nodes = moments(phi, edges, roots(limit, _NODES), 0)
        error = float(rows[: within[-1] + 1].max())
        form = Sampled(at_nodes, (edges, jumps), count, limit=limit, error=error)
        forms = [*forms[:1], *[form] * form.holds]
        if within[-1] == _DEVIATIONS - 1:
            break
    return forms


def _bounds(
    whole: Dual, edges: Sequence[float], jumps: Sequence[float], sigma: Vector, start: float
) -> dict[int, Vector]:
    """Bounds of the error relative to the root of E[phi^2] of both, [K] for each number of points.

    Row k holds for variances up to sigma_k^2, and half of the way to the next, once the rows before
    it do.

    start: phi' at 0, or left of a corner there
    """
    step = math.log(sigma[1] / sigma[0]) / 2
    kink, points = _kink(edges, jumps), _points(edges, jumps)
    n = np.arange(_LONGEST)
    sums = np.array([np.asarray(w) @ np.asarray(x)[:, None] ** n for x, w in points.values()])
    missed = np.abs(sums - 1 / ((n + 1.0) * (n + 2.0))).T
    zero = np.abs(kink * _densities(np.zeros(1))[:-1, 0])
    own, mixed = np.zeros((2, len(points), len(sigma)))
    densities = {t: _densities(t / sigma) for t in {abs(t) for t in edges if t}}
    for first in range(0, len(sigma), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        some = {t: rows[:, part] for t, rows in densities.items()}
        largest = _largest_terms(edges, jumps, sigma[part], step, some)
        own[:, part] = (largest**2 @ missed).T
        mixed[:, part] = (largest @ (zero[:, None] * missed)).T
    top = np.sqrt(_largest_beyond(edges, jumps, sigma, step))
    rest = np.array([_missed_beyond(x, w, odd=points is ODD) for x, w in points.values()])
    own += np.outer(rest, top**2)
    mixed += np.outer(rest, top * abs(kink) * math.sqrt(_sonin(_LONGEST, np.zeros(1))[0]))
    # Slopes between corners, of which the largest bounds how E[phi^2] changes.
    steepest = max(np.abs(_slopes_between(edges, jumps, start)))
    sizes = (_sizes(whole, sigma) - steepest * math.expm1(step)) * math.exp(-step)
    at_zero = (start + kink / 2) ** 2 + (kink / 2) ** 2 * (1 - 2 / math.pi)
    least = np.maximum(
        np.minimum(np.minimum.accumulate(sizes), math.sqrt(at_zero) * (1 - _BELOW)), 1e-9
    )
    weight = sum(map(abs, jumps))
    factors = sum(abs(factor) for *_, factor in _products(edges, jumps))
    rounded = [np.asarray(w) @ (1 - np.asarray(x) ** 2) ** -0.5 for x, w in points.values()]
    absolute = FALL_ERROR * factors * np.array(rounded)[:, None] + _BELOW * weight**2
    sizes = np.maximum(sizes, least)
    bounds = own / sizes**2 + 2 * mixed / sizes / least + absolute / least**2 + INTERPOLATION
    return dict(zip(points, bounds, strict=True))


def _sizes(whole: Dual, sigma: Vector) -> Vector:
    """The root of E[phi^2] / q, [K]."""
    return np.asarray(np.sqrt(whole.second_moment(tf.constant(sigma**2, tf.float64)))) / sigma


def _slopes_between(edges: Sequence[float], jumps: Sequence[float], start: float) -> Vector:
    """phi' between the corners."""
    before = sum(a for t, a in zip(edges, jumps, strict=True) if t < 0)
    return start - before + np.cumsum([0.0, *jumps])


def _largest_terms(
    edges: Sequence[float],
    jumps: Sequence[float],
    sigma: Vector,
    step: float,
    densities: Mapping[float, Matrix],
) -> Matrix:
    """Bounds of |f_n| without the corner at 0 for deviations within exp(+-step), [K, n].

    densities: p(h) h_n(h) of each size of corners, [n + 1, K]
    """
    terms, slopes, curved = np.zeros((3, _LONGEST, len(sigma)))
    corners = {t: a for t, a in zip(edges, jumps, strict=True) if a and t}
    n = np.arange(_LONGEST)[:, None]
    roots_of = np.sqrt(np.arange(1, _LONGEST + 2))[:, None]
    for size in sorted(set(map(abs, corners))):
        h = size / sigma
        rows, right, left = densities[size], corners.get(size, 0.0), corners.get(-size, 0.0)
        factors = np.where(n % 2, right - left, right + left)
        terms += factors * rows[:-1]
        slopes += factors * roots_of[:-1] * h * rows[1:]
        far = h * math.exp(step)
        fall_off = np.exp(-((h * math.exp(-step)) ** 2) / 4) / math.sqrt(2 * math.pi)
        once, twice = (np.sqrt(_sonin(n + m, far.max())) for m in (1, 2))
        change = (
            fall_off * far * (roots_of[:-1] * once + far * (roots_of[:-1] * roots_of[1:] * twice))
        )
        curved += np.abs(factors) * change
    return (np.abs(terms) + step * np.abs(slopes) + step**2 / 2 * curved).T


def _sonin(n: Any, h: Any) -> Matrix:
    """Bounds of h_n(h)^2 exp(-h^2 / 2)."""
    fall = 1 - h * h / (4 * np.asarray(n, float) + 2)
    known = (np.asarray(n) >= 3) & (fall > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.sqrt(2 / (math.pi * (np.asarray(n, float) - 1))) / fall
    return np.where(known, np.minimum(bound, _CRAMER**2), _CRAMER**2)


def _largest_beyond(
    edges: Sequence[float], jumps: Sequence[float], sigma: Vector, step: float
) -> Vector:
    """Bounds of f_n^2 from the last n on, without the corner at 0, [K]."""
    total = np.zeros_like(sigma)
    for t, a in zip(edges, jumps, strict=True):
        if t:
            h = abs(t) / sigma
            near = np.exp(-((h * math.exp(-step)) ** 2) / 4) / math.sqrt(2 * math.pi)
            total += abs(a) * near * np.sqrt(_sonin(_LONGEST, h * math.exp(step)))
    return total**2


def _missed_beyond(points: Sequence[float], weights: Sequence[float], *, odd: bool) -> float:
    """A bound of the sum of |d_n| sqrt(N / n) from the last n = N on, or over odd n alone.

    Both parts of d_n fall with n: within a block it is at most one's first less the other's last.
    """
    x, w = np.asarray(points)[:, None], np.asarray(weights)[:, None]
    edges = np.unique(np.round(_LONGEST * np.geomspace(1, _BLOCKS_REACH, _BLOCKS)))
    taken, due = (w * x**edges).sum(0), 1 / ((edges + 1) * (edges + 2))
    largest = np.maximum(np.abs(taken[:-1] - due[1:]), np.abs(due[:-1] - taken[1:]))
    counts = (np.diff(edges) + 1) / 2 if odd else np.diff(edges)
    rest = (w * x ** edges[-1] / (1 - x)).sum() + 1 / edges[-1]
    return float((largest * counts * np.sqrt(_LONGEST / edges[:-1])).sum() + rest)


def _densities(h: Vector) -> Matrix:
    """p(h) h_n(h), [n + 1, K]."""
    rows = np.empty((_LONGEST + 1, len(h)))
    rows[0] = np.exp(-h * h / 2) / math.sqrt(2 * math.pi)
    rows[1] = h * rows[0]
    for n in range(1, _LONGEST):
        rows[n + 1] = (h * rows[n] - math.sqrt(n) * rows[n - 1]) / math.sqrt(n + 1)
    return rows


def _points(
    edges: Sequence[float], jumps: Sequence[float]
) -> dict[int, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Points and weights by their number; for odd n where corners lie in pairs that cancel."""
    corners = {t: a for t, a in zip(edges, jumps, strict=True) if a}
    return ODD if all(corners.get(-t) == -a for t, a in corners.items()) else ALL


def _products(edges: Sequence[float], jumps: Sequence[float]) -> list[tuple[float, float, float]]:
    """t_i, t_j and the factor of every exponential of F, without a corner at 0 with itself."""
    corners = [(t, a) for t, a in zip(edges, jumps, strict=True) if a]
    factors: dict[tuple[float, float], float] = defaultdict(float)
    for t1, a1 in corners:
        for t2, a2 in corners:
            # -u and -v are as likely as u and v.
            factors[max((t1, t2), (0.0 - t1, 0.0 - t2))] += a1 * a2 / (2 * math.pi)
    return [(*key, factor) for key, factor in factors.items() if factor and any(key)]


def _kink(edges: Sequence[float], jumps: Sequence[float]) -> float:
    """The jump of phi' at 0."""
    return sum(a for t, a in zip(edges, jumps, strict=True) if not t)
