"""Layers that are called several times: one process at several places.

The calls of a layer share its weights, so that their results are values of one random function,
of one covariance: Cov(f(a), f(b)) is the layer's rule, applied to the covariance of a and b. The
calls are therefore written as positions along one more axis, the first of every map: the layer is
called once, on its arguments side by side, and what follows takes single calls out again, or sums
of them, by the op Calls. For calls 0 and 1 of a siamese tower, k[c, c'] being its covariance,

    f(a) - f(b):          k'  = k[0, 0] - k[0, 1] - k[1, 0] + k[1, 1], at offsets 0, 1, -1 of calls
    Dense(concatenated):  k'  = b2 + w2 (k[0, 0] + k[1, 1]) / 2,       at offset 0 alone
    f(a) f(b):            k'  = k[0, 0] k[1, 1] + k[0, 1] k[1, 0] + the means' product

Two calls of a layer on one tensor are one node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from itertools import combinations

from keras2gp.errors import Obstacle
from keras2gp.graph.distributions import kinds
from keras2gp.graph.graph import Graph, GraphBuilder, Node
from keras2gp.graph.independence import Origins, may_depend, origins
from keras2gp.graph.ops import (
    Activation,
    Calls,
    Input,
    Kind,
    Op,
    Opaque,
    Product,
    Reshape,
    Spatial,
    Stack,
    Sum,
    Weighted,
)
from keras2gp.graph.ops.base import along

__all__ = ["SharedCalls", "join_calls"]

_OWN = "a layer of its own for each call; or SimpleRNN, if the calls are steps of a sequence"
Group = int | str
"""A node by its index, or all calls of a layer by its name."""


@dataclass(frozen=True)
class SharedCalls:
    """A graph in which no layer with weights is called twice.

    graph:     the graph, or the one as it was if there are obstacles
    stacks:    for each input of the graph whose index is new, the indices of the data tensors that
               it holds side by side along its first axis, in the order of these indices
    obstacles: layers whose calls cannot be written so
    """

    graph: Graph
    stacks: tuple[tuple[int, ...], ...] = ()
    obstacles: tuple[Obstacle, ...] = ()


def join_calls(graph: Graph, first_index: int) -> SharedCalls:
    """The same network with one call of each layer.

    first_index: that of the first new input
    """
    graph = _without_equal_calls(graph)
    shared = _shared_layers(graph)
    if not shared or any(isinstance(node.op, Opaque) for node in graph.nodes):
        return SharedCalls(graph)  # a refused layer is what there is to say
    joiner = _Joiner(graph, shared, first_index)
    try:
        joined = joiner.run()
    except _NoRuleError as error:
        joiner.refused |= dict.fromkeys(error.layers or shared, error.why)
    if not joiner.refused:
        return SharedCalls(joined, tuple(joiner.stacks))
    obstacles = (
        Obstacle(layer, f"a layer with weights, called {len(shared[layer])} times", why, _OWN)
        for layer, why in joiner.refused.items()
    )
    return SharedCalls(graph, (), tuple(obstacles))


class _NoRuleError(Exception):
    """The calls of these layers, or of all that are shared, cannot be written along one axis."""

    def __init__(self, why: str, layers: Sequence[str] | None = None) -> None:
        super().__init__(why)
        self.why, self.layers = why, layers


def _without_equal_calls(graph: Graph) -> Graph:
    """The graph with one node for all calls of one layer on one tensor."""
    builder = GraphBuilder()
    known: dict[tuple[Op, tuple[int, ...]], int] = {}
    renamed: list[int] = []
    for node in graph.nodes:
        inputs, index = tuple(renamed[i] for i in node.inputs), None
        if isinstance(node.op, Weighted) and not node.op.channelwise:
            index = known.get((replace(node.op, call=0), inputs))
        if index is None:
            index = builder.add(node.op, inputs, node.path)
        if isinstance(node.op, Weighted):
            known[replace(node.op, call=0), inputs] = index
        renamed.append(index)
    return builder.graph(renamed[graph.output])


def _shared_layers(graph: Graph) -> dict[str, list[int]]:
    """The nodes of every layer that is called several times, in the order of the calls."""
    calls: dict[str, dict[int, list[int]]] = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node.op, Weighted):
            calls.setdefault(node.op.layer, {}).setdefault(node.op.call, []).append(index)
    return {
        layer: [index for nodes in by_call.values() for index in nodes]
        for layer, by_call in calls.items()
        if len(by_call) > 1
    }


@dataclass(frozen=True)
class _View:
    """A tensor of the old graph: the sum over calls c of weights[c] base[c]."""

    base: int
    weights: tuple[float, ...]

    @property
    def call(self) -> int | None:
        """The call that it is; None if it is a sum of several."""
        single = sorted(self.weights) == [0.0] * (len(self.weights) - 1) + [1.0]
        return self.weights.index(1.0) if single else None

    @classmethod
    def of(cls, base: int, call: int, count: int) -> _View:
        """One of `count` calls."""
        return cls(base, tuple(float(c == call) for c in range(count)))


@dataclass
class _Joiner:
    """Builds the new graph.

    views:   what each node of the old graph has become
    refused: layers whose calls cannot be joined, and why
    origins: what one channel of each new node depends on, as far as it was asked for
    """

    graph: Graph
    shared: dict[str, list[int]]
    first_index: int
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    views: dict[int, _View] = field(default_factory=dict)
    stacks: list[tuple[int, ...]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    origins: list[Origins] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rank = max(len(node.spatial) for node in self.graph.nodes)

    def run(self) -> Graph:
        """The new graph. Raises: _NoRuleError."""
        for group in self._order():
            if isinstance(group, str):
                self._join(group)
            else:
                self.views[group] = self._view(self.graph.nodes[group])
        output = self.graph.nodes[self.graph.output]
        node = self._alone(self.views[self.graph.output], output.path)
        reshape = Reshape(output.spatial, self.rank + 1)
        return self.builder.graph(self.builder.add(reshape, (node,), output.path))

    def _order(self) -> list[Group]:
        """Nodes and shared layers, each after all that it reads."""
        layer_of: dict[int, Group] = {i: name for name, nodes in self.shared.items() for i in nodes}
        reads: dict[Group, set[Group]] = {}
        for index, node in enumerate(self.graph.nodes):
            group = layer_of.get(index, index)
            reads.setdefault(group, set()).update(layer_of.get(i, i) for i in node.inputs)
        try:
            return list(TopologicalSorter(reads).static_order())
        except CycleError as error:
            raise _NoRuleError(
                "one call acts on what another call gave, so that its argument depends on the "
                "layer's weights, and there is no rule for that dependence",
                [group for group in error.args[1] if isinstance(group, str)],
            ) from error

    def _join(self, layer: str) -> None:
        """One node for all calls of a layer."""
        indices = sorted(self.shared[layer], key=self._argument)  # as the calls before it
        calls = [self.graph.nodes[i] for i in indices]
        ops = {replace(node.op, call=0) for node in calls if isinstance(node.op, Weighted)}
        numbers = {node.op.call for node in calls if isinstance(node.op, Weighted)}
        arguments = [self._together(both) for both in zip(*(n.inputs for n in calls), strict=True)]
        if len(ops) > 1 or len(numbers) < len(calls) or None in arguments:
            self.refused[layer] = (
                "the calls share their weights, so their outputs depend on each other. There is a "
                "rule where their arguments are alike: data of one size, calls of one other layer, "
                "or results of independent layers with the same operations after them"
            )
            self.views |= {i: self._view(self.graph.nodes[i]) for i in self.shared[layer]}
            return
        inputs = tuple(node for node in arguments if node is not None)
        base = self._added(calls[0], inputs)
        for call, index in enumerate(indices):
            self.views[index] = _View.of(base, call, len(calls))

    def _argument(self, index: int) -> int:
        """The call that the first argument of a node is, or 0."""
        return self.views[self.graph.nodes[index].inputs[0]].call or 0

    def _together(self, indices: Sequence[int]) -> int | None:
        """A node of the new graph with these of the old one along its first axis; None if none is.

        They are views of one node, data, independent results of weights, or the same ops of such.
        """
        views = [self.views[i] for i in indices]
        bases, nodes = {view.base for view in views}, [self.graph.nodes[i] for i in indices]
        if len(bases) == 1:
            return self._sums(views[0].base, [view.weights for view in views], nodes[0].path)
        data = [node.op for node in nodes if isinstance(node.op, Input)]
        if len(data) == len(nodes):
            alike = len({replace(op, index=0) for op in data}) == 1
            return self._stacked(data, nodes[0].path) if alike else None
        if all(isinstance(node.op, Weighted) for node in nodes):
            return self._independent(views, nodes[0].path)
        if len({(node.op, node.spatial) for node in nodes}) > 1:
            return None
        arguments = [self._together(both) for both in zip(*(n.inputs for n in nodes), strict=True)]
        inputs = tuple(node for node in arguments if node is not None)
        return self._added(nodes[0], inputs) if len(inputs) == len(arguments) else None

    def _independent(self, views: Sequence[_View], path: str) -> int | None:
        """Results of weights side by side; None if two of them depend on each other."""
        single = [self._alone(view, path) for view in views]
        every = list(dict.fromkeys(single))
        for index in range(len(self.origins), len(self.builder.nodes)):
            node = self.builder.nodes[index]
            before = [self.origins[i] for i in node.inputs]
            self.origins.append(origins(node.op, index, before))
        pairs = combinations([self.origins[i] for i in every], 2)
        shapes = {self.builder.nodes[i].spatial for i in every}
        if len(shapes) > 1 or any(may_depend(*pair) for pair in pairs):
            return None
        base = self.builder.add(Stack(), tuple(every), path)
        rows = [_View.of(base, every.index(i), len(every)).weights for i in single]
        return self._sums(base, rows, path)

    def _view(self, node: Node) -> _View:
        """A node that is not shared, in the new graph."""
        if isinstance(node.op, Input):
            return _View(self._stacked([node.op], node.path), (1.0,))
        views = [self.views[i] for i in node.inputs]
        shapes = {(view.call, len(view.weights)) for view in views}
        ((call, count),) = shapes if len(shapes) == 1 else ((None, 0),)
        if call is not None:
            base = self._added(node, tuple(view.base for view in views))
            return _View.of(base, call, count)
        merged = self._merged(node, views) if len({view.base for view in views}) == 1 else None
        if merged is not None:
            return merged
        inputs = tuple(self._alone(view, node.path) for view in views)
        return _View(self._added(node, inputs), (1.0,))

    def _merged(self, node: Node, views: Sequence[_View]) -> _View | None:
        """A sum or product of different calls of one base; None if it is no such, or 0."""
        base, rows = views[0].base, [view.weights for view in views]
        if isinstance(node.op, Sum):
            terms = list(zip(node.op.coefficients, rows, strict=True))
            weights = tuple(sum(a * row[c] for a, row in terms) for c in range(len(rows[0])))
            return _View(base, weights) if any(weights) else None
        graph = Graph(tuple(self.builder.nodes), base)
        if (
            not isinstance(node.op, Product)
            or len(rows) != 2
            or kinds(graph)[base] != Kind.GAUSSIAN
        ):
            return None
        # a b = ((a + b) / 2)^2 - ((a - b) / 2)^2, whose squares are those of Gaussian variables.
        halves = [tuple((a + s * b) / 2.0 for a, b in zip(*rows, strict=True)) for s in (1.0, -1.0)]
        squares = Activation("square")
        half = self.builder.add(Calls(tuple(halves)), (base,), node.path)
        return _View(self.builder.add(squares, (half,), node.path), (1.0, -1.0))

    def _alone(self, view: _View, path: str) -> int:
        """A view as a node of one call."""
        return self._sums(view.base, [view.weights], path)

    def _sums(self, base: int, rows: Sequence[tuple[float, ...]], path: str) -> int:
        """Sums of the calls of a node, or the node itself if each is one call in order."""
        count = self.builder.nodes[base].spatial[0]
        if list(rows) == [_View.of(base, call, count).weights for call in range(count)]:
            return base
        return self.builder.add(Calls(tuple(rows)), (base,), path)

    def _added(self, node: Node, inputs: tuple[int, ...]) -> int:
        """The op of a node with an axis of calls, on nodes of the new graph."""
        size = self.graph.nodes[node.inputs[0]].spatial
        chain = node.op.with_calls(size, self.rank)
        if chain is None:
            raise _NoRuleError(
                "the calls share their weights, so their outputs depend on each other, and there "
                f"is no rule for that in a network with {node.op.title} ({node.path})"
            )
        index = inputs[0]
        for number, op in enumerate(chain):
            index = self.builder.add(op, (index,) if number else inputs, node.path)
        return index

    def _stacked(self, data: Sequence[Input], path: str) -> int:
        """The data tensors side by side along the first axis."""
        indices = tuple(op.index for op in data)
        if indices not in self.stacks:
            self.stacks.append(indices)
        size: Spatial = (len(data), *along(data[0].size, 1, self.rank)[1:])
        index = self.first_index + self.stacks.index(indices)
        return self.builder.add(replace(data[0], index=index, size=size), (), path)
