"""Piecewise: duals of polynomials that are joined at corners, by Taylor's formula in c.

Math: d/dc E[f(u) g(v)] = E[f'(u) g'(v)], and the derivatives of such a function end. Let D_k be
the k-th derivative of phi between the corners t_i, e_k = E[D_k], and a_ki the jump of D_k at t_i.
Then
    E[phi(u) phi(v)] = sum_k e_k(q1) e_k(q2) c^k / k! + sum_k int_0^c R_k(x) (c - x)^k / k! dx,
    R_k = sum_ij a_ki a_kj p(t_i, t_j) + sum_i a_ki (p(t_i) E[D_k+1(v) | u = t_i] + of v and u),
with the densities p of u, of v and of both at the covariance x. The integral is a sum over
Gauss-Legendre points of y, x = c (1 - y^4): they crowd where the density of both may be steep.
E[phi'(u) phi'(v)] is the same sum from D_1 on. The variances are exact.
References: Plackett 1954, A reduction formula for normal multivariate integrals (the derivative
by the covariance).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise, product

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.duals.base import Dual, Statistics
from keras2gp.covariance.duals.elementary import correlation_statistics

__all__ = ["Piecewise"]

Polynomial = tuple[float, ...]
"""Coefficients, the constant first."""
Integrand = Callable[[PairMap, PairMap], PairMap]
"""A function of 1 - |r| and 1 / sqrt(1 - r^2), r = x / sqrt(q1 q2)."""

_POINTS = {tf.float32: 16, tf.float64: 40}
"""Errors of the integral of (c - x) p, relative to sqrt(q1 q2): 4e-8 and 4e-12."""
_STEEP_POINTS = {tf.float32: 24, tf.float64: 64}
"""Errors of the integral of p, near |rho| = 1 for variances that differ a little: 1e-5 and 3e-7."""
_ROUNDING = 1e-12
_FAR = 40.0


class Piecewise(Dual):
    """A function of polynomials between corners.

    edges:       the corners, in order
    polynomials: of degree 2 at most, one more than corners; where phi jumps, of degree 1
    """

    vanishes = True

    def __init__(self, edges: Sequence[float], polynomials: Sequence[Polynomial]) -> None:
        self.edges = tuple(float(t) for t in edges)
        pieces = [tuple(float(a) for a in p) for p in polynomials]
        self._orders = [pieces]
        while any(len(p) > 1 for p in self._orders[-1]):
            self._orders.append([_slope(p) for p in self._orders[-1]])
        self._orders += [[(0.0,)] * len(pieces)] * 2
        self._jumps = [self._jumps_of(order) for order in self._orders]
        for jumps, order in zip(self._jumps, self._orders[1:], strict=False):
            if any(jumps) and any(len(p) > 1 and any(p[1:]) for p in order):
                raise ValueError("polynomials of degree 2 must meet at the corners")

    def _jumps_of(self, order: Sequence[Polynomial]) -> list[float]:
        jumps = []
        for t, (left, right) in zip(self.edges, pairwise(order), strict=True):
            jump = _value(right, t) - _value(left, t)
            jumps.append(0.0 if abs(jump) < _ROUNDING else jump)
        return jumps

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether phi is continuous."""
        return not any(self._jumps[0])

    def phi(self, u: float) -> float:
        """The function at one point."""
        piece = int(np.searchsorted(self.edges, u))
        return _value(self._orders[0][piece], u)

    def prepare(self, q: Tensor) -> Statistics:
        roots = correlation_statistics(q)
        expected = [tf.cast(self._expected(q, order), q.dtype) for order in self._orders[1:]]
        return *roots, self.mean(q), *expected

    def mean(self, q: ImageMap) -> ImageMap:
        expected = self._expected(q, self._orders[0])
        return tf.cast(tf.where(q > 0, expected, self.phi(0.0)), q.dtype)

    def second_moment(self, q: ImageMap) -> ImageMap:
        expected = self._expected(q, [_product(p, p) for p in self._orders[0]])
        return tf.cast(tf.where(q > 0, expected, self.phi(0.0) ** 2), q.dtype)

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return tf.cast(self._expected(q, [_product(p, p) for p in self._orders[1]]), q.dtype)

    def covariance(self, c: Tensor, s1: Statistics, s2: Statistics) -> Tensor:
        return self._taylor(c, s1, s2, 0)

    def derivative(self, c: Tensor, s1: Statistics, s2: Statistics) -> Tensor:
        return self._taylor(c, s1, s2, 1)

    def _taylor(self, c: PairMap, s1: Statistics, s2: Statistics, first: int) -> PairMap:
        """E[D_first(u) D_first(v)] by Taylor's formula."""
        (root1, inverse1, *e1), (root2, inverse2, *e2) = s1, s2
        total = e1[first] * e2[first]
        power = c
        for k in range(first + 1, len(self._orders) - 2):
            total += power * e1[k] * e2[k]
            power *= c / (k - first + 1)
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        roots, inverses, size = (root1, root2), (inverse1, inverse2), tf.abs(rho)
        remainders = [
            (k - first, [*self._both(k, inverses, rho), *self._one(k, roots, inverses, rho)])
            for k in range(first, len(self._orders) - 2)
            if any(self._jumps[k])
        ]
        steep = any(not order for order, _ in remainders)
        points = (_STEEP_POINTS if steep else _POINTS)[c.dtype]
        integral = tf.zeros_like(rho)
        powers = [tf.ones_like(c), c, c * c]
        for y, weight in zip(*_gauss(points if remainders else 0), strict=True):
            u = 1 - size + size * y**4  # 1 - |x| / sqrt(q1 q2)
            inverse = tf.math.rsqrt(u * (2 - u))
            for order, parts in remainders:
                factor = 4 * y**3 * weight * y ** (4 * order) / math.factorial(order)
                integral += factor * powers[order] * sum(part(u, inverse) for part in parts)
        return total + rho * integral

    def _both(self, k: int, inverses: tuple[ImageMap, ImageMap], rho: PairMap) -> list[Integrand]:
        """Integrands a_ki a_kj p(t_i, t_j) sqrt(q1 q2), those of one |t_i| and |t_j| together."""
        groups: dict[tuple[float, float], list[float]] = defaultdict(lambda: [0.0, 0.0])
        jumps = list(zip(self.edges, self._jumps[k], strict=True))
        for (t1, a1), (t2, a2) in product(jumps, jumps):
            groups[abs(t1), abs(t2)][t1 * t2 < 0] += a1 * a2 / (2 * math.pi)
        return [
            _density(same, opposite, t1 * inverses[0], t2 * inverses[1], rho)
            for (t1, t2), (same, opposite) in groups.items()
            if same or opposite
        ]

    def _one(
        self,
        k: int,
        roots: tuple[ImageMap, ImageMap],
        inverses: tuple[ImageMap, ImageMap],
        rho: PairMap,
    ) -> list[Integrand]:
        """Integrands a_ki p(t_i) E[D_k+1(v) | u = t_i] sqrt(q1 q2), and with u and v exchanged."""
        ((start, *_), *_), steps = self._orders[k + 1], self._jumps[k + 1]
        if not (start or any(steps)):
            return []
        return [
            _conditional(a * root2 * _bell(t * inverse1), t * inverse1, rho, start, levels)
            for t, a in zip(self.edges, self._jumps[k], strict=True)
            if a
            for (inverse1, inverse2), root2 in ((inverses, roots[1]), (inverses[::-1], roots[0]))
            for levels in [[(s, e * inverse2) for e, s in zip(self.edges, steps, strict=True) if s]]
        ]

    def _expected(self, q: ImageMap, order: Sequence[Polynomial]) -> ImageMap:
        """Expectation of a piecewise polynomial, in float64; `order` has one for each piece."""
        root = tf.sqrt(tf.cast(q, tf.float64))
        inverse = 1 / tf.maximum(root, 1e-150)
        far = tf.fill(tf.shape(root), tf.constant(_FAR, tf.float64))
        ends = [-far, *(tf.clip_by_value(t * inverse, -_FAR, _FAR) for t in self.edges), far]
        total = tf.zeros_like(root)
        for polynomial, (low, high) in zip(order, pairwise(ends), strict=True):
            for n, moment in enumerate(_moments(low, high, len(polynomial))):
                total += polynomial[n] * root**n * moment
        return total


