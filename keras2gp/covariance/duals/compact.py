"""Compact: a dual at small variances, with few terms and a tail in the shape of the tails.

Math: E[phi(u) phi(v)] = m(q1) m(q2) + c sum_n v_n(q1) v_n(q2) rho^n (hermite.py), and the same for
phi' without the mean. compact_sums.py has the form of the sums, and the bound of their error.
A kink at 0, phi = kappa |u| + psi, is in closed form: its part of v_n does not depend on q. Corners
elsewhere, at t, leave terms that fall slowly, of a size of exp(-t^2 / 4 q): the sum ends where the
energy beyond is a part of the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Vector
from keras2gp.covariance.dual import Statistics
from keras2gp.covariance.duals.chebyshev import Tabulated, is_smooth, roots, table
from keras2gp.covariance.duals.coefficients import INTERPOLATION, HermiteMoments, KinkedFunction
from keras2gp.covariance.duals.compact_sums import READ, CoefficientRows, CompactSum, designed
from keras2gp.covariance.duals.elementary import correlation_statistics
from keras2gp.covariance.duals.series import moments_of_abs, slope_with_kink, with_kink

__all__ = ["FAR", "Compact", "compact_of", "narrow_of", "wide_of"]

_LIMITS = 8.0, 4.0, 2.0
"""Largest variances that are tried: those of networks at their initialisers are near 1."""
_NARROW_LIMITS = 2.0, 1.05
"""Limits tried for the narrow form."""
_NARROWED = 0.85
"""Largest cost of the narrow form, in costs of the compact one: below that its program pays off."""
_WIDE_LIMITS = 8.0, 4.0
"""Limits tried for the wide form."""
_WIDENED = 0.5
"""Largest cost of the wide form relative to the general form's columns."""
_LIMIT_BEFORE_CORNERS = 1.05
"""Limit tried for functions with corners away from 0, whose effect appears a few deviations out."""
FAR = 2.5
"""Least distance of a corner, in deviations: nearer ones leave terms that fall too slowly."""
_LONGEST = 400
_NODES, _MANY_NODES = 28, 96
"""Variances at which the terms are computed; corners apart from 0 make them waves in 1/sqrt(q)."""
_SHARE = 0.3
"""The part of a tolerance that the energy beyond a series may take, where corners make it long."""
_LARGEST_COST = 200.0
"""Largest cost of a sum: about four times that of a ReLU."""
_LEAST_COST = 60.0
"""A sum of this cost takes about twice the time of a ReLU: nothing is gained by a cheaper one."""


class Compact(Tabulated):
    """A dual at variances up to a limit; beyond it its moments are NaN.

    Args:
        function: phi.
        limit: the largest variance.
        tolerances: of the covariance, relative to the root of both variances, and of the
            derivative if that is needed.
        most: largest cost of the covariance.
    """

    vanishes = True

    def __init__(
        self,
        function: KinkedFunction,
        limit: float,
        tolerances: Sequence[float],
        *,
        most: float = _LARGEST_COST,
    ) -> None:
        kappa = function.kappa
        self.limit, self.kappa = limit, kappa
        cornered = any(function.kinks)
        sigma = roots(limit, _MANY_NODES if cornered else _NODES)
        whole = function.moments(sigma, _LONGEST)
        psi = function.smooth_moments(sigma, _LONGEST) if kappa else whole
        self.sums: list[CompactSum] = []
        self._tables = []
        smooth = self._tabulate(whole, limit) or not cornered
        sizes = np.sqrt([whole.second / sigma**2, whole.steepness.sum(1)])
        for kind, tolerance in enumerate(tolerances if smooth else ()):
            if not (np.isfinite(psi.slopes).all() and psi.slopes.any() and (sizes[kind] > 0).all()):
                break  # phi overflows, or is constant
            end = _LONGEST
            if cornered:
                end = _sufficient_degree(psi, kappa, kind, sizes[kind], _SHARE * tolerance)
            weights = np.ones(end + 1) if kind else 1 / np.sqrt(np.arange(1, end + 2))
            slopes = weights * whole.slopes[:, : end + 1]
            if not is_smooth(slopes / sizes[kind][:, None]):
                break
            kink, of_kink = _kink(kappa, kind, weights, end)
            rows = CoefficientRows(
                slopes - kink if kappa else slopes, kink, sizes[kind], psi.tails(end)[kind], of_kink
            )
            compact_sum = designed(rows, tolerance, math.inf if kind else most)
            if compact_sum is None:
                break
            self.sums.append(compact_sum)
            self._tables.append(table(compact_sum.columns(slopes, kink), limit))
        self.errors = [float(each.bound) + INTERPOLATION for each in self.sums]
        self.width = self.sums[0].width if self.sums else 0

    @property
    def cost(self) -> float:
        """Steps of the covariance for a pair, about (READ)."""
        return self.sums[0].cost

    def prepare(self, q: ImageMap) -> Statistics:
        root, inverse = correlation_statistics(q)
        return self._mean(root), root, inverse, *(columns(root) for columns in self._tables)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        (m1, root1, inverse1, b1, *_), (m2, root2, inverse2, b2, *_) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        # From rho: beyond the border the root is 0, and the result must be 0 whatever c is.
        inside = c if self.sums[0].is_zero_without_columns else rho * root1 * root2
        total = m1 * m2 + inside * self.sums[0].value(rho, b1, b2)
        return with_kink(total, self.kappa, rho, (root1, inverse1), (root2, inverse2))

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        (_, root1, inverse1, _, b1), (_, root2, inverse2, _, b2) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        total = self.sums[1].value(rho, b1, b2)
        return slope_with_kink(total, self.kappa, c, (root1, inverse1), (root2, inverse2))


