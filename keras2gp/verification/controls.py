"""Control variates of random networks: what is known to have the mean 1, from the same weights.

Given its input, the output x of a layer with random weights is Gaussian in every unit, its variance
s^2 being a sum of squares over what it sees (taps.py); beside an older summand o it is o + x. So

    even = mean over units of x^2    - (o^2 + s^2)
    odd  = mean over units of x |x|  - E[x |x|],     q = mean over units of o^2 + s^2

have the mean 0 given all weights drawn before, at every position of the map and at any width. With
weights a, b that do not depend on the draw, positions p being weighted by b, so has

    c = a1 (sum_p b1 even) / (sum_p b1 q) + a2 (sum_p b2 odd) / (sum_p b2 q),

and the product over layers of 1 + c has the mean 1: it is a martingale. The output's second moment
is nearly such a product (of a chain of ReLUs in one position it is one: even + odd is all that
relu(x)^2 = (x^2 + x |x|) / 2 may do), so that m - M (product - 1) has the mean of m, whatever the
constant M, and nearly nothing of its fluctuation.

The weights are what the output's variance hangs on, by automatic differentiation in pilot networks
of their own: of log m, sum_u x d/dx / 2 for even and sum_u |x| d/dx / 2 for odd. Their sum over
positions is a, and their ratio to q is b. Bad weights would cost precision, and never the mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array
from keras2gp.verification.taps import Tap

__all__ = ["Departure", "Influence", "departures", "influences", "products", "sensitivities"]


_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Departure:
    """How far the values of a tap are from what they are expected to be: [images, positions].

    values: those of the tap
    axis:   of their units
    """

    even: Any
    odd: Any
    expected: Any
    values: Any
    axis: int


@dataclass(frozen=True, eq=False)
class Influence:
    """What departures of one kind and one tap do to the logarithm of the output's variance.

    share:   the sum over positions
    profile: [positions], from 0
    """

    share: float
    profile: Array


def departures(taps: Sequence[Tap], outputs: Sequence[Any], images: int) -> list[Departure]:
    """From the tensors of the taps, one after the other."""
    left = iter(outputs)
    found = []
    for tap in taps:
        x, variance = next(left), next(left)
        centre = 0.0 if tap.centre is None else next(left)

        def over_units(values: Any, axis: int = tap.axis) -> Any:
            return tf.reshape(tf.reduce_mean(values, axis), [images, -1])

        expected, odd = over_units(variance), x * tf.abs(x)
        if tap.centre is not None:
            expected += over_units(tf.square(centre))
            odd -= _odd_mean(centre, variance)
        even = over_units(tf.square(x)) - expected
        found.append(Departure(even, over_units(odd), expected, x, tap.axis))
    return found


def _odd_mean(centre: Any, variance: Any) -> Any:
    """E[x |x|] of x ~ N(centre, variance)."""
    deviation = tf.sqrt(tf.maximum(variance, _TINY))
    ratio = centre / deviation
    bulk = (tf.square(centre) + variance) * tf.math.erf(ratio / math.sqrt(2.0))
    edge = centre * deviation * math.sqrt(2.0 / math.pi) * tf.exp(-tf.square(ratio) / 2.0)
    return bulk + edge


def sensitivities(found: Sequence[Departure], gradients: Sequence[Any]) -> list[Any]:
    """For each tap [3, images, positions]: of log m to even and odd, and the expected squares.

    gradients: of the sum of log m over images, with respect to the values of the taps
    """
    results = []
    for departure, gradient in zip(found, gradients, strict=True):
        x, axis = departure.values, departure.axis
        parts = [tf.reduce_sum(factor * gradient, axis) / 2.0 for factor in (x, tf.abs(x))]
        shape = tf.shape(departure.expected)
        mean = tf.reduce_mean(departure.expected, axis=1, keepdims=True)
        scaled = tf.math.divide_no_nan(departure.expected, mean)
        results.append(tf.stack([*(tf.reshape(part, shape) for part in parts), scaled]))
    return results


def influences(pilots: Array) -> tuple[Influence, Influence]:
    """Of even and odd departures of one tap: [networks, 3, images, positions] sensitivities."""
    even, odd, expected = np.moveaxis(np.asarray(pilots, np.float64), 1, 0)
    squares = expected.sum(axis=(0, 1))
    return _influence(even, squares), _influence(odd, squares)


def _influence(sensitivity: Array, squares: Array) -> Influence:
    shares = sensitivity.sum(axis=2).mean(axis=1)
    share, doubt = shares.mean(), shares.var() / (len(shares) - 1)
    # What may be chance is taken for nothing (James and Stein, the positive part).
    share *= max(0.0, 1.0 - doubt / max(share**2, _TINY))
    profile = np.maximum(sensitivity.sum(axis=(0, 1)) / np.maximum(squares, _TINY), 0.0)
    if profile.sum() <= 0.0:
        profile = np.ones_like(profile)
    return Influence(float(share), profile / profile.sum())


def products(
    found: Sequence[Departure], weights: Sequence[tuple[Influence, Influence]], images: int
) -> Any:
    """[images, images] in float64: of mean 1, that of (i, j) follows m_ij.

    Its factors are 1 + (c_i + c_j) / 2, c_i being the departure of image i.
    """
    result = tf.ones([images, images], tf.float64)
    for departure, (even, odd) in zip(found, weights, strict=True):
        change = tf.zeros([images], tf.float64)
        for values, influence in ((departure.even, even), (departure.odd, odd)):
            if influence.share:
                change += influence.share * _weighted(values, departure.expected, influence.profile)
        result *= 1.0 + (change[:, None] + change[None]) / 2.0
    return result


def _weighted(values: Any, expected: Any, profile: Array) -> Any:
    """Ratio of weighted sums over positions, [images]; 0 where nothing is expected."""
    above, below = (
        tf.reduce_sum(tf.cast(v, tf.float64) * profile, axis=1) for v in (values, expected)
    )
    return tf.math.divide_no_nan(above, below)
