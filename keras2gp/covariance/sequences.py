"""Rules of sequences, whose positions are steps: recurrences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import PairMap, Tensor
from keras2gp.covariance.base import ImageStatistics, Maps, Rule, RuleContext, is_zero
from keras2gp.covariance.registry import dual_of, rule
from keras2gp.graph.ops import Activation, Recurrent

__all__ = ["RecurrentRule"]


@rule(Recurrent)
class RecurrentRule(Rule[Recurrent]):
    """k'[d][t] = k[d][t] + w2 s[d][t - 1], with s = E[phi(u) phi(v)] by k', 0 before t = 0.

    The weights are the same at every step. In the limit a state is independent of what they make of
    it, as in a network with weights of its own for each step, but for states at the same distance
    from the present: both images go back one step at a time, and the offset d stays.

    Math: Theta'[d][t] = Theta[d][t] + w2 (s[d][t - 1] + E[phi'(u) phi'(v)] Theta'[d][t - 1]),
          the expectation by k'[d][t - 1]: gradients that went back through unequal numbers of steps
          are uncorrelated. Theta is that of the input, with its weights and biases. m' = 0.
    References: Yang 2019, Tensor Programs I (the forward kernel); Yang 2020, Tensor Programs II,
        and Alemohammad et al. 2021, The Recurrent Neural Tangent Kernel (the tangent kernel).
    """

    def __init__(self, op: Recurrent) -> None:
        super().__init__(op)
        function = op.function
        self.dual = dual_of(function) if isinstance(function, Activation) else None

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k + w2 s of the step before."""
        (k,) = maps
        w2, _ = context.parameters.of(self.op.layer)
        dual = self.dual
        if dual is None:
            return _steps(k, lambda state, _: w2 * state, context)
        if context.is_variance:
            q = _steps(k, lambda state, _: w2 * dual.second_moment(state), context)
            context.statistics(lambda: dual.prepare(q))
            return q
        s1, s2 = self._statistics(context)
        return _steps(
            k, lambda state, t: w2 * dual.covariance(state, _at(s1, t), _at(s2, t)), context
        )

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """Theta + w2 (s + E[phi' phi'] Theta') of the step before; w2 s is k' - k."""
        w2, _ = context.parameters.of(self.op.layer)
        slope = w2 * self._slope(k, context)
        return _steps(thetas[0] + (k - maps[0]), lambda theta, t: slope[t] * theta, context)

    @property
    def columns(self) -> int:
        """Those of the dual activation."""
        return 1 if self.dual is None else self.dual.columns

    def _slope(self, k: PairMap, context: RuleContext) -> PairMap:
        """E[phi' phi'] at every step."""
        if self.dual is None:
            return tf.ones_like(k)
        s1, s2 = self._statistics(context)
        if context.is_variance:
            return self.dual.derivative_variance(k, s1)
        return self.dual.derivative(k, s1, s2)

    def _statistics(self, context: RuleContext) -> tuple[ImageStatistics, ImageStatistics]:
        """Those that `covariance` has made of the variances at offset 0."""
        return context.statistics(tuple)


def _at(statistics: ImageStatistics, t: Tensor) -> ImageStatistics:
    return tuple(s[t] for s in statistics)


def _steps(x: Tensor, carried: Callable[[Tensor, Tensor], Tensor], context: RuleContext) -> Tensor:
    """y[t] = x[t] + carried(y[t - 1], t - 1), [T, *pairs], and y[0] = x[0].

    carried: what a step leaves to the next one; nothing if the step is before the first of either
             image, at t or at t + d
    """
    count = int(x.shape[0])
    (d,) = context.offset
    array = tf.TensorArray(x.dtype, count, element_shape=x.shape[1:])

    def step(t: Tensor, left: Tensor, array: Any) -> tuple[Tensor, Tensor, Any]:
        y = x[t] + left
        left = carried(y, t)
        if not is_zero(context.offset):
            left = tf.where(t + d >= 0, left, tf.zeros([], x.dtype))
        return t + 1, left, array.write(t, y)

    _, _, array = tf.while_loop(
        lambda t, *_: t < count,
        step,
        (tf.constant(0), tf.zeros_like(x[0]), array),
        parallel_iterations=1,
        maximum_iterations=count,
    )
    return tf.ensure_shape(array.stack(), x.shape)
