"""The distribution of every tensor: data, Gaussian in the limit or features; and their means.

An activation needs a Gaussian input: its covariance is a function of three second moments only
then. Affine takes any kind and gives Gaussian. Depthwise sums over no channels, so it gives
features. Linear maps and normalisation keep the kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras2gp.errors import Obstacle
from keras2gp.graph.graph import Graph, Node
from keras2gp.graph.ops import Kind, Op, Opaque, Polynomial, Product
from keras2gp.graph.ops.base import NotGaussian

__all__ = [
    "check_gaussianity",
    "holding_data",
    "kinds",
    "known_means",
    "mean_readers",
]


def kinds(graph: Graph) -> list[Kind]:
    """The kind of every node."""
    result: list[Kind] = []
    for node in graph.nodes:
        result.append(node.op.kind([result[i] for i in node.inputs]))
    return result


def mean_readers(graph: Graph) -> frozenset[int]:
    """The nodes whose covariance depends on the means of their inputs, which may not be 0."""
    kind = kinds(graph)
    return frozenset(
        index
        for index, node in enumerate(graph.nodes)
        if node.op.needs_means([kind[i] for i in node.inputs])
    )


def known_means(graph: Graph) -> frozenset[int]:
    """The nodes whose mean is computed: those that a mean reader depends on."""
    readers = mean_readers(graph)
    known: set[int] = set()
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        if index in known:
            known.update(node.op.mean_inputs(node.inputs))
        if index in readers:
            known.update(node.inputs)
    return frozenset(known)


def check_gaussianity(graph: Graph) -> list[Obstacle]:
    """Obstacles: activations of features, data where it has no rule, the output."""
    kind, holding = kinds(graph), holding_data(graph)
    obstacles = _obstacles_of_totals(graph)
    for node in graph.nodes:
        inputs = [kind[i] for i in node.inputs]
        if node.op.needs_gaussian and inputs[0] is Kind.FEATURES:
            obstacles.append(_op_on_features(graph, node, kind))
        elif any(holding[i] for i in node.inputs) and node.op.refuses_data is not None:
            obstacles.append(Obstacle(node.path, *node.op.refuses_data))
    if kind[graph.output] in (Kind.FEATURES, Kind.DATA):
        obstacles.append(_output_not_gaussian(graph, kind))
    return list(dict.fromkeys(obstacles))  # channel groups of one layer have the same to say


def holding_data(graph: Graph) -> list[bool]:
    """For every node whether data is a term of it, as in x + Dense(x): no channel is as another.

    Means of such nodes are means over their channels.
    """
    result: list[bool] = []
    for node in graph.nodes:
        read = node.op.mean_inputs(node.inputs)
        result.append(
            node.op.kind(()) is Kind.DATA if not node.inputs else any(result[i] for i in read)
        )
    return result


_DATA_ADDED = NotGaussian(
    cause="the input, or constants, were added to it, which are another mean in each channel",
    hint="a convolution or Dense layer between the sum and what follows, or on the branch of the "
    "input before the sum (a 1x1 convolution will do)",
    output="the input, or constants, are added to a random branch, and more than slices and shapes "
    "comes after",
)


_DATA_TIMES = NotGaussian(
    cause="the input multiplies it, which is another variance in each channel",
    hint=_DATA_ADDED.hint.replace("sum", "product"),
    output="the input multiplies a random branch, so that the variance of each channel is another, "
    "and no weights come after it",
)


def _reason(graph: Graph, node: Node, kind: Sequence[Kind]) -> NotGaussian:
    """Why the features of a node are not Gaussian."""
    source = _source(graph, node, kind)
    kinds = {kind[i] for i in source.inputs}
    if kinds != {Kind.DATA, Kind.GAUSSIAN}:
        return source.op.not_gaussian
    if source.op.sum_weights:
        return _DATA_ADDED
    return _DATA_TIMES if isinstance(source.op, Product | Polynomial) else source.op.not_gaussian


def _obstacles_of_totals(graph: Graph) -> list[Obstacle]:
    """Obstacles: sums over channels that have a mean, and weights on the number that they are."""
    if not any(node.op.single for node in graph.nodes):
        return []
    centered: list[bool] = []
    single: list[bool] = []
    obstacles = []
    for node in graph.nodes:
        if node.op.needs_centered and not all(centered[i] for i in node.inputs):
            obstacles.append(
                Obstacle(
                    node.path,
                    "a sum or mean over channels",
                    "what it adds up has a mean: the more channels there are, the closer is the "
                    "sum to their number times that mean, which is not random, and so is no "
                    "Gaussian process of mean 0",
                    "a branch without an activation (a Dense layer of its own, say), whose mean "
                    "is 0, as one of the two that are multiplied",
                )
            )
        weights = node.op.random and not isinstance(node.op, Opaque)
        if weights and any(single[i] for i in node.inputs):
            obstacles.append(
                Obstacle(
                    node.path,
                    "weights on a sum over channels",
                    "it is one number, however wide the network is: times a random weight it is "
                    "not Gaussian",
                    "the sum itself as the output (output=), with nothing but a sigmoid or a sum "
                    "with other branches after it",
                )
            )
        zero = set(node.op.sum_weights) == {0.0}
        handed_on = not (node.op.random or zero) and any(single[i] for i in node.inputs)
        centered.append(zero or node.op.is_centered([centered[i] for i in node.inputs]))
        single.append(node.op.single or handed_on)
    return obstacles


def _op_on_features(graph: Graph, node: Node, kind: Sequence[Kind]) -> Obstacle:
    origin = graph.nodes[node.inputs[0]]
    reason = _reason(graph, origin, kind)
    return Obstacle(
        node.path,
        f"{node.op.title} of the output of {origin.path}",
        f"{origin.path} gives features that are not Gaussian at infinite width "
        f"({reason.cause}), so the covariance does not determine theirs: a limit exists, "
        "but it has no closed form here",
        reason.hint,
    )


def _source(graph: Graph, node: Node, kind: Sequence[Kind]) -> Node:
    """Where a tensor comes from, through sums and ops of one input that make no features."""
    while node.inputs and not node.op.needs_gaussian and not node.op.random:
        features = [i for i in node.inputs if kind[i] is Kind.FEATURES]
        by_data = isinstance(node.op, Product) and len(features) == 1
        by_data = (
            by_data and [kind[i] for i in node.inputs].count(Kind.DATA) == len(node.inputs) - 1
        )
        if len(node.inputs) > 1 and not (node.op.sum_weights and features) and not by_data:
            break
        made = type(node.op).not_gaussian is not Op.not_gaussian
        if made and not features:
            break
        node = graph.nodes[[*features, *node.inputs][0]]
    return node


def _output_not_gaussian(graph: Graph, kind: Sequence[Kind]) -> Obstacle:
    node = graph.nodes[graph.output]
    why = _reason(graph, node, kind).output
    if kind[graph.output] is Kind.DATA:
        why = "the output is a deterministic function of the input: no layer draws weights"
    hint = "end with a Dense layer without activation, or choose an earlier tensor with output="
    return Obstacle(node.path, "model output", why, hint)
