"""Hermite coefficients of phi(sigma z), z standard normal: quadrature, and a table over sigma.

Math: h_n are the Hermite polynomials with E[h_m h_n] = [m = n], and
    b_n = E[phi'(sigma z) h_n(z)],   E[phi(sigma z) h_{n+1}(z)] = sigma b_n / sqrt(n + 1).
phi is split into its odd and even parts, so that all integrals are over z > 0, by Gauss-Legendre
on panels that end at the kinks of phi and shrink towards 0 with 1 / sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Matrix, Tensor, Vector

__all__ = [
    "INTERPOLATION",
    "HermiteMoments",
    "KinkedFunction",
    "Smooth",
    "Table",
    "ValueAndSlope",
    "compiled",
    "moments",
    "nodes",
]

ValueAndSlope = Callable[[Vector], tuple[Vector, Vector]]
"""A function of points [n] that gives phi and phi' there."""

INTERPOLATION = 1e-8
"""Bound of the table's relative error between its nodes; the largest is a few 1e-9."""
_LARGEST_VARIANCE = 1e12
_INTERVALS = 96
_ORDER = 10
_CACHED = 2**14
"""Points of which polynomials are computed at once: more leave the cache of a core."""
_TRACED = 64
"""Functions whose programs are kept."""
_END = math.log1p(math.sqrt(_LARGEST_VARIANCE))
_CHEBYSHEV = np.polynomial.chebyshev.chebpts1(_ORDER)
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True)
class HermiteMoments:
    """Moments of phi(sigma z), one row for each sigma.

    sigma:     standard deviations, [S]
    at_zero:   phi(0)
    mean:      (E[phi] - phi(0)) / sigma, [S]
    slopes:    b_n, [S, degree + 1]
    energy:    sum of b_n^2 / (n + 1) over all even n, and over all odd n, [S, 2]
    steepness: sum of b_n^2 over all even n, and over all odd n, [S, 2]
    """

    sigma: Vector
    at_zero: float
    mean: Vector
    slopes: Matrix
    energy: Matrix
    steepness: Matrix

    @property
    def second(self) -> Vector:
        """E[phi^2], [S]."""
        mean = self.at_zero + self.sigma * self.mean
        return np.asarray(mean**2 + self.sigma**2 * self.energy.sum(1))

    def tails(self, degree: int) -> tuple[Matrix, Matrix]:
        """The parts of `energy` and of `steepness` beyond b_degree, [S, 2] each."""
        with np.errstate(over="ignore", invalid="ignore"):
            squares = self.slopes[:, : degree + 1] ** 2
            weighted = squares / np.arange(1, degree + 2)
            return self.energy - _by_parity(weighted), self.steepness - _by_parity(squares)


def _by_parity(values: Matrix) -> Matrix:
    return np.stack([values[:, 0::2].sum(1), values[:, 1::2].sum(1)], 1)


def moments(
    phi: Callable[[Tensor], Tensor], kinks: Sequence[float], sigma: Vector, degree: int
) -> HermiteMoments:
    """The moments for every sigma > 0, with b_0 to b_degree.

    phi:   the function, of a TensorFlow tensor; TensorFlow differentiates it
    kinks: where phi or a derivative jumps
    """
    reach = math.ceil(2 * math.sqrt(degree) + 9)
    points, evaluate = [_points(s, kinks, reach) for s in sigma], _kept(phi)
    with np.errstate(over="ignore", invalid="ignore"):  # where phi overflows, so do its moments
        return _moments(evaluate, sigma, points, degree)


def _moments(
    evaluate: ValueAndSlope, sigma: Vector, points: Sequence[tuple[Vector, Vector]], degree: int
) -> HermiteMoments:
    ends = np.cumsum([len(z) for z, _ in points])[:-1]
    u = np.concatenate([s * z for s, (z, _) in zip(sigma, points, strict=True)])
    parts = [np.split(a, ends) for a in _even_and_odd(evaluate(u), evaluate(-u))]
    at_zero = float(evaluate(np.zeros(1))[0][0])
    rows: list[tuple[float, Vector, Vector]] = []
    sides = []
    for s, (z, w), even, odd, slope_even, slope_odd in zip(sigma, points, *parts, strict=True):
        density = w * np.exp(-z * z / 2) * math.sqrt(2 / math.pi)
        mean = density @ (even - at_zero)
        energy = density @ (odd**2), density @ ((even - at_zero - mean) ** 2)
        steepness = density @ slope_even**2, density @ slope_odd**2
        half = w * np.exp(-z * z / 4) * math.sqrt(2 / math.pi)
        sides.append(np.stack([half * slope_even, half * slope_odd]))
        rows.append((mean / s, np.array(energy) / s**2, np.array(steepness)))
    means, energies, steep = (np.array(c) for c in zip(*rows, strict=True))
    slopes = _slopes([z for z, _ in points], sides, degree)
    return HermiteMoments(sigma, at_zero, means, slopes, energies, steep)


