"""Compact: an expanded dual at small variances, with few terms and a tail in the tails' own shape.

Math: E[phi(u) phi(v)] = m(q1) m(q2) + c sum_n v_n(q1) v_n(q2) rho^n (hermite.py). The v_n of one
parity from a power K on, as vectors, lie near a plane for all variances up to a limit:
    v_n(q) = sum_j g_j(q) s_jn + d_n(q),   s_j orthonormal, j = 1 to 3 at most.
So the tail is sum_ij g_i(q1) g_j(q2) P_ij(rho^2), where P_ij does not depend on the images.
The error is bounded at all rho, relative to the root S(q) of the whole sum at rho = 1, by
    2 |g|/S |d|/S + |d|^2/S^2 + R^2/S^2 + the coefficients that P_ij drops:
Cauchy-Schwarz for what the plane misses, Parseval for the energy R^2 beyond the longest series,
and the sum of the dropped Chebyshev coefficients of P_ij, |T_n| <= 1. The maxima over q are those
of polynomials in sqrt(q) of degree K at 4 K points: they are at most 1/cos(pi/4) larger for the
squares in between (Ehlich and Zeller 1964).
A kink at 0, phi = kappa |u| + psi, is one more s_j, of a g_j = kappa whose square is a closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, Matrix, PairMap, Tensor, Vector
from keras2gp.covariance.duals.base import Dual, Statistics
from keras2gp.covariance.duals.coefficients import INTERPOLATION, moments
from keras2gp.covariance.duals.elementary import correlation_statistics, polynomial
from keras2gp.covariance.duals.homogeneous import Abs
from keras2gp.covariance.duals.series import moments_of_abs

__all__ = ["Compact", "compact_of"]

_LIMITS = 8.0, 4.0, 2.0
"""Largest variances that are tried: those of networks at their initialisers are near 1."""
_LONGEST = 400
_KEPT, _SHAPES = 28, 5
_READ = 8.0
"""What a column of the statistics costs, in steps of a polynomial with constant coefficients."""
"""Most terms that are kept of either parity, and most shapes of its tail."""
_LARGEST_COST = 175.0
"""Largest cost of a sum: about four times that of a ReLU."""
_NODES = 28
_CHEBYSHEV = np.polynomial.chebyshev.chebpts1(_NODES)
_ROUNDING, _NEGLIGIBLE = 1e-9, 1e-12
_BETWEEN = math.sqrt(2.0)
"""Bound of a square between 4 K points, over its maximum at them."""


@dataclass(frozen=True)
class _Tail:
    """The powers of one parity: `kept` products, and the tail behind them.

    pairs:  numbers of the shapes of every P_ij; -1 stands for that of a kink, whose factor is 1
    curves: P_ij in powers of 2 rho^2 - 1
    shapes: s_j, [J, n]
    """

    parity: int
    kept: int
    removed: Vector
    shapes: Matrix
    pairs: tuple[tuple[int, int], ...]
    curves: tuple[tuple[float, ...], ...]
    bound: float

    @property
    def cost(self) -> float:
        """Steps for a pair, about."""
        return _READ * self.width + sum(len(curve) for curve in self.curves)

    @property
    def width(self) -> int:
        """Columns of the statistics."""
        return self.kept + len(self.shapes)

    def columns(self, rows: Matrix, kink: Vector) -> Matrix:
        """v_n that are kept, and g_j, of rows v_n with a kink's part, [K, n]: [K, width]."""
        psi = rows[:, self.kept :] - kink[self.kept :]
        return np.concatenate([rows[:, : self.kept], psi @ self.shapes.T], 1)

    def value(self, z: PairMap, first: Sequence[Tensor], second: Sequence[Tensor]) -> PairMap:
        """The sum over rho^(n - parity), for z = rho^2 and the columns of either image."""
        g1, g2 = first[self.kept :], second[self.kept :]
        t = 2 * z - 1
        total: Tensor = tf.zeros_like(z)
        for (i, j), curve in zip(self.pairs, self.curves, strict=True):
            if j < 0:
                factor = g1[i] + g2[i]
            else:
                factor = g1[i] * g2[i] if i == j else g1[i] * g2[j] + g1[j] * g2[i]
            total += factor * polynomial(curve, t)
        for n in reversed(range(self.kept)):
            term = first[n] * second[n]
            total = total * z + (term - float(self.removed[n]) if self.removed[n] else term)
        return total


