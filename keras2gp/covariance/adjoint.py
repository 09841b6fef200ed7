"""Derivatives of a kernel by a sweep back over its graph, node by node.

A tape over the whole forward pass keeps each intermediate map of each rule. The sweep keeps one map
for each node, and asks a rule for its derivatives when it comes to it: those of homogeneous
activations and of windows are written out (`Dual.slopes`, `window_adjoint`), and a tape over one
rule alone gives those of all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import PairMap, Tensor
from keras2gp.covariance.affine import WeightedRule
from keras2gp.covariance.base import (
    Covariance,
    ImageStatistics,
    Maps,
    Offset,
    Parameters,
    Rule,
    RuleContext,
    Statistics,
    materialised,
)
from keras2gp.covariance.elementwise import ActivationRule
from keras2gp.covariance.forward_pass import ForwardPass
from keras2gp.covariance.pairs import CrossPairs
from keras2gp.covariance.subprograms import differentiable
from keras2gp.covariance.windows import PatchesRule, window_adjoint
from keras2gp.graph.analysis import Analysis

__all__ = ["AdjointPass", "SweptPairs", "can_sweep"]


def can_sweep(analysis: Analysis) -> bool:
    """Whether a graph is one stretch at offset 0: no op of it mixes offsets."""
    return len(analysis.loops) == 1 and len(analysis.loops[0].offsets) == 1


class SweptPairs(CrossPairs):
    """All pairs of two blocks at offset 0, whose statistics are cut once for both ways."""

    @cached_property
    def _cut(self) -> dict[int, tuple[ImageStatistics, ImageStatistics]]:
        return {}

    def statistics(
        self, index: int, offset: Offset, make: Callable[[], ImageStatistics]
    ) -> tuple[ImageStatistics, ImageStatistics]:
        """The same tensors each time, so that a tape over one rule finds them."""
        if index not in self._cut:
            self._cut[index] = super().statistics(index, offset, make)
        return self._cut[index]


class AdjointPass(ForwardPass):
    """A forward pass at offset 0 that remembers its maps, and the sweep back through them.

    Attributes:
        weights, biases: the derivatives by the variances of the layers, in the program's order,
            each [B2], which their sums are: a sum to one number is not vectorised.
        statistics: those by the statistics of the images of either side, by node.
    """

    def __init__(
        self, analysis: Analysis, rules: Mapping[int, Rule[Any]], pairs: SweptPairs
    ) -> None:
        super().__init__(analysis, rules, pairs, tangent=False)
        self._blocks = pairs.blocks
        self._visits: dict[int, tuple[Maps, RuleContext]] = {}
        zero = tf.zeros(pairs.shape[-1:], pairs.parameters.weights[0].dtype)
        self.weights = [zero for _ in pairs.parameters.weights]
        self.biases = [zero for _ in pairs.parameters.biases]
        self.statistics: tuple[Statistics, Statistics] = {}, {}

    def _apply(self, index: int, inputs: Sequence[Covariance], context: RuleContext) -> Covariance:
        if self._stores(index):
            # The map that the sweep reads again; XLA would sum the window anew there.
            places = self.nodes[index].inputs
            inputs = [
                k if i in self.materialised else self._materialised(k)
                for i, k in zip(places, inputs, strict=True)
            ]
        self._visits[index] = tuple(k.nngp for k in inputs), context
        return super()._apply(index, inputs, context)

    def _stores(self, index: int) -> bool:
        """Whether the inputs of a node are computed once: those of weights and activations.

        The input of an activation after weights is a multiple of theirs.
        """
        if isinstance(self.rules[index], WeightedRule):
            return True
        before = (self.rules.get(i) for i in self.nodes[index].inputs)
        weighted = all(isinstance(rule, WeightedRule) for rule in before)
        return isinstance(self.rules[index], ActivationRule) and not weighted

    def sweep(self, weights: Tensor) -> None:
        """Derivatives of sum over i, j of weights_ij k_ij, after `output`.

        Shapes:
            weights [B1, B2].
        """
        (loop,) = self.analysis.loops
        ahead = [1] * len(self.nodes[loop.last].spatial)
        adjoints = {loop.last: tf.reshape(weights, [*ahead, *weights.shape])}
        for index in reversed(loop.nodes):
            node, k = self.nodes[index], adjoints.pop(index, None)
            if k is None or not node.inputs:
                continue
            if self.analysis.readers[index] > 1 and node.spatial:
                k = materialised(k, self.pairs.parameters)
            for i, part in zip(node.inputs, self._back(index, k), strict=True):
                adjoints[i] = adjoints[i] + part if i in adjoints else part

    def _back(self, index: int, k: PairMap) -> list[PairMap]:
        """The adjoints of a node's inputs, from its own."""
        rule, (maps, context) = self.rules[index], self._visits[index]
        if isinstance(rule, PatchesRule):
            back = window_adjoint(k, rule.op, maps[0].shape, context.materialised)
            return [back / rule.op.taps]
        if isinstance(rule, WeightedRule):
            parameters = context.parameters
            w2, _ = parameters.of(rule.op.layer)
            both = (_over_rows(part, parameters) for part in (k * maps[0], k))
            self._add(rule.op.layer, *both)
            return [w2 * k]
        if isinstance(rule, ActivationRule):
            s1, s2 = self._statistics_of(index)
            slopes = rule.dual.slopes(maps[0], s1, s2)
            if slopes is not None:
                if self.analysis.readers[index] == 1:  # else it is
                    k = materialised(k, self.pairs.parameters)
                by_c, by_root = slopes
                by_root = materialised(k * by_root, self.pairs.parameters)
                (_, inverse1), (_, inverse2) = s1, s2
                by_first = tf.reduce_sum(by_root, -1) * inverse1[..., 0]
                by_second = tf.reduce_sum(by_root, -2) * inverse2[..., 0, :]
                self._note(0, index, (by_first, tf.zeros_like(by_first)))
                self._note(1, index, (by_second, tf.zeros_like(by_second)))
                return [materialised(k * by_c, self.pairs.parameters)]
        return self._by_tape(index, k)

    def _by_tape(self, index: int, k: PairMap) -> list[PairMap]:
        """The adjoints of a node's inputs, by a tape over its rule."""
        rule, (maps, context) = self.rules[index], self._visits[index]
        s1, s2 = self._statistics_of(index)
        parameters, layer = self.pairs.parameters, getattr(rule.op, "layer", None)
        own = [] if layer is None else list(parameters.of(layer))
        sources = [*maps, *s1, *s2, *own]
        with differentiable(), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            value = rule.covariance(maps, context)
        found = tape.gradient(value, sources, k, unconnected_gradients="zero")
        places = [len(maps), len(s1), len(s2), len(own)]
        back, by_first, by_second, by_own = (
            found[sum(places[:i]) : sum(places[: i + 1])] for i in range(4)
        )
        self._note(0, index, tuple(t[..., 0] for t in by_first))
        self._note(1, index, tuple(t[..., 0, :] for t in by_second))
        if layer is not None:
            ahead = tf.one_hot(0, self.pairs.shape[-1], dtype=k.dtype)
            self._add(layer, *(part * ahead for part in by_own))
        return list(back)

    def _statistics_of(self, index: int) -> tuple[ImageStatistics, ImageStatistics]:
        """The statistics of a node, of the images of either side; none of a rule without."""
        if str(index) not in self._blocks[0].statistics:
            return (), ()
        return self._visits[index][1].statistics(tuple)

    def _note(self, side: int, index: int, found: ImageStatistics) -> None:
        if found:
            self.statistics[side][str(index)] = found

    def _add(self, layer: str, weight: Tensor, bias: Tensor) -> None:
        place = self.pairs.parameters.order.index(layer)
        self.weights[place] += weight
        self.biases[place] += bias


def _over_rows(k: PairMap, parameters: Parameters) -> Tensor:
    """The sum over all axes but the last, [B2].

    One axis after the other: a sum over several goes through memory in long steps.
    """
    if k.shape.rank > 2:
        k = materialised(tf.reduce_sum(k, k.shape.rank - 3), parameters)
    return tf.reduce_sum(k, list(range(k.shape.rank - 1)))