def _slopes(points: Sequence[Vector], sides: Sequence[Matrix], degree: int) -> Matrix:
    """b_n for every sigma: polynomials of all sigmas with as many points are computed at once.

    sides: phi' times the weights of the points, its even part and its odd one, [2, points]
    """
    alike: dict[int, list[int]] = {}
    for row, z in enumerate(points):
        alike.setdefault(len(z), []).append(row)
    slopes = np.empty((len(points), degree + 1))
    for size, members in alike.items():
        together = max(1, _CACHED // size)
        for begin in range(0, len(members), together):
            chosen = members[begin : begin + together]
            parities = np.stack([sides[row] for row in chosen], 1)[:, :, None]
            for n, h in enumerate(_hermite(np.stack([points[row] for row in chosen]), degree)):
                slopes[chosen, n] = (parities[n % 2] @ h[..., None])[:, 0, 0]
    return slopes


def _even_and_odd(right: tuple[Vector, Vector], left: tuple[Vector, Vector]) -> Iterator[Vector]:
    """The even and odd parts of phi, then those of its derivative, from values at u and -u."""
    for plus, minus in zip(right, left, strict=True):
        yield (plus + minus) / 2
        yield (plus - minus) / 2


@dataclass(frozen=True)
class Smooth:
    """phi(u) - kappa |u|: equal ones are one function, which is traced once."""

    phi: Callable[[Tensor], Tensor]
    kappa: float

    def __call__(self, u: Tensor) -> Tensor:
        """phi(u) - kappa |u|, of the shape of u."""
        return self.phi(u) - self.kappa * tf.abs(u)


@dataclass(frozen=True)
class KinkedFunction:
    """An elementwise function, smooth but for some points.

    phi:   the function, of a TensorFlow tensor
    kinks: where phi or a derivative jumps
    kappa: half of the jump of phi' at 0
    """

    phi: Callable[[Tensor], Tensor]
    kinks: Sequence[float]
    kappa: float

    def moments(self, sigma: Vector, degree: int) -> HermiteMoments:
        """The moments of phi for every sigma > 0, with b_0 to b_degree."""
        return moments(self.phi, self.kinks, sigma, degree)

    def smooth_moments(self, sigma: Vector, degree: int) -> HermiteMoments:
        """The moments of phi(u) - kappa |u|."""
        return moments(Smooth(self.phi, self.kappa), self.kinks, sigma, degree)


def compiled(phi: Callable[[Tensor], Tensor]) -> ValueAndSlope:
    """phi and phi' at float64 points; it works while another program is traced, too."""

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        y = phi(x)
        # Symbolic: a tape records nothing within init_scope.
        slope = tf.gradients(y, x)[0]
        return y, tf.zeros_like(x) if slope is None else slope

    with tf.init_scope():
        traced = tf.function(both, autograph=False)
        program = traced.get_concrete_function(tf.TensorSpec([None], tf.float64))

    def evaluate(u: Vector) -> tuple[Vector, Vector]:
        with tf.init_scope():
            y, slope = (t.numpy() for t in program(tf.constant(u, tf.float64)))
            # tf.where passes on the slope of the branch that it does not take, even an overflow.
            lost = ~np.isfinite(slope) & np.isfinite(y)
            step = 1e-6 * (1 + np.abs(u[lost]))
            ends = [program(tf.constant(u[lost] + side * step))[0].numpy() for side in (-1, 1)]
        slope[lost] = (ends[1] - ends[0]) / (2 * step)
        return y, slope

    return evaluate


_kept = lru_cache(_TRACED)(compiled)


def _points(sigma: float, kinks: Sequence[float], reach: float) -> tuple[Vector, Vector]:
    """Quadrature points and weights on [0, reach]."""
    fine = 0.5 / sigma * 2.0 ** np.arange(60)
    ends = np.concatenate([np.arange(reach + 1.0), fine, [abs(k) / sigma for k in kinks]])
    ends = np.unique(ends[ends <= reach])
    half, middle = np.diff(ends)[:, None] / 2, (ends[1:] + ends[:-1])[:, None] / 2
    return (middle + half * _POINTS).ravel(), (half * _WEIGHTS).ravel()


def _hermite(z: Array, degree: int) -> Iterator[Array]:
    """h_n(z) exp(-z^2 / 4) for n from 0 to degree: with that factor they do not overflow."""
    before, current = np.zeros_like(z), np.exp(-z * z / 4)
    for n in range(degree + 1):
        yield current
        before, current = current, (z * current - math.sqrt(n) * before) / math.sqrt(n + 1)


def nodes() -> Vector:
    """Values of sqrt(q) at which a Table takes its values, [intervals * order]."""
    middle = (np.arange(_INTERVALS) + 0.5)[:, None]
    return np.expm1((middle + _CHEBYSHEV / 2).ravel() * (_END / _INTERVALS))


class Table:
    """Columns of functions of sqrt(q): polynomials on intervals of log(1 + sqrt(q))."""

    def __init__(self, values: Array, reach: float = math.inf) -> None:
        """Interpolate values at `nodes`, [nodes, columns], for variances up to reach."""
        self._last = min(_INTERVALS, math.log1p(math.sqrt(reach)) * (_INTERVALS / _END))
        values = values.reshape(_INTERVALS, _ORDER, -1)
        powers = np.linalg.inv(np.vander(_CHEBYSHEV, increasing=True))
        self._coefficients = np.einsum("pn,inc->pic", powers, values)

    def __call__(self, root: Tensor) -> Tensor:
        """The columns at sqrt(q), of any shape: [..., columns].

        Not a number beyond the largest variance of the table, 1e12 or its reach, which a kernel
        refuses at its end.
        """
        x = tf.math.log1p(root) * (_INTERVALS / _END)
        interval = tf.clip_by_value(tf.floor(x), 0, _INTERVALS - 1)
        t = tf.where(x <= self._last, 2 * (x - interval) - 1, math.nan)[..., None]
        rows = tf.cast(interval, tf.int32)
        first, *rest = (tf.constant(p, root.dtype) for p in reversed(self._coefficients))
        value = tf.gather(first, rows)
        for coefficients in rest:
            value = value * t + tf.gather(coefficients, rows)
        return value
