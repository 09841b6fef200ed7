"""Hermite coefficients of phi(sigma z) for a standard normal z, by quadrature in float64.

Math: h_n are the Hermite polynomials with E[h_m h_n] = [m = n], and
    b_n = E[phi'(sigma z) h_n(z)],   E[phi(sigma z) h_{n+1}(z)] = sigma b_n / sqrt(n + 1).
Functions are split into their odd and even parts, so that all integrals are over z > 0, by
Gauss-Legendre on panels that end at the kinks of phi and shrink towards 0 with 1 / sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array

__all__ = ["Moments", "Sampled", "moments", "sampled"]

Sampled = Callable[[Array], tuple[Array, Array]]
"""A function and its slope."""
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True)
class Moments:
    """Moments of phi(sigma z), one row for each sigma.

    at_zero:  phi(0)
    mean:     (E[phi] - phi(0)) / sigma
    slopes:   b_n, [sigma, n]
    energy:   sum of b_n^2 / (n + 1) over all even n, and over all odd n, [sigma, 2]
    steepness: sum of b_n^2 likewise, [sigma, 2]
    """

    sigma: Array
    at_zero: float
    mean: Array
    slopes: Array
    energy: Array
    steepness: Array

    @property
    def second(self) -> Array:
        """E[phi^2]."""
        mean = self.at_zero + self.sigma * self.mean
        return np.asarray(mean**2 + self.sigma**2 * self.energy.sum(1))

    def tails(self, degree: int) -> tuple[Array, Array]:
        """What the sums of `energy`, and of `steepness`, hold beyond b_degree; [sigma, 2] each."""
        with np.errstate(over="ignore", invalid="ignore"):
            squares = self.slopes[:, : degree + 1] ** 2
            weighted = squares / np.arange(1, degree + 2)
            return self.energy - _by_parity(weighted), self.steepness - _by_parity(squares)


def _by_parity(values: Array) -> Array:
    return np.stack([values[:, 0::2].sum(1), values[:, 1::2].sum(1)], 1)


def moments(
    phi: Callable[[Any], Any], kinks: Sequence[float], sigma: Array, degree: int
) -> Moments:
    """The moments for every sigma > 0, with b_0 to b_degree.

    phi:   the function, of a TensorFlow tensor; its derivative is TensorFlow's
    kinks: where phi or a derivative jumps
    """
    reach = math.ceil(2 * math.sqrt(degree) + 9)
    nodes, run = [_nodes(s, kinks, reach) for s in sigma], sampled(phi)
    with np.errstate(over="ignore", invalid="ignore"):  # where phi overflows, so do they
        return _moments(run, sigma, nodes, degree)


def _moments(
    run: Sampled, sigma: Array, nodes: Sequence[tuple[Array, Array]], degree: int
) -> Moments:
    ends = np.cumsum([len(z) for z, _ in nodes])[:-1]
    u = np.concatenate([s * z for s, (z, _) in zip(sigma, nodes, strict=True)])
    right, left = run(u), run(-u)
    parts = [np.split(a, ends) for a in (*_halves(right, left),)]
    at_zero = float(run(np.zeros(1))[0][0])
    rows = []
    for s, (z, w), even, odd, slope_even, slope_odd in zip(sigma, nodes, *parts, strict=True):
        density = w * np.exp(-z * z / 2) * math.sqrt(2 / math.pi)
        mean = density @ (even - at_zero)
        energy = density @ (odd**2), density @ ((even - at_zero - mean) ** 2)
        steepness = density @ slope_even**2, density @ slope_odd**2
        half = w * np.exp(-z * z / 4) * math.sqrt(2 / math.pi)
        sides = half * slope_even, half * slope_odd
        slopes = [sides[n % 2] @ h for n, h in enumerate(_hermite(z, degree))]
        rows.append((mean / s, slopes, np.array(energy) / s**2, steepness))
    return Moments(sigma, at_zero, *(np.array(c) for c in zip(*rows, strict=True)))


def _halves(right: tuple[Array, Array], left: tuple[Array, Array]) -> Iterator[Array]:
    """The even and odd parts of phi, then those of its derivative."""
    for plus, minus in zip(right, left, strict=True):
        yield (plus + minus) / 2
        yield (plus - minus) / 2


def sampled(phi: Callable[[Any], Any]) -> Sampled:
    """phi and phi' at any points, [n]; also made when a program is being traced."""

    def both(x: Any) -> tuple[Any, Any]:
        y = phi(x)
        # Symbolic: a tape records nothing within init_scope.
        slope = tf.gradients(y, x)[0]
        return y, tf.zeros_like(x) if slope is None else slope

    with tf.init_scope():
        traced = tf.function(both, autograph=False)
        program = traced.get_concrete_function(tf.TensorSpec([None], tf.float64))

    def run(u: Array) -> tuple[Array, Array]:
        with tf.init_scope():
            y, slope = (t.numpy() for t in program(tf.constant(u, tf.float64)))
            # tf.where hands on the slope of the branch that it does not take, if it overflows too.
            lost = ~np.isfinite(slope) & np.isfinite(y)
            step = 1e-6 * (1 + np.abs(u[lost]))
            ends = [program(tf.constant(u[lost] + side * step))[0].numpy() for side in (-1, 1)]
        slope[lost] = (ends[1] - ends[0]) / (2 * step)
        return y, slope

    return run


def _nodes(sigma: float, kinks: Sequence[float], reach: float) -> tuple[Array, Array]:
    """Points and weights on [0, reach]."""
    fine = 0.5 / sigma * 2.0 ** np.arange(60)
    ends = np.concatenate([np.arange(reach + 1.0), fine, [abs(k) / sigma for k in kinks]])
    ends = np.unique(ends[ends <= reach])
    half, middle = np.diff(ends)[:, None] / 2, (ends[1:] + ends[:-1])[:, None] / 2
    return (middle + half * _POINTS).ravel(), (half * _WEIGHTS).ravel()


def _hermite(z: Array, degree: int) -> Iterator[Array]:
    """h_n(z) exp(-z^2 / 4) for n from 0 to degree: with that factor they do not overflow."""
    before, now = np.zeros_like(z), np.exp(-z * z / 4)
    for n in range(degree + 1):
        yield now
        before, now = now, (z * now - math.sqrt(n) * before) / math.sqrt(n + 1)
