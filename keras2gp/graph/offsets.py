"""Which spatial offsets of the covariance each tensor must carry, and the walk that follows.

Backwards from the output, which needs offset 0: each op says which offsets of its input the
offsets of its output need. Without an op that mixes offsets (pooling, upsampling) the demand is
{0} throughout: that is the efficient kernel of the paper (section 3.3), found and not assumed.

Between two ops that mix offsets every offset goes its own way, so the graph falls into stretches:
nodes that are walked together, one offset at a time, with the working set of one map.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from keras2gp.graph.graph import Graph
from keras2gp.graph.mixing import Mixing
from keras2gp.graph.ops import Input, Offset, Op, Ratios, Spatial

__all__ = ["Stretch", "demand", "reach", "stretches"]


@dataclass(frozen=True)
class Stretch:
    """Nodes walked together, one turn for each offset of the last of them.

    walked:  the node whose maps the turns give
    offsets: which offsets of it
    nodes:   what is computed in a turn, in topological order; none if `walked` is kept from before
    scales:  offset of each of these nodes as a multiple of that of `walked`, by axis
    result:  the node whose maps are kept: `walked` itself, or the mixing op that reads it
    """

    walked: int
    offsets: tuple[Offset, ...]
    nodes: tuple[int, ...]
    scales: Mapping[int, Ratios]
    result: int

    @property
    def mixes(self) -> bool:
        """Whether the maps are added up by a mixing op."""
        return self.result != self.walked


def demand(graph: Graph) -> list[frozenset[Offset]]:
    """Demanded offsets of every node, one integer per spatial axis each.

    Raises: GraphError if an offset other than 0 does not survive an op on the way.
    """
    wanted: list[set[Offset]] = [set() for _ in graph.nodes]
    wanted[graph.output].add((0,) * len(graph.nodes[graph.output].spatial))
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        for source in node.inputs:
            wanted[source].update(_read(graph, index, source, frozenset(wanted[index])))
    return [frozenset(offsets) for offsets in wanted]


def _read(graph: Graph, index: int, source: int, offsets: frozenset[Offset]) -> set[Offset]:
    """Offsets of one input that these offsets of a node read, where they are not 0 throughout."""
    op, size = graph.nodes[index].op, graph.nodes[source].spatial
    if type(op).input_offset is Op.input_offset and size == graph.nodes[index].spatial:
        return set(offsets)  # most ops, of thousands of offsets each
    if isinstance(op, Mixing):
        found: Iterable[Ratios] = op.input_offsets(offsets, size) if offsets else ()
    else:
        found = (op.input_offset(offset) for offset in offsets)
    whole = [
        tuple(int(d) for d in offset)
        for offset in found
        if all(isinstance(d, int) or d.denominator == 1 for d in offset)
    ]
    return {o for o in whole if all(abs(d) < n for d, n in zip(o, size, strict=True))}


def stretches(graph: Graph) -> tuple[Stretch, ...]:
    """The loops of the forward pass, in order; the last gives the output.

    A node that two loops read, or one loop at two offsets, has a loop of its own, and its maps are
    kept. Inputs are at hand at every offset.
    """
    wanted = demand(graph)
    readers: list[set[tuple[int, Ratios]]] = [set() for _ in graph.nodes]
    last = len(graph.nodes)
    found: dict[int, Stretch] = {}
    members: dict[int, list[int]] = {last: []}
    scales: dict[int, dict[int, Ratios]] = {last: {}}

    def begin(loop: int, walked: int, offsets: Iterable[Offset], result: int) -> None:
        members[loop], scales[loop] = [], {}
        found[loop] = Stretch(walked, tuple(sorted(offsets)), (), {}, result)
        whole = {d for offset in found[loop].offsets for d in offset} - {0}
        unit = (1 if whole else 0,) * len(graph.nodes[walked].spatial)
        readers[walked].add((loop, unit))

    begin(last, graph.output, wanted[graph.output], graph.output)
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        if not readers[index]:
            continue
        if node.op.mixing:
            (source,) = node.inputs
            begin(index, source, _read(graph, index, source, wanted[index]), index)
            continue
        loops = [loop for loop, _ in readers[index]]
        if len(loops) > (len(set(loops)) if isinstance(node.op, Input) else 1):
            readers[index].clear()
            begin(index, index, wanted[index], index)
        for loop, scale in readers[index]:
            members[loop].append(index)
            scales[loop][index] = scale
            for source in node.inputs:
                readers[source].add((loop, node.op.input_offset(scale)))
    return tuple(
        Stretch(s.walked, s.offsets, tuple(reversed(members[loop])), scales[loop], s.result)
        for loop, s in sorted(found.items())
    )


def reach(graph: Graph, walks: Iterable[Stretch]) -> dict[int, Spatial]:
    """The largest offset, along each axis, at which each node is walked; at most its size."""
    found: dict[int, Spatial] = {}
    for stretch in walks:
        for index, scale in stretch.scales.items():
            size = graph.nodes[index].spatial
            most = [0] * len(size)
            for offset in stretch.offsets if any(scale) else ():
                for axis, (d, ratio) in enumerate(zip(offset, scale, strict=True)):
                    most[axis] = max(most[axis], min(abs(int(d * ratio)), size[axis]))
            before = found.get(index, tuple(most))
            found[index] = tuple(map(max, most, before))
    return found
