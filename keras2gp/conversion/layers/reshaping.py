"""Layers that move positions: Flatten, Reshape, Permute, ZeroPadding, Cropping, UpSampling."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from keras2gp.conversion.context import Call, Context
from keras2gp.conversion.layers.windows import by
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.ops import Crop, Pad, Reshape, Spread, Upsample

__all__ = [
    "read_cropping",
    "read_flatten",
    "read_permute",
    "read_repeat_vector",
    "read_reshape",
    "read_upsampling",
    "read_zero_padding",
]


def read_flatten(call: Call, context: Context) -> Tensor:
    """Read Flatten: the next Dense layer averages over positions as well as channels."""
    tensor = context.as_graph_tensor(call.tensors[0])
    first = getattr(call.operation, "data_format", None) == "channels_first"
    if first and not tensor.channel_first and len(tensor.shape) > 1:
        context.refuse(
            "its data_format disagrees with the layers before it: it orders the vector as if "
            "positions were channels",
            "one data_format throughout",
        )
    # With channels_first Keras moves the channels to the end before it flattens.
    ordered = tensor.channel_first and not first
    return _flattened(replace(tensor, channel_first=ordered), call, context)


def _flattened(tensor: Tensor, call: Call, context: Context) -> Tensor:
    """Flatten a tensor; a single position needs no averaging over positions."""
    context.became = "flatten"
    spatial = context.spatial(tensor)
    if spatial and math.prod(spatial) == 1 and not tensor.pieces:
        tensor, spatial = context.apply(Reshape((), len(spatial)), tensor), ()
    if not spatial:
        return replace(tensor, shape=call.output, flat=False, channel_first=False)
    return replace(tensor, shape=call.output, flat=True)


def read_reshape(call: Call, context: Context) -> Tensor:
    """Read a Reshape that keeps the channels last, flattens, or spreads units over positions."""
    tensor, target = context.as_graph_tensor(call.tensors[0]), call.output
    spatial = context.spatial(tensor)
    channels = sum(part.channels for part in tensor.parts)
    sizes = tuple(n for n in target if n is not None)
    if len(sizes) < len(target) or math.prod(sizes) != math.prod(n or 0 for n in tensor.shape):
        context.refuse(
            f"from {tensor.shape} to {target} it mixes images with one another",
            "a target shape of as many elements, or a Reshape layer",
        )
    if len(target) == 1:
        return _flattened(tensor, call, context)
    if not spatial and math.prod(sizes[:-1]) > 1:
        return _spread(call, tensor, context)
    if sizes[-1] != channels or tensor.channel_first or tensor.pieces:
        context.refuse(
            f"from {(*spatial, channels)} to {target} it mixes channels with positions",
            "a target shape that keeps the channels on the last axis, or one axis in all",
        )
    context.became = "reshape"
    moved = context.apply(Reshape(sizes[:-1], len(spatial)), tensor, target)
    return replace(moved, flat=False)


def _spread(call: Call, tensor: Tensor, context: Context) -> Tensor:
    """Place the units of a vector at the positions of a map: units are i.i.d."""
    if len(tensor.parts) > 1 or tensor.parts[0].offset or context.holds_data(tensor):
        context.refuse(
            f"from {tensor.shape} to {call.output} it puts units that are not alike at different "
            "positions of a map",
            "a Dense layer before it",
        )
    sizes = tuple(int(n or 1) for n in call.output)
    context.became = f"units over positions {by(sizes[:-1])}"
    spread = context.apply(Spread(sizes[:-1]), tensor, call.output)
    return replace(spread, parts=(replace(spread.parts[0], channels=sizes[-1]),))


def read_repeat_vector(call: Call, context: Context) -> Tensor:
    """Read RepeatVector: the same vector at every position, k'[d][g] = k."""
    tensor = context.as_graph_tensor(call.tensors[0])
    if tensor.flat:
        context.refuse("it repeats a flattened map, not a vector of channels", "a Dense layer")
    context.became = f"repeated {call.operation.n} times"
    single = context.apply(Reshape((1,), 0), tensor)
    return context.apply(Upsample((int(call.operation.n),)), single, call.output)


def read_permute(call: Call, context: Context) -> Tensor:
    """Read a permutation that moves the channels; another order of positions is refused."""
    tensor = context.as_graph_tensor(call.tensors[0])
    rank = len(tensor.shape)
    stated = getattr(call.operation, "dims", None)
    axes = getattr(call.operation, "axes", None)
    order = [0, *stated] if stated else list(axes or range(rank, -1, -1))
    places = [axis % (rank + 1) for axis in order]
    channels = 1 if tensor.channel_first else rank
    positions = [axis for axis in range(1, rank + 1) if axis != channels]
    last = places == [0, *positions, channels]
    if tensor.flat or not (last or places == [0, channels, *positions]):
        context.refuse(
            f"it orders the axes as {tuple(places)}: positions are reordered, or taken for "
            "channels, and there is no rule for that",
            "an order that keeps the positions' axes, with the channels first or last",
        )
    context.became = "channels last" if last else "channels first"
    return replace(tensor, shape=call.output, channel_first=not last)


def read_upsampling(call: Call, context: Context) -> Tensor:
    """Read upsampling by repetition: k'[d][g] = k[(g + d) // u - g // u][g // u]."""
    layer, tensor = call.operation, _located(call, context)
    if getattr(layer, "interpolation", "nearest") != "nearest":
        context.refuse(
            f"its interpolation {layer.interpolation!r} has no rule here", "interpolation='nearest'"
        )
    factors = (layer.size,) if isinstance(layer.size, int) else tuple(layer.size)
    context.became = f"upsampling {by(factors)}"
    if set(factors) == {1}:
        return tensor
    return context.apply(Upsample(factors), tensor, call.output)


def read_zero_padding(call: Call, context: Context) -> Tensor:
    """Read zero padding."""
    layer = call.operation
    tensor = _located(call, context)
    context.became = "zeros around"
    return context.apply(Pad(_pairs(layer.padding)), tensor, call.output)


def read_cropping(call: Call, context: Context) -> Tensor:
    """Read cropping: positions are removed from the borders."""
    tensor = _located(call, context)
    context.became = "cropping"
    return context.apply(Crop(_pairs(call.operation.cropping)), tensor, call.output)


def _located(call: Call, context: Context) -> Tensor:
    first = getattr(call.operation, "data_format", None) == "channels_first"
    return context.with_channels(call.tensors[0], first=first)


def _pairs(values: Any) -> tuple[tuple[int, int], ...]:
    """Keras's padding: two numbers for one axis, a pair for each of several."""
    if isinstance(values[0], int):
        return ((int(values[0]), int(values[1])),)
    return tuple((int(before), int(after)) for before, after in values)
