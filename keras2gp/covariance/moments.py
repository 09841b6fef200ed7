"""First moments: E[A_g(x)] of features, which sums and normalisation of features need.

They depend on one image, [*spatial, B], and are computed with its variances. Random layers have
none; an activation gives one; linear ops do to them what they do to a tensor.
"""

from __future__ import annotations

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Here
from keras2gp.covariance.normalization import normalized_mean
from keras2gp.covariance.registry import dual_of, rule_of
from keras2gp.graph.distributions import Kind, kinds
from keras2gp.graph.features import Normalize
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Activation, Op, Scale, Sum

__all__ = ["first_moment", "mean_readers", "need_means"]


def mean_readers(graph: Graph) -> frozenset[int]:
    """The nodes whose covariance is made of their inputs' means, where these may not be 0.

    Sums of two or more features, and what takes the mean over channels away from features.
    """
    found = kinds(graph)
    readers = set()
    for index, node in enumerate(graph.nodes):
        features = [found[i] for i in node.inputs].count(Kind.FEATURES)
        if isinstance(node.op, Sum) and features > 1:
            readers.add(index)
        if isinstance(node.op, Normalize) and node.op.deviation and features:
            readers.add(index)
    return frozenset(readers)


def need_means(graph: Graph) -> frozenset[int]:
    """The nodes whose first moments are needed."""
    readers = mean_readers(graph)
    needed: set[int] = set()
    for index in range(len(graph.nodes) - 1, -1, -1):
        op, inputs = graph.nodes[index].op, graph.nodes[index].inputs
        passes = index in needed and not op.random and not isinstance(op, Activation)
        if isinstance(op, Normalize) and passes:
            needed.add(inputs[op.group])
        elif passes:
            needed.update(inputs)
        if index in readers:
            needed.update(inputs)
    return frozenset(needed)


def first_moment(op: Op, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """E[A_g(x)] of an op's output, for variances `maps` of its inputs."""
    if isinstance(op, Activation):
        return dual_of(op).mean(maps[0])
    if op.random:
        return tf.zeros_like(maps[0])
    if isinstance(op, Normalize):
        return normalized_mean(op, maps, here)
    means = tuple(here.mean(i) for i in range(len(here.inputs)))
    if isinstance(op, Scale):
        return op.factor * means[0]
    if isinstance(op, Sum):
        return sum(c * m for c, m in zip(op.coefficients, means, strict=True))
    return rule_of(op)(op, means, here)
