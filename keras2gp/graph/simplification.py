"""Simplifications of a graph: activations that do nothing, vectors side by side, running means."""

from __future__ import annotations

from keras2gp.graph.graph import Graph, GraphBuilder
from keras2gp.graph.ops import (
    Activation,
    AveragePool,
    Axes,
    Mixture,
    Op,
    Pad,
    Product,
    Reshape,
    Scale,
    Shift,
    Sum,
)

__all__ = ["with_running_means", "without_idle_activations", "without_joins"]


def without_idle_activations(graph: Graph) -> Graph:
    """The same network less the activations of tensors that are never negative.

    relu(average_pool(relu(x))) is average_pool(relu(x)): the mean of numbers from 0 is one.
    DenseNet begins its blocks so, and its activations would seem to act on features.
    """
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


_EACH = (Activation, Product, Scale, Shift, Sum)
_MOST = 64
_FEWEST = 3
"""Groups of an earlier mean that is worth storing."""
_ROUNDING = 1e-12


def without_joins(graph: Graph) -> Graph:
    """The same network with means of what was joined in the place of means over the joined axis.

    Vectors side by side along an axis, and their sums, are the fields of a factorisation machine.
    The mean over an axis along which single positions were joined is the mean of what was joined,
    also after functions of each number. Written so, sums of squares and squares of sums are seen to
    be made of the same tensors.
    """
    builder = GraphBuilder()
    renamed: list[int] = []
    pieces: dict[int, tuple[int, ...]] = {}
    means: dict[int, int] = {}
    for node in graph.nodes:
        op: Op = node.op
        inputs = tuple(renamed[i] for i in node.inputs)
        held = [pieces[i] for i in inputs if i in pieces]
        if held and isinstance(op, AveragePool) and _is_mean(op, len(held[0])):
            mean = builder.add(Sum((1.0 / len(held[0]),) * len(held[0])), held[0], node.path)
            renamed.append(builder.add(Axes((0,), 0), (mean,), node.path))
            means[renamed[-1]] = mean
            continue
        if isinstance(op, Axes | Reshape) and not node.spatial and inputs[0] in means:
            renamed.append(means[inputs[0]])
            continue
        index = builder.add(op, inputs, node.path)
        renamed.append(index)
        joined = _joined(builder, inputs, node.path) if isinstance(op, Sum) else ()
        if joined and set(op.sum_weights) == {1.0}:
            pieces[index] = joined
        elif inputs and len(held) == len(inputs) and isinstance(op, _EACH):
            columns = zip(*held, strict=True)
            pieces[index] = tuple(builder.add(op, column, node.path) for column in columns)
    return builder.graph(renamed[graph.output])


def _is_mean(op: AveragePool, count: int) -> bool:
    """Whether it is the mean over all positions of the one axis of a map."""
    return op.window == (count,) and op.pads == ((0, 0),)


def _joined(builder: GraphBuilder, inputs: tuple[int, ...], path: str) -> tuple[int, ...]:
    """The vectors that a map of one axis is joined from, in their order; () if it is not."""
    places: dict[int, int] = {}
    for index in inputs:
        node = builder.nodes[index]
        if not isinstance(node.op, Pad) or builder.nodes[node.inputs[0]].spatial != (1,):
            return ()
        ((before, _),) = node.op.pads
        places[before] = node.inputs[0]
    (count,) = builder.nodes[inputs[0]].spatial
    whole = sorted(places) == list(range(count)) and len(inputs) == count <= _MOST
    vector = Reshape((), 1)
    return tuple(builder.add(vector, (places[i],), path) for i in range(count)) if whole else ()


def with_running_means(graph: Graph) -> Graph:
    """The same network with means over channel groups that are made of earlier ones.

    The layers of a DenseNet block each read the groups of the one before and one more. With the
    mean of the one before, a block of n layers adds up 2 n maps instead of n^2 / 2.

    Math: sum of w_i k_i over i <= n is W m + sum of w_i k_i over m < i <= n, for a mean m of the
        groups up to m, in the same proportions, and the sum W of their weights.
    """
    builder = GraphBuilder()
    renamed: list[int] = []
    known: dict[tuple[int, ...], int] = {}
    for index, node in enumerate(graph.nodes):
        op, inputs = node.op, tuple(renamed[i] for i in node.inputs)
        if isinstance(op, Mixture):
            known[node.inputs] = index
            for count in range(len(inputs) - 1, _FEWEST - 1, -1):
                mean, first = known.get(node.inputs[:count]), op.weights[:count]
                if mean is not None and _in_proportion(first, graph.nodes[mean].op):
                    op = Mixture((sum(first), *op.weights[count:]))
                    inputs = (renamed[mean], *inputs[count:])
                    break
        renamed.append(builder.add(op, inputs, node.path))
    return builder.graph(renamed[graph.output])


def _in_proportion(weights: tuple[float, ...], op: Op) -> bool:
    """Whether the weights are those of a mean times a number."""
    if not isinstance(op, Mixture):
        return False
    total, whole = sum(weights), sum(op.weights)
    pairs = zip(weights, op.weights, strict=True)
    return all(abs(a * whole - b * total) <= _ROUNDING * b * total for a, b in pairs)
