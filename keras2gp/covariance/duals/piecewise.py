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
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.base import Reach
from keras2gp.covariance.dual import LARGEST_ERROR, Dual, Limited, Statistics, rounding_of
from keras2gp.covariance.duals.corner_forms import Cornered, forms_of
from keras2gp.covariance.duals.densities import (
    Integrand,
    bell,
    conditional,
    density_of,
    difference_of,
    gauss,
    mild_integral,
    over,
    rational,
    truncated_moments,
    with_root,
)
from keras2gp.covariance.duals.elementary import arcsin, correlation_statistics
from keras2gp.covariance.duals.elementary import polynomial as polynomial_of

__all__ = ["Piecewise"]

Polynomial = tuple[float, ...]
"""Coefficients, the constant first."""

_POINTS = {tf.float32: (16, 24), tf.float64: (40, 64)}
"""Points for the integrals of (c - x) p, and of p, which is steep near |rho| = 1.

Errors of the first, relative to sqrt(q1 q2): 4e-8 and 4e-12; of the second, relative to the
variances: 1e-5 and 1e-8 up to a variance of 100, and 1e-4 and 1e-5 at any.
"""
_LEAST_SCALE = {tf.float32: 1e-5, tf.float64: 1e-9}
"""Least size of corners that the steep integral resolves: its points y are next to 1 by as much."""
_ROUNDING = 1e-12
_FAR = 40.0
_NARROW, _TERMS = 0.5, 12
"""Size of corners below which the parts between them are series, and the terms: exact to 1e-17."""


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
    def saturates(self) -> bool:  # type: ignore[override]
        """Whether it has no slope left and right of all corners."""
        slopes = self._orders[1]
        return not (any(slopes[0]) or any(slopes[-1]))

    @property
    def polynomials(self) -> tuple[Polynomial, ...]:
        """The function between the corners."""
        return tuple(self._orders[0])

    @property
    def slope_jumps(self) -> tuple[float, ...]:
        """The jumps of its slope at the corners."""
        return tuple(self._jumps[1])

    @property
    def slope_at_zero(self) -> float:
        """phi' at 0, or left of a corner there."""
        return _value(self._orders[1][int(np.searchsorted(self.edges, 0.0))], 0.0)

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
        return *roots, steepness, self._within_range(self.mean(q), q), *expected

    def _within_range(self, mean: ImageMap, q: ImageMap) -> ImageMap:
        """E[phi]; of a clipped function not a number where differences of densities underflow."""
        if not self.saturates:
            return mean
        limits = np.finfo(q.dtype.as_numpy_dtype)
        return tf.where(q < float(limits.eps / limits.tiny), mean, math.nan)

    def mean(self, q: ImageMap) -> ImageMap:
        expected = self._expected(q, self._orders[0])
        return tf.cast(tf.where(q > 0, expected, self.phi(0.0)), q.dtype)

    def slope(self, q: ImageMap) -> ImageMap:
        return tf.cast(self._expected(q, self._orders[1]), q.dtype)

    def second_moment(self, q: ImageMap) -> ImageMap:
        expected = self._expected(q, [_product(p, p) for p in self._orders[0]])
        return tf.cast(tf.where(q > 0, expected, self.phi(0.0) ** 2), q.dtype)

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return tf.cast(self._expected(q, [_product(p, p) for p in self._orders[1]]), q.dtype)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self._taylor(c, s1, s2, 0)

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self._taylor(c, s1, s2, 1)

    def compact(self, *, tangent: bool = False, reach: Reach = "compact") -> Limited | None:
        """The same at small variances, in fewer operations (corner_forms.py)."""
        if not (self.differentiable and self.edges):
            return None
        forms = _forms(self.edges, self.polynomials, tangent=tangent)
        if reach == "compact":
            return forms[-1] if forms else None
        return forms[0] if reach == "narrow" and len(forms) > 1 else None

    def value_at(self, u: Tensor) -> Tensor:
        """The function, elementwise."""
        value = polynomial_of(self.polynomials[0], u) + tf.zeros_like(u)
        for edge, piece in zip(self.edges, self.polynomials[1:], strict=True):
            value = tf.where(u > edge, polynomial_of(piece, u) + tf.zeros_like(u), value)
        return value

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
                    mild.append((k - first, with_root(self._both(k, inverses, rho))))
        steep = any(self._jumps[first])
        total += rho * mild_integral(mild, c, 1 - tf.abs(rho), _POINTS[c.dtype][steep])
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
            # At small corners it falls to nothing within the rounding of 1, within u = (t / s)^2:
            # at those of the larger s after those of the smaller. Below there it adds 8 u times
            # its value, the integral of (1 - exp(-u' / 4 u)) / sqrt(u) over u by its value at u'.
            least, most = ((furthest * of(*inverses)) ** 2 for of in (tf.minimum, tf.maximum))
            lost = tf.zeros_like(rho, tf.bool)
            for way, steepest in ((-1, tf.minimum(most, error / 4)), (-1, least), (1, least)):
                u = tf.maximum(1 - size + way * error, steepest)
                root = tf.math.rsqrt(u * (2 - u))
                moved = tf.minimum(8 * u, error) * tf.abs(density(u, root)) * root
                lost |= moved * scale > LARGEST_ERROR
            # Within the corners of both an entry that is hard to tell is next to nothing.
            lost &= least < 1.0
            integral = tf.where(lost, tf.constant(math.nan, rho.dtype), integral)
        start, end = rational(tf.sqrt(1 - size), a), rational(tf.ones_like(a), a)
        for x, weight in zip(*gauss(_POINTS[rho.dtype][True]), strict=True):
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
        direct = [density_of(g, *over(key, inverses), rho) for key, g in groups.items()]
        if odd or not balanced:
            return lambda u, inverse: sum(part(u, inverse) for part in direct)
        falls = [
            difference_of(g, *over(key, inverses), rho) for key, g in groups.items() if all(key)
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
            conditional(a * root2 * bell(t * inverse1), t * inverse1, rho, start, levels)
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
        bounds = [None, *pairwise(self.edges), None][: len(order)]
        total = tf.zeros_like(root)
        for piece, (low, high), between in zip(order, pairwise(ends), bounds, strict=True):
            part = tf.zeros_like(root)
            for n, moment in enumerate(truncated_moments(low, high, len(piece))):
                part += piece[n] * root**n * moment
            if between is not None:
                narrow, reach = _narrow_part(piece, between, inverse)
                part = tf.where(reach < _NARROW, narrow, part)
            total += part
        return total


def _narrow_part(
    polynomial: Polynomial, ends: tuple[float, float], inverse: ImageMap
) -> tuple[ImageMap, ImageMap]:
    """E[polynomial(u); u between two corners] at large variances, and the further corner's size.

    The moments of z between two corners are differences next to 1, which q^n multiplies.

    Math: sum_j (-1 / (2 q))^j / j! int p(u) u^(2 j) du / sqrt(2 pi q)
    """
    furthest = max(map(abs, ends)) or 1.0
    size = furthest * inverse
    low, high = ends
    coefficients = [
        (-0.5) ** j
        / math.factorial(j)
        * sum(
            a
            * (
                (high / furthest) ** (2 * j) * high ** (n + 1)
                - (low / furthest) ** (2 * j) * low ** (n + 1)
            )
            / (2 * j + n + 1)
            for n, a in enumerate(polynomial)
        )
        for j in range(_TERMS)
    ]
    series = polynomial_of(coefficients, size * size)
    return inverse / math.sqrt(2 * math.pi) * series, size


@cache
def _forms(
    edges: tuple[float, ...], polynomials: tuple[Polynomial, ...], *, tangent: bool
) -> list[Limited]:
    whole = Piecewise(edges, polynomials)
    start, jumps = whole.slope_at_zero, whole.slope_jumps
    return forms_of(
        Cornered(edges, polynomials, jumps, start, whole.value_at, whole), tangent=tangent
    )


def _slope(polynomial: Polynomial) -> Polynomial:
    return tuple(n * a for n, a in enumerate(polynomial) if n) or (0.0,)


def _value(polynomial: Polynomial, u: float) -> float:
    return sum(a * u**n for n, a in enumerate(polynomial))


def _product(p: Polynomial, r: Polynomial) -> Polynomial:
    return tuple(float(a) for a in np.convolve(p, r))