def compact_of(
    function: KinkedFunction,
    tolerances: Sequence[float],
    columns: int | None = None,
    *,
    most: float = _LARGEST_COST,
    nearest: float = FAR,
) -> Compact | None:
    """The compact form up to the largest variance at which it is cheap.

    columns: statistics of the general form, which costs little more than reading them; None where
        it costs many times as much as any compact form
    most: largest cost
    nearest: least distance of a corner apart from 0, in deviations
    """
    if columns is not None:
        most = min(most, 0.9 * READ * columns)
    limits: tuple[float, ...] = _LIMITS
    corners = [abs(t) for t in function.kinks if t]
    if corners:
        far = min(corners) >= nearest * math.sqrt(_LIMIT_BEFORE_CORNERS)
        limits = (_LIMIT_BEFORE_CORNERS,) if far else ()
    return _first_within_cost(limits, most, function, tolerances)


def narrow_of(
    function: KinkedFunction, tolerances: Sequence[float], compact: Compact | None
) -> Compact | None:
    """A cheaper form than the compact one, up to a smaller variance."""
    if compact is None or compact.cost <= _LEAST_COST or any(function.kinks):
        return None
    limits = [limit for limit in _NARROW_LIMITS if limit < compact.limit]
    return _first_within_cost(limits, _NARROWED * compact.cost, function, tolerances)


def wide_of(
    function: KinkedFunction,
    tolerances: Sequence[float],
    compact: Compact | None,
    *,
    columns: int,
) -> Compact | None:
    """A form beyond the compact one's variances that costs a part of the general form's columns."""
    if compact is None or compact.limit >= min(_WIDE_LIMITS) or any(function.kinks):
        return None
    return _first_within_cost(_WIDE_LIMITS, _WIDENED * READ * columns, function, tolerances)


def _first_within_cost(
    limits: Sequence[float], most: float, function: KinkedFunction, tolerances: Sequence[float]
) -> Compact | None:
    """The form for the first limit that has one within a cost."""
    for limit in limits:
        with np.errstate(over="ignore", invalid="ignore"):
            dual = Compact(function, limit, tolerances, most=most)
        if len(dual.sums) == len(tolerances) and dual.cost <= most:
            return dual
    return None


def _kink(kappa: float, kind: int, weights: Vector, end: int) -> tuple[Vector, Vector]:
    """The part of a kink at 0 in the terms up to `end`, [n], and its energies beyond, [2]."""
    if not kappa:
        return np.zeros(end + 1), np.zeros(2)
    kink = moments_of_abs(_LONGEST)
    return kappa * weights * kink.slopes[0, : end + 1], kappa**2 * kink.tails(end)[kind][0]


def _sufficient_degree(
    psi: HermiteMoments, kappa: float, kind: int, size: Vector, tolerance: float
) -> int:
    """The least degree beyond which the energy is within a tolerance; else the largest."""
    for end in range(8, _LONGEST, 4):
        _, of_kink = _kink(kappa, kind, np.ones(end + 1), end)
        rest = np.maximum(psi.tails(end)[kind], 0)
        lost = (rest / size[:, None] ** 2).max(0)
        if (lost + 2 * np.sqrt(lost * of_kink) / size.min()).sum() <= tolerance:
            return end
    return _LONGEST
