"""Dual activations without closed form: an expansion in Hermite polynomials.

Math: with rho = c / sqrt(q1 q2), m = E[phi] and b_n(q) = E[phi'(sqrt(q) z) h_n(z)],
    E[phi(u) phi(v)]   = m(q1) m(q2) + c sum_n b_n(q1) b_n(q2) rho^n / (n + 1)
    E[phi'(u) phi'(v)] =                  sum_n b_n(q1) b_n(q2) rho^n.
The sums end at a degree N. What the squares of the rest add up to, T(q), is known from E[phi^2],
so that one more term sqrt(T(q1) T(q2)) rho^(N+1) or rho^(N+2) for either parity makes the
variances exact, and the error is at most 2 c sqrt(T(q1) T(q2)) at any rho (Cauchy-Schwarz).
Where phi has a kink at 0, phi = kappa |u| + psi, the terms of kappa |u| are taken out of the sum
and put back in closed form, so that their slowly falling tail is exact.
Reference: Daniely, Frostig and Singer 2016, section 4 (the dual as a power series).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor
from keras2gp.covariance.duals.base import Dual, correlation_statistics
from keras2gp.covariance.duals.homogeneous import Abs
from keras2gp.covariance.duals.quadrature import Moments, moments
from keras2gp.covariance.duals.table import INTERPOLATION, Table, nodes

__all__ = ["LARGEST_DEGREE", "TOLERANCE", "Expansion", "Hermite"]

LARGEST_DEGREE = 95
"""A longer sum costs more for every pair than it gains."""
TOLERANCE = 1e-6
"""Of the covariance, against sqrt(E[phi(u)^2] E[phi(v)^2])."""
_REFERENCE = 0.1, 0.5, 1.0, 2.0, 4.0
"""Variances for which the degree is chosen."""
_NOTHING = 1e-13
"""Coefficients below this, against the largest, are 0 by symmetry."""


class Hermite(Dual):
    """E[phi(u) phi(v)] as a power series in rho; a subclass is its phi.

    degree: N of the sums; None takes the least that reaches TOLERANCE
    """

    vanishes = True
    constants: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes that tell one phi of the class from another."""

    def __init__(self, degree: float | None = None) -> None:
        if degree is not None and not (0 <= degree <= LARGEST_DEGREE and degree % 1 == 0):
            raise ValueError(f"degree={degree}: expected an integer from 0 to {LARGEST_DEGREE}")
        self._degree = None if degree is None else int(degree)

    def phi(self, u: Tensor) -> Tensor:
        """The function itself, for the quadrature."""
        raise NotImplementedError

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where phi or one of its derivatives jumps."""
        return ()

    @property
    def kappa(self) -> float:
        """Half of what phi' jumps by at 0."""
        return 0.0

    @property
    def degree(self) -> int:
        """N of the sums."""
        return self.least_degree(TOLERANCE) if self._degree is None else self._degree

    def least_degree(self, tolerance: float) -> int:
        """The least N whose error bound is within the tolerance for variances up to 4.

        LARGEST_DEGREE, if none is.
        """
        return _least_degree(self, tolerance)

    def with_degree(self, degree: int) -> Self:
        """The same function, expanded to another degree."""
        other = copy(self)
        vars(other)["_degree"] = degree
        return other

    def bounds(self, q: Array, *, derivative: bool = False) -> Array:
        """Of the covariance's error for two equal variances, against E[phi(u)^2], for each q.

        derivative: of the derivative's, against E[phi'(u)^2]
        """
        covariance, slope = _bounds(self, q, [self.degree])
        return np.asarray((slope if derivative else covariance)[0] + INTERPOLATION)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hermite) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, ...]:
        return type(self), self._degree, *(getattr(self, name) for name in self.constants)

    def prepare(self, q: Tensor) -> tuple[Tensor, ...]:
        expansion = _expansion(self)
        root, inverse = correlation_statistics(q)
        mean = expansion.at_zero + root * expansion.mean(root)[..., 0]
        return mean, root, inverse, expansion.coefficients(root)

    def covariance(self, c: Tensor, s1: tuple[Tensor, ...], s2: tuple[Tensor, ...]) -> Tensor:
        (m1, root1, inverse1, b1), (m2, root2, inverse2, b2) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        total = m1 * m2 + c * _expansion(self).series(rho, b1, b2)
        if self.kappa == 0:
            return total
        # From rho: what is beyond the border has no root, and must give 0 whatever c is.
        rest = Abs().covariance(rho * root1 * root2, (root1, inverse1), (root2, inverse2))
        return total + self.kappa**2 * (rest - (2 / math.pi) * root1 * root2)

    def derivative(self, c: Tensor, s1: tuple[Tensor, ...], s2: tuple[Tensor, ...]) -> Tensor:
        (_, root1, inverse1, b1), (_, root2, inverse2, b2) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        total = _expansion(self).series(rho, b1, b2, derivative=True)
        if self.kappa == 0:
            return total
        return total + self.kappa**2 * Abs().derivative(c, (root1, inverse1), (root2, inverse2))

    def variance(self, q: Tensor, s: tuple[Tensor, ...]) -> Tensor:
        mean, root, _, b = s
        total = mean * mean + q * _expansion(self).at_one(b)
        return total + self.kappa**2 * (1 - 2 / math.pi) * root * root

    def second_moment(self, q: Tensor) -> Tensor:
        return self.variance(q, self.prepare(q))

    def derivative_variance(self, q: Tensor, s: tuple[Tensor, ...]) -> Tensor:
        return _expansion(self).at_one(s[3], derivative=True) + self.kappa**2

    def derivative_second_moment(self, q: Tensor) -> Tensor:
        return self.derivative_variance(q, self.prepare(q))

    def mean(self, q: Tensor) -> Tensor:
        return self.prepare(q)[0]


