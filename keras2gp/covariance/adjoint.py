"""Derivatives of a kernel by a sweep back over its graph, node by node.

A tape over the whole forward pass keeps each intermediate map of each rule. The sweep keeps one map
for each node, and asks a rule for its derivatives when it comes to it: those of homogeneous
activations and of windows are written out (`Dual.slopes`, `window_adjoint`), and a tape over one
rule alone gives those of all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import PairMap, Tensor
from keras2gp.covariance.base import (
    Covariance,
    ImageStatistics,
    Maps,
    Rule,
    RuleContext,
    Statistics,
    materialised,
)
from keras2gp.covariance.elementwise import ActivationRule
from keras2gp.covariance.forward_pass import ForwardPass
from keras2gp.covariance.pairs import CrossPairs
from keras2gp.covariance.windows import PatchesRule, window_adjoint
from keras2gp.graph.analysis import Analysis

__all__ = ["AdjointPass", "can_sweep"]


def can_sweep(analysis: Analysis) -> bool:
    """Whether a graph is one stretch at offset 0: no op of it mixes offsets."""
    return len(analysis.loops) == 1 and len(analysis.loops[0].offsets) == 1


class AdjointPass(ForwardPass):
    """A forward pass at offset 0 that remembers its maps, and the sweep back through them.

    Attributes:
        weights, biases: the derivatives by the variances of the layers, in the program's order.
        statistics: those by the statistics of the images of either side, by node.
    """

    def __init__(
        self, analysis: Analysis, rules: Mapping[int, Rule[Any]], pairs: CrossPairs
    ) -> None:
        super().__init__(analysis, rules, pairs, tangent=False)
        self._blocks = pairs.blocks
        self._visits: dict[int, tuple[Maps, RuleContext]] = {}
        self.weights = [tf.zeros_like(v) for v in pairs.parameters.weights]
        self.biases = [tf.zeros_like(v) for v in pairs.parameters.biases]
        self.statistics: tuple[Statistics, Statistics] = {}, {}

    def _apply(self, index: int, inputs: Sequence[Covariance], context: RuleContext) -> Covariance:
        if isinstance(self.rules[index], ActivationRule):
            # The map that the sweep reads again; XLA would sum the window anew there.
            inputs = [self._materialised(k) for k in inputs]
        self._visits[index] = tuple(k.nngp for k in inputs), context
        return super()._apply(index, inputs, context)

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
        if isinstance(rule, ActivationRule):
            s1, s2 = self._statistics_of(index)
            first = tuple(tf.expand_dims(t, -1) for t in s1)
            second = tuple(tf.expand_dims(t, -2) for t in s2)
            slopes = rule.dual.slopes(maps[0], first, second)
            if slopes is not None:
                k = materialised(k, self.pairs.parameters)
                by_c, by_first, by_second = slopes
                rest1, rest2 = ([tf.zeros_like(t) for t in s[1:]] for s in (s1, s2))
                self._note(0, index, (tf.reduce_sum(k * by_first, -1), *rest1))
                self._note(1, index, (tf.reduce_sum(k * by_second, -2), *rest2))
                return [k * by_c]
        return self._by_tape(index, k)

    def _by_tape(self, index: int, k: PairMap) -> list[PairMap]:
        """The adjoints of a node's inputs, by a tape over its rule."""
        rule, (maps, context) = self.rules[index], self._visits[index]
        s1, s2 = self._statistics_of(index)
        parameters, layer = self.pairs.parameters, getattr(rule.op, "layer", None)
        own = [] if layer is None else list(parameters.of(layer))
        sources = [*maps, *s1, *s2, *own]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            value = rule.covariance(maps, context)
        found = tape.gradient(value, sources, k, unconnected_gradients="zero")
        places = [len(maps), len(s1), len(s2), len(own)]
        back, by_first, by_second, by_own = (
            found[sum(places[:i]) : sum(places[: i + 1])] for i in range(4)
        )
        self._note(0, index, tuple(by_first))
        self._note(1, index, tuple(by_second))
        for total, part in zip((self.weights, self.biases), by_own, strict=False):
            total[parameters.order.index(str(layer))] += part
        return list(back)

    def _statistics_of(self, index: int) -> tuple[ImageStatistics, ImageStatistics]:
        """The statistics of a node, of the images of either side; none of a rule without."""
        first, second = (block.statistics.get(str(index), ()) for block in self._blocks)
        return first, second

    def _note(self, side: int, index: int, found: ImageStatistics) -> None:
        if found:
            self.statistics[side][str(index)] = found
