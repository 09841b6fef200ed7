"""Dual: the covariance E[phi(u) phi(v)] of an activation phi for a Gaussian pair (u, v).

Glossary
  q1, q2  variances of u and of v
  c       covariance of u and v
  rho     correlation c / sqrt(q1 q2)
  s1, s2  statistics of either image: `prepare` of its variance, broadcastable against c
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.base import Reach

__all__ = ["LARGEST_ERROR", "Dual", "Limited", "Statistics", "rounding_of"]

LARGEST_ERROR = 1e-3
"""Error of an entry, relative to its diagonal, from which on the entry is not a number.

A dual that changes within the rounding of a covariance, such as the derivative of erf for nearly
parallel inputs of a large variance, cannot be computed in that precision. A kernel refuses it.
"""

Statistics = tuple[ImageMap, ...]
"""Quantities of one image at every position, each broadcastable against a map of pairs."""


def rounding_of(c: Tensor) -> float:
    """Error of a covariance relative to sqrt(q1 q2): a sum of products in the dtype of c."""
    return 2.0 * float(np.finfo(c.dtype.as_numpy_dtype).eps)


class Dual:
    """The dual of an activation phi: E[phi(u) phi(v)] for a Gaussian pair (u, v).

    A subclass is its equation: it defines `covariance`, `mean` where sums of activations need it,
    and `derivative` where tangent kernels need it. Constants of phi are arguments of `__init__`.

    Shapes:
        Variances q are [*spatial, B]. Covariances c are [*spatial, B1, B2], and the statistics s1
        and s2 broadcast against them.

    References:
        Daniely, Frostig and Singer 2016, Toward deeper understanding of neural networks.

    Example:
        The dual of 2 u, which is four times the covariance:

        >>> import keras2gp
        >>> import tensorflow as tf
        >>> class Twice(keras2gp.Dual):
        ...     def covariance(self, c, s1, s2):
        ...         return 4 * c
        ...
        ...     def mean(self, q):
        ...         return tf.zeros_like(q)
        >>> float(Twice().second_moment(tf.constant(0.5)))
        2.0

        `convert(model, activations={"twice": Twice()})` uses it, and so does
        `@keras2gp.dual("twice")` above the class.
    """

    vanishes: ClassVar[bool] = False
    """Whether the covariance is 0 where all statistics of the second image are 0."""

    anywhere: ClassVar[bool] = False
    """Whether both duals are finite at every c, also at one that exceeds the variances."""

    saturates: bool = False
    """Whether phi tends to a constant on either side: large inputs see a step, whose covariance
    grows with the angle between them, the root of 1 - rho."""

    differentiable: ClassVar[bool] = True
    """Whether E[phi'(u)^2] is finite, which the tangent kernel needs."""

    @property
    def columns(self) -> int:
        """Number of statistics of each image and position."""
        with tf.init_scope():
            return sum(int(tf.size(s)) for s in self.prepare(tf.ones([1], tf.float64)))

    def prepare(self, q: ImageMap) -> Statistics:
        """The statistics of one image, computed once per image and never per pair.

        Args:
            q: variances of u.

        Returns:
            Arrays from which, with c alone, `covariance` and `derivative` follow; each broadcasts
            against [*spatial, B].
        """
        return (q,)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        """E[phi(u) phi(v)].

        Args:
            c: covariances of u and v.
            s1: statistics of the first image, `prepare(q1)`.
            s2: statistics of the second image, `prepare(q2)`.

        Returns:
            The expectations, of the shape of c.

        Raises:
            NotImplementedError: The subclass does not define it.
        """
        raise NotImplementedError

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        """E[phi'(u) phi'(v)], the derivative of the covariance by c.

        Args:
            c: covariances of u and v.
            s1: statistics of the first image, `prepare(q1)`.
            s2: statistics of the second image, `prepare(q2)`.

        Returns:
            The expectations, of the shape of c.

        Raises:
            NotImplementedError: The subclass does not define it: phi has no tangent kernel.
        """
        raise NotImplementedError

    def slopes(self, c: PairMap, s1: Statistics, s2: Statistics) -> tuple[PairMap, PairMap] | None:
        """Derivatives of the covariance by c and by the logarithm of sqrt(q1), or of sqrt(q2).

        Args:
            c: covariances of u and v.
            s1: statistics of the first image.
            s2: statistics of the second image.

        Shapes:
            c and the results [*spatial, B1, B2], or broadcastable against them.

        Returns:
            They, of a dual whose statistics are sqrt(q) and its inverse, by both of which the
            second is the same; None where they are not written out.
        """
        del c, s1, s2
        return None

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        """E[phi'(u)^2].

        Args:
            q: variances of u.

        Returns:
            The expectations, of the shape of q.
        """
        s = self.prepare(q)
        return self.derivative(q, s, s)

    def mean(self, q: ImageMap) -> ImageMap:
        """E[phi(u)].

        Args:
            q: variances of u.

        Returns:
            The expectations, of the shape of q.

        Raises:
            NotImplementedError: The subclass does not define it: phi cannot stand in a sum.
        """
        raise NotImplementedError

    def slope(self, q: ImageMap) -> ImageMap:
        """E[phi'(u)], by which a sum of u and phi(u) is split.

        Args:
            q: variances of u.

        Returns:
            The expectations, of the shape of q.

        Raises:
            NotImplementedError: The subclass does not define it: phi cannot stand beside a
                multiple of its argument.
        """
        raise NotImplementedError

    def with_degree(self, degree: int) -> Self:
        """The same function at another degree of its expansion.

        Args:
            degree: of the expansion.

        Returns:
            A dual of that degree; itself if it is no expansion.
        """
        del degree
        return self

    def compact(self, *, tangent: bool = False, reach: Reach = "compact") -> Dual | None:
        """The same function in fewer operations, at small variances alone.

        Args:
            tangent: whether the derivative is needed too.
            reach: "narrow" for one in fewer operations still, at smaller variances; "wide" for
                one at larger variances, where the form for all takes many times as many.

        Returns:
            A dual whose moments are not numbers beyond the variances that it is made for; None
            where there is none.
        """
        del tangent, reach
        return None

    def second_moment(self, q: ImageMap) -> ImageMap:
        """E[phi(u)^2]: by default the covariance of u with itself.

        Args:
            q: variances of u.

        Returns:
            The expectations, of the shape of q.
        """
        s = self.prepare(q)
        return self.covariance(q, s, s)

    def variance(self, q: ImageMap, s: Statistics) -> ImageMap:
        """E[phi(u)^2] where the statistics are computed already; by default without them.

        Args:
            q: variances of u.
            s: their statistics, `prepare(q)`.

        Returns:
            The expectations, of the shape of q.
        """
        del s
        return self.second_moment(q)

    def derivative_variance(self, q: ImageMap, s: Statistics) -> ImageMap:
        """E[phi'(u)^2] where the statistics are computed already; by default without them.

        Args:
            q: variances of u.
            s: their statistics, `prepare(q)`.

        Returns:
            The expectations, of the shape of q.
        """
        del s
        return self.derivative_second_moment(q)


class Limited(Dual):
    """A dual at variances up to a limit; beyond it its moments are not numbers.

    Attributes:
        limit: the largest variance.
        errors: bounds of the error of the covariance, and of the derivative if there is one,
            relative to the root of both images' variances.
        width: how many parts the covariance is made of; 0 for a closed form.
        parts: what they are.
    """

    limit: float
    errors: list[float]
    width: int
    parts: ClassVar[str] = "terms"
