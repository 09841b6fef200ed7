"""Convolutions in one, two and three dimensions."""

from __future__ import annotations

import math

import keras

from keras2gp.frontend.activation import fused
from keras2gp.frontend.context import Call, Context
from keras2gp.frontend.registry import reader
from keras2gp.frontend.tensor import Tensor
from keras2gp.graph.ops import Patches

__all__ = ["pads", "read_convolution"]


@reader(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
def read_convolution(call: Call, context: Context) -> Tensor:
    """Random weights over a window: k'[g] = b2 + w2 / taps * sum of k over the patch of g."""
    layer = call.operation
    first = layer.data_format == "channels_first"
    tensor = context.with_channels(call.tensors[0], first=first)
    if layer.groups != 1:
        why = f"its {layer.groups} channel groups see finitely many channels each"
        context.refuse(why, "groups=1")
    if getattr(layer, "lora_enabled", False):
        context.refuse("its weights have low-rank updates", "the plain layer")
    spatial = context.state.builder.nodes[tensor.parts[0].node].spatial
    window = tuple(int(n) for n in layer.kernel_size)
    strides, dilation = tuple(layer.strides), tuple(layer.dilation_rate)
    op = Patches(window, strides, dilation, pads(layer.padding, spatial, window, strides, dilation))
    context.became = f"convolution {'x'.join(map(str, window))}"
    alone = op.taps == 1 and set(strides) == {1}
    patches = tensor if alone else context.apply(op, tensor)
    fan_in = math.prod(layer.kernel.shape[:-1])
    result = context.affine(patches, layer, fan_in, call.output, channel_first=first)
    return fused(layer.activation, result, context)


def pads(
    padding: str,
    spatial: tuple[int, ...],
    window: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """Zeros that Keras puts before and after each axis for "valid", "same" or "causal"."""
    found = []
    for n, k, s, r in zip(spatial, window, strides, dilation, strict=True):
        reach = (k - 1) * r + 1
        if padding == "same":
            total = max((math.ceil(n / s) - 1) * s + reach - n, 0)
            found.append((total // 2, total - total // 2))
        elif padding == "causal":
            found.append((reach - 1, 0))
        else:
            found.append((0, 0))
    return tuple(found)
