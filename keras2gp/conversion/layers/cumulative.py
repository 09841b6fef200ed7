"""Sums over all positions up to each one: keras.ops.cumsum."""

from __future__ import annotations

from dataclasses import replace

from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.units import units_of
from keras2gp.conversion.tensor import Tensor
from keras2gp.errors import Obstacle
from keras2gp.graph.ops import AveragePool, Pad, Scale

__all__ = ["read_cumsum"]

_UNITS = "what it gives are sums that share their terms, so that channels depend on each other"


def read_cumsum(call: Call, context: Context) -> Tensor:
    """Read ops.cumsum along an axis of positions; along that of channels of an output's units."""
    tensor, axis = context.as_graph_tensor(call.tensors[0]), call.operation.axis
    rank = len(tensor.shape) + 1
    if not isinstance(axis, int) or axis % rank == 0 or tensor.flat:
        context.refuse(
            "it adds up images, or the numbers of all axes one after the other",
            "the axis of positions: keras.ops.cumsum(x, axis=1)",
        )
    axis = axis % rank - 1
    channels = 0 if tensor.channel_first else rank - 2
    if not tensor.units and axis == channels:
        units = units_of(tensor, context)
        hint = "the sum as the output, or a sum over positions"
        if units is None:
            context.refuse(_UNITS, hint)
        tensor = replace(units, units=Obstacle(context.path, call.received, _UNITS, hint))
    elif not tensor.units and tensor.channel_first:
        axis -= 1
    context.became = "sums over positions up to each"
    sizes = context.spatial(tensor)
    count = sizes[axis]
    pads, window = [(0, 0)] * len(sizes), [1] * len(sizes)
    pads[axis], window[axis] = (count - 1, 0), count
    none = ((0, 0),) * len(sizes)
    padded = context.apply(Pad(tuple(pads)), tensor)
    mean = context.apply(AveragePool(tuple(window), (1,) * len(sizes), none), padded)
    return context.apply(Scale(float(count)), mean)
