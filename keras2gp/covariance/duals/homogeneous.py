"""Dual activations of positively homogeneous functions: phi(t u) = t^n phi(u) for t > 0.

They depend on rho alone, up to the scale (q1 q2)^(n/2). All follow from that of the absolute
value, since leaky_relu(u) = (1+a)/2 u + (1-a)/2 |u|, and u and |v| are uncorrelated.

Math: E|u||v| = |c| + 4 sqrt(q1 q2) g(|rho|),  g(t) = (sqrt(1 - t^2) - t arccos t) / 2 pi.
    g falls from 1 / 2 pi at 0 to 0 at 1, where it goes as (1 - t)^(3/2); g(t) / sqrt(1 - t) is
    analytic on [0, 1]. That quotient is a polynomial to the precision of the type: a few
    multiplications that the compiler vectorises, where arccos is a slow library call.
References: Cho and Saul 2009, Kernel methods for deep learning (arc-cosine kernels).
"""

from __future__ import annotations

import math

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.dual import Dual, Statistics, rounding_of
from keras2gp.covariance.duals.elementary import (
    ANGLE,
    angle_of,
    arcsin,
    correlation_statistics,
    polynomial,
    root_of,
)
from keras2gp.covariance.registry import dual

__all__ = ["Abs", "LeakyRelu", "Relu", "Step", "TwoSlopes"]

# g(t) / sqrt(1 - t). Error of g in float32: 2.9e-8, evaluated 4.8e-8 (least maximal error);
# in float64: 1.8e-17, evaluated 5.2e-17 (interpolated at Chebyshev points).
_G = {
    tf.float32: (
        0.159154914,
        -0.170419919,
        0.0142225294,
        -0.00401988251,
        0.00133766986,
        -0.000275673236,
    ),
    tf.float64: (
        0.15915494309189532,
        -0.17042252845404213,
        0.01426057520442435,
        -0.004225344472984643,
        0.001866936773101928,
        -0.0010086407880637912,
        0.0006152976531449123,
        -0.0004068452846824333,
        0.00028383522554199054,
        -0.00020325209740530947,
        0.0001435525019599779,
        -9.44598879312132e-05,
        5.4004606497796084e-05,
        -2.4816263643354914e-05,
        8.36070638102041e-06,
        -1.8033335757482906e-06,
        1.8481938134166685e-07,
    ),
}


def _g(t: Tensor) -> Tensor:
    """g(t) = (sqrt(1 - t^2) - t arccos t) / 2 pi, for t in [0, 1] up to rounding."""
    return root_of(1 - t) * polynomial(_G[t.dtype], t)


