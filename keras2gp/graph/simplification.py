"""Simplifications of a graph: idle activations, late reshapes, joined vectors, running means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from keras2gp.graph.graph import Graph, GraphBuilder, Node
from keras2gp.graph.ops import (
    Activation,
    AveragePool,
    Axes,
    Input,
    Mixture,
    Op,
    Pad,
    Product,
    Reshape,
    Scale,
    Shift,
    Spatial,
    Sum,
    Total,
    reshape_of,
)

__all__ = [
    "with_late_reshapes",
    "with_running_means",
    "without_idle_activations",
    "without_joins",
]


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


def with_late_reshapes(graph: Graph, entered: Callable[[Input, Spatial], Input]) -> Graph:
    """The same network with each Reshape after the ops that treat all positions alike.

    A map as a sequence of its positions, with dense layers on each and the mean of all at the end:
    the mean of a reshaped map is that of the map, whose neighbours are known.

    entered: gives the input of the same data on other axes
    """
    return _LateReshapes(entered).run(graph)


_DEEPEST = 64
"""Most ops between data and the place where they meet a map of other axes."""


class _LateReshapes:
    """Builds the network anew: each node on the axes of its first input, as long as it may.

    late: for each node what it has become, and the positions that it is to have
    """

    def __init__(self, entered: Callable[[Input, Spatial], Input]) -> None:
        self.builder = GraphBuilder()
        self.entered = entered
        self.late: list[tuple[int, Spatial]] = []

    def run(self, graph: Graph) -> Graph:
        for node in graph.nodes:
            index = self._on_earlier_axes(node)
            if index is None:
                inputs = tuple(self._reshaped(i, node.path) for i in node.inputs)
                index = self.builder.add(node.op, inputs, node.path)
            self.late.append((index, node.spatial))
        output = self._reshaped(graph.output, graph.nodes[graph.output].path)
        return replace(self.builder.graph(output), between=graph.between)

    def _reshaped(self, index: int, path: str) -> int:
        """A node with the positions that it is to have."""
        index, size = self.late[index]
        before = self.builder.nodes[index].spatial
        if before == size:
            return index
        return self.builder.add(reshape_of(before, size), (index,), path)

    def _on_earlier_axes(self, node: Node) -> int | None:
        """The node on the axes that an input has so far; None where there are no such."""
        places = [self.late[i] for i in node.inputs]
        if isinstance(node.op, Reshape):
            return places[0][0]
        nodes = self.builder.nodes
        moved = [(nodes[i].spatial, size) for i, size in places if nodes[i].spatial != size]
        if not moved or len({size for _, size in places}) > 1:
            return None
        before, size = moved[0]
        pooled = isinstance(node.op, AveragePool)
        op = _mean(node.op, size, before) if pooled else node.op.on_axes(len(before))
        inputs = [self._on_axes(i, before, 0) for i, _ in places]
        if op is None or None in inputs:
            return None
        return self.builder.add(op, tuple(i for i in inputs if i is not None), node.path)

    def _on_axes(self, index: int, size: Spatial, depth: int) -> int | None:
        """A node of the new network on other axes, from data on; None if it cannot be."""
        node = self.builder.nodes[index]
        if node.spatial == size:
            return index
        if isinstance(node.op, Input):
            return self.builder.add(self.entered(node.op, size), (), node.path)
        op = node.op.on_axes(len(size))
        if op is None or op.spatial((size,) * len(node.inputs)) != size or depth == _DEEPEST:
            return None
        inputs = [self._on_axes(i, size, depth + 1) for i in node.inputs]
        if None in inputs:
            return None
        return self.builder.add(op, tuple(i for i in inputs if i is not None), node.path)


def _mean(op: Op, size: Spatial, before: Spatial) -> Op | None:
    """The mean over all positions behind the first axes, where these were so before the reshape."""
    for lead in range(len(size)):
        if size[:lead] != before[:lead] or not isinstance(op, AveragePool):
            return None
        if op.window == (1,) * lead + size[lead:] and op.strides[:lead] == (1,) * lead:
            rank = len(before)
            window = (1,) * lead + before[lead:]
            around = any(map(any, op.pads))
            return None if around else AveragePool(window, (1,) * rank, ((0, 0),) * rank)
    return None


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
        if inputs and isinstance(op, _EACH) and all(i in means for i in inputs):
            # Functions of kept axes of one position, as those axes of functions.
            vector = builder.add(op, tuple(means[i] for i in inputs), node.path)
            renamed.append(builder.add(Axes((0,), 0), (vector,), node.path))
            means[renamed[-1]] = vector
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
    mean of the one before, a block of n layers adds up 2 n maps instead of n^2 / 2. Its global
    pooling, which is that of each group, is that of their mean.

    Math: sum of w_i k_i over i <= n is W m + sum of w_i k_i over m < i <= n, for a mean m of the
        groups up to m, in the same proportions, and the sum W of their weights.
        sum of w_i L k_i = L sum of w_i k_i for a linear map L.
    """
    while (simpler := _with_means_first(graph)) != graph:
        graph = simpler
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


def _with_means_first(graph: Graph) -> Graph:
    """The same network with means before a linear map that each of several groups goes through."""
    builder = GraphBuilder()
    renamed: list[int] = []
    readers = Counter(i for node in graph.nodes for i in node.inputs)
    for node in graph.nodes:
        op, inputs = node.op, tuple(renamed[i] for i in node.inputs)
        groups = [graph.nodes[i] for i in node.inputs]
        linear = groups[0].op if groups else op
        if isinstance(op, Mixture) and len(groups) >= _FEWEST and linear.linear:
            sources = [i for group in groups for i in group.inputs]
            alike = all(group.op == linear for group in groups)
            alone = len(sources) == len(groups) and all(readers[i] == 1 for i in node.inputs)
            sizes = {graph.nodes[i].spatial for i in sources}
            if alike and alone and len(sizes) == 1 and not isinstance(linear, Mixture | Total):
                mean = builder.add(op, tuple(renamed[i] for i in sources), groups[0].path)
                op, inputs = linear, (mean,)
        renamed.append(builder.add(op, inputs, node.path))
    return builder.graph(renamed[graph.output])


def _in_proportion(weights: tuple[float, ...], op: Op) -> bool:
    """Whether the weights are those of a mean times a number."""
    if not isinstance(op, Mixture):
        return False
    total, whole = sum(weights), sum(op.weights)
    pairs = zip(weights, op.weights, strict=True)
    return all(abs(a * whole - b * total) <= _ROUNDING * b * total for a, b in pairs)
