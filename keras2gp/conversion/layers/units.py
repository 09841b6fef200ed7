"""Channels that depend on each other: v + a, a - mean(a), outputs of several heads side by side.

Weights after them would sum over few numbers that share a random one, and stay random. As an output
they are a process whose positions are all of Keras's axes: a channel that is broadcast is one
position repeated, and a mean over channels is one over positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import keras

from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.errors import Obstacle
from keras2gp.graph.distributions import kinds
from keras2gp.graph.graph import Graph
from keras2gp.graph.independence import OtherChannels
from keras2gp.graph.ops import (
    AveragePool,
    Axes,
    Kind,
    Mixture,
    Op,
    Pad,
    Repeat,
    Reshape,
    Scale,
    Shuffle,
    Spatial,
    Spread,
    Sum,
    Total,
)

__all__ = ["is_renumbered", "units_of", "units_of_call"]

_MOST_PARTS = 64


def units_of_call(call: Call, obstacle: Obstacle, context: Context) -> list[Tensor] | None:
    """The tensors of a sum as units of one shape; None if they cannot be.

    obstacle: of what follows the sum, unless it is an output
    """
    whole = tuple(int(n or 0) for n in call.output)
    if 0 in whole or any(len(t.shape) != len(whole) or t.flat for t in call.tensors):
        return None
    made = []
    for tensor in call.tensors:
        units = _data(tensor, whole, context) if tensor.is_data else units_of(tensor, context)
        if units is None:
            return None
        made.append(replace(_repeated(units, whole, context), units=obstacle))
    return made


def units_of(tensor: Tensor, context: Context) -> Tensor | None:
    """A random tensor with every channel at a position of its own; None for one that has no rule.

    Its `units` are to be stated by the caller.
    """
    if tensor.units:
        return tensor
    many = len(tensor.parts) > _MOST_PARTS
    if tensor.flat or tensor.split or tensor.outside or many or context.holds_data(tensor):
        return None
    if any(part.offset or is_renumbered(part.node, context) for part in tensor.parts):
        return None
    axis = 0 if tensor.channel_first else len(tensor.shape) - 1
    nodes = [_unit(part.node, part.channels, axis, context) for part in tensor.parts]
    add, counts = context.state.builder.add, [part.channels for part in tensor.parts]
    if len(nodes) > 1:
        for number, node in enumerate(nodes):
            pads = [(0, 0)] * len(tensor.shape)
            pads[axis] = (sum(counts[:number]), sum(counts[number + 1 :]))
            nodes[number] = add(Pad(tuple(pads)), (node,), context.path)
        nodes = [add(Sum((1.0,) * len(nodes)), tuple(nodes), context.path)]
    return Tensor(tensor.shape, (Part(nodes[0], 1),))


def is_renumbered(node: int, context: Context) -> bool:
    """Whether a channel is made of channels of other numbers, such as x[..., 1:] + x[..., :-1].

    Then channels are not independent of each other.
    """
    nodes, left, seen = context.state.builder.nodes, [node], set[int]()
    while left:
        index = left.pop()
        op = nodes[index].op
        if isinstance(op, OtherChannels):
            return True
        if index not in seen and not op.random:
            seen.add(index)
            left += nodes[index].inputs
    return False


def _unit(node: int, channels: int, axis: int, context: Context) -> int:
    """A channel group with its channels along one more axis of positions."""
    if channels > 1:
        return _added(_along(context, node, channels, axis), node, context)
    nodes, factor, source = context.state.builder.nodes, 1.0, node
    while isinstance(scale := nodes[source].op, Scale):
        factor, (source,) = factor * scale.factor, nodes[source].inputs
    total = nodes[source].op
    (inner,) = nodes[source].inputs if isinstance(total, Total) else (None,)
    mixed = inner is None or isinstance(nodes[inner].op, Mixture)
    if not isinstance(total, Total) or inner is None or mixed or not _is_gaussian(inner, context):
        return _added(_along(context, node, 1, axis), node, context)
    # The sum over channels of a tensor, which may stand beside it.
    count = int(total.count)
    spread = _added(_along(context, inner, count, axis), inner, context)
    size = tuple(count if i == axis else 1 for i in range(len(nodes[spread].spatial)))
    ones = (1,) * len(size)
    mean = AveragePool(size, ones, ((0, 0),) * len(size))
    return _added([mean, Scale(count * factor)], spread, context)


def _is_gaussian(node: int, context: Context) -> bool:
    """Whether the channels of a tensor may be positions: features have no rule as such."""
    return kinds(Graph(tuple(context.state.builder.nodes), node))[node] is Kind.GAUSSIAN


def _along(context: Context, node: int, channels: int, axis: int) -> list[Op]:
    """The ops that give a node an axis of its channels."""
    rank = len(context.state.builder.nodes[node].spatial)
    if not rank:
        return [Spread((channels,)) if channels > 1 else Reshape((1,), 0)]
    order = list(range(rank))
    order.insert(axis, rank)
    factors = tuple(channels if i == axis else 1 for i in range(rank + 1))
    return [Axes(tuple(order), rank), *([Shuffle(factors)] if channels > 1 else [])]


def _added(ops: Sequence[Op], node: int, context: Context) -> int:
    for op in ops:
        node = context.state.builder.add(op, (node,), context.path)
    return node


def _repeated(tensor: Tensor, whole: Spatial, context: Context) -> Tensor:
    """A tensor with its one position along an axis repeated as often as others have."""
    size = context.spatial(tensor)
    if size == whole:
        return tensor
    factors = tuple(m if n == 1 else 1 for n, m in zip(size, whole, strict=True))
    return context.apply(Repeat(factors), tensor, whole)


def _data(tensor: Tensor, whole: Spatial, context: Context) -> Tensor:
    """Data of the shape of the sum, with one channel."""
    ones = keras.ops.ones((1, *whole), tensor.data.dtype)
    data = keras.ops.expand_dims(tensor.data * ones, -1)
    entered = context.as_graph_tensor(Tensor((*whole, 1), data=data))
    return replace(entered, shape=whole)
