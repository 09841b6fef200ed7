"""The analysis of a graph: the facts that the forward pass and its cost follow from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from keras2gp.graph.distributions import known_means, mean_readers
from keras2gp.graph.graph import Graph
from keras2gp.graph.offsets import Loop, demand, loops, reach
from keras2gp.graph.ops import Offset, Spatial

__all__ = ["Analysis"]


@dataclass(frozen=True)
class Analysis:
    """A graph with all that is known of its nodes before any image.

    readers:     how many inputs of other nodes each node is
    loops:       the loops of the forward pass, in order
    margins:     the largest offset, along each axis, at which each node is computed
    offsets:     the demanded offsets of every node, sorted
    needs_means: nodes whose covariance depends on the means of their inputs
    means:       nodes whose means are computed
    """

    graph: Graph
    readers: Mapping[int, int]
    loops: tuple[Loop, ...]
    margins: Mapping[int, Spatial]
    offsets: tuple[tuple[Offset, ...], ...]
    needs_means: frozenset[int]
    means: frozenset[int]

    @classmethod
    def of(cls, graph: Graph) -> Analysis:
        """The analysis of a graph.

        Raises: GraphError if an offset other than 0 does not survive an op on the way.
        """
        passes = loops(graph)
        return cls(
            graph,
            Counter(i for node in graph.nodes for i in node.inputs),
            passes,
            reach(graph, passes),
            tuple(tuple(sorted(offsets)) for offsets in demand(graph)),
            mean_readers(graph),
            known_means(graph),
        )
