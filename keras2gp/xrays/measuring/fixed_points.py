"""Fixed points of the map of variances and correlations through an activation and its weights.

Math: V(q) = w2 E[phi(u)^2] + b2,  C(c) = (w2 E[phi(u) phi(v)] + b2) / V(q),  u, v ~ N(0, q)
  slope = C'(1) = w2 E[phi'(u)^2] q / V(q): how an angle between two near inputs grows
  q: the fixed point of V; where there is none, far on the way on which V grows or falls without
     end; the data's variance where a normalisation sets it

References:
    Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli 2016, Exponential expressivity in deep neural
    networks through transient chaos; Schoenholz, Gilmer, Ganguli and Sohl-Dickstein 2017, Deep
    information propagation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from scipy.optimize import brentq

from keras2gp._util.arrays import Tensor, Vector
from keras2gp.covariance.dual import Dual
from keras2gp.covariance.registry import dual_of
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Activation, Normalize, Weighted
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.kernel import Kernel

__all__ = ["FixedPoint", "fixed_point", "fixed_points"]

_STEPS = 20
_CLOSE = 1e-9
_REACH = 1e6
"""Factor from the data's variance within which a fixed point is looked for."""
_STRIDES = 64
_HALVINGS = 30
_EDGE = 0.02
"""Distance of the slope from 1 that counts as the edge: a hundred layers change angles by a
factor of 7 there, which is what finite data tells from none."""


@dataclass(frozen=True)
class FixedPoint:
    """The behaviour of one activation and the weights that read it, as if repeated for ever.

    Attributes:
        variance: the fixed point of V; None where it grows or falls without end, and slope and
            correlation are those far on its way, or where a normalisation sets the variance: they
            are those at the data's.
        slope: of C at correlation 1.
        correlation: where two inputs of correlation 1/2 run to.
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

    def through(q: Vector) -> Vector:
        return w2 * _values(dual.second_moment(tf.constant(q))) + b2

    def slope_at(q: Vector) -> float:
        derivative = _values(dual.derivative_second_moment(tf.constant(q)))
        return float((w2 * derivative * q / through(q))[0])

    def correlated(c: Vector, q: Vector) -> Vector:
        s = dual.prepare(tf.constant(q))
        pair = dual.covariance(tf.constant(np.clip(c, -1.0, 1.0) * q), s, s)
        return (w2 * _values(pair) + b2) / through(q)

    at, c = np.array([variance]), np.array([0.5])
    fixed, end = (None, None) if normalised else _variance(through, variance)
    if fixed is not None:
        at = np.array([fixed])
    elif end is not None and math.isfinite(slope_at(np.array([end]))):
        for _ in range(_STEPS):  # correlations change while the variance is on its way
            c, at = correlated(c, at), through(at)
            if not min(end, variance) < at[0] < max(end, variance):
                break
        at = np.array([end])
    slope = slope_at(at)
    if not (through(at) > 0.0 and math.isfinite(slope)):
        return None
    phase = "order" if slope < 1.0 - _EDGE else "chaos" if slope > 1.0 + _EDGE else "edge"
    return FixedPoint(fixed, slope, _correlation(lambda v: correlated(v, at), float(c[0])), phase)


_Map = Callable[[Vector], Vector]


def _variance(through: _Map, start: float) -> tuple[float | None, float]:
    """The fixed point that repeated steps from a variance run to; None where there is none.

    Returns:
        It, and the variance far on the way.
    """
    low, high = start / _REACH, start * _REACH
    reached, settled = _iterated(through, start)
    if settled or not low < reached < high:
        return (reached if low < reached < high else None), low if reached < start else high
    end = high if _rises(through, reached) else low
    return _between(through, np.geomspace(reached, end, _STRIDES)), end


def _correlation(through: _Map, start: float) -> float:
    """The fixed point of correlations that repeated steps from one run to."""
    reached, settled = _iterated(through, start)
    if settled or not -1.0 < reached < 1.0:
        return min(max(reached, -1.0), 1.0)
    end = 1.0 if _rises(through, reached) else -1.0
    found = _between(through, end - (end - reached) * 0.5 ** np.arange(_HALVINGS))
    return end if found is None or abs(end - found) <= _CLOSE else found


def _between(through: _Map, places: Vector) -> float | None:
    """The first fixed point on the way, for steps that are too short to reach it."""
    rises = through(places) > places
    turned = np.flatnonzero(rises[1:] != rises[:-1])
    if not len(turned):
        return None
    ends = sorted(places[turned[0] : turned[0] + 2].tolist())
    return float(brentq(lambda v: _step(through, v) - v, *ends, xtol=_CLOSE * abs(ends[1])))


def _iterated(through: _Map, start: float) -> tuple[float, bool]:
    """The end of some steps, and whether they have settled."""
    value = start
    for _ in range(_STEPS):
        new = _step(through, value)
        if abs(new - value) <= _CLOSE * max(abs(new), _CLOSE) or not math.isfinite(new):
            return new, True
        value = new
    return value, False


def _step(through: _Map, value: float) -> float:
    return float(through(np.array([value]))[0])


def _rises(through: _Map, value: float) -> bool:
    return _step(through, value) > value


def _values(tensor: Tensor) -> Vector:
    """The numbers of a dual, which may be one for all."""
    return np.asarray(tensor, np.float64).reshape(-1)
