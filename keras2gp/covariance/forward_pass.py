"""The forward pass over one set of pairs: loop by loop, offset by offset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import PairMap, Tensor
from keras2gp.covariance.base import (
    Covariance,
    Maps,
    Offset,
    Pairs,
    Rule,
    RuleContext,
    is_zero,
    materialised,
)
from keras2gp.covariance.borders import Borders
from keras2gp.covariance.joint import apart, joint
from keras2gp.covariance.offset_mixing import averaged
from keras2gp.covariance.repeating import Stretches
from keras2gp.covariance.seams import Seams
from keras2gp.covariance.stored_maps import LoopResults, StoredMaps
from keras2gp.graph.analysis import Analysis
from keras2gp.graph.offsets import Loop
from keras2gp.graph.ops import Mixing, Ratios
from keras2gp.graph.repetitions import Repetition

__all__ = ["ForwardPass"]

_LONGEST_CHAIN = 16
"""Activations that are fused: 200 dense layers compile in a tenth of the time, and run as fast."""


class ForwardPass:
    """One pass over a graph with one set of pairs.

    rules:       the rule of every node of the loops
    tangent:     whether the tangent kernel is computed alongside
    repetitions: stretches that one body computes, by the node that the first begins with
    """

    def __init__(
        self,
        analysis: Analysis,
        rules: Mapping[int, Rule[Any]],
        pairs: Pairs,
        *,
        tangent: bool,
        repetitions: Mapping[int, Repetition] | None = None,
    ) -> None:
        self.analysis = analysis
        self.nodes = analysis.graph.nodes
        self.rules = dict(rules)
        self.repetitions = repetitions or {}
        self.repeated = {i for r in self.repetitions.values() for s in r.nodes for i in s}
        self.pairs = pairs
        self.tangent = tangent
        self.stored: dict[int, StoredMaps] = {}
        self.materialised = _materialised_nodes(analysis)

    def output(self, *, between: bool = False) -> Covariance:
        """The covariance of the output at offset 0; between all of its positions where asked for.

        Shapes: [*spatial, *pairs]; [*spatial, *spatial, *pairs], the first image's position first
        """
        *loops, last = self.analysis.loops
        for loop in loops:
            self.stored[loop.result] = self._loop(loop)
            self._mix_mean(loop)
        size = self.nodes[last.last].spatial
        if not between:
            return self._iteration(last, (0,) * len(size))
        maps = self._loop(last) if last.nodes else self.stored[last.last]
        return maps.between(size)

    def _loop(self, loop: Loop) -> StoredMaps:
        """All iterations of a loop, and the maps that they leave."""
        zero = (0,) * len(self.nodes[loop.last].spatial)
        at_zero = loop.turns.index(zero)
        results = LoopResults(self.analysis, loop, self.pairs, tangent=self.tangent)
        array = results.empty()
        slots = list(range(len(loop.turns)))
        if (self.pairs.zero_first and loop.nodes) or len(slots) == 1:
            array = results.add(array, at_zero, self._iteration(loop, zero))
            slots.remove(at_zero)
        if slots:
            self.pairs.before_loop(i for i in loop.nodes if i not in self.repeated)
            order, offsets = tf.constant(slots), tf.constant(loop.turns)
            seams = Seams(self.nodes, loop) if loop.periods else None

            def iteration(i: Tensor, array: Tensor) -> tuple[Tensor, Any]:
                offset = tuple(tf.unstack(offsets[order[i]], len(zero)))
                return i + 1, results.add(array, order[i], self._iteration(loop, offset, seams))

            _, array = tf.while_loop(
                lambda i, _: i < len(slots),
                iteration,
                (tf.constant(0), array),
                parallel_iterations=1,
            )
        return results.stored(array)

    def _mix_mean(self, loop: Loop) -> None:
        """The mean of a mixing op, which is applied to one image's map as it is."""
        op = self.nodes[loop.result].op
        if isinstance(op, Mixing) and loop.result in self.analysis.means:
            size = self.nodes[loop.last].spatial
            self.pairs.store_mean(
                loop.result, lambda: averaged(op, self.pairs.mean(loop.last), size)
            )

    def _iteration(self, loop: Loop, offset: Offset, seams: Seams | None = None) -> Covariance:
        """The maps of the loop's last node at one offset, or in one turn of a cyclic loop."""
        if not loop.nodes:
            return self.stored[loop.last].at(offset)
        maps: dict[int, Covariance] = {}
        borders = Borders(self.pairs, offset, seams)
        compute = partial(self._stretch, loop, offset)
        for index in loop.nodes:
            if index in self.repetitions:
                pairs, tangent = self.pairs, self.tangent
                found = Stretches(self.repetitions[index], pairs, self.rules, tangent=tangent)
                maps |= found.last(maps, borders, offset, compute)
            elif index not in self.repeated:
                compute([index], maps, borders)
        result = maps[loop.last]
        if loop.mixes:
            return result
        return borders.cleared(
            result, self.nodes[loop.last].spatial, loop.scales[loop.last], offset
        )

    def _stretch(
        self,
        loop: Loop,
        offset: Offset,
        nodes: Iterable[int],
        maps: dict[int, Covariance],
        borders: Borders,
    ) -> None:
        """The maps of some nodes, which are put beside those of the nodes before them."""
        for index in nodes:
            maps[index] = self._map(index, loop, offset, maps, borders)

    def _map(
        self,
        index: int,
        loop: Loop,
        offset: Offset,
        maps: Mapping[int, Covariance],
        borders: Borders,
    ) -> Covariance:
        """The maps of one node, at its scale times the offset of the loop."""
        scales = loop.scales
        node, scale = self.nodes[index], scales[index]
        read = node.op.input_offset(scale)
        if node.op.keeps_axes:
            at = _times(read, offset)
        else:  # its input is stored, and read at any offset
            at = node.op.input_offset(_times(scale, offset))
        inputs = [maps[i] if i in maps else self._stored(i, loop, read, at) for i in node.inputs]
        for number, i in enumerate(node.inputs):
            if i in maps and scales[i] != read:  # one position, computed at offset 0 alone
                inputs[number] = replace(inputs[number], zeros=False, ntk_zeros=False)
        if node.op.reads_outside or self.rules[index].needs_inside:
            sizes = [self.nodes[i].spatial for i in node.inputs]
            inputs = [borders.cleared(k, n, read, at) for k, n in zip(inputs, sizes, strict=True)]
        cuts = borders.cuts.get(index, ())
        context = RuleContext(self.pairs, index, node.inputs, _times(scale, offset), cuts)
        result = self._apply(index, inputs, context)
        return self._materialised(result) if index in self.materialised else result

    def _stored(self, index: int, loop: Loop, scale: Ratios, offset: Offset) -> Covariance:
        """The maps of an earlier loop at an offset, `scale` times that of this one."""
        if not loop.periods or is_zero(offset):
            return self.stored[index].at(offset)
        period = tuple(int(ratio) * p for ratio, p in zip(scale, loop.periods, strict=True))
        return self.stored[index].around(offset, period)

    def _apply(self, index: int, inputs: Sequence[Covariance], context: RuleContext) -> Covariance:
        """The rule of a node, for both kernels."""
        rule = self.rules[index]
        maps, thetas = tuple(k.nngp for k in inputs), tuple(k.ntk for k in inputs)
        ntk: PairMap | None = None
        # A convolution does not take complex numbers.
        known = all(theta is not None for theta in thetas)
        if rule.joint and known and self.pairs.method == "shifts":
            k, ntk = apart(rule.covariance(tuple(map(joint, maps, thetas)), context))
        else:
            k = rule.covariance(maps, context)
            if self.tangent:
                ntk = _tangent(rule, k, maps, thetas, context)
        if index in self.analysis.means and is_zero(context.offset):
            self.pairs.store_mean(index, lambda: rule.mean(maps, context))
        zeros, ntk_zeros = rule.vanishes(inputs)
        return Covariance(k, ntk, zeros, ntk_zeros)

    def _materialised(self, k: Covariance) -> Covariance:
        """The same maps, computed once."""
        parameters = self.pairs.parameters
        if k.ntk is None:
            return replace(k, nngp=materialised(k.nngp, parameters))
        nngp, ntk = apart(materialised(joint(k.nngp, k.ntk), parameters))
        return replace(k, nngp=nngp, ntk=ntk)


