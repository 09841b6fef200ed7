"""Control variates: quantities of a random network whose mean is known to be 1 at any width.

Given its input, the output x of a layer with random weights is Gaussian in every unit. Its variance
s^2 is a sum of squares over the inputs that the unit sees (taps.py). Beside an older summand o the
sum is Gaussian of mean o. So

    even = mean over units of x^2    - (o^2 + s^2)
    odd  = mean over units of x |x|  - E[x |x|],     q = mean over units of o^2 + s^2

have the mean 0 given all weights drawn before, at every position of the map and at any width. The
same holds, with weights a and b that do not depend on the draw, b weighting the positions p, for

    c = a1 (sum_p b1 even) / (sum_p b1 q) + a2 (sum_p b2 odd) / (sum_p b2 q),

The product over layers of 1 + c therefore has the mean 1: it is a martingale. The output's second
moment m is nearly such a product. For a chain of ReLUs in one position it is one, since
relu(x)^2 = (x^2 + x |x|) / 2. So m - M (product - 1) has the mean of m, whatever the constant M,
and hardly any of its fluctuation.

The weights are sensitivities of the output's variance, found by automatic differentiation in pilot
networks: the derivatives of log m, sum_u x d/dx / 2 for even and sum_u |x| d/dx / 2 for odd. Their
sum over positions is a, and their ratio to q is b. Other weights would cost precision, but would
not change the mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor, Vector
from keras2gp.verification.taps import Tap

__all__ = ["Departure", "Influence", "departures", "influences", "products", "sensitivities"]


_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Departure:
    """Departures of the values of one tap from their expectations.

    Attributes:
        even: Mean square over units, less its expectation: [images, positions].
        odd: The same of x |x|.
        expected: Expected mean squares, q, of the same shape.
        values: The tap's values.
        axis: Axis of their units.
    """

    even: Tensor
    odd: Tensor
    expected: Tensor
    values: Tensor
    axis: int


@dataclass(frozen=True, eq=False)
class Influence:
    """Influence of the even or odd departures of one tap on the log of the output's variance.

    Attributes:
        share: Sum over positions, a.
        profile: Weights of the positions, b, none negative: [positions].
    """

    share: float
    profile: Vector


def departures(taps: Sequence[Tap], outputs: Sequence[Tensor], images: int) -> list[Departure]:
    """Departures at all taps, from the tensors of the taps one after the other."""
    tensors = iter(outputs)
    results = []
    for tap in taps:
        x, variance = next(tensors), next(tensors)
        centre = 0.0 if tap.centre is None else next(tensors)

        def over_units(values: Tensor, axis: int = tap.axis) -> Tensor:
            return tf.reshape(tf.reduce_mean(values, axis), [images, -1])

        expected, odd = over_units(variance), x * tf.abs(x)
        if tap.centre is not None:
            expected += over_units(tf.square(centre))
            odd -= _odd_mean(centre, variance)
        even = over_units(tf.square(x)) - expected
        results.append(Departure(even, over_units(odd), expected, x, tap.axis))
    return results


def _odd_mean(centre: Tensor, variance: Tensor) -> Tensor:
    """E[x |x|] of x ~ N(centre, variance)."""
    deviation = tf.sqrt(tf.maximum(variance, _TINY))
    ratio = centre / deviation
    bulk = (tf.square(centre) + variance) * tf.math.erf(ratio / math.sqrt(2.0))
    edge = centre * deviation * math.sqrt(2.0 / math.pi) * tf.exp(-tf.square(ratio) / 2.0)
    return bulk + edge


def sensitivities(of_taps: Sequence[Departure], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Sensitivities of log m to even and odd, and expected squares: [3, images, positions] a tap.

    Args:
        of_taps: The departures at all taps.
        gradients: Of the sum of log m over images, with respect to the values of the taps.
    """
    results = []
    for departure, gradient in zip(of_taps, gradients, strict=True):
        x, axis = departure.values, departure.axis
        parts = [tf.reduce_sum(factor * gradient, axis) / 2.0 for factor in (x, tf.abs(x))]
        shape = tf.shape(departure.expected)
        mean = tf.reduce_mean(departure.expected, axis=1, keepdims=True)
        relative = tf.math.divide_no_nan(departure.expected, mean)
        results.append(tf.stack([*(tf.reshape(part, shape) for part in parts), relative]))
    return results


def influences(pilots: Array) -> tuple[Influence, Influence]:
    """Influences of even and odd departures at one tap.

    Args:
        pilots: Sensitivities in pilot networks, [networks, 3, images, positions].
    """
    even, odd, expected = np.moveaxis(np.asarray(pilots, np.float64), 1, 0)
    squares = expected.sum(axis=(0, 1))
    return _influence(even, squares), _influence(odd, squares)


def _influence(sensitivity: Array, squares: Array) -> Influence:
    shares = sensitivity.sum(axis=2).mean(axis=1)
    share, doubt = shares.mean(), shares.var() / (len(shares) - 1)
    # A share within chance shrinks to 0: the positive-part estimator of James and Stein.
    share *= max(0.0, 1.0 - doubt / max(share**2, _TINY))
    profile = np.maximum(sensitivity.sum(axis=(0, 1)) / np.maximum(squares, _TINY), 0.0)
    if profile.sum() <= 0.0:
        profile = np.ones_like(profile)
    return Influence(float(share), profile / profile.sum())


def products(
    of_taps: Sequence[Departure], weights: Sequence[tuple[Influence, Influence]], images: int
) -> Tensor:
    """Products of mean 1, [images, images] in float64: entry (i, j) follows m_ij.

    Math: prod over taps of 1 + (c_i + c_j) / 2, c_i being the departure of image i.
    """
    result = tf.ones([images, images], tf.float64)
    for departure, (even, odd) in zip(of_taps, weights, strict=True):
        change = tf.zeros([images], tf.float64)
        for values, influence in ((departure.even, even), (departure.odd, odd)):
            if influence.share:
                change += influence.share * _weighted(values, departure.expected, influence.profile)
        result *= 1.0 + (change[:, None] + change[None]) / 2.0
    return result


def _weighted(values: Tensor, expected: Tensor, profile: Vector) -> Tensor:
    """Ratio of weighted sums over positions, [images]; 0 where the expected square is 0."""
    above, below = (
        tf.reduce_sum(tf.cast(v, tf.float64) * profile, axis=1) for v in (values, expected)
    )
    return tf.math.divide_no_nan(above, below)
