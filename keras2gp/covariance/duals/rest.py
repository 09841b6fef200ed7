"""The dual of a function less its straight part, which is uncorrelated with Gaussian tensors."""

from __future__ import annotations

from keras2gp._util.arrays import ImageMap, PairMap
from keras2gp.covariance.dual import Dual, Statistics
from keras2gp.covariance.registry import dual_of, dual_of_function
from keras2gp.graph.ops import Rest

__all__ = ["RestDual"]


class RestDual(Dual):
    """phi(u) - d u with d = E[phi'(u)]: E[phi(u) phi(v)] - d1 d2 c.

    Math: E[u phi(v)] = c d2 by Stein's lemma, so that three terms of d1 d2 c leave one. The
          derivative by weights sees d as a number: E[(phi'(u) - d1) (phi'(v) - d2)].
    References: Bussgang 1952, Crosscorrelation functions of amplitude-distorted Gaussian signals.
    """

    def __init__(self, phi: Dual) -> None:
        self.phi = phi

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether phi is."""
        return self.phi.differentiable

    def prepare(self, q: ImageMap) -> Statistics:
        return self.phi.slope(q), *self.phi.prepare(q)

    def covariance(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self.phi.covariance(c, s1[1:], s2[1:]) - s1[0] * s2[0] * c

    def derivative(self, c: PairMap, s1: Statistics, s2: Statistics) -> PairMap:
        return self.phi.derivative(c, s1[1:], s2[1:]) - s1[0] * s2[0]

    def second_moment(self, q: ImageMap) -> ImageMap:
        return self.phi.second_moment(q) - self.phi.slope(q) ** 2 * q

    def derivative_second_moment(self, q: ImageMap) -> ImageMap:
        return self.phi.derivative_second_moment(q) - self.phi.slope(q) ** 2

    def mean(self, q: ImageMap) -> ImageMap:
        return self.phi.mean(q)


@dual_of_function(Rest)
def _dual(op: Rest) -> Dual:
    return RestDual(dual_of(op.of))
