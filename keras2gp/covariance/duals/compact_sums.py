"""Sums in powers of rho with few terms, for small variances, and the bound of their error.

Math: the sum over n of v_n(q1) v_n(q2) rho^n - k_n^2 rho^n, where k_n is what a closed form holds.
The v_n of one parity from a power K on, as vectors, lie near a plane for all variances up to a
limit, through k or through a point k + a of constants:
    v_n(q) = k_n + a_n + sum_j g_j(q) s_jn + d_n(q),   j = 1 to 5 at most.
So the tail is a polynomial P_ij(rho^2) for each product g_i(q1) g_j(q2), for each g_i(q1) + g_i(q2)
and for 1, and no P_ij depends on the images. With m = v - d, and S(q) the root of the whole sum at
rho = 1, the error at any rho is at most, relative to S(q1) S(q2),
    2 |m|/S |d|/S + |d|^2/S^2 (Cauchy-Schwarz), or with M_n, D_n the largest |m_n|/S and |d_n|/S
    sum_n 2 M_n D_n + D_n^2,
whichever is less; and R^2/S^2, the energy beyond the longest series (Parseval); and the dropped
Chebyshev coefficients of the P_ij, |T_n| <= 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Matrix, PairMap, Tensor, Vector
from keras2gp.covariance.duals.chebyshev import (
    BETWEEN,
    between_nodes,
    monomials,
    power_series_modes,
)
from keras2gp.covariance.duals.elementary import polynomial

__all__ = ["READ", "CoefficientRows", "CompactSum", "designed"]

_KEPT, _SHAPES = 32, 5
"""Most terms that are kept of either parity, and most shapes of its tail."""
_FEW_STEPS = 200.0
"""Largest cost up to which every number of kept terms is tried: more are tried in steps of four."""
READ = 8.0
"""What a column of the statistics costs, in steps of a polynomial with constant coefficients."""
_BEFORE_CURVES = 0.8
"""The part of a tolerance that is not for the coefficients that the curves drop."""
_NEGLIGIBLE = 1e-12
_BETWEEN_POINTS = 1 / math.cos(math.pi / 8)
"""Bound of a value between 4 K points, over the largest at them."""


@dataclass(frozen=True)
class CoefficientRows:
    """Coefficients of a sum, one row for each of K variances.

    psi:     v_n without the closed form's part, [K, n]
    kink:    k_n, the closed form's part, [n]
    size:    S, the root of the whole sum at rho = 1, [K]
    beyond:  energies beyond the last n, of psi of either parity, [K, 2]
    of_kink: and of the closed form's part, [2]
    """

    psi: Matrix
    kink: Vector
    size: Vector
    beyond: Matrix
    of_kink: Vector

    @property
    def lost(self) -> Vector:
        """Bounds of the error of leaving out what is beyond, for either parity, [2]."""
        rest = between_nodes(np.maximum(self.beyond, 0) / self.size[:, None] ** 2).max(0) * BETWEEN
        kinked = 2 * np.sqrt(rest * np.maximum(self.of_kink, 0)) / self.size.min()
        return np.asarray(rest + kinked)


@dataclass(frozen=True)
class _Tail:
    """The powers of one parity: `kept` products, and the tail behind them.

    removed: k_n^2 of the products
    offset:  a_n of the tail, [n]
    shapes:  s_j, [J, n]; weights: w_n with g_j = sum over n of s_jn w_n^2 (v_n - base_n), [n]
    pairs:   numbers of the shapes of every P_ij; -1 stands for the base, whose factor is 1
    curves:  P_ij in powers of 2 rho^2 - 1
    """

    parity: int
    kept: int
    removed: Vector
    offset: Vector
    shapes: Matrix
    weights: Vector
    pairs: tuple[tuple[int, int], ...]
    curves: tuple[tuple[float, ...], ...]
    bound: float

    @property
    def cost(self) -> float:
        """Steps for a pair, about: reading, products of the shapes, and their polynomials."""
        shapes = len(self.shapes)
        return READ * self.width + shapes * (shapes + 1) + sum(map(len, self.curves))

    @property
    def width(self) -> int:
        """Columns of the statistics."""
        return self.kept + len(self.shapes)

    def columns(self, rows: Matrix, kink: Vector) -> Matrix:
        """v_n that are kept, and g_j, of rows v_n with a closed form's part, [K, n]: [K, width]."""
        psi = rows[:, self.kept :] - kink[self.kept :] - self.offset
        return np.concatenate([rows[:, : self.kept], psi @ (self.shapes * self.weights**2).T], 1)

    def value(self, z: PairMap, first: Sequence[Tensor], second: Sequence[Tensor]) -> PairMap:
        """The sum over rho^(n - parity), for z = rho^2 and the columns of either image."""
        g1, g2 = first[self.kept :], second[self.kept :]
        t = 2 * z - 1
        curves = dict(zip(self.pairs, (polynomial(c, t) for c in self.curves), strict=True))
        total: Tensor = tf.zeros_like(z) + curves.get((-1, -1), 0.0)
        for i in range(len(self.shapes)):
            row = sum(g * curves[min(i, j), max(i, j)] for j, g in enumerate(g2))
            if (i, -1) in curves:
                row += curves[i, -1]
                total += g2[i] * curves[i, -1]
            total += g1[i] * row
        for n in reversed(range(self.kept)):
            term = first[n] * second[n]
            total = total * z + (term - float(self.removed[n]) if self.removed[n] else term)
        return total


