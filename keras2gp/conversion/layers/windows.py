"""Sliding windows: where Keras places those of convolutions and of pooling."""

from __future__ import annotations

import math
from typing import Any

from keras2gp.conversion.context import Context
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.ops import Patches, Spatial

__all__ = ["by", "pads", "patches"]


def patches(layer: Any, tensor: Tensor, context: Context) -> Tensor:
    """Add the op of a convolution's window; a window of one position adds none."""
    spatial = context.spatial(tensor)
    window = tuple(int(n) for n in layer.kernel_size)
    strides, dilation = tuple(layer.strides), tuple(layer.dilation_rate)
    op = Patches(window, strides, dilation, pads(layer.padding, spatial, window, strides, dilation))
    if op.taps == 1 and set(strides) == {1}:
        return tensor
    return context.apply(op, tensor)


def pads(
    padding: str,
    spatial: Spatial,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """Positions that Keras adds before and after each axis for "valid", "same" or "causal"."""
    around = []
    for n, k, s, r in zip(spatial, window, strides, dilation, strict=True):
        reach = (k - 1) * r + 1
        if padding == "same":
            total = max((math.ceil(n / s) - 1) * s + reach - n, 0)
            around.append((total // 2, total - total // 2))
        elif padding == "causal":
            around.append((reach - 1, 0))
        else:
            around.append((0, 0))
    return tuple(around)


def by(sizes: tuple[int, ...]) -> str:
    """Format sizes for a report: 3x3."""
    return "x".join(map(str, sizes))
