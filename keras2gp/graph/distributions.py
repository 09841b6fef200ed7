"""Which tensors are data, which are Gaussian in the limit, and which are only features.

data      a deterministic function of the input
gaussian  zero mean, independent over channels, jointly Gaussian over positions and images
features  independent and alike over channels, second moments known, not Gaussian

An activation needs gaussian: its covariance is a function of three second moments only then.
Affine takes any kind and gives gaussian. Depthwise sums over no channels, so it gives features.
Linear maps and normalisation keep the kind.
"""

from __future__ import annotations

from enum import Enum

from keras2gp.errors import Obstacle
from keras2gp.graph.features import Depthwise, Normalize
from keras2gp.graph.graph import Graph, Node
from keras2gp.graph.ops import Activation, Input, Mixture, Opaque, Sum

__all__ = ["Kind", "check_gaussianity", "kinds"]


class Kind(Enum):
    """What is known of a tensor's distribution."""

    DATA = "data"
    GAUSSIAN = "gaussian"
    FEATURES = "features"
    UNKNOWN = "unknown"
    """Comes from a refused layer; nothing further is said about it."""


def kinds(graph: Graph) -> list[Kind]:
    """The kind of every node."""
    found: list[Kind] = []
    for node in graph.nodes:
        found.append(_kind(node, [found[i] for i in node.inputs]))
    return found


def _kind(node: Node, inputs: list[Kind]) -> Kind:
    if isinstance(node.op, Opaque):
        return Kind.UNKNOWN
    if isinstance(node.op, Input):
        return Kind.DATA
    if isinstance(node.op, Activation | Depthwise):
        return Kind.FEATURES
    if node.op.random:
        return Kind.GAUSSIAN
    if Kind.UNKNOWN in inputs:
        return Kind.UNKNOWN
    if isinstance(node.op, Normalize):
        return inputs[node.op.group]
    if isinstance(node.op, Sum | Mixture) and len(set(inputs)) > 1:
        return Kind.FEATURES
    return inputs[0]


def check_gaussianity(graph: Graph) -> list[Obstacle]:
    """Obstacles: activations of features, data where it has no rule, the output."""
    found = kinds(graph)
    obstacles = []
    for node in graph.nodes:
        inputs = [found[i] for i in node.inputs]
        if isinstance(node.op, Activation) and inputs[0] is Kind.FEATURES:
            obstacles.append(_activation_of_features(graph, node))
        if Kind.DATA in inputs:
            obstacles += _data_without_rule(node)
    if found[graph.output] in (Kind.FEATURES, Kind.DATA):
        obstacles.append(_output_not_gaussian(graph, found[graph.output]))
    return list(dict.fromkeys(obstacles))  # channel groups of one layer have the same to say


def _activation_of_features(graph: Graph, node: Node) -> Obstacle:
    origin = graph.nodes[node.inputs[0]]
    what = "an activation, or a sum with one, with no weights after it"
    hint = (
        "a convolution or Dense layer in between (a 1x1 convolution will do), or activations "
        "before the layers of a residual branch as in ResNet v2 instead of after the sum"
    )
    if isinstance(_source(graph, origin).op, Depthwise):
        what = "each is made of one channel alone, by its weights of a depthwise convolution"
        hint = (
            "a pointwise convolution or Dense layer between the two, and the activation after that "
            "(SeparableConv, ConvNeXt), or an ordinary convolution"
        )
    return Obstacle(
        node.path,
        f"{_named(node)} of the output of {origin.path}",
        f"{origin.path} gives features that are not Gaussian at infinite width ({what}), so the "
        "covariance does not determine theirs",
        hint,
    )


def _source(graph: Graph, node: Node) -> Node:
    """Where a tensor comes from, through the ops of one input that draw no weights."""
    while len(node.inputs) == 1 and not isinstance(node.op, Activation) and not node.op.random:
        node = graph.nodes[node.inputs[0]]
    return node


def _named(node: Node) -> str:
    return f"activation {node.op.name}" if isinstance(node.op, Activation) else ""


def _data_without_rule(node: Node) -> list[Obstacle]:
    """The obstacle of a node that reads the input itself among random tensors."""
    hint = "a convolution or Dense layer on the input's branch (a 1x1 convolution will do)"
    if isinstance(node.op, Sum) and len(node.inputs) > 1:
        why = (
            "the input is not random: added to a Gaussian tensor it is a mean that differs from "
            "channel to channel, and there is no rule for that"
        )
        what = "sum of the input and a random branch"
        return [Obstacle(node.path, what, why, f"{hint} before the sum")]
    if isinstance(node.op, Activation):
        why = (
            "the input is not random, and it stands beside random channels here: the activation "
            "of its channels is not known from their mean covariance"
        )
        what = f"{_named(node)} of the input, concatenated"
        return [Obstacle(node.path, what, why, "the activation of each before they are joined")]
    if isinstance(node.op, Depthwise):
        why = (
            "the input has a fixed number of channels, and a depthwise convolution sums over none "
            "of them: what follows sees a few random filters, whose second moments stay random "
            "however wide the network grows"
        )
        return [Obstacle(node.path, "depthwise convolution of the input", why, hint)]
    if isinstance(node.op, Normalize) and node.op.deviation:
        why = "the mean of the input over its channels, which would be taken away, has no rule here"
        return [Obstacle(node.path, "normalisation of the input, concatenated", why, hint)]
    return []


def _output_not_gaussian(graph: Graph, kind: Kind) -> Obstacle:
    node = graph.nodes[graph.output]
    if kind is Kind.DATA:
        why = "the output is a deterministic function of the input: no layer draws weights"
    elif isinstance(_source(graph, node).op, Depthwise):
        why = (
            "the output comes from a depthwise convolution, which sums over no channels: it is "
            "not Gaussian at infinite width"
        )
    else:
        why = "the output ends in an activation, so that it is not Gaussian at infinite width"
    hint = "end with a Dense layer without activation, or choose an earlier tensor with output="
    return Obstacle(node.path, "model output", why, hint)
