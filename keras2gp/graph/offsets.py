"""The spatial offsets at which each tensor's covariance is needed, and the loops over them.

Backwards from the output, which needs offset 0, or every offset where the covariance between all
positions is asked for (Graph.between): each op says which offsets of its input the
offsets of its output need. Without an op that mixes offsets (pooling, upsampling) the demand is
{0} throughout: that is the efficient kernel of the paper (section 3.3), found and not assumed.

Between two ops that mix offsets every offset goes its own way, so the graph falls into loops: nodes
that are computed together, one offset at a time, with the working set of one map.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from keras2gp.errors import InputError, Obstacle
from keras2gp.graph.distributions import kinds
from keras2gp.graph.graph import Graph, Node
from keras2gp.graph.ops import Input, Margin, Mixing, Offset, Op, Ratios, Spatial, Upsample, wrapped

__all__ = ["Loop", "check_offsets", "demand", "loops", "reach"]

_MOST_OFFSETS = 2**23
"""Offsets of one node: all of an image of 1448 x 1448, and a gigabyte of memory."""
_MOST_ROWS = 2**21
"""Positions of a mixed map along one axis: seconds, and a gigabyte of memory."""
_MOST_STEPS = 2**29
"""Rows of a map along one axis times offsets along it: minutes."""


@dataclass(frozen=True)
class Loop:
    """Nodes computed together, one iteration for each turn: an offset of the last of them.

    last:    the node whose maps the iterations give
    offsets: which offsets of it
    nodes:   those of an iteration, in topological order; none if the maps of `last` are stored
    scales:  offset of each of these nodes as a multiple of that of `last`, by axis
    result:  the node whose maps are stored: `last` itself, or the mixing op that reads it
    periods: in a cyclic loop the period of the offsets along each axis, by which two of them share
             a turn (see cycles.py); else none
    """

    last: int
    offsets: tuple[Offset, ...]
    nodes: tuple[int, ...]
    scales: Mapping[int, Ratios]
    result: int
    periods: Spatial = ()

    @cached_property
    def turns(self) -> tuple[Offset, ...]:
        """The offsets of the iterations, sorted; those of a cyclic loop are from 0 on."""
        return wrapped(self.offsets, self.periods)

    def period_of(self, index: int) -> Spatial:
        """The period of a node's own offsets, 0 along an axis of offset 0; none if not cyclic."""
        if not self.periods:
            return ()
        scale = self.scales[index]
        return tuple(int(ratio) * p for ratio, p in zip(scale, self.periods, strict=True))

    @property
    def mixes(self) -> bool:
        """Whether the maps are added up by a mixing op."""
        return self.result != self.last


def demand(graph: Graph, *, stop: bool = False) -> list[frozenset[Offset]]:
    """Demanded offsets of every node, one integer per spatial axis each.

    stop: ask for offset 0 behind an op that keeps no offsets, and for none behind a refused layer

    Raises: GraphError if an offset other than 0 does not survive an op on the way.
    """
    demanded: list[set[Offset]] = [set() for _ in graph.nodes]
    demanded[graph.output].update(_asked(graph))
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        for source in node.inputs:
            if stop and not node.op.keeps_offsets:
                zero = (0,) * len(graph.nodes[source].spatial)
                demanded[source].update(() if node.op.random else [zero])
            else:
                demanded[source].update(_read(graph, index, source, frozenset(demanded[index])))
    return [frozenset(offsets) for offsets in demanded]


def _asked(graph: Graph) -> Iterable[Offset]:
    """The offsets of the output: 0, or every one."""
    size = graph.nodes[graph.output].spatial
    if not graph.between:
        return [(0,) * len(size)]
    if math.prod(2 * n - 1 for n in size) > _MOST_OFFSETS:
        raise InputError(
            f"the covariance between all {' x '.join(map(str, size))} positions of the output is "
            "asked for. Try: one position, or equal positions"
        )
    return product(*(range(1 - n, n) for n in size))


def _read(graph: Graph, index: int, source: int, offsets: frozenset[Offset]) -> set[Offset]:
    """Offsets of one input that these offsets of a node read, where they are not 0 throughout."""
    op, size = graph.nodes[index].op, graph.nodes[source].spatial
    if type(op).input_offset is Op.input_offset and size == graph.nodes[index].spatial:
        return set(offsets)  # most ops, of thousands of offsets each
    if isinstance(op, Mixing):
        _require_countable(graph.nodes[index], len(offsets), size)
        read: Iterable[Ratios] = op.input_offsets(offsets, size) if offsets else ()
    else:
        read = (op.input_offset(offset) for offset in offsets)
    whole = [
        tuple(int(d) for d in offset)
        for offset in read
        if all(isinstance(d, int) or d.denominator == 1 for d in offset)
    ]
    return {o for o in whole if all(abs(d) < n for d, n in zip(o, size, strict=True))}


