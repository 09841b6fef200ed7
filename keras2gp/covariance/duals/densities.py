"""Densities of a Gaussian pair at corners, and integrals over its correlation r up to rho.

Each is a function of u = 1 - |r| and of 1 / sqrt(1 - r^2), in forms that keep their digits where
differences are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.duals.elementary import polynomial

__all__ = [
    "Integrand",
    "bell",
    "conditional",
    "density_of",
    "difference_of",
    "gauss",
    "mild_integral",
    "over",
    "rational",
    "truncated_moments",
    "with_root",
]

Integrand = Callable[[PairMap, PairMap], PairMap]
"""A function of 1 - |r| and 1 / sqrt(1 - r^2), r = x / sqrt(q1 q2)."""


def gauss(points: int) -> tuple[list[float], list[float]]:
    """Gauss-Legendre points and weights on [0, 1]."""
    if not points:
        return [], []
    y, w = np.polynomial.legendre.leggauss(points)
    return ((y + 1) / 2).tolist(), (w / 2).tolist()


def bell(z: Tensor) -> Tensor:
    """The density of a standard normal number."""
    return tf.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _below(z: Tensor) -> Tensor:
    return tf.math.erfc(-z / math.sqrt(2)) / 2


def truncated_moments(low: Tensor, high: Tensor, count: int) -> list[Tensor]:
    """E[z^n; low < z < high] of a standard normal z, for n < count."""
    # From the nearer tail, because a tail computed as 1 minus the rest has no digits.
    upper_half = low + high > 0
    lower, upper = tf.where(upper_half, -high, low), tf.where(upper_half, -low, high)
    moments = [_below(upper) - _below(lower), bell(low) - bell(high)]
    for n in range(2, count):
        ends = low ** (n - 1) * bell(low) - high ** (n - 1) * bell(high)
        moments.append((n - 1) * moments[n - 2] + ends)
    return moments[:count]


def mild_integral(
    parts: Sequence[tuple[int, Integrand]], c: PairMap, rest: PairMap, points: int
) -> PairMap:
    """The integral of parts (order, R) times (c - x)^order / order!, over sqrt(q1 q2) and rho.

    rest: 1 - |rho|
    """
    integral = tf.zeros_like(c)
    powers = [tf.ones_like(c), c, c * c]
    for y, weight in zip(*gauss(points if parts else 0), strict=True):
        u = rest + (1 - rest) * y**4  # 1 - |x| / sqrt(q1 q2)
        inverse = tf.math.rsqrt(u * (2 - u))
        for order, part in parts:
            factor = 4 * y**3 * weight * y ** (4 * order) / math.factorial(order)
            integral += factor * powers[order] * part(u, inverse)
    return integral


def with_root(density: Integrand) -> Integrand:
    """A function over sqrt(1 - r^2)."""
    return lambda u, inverse: density(u, inverse) * inverse


def rational(v: PairMap, a: PairMap) -> PairMap:
    """y >= 0 with v = a y^2 / (1 - y): fine steps below a, and 1 / v^2 is flat in y above."""
    return 2 * v / (v + tf.sqrt(v * (v + 4 * a)) + 1e-30)


def over(
    corners: tuple[float, float], inverses: tuple[ImageMap, ImageMap]
) -> tuple[ImageMap, ImageMap]:
    """Two corners over the deviations of either image."""
    return corners[0] * inverses[0], corners[1] * inverses[1]


def _rise(x: Tensor) -> Tensor:
    """1 - exp(-x) for x >= 0, to all digits of a small x; expm1 costs two library functions."""
    terms = 5 if x.dtype == tf.float32 else 10
    series = polynomial([(-1) ** n / math.factorial(n + 1) for n in range(terms)], x)
    return tf.where(x < 0.1, x * series, 1 - tf.exp(-x))


def density_of(factors: Sequence[float], h: Tensor, k: Tensor, rho: Tensor) -> Integrand:
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


def difference_of(factors: Sequence[float], h: Tensor, k: Tensor, rho: Tensor) -> Integrand:
    """density_of, less the same with k = 0, less that with h = 0, plus that with both 0; h, k > 0.

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


def conditional(
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
    narrow = width * bell(middle) * (1 + width * width * (middle * middle - 1) / 24)
    return tf.where(width < 0.1, narrow, _below(high) - _below(low))
