"""Sampled: a function of straight pieces at small variances, by densities at a few correlations.

Math: with jumps a_i of phi' at t_i, f_n(q) = sum_i a_i p(t_i / s) h_n(t_i / s), s = sqrt(q), the
density p of a standard normal number and the Hermite polynomials h_n with E[h_m h_n] = [m = n],
    E[phi(u) phi(v)] = m1 m2 + e1 e2 c + sqrt(q1 q2) rho^2 int_0^1 (1 - x) F(x rho) dx,
    F(r) = sum_n f_n(q1) f_n(q2) r^n
         = sum_ij a_i a_j exp(-(h_i^2 + k_j^2 - 2 h_i k_j r) / 2 (1 - r^2)) / 2 pi sqrt(1 - r^2)
for m = E[phi], e = E[phi'], h = t / sqrt(q1), k = t / sqrt(q2). The integral is a sum over few
points x, which takes 1 / (n+1) (n+2) + d_n for the integral of (1 - x) x^n. As d_n is known, the
error relative to sqrt(q1 q2) is at most the largest sum_n |d_n| f_n(q)^2 (Cauchy-Schwarz), and
beyond the last n at most the energy there, since |d_n| < 1 / (n+1) (n+2) from some n on. A corner
at 0 with itself is in closed form, f = g + z: what is left is sum_n d_n (g g + g z + z g).
References: Mehler 1866 (F in closed form).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, Matrix, PairMap, Tensor, Vector
from keras2gp.covariance.duals.base import Dual, Limited, Statistics
from keras2gp.covariance.duals.homogeneous import Abs
from keras2gp.covariance.duals.sample_points import ALL, ODD

__all__ = ["Sampled", "sampled_of"]

_LONGEST = 8192
_DEVIATIONS = 160
"""Deviations sqrt(q) at which the error is computed; between them it changes by its slope."""
_UNSEEN = 8.0
"""Deviations beyond which a corner is not seen: its f_n^2 are below exp(-32)."""
_SPAN = 100.0
"""Most that the largest and the least of the deviations differ by."""
_ROUNDING = 1e-6
_FARTHEST = 1e3
"""Corners in deviations at most: their densities are 0 from a tenth of it on."""


class Sampled(Limited):
    """A function of straight pieces at variances up to a limit.

    Args:
        whole: the same by integrals, whose moments and derivative these are.
        corners: where they are, and the jumps of phi' there.
        count: points of the integral.
        limit: the largest variance.
        errors: of the covariance, and of the derivative.
    """

    vanishes = True
    parts = "points"

    def __init__(
        self,
        whole: Dual,
        corners: tuple[Sequence[float], Sequence[float]],
        count: int,
        *,
        limit: float,
        errors: Sequence[float],
    ) -> None:
        self.whole, self.limit, self.errors, self.width = whole, limit, list(errors), count
        edges, jumps = corners
        self._points = _points(edges, jumps)[count]
        self._products = _products(edges, jumps)
        self._kink = _kink(edges, jumps)

    def prepare(self, q: ImageMap) -> Statistics:
        root, *rest = self.whole.prepare(q)
        return self._within(q, root), *rest

    def second_moment(self, q: ImageMap) -> ImageMap:
        return self._within(q, self.whole.second_moment(q))

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return self._within(q, self.whole.derivative_second_moment(q))

    def mean(self, q: ImageMap) -> ImageMap:
        return self._within(q, self.whole.mean(q))

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self.whole.derivative(c, s1, s2)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        (root1, inverse1, _, mean1, slope1, *_), (root2, inverse2, _, mean2, slope2, *_) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        # From rho: beyond the border the root is 0, and the result must be 0 whatever c is.
        inside = rho * root1 * root2
        total = mean1 * mean2 + inside * (
            slope1 * slope2 + rho * self._integral(rho, inverse1, inverse2)
        )
        if not self._kink:
            return total
        rest = Abs().covariance(inside, (root1, inverse1), (root2, inverse2))
        return total + (self._kink / 2) ** 2 * (rest - (2 / math.pi) * root1 * root2)

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
                f * tf.exp(-(distance + product * u) * square) for f, distance, product in terms
            )
            total += weight * inverse * sum(densities)
        return total

    def _within(self, q: ImageMap, value: Tensor) -> Tensor:
        return tf.where(
            q <= self.limit * (1 + _ROUNDING), value, tf.constant(math.nan, value.dtype)
        )


def sampled_of(
    whole: Dual,
    edges: Sequence[float],
    jumps: Sequence[float],
    *,
    limits: tuple[float, float],
    tolerances: Sequence[float],
) -> list[Sampled]:
    """Forms in few points for variances up to limits.

    limits: the least of any use, and that beyond which nothing is gained by one
    tolerances: of the covariance, and error of the derivative

    Returns:
        The form in the fewest points, and that for the larger limit or the largest that there is.
    """
    corners = [abs(t) for t, a in zip(edges, jumps, strict=True) if a and t]
    top = math.sqrt(limits[1])
    if not corners or _UNSEEN * top > _SPAN * min(corners):
        return []
    sigma = np.geomspace(min(min(corners) / _UNSEEN, top / 2), top, _DEVIATIONS)
    bounds = _bounds(whole, edges, jumps, sigma)
    found: list[Sampled] = []
    for count, rows in bounds.items():
        within = np.flatnonzero(np.maximum.accumulate(rows) <= tolerances[0])
        limit = float(sigma[within[-1]]) ** 2 if len(within) else 0.0
        if limit < limits[0] or (len(found) > 1 and found[1].limit >= limit):
            continue
        errors = [float(rows[: within[-1] + 1].max()), *tolerances[1:]]
        found = [*found[:1], Sampled(whole, (edges, jumps), count, limit=limit, errors=errors)]
        if within[-1] == _DEVIATIONS - 1:
            break
    return found


def _bounds(
    whole: Dual, edges: Sequence[float], jumps: Sequence[float], sigma: Vector
) -> dict[int, Vector]:
    """Bounds of the error relative to the root of E[phi^2] of both, [K] for each number of points.

    Row k holds for variances up to sigma_k^2 once the rows before it do.
    """
    sizes, energy = _moments(whole, sigma)
    terms, slopes = _terms(edges, jumps, sigma)
    kink = _kink(edges, jumps) * _densities(np.zeros(1))[0, :-1]
    n = np.arange(_LONGEST)
    exact = 1 / ((n + 1.0) * (n + 2.0))
    zero = (_kink(edges, jumps) / 2) ** 2 * (1 - 2 / math.pi)
    lost = (energy - (terms + kink) ** 2 @ exact) + (zero - kink**2 @ exact)
    step = math.log(sigma[1] / sigma[0]) / 2
    least = np.minimum.accumulate(np.sqrt(sizes))
    points = _points(edges, jumps)
    sums = np.array([np.asarray(w) @ np.asarray(x)[:, None] ** n for x, w in points.values()])
    missed = np.abs(sums - exact).T
    own = (terms**2 + 2 * step * np.abs(terms * slopes)) @ missed
    mixed = ((np.abs(terms) + step * np.abs(slopes)) * np.abs(kink)) @ missed
    bounds = (own.T + np.maximum(lost, 0)) / sizes + 2 * mixed.T / np.sqrt(sizes) / least
    return dict(zip(points, bounds, strict=True))


def _moments(whole: Dual, sigma: Vector) -> tuple[Vector, Vector]:
    """E[phi^2] / q, and E[phi^2] / q - m^2 / q - e^2, [K] each."""
    q = tf.constant(sigma**2, tf.float64)
    _, _, _, mean, slope, *_ = (np.asarray(s) for s in whole.prepare(q))
    sizes = np.asarray(whole.second_moment(q)) / sigma**2
    return sizes, sizes - (mean / sigma) ** 2 - slope**2


def _terms(edges: Sequence[float], jumps: Sequence[float], sigma: Vector) -> tuple[Matrix, Matrix]:
    """f_n without the corner at 0, and its derivatives by log(sigma), [K, n] each."""
    terms, slopes = np.zeros((2, len(sigma), _LONGEST))
    corners = {t: a for t, a in zip(edges, jumps, strict=True) if a and t}
    roots = np.sqrt(np.arange(1, _LONGEST + 1))
    for size in sorted(set(map(abs, corners))):
        h = size / sigma
        densities, right, left = _densities(h), corners.get(size, 0.0), corners.get(-size, 0.0)
        factors = np.where(np.arange(_LONGEST) % 2, right - left, right + left)
        terms += factors * densities[:, :-1]
        slopes += factors * roots * h[:, None] * densities[:, 1:]
    return terms, slopes


def _densities(h: Vector) -> Matrix:
    """p(h) h_n(h), [K, n + 1]."""
    rows = np.empty((_LONGEST + 1, len(h)))
    rows[0] = np.exp(-h * h / 2) / math.sqrt(2 * math.pi)
    rows[1] = h * rows[0]
    for n in range(1, _LONGEST):
        rows[n + 1] = (h * rows[n] - math.sqrt(n) * rows[n - 1]) / math.sqrt(n + 1)
    return rows.T


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