def _require_countable(node: Node, offsets: int, size: Spatial) -> None:
    """Refuse a pooling or an upsampling whose offsets would take hours and gigabytes to count."""
    rows = max((*size, *node.spatial), default=1)
    read = math.prod(2 * n - 1 for n in size) if offsets else 0
    windows = getattr(node.op, "window", size if not isinstance(node.op, Upsample) else ())
    read = min(read, offsets * math.prod(2 * k for k in windows or (1,) * len(size)))
    if read > _MOST_OFFSETS or (offsets and rows * min(offsets, 2 * rows) > _MOST_STEPS):
        raise InputError(
            f"{node.path}: the covariance of its {' x '.join(map(str, size))} positions is needed "
            f"at up to {read} offsets, one map each. Try: smaller images, or strides, or Flatten "
            "in the place of pooling"
        )
    if offsets and rows > _MOST_ROWS:
        raise InputError(
            f"{node.path}: a map of {rows} positions along one axis, expected {_MOST_ROWS} at "
            "most. Try: smaller images, or less upsampling"
        )


def check_offsets(graph: Graph) -> list[Obstacle]:
    """Obstacles: reshaped maps whose covariance at an offset other than 0 is needed.

    Pooling asks for it. The same offset is another one at every position before a Reshape; between
    the units of a vector (Spread) it is 0 for Gaussian ones, and the product of means for features.
    """
    if not any(map(_may_refuse, graph.nodes)):
        return []
    kind = kinds(graph)
    obstacles = []
    for node, offsets in zip(graph.nodes, demand(graph, stop=True), strict=True):
        if _may_refuse(node) and any(map(node.op.loses_offset, offsets)):
            source = node.inputs[0]
            refusal = node.op.refuses_offsets(graph.nodes[source].spatial, kind[source])
            if refusal is not None:
                obstacles.append(Obstacle(node.path, *refusal))
    return list(dict.fromkeys(obstacles))  # channel groups of one layer have the same to say


def _may_refuse(node: Node) -> bool:
    """Whether an op may refuse offsets, and has positions for which there are any."""
    refuses = type(node.op).refuses_offsets is not Op.refuses_offsets
    return refuses and math.prod(node.spatial) > 1


def loops(graph: Graph) -> tuple[Loop, ...]:
    """The loops of the forward pass, in order; the last gives the output.

    A node that two loops read, or one loop at two offsets, or an op that permutes the axes, has a
    loop of its own, and its maps are stored. Inputs are at hand at every offset.
    """
    demanded = demand(graph)
    readers: list[set[tuple[int, Ratios]]] = [set() for _ in graph.nodes]
    last = len(graph.nodes)
    begun: dict[int, Loop] = {}
    members: dict[int, list[int]] = {last: []}
    scales: dict[int, dict[int, Ratios]] = {last: {}}

    def begin(loop: int, end: int, offsets: Iterable[Offset], result: int) -> None:
        members[loop], scales[loop] = [], {}
        begun[loop] = Loop(end, tuple(sorted(offsets)), (), {}, result)
        size = graph.nodes[end].spatial
        by_axis = zip(*begun[loop].offsets, strict=True)
        scale = tuple(int(any(distances)) for distances in by_axis) or (0,) * len(size)
        readers[end].add((loop, _within(scale, size)))

    apart = {i for node in graph.nodes if not node.op.keeps_axes for i in node.inputs}
    begin(last, graph.output, demanded[graph.output], graph.output)
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        if not readers[index]:
            continue
        if node.op.mixing:
            (source,) = node.inputs
            begin(index, source, _read(graph, index, source, demanded[index]), index)
            continue
        reading = [loop for loop, _ in readers[index]]
        most = len(set(reading)) if isinstance(node.op, Input) else 1
        if index in apart or len(reading) > most:
            readers[index].clear()
            begin(index, index, demanded[index], index)
        for loop, scale in readers[index]:
            members[loop].append(index)
            scales[loop][index] = scale
            for source in node.inputs:
                read = _within(node.op.input_offset(scale), graph.nodes[source].spatial)
                readers[source].add((loop, read))
    return tuple(
        Loop(b.last, b.offsets, tuple(reversed(members[loop])), scales[loop], b.result)
        for loop, b in sorted(begun.items())
    )


def _within(scale: Ratios, size: Spatial) -> Ratios:
    """The scale at which a map is computed: 0 along an axis of one position.

    Every other offset along that axis is beyond the border, so the reader sets the map to 0.
    """
    return tuple(0 if n == 1 else ratio for ratio, n in zip(scale, size, strict=True))


def reach(graph: Graph, walks: Iterable[Loop]) -> dict[int, Margin]:
    """The margin of each node: for the largest offset at which it is computed, at most its size."""
    margins: dict[int, Margin] = {}
    for loop in walks:
        for index, scale in loop.scales.items():
            size = graph.nodes[index].spatial
            none = (0,) * len(size)
            before = margins.get(index, Margin(none, none))
            if not any(scale):
                margins[index] = before
            elif loop.periods:
                margins[index] = Margin(none, loop.period_of(index))
            else:
                most = list(before.zeros)
                for offset in loop.offsets:
                    for axis, (d, ratio) in enumerate(zip(offset, scale, strict=True)):
                        most[axis] = max(most[axis], min(abs(int(d * ratio)), size[axis]))
                margins[index] = Margin(tuple(most), none)
    return margins
