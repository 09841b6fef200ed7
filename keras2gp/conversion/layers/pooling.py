"""Average pooling, local and global; max pooling only where it takes single positions."""

from __future__ import annotations

import math
from dataclasses import replace

import keras

from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.masks import mask_of, shares
from keras2gp.conversion.layers.units import units_of
from keras2gp.conversion.layers.windows import by, on_each_axis, pads
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.errors import Obstacle
from keras2gp.graph.ops import (
    AveragePool,
    Axes,
    Op,
    Pad,
    Patches,
    Reshape,
    Scale,
    Spatial,
    Total,
)
from keras2gp.layer_table import LAYERS

__all__ = [
    "channel_sum",
    "read_adaptive_pooling",
    "read_average_pooling",
    "read_cumsum",
    "read_global_average_pooling",
    "read_global_max_pooling",
    "read_max_pooling",
    "read_mean",
    "read_sum",
]


Pads = tuple[tuple[int, int], ...]


def read_average_pooling(call: Call, context: Context) -> Tensor:
    """Read average pooling: k'[d][g] = mean of k[b - a][a] over positions a, b of the window."""
    geometry = _geometry(call)
    context.became = f"average pooling {by(geometry[0])}"
    return _pooled(call, _located(call, context), geometry, context)


def read_global_average_pooling(call: Call, context: Context) -> Tensor:
    """Read global average pooling: the mean over all pairs of positions."""
    context.became, tensor = "global average pooling", _located(call, context)
    mask = mask_of(call, context, 1)
    if mask is not None:
        context.became = "mean over the steps of a mask"
        tensor = context.weighed(tensor, mask, shares)
    return _global(call, tensor, context)


def read_sum(call: Call, context: Context) -> Tensor:
    """Read ops.sum over spatial axes, their number times the mean; or over channels of mean 0."""
    tensor = context.as_graph_tensor(call.tensors[0])
    if _over_channels(call, tensor):
        return channel_sum(tensor, call.output, context)
    mean = read_mean(call, context)
    before, after = (math.prod(int(n or 1) for n in t.shape) for t in (tensor, mean))
    context.became = "sum over positions"
    return context.scaled(mean, before / after)


def read_mean(call: Call, context: Context) -> Tensor:
    """Read ops.mean over spatial axes: average pooling over all of their positions."""
    tensor = context.as_graph_tensor(call.tensors[0])
    if _over_channels(call, tensor):
        count = int(tensor.channels or 1)
        return context.scaled(channel_sum(tensor, call.output, context), 1.0 / count)
    rank = len(tensor.shape) + 1
    stated = call.operation.axis
    stated = [stated] if isinstance(stated, int) else stated
    axes = range(rank) if stated is None else [axis % rank for axis in stated]
    channels = 1 if tensor.channel_first else rank - 1
    if tensor.flat or not set(axes) <= set(range(1, rank)) - {channels}:
        context.refuse(
            f"a mean or sum over the axes {tuple(axes)} takes in channels or images, which has no "
            "limit as the network grows wide",
            "axes of positions alone: keras.ops.mean(x, axis=(1, 2)) of channels-last images",
        )
    context.became = "average over positions"
    averaged = [axis - (2 if tensor.channel_first else 1) for axis in axes]
    if len(set(averaged)) == rank - 2:
        return _global(call, tensor, context)
    spatial = context.spatial(tensor)
    window = tuple(n if axis in averaged else 1 for axis, n in enumerate(spatial))
    op = AveragePool(window, (1,) * len(spatial), ((0, 0),) * len(spatial))
    pooled = context.apply(op, tensor)
    if call.operation.keepdims:
        return replace(pooled, shape=call.output)
    left = tuple(axis for axis in range(len(spatial)) if axis not in averaged)
    return context.apply(Axes(left, len(spatial)), pooled, call.output)


def _over_channels(call: Call, tensor: Tensor) -> bool:
    """Whether a sum or mean is over the axis of channels alone, and what is left has one."""
    axis, rank = call.operation.axis, len(tensor.shape) + 1
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    if not isinstance(axis, int) or tensor.flat:
        return False
    kept = call.operation.keepdims or rank == 2 or set(tensor.spatial) == {1}
    return kept and axis % rank == (1 if tensor.channel_first else rank - 1)


def channel_sum(tensor: Tensor, shape: tuple[int | None, ...], context: Context) -> Tensor:
    """The sum over channels, which has to be of mean 0: k' = C k, Gaussian for many channels."""
    count = sum(part.channels for part in tensor.parts)
    spatial = context.spatial(tensor)
    if len(shape) < len(tensor.shape) and spatial:  # an axis of one position takes its place
        rank = len(spatial)
        tensor = context.apply(Axes(tuple(range(rank - 1)), rank), tensor)
    context.became = f"sum over {count} channels"
    context.note = "Gaussian for many channels, of the covariance of as many as the model has"
    mean = context.channel_mean(tensor)
    node = context.state.builder.add(Total(float(count)), (mean,), context.path)
    return Tensor(shape, (Part(node, 1),), channel_first=tensor.channel_first)


