"""Elementary functions of tensors that the compiler vectorises and that differentiate safely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, Tensor

__all__ = ["arcsin", "correlation_statistics", "polynomial", "root_of"]

# Chebyshev expansion of (arcsin(s) / s - 1) / s^2. Error of arcsin: 5e-10 and 1.2e-19.
_P = {
    tf.float32: (
        0.16666666316763595,
        0.07500098762726146,
        0.04459803222965996,
        0.03111615643856706,
        0.01707785937138728,
        0.033805748308875325,
    ),
    tf.float64: (
        0.16666666666666666,
        0.07500000000000125,
        0.04464285714253574,
        0.030381944476963723,
        0.02237215737767329,
        0.01735281834070849,
        0.013963748435199949,
        0.011566830427132645,
        0.009618864779963437,
        0.009335970060991405,
        0.0029838811037374503,
        0.01970071180526169,
        -0.01944563642504257,
        0.0297378456439969,
    ),
}


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


@tf.custom_gradient  # type: ignore[untyped-decorator]
def root_of(x: Tensor) -> tuple[Tensor, Any]:
    """sqrt(max(x, 0)), with a derivative of 0 where x is not positive.

    The true derivative is infinite there, and its factor is 0 wherever it is used: for a window
    of black pixels, and for an image paired with itself.
    """
    root = tf.sqrt(tf.maximum(x, 0))
    return root, lambda upstream: tf.math.divide_no_nan(upstream, 2 * root)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def arcsin(r: Tensor) -> Tensor:
    """The angle in [-pi/2, pi/2] whose sine is r, to the precision of the type.

    A polynomial, because the library's arcsin is a slow call per number.

    Math: arcsin(s) = s + s z P(z) with z = s^2 for s <= 1/2, and pi/2 - 2 arcsin(sqrt((1 - s) / 2))
        above: P is needed on [0, 1/4] alone, far from its singularity at 1.
    """
    size = tf.minimum(tf.abs(r), 1)
    low = size <= 0.5
    z = tf.where(low, size * size, (1 - size) / 2)
    s = tf.where(low, size, tf.sqrt((1 - size) / 2))
    angle = s + s * z * polynomial(_P[r.dtype], z)
    signed = tf.sign(r) * tf.where(low, angle, math.pi / 2 - 2 * angle)
    return signed, lambda upstream: upstream * tf.math.rsqrt((1 - r) * (1 + r))
