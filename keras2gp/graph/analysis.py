"""The analysis of a graph: the facts that the forward pass and its cost follow from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from keras2gp.graph.cycles import packed, stored_periods
from keras2gp.graph.distributions import known_means, mean_readers
from keras2gp.graph.graph import Graph
from keras2gp.graph.offsets import Loop, demand, loops, reach
from keras2gp.graph.ops import Margin, Offset, Spatial, wrapped

__all__ = ["Analysis"]


@dataclass(frozen=True)
class Analysis:
    """A graph with all that is known of its nodes before any image.

    readers:     how many inputs of other nodes each node is
    loops:       the loops of the forward pass, in order
    margins:     what surrounds the tensors of each node, for the offsets at which it is computed
    offsets:     the demanded offsets of every node, sorted
    periods:     of maps that outlive a loop, the period by which they are stored (see cycles.py)
    needs_means: nodes whose covariance depends on the means of their inputs
    means:       nodes whose means are computed
    """

    graph: Graph
    readers: Mapping[int, int]
    loops: tuple[Loop, ...]
    margins: Mapping[int, Margin]
    offsets: tuple[tuple[Offset, ...], ...]
    periods: Mapping[int, Spatial]
    needs_means: frozenset[int]
    means: frozenset[int]

    @classmethod
    def of(cls, graph: Graph, *, cyclic: bool = True) -> Analysis:
        """The analysis of a graph.

        cyclic: whether two offsets along an axis share a turn of a loop, where that takes fewer

        Raises: GraphError if an offset other than 0 does not survive an op on the way.
        """
        passes = packed(graph, loops(graph)) if cyclic else loops(graph)
        return cls(
            graph,
            Counter(i for node in graph.nodes for i in node.inputs),
            passes,
            reach(graph, passes),
            tuple(tuple(sorted(offsets)) for offsets in demand(graph)),
            stored_periods(graph, passes),
            mean_readers(graph),
            known_means(graph),
        )

    def slots(self, index: int) -> tuple[Offset, ...]:
        """The offsets by which the maps of a node are stored, modulo its period if it has one."""
        return wrapped(self.offsets[index], self.periods.get(index, ()))
