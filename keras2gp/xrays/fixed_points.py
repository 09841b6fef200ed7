"""Fixed points of the map of variances and correlations through an activation and its weights.

Math: V(q) = w2 E[phi(u)^2] + b2,  C(c) = (w2 E[phi(u) phi(v)] + b2) / V(q),  u, v ~ N(0, q)
  slope = w2 E[phi'(u)^2] at q: how an angle between two inputs grows, seen at correlation 1
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp.covariance.duals.base import Dual
from keras2gp.covariance.registry import dual_of
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Activation, Normalize, Weighted
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.kernel import Kernel

__all__ = ["FixedPoint", "fixed_point", "fixed_points"]

_STEPS = 200
_CLOSE = 1e-9
_EDGE = 0.02
"""Distance of the slope from 1 that counts as the edge: a hundred layers change angles by a
factor of 7 there, which is what finite data tells from none."""
_BOUNDS = 1e-12, 1e12


@dataclass(frozen=True)
class FixedPoint:
    """The behaviour of one activation and the weights that read it, as if repeated for ever.

    Attributes:
        variance: the fixed point of V; None where it grows or falls without end, or a
            normalisation sets the variance, which then is that of the data.
        slope: at that variance, or at the data's.
        correlation: the fixed point of C that two different inputs run to.
        phase: "order" (slope below 1: all inputs become alike), "chaos" (above: near ones part), or
            "edge".
    """

    variance: float | None
    slope: float
    correlation: float
    phase: str


def fixed_points(kernel: Kernel, variances: dict[int, float]) -> dict[str, FixedPoint]:
    """The fixed points of every activation that weights read, by the path of its layer.

    Args:
        kernel: of the network.
        variances: mean variance in front of activations, by the node that they read.
    """
    nodes, found = kernel.graph.nodes, {}
    for index, node in enumerate(nodes):
        function = node.op.function
        if not isinstance(function, Activation) or not dual_of(function).differentiable:
            continue
        weights = next(_readers(kernel.graph, index), None)
        variance = variances.get(node.inputs[0])
        if weights is None or variance is None or not variance > 0.0:
            continue
        normalised = isinstance(nodes[node.inputs[0]].op, Normalize) or node.op is not function
        point = fixed_point(
            dual_of(function), kernel.parameters[weights], variance, normalised=normalised
        )
        if point is not None:
            found[node.path] = point
    return found


def _readers(graph: Graph, index: int) -> Iterator[str]:
    """The layers with weights that read a node, directly or through ops without weights."""
    reached = {index}
    for number in range(index + 1, len(graph.nodes)):
        node = graph.nodes[number]
        if reached.isdisjoint(node.inputs):
            continue
        if isinstance(node.op, Weighted):
            yield node.op.layer
        elif node.op.function is None:
            reached.add(number)


def fixed_point(
    dual: Dual, weights: LayerVariances, variance: float, *, normalised: bool = False
) -> FixedPoint | None:
    """The fixed point of one activation and the weights behind it; None if it is not finite.

    Args:
        dual: of the activation.
        weights: the variances of the layer that reads it.
        variance: of the data in front of the activation, from which V is iterated.
        normalised: whether a normalisation sets the variance.
    """
    w2, b2 = weights.weight, weights.bias

    def through(q: float) -> float:
        return w2 * _float(dual.second_moment(_number(q))) + b2

    fixed = None if normalised else _iterated(through, variance, _BOUNDS)
    q = variance if fixed is None or fixed <= 0.0 else fixed
    s = dual.prepare(_number(q))
    slope = w2 * _float(dual.derivative_second_moment(_number(q)))
    whole = through(q)
    if not (math.isfinite(slope) and math.isfinite(whole) and whole > 0.0):
        return None

    def correlated(c: float) -> float:
        pair = dual.covariance(_number(min(max(c, -1.0), 1.0) * q), s, s)
        return (w2 * _float(pair) + b2) / whole

    correlation = _iterated(correlated, 0.5, (-1.0, 2.0))
    phase = "order" if slope < 1.0 - _EDGE else "chaos" if slope > 1.0 + _EDGE else "edge"
    reached = 1.0 if correlation is None else min(correlation, 1.0)
    return FixedPoint(fixed, slope, reached, phase)


def _number(value: float) -> Any:
    return tf.constant([value], tf.float64)


def _float(values: Any) -> float:
    return float(np.asarray(values).reshape(-1)[0])


def _iterated(function: Any, start: float, bounds: tuple[float, float]) -> float | None:
    """Where repeated application leads; None where it leaves the bounds or does not settle."""
    value = start
    for _ in range(_STEPS):
        new = function(value)
        if not bounds[0] <= new <= bounds[1]:
            return None
        if abs(new - value) <= _CLOSE * max(abs(new), _CLOSE):
            return float(new)
        value = new
    return float(value)
