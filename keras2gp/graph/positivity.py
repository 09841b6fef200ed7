"""Activations that do nothing, because their argument is never negative.

relu(average_pool(relu(x))) is average_pool(relu(x)): the mean of numbers from 0 is one. DenseNet
begins its blocks so, and without this its activations would seem to act on features.
"""

from __future__ import annotations

from keras2gp.graph.graph import Graph, GraphBuilder
from keras2gp.graph.ops import Activation

__all__ = ["without_idle_activations"]


def without_idle_activations(graph: Graph) -> Graph:
    """The same network less the activations of tensors that are never negative."""
    builder = GraphBuilder()
    positive: list[bool] = []
    renamed: list[int] = []
    for node in graph.nodes:
        inputs = tuple(renamed[i] for i in node.inputs)
        op = node.op
        if isinstance(op, Activation) and op.identity_from_zero and positive[inputs[0]]:
            renamed.append(inputs[0])
            continue
        index = builder.add(op, inputs, node.path)
        if index == len(positive):
            positive.append(op.never_negative([positive[i] for i in inputs]))
        renamed.append(index)
    return builder.graph(renamed[graph.output])
