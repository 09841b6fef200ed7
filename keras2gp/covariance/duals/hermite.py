"""Hermite: duals of functions without closed form, expanded in Hermite polynomials.

Math: with rho = c / sqrt(q1 q2), m = E[phi] and b_n(q) = E[phi'(sqrt(q) z) h_n(z)],
    E[phi(u) phi(v)]   = m(q1) m(q2) + c sum_n b_n(q1) b_n(q2) rho^n / (n + 1)
    E[phi'(u) phi'(v)] =                  sum_n b_n(q1) b_n(q2) rho^n.
The sums end at a degree N. The sum of the squares beyond it, T(q), is known from E[phi^2], so
that one more term sqrt(T(q1) T(q2)) rho^(N+1) or rho^(N+2) for either parity makes the variances
exact, and the error is at most 2 c sqrt(T(q1) T(q2)) at any rho (Cauchy-Schwarz).
Where phi has a kink at 0, phi = kappa |u| + psi, the terms of kappa |u| are taken out of the sum
and put back in closed form, so that their slowly falling tail is exact.
References: Daniely, Frostig and Singer 2016, Toward deeper understanding of neural networks,
section 4 (the dual as a power series).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, Matrix, PairMap, Tensor, Vector
from keras2gp._util.text import received_text
from keras2gp.covariance.base import Reach
from keras2gp.covariance.dual import Dual, Statistics
from keras2gp.covariance.duals.coefficients import INTERPOLATION, KinkedFunction
from keras2gp.covariance.duals.compact import Compact, compact_of, narrow_of, wide_of
from keras2gp.covariance.duals.elementary import correlation_statistics
from keras2gp.covariance.duals.series import (
    Series,
    moments_of_abs,
    slope_with_kink,
    with_kink,
)
from keras2gp.errors import InputError

__all__ = ["LARGEST_DEGREE", "TOLERANCE", "Hermite"]

LARGEST_DEGREE = 95
"""A longer sum costs more for every pair than it gains."""
TOLERANCE = 1e-6
"""Error of the covariance, relative to sqrt(E[phi(u)^2] E[phi(v)^2])."""
_LIMIT = 0.2
"""Bound of the relative error above which a sum tells nothing; that of a named function of Keras is
0.11 at most."""
_LOST = 1e-6
"""Share of E[phi^2] by which sums of squares exceed it only where quadrature misses its waves."""
_TRIED = 10.0 ** np.arange(-3, 12.5, 0.5)
"""Variances at which the bound is compared with the limit."""
_REFERENCE = np.array([0.1, 0.5, 1.0, 2.0, 4.0])
"""Variances for which the degree is chosen."""


class Hermite(Dual):
    """The dual of a smooth phi as a power series in rho; a subclass defines `phi`.

    Where phi or a derivative jumps, the subclass states it as `kinks`, and half of the jump of
    phi' at 0 as `kappa`. Constants that tell one phi of the class from another are named in
    `constants`.

    Args:
        degree: N of the sums; None takes the least that reaches TOLERANCE.

    Raises:
        InputError: degree is no integer from 0 to LARGEST_DEGREE.

    References:
        Daniely, Frostig and Singer 2016, Toward deeper understanding of neural networks.

    Example:
        >>> import keras2gp
        >>> import tensorflow as tf
        >>> class Sine(keras2gp.Hermite):
        ...     def phi(self, u):
        ...         return tf.sin(u)
        >>> c, s = tf.constant([0.5], tf.float64), Sine().prepare(tf.constant([1.0], tf.float64))
        >>> print(f"{float(Sine().covariance(c, s, s)[0]):.6f}")  # exp(-1) sinh(0.5) = 0.191700
        0.191700
    """

    vanishes = True
    constants: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes that tell one phi of the class from another."""
    everywhere: ClassVar[bool] = False
    """Whether the sums are known to hold at all variances of the table."""

    def __init__(self, degree: float | None = None) -> None:
        if degree is not None and degree not in range(LARGEST_DEGREE + 1):
            expected = f"an integer from 0 to {LARGEST_DEGREE}"
            raise InputError(f"degree={received_text(degree)}: expected {expected}")
        self._degree = None if degree is None else int(degree)

    def phi(self, u: Tensor) -> Tensor:
        """The activation itself, elementwise.

        Args:
            u: a float64 tensor of any shape, [...].

        Returns:
            phi(u), of the same shape.

        Raises:
            NotImplementedError: The subclass does not define it.
        """
        raise NotImplementedError

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where phi or one of its derivatives jumps."""
        return ()

    @property
    def kappa(self) -> float:
        """Half of the jump of phi' at 0."""
        return 0.0

    @property
    def degree(self) -> int:
        """N of the sums."""
        return self.least_degree(TOLERANCE) if self._degree is None else self._degree

    @property
    def reach(self) -> float:
        """The largest variance at which the covariance is known; beyond it is not a number."""
        return math.inf if self.everywhere else _reach(self)

    def least_degree(self, tolerance: float) -> int:
        """The least degree whose error bound is within a tolerance for variances up to 4.

        Args:
            tolerance: largest error of a covariance, relative to E[phi(u)^2].

        Returns:
            The degree; LARGEST_DEGREE if none suffices.
        """
        return _least_degree(self, tolerance)

    def with_degree(self, degree: int) -> Self:
        """The same function, expanded to another degree."""
        other = copy(self)
        vars(other)["_degree"] = degree
        return other

    def compact(self, *, tangent: bool = False, reach: Reach = "compact") -> Dual | None:
        """The sums in fewer terms, at least as exact at small variances (compact.py)."""
        return {"narrow": _narrow, "compact": _compact, "wide": _wide}[reach](self, tangent=tangent)

    def bounds(self, q: Vector, *, derivative: bool = False) -> Vector:
        """Bounds of the covariance's error for two equal variances, relative to E[phi(u)^2].

        Args:
            q: variances, [n].
            derivative: give those of the derivative, relative to E[phi'(u)^2].

        Returns:
            One bound for each variance, [n].
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

    def prepare(self, q: ImageMap) -> Statistics:
        """E[phi], sqrt(q), its inverse, and the coefficients of the series."""
        series = _series(self)
        root, inverse = correlation_statistics(q)
        mean = series.at_zero + root * series.mean(root)[..., 0]
        return mean, root, inverse, series.coefficients(root)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        """E[phi(u) phi(v)] by the series, and the part of a kink at 0 in closed form."""
        (m1, root1, inverse1, b1), (m2, root2, inverse2, b2) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        total = m1 * m2 + c * _series(self).value(rho, b1, b2)
        return with_kink(total, self.kappa, rho, (root1, inverse1), (root2, inverse2))

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        """E[phi'(u) phi'(v)] by the series, and the part of a kink at 0 in closed form."""
        (_, root1, inverse1, b1), (_, root2, inverse2, b2) = s1, s2
        rho = tf.clip_by_value(c * inverse1 * inverse2, -1, 1)
        total = _series(self).value(rho, b1, b2, derivative=True)
        return slope_with_kink(total, self.kappa, c, (root1, inverse1), (root2, inverse2))

    def variance(self, q: ImageMap, s: Statistics) -> ImageMap:
        """E[phi(u)^2] for variances q whose statistics s = prepare(q) are known."""
        mean, root, _, b = s
        total = mean * mean + q * _series(self).at_one(b)
        return total + self.kappa**2 * (1 - 2 / math.pi) * root * root

    def second_moment(self, q: ImageMap) -> ImageMap:
        """E[phi(u)^2] for variances q."""
        return self.variance(q, self.prepare(q))

    def derivative_variance(self, q: ImageMap, s: Statistics) -> ImageMap:
        """E[phi'(u)^2] for variances q whose statistics s = prepare(q) are known."""
        return _series(self).at_one(s[3], derivative=True) + self.kappa**2

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        """E[phi'(u)^2] for variances q."""
        return self.derivative_variance(q, self.prepare(q))

    def mean(self, q: ImageMap) -> ImageMap:
        """E[phi(u)] for variances q."""
        return self.prepare(q)[0]

    def slope(self, q: ImageMap) -> ImageMap:
        """E[phi'(u)] for variances q: b_0, to which a kink at 0 adds nothing."""
        powers = _series(self).powers
        return self.prepare(q)[3][..., 0, :] if 0 in powers else tf.zeros_like(q)


def _function(dual: Hermite) -> KinkedFunction:
    return KinkedFunction(dual.phi, dual.kinks, dual.kappa)


@cache
def _series(dual: Hermite) -> Series:
    return Series(_function(dual), dual.degree, dual.reach)


@cache
def _reach(dual: Hermite) -> float:
    """The last variance in turn at which the bound of the error is within the limit."""
    known = np.logical_and.accumulate(_bounds(dual, _TRIED, [dual.degree])[0][0] <= _LIMIT)
    return math.inf if known.all() else float(_TRIED[known].max(initial=0.0))


@cache
def _least_degree(dual: Hermite, tolerance: float) -> int:
    degrees = range(1, LARGEST_DEGREE)
    worst = _bounds(dual, _REFERENCE, degrees)[0].max(1) + INTERPOLATION
    return next(
        (n for n, bound in zip(degrees, worst, strict=True) if bound <= tolerance), LARGEST_DEGREE
    )


@cache
def _compact(dual: Hermite, *, tangent: bool) -> Compact | None:
    tolerances = _tolerances(dual, tangent=tangent)
    with tf.init_scope():
        return compact_of(_function(dual), tolerances, _series(dual).width)


@cache
def _narrow(dual: Hermite, *, tangent: bool) -> Compact | None:
    tolerances, compact = _tolerances(dual, tangent=tangent), _compact(dual, tangent=tangent)
    with tf.init_scope():
        return narrow_of(_function(dual), tolerances, compact)


@cache
def _wide(dual: Hermite, *, tangent: bool) -> Compact | None:
    tolerances, compact = _tolerances(dual, tangent=tangent), _compact(dual, tangent=tangent)
    with tf.init_scope():
        columns = _series(dual).width
        return wide_of(_function(dual), tolerances, compact, columns=columns)


@cache
def _tolerances(dual: Hermite, *, tangent: bool) -> tuple[float, ...]:
    """The bounds of the series, which a compact form keeps: covariance, and derivative."""
    covariance, slope = (float(rows.max()) for rows in _bounds(dual, _REFERENCE, [dual.degree]))
    if dual.degree == LARGEST_DEGREE:
        covariance = min(covariance, TOLERANCE)
    return (covariance, slope) if tangent else (covariance,)


def _bounds(dual: Hermite, q: Vector, degrees: Sequence[int]) -> tuple[Matrix, Matrix]:
    """Relative error bounds of covariance and derivative at equal variances, [degrees, q] each.

    Math: 2 T of psi for either parity; with a kink that has the tail A, 2 (T + 2 sqrt(A T)).
    """
    function, sigma = _function(dual), np.sqrt(q)
    whole = function.moments(sigma, max(degrees))
    smooth = function.smooth_moments(sigma, max(degrees)) if dual.kappa else whole
    sizes = whole.second / q, whole.steepness.sum(1)
    rows: tuple[list[Vector], list[Vector]] = [], []
    for degree in degrees:
        for kind, size in enumerate(sizes):
            tails = np.maximum(smooth.tails(degree)[kind], 0)
            total = tails.sum(1)
            if dual.kappa:
                kink = dual.kappa**2 * moments_of_abs(max(degrees)).tails(degree)[kind][:, 1]
                total = total + 2 * np.sqrt(np.maximum(kink, 0) * tails[:, 1])
            # Nothing is left of a constant's derivative, which is 0.
            bound = 2 * total / np.where(size > 0, size, 1)
            missed = smooth.tails(degree)[kind].sum(1) < -_LOST * size
            rows[kind].append(np.where(missed, np.inf, bound))
    return np.array(rows[0]), np.array(rows[1])