@dataclass(frozen=True)
class _Sum:
    """One of the two sums: of the covariance, or of the derivative."""

    tails: tuple[_Tail, ...]

    @property
    def bound(self) -> float:
        """Bound of the error, relative to the root of both sums at rho = 1."""
        return sum(tail.bound for tail in self.tails)

    def columns(self, rows: Matrix, kink: Vector) -> Matrix:
        """The columns of the statistics, [K, columns], of v_n with a kink's part, [K, n]."""
        parts = [t.columns(rows[:, t.parity :: 2], kink[t.parity :: 2]) for t in self.tails]
        return np.concatenate(parts, 1)

    def value(self, rho: PairMap, b1: Tensor, b2: Tensor) -> PairMap:
        """The sum of both parities; b: statistics [*spatial, n, B], [*spatial, n, B1, 1] or so."""
        axis = -3 if b2.shape[-2] == 1 else -2
        first, second = tf.unstack(b1, axis=axis), tf.unstack(b2, axis=axis)
        z, start, total = rho * rho, 0, tf.zeros_like(rho)
        for tail in self.tails:
            end = start + tail.width
            part = tail.value(z, first[start:end], second[start:end])
            total += rho * part if tail.parity else part
            start = end
        return total


class Compact(Dual):
    """An expanded dual at variances up to a limit; beyond it its moments are not numbers.

    Args:
        phi, kinks, kappa: of the expanded dual (hermite.py).
        limit: the largest variance.
        tolerances: of the covariance, relative to the root of both variances, and of the
            derivative if that is needed.
    """

    vanishes = True

    def __init__(
        self,
        phi: Callable[[Tensor], Tensor],
        kinks: Sequence[float],
        kappa: float,
        limit: float,
        tolerances: Sequence[float],
    ) -> None:
        self.limit, self.kappa = limit, kappa
        sigma = (_CHEBYSHEV + 1) / 2 * math.sqrt(limit)
        whole = moments(phi, kinks, sigma, _LONGEST)
        psi = whole
        if kappa:
            psi = moments(lambda u: phi(u) - kappa * tf.abs(u), kinks, sigma, _LONGEST)
        self._at_zero = whole.at_zero
        kink = moments_of_abs(_LONGEST)
        sizes = np.sqrt([whole.second / sigma**2, whole.steepness.sum(1)])
        powers = np.arange(1, _LONGEST + 2)
        self.sums: list[_Sum] = []
        tables = []
        for kind, tolerance in enumerate(tolerances):
            weights = np.ones(len(powers)) if kind else 1 / np.sqrt(powers)
            kinked = kappa * weights * kink.slopes[0]
            finite = np.isfinite(psi.slopes).all() and psi.slopes.any()
            if not (finite and (sizes[kind] > 0).all()):
                break  # phi overflows, or is constant
            if not _is_smooth(weights * whole.slopes / sizes[kind][:, None]):
                break
            made = _designed(
                weights * psi.slopes,
                kinked,
                beyond=(psi.tails(_LONGEST)[kind], kappa**2 * kink.tails(_LONGEST)[kind][0]),
                size=sizes[kind],
                tolerance=tolerance,
            )
            if made is not None:
                self.sums.append(made)
                tables.append(_table(made.columns(weights * whole.slopes, kinked), limit))
        self.exact = len(self.sums) == len(tolerances)
        self._tables = tables
        self._moments = _table(
            np.stack([whole.mean, whole.energy.sum(1), whole.steepness.sum(1)], 1), limit
        )

    @property
    def cost(self) -> float:
        """Steps of the covariance for a pair, about (_READ)."""
        return sum(tail.cost for tail in self.sums[0].tails)

    @property
    def width(self) -> int:
        """Columns that the covariance reads of each image and position."""
        return sum(tail.width for tail in self.sums[0].tails)

    @property
    def errors(self) -> list[float]:
        """Bounds of the covariance's error and of the derivative's, relative to the variances."""
        return [float(made.bound) + INTERPOLATION for made in self.sums]

    def prepare(self, q: ImageMap) -> Statistics:
        root, inverse = correlation_statistics(q)
        columns = (tf.linalg.matrix_transpose(table(root)) for table in self._tables)
        return self._mean(root), root, inverse, *columns

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        (m1, root1, inverse1, b1, *_), (m2, root2, inverse2, b2, *_) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        total = m1 * m2 + c * self.sums[0].value(rho, b1, b2)
        if self.kappa == 0:
            return total
        rest = Abs().covariance(rho * root1 * root2, (root1, inverse1), (root2, inverse2))
        return total + self.kappa**2 * (rest - (2 / math.pi) * root1 * root2)

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        (_, root1, inverse1, _, b1), (_, root2, inverse2, _, b2) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        total = self.sums[1].value(rho, b1, b2)
        if self.kappa == 0:
            return total
        return total + self.kappa**2 * Abs().derivative(c, (root1, inverse1), (root2, inverse2))

    def second_moment(self, q: ImageMap) -> ImageMap:
        root, _ = correlation_statistics(q)
        mean = self._mean(root)
        return mean * mean + q * self._moments(root)[..., 1]

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        root, _ = correlation_statistics(q)
        return self._moments(root)[..., 2]

    def mean(self, q: ImageMap) -> ImageMap:
        return self._mean(correlation_statistics(q)[0])

    def _mean(self, root: ImageMap) -> ImageMap:
        return self._at_zero + root * self._moments(root)[..., 0]


