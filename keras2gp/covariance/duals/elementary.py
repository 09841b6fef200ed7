"""Elementary functions of tensors that the compiler vectorises and that differentiate safely."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, Tensor
from keras2gp.covariance.subprograms import is_differentiable

__all__ = [
    "ANGLE",
    "FALL_ERROR",
    "angle_of",
    "arcsin",
    "correlation_statistics",
    "fall",
    "polynomial",
    "root_of",
    "same_sign",
]

# (arcsin(s) / s - 1) / s^2 in powers of s^2 on [0, 1/2], interpolated at Chebyshev points. Relative
# error of arcsin: 8e-9 and 2e-18.
_ARCSIN = {
    tf.float32: (
        0.16666665678222276,
        0.07500252166088593,
        0.04453881306611123,
        0.03199025158232729,
        0.01043524691163935,
        0.06379723326209698,
        -0.07972112605962907,
        0.09469760485138952,
    ),
    tf.float64: (
        0.16666666666666666,
        0.0750000000000028,
        0.04464285714211391,
        0.03038194452250439,
        0.02237215476541799,
        0.017352910488769618,
        0.013961569436437523,
        0.01160329975955509,
        0.009171598464529217,
        0.013442485325884277,
        -0.025581899226774635,
        0.17101416863660546,
        -0.6297236309693071,
        1.8963458973999023,
        -4.2976440364285695,
        7.35870982573149,
        -9.158699394795086,
        7.883024025891735,
        -4.201947387954294,
        1.0656739743044426,
    ),
}

# arccos(t) / (2 pi sqrt(1 - t)), interpolated at Chebyshev points. Error of arccos(t) / 2 pi in
# float32: 4.5e-9, evaluated 3e-8; in float64: evaluated 5.6e-17.
ANGLE = {
    tf.float32: (
        0.249999995,
        -0.0341543572,
        0.0141598328,
        -0.00797593906,
        0.00488957765,
        -0.00268033674,
        0.00103315772,
        -0.000192854056,
    ),
    tf.float64: (
        0.25,
        -0.03415494309189174,
        0.014172528453617937,
        -0.00808392748719531,
        0.005360542824585767,
        -0.003879288532125373,
        0.0029717291442209193,
        -0.002368817118072462,
        0.001942362346498634,
        -0.0016200799629488489,
        0.001351006183334478,
        -0.0010937670056200817,
        0.000823439466665662,
        -0.0005469417608853342,
        0.00030261517429136753,
        -0.00013090774527615794,
        4.0877900299419374e-05,
        -8.113302592444484e-06,
        7.63552370091429e-07,
    ),
}


# arccos(t) / (2 pi sqrt(1 - t^2)), interpolated at Chebyshev points. Error of arccos(t) / 2 pi:
# 3e-9 and 5e-17.
_TURN = {
    tf.float32: (
        0.24999999683206856,
        -0.159154306521013,
        0.12497849190483563,
        -0.10581540168919948,
        0.09173907220355282,
        -0.07649199842353135,
        0.05544755485562254,
        -0.03057428857421149,
        0.010802439524461369,
        -0.001776618654465496,
    ),
    tf.float64: (
        0.24999999999999994,
        -0.1591549430918548,
        0.12499999999457385,
        -0.10610329510491606,
        0.09374999177587368,
        -0.08488249278088711,
        0.07812332042610586,
        -0.07274259425970196,
        0.06827376452979549,
        -0.0642728950052336,
        0.06007301617362215,
        -0.054626011064247235,
        0.046774427642798294,
        -0.03614700982033536,
        0.02404230625186194,
        -0.01308674112778925,
        0.005507406363069096,
        -0.0016624871677705657,
        0.0003179888355496837,
        -2.880947861874454e-05,
    ),
}


_FALL, _LAST = [(-1) ** n / math.factorial(n) for n in range(7)], 20.0
FALL_ERROR = 2e-8
"""Largest error of `fall` in float32, apart from rounding."""


def correlation_statistics(q: ImageMap) -> tuple[ImageMap, ImageMap]:
    """sqrt(q) and 1 / sqrt(q), the latter 0 where q is 0: a constant correlates with nothing."""
    root = root_of(q)
    return root, tf.math.divide_no_nan(tf.ones_like(root), root)


def polynomial(coefficients: Sequence[float], t: Tensor) -> Tensor:
    """sum of coefficients[n] t^n, by Horner's rule."""
    value: Tensor = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = value * t + coefficient
    return value


def fall(x: Tensor) -> Tensor:
    """exp(-x) for x >= 0, in float32 to FALL_ERROR in half of the time of the library's.

    Math: exp(-x / 16)^16, by Taylor's formula for x / 16 up to 5/4; the rest is taken for 20.
    """
    if x.dtype != tf.float32:
        return tf.exp(-x)
    value = polynomial(_FALL, tf.minimum(x, _LAST) * (1 / 16))
    for _ in range(4):
        value *= value
    return value


def root_of(x: Tensor) -> Tensor:
    """sqrt(max(x, 0)), with a derivative of 0 where x is not positive (see `differentiable`).

    The true derivative is infinite there, and its factor is 0 wherever it is used: for a window
    of black pixels, and for an image paired with itself.
    """
    if not is_differentiable():
        return tf.sqrt(tf.maximum(x, 0))
    outside = x <= 0
    root = tf.sqrt(tf.where(outside, tf.ones_like(x), x))
    return tf.where(outside, tf.zeros_like(x), root)


def angle_of(t: Tensor) -> Tensor:
    """arccos(t) / 2 pi for t in [0, 1] up to rounding."""
    return root_of(1 - t) * polynomial(ANGLE[t.dtype], t)


def same_sign(r: Tensor, cosine: Tensor) -> Tensor:
    """1/4 + arcsin(r) / 2 pi; cosine is sqrt(1 - r^2), to all its digits.

    This is P(u > 0, v > 0) for u and v of correlation r.
    """
    angle = cosine * polynomial(_TURN[r.dtype], tf.abs(r))
    return tf.where(r > 0, 0.5 - angle, angle)


def arcsin(r: Tensor, square: Tensor) -> Tensor:
    """The angle in [-pi/2, pi/2] whose sine is r, to the precision of the type.

    A polynomial, because the library's arcsin is a slow call per number.

    square: 1 - r^2, not negative; a caller may know it with more digits than r has next to 1. The
        derivative (see `differentiable`) is that by r alone.

    Math: arcsin(s) = s + s^3 P(s^2) for s^2 <= 1/2, and pi/2 - arcsin(sqrt(1 - s^2)) above: P is
        needed on [0, 1/2] alone, far from its singularity at 1.
    """
    size = tf.abs(r)
    low = r * r <= 0.5
    s, z = tf.where(low, size, tf.sqrt(square)), tf.where(low, r * r, square)
    angle = s + s * z * polynomial(_ARCSIN[r.dtype], z)
    angle = tf.where(low, angle, math.pi / 2 - angle)
    angle = tf.where(r < 0, -angle, angle)
    if not is_differentiable():
        return angle
    slope = tf.math.divide_no_nan(tf.ones_like(r), tf.sqrt(square))
    return tf.stop_gradient(angle) + (r - tf.stop_gradient(r)) * tf.stop_gradient(slope)