@dataclass(frozen=True)
class CompactSum:
    """One of the two sums: of the covariance, or of the derivative."""

    tails: tuple[_Tail, ...]

    @property
    def bound(self) -> float:
        """Bound of the error, relative to the root of both sums at rho = 1."""
        return sum(tail.bound for tail in self.tails)

    @property
    def cost(self) -> float:
        """Steps for a pair, about (READ)."""
        return sum(tail.cost for tail in self.tails)

    @property
    def width(self) -> int:
        """Columns of the statistics."""
        return sum(tail.width for tail in self.tails)

    @property
    def is_zero_without_columns(self) -> bool:
        """Whether it is 0 where rho and all columns are."""
        return not any((-1, -1) in tail.pairs and not tail.parity for tail in self.tails)

    def columns(self, rows: Matrix, kink: Vector) -> Matrix:
        """The columns of the statistics, [K, columns], of v_n with a closed form's part, [K, n]."""
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


def designed(rows: CoefficientRows, tolerance: float, most: float) -> CompactSum | None:
    """The cheapest sum within a tolerance; None if there is none of `most` steps for a parity."""
    # Relative to S all are polynomials of one degree, a constant is one that is not constant.
    relative, inverse = between_nodes(rows.psi / rows.size[:, None]), between_nodes(1 / rows.size)
    lost, largest, tails = rows.lost, np.abs(relative).max(), list[_Tail]()
    parts = {parity: relative[:, parity::2] for parity in (0, 1)}
    parities = [p for p, part in parts.items() if np.abs(part).max() > _NEGLIGIBLE * largest]
    for parity in parities:
        rest = tolerance - sum(tail.bound for tail in tails)
        share = rest if parity == parities[-1] else rest / 2
        kink = rows.kink[parity::2]
        both = lost[parity], share
        tail = _tail(parity, parts[parity], inverse, kink, tolerances=both, most=most)
        if tail is None:
            return None
        tails.append(tail)
    return CompactSum(tuple(tails))


def _tail(
    parity: int,
    rows: Matrix,
    inverse: Vector,
    kink: Vector,
    *,
    tolerances: tuple[float, float],
    most: float,
) -> _Tail | None:
    """The cheapest number of kept terms and of shapes of one parity.

    rows: psi over S; inverse: 1 over S; tolerances: the part that is lost, and the whole
    most: largest cost
    """
    best: _Tail | None = None
    lost, tolerance = tolerances
    if lost > _BEFORE_CURVES * tolerance:
        return None
    step = 1 if most <= _FEW_STEPS or math.isinf(most) else 4
    for kept in range(0, min(_KEPT + 1, rows.shape[1]), step):
        if READ * kept > most:
            break
        for plane in _planes(rows[:, kept:], inverse, kink[kept:]):
            for count in plane.counts(lost, tolerance):
                if READ * (kept + count) + 1.5 * count * (count + 1) >= most:
                    break
                tail = plane.tail(parity, kink[:kept], count, *tolerances)
                if tail is not None and tail.cost < most:
                    best, most = tail, tail.cost
    return best