class Expansion:
    """The series of one phi: which powers it has, and the table of its coefficients.

    mean:    table of the mean, less phi(0) and over sqrt(q)
    at_zero: phi(0)
    Columns of the other table: b_n / sqrt(n + 1) for each power n, and for each parity the square
    sums of what is beyond N, of the covariance and of the derivative.
    """

    def __init__(self, dual: Hermite) -> None:
        degree = dual.degree
        found = moments(dual.phi, dual.kinks, nodes(), degree)
        scaled = found.slopes / np.sqrt(np.arange(1, degree + 2))
        # Where phi overflows its moments are not numbers, and neither is the kernel.
        sizes = np.abs(scaled[np.isfinite(scaled).all(1)]).max(0)
        self.at_zero = found.at_zero
        self.powers = tuple(np.flatnonzero(sizes > _NOTHING * sizes.max()).tolist())
        tails = np.stack(found.tails(degree))
        self._removed = np.zeros(len(self.powers))
        self._kinked = dual.kappa != 0
        if self._kinked:
            kink = _kink(degree)
            powers = list(self.powers)
            self._removed = dual.kappa**2 * kink.slopes[0, powers] ** 2 / (np.array(powers) + 1)
            tails = tails - dual.kappa**2 * np.stack(kink.tails(degree))
        # Where only one parity has tails, the other's columns hold zeros, and cost nothing more.
        self._parities = tuple(p for p in (0, 1) if any(n % 2 == p for n in self.powers if n > 0))
        self._ends = tuple(degree + 1 + (degree + 1 + p) % 2 for p in self._parities)
        last = [tails[kind][:, [p]] for kind in (0, 1) for p in self._parities]
        self.mean = Table(found.mean[:, None])
        self._table = Table(np.concatenate([scaled[:, list(self.powers)], *last], 1))

    @property
    def width(self) -> int:
        """Columns of the statistics."""
        return len(self.powers) + 2 * len(self._parities)

    def coefficients(self, root: Tensor) -> Tensor:
        """Statistics [..., n, B] of sqrt(q), [..., B].

        What is beyond N is made such that a pair of images combines it: roots that are multiplied,
        halves that are added. All of it is read from the table once: a second reader would take
        the compiler to write the table's rows down, ten for each column.
        """
        roots, factors = np.zeros(self.width, bool), np.ones(self.width)
        for i, parity in enumerate(self._parities * 2, len(self.powers)):
            roots[i] = not self._adds(parity)
            factors[i] = 1 / 2 if self._adds(parity) else 1
        columns = self._table(root)
        made = tf.where(roots, tf.sqrt(tf.maximum(columns, 0)), columns)
        return tf.linalg.matrix_transpose(made * tf.constant(factors, columns.dtype))

    def _adds(self, parity: int) -> bool:
        """Whether the rest is a sum of either image's: with the kink's terms taken out of it."""
        return self._kinked and parity == 1

    def series(self, rho: Tensor, b1: Tensor, b2: Tensor, *, derivative: bool = False) -> Tensor:
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

    def at_one(self, b: Tensor, *, derivative: bool = False) -> Tensor:
        """The series at rho = 1 of an image with itself; b: statistics [*spatial, n, B]."""
        known, start = len(self.powers), self._first_tail(derivative)
        squares, sums = np.zeros(self.width), np.zeros(self.width)
        squares[:known] = np.array(self.powers) + 1 if derivative else 1
        removed = float(self._removed @ squares[:known])
        for i, parity in enumerate(self._parities, start):
            adds = self._adds(parity)
            squares[i], sums[i] = (0, 2) if adds else (1, 0)
        shape = [self.width, 1]
        a, c = (tf.constant(w.reshape(shape), b.dtype) for w in (squares, sums))
        total = b * (a * b + c) if sums.any() else a * b * b
        return tf.reduce_sum(total, axis=-2) - removed

    def _first_tail(self, derivative: bool) -> int:
        """Where the columns of what is beyond N begin, of the covariance or the derivative."""
        return len(self.powers) + derivative * len(self._parities)