def _slope(polynomial: Polynomial) -> Polynomial:
    return tuple(n * a for n, a in enumerate(polynomial) if n) or (0.0,)


def _value(polynomial: Polynomial, u: float) -> float:
    return sum(a * u**n for n, a in enumerate(polynomial))


def _product(p: Polynomial, r: Polynomial) -> Polynomial:
    return tuple(float(a) for a in np.convolve(p, r))


def _gauss(points: int) -> tuple[list[float], list[float]]:
    """Gauss-Legendre points and weights on [0, 1]."""
    if not points:
        return [], []
    y, w = np.polynomial.legendre.leggauss(points)
    return ((y + 1) / 2).tolist(), (w / 2).tolist()


def _bell(z: Tensor) -> Tensor:
    return tf.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _below(z: Tensor) -> Tensor:
    return tf.math.erfc(-z / math.sqrt(2)) / 2


def _moments(low: Tensor, high: Tensor, count: int) -> list[Tensor]:
    """E[z^n; low < z < high] of a standard normal z, for n < count."""
    # From the nearer tail, because a tail computed as 1 minus the rest has no digits.
    upper_half = low + high > 0
    lower, upper = tf.where(upper_half, -high, low), tf.where(upper_half, -low, high)
    moments = [_below(upper) - _below(lower), _bell(low) - _bell(high)]
    for n in range(2, count):
        ends = low ** (n - 1) * _bell(low) - high ** (n - 1) * _bell(high)
        moments.append((n - 1) * moments[n - 2] + ends)
    return moments[:count]


