"""Layers that make maps larger or smaller: UpSampling, Resizing, ZeroPadding, Cropping."""

from __future__ import annotations

import math
from typing import Any

from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.windows import by
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.ops import Crop, Interpolate, Pad, Spatial, Upsample

__all__ = [
    "located",
    "read_center_crop",
    "read_cropping",
    "read_resizing",
    "read_upsampling",
    "read_zero_padding",
]


def located(call: Call, context: Context) -> Tensor:
    """The input of a layer whose data_format says where its channels stand. Refuses another."""
    first = getattr(call.operation, "data_format", None) == "channels_first"
    return context.with_channels(call.tensors[0], first=first)


def read_upsampling(call: Call, context: Context) -> Tensor:
    """Read upsampling by repetition, k'[d][g] = k[(g + d) // u - g // u][g // u], or smooth."""
    layer, tensor = call.operation, located(call, context)
    factors = (layer.size,) if isinstance(layer.size, int) else tuple(layer.size)
    context.became = f"upsampling {by(factors)}"
    if set(factors) == {1}:
        return tensor
    method = getattr(layer, "interpolation", "nearest")
    if method != "nearest":
        size = tuple(n * u for n, u in zip(context.spatial(tensor), factors, strict=True))
        return _interpolated(call, tensor, size, method, context)
    return context.apply(Upsample(factors), tensor, call.output)


def read_resizing(call: Call, context: Context) -> Tensor:
    """Read a map of another size, by its nearest positions or the means of their neighbours."""
    operation, tensor = call.operation, located(call, context)
    size = getattr(operation, "size", None) or (operation.height, operation.width)
    size = tuple(int(n) for n in size)
    for setting in ("antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio"):
        if getattr(operation, setting):
            context.refuse(f"its {setting}=True has no rule here", f"{setting}=False")
    context.became = f"resized to {by(size)}"
    if size == context.spatial(tensor):
        return tensor
    return _interpolated(call, tensor, size, operation.interpolation, context)


def _interpolated(
    call: Call, tensor: Tensor, size: Spatial, method: str, context: Context
) -> Tensor:
    if method not in ("bilinear", "nearest"):
        context.refuse(f"its interpolation {method!r} has no rule here", "'bilinear' or 'nearest'")
    if method == "nearest" and any(map(_has_ties, context.spatial(tensor), size)):
        context.refuse(
            f"from {context.spatial(tensor)} to {size} some positions are as near to one neighbour "
            "as to the other, so that rounding decides",
            "interpolation='bilinear', or sizes that divide one another",
        )
    return context.apply(Interpolate(size, method == "bilinear"), tensor, call.output)


def _has_ties(n: int, m: int) -> bool:
    """Whether a position of m lies in the middle between two of n, in the rounding of n / m.

    Math: (g + 1/2) n / m is whole for some g where, in lowest terms, n is even and m is odd.
    """
    divisor = math.gcd(n, m)
    return n // divisor % 2 == 0 and m // divisor % 2 == 1 and m != divisor


def read_zero_padding(call: Call, context: Context) -> Tensor:
    """Read ZeroPadding: zeros around the map."""
    layer = call.operation
    tensor = located(call, context)
    context.became = "zeros around"
    return context.apply(Pad(_pairs(layer.padding)), tensor, call.output)


def read_cropping(call: Call, context: Context) -> Tensor:
    """Read cropping: positions are removed from the borders."""
    tensor = located(call, context)
    context.became = "cropping"
    return context.apply(Crop(_pairs(call.operation.cropping)), tensor, call.output)


def read_center_crop(call: Call, context: Context) -> Tensor:
    """Read a centred crop: positions are removed from the borders, one more at the end if odd."""
    tensor = located(call, context)
    size = (int(call.operation.height), int(call.operation.width))
    pairs = []
    for n, m in zip(context.spatial(tensor), size, strict=True):
        if m > n:
            context.refuse(f"it makes the map {context.spatial(tensor)} larger", "Resizing")
        pairs.append(((n - m) // 2, n - m - (n - m) // 2))
    context.became = "cropping"
    return context.apply(Crop(tuple(pairs)), tensor, call.output)


def _pairs(values: Any) -> tuple[tuple[int, int], ...]:
    """Keras's padding: two numbers for one axis, a pair for each of several."""
    if isinstance(values[0], int):
        return ((int(values[0]), int(values[1])),)
    return tuple((int(before), int(after)) for before, after in values)
