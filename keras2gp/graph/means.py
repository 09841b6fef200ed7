"""The mean of the output: constants and data that are added after the last random layer.

The output is split into a random tensor of mean 0, whose covariance the kernel is, and the rest:

    (x + f(x)) / 2 + c   is   f(x) / 2   and the mean   x / 2 + c

Ops at the output are gone through as far as they are sums, factors and maps of positions. What is
added before them, inside the network, is another matter: the next layer's covariance depends on it.
Its weights sum over channels, of which each has a mean of its own,

    k' = b2 + w2 (k + mean over channels of c c'),

so that constants are data there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from keras2gp.graph.graph import Graph, GraphBuilder, Node
from keras2gp.graph.ops import Input, Kind, Op, Patches, Scale, Shift, Spatial, Spread, Sum

__all__ = ["Constants", "MeanTerms", "split_mean", "without_arrays"]


@dataclass(frozen=True)
class Constants(Op):
    """An array of constants added, which differ between channels or positions.

    At the output they are the mean of the process; elsewhere data, the same for all images.

    index: which of the arrays that the conversion holds
    """

    index: int
    pointwise: ClassVar[bool] = True

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Kind.FEATURES: the output has a mean."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else Kind.FEATURES


@dataclass(frozen=True)
class MeanTerms:
    """A mean: a constant, plus arrays of constants and data tensors times their coefficients.

    arrays: coefficients by Constants.index
    data:   coefficients by Input.index
    """

    constant: float = 0.0
    arrays: Mapping[int, float] = field(default_factory=dict)
    data: Mapping[int, float] = field(default_factory=dict)

    @property
    def uniform(self) -> bool:
        """Whether it is the same number for all channels, positions and inputs."""
        return not self.arrays and not self.data

    def plus(self, other: MeanTerms, factor: float = 1.0) -> MeanTerms:
        """The sum of the mean and a factor times another."""
        return MeanTerms(
            self.constant + factor * other.constant,
            _plus(self.arrays, other.arrays, factor),
            _plus(self.data, other.data, factor),
        )


def _plus(a: Mapping[int, float], b: Mapping[int, float], factor: float) -> dict[int, float]:
    total = {**a, **{index: a.get(index, 0.0) + factor * c for index, c in b.items()}}
    return {index: c for index, c in total.items() if c != 0.0}


Split = tuple[int | None, MeanTerms]
"""A tensor less its mean, by its node; None if nothing is left. And the mean."""


def split_mean(graph: Graph, channels: int) -> tuple[Graph, MeanTerms]:
    """The graph of the output less its mean, and the mean; the graph itself if there is none.

    channels: of the output; data of as many is added to it channel by channel
    """
    tail = _tail(graph)
    if not any(_adds(graph.nodes[i], channels) for i in tail):
        return graph, MeanTerms()
    builder = GraphBuilder()
    splits: list[Split] = []
    renamed: list[int] = []
    for index, node in enumerate(graph.nodes):
        renamed.append(builder.add(node.op, tuple(renamed[i] for i in node.inputs), node.path))
        split: Split = renamed[index], MeanTerms()
        if index in tail:
            split = _split(node, [splits[i] for i in node.inputs], split, builder, channels)
        splits.append(split)
    output, mean = splits[graph.output]
    if output is None:  # no layer draws weights
        return graph, MeanTerms()
    return builder.graph(output), mean


def without_arrays(graph: Graph, data_of: Callable[[Constants, Spatial, str], Input]) -> Graph:
    """The same network with arrays of constants as data that is added, the same for all images.

    data_of: the data tensor of an array, for a map of that size, at a path
    """
    if not any(isinstance(node.op, Constants) for node in graph.nodes):
        return graph
    builder = GraphBuilder()
    renamed: list[int] = []
    for node in graph.nodes:
        inputs = tuple(renamed[i] for i in node.inputs)
        op: Op = node.op
        if isinstance(op, Constants):
            data = builder.add(data_of(op, node.spatial, node.path), (), node.path)
            op, inputs = Sum((1.0, 1.0)), (*inputs, data)
        renamed.append(builder.add(op, inputs, node.path))
    return builder.graph(renamed[graph.output])


def _tail(graph: Graph) -> set[int]:
    """The nodes that the output is a sum of maps of, with nothing but such ops in between."""
    tail, left = set[int](), [graph.output]
    while left:
        index = left.pop()
        if index not in tail:
            tail.add(index)
            node = graph.nodes[index]
            if isinstance(node.op, Shift | Constants | Scale | Sum) or _keeps_constants(node.op):
                left += node.inputs
    return tail


def _keeps_constants(op: Op) -> bool:
    """Whether a linear map of positions leaves constants as they are."""
    single = isinstance(op, Patches) and op.taps == 1 and not op.reads_outside
    return isinstance(op, Spread) or (op.additive and (op.keeps_constants or single))


def _adds(node: Node, channels: int) -> bool:
    """Whether a node at the output adds something that is not random."""
    return isinstance(node.op, Shift | Constants) or _is_data(node, channels)


def _is_data(node: Node, channels: int) -> bool:
    return type(node.op) is Input and node.op.channels == channels


def _split(
    node: Node, inputs: Sequence[Split], whole: Split, builder: GraphBuilder, channels: int
) -> Split:
    """A node less its mean, from the same of its inputs; `whole` where it cannot be taken away."""
    op = node.op
    if _is_data(node, channels) and isinstance(op, Input):
        return None, MeanTerms(data={op.index: 1.0})
    if isinstance(op, Sum):
        return _split_sum(op, inputs, node.path, builder)
    if not isinstance(op, Shift | Constants | Scale) and not _keeps_constants(op):
        return whole
    ((rest, mean),) = inputs
    if isinstance(op, Shift):
        return rest, mean.plus(MeanTerms(op.constant))
    if isinstance(op, Constants):
        return rest, mean.plus(MeanTerms(arrays={op.index: 1.0}))
    moved = None if rest is None else builder.add(op, (rest,), node.path)
    if isinstance(op, Scale):
        return moved, MeanTerms().plus(mean, op.factor)
    return (moved, mean) if mean.uniform else whole


def _split_sum(op: Sum, inputs: Sequence[Split], path: str, builder: GraphBuilder) -> Split:
    mean = MeanTerms()
    terms: list[tuple[float, int]] = []
    for coefficient, (rest, part) in zip(op.coefficients, inputs, strict=True):
        mean = mean.plus(part, coefficient)
        if rest is not None:
            terms.append((coefficient, rest))
    if not terms:
        return None, mean
    if len(terms) == 1 and terms[0][0] == 1.0:
        return terms[0][1], mean
    coefficients, nodes = zip(*terms, strict=True)
    return builder.add(Sum(coefficients), nodes, path), mean
