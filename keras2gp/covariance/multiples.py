"""Rules of functions less their straight parts, and of tensors times a number of each image."""

from __future__ import annotations

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap
from keras2gp.covariance.base import ImageStatistics, Maps, Rule, RuleContext
from keras2gp.covariance.duals.elementary import correlation_statistics, root_of
from keras2gp.covariance.elementwise import ActivationRule
from keras2gp.covariance.registry import dual_of, rule
from keras2gp.graph.ops import STRAIGHT, Multiple, Rest

__all__ = ["MultipleRule", "RestRule"]


@rule(Rest)
class RestRule(ActivationRule):
    """k' = E[phi(u) phi(v)] - d1 d2 k, d = E[phi'(u)]: a function less its straight part."""


@rule(Multiple)
class MultipleRule(Rule[Multiple]):
    """k' = k R1 R2, R = sum of c_i E[phi_i'(v_i)] sqrt(Var v_i / Var A).

    Math: Theta' = Theta R1 R2, m' = m R
    """

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k R1 R2."""
        return maps[0] * self._number(maps, context)

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """Theta R1 R2."""
        return thetas[0] * self._number(maps, context)

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """m R."""
        return context.mean(0) * self._statistics(maps)[0]

    def _number(self, maps: Maps, context: RuleContext) -> PairMap:
        (r1,), (r2,) = context.statistics(lambda: self._statistics(maps))
        return r1 * r2

    def _statistics(self, maps: Maps) -> ImageStatistics:
        """R from the variances `maps`; 0 where A is 0."""
        _, q, *others = maps
        _, inverse = correlation_statistics(q)
        total = tf.zeros_like(q)
        for c, phi, v in zip(self.op.coefficients, self.op.functions, others, strict=True):
            slope = 1.0 if phi == STRAIGHT else dual_of(phi).slope(v)
            total += c * slope * root_of(v) * inverse
        return (total,)
