"""Chebyshev: functions of sqrt(q) on [0, sqrt(limit)] as polynomials through K points.

A bound of such a polynomial of degree K at all variances follows from its values at 4 K points:
its squares are at most 1/cos(pi/4) larger in between (Ehlich and Zeller 1964).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, Matrix, Tensor, Vector
from keras2gp.covariance.dual import Limited
from keras2gp.covariance.duals.coefficients import INTERPOLATION, HermiteMoments
from keras2gp.covariance.duals.elementary import correlation_statistics

__all__ = [
    "BETWEEN",
    "Tabulated",
    "between_nodes",
    "is_smooth",
    "monomials",
    "power_series_modes",
    "roots",
    "table",
]

_ROUNDING = 1e-9
_REACH = 1e-6
"""How far a root may be beyond the limit's by rounding to float32."""
_SHORT = 28
"""Most terms that are summed in powers."""
_MOST = 201
"""Most terms of a power series."""
BETWEEN = math.sqrt(2.0)
"""Bound of a square between 4 K points, over its maximum at them."""
_points = np.polynomial.chebyshev.chebpts1


def roots(limit: float, count: int) -> Vector:
    """K values of sqrt(q), the nodes, for variances up to a limit."""
    return np.asarray((_points(count) + 1) / 2 * math.sqrt(limit))


def is_smooth(values: Matrix) -> bool:
    """Whether polynomials in sqrt(q) through the nodes hold values between them too.

    values: at the nodes, [K, n]
    """
    return bool(np.abs(_modes(values)[-3:]).max() <= INTERPOLATION * np.abs(values).max())


def between_nodes(values: Matrix) -> Matrix:
    """Values at the nodes as polynomials in sqrt(q), at four times as many points."""
    points = _points(4 * len(values))
    return np.asarray(np.polynomial.chebyshev.chebval(points, _modes(values)).T)


def _modes(values: Matrix) -> Matrix:
    """Chebyshev coefficients of values at the nodes."""
    vander = np.polynomial.chebyshev.chebvander(_points(len(values)), len(values) - 1)
    return np.asarray(np.linalg.solve(vander, values))


def power_series_modes(series: Vector) -> Vector:
    """Chebyshev coefficients on [0, 1] of sum of series[n] z^n, of 201 terms at most.

    They are exact, since a sum over as many points is.
    """
    return np.asarray(_modes_of_powers(_MOST)[:, : len(series)] @ series)


@cache
def _modes_of_powers(count: int) -> Matrix:
    """Chebyshev coefficients on [0, 1] of z^n for n < count, a column for each."""
    angles = np.pi * (np.arange(count) + 0.5) / count
    powers = np.vander((np.cos(angles) + 1) / 2, increasing=True)
    modes = np.cos(np.outer(np.arange(count), angles)) @ powers * (2 / count)
    modes[0] /= 2
    return np.asarray(modes)


@cache
def monomials(count: int) -> Matrix:
    """Coefficients of the first Chebyshev polynomials in powers, a row for each."""
    rows = np.zeros((count, count))
    for n, row in enumerate(rows):
        row[: n + 1] = np.polynomial.chebyshev.cheb2poly(np.eye(count)[n])[: n + 1]
    return rows


def table(values: Matrix, limit: float) -> Callable[[Tensor], Tensor]:
    """Columns as functions of sqrt(q), [..., B] to [..., columns, B]: fastest along many images.

    They are not numbers beyond the limit.
    """
    modes = _modes(values)
    small = np.abs(modes).max(1, initial=0.0) <= _ROUNDING * np.abs(values).max(initial=0.0)
    modes = modes[: max(len(modes) - int(np.argmin(small[::-1])), 2)]

    evaluate = _in_powers if len(modes) <= _SHORT else _by_clenshaw

    def columns(root: Tensor) -> Tensor:
        x = tf.cast(root, tf.float64) * (2 / math.sqrt(limit)) - 1
        x = tf.where(x <= 1 + _REACH, x, tf.constant(math.nan, x.dtype))[..., None, :]
        return tf.cast(evaluate(modes, x), root.dtype)

    return columns


def _in_powers(modes: Matrix, x: Tensor) -> Tensor:
    """sum of modes[n] T_n(x) as a polynomial, whose powers cost nine digits."""
    powers = monomials(len(modes)).T @ modes
    value: Tensor = tf.constant(powers[-1][:, None], tf.float64)
    for row in powers[-2::-1]:
        value = value * x + tf.constant(row[:, None], tf.float64)
    return value


def _by_clenshaw(modes: Matrix, x: Tensor) -> Tensor:
    """sum of modes[n] T_n(x) by Clenshaw's rule: twice the time of `_in_powers`, and all digits."""
    first, *rest = (tf.constant(row[:, None], tf.float64) for row in modes)
    value, before = 0 * x, 0 * x
    for row in reversed(rest):
        value, before = 2 * x * value - before + row, value
    return x * value - before + first


class Tabulated(Limited):
    """A dual whose moments of one image are a table over sqrt(q), up to a limit."""

    def _tabulate(self, at_nodes: HermiteMoments, limit: float, *, slope: bool = False) -> bool:
        """Makes the table, with E[phi'] if a form reads it; whether it holds between its nodes."""
        columns = [at_nodes.mean, at_nodes.energy.sum(1), at_nodes.steepness.sum(1)]
        values = np.stack([*columns, *[at_nodes.slopes[:, 0]] * slope], 1)
        self._at_zero, self._columns = at_nodes.at_zero, table(values, limit)
        return is_smooth(values)

    def second_moment(self, q: ImageMap) -> ImageMap:
        root, _ = correlation_statistics(q)
        columns = self._columns(root)
        mean = self._at_zero + root * columns[..., 0, :]
        return mean * mean + q * columns[..., 1, :]

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return self._columns(correlation_statistics(q)[0])[..., 2, :]

    def mean(self, q: ImageMap) -> ImageMap:
        return self._mean(correlation_statistics(q)[0])

    def _mean(self, root: ImageMap) -> ImageMap:
        return self._at_zero + root * self._columns(root)[..., 0, :]
