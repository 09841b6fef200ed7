"""Dual activations of smooth functions in closed form: erf, gelu, sin, cos and exp."""

from __future__ import annotations

import math

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap
from keras2gp.covariance.duals.base import Dual, Statistics
from keras2gp.covariance.duals.elementary import arcsin
from keras2gp.covariance.registry import dual

__all__ = ["Cos", "Erf", "Exp", "Gelu", "Sin"]


@dual("erf")
class Erf(Dual):
    """(2/pi) arcsin(2c / sqrt((1 + 2 q1)(1 + 2 q2))).

    References: equation 14 of the paper; Williams 1997, Computing with infinite networks.
    """

    vanishes = True

    def prepare(self, q: ImageMap) -> Statistics:
        return (tf.math.rsqrt(1 + 2 * q),)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        # Rounding may lift it beyond 1 where the variances are large.
        return (2 / math.pi) * arcsin(tf.clip_by_value(2 * c * s1[0] * s2[0], -1, 1))

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        r = 2 * c * s1[0] * s2[0]
        return (4 / math.pi) * s1[0] * s2[0] * tf.math.rsqrt((1 - r) * (1 + r))

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return (4 / math.pi) * tf.math.rsqrt(1 + 4 * q)

    def mean(self, q: ImageMap) -> ImageMap:
        return tf.zeros_like(q)


@dual("gelu")
class Gelu(Dual):
    """u Phi(u): c (1/4 + arcsin(r) / 2 pi) + p (q1 q2 + c^2 (1/(1+q1) + 1/(1+q2) - 1)).

    Math: r = c / sqrt((1 + q1)(1 + q2)), p = 1 / (2 pi sqrt((1 + q1)(1 + q2) - c^2)).
    References: Stein's lemma twice, E[u F(u, v)] = q1 E[dF/du] + c E[dF/dv].
    """

    def prepare(self, q: ImageMap) -> Statistics:
        return q, tf.math.rsqrt(1 + q), 1 / (1 + q)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        q1, root1, inverse1 = s1
        q2, root2, inverse2 = s2
        r = c * root1 * root2
        p = root1 * root2 * tf.math.rsqrt(1 - r * r) / (2 * math.pi)
        return c * (0.25 + arcsin(r) / (2 * math.pi)) + p * (
            q1 * q2 + c * c * (inverse1 + inverse2 - 1)
        )

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        q1, root1, inverse1 = s1
        q2, root2, inverse2 = s2
        r = c * root1 * root2
        rest = (1 - r) * (1 + r)
        p = root1 * root2 * tf.math.rsqrt(rest) / (2 * math.pi)
        w = inverse1 + inverse2 - 1
        slope = c + 2 * c * w + root1 * root2 * r / rest * (q1 * q2 + c * c * w)
        return 0.25 + arcsin(r) / (2 * math.pi) + p * slope

    def mean(self, q: ImageMap) -> ImageMap:
        return q * tf.math.rsqrt(2 * math.pi * (1 + q))


@dual("sin")
class Sin(Dual):
    """exp(-(q1 + q2) / 2) sinh(c).

    Math: the imaginary parts of E[exp(i (u +- v))] = exp(-(q1 + q2) / 2 -+ c).
    """

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        half, size = (s1[0] + s2[0]) / 2, tf.abs(c)
        # One exponential of |c| - half, never positive: sinh(c) alone overflows at c = 89.
        return 0.5 * tf.sign(c) * tf.exp(size - half) * -tf.math.expm1(-2 * size)

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return Cos().covariance(c, s1, s2)

    def mean(self, q: ImageMap) -> ImageMap:
        return tf.zeros_like(q)


@dual("cos")
class Cos(Dual):
    """exp(-(q1 + q2) / 2) cosh(c).

    Math: the real parts of E[exp(i (u +- v))] = exp(-(q1 + q2) / 2 -+ c).
    """

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        half = (s1[0] + s2[0]) / 2
        return 0.5 * (tf.exp(c - half) + tf.exp(-c - half))

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return Sin().covariance(c, s1, s2)

    def mean(self, q: ImageMap) -> ImageMap:
        return tf.exp(-q / 2)


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


dual("exponential")(Exp)
