"""Layers with random weights: Dense, and convolutions plain, grouped, depthwise and transposed."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate

from keras2gp._util.keras_objects import KerasLayer
from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.activation import fused
from keras2gp.conversion.layers.branches import number_of
from keras2gp.conversion.layers.windows import by, patches
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.graph.ops import Depthwise, Dilate, Patches, Spatial

__all__ = [
    "check_weights",
    "read_convolution",
    "read_dense",
    "read_depthwise",
    "read_einsum",
    "read_embedding",
    "read_separable",
    "read_transposed",
]


def read_dense(call: Call, context: Context) -> Tensor:
    """Read a Dense layer: random weights over the last axis, k' = b2 + w2 k."""
    layer, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    if tensor.channel_first and not tensor.flat:
        context.refuse(
            "it sums over the last axis, which holds positions here, with the same weights for all "
            "channels: of a fixed number of positions that sum stays random at any width",
            "a Permute or Flatten before it, so that it sums over channels",
        )
    check_weights(layer, context)
    context.became = "dense"
    result = context.affine(tensor, layer, layer.kernel.shape[0], call.output)
    return fused(layer.activation, result, context)


def read_einsum(call: Call, context: Context) -> Tensor:
    """Read an EinsumDense that is a Dense layer: weights over the last axis, one bias a unit."""
    layer = call.operation
    equation = layer.equation.replace(" ", "")
    summed, _, output = equation.partition("->")
    source, _, weights = summed.partition(",")
    rest, axis, unit = source[:-1], source[-1:], output[-1:]
    if (weights, output) != (axis + unit, rest + unit) or unit in source:
        context.refuse(
            f"{equation!r} sums over other axes than the last, or gives several: there is no rule "
            "for that",
            "weights over the last axis, such as 'abc,cd->abd', or Dense",
        )
    if layer.bias_axes not in (None, unit):
        context.refuse(
            f"its biases {layer.bias_axes!r} differ from position to position",
            f"bias_axes={unit!r}",
        )
    return read_dense(call, context)