def _same_sign(c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
    """P(u > 0, v > 0) = (pi - arccos rho) / 2 pi."""
    t = tf.abs(c) * s1[1] * s2[1]
    angle = angle_of(t)
    return tf.where(c > 0, 0.5 - angle, angle)


def _parts(c: PairMap, s1: Statistics, s2: Statistics) -> tuple[PairMap, PairMap]:
    """|c| and sqrt(q1 q2) g(|rho|): E|u||v| is the first plus four times the second."""
    (root1, inverse1), (root2, inverse2) = s1, s2
    size = tf.abs(c)
    return size, _g(size * inverse1 * inverse2) * root1 * root2


def _slopes(c: PairMap, s1: Statistics, s2: Statistics) -> tuple[PairMap, PairMap]:
    """P(u > 0, v > 0), and sqrt(q1 q2 - c^2) / 2 pi.

    The latter is the derivative of sqrt(q1 q2) g(|rho|) by log sqrt(q1), at a c. A correlation
    within rounding of 1 is 1: of an image with its copy both slopes are then those of its variance,
    which weights of 1e10 in a nearly singular matrix ask for. sqrt(1 - t) would be 1e-8.
    """
    t = tf.abs(c) * s1[1] * s2[1]
    rest = 1 - t
    rest = tf.where(rest < 8 * rounding_of(c), tf.zeros_like(rest), rest)
    angle = tf.sqrt(rest) * polynomial(ANGLE[t.dtype], t)
    sine = tf.sqrt(rest * (1 + t)) * (s1[0] * s2[0]) / (2 * math.pi)
    return tf.where(c > 0, 0.5 - angle, angle), sine


@dual("relu")
class Relu(Dual):
    """max(u, 0): sqrt(q1 q2) (sqrt(1 - rho^2) + (pi - arccos rho) rho) / 2 pi.

    Math: E[phi phi] = max(c, 0) / 2 + sqrt(q1 q2) g(|rho|), exact to rounding at every variance;
        E[phi' phi'] = (pi - arccos rho) / 2 pi, whose error next to |rho| = 1 is about
        sqrt(eps) / 2 pi, because arccos has a vertical tangent there.
    References: equation 13 of the paper; Cho and Saul 2009, order 1.
    """

    anywhere = True

    def prepare(self, q: ImageMap) -> Statistics:
        return correlation_statistics(q)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        size, rest = _parts(c, s1, s2)
        return (c + size) / 4 + rest

    def second_moment(self, q: ImageMap) -> ImageMap:
        return q / 2

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return _same_sign(c, s1, s2)

    def slopes(self, c: PairMap, s1: Statistics, s2: Statistics) -> tuple[PairMap, PairMap]:
        return _slopes(c, s1, s2)

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return tf.fill(tf.shape(q), tf.constant(0.5, q.dtype))

    def mean(self, q: ImageMap) -> ImageMap:
        return tf.sqrt(q / (2 * math.pi))

    def slope(self, q: ImageMap) -> ImageMap:
        return tf.fill(tf.shape(q), tf.constant(0.5, q.dtype))


class TwoSlopes(Dual):
    """b u if u > 0 else a u: ((b+a)/2)^2 c + ((b-a)/2)^2 E|u||v|.

    Exact to rounding, for any slopes; the module says how E|u||v| is computed.
    """

    anywhere = True

    def __init__(self, left: float, right: float) -> None:
        self.left, self.right = left, right
        self.odd = ((right + left) / 2) ** 2
        self.even = ((right - left) / 2) ** 2
        self.size = (right - left) / 2

    def prepare(self, q: ImageMap) -> Statistics:
        return correlation_statistics(q)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        size, rest = _parts(c, s1, s2)
        return self.odd * c + self.even * (size + 4 * rest)

    def second_moment(self, q: ImageMap) -> ImageMap:
        return (self.odd + self.even) * q

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self.odd + self.even * (4 * _same_sign(c, s1, s2) - 1)

    def slopes(self, c: PairMap, s1: Statistics, s2: Statistics) -> tuple[PairMap, PairMap]:
        positive, sine = _slopes(c, s1, s2)
        return self.odd + self.even * (4 * positive - 1), 4 * self.even * sine

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return tf.fill(tf.shape(q), tf.constant(self.odd + self.even, q.dtype))

    def mean(self, q: ImageMap) -> ImageMap:
        return self.size * tf.sqrt(2 * q / math.pi)

    def slope(self, q: ImageMap) -> ImageMap:
        return tf.fill(tf.shape(q), tf.constant((self.left + self.right) / 2, q.dtype))


@dual("leaky_relu")
class LeakyRelu(TwoSlopes):
    """u if u > 0 else a u: ((1+a)/2)^2 c + ((1-a)/2)^2 E|u||v|."""

    def __init__(self, negative_slope: float = 0.2) -> None:
        super().__init__(negative_slope, 1.0)


@dual("abs")
class Abs(LeakyRelu):
    """|u|: sqrt(q1 q2) (2/pi) (sqrt(1 - rho^2) + rho arcsin rho)."""

    def __init__(self) -> None:
        super().__init__(negative_slope=-1.0)


dual("absolute")(Abs)


@dual("heaviside")
class Step(Dual):
    """1 if u > 0 else 0: 1/4 + arcsin(rho) / 2 pi.

    `at_zero` is phi(0), which matters only where the variance is 0. The error next to |rho| = 1
    is about sqrt(eps) / 2 pi. There is no tangent kernel, because phi jumps.
    References: Cho and Saul 2009, order 0.
    """

    differentiable = False

    anywhere = True

    def __init__(self, at_zero: float = 0.0) -> None:
        self.at_zero = at_zero

    def prepare(self, q: ImageMap) -> Statistics:
        return correlation_statistics(q)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        (root1, inverse1), (root2, inverse2) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        square = (1 - rho) * (1 + rho)
        generic = 0.25 + arcsin(rho, square) / (2 * math.pi)
        # phi is the constant at_zero where the variance is 0, of mean 1/2 elsewhere.
        mean1 = tf.where(root1 > 0, tf.constant(0.5, c.dtype), tf.constant(self.at_zero, c.dtype))
        mean2 = tf.where(root2 > 0, tf.constant(0.5, c.dtype), tf.constant(self.at_zero, c.dtype))
        return tf.where(root1 * root2 > 0, generic, mean1 * mean2)

    def second_moment(self, q: ImageMap) -> ImageMap:
        half = tf.fill(tf.shape(q), tf.constant(0.5, q.dtype))
        return tf.where(q > 0, half, tf.constant(self.at_zero**2, q.dtype))

    def mean(self, q: ImageMap) -> ImageMap:
        half = tf.fill(tf.shape(q), tf.constant(0.5, q.dtype))
        return tf.where(q > 0, half, tf.constant(self.at_zero, q.dtype))
