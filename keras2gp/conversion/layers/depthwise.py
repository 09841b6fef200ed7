"""Depthwise and separable convolutions: weights of its own for each channel."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras

from keras2gp.conversion.context import Call, Context
from keras2gp.conversion.layers.activation import fused
from keras2gp.conversion.layers.windows import by, patches
from keras2gp.conversion.registry import reader
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.graph.features import Depthwise

__all__ = ["depthwise", "read_depthwise", "read_separable"]


@reader(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
def read_depthwise(call: Call, context: Context) -> Tensor:
    """Weights for each channel and tap, then features: k'[g] = b2 + w2 / taps * patch sum of k."""
    layer = call.operation
    first = layer.data_format == "channels_first"
    tensor = context.with_channels(call.tensors[0], first=first)
    context.became = f"depthwise convolution {by(layer.kernel_size)}"
    result = depthwise(layer, tensor, layer.depth_multiplier, context, kernel="depthwise")
    return fused(layer.activation, replace(result, shape=call.output), context)


@reader(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def read_separable(call: Call, context: Context) -> Tensor:
    """A depthwise convolution, then random weights over its channels: two entries of variances."""
    layer = call.operation
    first = layer.data_format == "channels_first"
    tensor = context.with_channels(call.tensors[0], first=first)
    context.became = f"separable convolution {by(layer.kernel_size)}"
    features = depthwise(
        layer,
        tensor,
        layer.depth_multiplier,
        context,
        kernel="depthwise",
        bias=None,
        half="/depthwise",
    )
    result = context.affine(
        features,
        layer,
        math.prod(layer.pointwise_kernel.shape[:-1]),
        call.output,
        channel_first=first,
        kernel="pointwise",
        half="/pointwise",
    )
    return fused(layer.activation, result, context)


def depthwise(
    layer: Any,
    tensor: Tensor,
    multiplier: int,
    context: Context,
    *,
    kernel: str,
    bias: str | None = "bias",
    half: str = "",
) -> Tensor:
    """Every channel of `tensor` becomes `multiplier` channels, each with weights of its own.

    Whatever fans the initialiser counts, one output sums over the window alone: w2 is the window's
    size times Var(w).
    """
    taps = math.prod(layer.kernel_size)
    seen = patches(layer, tensor, context)
    name, call = context.weights(layer, taps, kernel=kernel, bias=bias, half=half)
    result = context.apply(Depthwise(name, call), seen)
    return replace(
        result, parts=tuple(Part(part.node, part.channels * multiplier) for part in result.parts)
    )
