"""Rules of normalisation over channels, and of functions of a tensor beside the tensor itself.

At infinite width a normalisation divides by a known number.

The mean and the mean square over infinitely many channels are their expectations, which depend on
the image alone. They come from the variances q_i and the first moments m_i of all channel groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap
from keras2gp.covariance.base import Covariance, ImageStatistics, Maps, Rule, RuleContext
from keras2gp.covariance.duals.elementary import correlation_statistics, root_of
from keras2gp.covariance.elementwise import ActivationRule
from keras2gp.covariance.registry import dual_of, rule
from keras2gp.errors import GraphError
from keras2gp.graph.ops import STRAIGHT, Multiple, Normalize, NormalizeAdded, Rest

__all__ = ["MultipleRule", "NormalizeAddedRule", "NormalizeRule", "RestRule"]


@rule(Normalize)
class NormalizeRule(Rule[Normalize]):
    """k' = (k - m1 m2 + c1 c2) r1 r2; k' = k r1 r2 if not centered, or of mean 0.

    Math: r = 1 / sqrt(v + epsilon), c = m - mean of m over the channels and axes normalised over,
          v the variance or the mean square over them.
          Theta' = Theta r1 r2, m' = c r, or m r if not centered
    """

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """(k - m1 m2 + c1 c2) r1 r2."""
        (r1, *means1), (r2, *means2) = context.statistics(lambda: self._statistics(maps, context))
        k = maps[self.op.group]
        if means1:
            (m1, c1), (m2, c2) = means1, means2
            k = k - m1 * m2 + c1 * c2
        return k * r1 * r2

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """Theta r1 r2."""
        (r1, *_), (r2, *_) = context.statistics(lambda: self._statistics(maps, context))
        return thetas[self.op.group] * r1 * r2

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """c r, or m r."""
        r, *means = self._statistics(maps, context)
        return r * (means[1] if means else context.mean(self.op.group))

    def vanishes(self, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
        """The statistics are 0 beyond the border."""
        return True, True

    def _statistics(self, maps: Maps, context: RuleContext) -> ImageStatistics:
        """(r, m, c) of the group from variances `maps`, each [*spatial, B]; (r,) where m = c = 0.

        Math: v = mean of q_i - m_i^2 + c_i^2 over groups and axes (law of total variance); mean of
              q_i where no mean is taken away.
        """
        shape = tf.shape(maps[self.op.group])
        if not context.needs_means:
            return (tf.broadcast_to(self._inverse_root(self._average(maps)), shape),)
        means = [context.mean(i) for i in range(len(maps))]
        overall = self._average(means)
        rests = [m - overall for m in means]
        spread = [q - m * m + c * c for q, m, c in zip(maps, means, rests, strict=True)]
        r = tf.broadcast_to(self._inverse_root(self._average(spread)), shape)
        return (r, means[self.op.group], rests[self.op.group]) if self.op.centered else (r,)

    def _average(self, maps: Sequence[ImageMap]) -> ImageMap:
        """Mean over channels and the axes normalised over, which keep size 1."""
        total = sum(weight * k for weight, k in zip(self.op.weights, maps, strict=True))
        axes = [axis for axis, over in enumerate(self.op.axes) if over]
        return tf.reduce_mean(total, axis=axes, keepdims=True) if axes else total

    def _inverse_root(self, v: ImageMap) -> ImageMap:
        """1 / sqrt(v + epsilon), 0 where both are 0: its other factor is 0 there."""
        # Rounding may leave the variance of features that hardly vary below 0.
        root = tf.sqrt(tf.maximum(v, 0.0) + self.op.epsilon)
        return tf.math.divide_no_nan(tf.ones_like(root), root)


@rule(NormalizeAdded)
class NormalizeAddedRule(NormalizeRule):
    """The rule of s A + f (A - mean) r, which is R A less a mean: k' = (k - m1 m2) R1 R2 + n1 n2.

    Math: R = s + f r, n = s m + f c r. Theta' = Theta R1 R2, m' = n, or m R if not centered
    """

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """(k - m1 m2) R1 R2 + n1 n2."""
        (r1, *means1), (r2, *means2) = context.statistics(lambda: self._statistics(maps, context))
        k = maps[self.op.group]
        if not means1:
            return k * r1 * r2
        (m1, n1), (m2, n2) = means1, means2
        return (k - m1 * m2) * r1 * r2 + n1 * n2

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """n, or m R."""
        r, *means = self._statistics(maps, context)
        return means[1] if means else r * context.mean(self.op.group)

    def _statistics(self, maps: Maps, context: RuleContext) -> ImageStatistics:
        """(R, m, n) of the group; (R,) where no mean is taken away, or none is there."""
        r, *means = super()._statistics(maps, context)
        skip, factor = self._factors
        if not means:
            return (skip + factor * r,)
        m, c = means
        return skip + factor * r, m, skip * m + factor * c * r

    @property
    def _factors(self) -> tuple[float, float]:
        if not isinstance(self.op, NormalizeAdded):
            raise GraphError(f"{self.op.title} has no factors")
        return self.op.skip, self.op.factor


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
