"""Which spatial offsets of the covariance each tensor must carry, and the walk that follows.

Backwards from the output, which needs offset 0: each op says which offset of its input an offset
of its output needs. Without an op that mixes offsets (pooling, upsampling) the demand is {0}
throughout: that is the efficient kernel of the paper (section 3.3), found and not assumed.

Between two ops that mix offsets every offset goes its own way, so the graph falls into stretches:
nodes that are walked together, one offset at a time, with the working set of one map.
"""

from __future__ import annotations

from dataclasses import dataclass

from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Offset

__all__ = ["Stretch", "demand", "stretches"]


@dataclass(frozen=True)
class Stretch:
    """Nodes walked together for each offset of their last one.

    nodes:   indices in topological order; the last is the stretch's output
    offsets: the offsets of that output that are demanded
    """

    nodes: tuple[int, ...]
    offsets: tuple[Offset, ...]


def demand(graph: Graph) -> list[frozenset[Offset]]:
    """Demanded offsets of every node, one integer per spatial axis each."""
    wanted: list[set[Offset]] = [set() for _ in graph.nodes]
    wanted[graph.output].add((0,) * len(graph.nodes[graph.output].spatial))
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        for offset in wanted[index]:
            for source in node.inputs:
                wanted[source].add(node.op.input_offset(offset))
    return [frozenset(offsets) for offsets in wanted]


def stretches(graph: Graph) -> tuple[Stretch, ...]:
    """The loops of the forward pass, in order. No op mixes offsets so far: there is one."""
    wanted = demand(graph)
    nodes = tuple(range(graph.output + 1))
    return (Stretch(nodes, tuple(sorted(wanted[graph.output]))),)