def _materialised_nodes(analysis: Analysis) -> frozenset[int]:
    """The nodes whose maps are computed once: several readers, or the end of a long chain.

    Each of several readers would compute a map again. XLA fuses a chain of pointwise ops into one
    loop, whose compilation takes time with the square of its length.
    """
    result = set()
    length: list[int] = []
    for index, node in enumerate(analysis.graph.nodes):
        sizes = [analysis.graph.nodes[i].spatial for i in node.inputs]
        is_pointwise = sizes and not (node.op.reads_outside or node.op.mixing)
        is_pointwise = is_pointwise and all(len(size) == len(node.spatial) for size in sizes)
        before = max((length[i] for i in node.inputs), default=0) if is_pointwise else 0
        length.append(before + node.op.needs_gaussian)
        if length[index] >= _LONGEST_CHAIN:
            length[index] = 0
            result.add(index)
        if analysis.readers[index] > 1 and node.spatial:
            result.add(index)
    return frozenset(result)


def _tangent(
    rule: Rule[Any],
    k: PairMap,
    maps: Maps,
    thetas: tuple[PairMap | None, ...],
    context: RuleContext,
) -> PairMap | None:
    """Theta' of one op; None while it is 0, before the first weights."""
    if all(theta is None for theta in thetas):
        return k if rule.op.random else None
    zero = (
        tf.zeros_like(m) if theta is None else theta for m, theta in zip(maps, thetas, strict=True)
    )
    return rule.tangent(k, maps, tuple(zero), context)


def _times(scale: Ratios, offset: Offset) -> Offset:
    """The offset of a node as a multiple of that of the loop, rounded down.

    Where it is not whole, the value does not matter: the op that divides gives 0 (Dilate).
    """
    if not any(scale):
        return (0,) * len(scale)
    ratios = [Fraction(ratio) for ratio in scale]
    return tuple(
        (d if r == 1 else d * r.numerator // r.denominator) if r else 0
        for d, r in zip(offset, ratios, strict=True)
    )
