"""Convolutions in one, two and three dimensions, plain, grouped and transposed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras

from keras2gp.conversion.context import Call, Context
from keras2gp.conversion.layers.activation import fused
from keras2gp.conversion.layers.depthwise import depthwise
from keras2gp.conversion.layers.windows import by, patches
from keras2gp.conversion.registry import reader
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.ops import Dilate, Patches, Spatial

__all__ = ["read_convolution", "read_transposed"]


@reader(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
def read_convolution(call: Call, context: Context) -> Tensor:
    """Random weights over a window: k'[g] = b2 + w2 / taps * sum of k over the patch of g."""
    layer = call.operation
    first = layer.data_format == "channels_first"
    tensor = context.with_channels(call.tensors[0], first=first)
    _refuse_low_rank(layer, context)
    channels = sum(part.channels for part in tensor.parts)
    if layer.groups == channels > 1:
        context.became = f"depthwise convolution {by(layer.kernel_size)}"
        result = depthwise(layer, tensor, layer.filters // channels, context, kernel="kernel")
        return fused(layer.activation, replace(result, shape=call.output), context)
    context.became = f"convolution {by(layer.kernel_size)}"
    if layer.groups > 1:
        _check_groups(layer, tensor, context)
        context.note = f"the channels of its {layer.groups} groups grow, not their number"
    seen = patches(layer, tensor, context)
    fan_in = math.prod(layer.kernel.shape[:-1])
    result = context.affine(seen, layer, fan_in, call.output, channel_first=first)
    return fused(layer.activation, result, context)


def _check_groups(layer: Any, tensor: Tensor, context: Context) -> None:
    """Whether all groups see channels that are alike: then they have one covariance."""
    if context.holds_data(tensor):
        context.refuse(
            f"its {layer.groups} channel groups see different channels of the input, so that their "
            "outputs have different covariances",
            "groups=1 here, or a convolution before it",
        )
    if len(tensor.parts) > 1:
        context.refuse(
            f"its {layer.groups} channel groups see different parts of what was concatenated, so "
            "that their outputs have different covariances",
            "groups=1, or a 1x1 convolution before it",
        )


def _refuse_low_rank(layer: Any, context: Context) -> None:
    if getattr(layer, "lora_enabled", False):
        context.refuse("its weights have low-rank updates", "the plain layer")


@reader(
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
def read_transposed(call: Call, context: Context) -> Tensor:
    """Random weights from each position onto a window: as a convolution, over the taps that hit."""
    layer = call.operation
    first = layer.data_format == "channels_first"
    tensor = context.with_channels(call.tensors[0], first=first)
    spatial = context.spatial(tensor)
    sizes = call.output[1:] if first else call.output[:-1]
    context.became = f"transposed convolution {by(layer.kernel_size)}"
    if set(layer.strides) != {1}:
        tensor = context.apply(Dilate(tuple(layer.strides)), tensor)
    seen = context.apply(_hits(layer, spatial, tuple(int(n or 0) for n in sizes)), tensor)
    # Keras's kernel is [*window, filters, channels]: one output sums over the last axis.
    fan_in = math.prod(layer.kernel_size) * int(layer.kernel.shape[-1])
    result = context.affine(seen, layer, fan_in, call.output, channel_first=first)
    return fused(layer.activation, result, context)


def _hits(layer: Any, spatial: Spatial, sizes: Spatial) -> Patches:
    """The window over the dilated map that gathers what reaches each position of the output.

    Keras states the sizes n' of the output; a convolution with this window, stride s, dilation r
    and padding would make the input's n of them, with `cut` zeros before the image. Its transpose
    sends position i through tap t to i s + t r - cut.
    """
    window, dilation = tuple(layer.kernel_size), tuple(layer.dilation_rate)
    around = []
    for n, m, k, s, r in zip(spatial, sizes, window, layer.strides, dilation, strict=True):
        reach, dilated = (k - 1) * r + 1, (n - 1) * s + 1
        total = max(dilated - 1 + reach - m, 0) if layer.padding == "same" else 0
        cut = total // 2
        around.append((reach - 1 - cut, m - dilated + cut))
    return Patches(window, (1,) * len(window), dilation, tuple(around))
