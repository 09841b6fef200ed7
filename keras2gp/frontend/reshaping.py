"""Layers that move positions: Flatten, Reshape, ZeroPadding, Cropping."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras

from keras2gp.frontend.context import Call, Context
from keras2gp.frontend.registry import reader
from keras2gp.frontend.tensor import Tensor
from keras2gp.graph.ops import Crop, Pad, Reshape

__all__ = ["read_cropping", "read_flatten", "read_reshape", "read_zero_padding"]


@reader(keras.layers.Flatten, "Flatten")
def read_flatten(call: Call, context: Context) -> Tensor:
    """The next Dense layer averages over positions as well as channels."""
    tensor = context.gathered(call.tensors[0])
    first = getattr(call.operation, "data_format", None) == "channels_first"
    if first and not tensor.channel_first and len(tensor.shape) > 1:
        context.refuse(
            "its data_format disagrees with the layers before it: it orders the vector as if "
            "positions were channels",
            "one data_format throughout",
        )
    context.became = "flatten"
    # With channels_first Keras moves the channels to the end before it flattens.
    ordered = tensor.channel_first and not first
    return replace(tensor, shape=call.output, flat=True, channel_first=ordered)


@reader(keras.layers.Reshape, "Reshape")
def read_reshape(call: Call, context: Context) -> Tensor:
    """Another shape that keeps the channels last, or that flattens."""
    tensor, target = context.gathered(call.tensors[0]), call.output
    spatial = context.state.builder.nodes[tensor.parts[0].node].spatial
    channels = sum(part.channels for part in tensor.parts)
    sizes = tuple(n for n in target if n is not None)
    if len(sizes) < len(target) or math.prod(sizes) != channels * math.prod(spatial):
        context.refuse(
            f"from {(*spatial, channels)} to {target} it mixes images with one another",
            "a target shape of as many elements, or a Reshape layer",
        )
    if len(target) == 1:
        context.became = "flatten"
        return replace(tensor, shape=target, flat=True)
    if sizes[-1] != channels or tensor.channel_first:
        context.refuse(
            f"from {(*spatial, channels)} to {target} it mixes channels with positions",
            "a target shape that keeps the channels on the last axis, or one axis in all",
        )
    context.became = "reshape"
    moved = context.apply(Reshape(sizes[:-1], len(spatial)), tensor, target)
    return replace(moved, flat=False)


@reader(keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)
def read_zero_padding(call: Call, context: Context) -> Tensor:
    """Zeros around the map, which a convolution after it sees."""
    layer = call.operation
    tensor = _located(call, context)
    context.became = "zeros around"
    return context.apply(Pad(_pairs(layer.padding)), tensor, call.output)


@reader(keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.Cropping3D)
def read_cropping(call: Call, context: Context) -> Tensor:
    """Positions removed from the borders."""
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
