"""Far corners: a function of two slopes at variances that its other corners are far beyond.

Math: phi = f + sum_i a_i r_i, where f(u) is l u for u < 0 and r u for u > 0, and r_i(u) is
|u| - |t_i| beyond the corner t_i and 0 before it. E[r_i(u) |v|] grows with |rho|, since P(v > 0)
given u > t does; at |rho| = 1 it is sqrt(q1 q2) Q(|t_i| / sqrt(q1)), Q(h) = P(z > h). As r_j(v) is
no more than |v|, leaving out all r_i costs at most, with L the larger of |l| and |r|,
    sqrt(q1 q2) (2 L + sum_j |a_j|) sum_i |a_i| Q(|t_i| / sqrt(q)),   q the larger variance,
and E[phi' phi'] as much without its root. E[f^2] = q (l^2 + r^2) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from keras2gp._util.arrays import ImageMap
from keras2gp.covariance.dual import Limited, Statistics
from keras2gp.covariance.duals.homogeneous import TwoSlopes

__all__ = ["FarCorners", "far_corners_of"]

_HALVINGS = 60
_ROUNDING = 1e-6


class FarCorners(TwoSlopes, Limited):
    """Two slopes at variances up to a limit, for a function with corners far from 0."""

    width = 0

    def __init__(self, left: float, right: float, limit: float, error: float) -> None:
        super().__init__(left, right)
        self.limit, self.errors = limit, [error, error]

    def prepare(self, q: ImageMap) -> Statistics:
        return super().prepare(self._within(q))

    def second_moment(self, q: ImageMap) -> ImageMap:
        return super().second_moment(self._within(q))

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return super().derivative_second_moment(q) + 0 * self._within(q)

    def mean(self, q: ImageMap) -> ImageMap:
        return super().mean(self._within(q))

    def _within(self, q: ImageMap) -> ImageMap:
        return tf.where(q <= self.limit * (1 + _ROUNDING), q, tf.constant(math.nan, q.dtype))


def far_corners_of(
    edges: Sequence[float], polynomials: Sequence[Sequence[float]], tolerance: float, least: float
) -> FarCorners | None:
    """The form up to the largest variance whose error is within a tolerance.

    None for a function that is curved or not 0 at 0, and where that variance is below `least`.
    """
    values = [[*p, 0.0, 0.0][:2] for p in polynomials]
    inner = [i for i in range(len(values)) if _touches_zero(i, edges)]
    if any(len(p) > 2 for p in polynomials) or any(values[i][0] for i in inner):
        return None
    left, right = values[inner[0]][1], values[inner[-1]][1]
    jumps = {t: values[i + 1][1] - values[i][1] for i, t in enumerate(edges) if t}
    size = (left**2 + right**2) / 2
    total = 2 * max(abs(left), abs(right)) + sum(map(abs, jumps.values()))

    def error(q: float) -> float:
        beyond = sum(abs(a) * math.erfc(abs(t) / math.sqrt(2 * q)) / 2 for t, a in jumps.items())
        return total * beyond / size / max(1 - total * beyond / size, 1e-300)

    if not jumps or size == 0 or error(least) > tolerance:
        return None
    low, high = least, max(map(abs, jumps)) ** 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) <= tolerance else (low, middle)
    return FarCorners(left, right, low, error(low))


def _touches_zero(piece: int, edges: Sequence[float]) -> bool:
    """Whether 0 is in a piece, or at its end."""
    ends = [-math.inf, *edges, math.inf]
    return ends[piece] <= 0 <= ends[piece + 1]