def read_adaptive_pooling(call: Call, context: Context) -> Tensor:
    """Read adaptive average pooling into equal bins; unequal bins are refused."""
    tensor = _located(call, context)
    spatial = context.spatial(tensor)
    bins = on_each_axis(call.operation.output_size, len(spatial))
    if any(n % m for n, m in zip(spatial, bins, strict=True)):
        context.refuse(
            f"{spatial} positions cannot be divided into {bins} equal bins, and Keras's overlap",
            "an output size that divides the map's, or AveragePooling",
        )
    window = tuple(n // m for n, m in zip(spatial, bins, strict=True))
    context.became = f"average pooling {by(window)}"
    return _pooled(call, tensor, (window, window, "valid"), context)


def read_max_pooling(call: Call, context: Context) -> Tensor:
    """Read max pooling: exact for a window of 1, else refused or replaced on request."""
    window, strides, _ = geometry = _geometry(call)
    outside = call.tensors[0].outside
    if set(window) == {1} and not outside:
        context.became = f"stride {by(strides)}"
    else:
        _replace_maximum(context)
        context.became = f"average pooling {by(window)}"
    inside = replace(call, args=(replace(call.tensors[0], outside=()),), kwargs={})
    return _pooled(call, _located(inside, context), geometry, context, outside)


def read_global_max_pooling(call: Call, context: Context) -> Tensor:
    """Read global max pooling: exact for one position, else refused or replaced on request."""
    tensor = _located(call, context)
    context.became = "identity"
    if math.prod(context.spatial(tensor)) > 1:
        _replace_maximum(context)
        context.became = "global average pooling"
    return _global(call, tensor, context)


def _replace_maximum(context: Context) -> None:
    if context.state.settings.max_pooling != "average":
        context.refuse(*LAYERS["MaxPooling2D"].reason, by_shape=False)
    context.state.replaced_max_pooling = True
    context.note = "max pooling, replaced by average pooling as asked for"


def _geometry(call: Call) -> tuple[Spatial, Spatial, str]:
    """Window, strides and padding of a pooling layer, or of its counterpart in keras.ops."""
    operation = call.operation
    rank = len(call.output) - 1
    window = on_each_axis(operation.pool_size, rank)
    strides = window if operation.strides is None else on_each_axis(operation.strides, rank)
    return window, strides, operation.padding.lower()


def _located(call: Call, context: Context) -> Tensor:
    form = getattr(call.operation, "data_format", None) or keras.config.image_data_format()
    return context.with_channels(call.tensors[0], first=form == "channels_first")


def _pooled(
    call: Call,
    tensor: Tensor,
    geometry: tuple[Spatial, Spatial, str],
    context: Context,
    outside: Pads = (),
) -> Tensor:
    """Average pooling; `outside`: positions around the map that windows reach and do not count."""
    window, strides, padding = geometry
    ones = (1,) * len(window)
    outside = outside or ((0, 0),) * len(window)
    sizes = tuple(n + sum(o) for n, o in zip(context.spatial(tensor), outside, strict=True))
    around = tuple(
        (before + first, after + last)
        for (before, after), (first, last) in zip(
            pads(padding, sizes, window, strides, ones), outside, strict=True
        )
    )
    op: Op = AveragePool(window, strides, around)
    if window == ones and not any(map(any, outside)):
        if strides == ones:
            return tensor
        op = Patches(window, strides, ones, around)  # single positions: no offsets are mixed
    return context.apply(op, tensor, call.output)


def _global(call: Call, tensor: Tensor, context: Context) -> Tensor:
    """One position, or none: the mean over all positions of each channel group."""
    keep = bool(call.operation.keepdims)
    rank = len(call.output) - 1 if keep else 0
    parts = tuple(replace(part, node=_mean(part.node, rank, context)) for part in tensor.parts)
    return Tensor(call.output, parts, channel_first=tensor.channel_first and keep)


def _mean(node: int, rank: int, context: Context) -> int:
    """The node on `rank` axes of one position that is the mean over all positions of another.

    Reshape and Axes keep that mean, so it is taken before: no offset has to survive the reshape.
    """
    builder = context.state.builder
    while isinstance(builder.nodes[node].op, Reshape | Axes):
        (node,) = builder.nodes[node].inputs
    spatial = builder.nodes[node].spatial
    if math.prod(spatial) > 1:
        op = AveragePool(spatial, (1,) * len(spatial), ((0, 0),) * len(spatial))
        node = builder.add(op, (node,), context.path)
    if len(spatial) == rank:
        return node
    return builder.add(Reshape((1,) * rank, len(spatial)), (node,), context.path)


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
