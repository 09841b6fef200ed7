"""The program of a graph: its covariance as two TensorFlow functions, of images and of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal

import tensorflow as tf

# The rule modules register themselves when they are imported.
from keras2gp._util.arrays import Tensor
from keras2gp.covariance import (  # noqa: F401
    affine,
    duals,
    elementwise,
    normalization,
    reshaping,
    sequences,
    windows,
)
from keras2gp.covariance.base import Pairs, Parameters, Reach, Rule, Statistics, WindowMethod
from keras2gp.covariance.dual import Dual
from keras2gp.covariance.duals.composed import reason_of_steps
from keras2gp.covariance.forward_pass import ForwardPass
from keras2gp.covariance.pairs import CrossPairs, ImageBlock, SelfPairs, with_margin
from keras2gp.covariance.registry import OWN, dual_of, has_dual, reason_of_outside, rule_of
from keras2gp.errors import Obstacle
from keras2gp.graph.analysis import Analysis
from keras2gp.graph.distributions import known_means
from keras2gp.graph.graph import Graph, Node
from keras2gp.graph.ops import Activation, Composed, Input, Rest
from keras2gp.graph.ops.channels import OVER_AXES
from keras2gp.graph.repetitions import repetitions

__all__ = ["KernelKind", "Program", "check_rules", "check_tangent"]

_MIXES = OVER_AXES | {"glu"}
_OVER_POSITIONS = (
    "it divides each number by a sum over a fixed number of positions, which stays random",
    "GlobalAveragePooling in the place of a mean by such weights; or gates, each a sigmoid",
)
KernelKind = Literal["nngp", "ntk", "both"]


def check_rules(graph: Graph) -> list[Obstacle]:
    """Obstacles: activations that are not known here, or not functions of one number."""
    unknown = [
        Obstacle(node.path, f"activation {_described(function)}", *_unknown(function))
        for node, function in _activations(graph)
        if not has_dual(function)
    ]
    without_mean = [
        Obstacle(
            node.path,
            f"activation {_described(function)} in a sum or product",
            "its mean, which their covariance is made of, is not stated",
            "a Dual with a `mean`, or weights of their own on the branches",
        )
        for node, function in _activations(graph, known_means(graph))
        if has_dual(function) and type(dual_of(function)).mean is Dual.mean
    ]
    return (
        unknown
        + without_mean
        + [
            Obstacle(
                node.path,
                f"activation {_described(node.op.of)} beside a tensor that its argument is made of",
                "the mean of its slope, which their covariance is made of, is not known here",
                "a Dual with a `slope`, or weights of its own on one of the branches",
            )
            for node in graph.nodes
            if isinstance(node.op, Rest) and has_dual(node.op.of) and not _has_slope(node.op.of)
        ]
    )


def _has_slope(op: Activation) -> bool:
    dual = dual_of(op)
    return dual.differentiable and type(dual).slope is not Dual.slope


def _unknown(op: Activation) -> tuple[str, str]:
    """Why there is no rule for an activation, and what would work instead."""
    if isinstance(op, Composed):
        return reason_of_steps(op)
    if op.name.endswith(OWN):
        name = op.name.removesuffix(OWN)
        why = (
            f"{name} is a function of your own, which a file does not hold, and none that gives "
            "the same moments was stated"
        )
        return why, f"activations={{{name!r}: function}}"
    hint = "an activation of each number by itself: relu, gelu, tanh, silu, elu or another"
    if reason := reason_of_outside(op):
        return f"the dual that was registered for it cannot be used: {reason}", hint
    if op.name in OVER_AXES and dict(op.params).get("positions"):
        return _OVER_POSITIONS
    if op.name in _MIXES:
        why = "it mixes the channels: each number is divided by a sum over all of them, or the like"
        return why, f"sigmoid, or another {hint.removeprefix('an ')}"
    return "nothing here says what its covariance is", hint + "; or a dual: keras2gp.dual"


def check_tangent(graph: Graph) -> list[Obstacle]:
    """Obstacles to the tangent kernel: activations whose derivative has no second moment."""
    return [
        Obstacle(
            node.path,
            f"activation {_described(function)}",
            "its derivative is no function, so the tangent kernel is infinite",
            "the NNGP kernel, or a continuous activation",
        )
        for node, function in _activations(graph)
        if not dual_of(function).differentiable
    ]


def _activations(
    graph: Graph, indices: Iterable[int] | None = None
) -> list[tuple[Node, Activation]]:
    """The nodes that apply an activation, with it; all of them, or those of the indices."""
    nodes = graph.nodes if indices is None else [graph.nodes[i] for i in sorted(indices)]
    functions = ((node, node.op.function) for node in nodes)
    return [(node, function) for node, function in functions if isinstance(function, Activation)]


def _described(op: Activation) -> str:
    constants = ", ".join(f"{name}={value:g}" for name, value in op.params)
    return f"{op.name}({constants})" if constants else op.name


class Program:
    """A graph's covariance as pure functions of images, statistics and parameters.

    Nothing here is compiled: the callers wrap `statistics` and `cross` in tf.function.

    method: how window sums are computed (windows.py)
    kind: which kernels: "nngp", "ntk", or "both", which computes them in one pass
    boundaries: whether maps that several ops read end a fusion (see base.materialised)
    reach: of rules in fewer operations, for images of small variances: what they give of others is
        not a number; None for those for all images
    repeats: whether equal stretches of many nodes are computed by one body, in a loop

    Shapes:
        images: [*spatial, C, B], the images innermost (see base.py)
    """

    def __init__(
        self,
        graph: Graph,
        method: WindowMethod = "shifts",
        kind: KernelKind = "nngp",
        *,
        boundaries: bool = True,
        reach: Reach | None = None,
        repeats: bool = False,
    ) -> None:
        self.graph = graph
        self.reach = reach
        self.boundaries = boundaries
        self.layers = graph.layers
        self.method: WindowMethod = method
        self.kind: KernelKind = kind
        # A convolution has one weight for each tap, whatever the position.
        self.analysis = Analysis.of(graph, cyclic=method == "shifts")
        self.repetitions = repetitions(self.analysis) if repeats else {}

    @cached_property
    def rules(self) -> dict[int, Rule[Any]]:
        """The rule of every node that a loop computes."""
        nodes = self.graph.nodes
        rules = {i: rule_of(nodes[i].op) for loop in self.analysis.loops for i in loop.nodes}
        if self.reach is None:
            return rules
        tangent = self.kind != "nngp"
        return {i: r.compact(tangent=tangent, reach=self.reach) for i, r in rules.items()}

    @property
    def limited(self) -> tuple[int, ...]:
        """The nodes whose rules hold for images of small variances alone."""
        return tuple(i for i, rule in self.rules.items() if rule.limited)

    @property
    def reaches(self) -> bool:
        """Whether a rule is of its reach: a program without one is no other than the compact."""
        return any(rule.reaches for rule in self.rules.values())

    def fits(self, statistics: Statistics) -> Tensor:
        """Whether all images have small variances at the nodes whose rules ask for that."""
        return tf.reduce_all(
            [
                tf.reduce_all(tf.math.is_finite(statistics[str(i)][0]))
                for i in self.limited
                if str(i) in statistics  # else with those of the first stretch of a repetition
            ]
        )

    def statistics(
        self, images: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], list[Tensor], Statistics]:
        """Output variances of every image for each kernel, and the contents of an ImageBlock.

        Shapes: [*positions, B]
        """
        parameters = Parameters(self.layers, weights, biases, self.boundaries)
        prepared = self._with_margins(images)
        pairs = SelfPairs(
            tuple(prepared),
            self.analysis.margins,
            parameters,
            self.method,
            self.analysis.needs_means,
        )
        return self._output(pairs), prepared, pairs.padded

    def within(
        self, images: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Covariance between all positions of each image, [*positions, *positions, B]."""
        parameters = Parameters(self.layers, weights, biases, self.boundaries)
        pairs = SelfPairs(
            tuple(self._with_margins(images)),
            self.analysis.margins,
            parameters,
            self.method,
            self.analysis.needs_means,
        )
        return self._output(pairs, between=True)

    def cross(
        self,
        first: ImageBlock,
        second: ImageBlock,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Output covariance of all pairs of the images of two blocks, of each kernel.

        Shapes: [*positions, B1, B2]; [*positions, *positions, B1, B2] if the graph asks for that
        """
        parameters = Parameters(self.layers, weights, biases, self.boundaries)
        pairs = CrossPairs(
            (first, second),
            self.analysis.margins,
            parameters,
            self.method,
            self.analysis.needs_means,
        )
        return self._output(pairs, between=self.graph.between)

    def _with_margins(self, images: Sequence[Tensor]) -> list[Tensor]:
        prepared = list(images)
        for index, node in enumerate(self.graph.nodes):
            if isinstance(node.op, Input):
                prepared[node.op.index] = with_margin(
                    images[node.op.index], self.analysis.margins[index]
                )
        return prepared

    def _output(self, pairs: Pairs, *, between: bool = False) -> tuple[Tensor, ...]:
        tangent = self.kind != "nngp"
        forward = ForwardPass(
            self.analysis, self.rules, pairs, tangent=tangent, repetitions=self.repetitions
        )
        output = forward.output(between=between)
        nngp, ntk = output.nngp, output.ntk
        kernels = {"nngp": (nngp,), "ntk": (ntk,), "both": (nngp, ntk)}[self.kind]
        rank = len(self.graph.nodes[self.graph.output].spatial) * (2 if between else 1)
        if not rank or self.graph.positions:
            return kernels
        # Not for no axes: TensorFlow would take out the pairs' axes of size 1 then.
        return tuple(tf.squeeze(k, axis=list(range(rank))) for k in kernels)