def _horner(terms: dict[int, Tensor], rho: Tensor) -> Tensor:
    """sum of terms[n] rho^n."""
    square = rho * rho
    *rest, at = sorted(terms)
    value = terms[at]
    for n in reversed(rest):
        value = value * _power(rho, square, at - n) + terms[n]
        at = n
    return value * _power(rho, square, at) if at else value


def _power(rho: Tensor, square: Tensor, n: int) -> Tensor:
    if n <= 2:
        return square if n == 2 else rho
    return _power(rho, square, n - 2) * square


@cache
def _expansion(dual: Hermite) -> Expansion:
    return Expansion(dual)


@cache
def _kink(degree: int) -> Moments:
    """Of |u|, which is the same function of z at any sigma."""
    return moments(tf.abs, (0.0,), np.ones(1), degree)


@cache
def _least_degree(dual: Hermite, tolerance: float) -> int:
    degrees = range(1, LARGEST_DEGREE)
    worst = _bounds(dual, np.array(_REFERENCE), degrees)[0].max(1) + INTERPOLATION
    return next(
        (n for n, bound in zip(degrees, worst, strict=True) if bound <= tolerance), LARGEST_DEGREE
    )


def _bounds(dual: Hermite, q: Array, degrees: Sequence[int]) -> tuple[Array, Array]:
    """Relative bounds of the errors at equal variances, of covariance and derivative.

    [degrees, q] each.
    Math: 2 T of psi for either parity; with a kink that has the tail A, 2 (T + 2 sqrt(A T)).
    """
    whole = moments(dual.phi, dual.kinks, np.sqrt(q), max(degrees))
    smooth = whole
    if dual.kappa:
        smooth = moments(
            lambda u: dual.phi(u) - dual.kappa * tf.abs(u), dual.kinks, np.sqrt(q), max(degrees)
        )
    sizes = whole.second / q, whole.steepness.sum(1)
    rows: tuple[list[Array], list[Array]] = [], []
    for degree in degrees:
        for kind, size in enumerate(sizes):
            tails = np.maximum(smooth.tails(degree)[kind], 0)
            total = tails.sum(1)
            if dual.kappa:
                kink = dual.kappa**2 * _kink(max(degrees)).tails(degree)[kind][:, 1]
                total = total + 2 * np.sqrt(np.maximum(kink, 0) * tails[:, 1])
            rows[kind].append(2 * total / size)
    return np.array(rows[0]), np.array(rows[1])
