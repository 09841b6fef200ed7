"""Which tensors are data, which are Gaussian in the limit, and which are only features.

data      a deterministic function of the input
gaussian  zero mean, independent over channels, jointly Gaussian over positions and images
features  independent and alike over channels, second moments known, not Gaussian

An activation needs gaussian: its covariance is a function of three second moments only then.
Affine takes any kind and gives gaussian. Linear maps keep the kind.
"""

from __future__ import annotations

from enum import Enum

from keras2gp.errors import Obstacle
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
    if node.op.random:
        return Kind.GAUSSIAN
    if isinstance(node.op, Activation):
        return Kind.FEATURES
    if Kind.UNKNOWN in inputs:
        return Kind.UNKNOWN
    if isinstance(node.op, Sum | Mixture) and len(set(inputs)) > 1:
        return Kind.FEATURES
    return inputs[0]


def check_gaussianity(graph: Graph) -> list[Obstacle]:
    """Obstacles: activations of tensors that are not Gaussian, sums with a mean, the output."""
    found = kinds(graph)
    obstacles = []
    for node in graph.nodes:
        inputs = [found[i] for i in node.inputs]
        if isinstance(node.op, Activation) and inputs[0] is Kind.FEATURES:
            obstacles.append(_activation_of_features(graph, node))
        if isinstance(node.op, Sum) and Kind.DATA in inputs and len(inputs) > 1:
            obstacles.append(
                Obstacle(
                    node.path,
                    "sum of the input and a random branch",
                    "the input is not random: added to a Gaussian tensor it is a mean that "
                    "differs from channel to channel, and there is no rule for that",
                    "a convolution or Dense layer on the input's branch (a 1x1 convolution will "
                    "do) before the sum",
                )
            )
        if isinstance(node.op, Sum) and inputs.count(Kind.FEATURES) > 1:
            obstacles.append(
                Obstacle(
                    node.path,
                    "sum of two or more branches that end in an activation",
                    "activations have means of their own, whose products have no rule here yet",
                    "a convolution or Dense layer on all but one of the branches before the sum",
                )
            )
    if found[graph.output] in (Kind.FEATURES, Kind.DATA):
        obstacles.append(_output_not_gaussian(graph, found[graph.output]))
    return obstacles


def _activation_of_features(graph: Graph, node: Node) -> Obstacle:
    origin = graph.nodes[node.inputs[0]]
    name = node.op.name if isinstance(node.op, Activation) else ""
    return Obstacle(
        node.path,
        f"activation {name} of the output of {origin.path}",
        f"{origin.path} gives features that are not Gaussian at infinite width (an activation, or "
        "a sum with one, with no weights after it), so the covariance does not determine theirs",
        "a convolution or Dense layer in between (a 1x1 convolution will do), or activations "
        "before the layers of a residual branch as in ResNet v2 instead of after the sum",
    )


def _output_not_gaussian(graph: Graph, kind: Kind) -> Obstacle:
    node = graph.nodes[graph.output]
    if kind is Kind.DATA:
        why = "the output is a deterministic function of the input: no layer draws weights"
    else:
        why = "the output ends in an activation, so that it is not Gaussian at infinite width"
    hint = "end with a Dense layer without activation, or choose an earlier tensor with output="
    return Obstacle(node.path, "model output", why, hint)
