"""Nodes in topological order, and the builder that never holds two equal ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras2gp.errors import GraphError
from keras2gp.graph.ops import Input, Op, Weighted

__all__ = ["Graph", "GraphBuilder", "Node"]


@dataclass(frozen=True)
class Node:
    """One tensor of the network: an op applied to earlier nodes.

    inputs:  indices of the nodes that it reads
    spatial: sizes of its spatial axes
    path:    the Keras layer that it comes from
    """

    op: Op
    inputs: tuple[int, ...]
    spatial: tuple[int, ...]
    path: str


@dataclass(frozen=True)
class Graph:
    """A network: every node reads earlier ones only; `output` is the one that is asked for.

    between: whether its covariance is asked for between all pairs of positions, and not only at
             equal positions
    """

    nodes: tuple[Node, ...]
    output: int
    between: bool = False

    def __post_init__(self) -> None:
        for index, node in enumerate(self.nodes):
            if any(not 0 <= source < index for source in node.inputs):
                raise GraphError(f"node {index} ({node.path}) reads a node that is not before it")
            shapes = tuple(self.nodes[source].spatial for source in node.inputs)
            if node.op.spatial(shapes) != node.spatial:
                raise GraphError(f"node {index} ({node.path}) states a wrong shape {node.spatial}")
        if not 0 <= self.output < len(self.nodes):
            raise GraphError(f"output {self.output} is not a node")

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The data tensors that the graph reads, ordered by their index."""
        ops = [node.op for node in self.nodes if isinstance(node.op, Input)]
        return tuple(sorted(ops, key=lambda op: op.index))

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers with weights, in the order in which the network meets them."""
        names = (node.op.layer for node in self.nodes if isinstance(node.op, Weighted))
        return tuple(dict.fromkeys(names))

    @property
    def positions(self) -> tuple[int, ...]:
        """Sizes of the spatial axes of the output; () for a single position."""
        spatial = self.nodes[self.output].spatial
        return spatial if math.prod(spatial) > 1 else ()

    def pruned(self, output: int | None = None) -> Graph:
        """The part that the output depends on."""
        output = self.output if output is None else output
        alive = {output}
        for index in range(output, -1, -1):
            if index in alive:
                alive.update(self.nodes[index].inputs)
        renamed = {old: new for new, old in enumerate(sorted(alive))}
        nodes = tuple(
            Node(node.op, tuple(renamed[i] for i in node.inputs), node.spatial, node.path)
            for node in (self.nodes[old] for old in sorted(alive))
        )
        return Graph(nodes, renamed[output], self.between)


class GraphBuilder:
    """Grows a graph. Equal ops on equal inputs are one node, so that equality is identity."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[tuple[Op, tuple[int, ...]], int] = {}

    def add(self, op: Op, inputs: tuple[int, ...], path: str) -> int:
        """Index of the node for this op on these inputs, made if it is new.

        Raises: GraphError if the shapes of the inputs do not suit the op.
        """
        key = (op, inputs)
        if key not in self._known:
            spatial = op.spatial(tuple(self.nodes[i].spatial for i in inputs))
            self.nodes.append(Node(op, inputs, spatial, path))
            self._known[key] = len(self.nodes) - 1
        return self._known[key]

    def graph(self, output: int) -> Graph:
        """The nodes that `output` depends on, as a graph."""
        return Graph(tuple(self.nodes), output).pruned()
