"""Corner slopes: E[phi'(u) phi'(v)] of a function of straight pieces, by the angles of corners.

Math: phi' = beta + sum_i b_i 1{s_i u > t_i}, s_i = +-1, t_i > 0. With h = t_i / sqrt(q1),
k = t_j / sqrt(q2), r = s_i s_j rho and R^2 = h^2 + k^2 - 2 h k r,
    P(z1 > h, z2 > k) = Q(h) / 2 + Q(k) / 2 - T(h, x) - T(k, y),   x = (k - r h) / R,
                                                                   y = (h - r k) / R,
    T(h, x) = 1 / 2 pi int_0^x exp(-h^2 / 2 (1 - v^2)) / sqrt(1 - v^2) dv = x p_h(x^2),
Q(h) = P(z > h). x and y are sines of the angles that (h, k) makes with the corner's edges, and
p_h has no pole on [0, 1] while h > 0. It is a short sum of Chebyshev polynomials whose coefficients
depend on one image: the error is at most the sum of the others' sizes.
References: Owen 1956, Tables for computing bivariate normal probabilities.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, Matrix, PairMap, Tensor, Vector
from keras2gp.covariance.dual import Dual, Limited, Statistics
from keras2gp.covariance.duals.chebyshev import is_smooth, monomials, roots, table
from keras2gp.covariance.duals.coefficients import INTERPOLATION
from keras2gp.covariance.duals.elementary import correlation_statistics, polynomial

__all__ = ["CornerSlopes", "WithSlopes", "corner_slopes_of"]

_FARTHEST = 1e3
"""Corners in deviations at most: nothing is seen of them from a twentieth of it on."""
_NODES = 96
_POINTS, _MODES = 160, 128
_LONGEST = 40
"""Most coefficients of p_h that are tried."""
_LARGEST_POWERS = 16.0
"""Largest sum of the powers' coefficients, whose rounding is that of p_h, which is at most 1/4."""


class CornerSlopes(Dual):
    """E[phi' phi'] of a function of straight pieces at variances up to a limit.

    corners: places t_i, with their sign, and the jumps of phi' there
    start:   phi' at 0
    count:   coefficients of p_h
    limit:   the largest variance
    """

    def __init__(
        self, corners: Sequence[tuple[float, float]], start: float, count: int, limit: float
    ) -> None:
        self._start, self._sizes = start, sorted({abs(t) for t, _ in corners})
        self._rises = [(t, math.copysign(a, t * a)) for t, a in corners]
        self._products = _products(self._rises)
        sigma = roots(limit, _NODES)
        modes = [_shape(t / sigma)[:, :count] for t in self._sizes]
        powers = [shape @ monomials(count) for shape in modes]
        self._in_powers = max(np.abs(p).sum(1).max() for p in powers) <= _LARGEST_POWERS
        self.holds = all(map(is_smooth, modes))
        self._shapes = [table(shape, limit) for shape in (powers if self._in_powers else modes)]

    def prepare(self, q: ImageMap) -> Statistics:
        root, inverse = correlation_statistics(q)
        heights = [
            tf.where(q > 0, tf.minimum(t * inverse, _FARTHEST), _FARTHEST) for t in self._sizes
        ]
        by_size = dict(zip(self._sizes, heights, strict=True))
        beyond = sum(b / 2 * tf.math.erfc(by_size[abs(t)] / math.sqrt(2)) for t, b in self._rises)
        return root, inverse, beyond, *heights, *(shape(root) for shape in self._shapes)

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        (_, inverse1, beyond1, *rest1), (_, inverse2, beyond2, *rest2) = s1, s2
        count = len(self._sizes)
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        half = self._start + sum(b for _, b in self._rises) / 2
        total = self._start**2 + half * (beyond1 + beyond2) + tf.zeros_like(rho)
        columns1, columns2 = (
            [tf.unstack(b, axis=-3 if rest2[count].shape[-2] == 1 else -2) for b in rest[count:]]
            for rest in (rest1, rest2)
        )
        for (i, j, sign), factor in self._products.items():
            h, k = rest1[i], rest2[j]
            # In forms that keep their digits where both are nearly the same.
            u = 1 - sign * rho
            square = (h - k) * (h - k) + 2 * h * k * u
            inverse = tf.math.rsqrt(square + 1e-30)
            x, y = ((k - h) + h * u) * inverse, ((h - k) + k * u) * inverse
            angle = x * self._value(columns1[i], 2 * x * x - 1)
            angle += y * self._value(columns2[j], 2 * y * y - 1)
            total -= factor * angle
        return total

    def _value(self, columns: Sequence[Tensor], t: PairMap) -> PairMap:
        """p_h at t = 2 z - 1: as a polynomial where its powers keep the digits, or by Clenshaw."""
        if self._in_powers:
            return polynomial(columns, t)
        value, before = tf.zeros_like(t), tf.zeros_like(t)
        for column in columns[:0:-1]:
            value, before = 2 * t * value - before + column, value
        return t * value - before + columns[0]


