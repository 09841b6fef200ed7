"""Reshapes that are asked for covariances between different positions, which they cannot give."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from keras2gp.errors import Obstacle
from keras2gp.graph.distributions import Kind, kinds
from keras2gp.graph.graph import Graph, Node
from keras2gp.graph.offsets import demand
from keras2gp.graph.ops import Op, Opaque, Ratios, Reshape, Spatial, Spread

__all__ = ["check_offsets"]


@dataclass(frozen=True)
class _Barrier(Op):
    """Stands for an op while demand is counted: asks for offset 0, whatever it is asked for."""

    size: Spatial
    rank: int

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        return self.size

    def input_offset(self, offset: Ratios) -> Ratios:
        return (0,) * self.rank


def check_offsets(graph: Graph) -> list[Obstacle]:
    """Obstacles: reshaped maps whose covariance at an offset other than 0 is needed.

    Pooling asks for it. The same offset is another one at every position before a Reshape; between
    the units of a vector (Spread) it is 0 for Gaussian ones, and the product of means for features.
    """
    if not any(_moves_positions(node) for node in graph.nodes):
        return []
    found = kinds(graph)
    obstacles = []
    barred = Graph(tuple(map(_barred, graph.nodes)), graph.output)
    for node, offsets in zip(graph.nodes, demand(barred), strict=True):
        if not any(map(any, offsets)):
            continue
        if isinstance(node.op, Reshape):
            why = (
                "pooling (or its like) after it needs the covariance between different positions, "
                "and neighbours after the reshape are not neighbours before it"
            )
            hint = "pooling before the Reshape, or global pooling, straight after it"
            size = graph.nodes[node.inputs[0]].spatial
            obstacles.append(_obstacle(node, f"Reshape of {size} positions", why, hint))
        if isinstance(node.op, Spread) and found[node.inputs[0]] is Kind.FEATURES:
            why = (
                "pooling (or its like) after it needs the covariance between different positions, "
                "and there is no rule for that between units after an activation, whose means are "
                "not 0"
            )
            hint = "the activation after the Reshape instead of before it"
            obstacles.append(_obstacle(node, "Reshape of features", why, hint))
    return obstacles


def _moves_positions(node: Node) -> bool:
    return isinstance(node.op, Reshape | Spread) and math.prod(node.spatial) > 1


def _barred(node: Node) -> Node:
    if isinstance(node.op, Opaque):
        return replace(node, op=_Barrier(node.spatial, 0), inputs=())
    if isinstance(node.op, Reshape):
        return replace(node, op=_Barrier(node.op.size, node.op.rank))
    return node


def _obstacle(node: Node, received: str, why: str, hint: str) -> Obstacle:
    return Obstacle(node.path, f"{received} to {node.spatial}", why, hint)