def _density(same: float, opposite: float, h: Tensor, k: Tensor, rho: Tensor) -> Integrand:
    """same times exp(-(h^2 + k^2 - 2 h k r) / (2 (1 - r^2))) / sqrt(1 - r^2), opposite with -r.

    A function of u = 1 - |r| and 1 / sqrt(1 - r^2); h, k >= 0.
    """
    sign = tf.where(rho < 0, -tf.ones_like(rho), tf.ones_like(rho))
    product, near = h * k, (h - k) ** 2 / 2
    if same == -opposite:  # one expm1: the difference of the two has no digits at a small h k

        def both(u: Tensor, inverse: Tensor) -> Tensor:
            square = inverse * inverse
            size = tf.exp(-(near + product * u) * square)
            return same * sign * size * -tf.math.expm1(-2 * product * (1 - u) * square) * inverse

        return both

    sides = [(f, side) for f, side in ((same, sign), (opposite, -sign)) if f]
    terms = [(f, (h - side * k) ** 2 / 2, side * product) for f, side in sides]

    def either(u: Tensor, inverse: Tensor) -> Tensor:
        square = inverse * inverse
        total: Tensor = 0
        for factor, distance, slope in terms:
            total += factor * tf.exp(-(distance + slope * u) * square)
        return total * inverse

    return either


def _conditional(
    size: Tensor, h: Tensor, rho: Tensor, start: float, levels: Sequence[tuple[float, Tensor]]
) -> Integrand:
    """size times E[step function of v | u = h]: `start` at the left, and a rise at each level."""
    sign = tf.where(rho < 0, -tf.ones_like(rho), tf.ones_like(rho))

    def value(u: Tensor, inverse: Tensor) -> Tensor:
        # r h - k in a form that keeps its digits where it is nearly 0
        steps = (a * _below(((sign * h - k) - sign * h * u) * inverse) for a, k in levels)
        return size * (start + sum(steps))

    return value