class WithSlopes(Limited):
    """A limited dual with the derivative of another form of the same function."""

    def __init__(self, form: Limited, derivative: Dual, error: float) -> None:
        self._form, self._derivative = form, derivative
        self.limit, self.width = form.limit, form.width
        self.parts = form.parts  # type: ignore[misc]
        self.errors = [form.errors[0], error]
        with tf.init_scope():
            self._own = len(form.prepare(tf.ones([1], tf.float64)))

    def prepare(self, q: ImageMap) -> Statistics:
        return *self._form.prepare(q), *self._derivative.prepare(q)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self._form.covariance(c, s1[: self._own], s2[: self._own])

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self._derivative.derivative(c, s1[self._own :], s2[self._own :])

    def second_moment(self, q: ImageMap) -> ImageMap:
        return self._form.second_moment(q)

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return self._form.derivative_second_moment(q)

    def mean(self, q: ImageMap) -> ImageMap:
        return self._form.mean(q)


def corner_slopes_of(
    corners: Sequence[tuple[float, float]],
    start: float,
    steepness: Vector,
    limit: float,
    *,
    tolerance: float,
) -> tuple[CornerSlopes, float] | None:
    """The form with the fewest coefficients, and the bound of its error relative to E[phi'^2].

    steepness: E[phi'^2] at the nodes of a table up to the limit

    None for a corner at 0, and where no form is within the tolerance.
    """
    if not all(t for t, _ in corners):
        return None
    sigma, size = roots(limit, len(steepness)), np.sqrt(steepness)
    if not size.min() > 0:
        return None
    weight = sum(abs(a) for _, a in corners)
    rest = np.zeros((len(sigma), _LONGEST + 1))
    for t, a in corners:
        modes = np.abs(_shape(t / sigma))
        rest += abs(a) * np.cumsum(modes[:, ::-1], 1)[:, ::-1][:, : _LONGEST + 1]
    bounds = 2 * weight * (rest / size[:, None]).max(0) / size.min() + INTERPOLATION
    within = np.flatnonzero(bounds <= tolerance)
    if not len(within):
        return None
    count = max(int(within[0]), 1)
    made = CornerSlopes(corners, start, count, limit)
    return (made, float(bounds[count])) if made.holds else None


def _shape(h: Vector) -> Matrix:
    """Chebyshev coefficients of p_h on [0, 1], [K, modes]."""
    y, weights = np.polynomial.legendre.leggauss(_POINTS)
    y, weights = (y + 1) / 2, weights / 2
    angles = np.pi * (np.arange(_MODES) + 0.5) / _MODES
    z = (np.cos(angles) + 1) / 2
    cosine = 1 - z[:, None] * y**2
    values = np.exp(-(h[:, None, None] ** 2) / 2 / cosine) / np.sqrt(cosine) @ weights / (2 * np.pi)
    modes = values @ np.cos(np.outer(angles, np.arange(_MODES))) * (2 / _MODES)
    modes[:, 0] /= 2
    return np.asarray(modes)


def _products(rises: Sequence[tuple[float, float]]) -> dict[tuple[int, int, int], float]:
    """Factors of the probabilities by the numbers of both sizes and the sign of rho."""
    sizes = sorted({abs(t) for t, _ in rises})
    factors: dict[tuple[int, int, int], float] = defaultdict(float)
    for t1, b1 in rises:
        for t2, b2 in rises:
            sign = 1 if t1 * t2 > 0 else -1
            factors[sizes.index(abs(t1)), sizes.index(abs(t2)), sign] += b1 * b2
    return {key: factor for key, factor in factors.items() if factor}
