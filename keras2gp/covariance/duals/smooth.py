"""Dual activations of smooth functions in closed form: erf, gelu, sin, cos and exp."""

from __future__ import annotations

import math

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap
from keras2gp.covariance.dual import LARGEST_ERROR, Dual, Statistics, rounding_of
from keras2gp.covariance.duals.elementary import arcsin, root_of, same_sign
from keras2gp.covariance.registry import dual

__all__ = ["Cos", "Erf", "Exp", "Gelu", "Sin"]


def _determinant(p: PairMap, c: PairMap, q1: ImageMap, q2: ImageMap) -> tuple[PairMap, PairMap]:
    """(1 + q1) (1 + q2) - c^2 and q1 q2 - c^2 without cancellation, for p = sqrt(q1 q2).

    Where variances are large the difference of the products has no digits.

    Math: 1 + q1 + q2 + (p - c) (p + c).
    """
    rest = tf.maximum((p - c) * (p + c), 0)
    return 1 + q1 + q2 + rest, rest


@dual("erf")
class Erf(Dual):
    """(2/pi) arcsin(2c / sqrt((1 + 2 q1)(1 + 2 q2))).

    Math: E[phi' phi'] = (4/pi) / sqrt((1 + 2 q1)(1 + 2 q2) - 4 c^2), on the diagonal
        (4/pi) / sqrt(1 + 4q) and arcsin(2q / (1 + 2q)) = arctan(2q / sqrt(1 + 4q)).
    References: equation 14 of the paper; Williams 1997, Computing with infinite networks.
    """

    vanishes = True
    saturates = True

    def prepare(self, q: ImageMap) -> Statistics:
        steepness = (2 * q) ** (2 / 3) * (1 + 4 * q) ** (1 / 6)
        return root_of(2 * q), tf.math.rsqrt(1 + 2 * q), steepness

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        inverse = s1[1] * s2[1]
        determinant, _ = _determinant(s1[0] * s2[0], 2 * c, s1[0] * s1[0], s2[0] * s2[0])
        return (2 / math.pi) * arcsin(2 * c * inverse, determinant * inverse * inverse)

    def second_moment(self, q: ImageMap) -> ImageMap:
        return (2 / math.pi) * tf.atan(2 * q * tf.math.rsqrt(1 + 4 * q))

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        determinant, _ = _determinant(s1[0] * s2[0], 2 * c, s1[0] * s1[0], s2[0] * s2[0])
        # Rounding of c changes the determinant D by 2 e q1 q2, and the dual relative to its
        # diagonal by e q1 q2 D^(-3/2) (1 + 4 q1)^(1/4) (1 + 4 q2)^(1/4); twice that at D's least.
        least = (2 * rounding_of(c) / LARGEST_ERROR) ** (2 / 3) * s1[2] * s2[2]
        resolved = tf.where(determinant < least, tf.constant(math.nan, c.dtype), determinant)
        return (4 / math.pi) * tf.math.rsqrt(resolved)

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return (4 / math.pi) * tf.math.rsqrt(1 + 4 * q)

    def mean(self, q: ImageMap) -> ImageMap:
        return tf.zeros_like(q)

    def slope(self, q: ImageMap) -> ImageMap:
        return (2 / math.sqrt(math.pi)) * tf.math.rsqrt(1 + 2 * q)