def compact_of(
    phi: Callable[[Tensor], Tensor],
    kinks: Sequence[float],
    kappa: float,
    tolerances: Sequence[float],
    columns: int,
) -> Compact | None:
    """The compact form up to the largest variance at which it is cheap.

    columns: statistics of the general form, which costs little more than reading them
    """
    most = min(_LARGEST_COST, 0.8 * _READ * columns)
    for limit in _LIMITS:
        with np.errstate(over="ignore", invalid="ignore"):
            dual = Compact(phi, kinks, kappa, limit, tolerances)
        if dual.exact and dual.cost <= most:
            return dual
    return None


def _designed(
    psi: Matrix,
    kink: Vector,
    *,
    beyond: tuple[Matrix, Vector],
    size: Vector,
    tolerance: float,
) -> _Sum | None:
    """The cheapest sum within a tolerance; None if there is none.

    psi:    v_n without the kink's part, [K, n]; kink: the kink's part, [n]
    beyond: energies beyond the last n, of psi of either parity, [K, 2], and of the kink, [2]
    size:   the root of the whole sum at rho = 1, [K]
    """
    relative = _between_nodes(psi / size[:, None])
    rest, rest_of_kink = (np.maximum(energy, 0) for energy in beyond)
    rest = _between_nodes(rest / size[:, None] ** 2).max(0) * _BETWEEN
    lost = rest + 2 * np.sqrt(rest * rest_of_kink) / size.min()
    largest, tails = np.abs(relative).max(), list[_Tail]()
    for parity in (0, 1):
        if np.abs(relative[:, parity::2]).max() <= _NEGLIGIBLE * largest:
            continue
        share = tolerance - sum(tail.bound for tail in tails) if parity else tolerance / 2
        rows, kinks = relative[:, parity::2], kink[parity::2]
        found = _tail(parity, rows, kinks, size=size.min(), tolerances=(lost[parity], share))
        if found is None:
            return None
        tails.append(found)
    return _Sum(tuple(tails))


