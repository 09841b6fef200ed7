"""Activations that do nothing, because their argument is never negative.

relu(average_pool(relu(x))) is average_pool(relu(x)): the mean of numbers from 0 is one. DenseNet
begins its blocks so, and without this its activations would seem to act on features.
"""

from __future__ import annotations

from keras2gp.graph.features import Normalize
from keras2gp.graph.graph import Graph, GraphBuilder
from keras2gp.graph.mixing import AveragePool, Combination, Upsample
from keras2gp.graph.ops import (
    Activation,
    Crop,
    Dilate,
    Op,
    Pad,
    Patches,
    Reshape,
    Scale,
    Spread,
    Sum,
)

__all__ = ["without_idle_activations"]

_NOT_NEGATIVE = frozenset(
    {"abs", "absolute", "exp", "exponential", "relu", "sigmoid", "softmax", "softplus", "square"}
)
_IDLE = frozenset({"abs", "absolute", "elu", "leaky_relu", "relu"})
"""Functions with phi(u) = u for every u from 0."""


def without_idle_activations(graph: Graph) -> Graph:
    """The same network less the activations of tensors that are never negative."""
    builder = GraphBuilder()
    positive: list[bool] = []
    renamed: list[int] = []
    for node in graph.nodes:
        inputs = tuple(renamed[i] for i in node.inputs)
        if isinstance(node.op, Activation) and node.op.name in _IDLE and positive[inputs[0]]:
            renamed.append(inputs[0])
            continue
        index = builder.add(node.op, inputs, node.path)
        if index == len(positive):
            positive.append(_never_negative(node.op, [positive[i] for i in inputs]))
        renamed.append(index)
    return builder.graph(renamed[graph.output])


def _never_negative(op: Op, inputs: list[bool]) -> bool:
    match op:
        case Activation():
            return op.name in _NOT_NEGATIVE
        case Scale():
            return op.factor >= 0.0 and inputs[0]
        case Sum():
            return min(op.coefficients) >= 0.0 and all(inputs)
        case Combination():
            links = [link for chain in op.chains for link in chain]
            return (
                min(op.coefficients) >= 0.0
                and inputs[0]
                and all(_never_negative(link, [True]) for link in links)
            )
        case Patches():
            return op.taps == 1 and inputs[0]
        case Normalize():
            return not op.centered and inputs[op.group]
        case AveragePool() | Upsample() | Pad() | Crop() | Dilate() | Reshape() | Spread():
            return inputs[0]
    return False
