"""Rules of data, of layers with weights, and of the averages over what weights sum over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.base import Covariance, Maps, Rule, RuleContext
from keras2gp.covariance.joint import scaled, total
from keras2gp.covariance.registry import rule
from keras2gp.graph.ops import Affine, Depthwise, Input, Mixture, Positions, Tokens, Weighted

__all__ = ["InputRule", "MixtureRule", "PositionsRule", "TokensRule", "WeightedRule"]


@rule(Input)
class InputRule(Rule[Input]):
    """k = mean over channels of x1 x2 (equation 10), m = mean over channels of x."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """The products of the images."""
        return context.pairs.data(context.index, self.op, context.offset)

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """The mean over channels, by which whatever is alike in all channels is multiplied."""
        return context.pairs.data_mean(context.index, self.op)

    def vanishes(self, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
        """Images are 0 beyond the border."""
        return True, True


@rule(Tokens)
class TokensRule(Rule[Tokens]):
    """k = 1 where the two integers are equal, else 0."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """1 where the two integers are equal, else 0."""
        return context.pairs.equal(context.index, self.op, context.offset)

    def vanishes(self, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
        """Beyond the border stands the integer 0, which may be equal to one inside."""
        return False, False


@rule(Affine)
@rule(Depthwise)
class WeightedRule(Rule[Weighted]):
    """k' = b2 + w2 k (equations 10 and 11).

    Math: Theta' = k' + w2 Theta, for its own weights and biases and those before it. m' = 0.
    """

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """b2 + w2 k."""
        w2, b2 = context.parameters.of(self.op.layer)
        return b2 + w2 * maps[0]

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """k' + w2 Theta."""
        w2, _ = context.parameters.of(self.op.layer)
        return k + w2 * thetas[0]


@rule(Positions)
class PositionsRule(Rule[Positions]):
    """k' = mean over all positions of k: weights of different positions are independent."""

    joint = True

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """1/P sum over g of k[g]."""
        # Within the sum, XLA would compute what it sums over entry by entry, across the whole map.
        k = context.materialised(maps[0])
        count = math.prod(k.shape[: self.op.rank])
        return scaled(total(k, self.op.rank, context.materialised), 1 / count)


@rule(Mixture)
class MixtureRule(Rule[Mixture]):
    """k' = sum of C_i / C k_i over channel groups i."""

    def __init__(self, op: Mixture) -> None:
        super().__init__(op)
        self.weights: Sequence[Any] = op.weights

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """sum of weights[i] k_i."""
        return sum(weight * k for weight, k in zip(self.weights, maps, strict=True))

    def in_turn(self, ops: Sequence[Mixture], turn: Tensor, dtype: Any) -> MixtureRule:
        """The rule with the weights of one op, which are tensors."""
        rule = MixtureRule(self.op)
        if len(set(ops)) > 1:
            columns = zip(*(op.weights for op in ops), strict=True)
            rule.weights = [tf.constant(column, dtype)[turn] for column in columns]
        return rule