def _tail(
    parity: int,
    rows: Matrix,
    kink: Vector,
    *,
    size: float,
    tolerances: tuple[float, float],
) -> _Tail | None:
    """The cheapest number of kept terms and of shapes of one parity.

    rows: v_n over the size; size: the least; tolerances: the part that is lost, and the whole
    """
    lost, tolerance = tolerances
    best: _Tail | None = None
    for kept in range(_KEPT + 1):
        if best and _READ * kept > best.cost:
            break
        behind = rows[:, kept:]
        shapes = np.linalg.svd(behind[:: len(rows) // _NODES], full_matrices=False)[2][:_SHAPES]
        for count in range(_SHAPES + 1):
            if best and _READ * (kept + count) >= best.cost:
                break
            taken = shapes[:count]
            g = behind @ taken.T
            missed = math.sqrt(_BETWEEN * ((behind - g @ taken) ** 2).sum(1).max())
            reach = math.sqrt(_BETWEEN * (g**2).sum(1).max())
            reach += math.sqrt((kink[kept:] ** 2).sum()) / size
            bound = 2 * reach * missed + missed**2 + lost
            if bound > 0.8 * tolerance:
                continue
            heights = np.sqrt(_BETWEEN) * np.abs(g).max(0)
            pairs = list(combinations_with_replacement(range(count), 2))
            pairs += [(i, -1) for i in range(count)] if kink.any() else []
            curves, dropped = [], 0.0
            for i, j in pairs:
                other = kink[kept:] if j < 0 else taken[j]
                height = heights[i] * (1 / size if j < 0 else heights[j]) * (2 if i != j else 1)
                share = (tolerance - bound) / len(pairs)
                curve, error = _curve(taken[i] * other, height, share)
                curves.append(curve)
                dropped += error
            tail = _Tail(
                parity,
                kept,
                kink[:kept] ** 2,
                taken,
                tuple(pairs),
                tuple(curves),
                bound + dropped,
            )
            best = tail if best is None or tail.cost < best.cost else best
    return best


def _curve(series: Vector, height: float, tolerance: float) -> tuple[tuple[float, ...], float]:
    """A power series in z on [0, 1] as a short polynomial in 2 z - 1, and the bound of its error.

    The Chebyshev coefficients are exact, since a sum over as many points is.
    """
    modes = _modes_of_powers(_LONGEST // 2 + 1)[:, : len(series)] @ series
    dropped = height * np.append(np.cumsum(np.abs(modes[::-1]))[::-1][1:], 0.0)
    last = int(np.argmax(dropped <= tolerance))
    powers = modes[: last + 1] @ _monomials(last + 1)
    return tuple(map(float, powers)), float(dropped[last])


@cache
def _modes_of_powers(count: int) -> Matrix:
    """Chebyshev coefficients on [0, 1] of z^n for n < count, a column for each."""
    angles = np.pi * (np.arange(count) + 0.5) / count
    powers = np.vander((np.cos(angles) + 1) / 2, increasing=True)
    modes = np.cos(np.outer(np.arange(count), angles)) @ powers * (2 / count)
    modes[0] /= 2
    return np.asarray(modes)


def _is_smooth(values: Matrix) -> bool:
    """Whether polynomials in sqrt(q) through the nodes hold values between them too.

    Corners of phi apart from 0 leave coefficients that do not fall.
    """
    return bool(np.abs(_modes(values)[-3:]).max() <= INTERPOLATION * np.abs(values).max())


def _between_nodes(values: Matrix) -> Matrix:
    """Values at the nodes as polynomials in sqrt(q), at four times as many points."""
    points = np.polynomial.chebyshev.chebpts1(4 * _NODES)
    vander = np.polynomial.chebyshev.chebvander
    return np.asarray(vander(points, _NODES - 1) @ _modes(values))


def _modes(values: Matrix) -> Matrix:
    """Chebyshev coefficients of values at the nodes."""
    return np.asarray(
        np.linalg.solve(np.polynomial.chebyshev.chebvander(_CHEBYSHEV, _NODES - 1), values)
    )


@cache
def _monomials(count: int) -> Matrix:
    """Coefficients of the first Chebyshev polynomials in powers, a row for each."""
    rows = np.zeros((count, count))
    for n, row in enumerate(rows):
        row[: n + 1] = np.polynomial.chebyshev.cheb2poly(np.eye(count)[n])[: n + 1]
    return rows


def _table(values: Matrix, limit: float) -> Callable[[Tensor], Tensor]:
    """Columns as functions of sqrt(q), [...] to [..., columns]; not a number beyond the limit."""
    modes = _modes(values)
    small = np.abs(modes).max(1) <= _ROUNDING * np.abs(values).max()
    count = max(len(modes) - int(np.argmin(small[::-1])), 2)
    powers = _monomials(count).T @ modes[:count]

    def columns(root: Tensor) -> Tensor:
        # The powers of x are large and alternate: they cost nine digits.
        x = tf.cast(root, tf.float64) * (2 / math.sqrt(limit)) - 1
        x = tf.where(x <= 1 + _ROUNDING, x, tf.constant(math.nan, x.dtype))[..., None]
        value: Tensor = tf.constant(powers[-1], tf.float64)
        for row in powers[-2::-1]:
            value = value * x + tf.constant(row, tf.float64)
        return tf.cast(value, root.dtype)

    return columns