def read_convolution(call: Call, context: Context) -> Tensor:
    """Read a convolution: k'[g] = b2 + w2 / taps * sum of k over the patch of g."""
    layer = call.operation
    first = layer.data_format == "channels_first"
    tensor = context.with_channels(call.tensors[0], first=first)
    check_weights(layer, context)
    channels = sum(part.channels for part in tensor.parts)
    if layer.groups == channels > 1:
        context.became = f"depthwise convolution {by(layer.kernel_size)}"
        result = _depthwise(layer, tensor, layer.filters // channels, context, kernel="kernel")
        return fused(layer.activation, replace(result, shape=call.output), context)
    context.became = f"convolution {by(layer.kernel_size)}"
    if layer.groups > 1:
        _check_groups(layer, tensor, context)
        context.note = f"the channels of its {layer.groups} groups grow, not their number"
    fan_in = math.prod(layer.kernel.shape[:-1])
    window = patches(layer, tensor, context)
    result = context.affine(window, layer, fan_in, call.output, channel_first=first)
    return fused(layer.activation, result, context)


def read_depthwise(call: Call, context: Context) -> Tensor:
    """Read a depthwise convolution: weights for each channel and tap, and features as a result."""
    layer = call.operation
    first = layer.data_format == "channels_first"
    tensor = context.with_channels(call.tensors[0], first=first)
    context.became = f"depthwise convolution {by(layer.kernel_size)}"
    result = _depthwise(layer, tensor, layer.depth_multiplier, context, kernel="depthwise")
    return fused(layer.activation, replace(result, shape=call.output), context)


def read_separable(call: Call, context: Context) -> Tensor:
    """Read a depthwise convolution and the random weights over its channels: two rows."""
    layer = call.operation
    first = layer.data_format == "channels_first"
    tensor = context.with_channels(call.tensors[0], first=first)
    context.became = f"separable convolution {by(layer.kernel_size)}"
    features = _depthwise(
        layer,
        tensor,
        layer.depth_multiplier,
        context,
        kernel="depthwise",
        bias=None,
        suffix="/depthwise",
    )
    result = context.affine(
        features,
        layer,
        math.prod(layer.pointwise_kernel.shape[:-1]),
        call.output,
        channel_first=first,
        kernel="pointwise",
        suffix="/pointwise",
    )
    return fused(layer.activation, result, context)


def read_transposed(call: Call, context: Context) -> Tensor:
    """Read a transposed convolution: a convolution of the dilated map, over the taps that hit."""
    layer = call.operation
    first = layer.data_format == "channels_first"
    tensor = context.with_channels(call.tensors[0], first=first)
    spatial = context.spatial(tensor)
    sizes = call.output[1:] if first else call.output[:-1]
    context.became = f"transposed convolution {by(layer.kernel_size)}"
    if set(layer.strides) != {1}:
        tensor = context.apply(Dilate(tuple(layer.strides)), tensor)
    window = context.apply(_hits(layer, spatial, tuple(int(n or 0) for n in sizes)), tensor)
    # Keras's kernel is [*window, filters, channels]: one output sums over the last axis.
    fan_in = math.prod(layer.kernel_size) * int(layer.kernel.shape[-1])
    result = context.affine(window, layer, fan_in, call.output, channel_first=first)
    return fused(layer.activation, result, context)


def check_weights(layer: KerasLayer, context: Context) -> None:
    """Refuse quantised weights; say what becomes of low-rank updates, which start at zero."""
    if getattr(layer, "quantization_mode", None) is not None:
        why = "its weights are quantised, and the kernel is that of the layer before"
        context.refuse(why, "the model as it was before model.quantize()", by_shape=False)
    if getattr(layer, "lora_enabled", False):
        trained = context.state.settings.prior == "weights"
        context.note = (
            "weights with their low-rank updates" if trained else "without low-rank updates"
        )


def _check_groups(layer: KerasLayer, tensor: Tensor, context: Context) -> None:
    """Refuse groups that see channels of different covariances."""
    if context.holds_data(tensor):
        context.refuse(
            f"its {layer.groups} channel groups see different channels of the input, so that their "
            "outputs have different covariances",
            "groups=1 here, or a convolution before it",
        )
    channels = sum(part.channels for part in tensor.parts)
    made_of = set()
    for begin in range(0, channels, channels // layer.groups):
        counts: dict[int, int] = {}
        for part in tensor.between(begin, begin + channels // layer.groups):
            counts[part.node] = counts.get(part.node, 0) + part.channels
        made_of.add(frozenset(counts.items()))
    if len(made_of) > 1:
        context.refuse(
            f"its {layer.groups} channel groups see different parts of what was concatenated, so "
            "that their outputs have different covariances",
            "groups=1, or a 1x1 convolution before it",
        )


def _hits(layer: KerasLayer, spatial: Spatial, sizes: Spatial) -> Patches:
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


def _depthwise(
    layer: KerasLayer,
    tensor: Tensor,
    multiplier: int,
    context: Context,
    *,
    kernel: str,
    bias: str | None = "bias",
    suffix: str = "",
) -> Tensor:
    """Make `multiplier` channels of every channel of `tensor`, each with weights of its own.

    Whatever fans the initialiser counts, one output sums over the window alone: w2 is the window's
    size times Var(w).
    """
    taps = math.prod(layer.kernel_size)
    window = patches(layer, tensor, context)
    name, call = context.weights(
        layer, taps, kernel=kernel, bias=bias, suffix=suffix, bias_may_have_mean=True
    )
    marked = context.by_node(window)
    parts = tuple(replace(part, node=marked[part.node][0]) for part in window.parts)
    result = context.apply(Depthwise(name, call), replace(window, parts=parts))
    if bias is not None:
        result = context.shifted(result, number_of(context.bias_mean(layer, name), context))
    # Weights belong to channels of the layer: two parts of one node have weights of their own.
    begins = accumulate((part.channels for part in result.parts), initial=0)
    parts = tuple(
        Part(part.node, part.channels * multiplier, begin * multiplier)
        for part, begin in zip(result.parts, begins, strict=False)
    )
    return replace(result, parts=parts)


def read_embedding(call: Call, context: Context) -> Tensor:
    """Read Embedding: a Dense layer without biases on one-hot vectors, k' = w2 [t1 = t2]."""
    layer, tensor = call.operation, call.tensors[0]
    if not tensor.is_data:
        context.refuse(
            "it looks vectors up by what random weights give, which are no integers",
            "an Embedding of the input itself",
        )
    check_weights(layer, context)
    context.became = "embedding"
    tokens = context.as_tokens(tensor, int(layer.input_dim))
    return context.affine(tokens, layer, 1, call.output, kernel="embeddings")
