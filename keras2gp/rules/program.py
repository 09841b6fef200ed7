"""The forward pass: a graph as two TensorFlow functions, of one image and of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras2gp.errors import Obstacle
from keras2gp.graph.demand import stretches
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Activation, Affine

# The rule modules register themselves when they are imported.
from keras2gp.rules import (  # noqa: F401
    affine,
    duals,
    elementwise,
    reshaping,
    windows,
)
from keras2gp.rules.covariance import (
    CrossPairs,
    Pairs,
    Parameters,
    SelfPairs,
    Side,
    Statistics,
    WindowMethod,
    materialised,
)
from keras2gp.rules.registry import has_dual, rule_of

__all__ = ["Program", "check_rules", "layers_of"]

Tensor = Any


def layers_of(graph: Graph) -> tuple[str, ...]:
    """Names of the random layers, in the order in which the network meets them."""
    names = [node.op.layer for node in graph.nodes if isinstance(node.op, Affine)]
    return tuple(dict.fromkeys(names))


def check_rules(graph: Graph) -> list[Obstacle]:
    """Obstacles: activations that have no closed form here."""
    return [
        Obstacle(
            node.path,
            f"activation {_described(node.op)}",
            "its covariance has no closed form in this version",
            "relu, leaky_relu, abs, erf, gelu(approximate=False), sin, cos or exponential",
        )
        for node in graph.nodes
        if isinstance(node.op, Activation) and not has_dual(node.op.name)
    ]


def _described(op: Activation) -> str:
    constants = ", ".join(f"{name}={value:g}" for name, value in op.params)
    return f"{op.name}({constants})" if constants else op.name


class Program:
    """A graph's covariance as pure functions of images, statistics and parameters.

    Nothing here is compiled: the callers wrap `statistics` and `cross` in tf.function.

    Shapes: images [*spatial, C, B], pairs innermost (see covariance.py).
    """

    def __init__(self, graph: Graph, method: WindowMethod = "shifts") -> None:
        self.graph = graph
        self.layers = layers_of(graph)
        self.method: WindowMethod = method
        self.readers = Counter(i for node in graph.nodes for i in node.inputs)

    def statistics(
        self, images: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> tuple[Tensor, Statistics]:
        """Output variance of every image, [B], and what the activations need of it."""
        parameters = Parameters(self.layers, weights, biases)
        pairs = SelfPairs(tuple(images), parameters, self.method)
        return self._output(pairs), pairs.statistics

    def cross(
        self, first: Side, second: Side, weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> Tensor:
        """Output covariance of all pairs of the images of two sides, [B1, B2]."""
        parameters = Parameters(self.layers, weights, biases)
        return self._output(CrossPairs((first, second), parameters, self.method))

    def _output(self, pairs: Pairs) -> Tensor:
        maps: dict[int, Tensor] = {}
        for stretch in stretches(self.graph):
            for index in stretch.nodes:
                maps[index] = self._map(index, maps, pairs)
        output = maps[self.graph.output]
        rank = len(self.graph.nodes[self.graph.output].spatial)
        # Not for no axes: TensorFlow would take out the pairs' axes of size 1 then.
        return tf.squeeze(output, axis=list(range(rank))) if rank else output

    def _map(self, index: int, maps: Mapping[int, Tensor], pairs: Pairs) -> Tensor:
        node = self.graph.nodes[index]
        inputs = tuple(maps[i] for i in node.inputs)
        if isinstance(node.op, Activation):
            return pairs.activation(index, node.op, inputs[0])
        k = rule_of(node.op)(node.op, inputs, pairs)
        if self.readers[index] > 1 and node.spatial:
            return materialised(k, pairs.parameters)  # else every reader computes it again
        return k
