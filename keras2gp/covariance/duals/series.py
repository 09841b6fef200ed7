"""Series: the truncated power series in rho of an expanded dual, from a table of coefficients."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.duals.coefficients import (
    HermiteMoments,
    KinkedFunction,
    Table,
    moments,
    nodes,
)
from keras2gp.covariance.duals.homogeneous import Abs

__all__ = ["Series", "moments_of_abs", "slope_with_kink", "with_kink"]

_NEGLIGIBLE = 1e-13
"""Coefficients below this, relative to the largest, are 0 by symmetry."""


class Series:
    """The series of one function: its powers of rho, and a table of its coefficients up to `reach`.

    mean:    table of (E[phi] - phi(0)) / sqrt(q)
    at_zero: phi(0)
    Columns of the other table: b_n / sqrt(n + 1) for each power n, and for each parity the sums
    of squares beyond N, of the covariance and of the derivative.
    """

    def __init__(self, function: KinkedFunction, degree: int, reach: float) -> None:
        exact, kappa = function.moments(nodes(), degree), function.kappa
        coefficients = exact.slopes / np.sqrt(np.arange(1, degree + 2))
        # Where phi overflows its moments are not numbers, and neither is the kernel.
        sizes = np.abs(coefficients[np.isfinite(coefficients).all(1)]).max(0)
        self.at_zero = exact.at_zero
        self.powers = tuple(np.flatnonzero(sizes > _NEGLIGIBLE * sizes.max()).tolist())
        tails = np.stack(exact.tails(degree))
        self._removed = np.zeros(len(self.powers))
        self._kinked = kappa != 0
        if self._kinked:
            kink = moments_of_abs(degree)
            powers = list(self.powers)
            self._removed = kappa**2 * kink.slopes[0, powers] ** 2 / (np.array(powers) + 1)
            tails = tails - kappa**2 * np.stack(kink.tails(degree))
        # Where only one parity has tails, the columns of the other hold zeros at no cost.
        self._parities = tuple(p for p in (0, 1) if any(n % 2 == p for n in self.powers if n > 0))
        self._ends = tuple(degree + 1 + (degree + 1 + p) % 2 for p in self._parities)
        last = [tails[kind][:, [p]] for kind in (0, 1) for p in self._parities]
        self.mean = Table(exact.mean[:, None], reach)
        self._table = Table(np.concatenate([coefficients[:, list(self.powers)], *last], 1), reach)

    @property
    def width(self) -> int:
        """Number of columns of the statistics."""
        return len(self.powers) + 2 * len(self._parities)

    def coefficients(self, root: ImageMap) -> Tensor:
        """Statistics [..., n, B] of sqrt(q), [..., B].

        A pair of images combines the tails beyond N: it multiplies roots, and adds halves. The
        table is read once: a second reader would make the compiler write the table's rows down,
        ten for each column.
        """
        roots, factors = np.zeros(self.width, bool), np.ones(self.width)
        for i, parity in enumerate(self._parities * 2, len(self.powers)):
            roots[i] = not self._adds(parity)
            factors[i] = 1 / 2 if self._adds(parity) else 1
        columns = self._table(root)
        statistics = tf.where(roots, tf.sqrt(tf.maximum(columns, 0)), columns)
        return tf.linalg.matrix_transpose(statistics * tf.constant(factors, columns.dtype))

    def _adds(self, parity: int) -> bool:
        """Whether the tail is the sum of both images' halves: the kink's terms are out of it."""
        return self._kinked and parity == 1

    def value(self, rho: PairMap, b1: Tensor, b2: Tensor, *, derivative: bool = False) -> PairMap:
        """sum of b_n b_n rho^n / (n + 1), or with `derivative` of b_n b_n rho^n.

        b1, b2: statistics [*spatial, n, B], or [*spatial, n, B1, 1] and [*spatial, n, 1, B2]
        """
        axis = -3 if b2.shape[-2] == 1 else -2
        first, second = tf.unstack(b1, axis=axis), tf.unstack(b2, axis=axis)
        terms = {}
        for i, n in enumerate(self.powers):
            product = first[i] * second[i]
            if self._removed[i] != 0:
                product = product - self._removed[i]
            terms[n] = (n + 1) * product if derivative else product
        start = self._first_tail(derivative)
        for i, (end, parity) in enumerate(zip(self._ends, self._parities, strict=True), start):
            adds = self._adds(parity)
            terms[end] = first[i] + second[i] if adds else first[i] * second[i]
        return _horner(terms, rho)

    def at_one(self, b: Tensor, *, derivative: bool = False) -> ImageMap:
        """The series at rho = 1 of an image with itself; b: statistics [*spatial, n, B]."""
        count, start = len(self.powers), self._first_tail(derivative)
        squares, sums = np.zeros(self.width), np.zeros(self.width)
        squares[:count] = np.array(self.powers) + 1 if derivative else 1
        removed = float(self._removed @ squares[:count])
        for i, parity in enumerate(self._parities, start):
            adds = self._adds(parity)
            squares[i], sums[i] = (0, 2) if adds else (1, 0)
        shape = [self.width, 1]
        a, c = (tf.constant(w.reshape(shape), b.dtype) for w in (squares, sums))
        total = b * (a * b + c) if sums.any() else a * b * b
        return tf.reduce_sum(total, axis=-2) - removed

    def _first_tail(self, derivative: bool) -> int:
        """Index of the first column of the tails beyond N, of the covariance or the derivative."""
        return len(self.powers) + derivative * len(self._parities)


def _horner(terms: dict[int, Tensor], rho: PairMap) -> PairMap:
    """sum of terms[n] rho^n; 0 without terms, as for a constant phi."""
    if not terms:
        return tf.zeros_like(rho)
    square = rho * rho
    *rest, at = sorted(terms)
    value = terms[at]
    for n in reversed(rest):
        value = value * _power(rho, square, at - n) + terms[n]
        at = n
    return value * _power(rho, square, at) if at else value


def _power(rho: PairMap, square: PairMap, n: int) -> PairMap:
    if n <= 2:
        return square if n == 2 else rho
    return _power(rho, square, n - 2) * square


@cache
def moments_of_abs(degree: int) -> HermiteMoments:
    """The moments of |u|, which are the same at any sigma."""
    return moments(tf.abs, (0.0,), np.ones(1), degree)


def with_kink(
    total: PairMap,
    kappa: float,
    rho: PairMap,
    first: tuple[ImageMap, ImageMap],
    second: tuple[ImageMap, ImageMap],
) -> PairMap:
    """A covariance with the part of kappa |u|, less that of its mean and slope, in closed form.

    first, second: sqrt(q) and 1 / sqrt(q) of either image
    """
    if kappa == 0:
        return total
    (root1, _), (root2, _) = first, second
    # From rho: beyond the border the root is 0, and the result must be 0 whatever c is.
    rest = Abs().covariance(rho * root1 * root2, first, second)
    return total + kappa**2 * (rest - (2 / math.pi) * root1 * root2)


def slope_with_kink(
    total: PairMap,
    kappa: float,
    c: PairMap,
    first: tuple[ImageMap, ImageMap],
    second: tuple[ImageMap, ImageMap],
) -> PairMap:
    """A derivative of the covariance with the part of kappa |u| in closed form.

    first, second: sqrt(q) and 1 / sqrt(q) of either image
    """
    if kappa == 0:
        return total
    return total + kappa**2 * Abs().derivative(c, first, second)
