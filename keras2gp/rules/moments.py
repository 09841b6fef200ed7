"""First moments: E[A_g(x)] of features, which sums and normalisation of features need.

They depend on one image, [*spatial, B], and are computed with its variances. Random layers have
none; an activation gives one; linear ops do to them what they do to a tensor.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras2gp.graph.gaussianity import Kind, kinds
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Activation, Op, Scale, Sum
from keras2gp.rules.covariance import Here
from keras2gp.rules.registry import dual_of, rule_of

__all__ = ["feature_sums", "first_moment", "need_means"]

Tensor = Any


def feature_sums(graph: Graph) -> frozenset[int]:
    """The sums of two or more tensors that may have means."""
    found = kinds(graph)
    return frozenset(
        index
        for index, node in enumerate(graph.nodes)
        if isinstance(node.op, Sum) and [found[i] for i in node.inputs].count(Kind.FEATURES) > 1
    )


def need_means(graph: Graph) -> frozenset[int]:
    """The nodes whose first moments are needed."""
    sums = feature_sums(graph)
    needed: set[int] = set()
    for index in range(len(graph.nodes) - 1, -1, -1):
        op = graph.nodes[index].op
        passes = index in needed and not op.random and not isinstance(op, Activation)
        if index in sums or passes:
            needed.update(graph.nodes[index].inputs)
    return frozenset(needed)


def first_moment(op: Op, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """E[A_g(x)] of an op's output, for variances `maps` of its inputs."""
    if isinstance(op, Activation):
        return dual_of(op).mean(maps[0])
    if op.random:
        return tf.zeros_like(maps[0])
    means = tuple(here.mean(i) for i in range(len(here.inputs)))
    if isinstance(op, Scale):
        return op.factor * means[0]
    if isinstance(op, Sum):
        return sum(c * m for c, m in zip(op.coefficients, means, strict=True))
    return rule_of(op)(op, means, here)
