"""Rules of sequences, whose positions are steps: recurrences, and masks of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.base import (
    Covariance,
    ImageStatistics,
    Maps,
    Rule,
    RuleContext,
    is_zero,
)
from keras2gp.covariance.registry import dual_of, rule
from keras2gp.graph.ops import Activation, Recurrent, Weigh

__all__ = ["RecurrentRule", "WeighRule"]


@rule(Recurrent)
class RecurrentRule(Rule[Recurrent]):
    """k'[d][t] = k[d][t] + w2 s[d][t - 1], with s = E[phi(u) phi(v)] by k', 0 before t = 0.

    The weights are the same at every step. In the limit a state is independent of what they make of
    it, as in a network with weights of its own for each step, but for states at the same distance
    from the present: both images go back one step at a time, and the offset d stays.

    Math: Theta'[d][t] = Theta[d][t] + w2 (s[d][t - 1] + E[phi'(u) phi'(v)] Theta'[d][t - 1]),
          the expectation by k'[d][t - 1], and both times the masks of that step: gradients that
          went back through unequal numbers of steps are uncorrelated. Theta is that of the input,
          with its weights and biases. m' = 0.
    References: Yang 2019, Tensor Programs I (the forward kernel); Yang 2020, Tensor Programs II,
        and Alemohammad et al. 2021, The Recurrent Neural Tangent Kernel (the tangent kernel).
    """

    def __init__(self, op: Recurrent) -> None:
        super().__init__(op)
        function = op.function
        self.dual = dual_of(function) if isinstance(function, Activation) else None
        self.needs_inside = self.dual is not None and not self.dual.anywhere

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k + w2 s of the step before."""
        k, *masks = maps
        w2, _ = context.parameters.of(self.op.layer)
        dual = self.dual
        if dual is None:
            return self._steps(k, lambda state, _: w2 * state, masks, context)
        if context.is_variance:
            q = self._steps(k, lambda state, _: w2 * dual.second_moment(state), masks, context)
            context.statistics(lambda: dual.prepare(q))
            return q
        s1, s2 = (self._steps_first(s) for s in self._statistics(context))

        def carried(state: Tensor, t: Tensor) -> Tensor:
            return w2 * dual.covariance(state, tuple(s[t] for s in s1), tuple(s[t] for s in s2))

        return self._steps(k, carried, masks, context)

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """Theta + w2 (s + E[phi' phi'] Theta') of the step before; w2 s is k' - k."""
        w2, _ = context.parameters.of(self.op.layer)
        (slope,) = self._steps_first([w2 * self._slope(k, context)])
        own = thetas[0] + (k - maps[0])
        return self._steps(own, lambda theta, t: slope[t] * theta, maps[1:], context)

    @property
    def columns(self) -> int:
        """As many as the dual activation needs."""
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
        """The statistics that `covariance` has made of the variances at offset 0."""
        return context.statistics(tuple)

    def _steps(
        self,
        x: PairMap,
        carried: Callable[[Tensor, Tensor], Tensor],
        masks: Sequence[PairMap],
        context: RuleContext,
    ) -> PairMap:
        """y[t] = x[t] + carried(y[t - 1], t - 1), and y[0] = x[0], along the axis of the steps.

        carried: what a step leaves to the next one; nothing if the step is before the first of
                 either image, at t or at t + d
        masks:   factors of that, of the shape of x
        """
        x, *masks = self._steps_first([x, *masks])
        count, d = int(x.shape[0]), context.offset[self.op.axis]
        array = tf.TensorArray(x.dtype, count, element_shape=x.shape[1:])

        def step(t: Tensor, left: Tensor, array: Tensor) -> tuple[Tensor, Tensor, Any]:
            y = x[t] + left
            left = carried(y, t)
            for mask in masks:
                left = mask[t] * left
            if not is_zero((d,)):
                left = tf.where(t + d >= 0, left, tf.zeros([], x.dtype))
            return t + 1, left, array.write(t, y)

        _, _, array = tf.while_loop(
            lambda t, *_: t < count,
            step,
            (tf.constant(0), tf.zeros_like(x[0]), array),
            parallel_iterations=1,
            maximum_iterations=count,
        )
        y = tf.ensure_shape(array.stack(), x.shape)
        return _moved(y, 0, self.op.axis)

    def _steps_first(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors, [*spatial, ...], with the axis of the steps in front."""
        return [_moved(tensor, self.op.axis, 0) for tensor in tensors]


def _moved(tensor: Tensor, source: int, target: int) -> Tensor:
    """The tensor with one axis in another place."""
    if source == target:
        return tensor
    order = list(range(tensor.shape.rank))
    order.insert(target, order.pop(source))
    return tf.transpose(tensor, order)


@rule(Weigh)
class WeighRule(Rule[Weigh]):
    """k' = w1 w2 k, w1 and w2 the numbers of the positions g and g + d. m' = w m."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """The product with the map of the weights, which are data of one channel."""
        return maps[0] * maps[1]

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """w1 w2 Theta."""
        return thetas[0] * maps[1]

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """w m: the weights are the roots of their squares where m is not 0: none is negative."""
        return context.mean(0) * tf.sqrt(maps[1])

    def vanishes(self, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
        """The weights are 0 beyond the border."""
        return True, True
