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
from keras2gp.covariance.duals.base import LARGEST_ERROR, Dual, Statistics, rounding_of
from keras2gp.covariance.duals.elementary import arcsin, correlation_statistics, polynomial

__all__ = ["Piecewise"]

Polynomial = tuple[float, ...]
"""Coefficients, the constant first."""
Integrand = Callable[[PairMap, PairMap], PairMap]
"""A function of 1 - |r| and 1 / sqrt(1 - r^2), r = x / sqrt(q1 q2)."""

_POINTS = {tf.float32: (16, 24), tf.float64: (40, 64)}
"""Points for the integrals of (c - x) p, and of p, which is steep near |rho| = 1.

Errors of the first, relative to sqrt(q1 q2): 4e-8 and 4e-12; of the second, relative to the
variances: 1e-5 and 1e-8 up to a variance of 100, and 1e-4 and 1e-5 at any.
"""
_LEAST_SCALE = {tf.float32: 1e-5, tf.float64: 1e-9}
"""Least size of corners that the steep integral resolves: its points y are next to 1 by as much."""
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
    def polynomials(self) -> tuple[Polynomial, ...]:
        """The function between the corners."""
        return tuple(self._orders[0])

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether phi is continuous."""
        return not any(self._jumps[0])

    def phi(self, u: float) -> float:
        """The function at one point."""
        piece = int(np.searchsorted(self.edges, u))
        return _value(self._orders[0][piece], u)

    def prepare(self, q: ImageMap) -> Statistics:
        roots = correlation_statistics(q)
        expected = [tf.cast(self._expected(q, order), q.dtype) for order in self._orders[1:]]
        deviation = tf.sqrt(self.derivative_second_moment(q))
        steepness = tf.math.divide_no_nan(tf.ones_like(q), deviation)
        return *roots, steepness, self.mean(q), *expected

    def mean(self, q: ImageMap) -> ImageMap:
        expected = self._expected(q, self._orders[0])
        return tf.cast(tf.where(q > 0, expected, self.phi(0.0)), q.dtype)

    def second_moment(self, q: ImageMap) -> ImageMap:
        expected = self._expected(q, [_product(p, p) for p in self._orders[0]])
        return tf.cast(tf.where(q > 0, expected, self.phi(0.0) ** 2), q.dtype)

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return tf.cast(self._expected(q, [_product(p, p) for p in self._orders[1]]), q.dtype)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self._taylor(c, s1, s2, 0)

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self._taylor(c, s1, s2, 1)

    def _taylor(self, c: PairMap, s1: Statistics, s2: Statistics, first: int) -> PairMap:
        """E[D_first(u) D_first(v)] by Taylor's formula."""
        (root1, inverse1, scale1, *e1), (root2, inverse2, scale2, *e2) = s1, s2
        total = e1[first] * e2[first]
        power = c
        for k in range(first + 1, len(self._orders) - 2):
            total += power * e1[k] * e2[k]
            power *= c / (k - first + 1)
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        roots, inverses = (root1, root2), (inverse1, inverse2)
        mild: list[tuple[int, Integrand]] = []
        for k in range(first, len(self._orders) - 2):
            if any(self._jumps[k]):
                mild += [(k - first, part) for part in self._one(k, roots, inverses, rho)]
                if k > first:
                    mild.append((k - first, _with_root(self._both(k, inverses, rho))))
        steep = any(self._jumps[first])
        total += rho * _mild_integral(mild, c, 1 - tf.abs(rho), _POINTS[c.dtype][steep])
        if steep:
            total += tf.sign(rho) * self._steep_integral(first, inverses, rho, scale1 * scale2)
        return total

    def _steep_integral(
        self, k: int, inverses: tuple[ImageMap, ImageMap], rho: PairMap, scale: PairMap
    ) -> PairMap:
        """The integral of the density of both at jumps of D_k, from 0 to |rho|.

        Its limit at small corners, which does not fall with v, is integrated in closed form. Not a
        number where rounding of c may move the tangent kernel by more than LARGEST_ERROR.

        Math: over v = sqrt(1 - |r|) = a y^2 / (1 - y), for corners of size a.
        """
        size, jumps = tf.abs(rho), self._jumps[k]
        furthest = max(abs(t) for t, a in zip(self.edges, jumps, strict=True) if a)
        a = tf.maximum(1.5 * furthest * tf.maximum(*inverses), _LEAST_SCALE[rho.dtype])
        limit = sum(jumps) ** 2 / (2 * math.pi) * tf.cast(a < 1, rho.dtype)
        integral = limit * tf.abs(arcsin(rho, (1 - rho) * (1 + rho)))
        if furthest == 0:
            return integral
        density = self._both(k, inverses, rho)
        if k > 0:
            error = rounding_of(rho)
            u = tf.maximum(1 - size - error, error / 4)
            root = tf.math.rsqrt(u * (2 - u))
            lost = error * tf.abs(density(u, root)) * root * scale > LARGEST_ERROR
            # Within the corners an entry that is hard to tell is next to nothing.
            lost &= a < 1.5
            integral = tf.where(lost, tf.constant(math.nan, rho.dtype), integral)
        start, end = _rational(tf.sqrt(1 - size), a), _rational(tf.ones_like(a), a)
        for x, weight in zip(*_gauss(_POINTS[rho.dtype][True]), strict=True):
            y = start + (end - start) * x
            rest = 1 / (1 - y)
            v = a * y * y * rest
            u = v * v
            change = 2 * weight * a * y * (2 - y) * rest * rest * (end - start)
            value = density(u, tf.math.rsqrt(u * (2 - u))) - limit
            integral += value * tf.math.rsqrt(2 - u) * change
        return integral

    def _both(self, k: int, inverses: tuple[ImageMap, ImageMap], rho: PairMap) -> Integrand:
        """sum a_ki a_kj p(t_i, t_j) sqrt(q1 q2 (1 - r^2)) over all corners.

        Where the jumps add up to 0, so do the densities at large variances: they are added as
        differences that keep their digits.
        """
        jumps = [(t, a) for t, a in zip(self.edges, self._jumps[k], strict=True) if a]
        groups: dict[tuple[float, float], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for (t1, a1), (t2, a2) in product(jumps, jumps):
            groups[abs(t1), abs(t2)][t1 * t2 < 0] += a1 * a2 / (2 * math.pi)
        groups = {key: group for key, group in groups.items() if any(group)}
        balanced = abs(sum(a for _, a in jumps)) < _ROUNDING
        odd = all(same == -opposite for same, opposite in groups.values())
        direct = [_density(g, *_over(key, inverses), rho) for key, g in groups.items()]
        if odd or not balanced:
            return lambda u, inverse: sum(part(u, inverse) for part in direct)
        falls = [
            _difference(g, *_over(key, inverses), rho) for key, g in groups.items() if all(key)
        ]
        least = min(abs(t) for t, _ in jumps)
        if least == 0:
            return lambda u, inverse: sum(part(u, inverse) for part in falls)
        small = least * least * inverses[0] * inverses[1] > 1

        def either(u: PairMap, inverse: PairMap) -> PairMap:
            return tf.where(small, *(sum(p(u, inverse) for p in form) for form in (direct, falls)))

        return either

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
        for piece, (low, high) in zip(order, pairwise(ends), strict=True):
            for n, moment in enumerate(_moments(low, high, len(piece))):
                total += piece[n] * root**n * moment
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


def _mild_integral(
    parts: Sequence[tuple[int, Integrand]], c: PairMap, rest: PairMap, points: int
) -> PairMap:
    """The integral of parts (order, R) times (c - x)^order / order!, over sqrt(q1 q2) and rho.

    rest: 1 - |rho|
    """
    integral = tf.zeros_like(c)
    powers = [tf.ones_like(c), c, c * c]
    for y, weight in zip(*_gauss(points if parts else 0), strict=True):
        u = rest + (1 - rest) * y**4  # 1 - |x| / sqrt(q1 q2)
        inverse = tf.math.rsqrt(u * (2 - u))
        for order, part in parts:
            factor = 4 * y**3 * weight * y ** (4 * order) / math.factorial(order)
            integral += factor * powers[order] * part(u, inverse)
    return integral


def _with_root(density: Integrand) -> Integrand:
    return lambda u, inverse: density(u, inverse) * inverse


def _rational(v: PairMap, a: PairMap) -> PairMap:
    """y >= 0 with v = a y^2 / (1 - y): fine steps below a, and 1 / v^2 is flat in y above."""
    return 2 * v / (v + tf.sqrt(v * (v + 4 * a)) + 1e-30)


def _over(
    corners: tuple[float, float], inverses: tuple[ImageMap, ImageMap]
) -> tuple[ImageMap, ImageMap]:
    return corners[0] * inverses[0], corners[1] * inverses[1]


def _rise(x: Tensor) -> Tensor:
    """1 - exp(-x) for x >= 0, to all digits of a small x; expm1 costs two library functions."""
    terms = 5 if x.dtype == tf.float32 else 10
    series = polynomial([(-1) ** n / math.factorial(n + 1) for n in range(terms)], x)
    return tf.where(x < 0.1, x * series, 1 - tf.exp(-x))


def _density(factors: Sequence[float], h: Tensor, k: Tensor, rho: Tensor) -> Integrand:
    """The first factor times exp(-(h^2 + k^2 - 2 h k r) / (2 (1 - r^2))), the second with -r.

    h, k: corners over their standard deviation, not negative
    """
    same, opposite = factors
    sign = tf.where(rho < 0, -tf.ones_like(rho), tf.ones_like(rho))
    product, near = h * k, (h - k) ** 2 / 2
    if same == -opposite:  # one expm1: the difference of the two has no digits at a small h k

        def both(u: Tensor, inverse: Tensor) -> Tensor:
            square = inverse * inverse
            size = tf.exp(-(near + product * u) * square)
            return same * sign * size * _rise(2 * product * (1 - u) * square)

        return both

    sides = [(f, side) for f, side in ((same, sign), (opposite, -sign)) if f]
    terms = [(f, (h - side * k) ** 2 / 2, side * product) for f, side in sides]

    def either(u: Tensor, inverse: Tensor) -> Tensor:
        square = inverse * inverse
        total: Tensor = 0
        for factor, distance, slope in terms:
            total += factor * tf.exp(-(distance + slope * u) * square)
        return total

    return either


def _difference(factors: Sequence[float], h: Tensor, k: Tensor, rho: Tensor) -> Integrand:
    """_density, less the same with k = 0, less that with h = 0, plus that with both 0; h, k > 0.

    Math: with A = h^2 / (2 (1 - r^2)), B of k and C = h k |r| / (1 - r^2), for r > 0
        exp(C - A - B) - exp(-A) - exp(-B) + 1
            = (1 - exp(-A)) (1 - exp(-B)) + exp(C - A - B) (1 - exp(-C)),
        and for r < 0 the last term is -exp(-A - B) (1 - exp(-C)).
    """
    same, opposite = factors
    product, one, zero = h * k, tf.ones_like(rho), tf.zeros_like(rho)
    terms = []
    for factor, positive in ((same, rho >= 0), (opposite, rho < 0)):
        if factor:
            near, slope = (h - k) ** 2 / 2 + zero, product + zero
            signed = tf.where(positive, factor * one, -factor * one)
            far = near + product
            terms.append((signed, tf.where(positive, near, far), tf.where(positive, slope, zero)))

    def value(u: Tensor, inverse: Tensor) -> Tensor:
        square = inverse * inverse
        last = _rise(product * (1 - u) * square)
        total = (same + opposite) * _rise(h * h / 2 * square) * _rise(k * k / 2 * square)
        for factor, distance, slope in terms:
            total += factor * tf.exp(-(distance + slope * u) * square) * last
        return total

    return value


def _conditional(
    size: Tensor, h: Tensor, rho: Tensor, start: float, levels: Sequence[tuple[float, Tensor]]
) -> Integrand:
    """size times E[step function of v | u = h]: `start` at the left, and a rise at each level."""
    sign = tf.where(rho < 0, -tf.ones_like(rho), tf.ones_like(rho))

    def value(u: Tensor, inverse: Tensor) -> Tensor:
        # r h - k in a form that keeps its digits where it is nearly 0
        ends = [(a, ((sign * h - k) - sign * h * u) * inverse) for a, k in levels]
        if len(ends) == 2 and ends[0][0] == -ends[1][0]:
            (rise, high), (_, low) = ends
            width = (levels[1][1] - levels[0][1]) * inverse
            return size * (start + rise * _between(low, high, width))
        return size * (start + sum(a * _below(z) for a, z in ends))

    return value


def _between(low: Tensor, high: Tensor, width: Tensor) -> Tensor:
    """P(low < z < high) of a standard normal z; width is high - low, to all its digits."""
    middle = (low + high) / 2
    narrow = width * _bell(middle) * (1 + width * width * (middle * middle - 1) / 24)
    return tf.where(width < 0.1, narrow, _below(high) - _below(low))
