"""The forward pass: a graph as two TensorFlow functions, of one image and of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

# The rule modules register themselves when they are imported.
from keras2gp._util.arrays import Tensor
from keras2gp.covariance import (  # noqa: F401
    affine,
    duals,
    elementwise,
    normalization,
    reshaping,
    windows,
)
from keras2gp.covariance.base import Pairs, Parameters, Statistics, WindowMethod
from keras2gp.covariance.forward_pass import Walk
from keras2gp.covariance.moments import mean_readers, need_means
from keras2gp.covariance.pairs import CrossPairs, SelfPairs, Side, with_margin
from keras2gp.covariance.registry import OWN, dual_of, has_dual
from keras2gp.errors import Obstacle
from keras2gp.graph.features import Depthwise
from keras2gp.graph.graph import Graph
from keras2gp.graph.offsets import demand, reach, stretches
from keras2gp.graph.ops import Activation, Affine, Input

__all__ = ["KernelKind", "Program", "check_rules", "check_tangent", "layers_of"]

_MIXES = frozenset({"glu", "log_softmax", "softmax", "sparsemax"})
KernelKind = Literal["nngp", "ntk", "both"]


def layers_of(graph: Graph) -> tuple[str, ...]:
    """Names of the random layers, in the order in which the network meets them."""
    names = [node.op.layer for node in graph.nodes if isinstance(node.op, Affine | Depthwise)]
    return tuple(dict.fromkeys(names))


def check_rules(graph: Graph) -> list[Obstacle]:
    """Obstacles: activations that are not known here, or not functions of one number."""
    return [
        Obstacle(node.path, f"activation {_described(node.op)}", *_unknown(node.op))
        for node in graph.nodes
        if isinstance(node.op, Activation) and not has_dual(node.op)
    ]


def _unknown(op: Activation) -> tuple[str, str]:
    """Why there is no rule for an activation, and what would work instead."""
    if op.name.endswith(OWN):
        name = op.name.removesuffix(OWN)
        why = (
            f"{name} is a function of your own, which a file does not hold, and none that gives "
            "the same moments was stated"
        )
        return why, f"activations={{{name!r}: function}}"
    hint = "an activation of each number by itself: relu, gelu, tanh, silu, elu or another"
    if op.name in _MIXES:
        return "it mixes the channels: the covariance of two numbers does not determine it", hint
    return "nothing here says what its covariance is", hint + "; or a dual: keras2gp.dual"


def check_tangent(graph: Graph) -> list[Obstacle]:
    """Obstacles to the tangent kernel: activations whose derivative has no second moment."""
    return [
        Obstacle(
            node.path,
            f"activation {_described(node.op)}",
            "its derivative is no function, so the tangent kernel is infinite",
            "the NNGP kernel, or a continuous activation",
        )
        for node in graph.nodes
        if isinstance(node.op, Activation) and not dual_of(node.op).differentiable
    ]


def _described(op: Activation) -> str:
    constants = ", ".join(f"{name}={value:g}" for name, value in op.params)
    return f"{op.name}({constants})" if constants else op.name


class Program:
    """A graph's covariance as pure functions of images, statistics and parameters.

    Nothing here is compiled: the callers wrap `statistics` and `cross` in tf.function.

    kind: which kernels: "nngp", "ntk", or "both", which computes them in one pass

    Shapes: images [*spatial, C, B], pairs innermost (see covariance.py).
    """

    def __init__(
        self, graph: Graph, method: WindowMethod = "shifts", kind: KernelKind = "nngp"
    ) -> None:
        self.graph = graph
        self.layers = layers_of(graph)
        self.method: WindowMethod = method
        self.kind: KernelKind = kind
        self.readers = Counter(i for node in graph.nodes for i in node.inputs)
        self.stretches = stretches(graph)
        self.margins = reach(graph, self.stretches)
        wanted = demand(graph)
        self.offsets = [tuple(sorted(offsets)) for offsets in wanted]
        self.means = need_means(graph)
        self.with_means = mean_readers(graph)

    @property
    def tangent(self) -> bool:
        """Whether the tangent kernel is computed alongside."""
        return self.kind != "nngp"

    def statistics(
        self, images: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], list[Tensor], Statistics]:
        """Output variances of every image, [B] for each kernel, and the two things of a `Side`."""
        parameters = Parameters(self.layers, weights, biases)
        prepared = self._with_margins(images)
        pairs = SelfPairs(tuple(prepared), self.margins, parameters, self.method, self.with_means)
        return self._output(pairs), prepared, pairs.statistics

    def cross(
        self, first: Side, second: Side, weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Output covariance of all pairs of the images of two sides, [B1, B2], of each kernel."""
        parameters = Parameters(self.layers, weights, biases)
        sides = first, second
        return self._output(
            CrossPairs(sides, self.margins, parameters, self.method, self.with_means)
        )

    def _with_margins(self, images: Sequence[Tensor]) -> list[Tensor]:
        prepared = list(images)
        for index, node in enumerate(self.graph.nodes):
            if isinstance(node.op, Input):
                place = node.op.index
                prepared[place] = with_margin(images[place], self.margins[index])
        return prepared

    def _output(self, pairs: Pairs) -> tuple[Tensor, ...]:
        found = Walk(self, pairs).output()
        nngp, ntk = found.nngp, found.ntk
        kernels = {"nngp": (nngp,), "ntk": (ntk,), "both": (nngp, ntk)}[self.kind]
        rank = len(self.graph.nodes[self.graph.output].spatial)
        # Not for no axes: TensorFlow would take out the pairs' axes of size 1 then.
        return tuple(tf.squeeze(k, axis=list(range(rank))) if rank else k for k in kernels)