@dual("gelu")
class Gelu(Dual):
    """u Phi(u): c (1/4 + arcsin(r) / 2 pi) + p (q1 q2 + c^2 (1/(1+q1) + 1/(1+q2) - 1)).

    Math: r = c / sqrt((1 + q1)(1 + q2)), p = 1 / (2 pi sqrt(D)), D = (1 + q1)(1 + q2) - c^2. The
        bracket is q1 q2 - c^2 + c^2 (i1 + i2), a sum of positive terms, with i = 1 / (1 + q), and
        E[phi' phi'] = 1/4 + arcsin(r) / 2 pi + p c (i1 + i2 + 1 / D).
        On the diagonal D = 1 + 2q and arcsin(r) = arctan(q / sqrt(1 + 2q)).
    References: Stein's lemma twice, E[u F(u, v)] = q1 E[dF/du] + c E[dF/dv].
    """

    def prepare(self, q: ImageMap) -> Statistics:
        inverse = tf.math.rsqrt(1 + q)
        return root_of(q), inverse, inverse * inverse

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        positive, determinant, rest = self._terms(c, s1, s2)
        rest = (rest + c * c * (s1[2] + s2[2])) * (1 / (2 * math.pi))
        return c * positive + rest * tf.math.rsqrt(determinant)

    def second_moment(self, q: ImageMap) -> ImageMap:
        inverse = tf.math.rsqrt(1 + 2 * q)
        return q * (0.25 + (tf.atan(q * inverse) + 2 * q * inverse / (1 + q)) / (2 * math.pi))

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        positive, determinant, _ = self._terms(c, s1, s2)
        size = tf.math.rsqrt(determinant * (4 * math.pi**2))
        return positive + c * size * (s1[2] + s2[2] + 1 / determinant)

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        inverse = tf.math.rsqrt(1 + 2 * q)
        rest = q * inverse * (2 / (1 + q) + inverse * inverse)
        return 0.25 + (tf.atan(q * inverse) + rest) / (2 * math.pi)

    def mean(self, q: ImageMap) -> ImageMap:
        return q * tf.math.rsqrt(2 * math.pi * (1 + q))

    def slope(self, q: ImageMap) -> ImageMap:
        return tf.fill(tf.shape(q), tf.constant(0.5, q.dtype))

    def _terms(self, c: PairMap, s1: Statistics, s2: Statistics) -> tuple[PairMap, ...]:
        """1/4 + arcsin(r) / 2 pi, D and q1 q2 - c^2.

        A root that two terms read would be written to memory: each takes one of its own.
        """
        (size1, root1, _), (size2, root2, _) = s1, s2
        determinant, rest = _determinant(size1 * size2, c, size1 * size1, size2 * size2)
        root = root1 * root2
        return same_sign(c * root, tf.sqrt(determinant) * root), determinant, rest


@dual("sin")
class Sin(Dual):
    """exp(-(q1 + q2) / 2) sinh(c).

    Math: the imaginary parts of E[exp(i (u +- v))] = exp(-(q1 + q2) / 2 -+ c).
    """

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        # One exponential of |c| - half, never positive: sinh(c) alone overflows at c = 89.
        return 0.5 * tf.sign(c) * _wave(c, s1, s2) * -tf.math.expm1(-2 * tf.abs(c))

    def second_moment(self, q: ImageMap) -> ImageMap:
        return -0.5 * tf.math.expm1(-2 * q)

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return Cos().second_moment(q)

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return Cos().covariance(c, s1, s2)

    def mean(self, q: ImageMap) -> ImageMap:
        return tf.zeros_like(q)

    def slope(self, q: ImageMap) -> ImageMap:
        return tf.exp(-q / 2)


@dual("cos")
class Cos(Dual):
    """exp(-(q1 + q2) / 2) cosh(c).

    Math: the real parts of E[exp(i (u +- v))] = exp(-(q1 + q2) / 2 -+ c).
    """

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return 0.5 * _wave(c, s1, s2) * (1 + tf.exp(-2 * tf.abs(c)))

    def second_moment(self, q: ImageMap) -> ImageMap:
        return 0.5 * (1 + tf.exp(-2 * q))

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return Sin().second_moment(q)

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return Sin().covariance(c, s1, s2)

    def mean(self, q: ImageMap) -> ImageMap:
        return tf.exp(-q / 2)

    def slope(self, q: ImageMap) -> ImageMap:
        return tf.zeros_like(q)


def _wave(c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
    """exp(|c| - (q1 + q2) / 2); not a number where rounding of c changes it by LARGEST_ERROR."""
    size = tf.abs(c)
    value = tf.exp(size - (s1[0] + s2[0]) / 2)
    lost = value * size > LARGEST_ERROR / rounding_of(c)
    return tf.where(lost, tf.constant(math.nan, c.dtype), value)


@dual("exp")
class Exp(Dual):
    """exp((q1 + q2) / 2 + c).

    Math: the moment generating function of u + v at 1. It overflows at large variances.
    """

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return tf.exp((s1[0] + s2[0]) / 2 + c)

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self.covariance(c, s1, s2)

    def mean(self, q: ImageMap) -> ImageMap:
        return tf.exp(q / 2)

    def slope(self, q: ImageMap) -> ImageMap:
        return tf.exp(q / 2)


dual("exponential")(Exp)
