"""What a dual activation is: E[phi(u) phi(v)] for a Gaussian pair (u, v).

Glossary
  q      variance of u, of one image at one position
  c      covariance of u and v
  rho    c / sqrt(q1 q2)
  s1, s2 what `prepare` made of the variances of either image, shaped to broadcast against c
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import tensorflow as tf

from keras2gp._util.arrays import Tensor

__all__ = ["Dual", "correlation_statistics", "polynomial", "root_of"]


class Dual:
    """E[phi(u) phi(v)]; a subclass is its equation. Constants of phi are constructor arguments."""

    vanishes: ClassVar[bool] = False
    """Whether the covariance is 0 where all statistics of the second image are 0."""

    differentiable: ClassVar[bool] = True
    """Whether E[phi'(u)^2] is finite, which the tangent kernel needs."""

    @property
    def columns(self) -> int:
        """How many numbers of each image and position the covariance needs."""
        with tf.init_scope():
            return sum(int(tf.size(s)) for s in self.prepare(tf.ones([1], tf.float64)))

    def prepare(self, q: Tensor) -> tuple[Tensor, ...]:
        """What the covariance needs of one image, computed once for it and never for a pair."""
        return (q,)

    def covariance(self, c: Tensor, s1: tuple[Tensor, ...], s2: tuple[Tensor, ...]) -> Tensor:
        """E[phi(u) phi(v)]."""
        raise NotImplementedError

    def derivative(self, c: Tensor, s1: tuple[Tensor, ...], s2: tuple[Tensor, ...]) -> Tensor:
        """E[phi'(u) phi'(v)], which is the covariance's derivative by c."""
        raise NotImplementedError

    def derivative_second_moment(self, q: Tensor) -> Tensor:
        """E[phi'(u)^2]."""
        s = self.prepare(q)
        return self.derivative(q, s, s)

    def mean(self, q: Tensor) -> Tensor:
        """E[phi(u)]."""
        raise NotImplementedError

    def with_degree(self, degree: int) -> Self:
        """The same function, expanded to another degree, where it is expanded at all."""
        del degree
        return self

    def second_moment(self, q: Tensor) -> Tensor:
        """E[phi(u)^2]; the covariance of u with itself, unless there is something simpler."""
        s = self.prepare(q)
        return self.covariance(q, s, s)

    def variance(self, q: Tensor, s: tuple[Tensor, ...]) -> Tensor:
        """E[phi(u)^2] where the statistics s = prepare(q) are there already."""
        del s
        return self.second_moment(q)

    def derivative_variance(self, q: Tensor, s: tuple[Tensor, ...]) -> Tensor:
        """E[phi'(u)^2] where the statistics s = prepare(q) are there already."""
        del s
        return self.derivative_second_moment(q)


def correlation_statistics(q: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(q) and 1 / sqrt(q), the latter 0 where q is 0: a constant correlates with nothing."""
    root = root_of(q)
    return root, tf.math.divide_no_nan(tf.ones_like(root), root)


def polynomial(coefficients: Sequence[float], t: Tensor) -> Tensor:
    """sum of coefficients[n] t^n, by Horner's rule."""
    value: Tensor = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = value * t + coefficient
    return value


@tf.custom_gradient  # type: ignore[untyped-decorator]
def root_of(x: Tensor) -> tuple[Tensor, Any]:
    """sqrt(max(x, 0)), with a derivative of 0 where x is not positive.

    There the true one is infinite, and what it is multiplied by is 0: a pixel that is black in
    all of a window, or an image paired with itself.
    """
    root = tf.sqrt(tf.maximum(x, 0))
    return root, lambda upstream: tf.math.divide_no_nan(upstream, 2 * root)