@dataclass(frozen=True)
class _Plane:
    """A plane that the vectors v_n lie near, behind the kept ones.

    rows:    psi - a over S, at 4 K variances, [4 K, n]
    inverse: 1 over S, [4 K]
    kink, offset: k_n and a_n
    shapes:  s_j, the more important first, and the weights that they are orthonormal in
    """

    rows: Matrix
    inverse: Vector
    kink: Vector
    offset: Vector
    shapes: Matrix
    weights: Vector

    def counts(self, lost: float, tolerance: float) -> range:
        """Numbers of shapes that may do: none where all of them do not."""
        count = len(self.shapes)
        *_, bound = self._projected(count, lost)
        return range(count + 1 if bound <= _BEFORE_CURVES * tolerance else 0)

    def tail(
        self, parity: int, kept: Vector, count: int, lost: float, tolerance: float
    ) -> _Tail | None:
        """The tail by the first shapes; None if its bound is too large.

        kept: the closed form's part of the terms before it
        """
        taken, base = self.shapes[:count], self.kink + self.offset
        g, bound = self._projected(count, lost)
        if bound > _BEFORE_CURVES * tolerance:
            return None
        # The factor of a shape, and of the base, at most; two shapes have two products.
        heights = [*(_BETWEEN_POINTS * np.abs(g).max(0)), _BETWEEN_POINTS * self.inverse.max()]
        pairs = list(combinations_with_replacement(range(count), 2))
        if base.any():
            pairs += [(i, -1) for i in range(count)]
        if self.offset.any():
            pairs.append((-1, -1))
        curves, share = [], (tolerance - bound) / max(len(pairs), 1)
        for i, j in pairs:
            series = (taken[i] if i >= 0 else base) * (taken[j] if j >= 0 else base)
            if i < 0:
                series = series - self.kink**2
            curve, error = _curve(series, heights[i] * heights[j] * (1 if i == j else 2), share)
            curves.append(curve)
            bound += error
        return _Tail(
            parity,
            len(kept),
            kept**2,
            self.offset,
            taken,
            self.weights,
            tuple(pairs),
            tuple(curves),
            bound,
        )

    def _projected(self, count: int, lost: float) -> tuple[Matrix, float]:
        """g_j over S, [4 K, J], of the first shapes, and the bound of the error without curves."""
        taken = self.shapes[:count]
        g = (self.rows * self.weights**2) @ taken.T
        model = g @ taken
        missed = self.rows - model
        model += self.inverse[:, None] * (self.kink + self.offset)
        m, d = (math.sqrt(BETWEEN * (a**2).sum(1).max()) for a in (model, missed))
        tops = (_BETWEEN_POINTS * np.abs(a).max(0) for a in (model, missed))
        most_m, most_d = tops
        bound = min(2 * m * d + d * d, float((2 * most_m * most_d + most_d**2).sum()))
        return g, lost + bound


def _planes(rows: Matrix, inverse: Vector, kink: Vector) -> Iterator[_Plane]:
    """Planes through k, and through the middle of the vectors, by two kinds of weights."""
    values = rows / inverse[:, None]
    sizes = np.abs(values + kink).max(0)
    heavy = np.sqrt(np.maximum(sizes, 1e-6 * sizes.max(initial=1e-300)))
    middle = (values.max(0) + values.min(0)) / 2
    for offset, weights in product((np.zeros_like(kink), middle), (np.ones_like(heavy), heavy)):
        moved = rows - inverse[:, None] * offset
        nodes = (moved * weights)[::4]
        shapes = np.linalg.svd(nodes, full_matrices=False)[2][:_SHAPES] / weights
        yield _Plane(moved, inverse, kink, offset, shapes, weights)


def _curve(series: Vector, height: float, tolerance: float) -> tuple[tuple[float, ...], float]:
    """A power series in z on [0, 1] as a short polynomial in 2 z - 1, and its error's bound."""
    modes = power_series_modes(series)
    dropped = height * np.append(np.cumsum(np.abs(modes[::-1]))[::-1][1:], 0.0)
    last = int(np.argmax(dropped <= tolerance))
    powers = modes[: last + 1] @ monomials(last + 1)
    return tuple(map(float, powers)), float(dropped[last])
