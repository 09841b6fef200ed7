"""Sliding windows: where Keras places those of convolutions, of pooling and of patches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any

from keras2gp._util.keras_objects import KerasLayer
from keras2gp.conversion.context import Context
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.graph.ops import Axes, Crop, Op, Patches, Spatial

__all__ = ["beside_each_other", "blocks", "by", "gathered", "on_each_axis", "pads", "patches"]

_MOST_GROUPS = 64


def patches(layer: KerasLayer, tensor: Tensor, context: Context) -> Tensor:
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


def gathered(
    tensor: Tensor,
    places: Iterable[tuple[Op, ...]],
    shape: tuple[int | None, ...],
    context: Context,
) -> Tensor:
    """The places of a window as groups of channels: those of the first, then of the next.

    places: for each, the ops that give its positions
    shape:  Keras's, of the result
    """
    chains = list(places)
    if len(chains) * len(tensor.parts) > _MOST_GROUPS:
        context.refuse(
            f"{len(chains)} positions of each block become channels, which makes more than "
            f"{_MOST_GROUPS} groups of them",
            "a layer with weights straight after it, if it is Flatten or Reshape; a convolution "
            "with such a window and stride in the place of blocks and the weights after them",
        )
    parts: list[Part] = []
    for chain in chains:
        chosen = tensor
        for op in chain:
            chosen = context.apply(op, chosen)
        parts += chosen.parts
    return replace(tensor, shape=shape, parts=tuple(parts), flat=False, kept=0)


def blocks(size: Spatial, sizes: Spatial, op: Op) -> Iterable[tuple[Op, ...]]:
    """Each place of a block of `sizes` along the last axes: it is cut out, and `op` applied."""
    whole = ((0, 0),) * (len(size) - len(sizes))
    for place in product(*map(range, sizes)):
        cut = tuple((i, r - 1 - i) for i, r in zip(place, sizes, strict=True))
        yield Crop((*whole, *cut)), op


def beside_each_other(tensor: Tensor, context: Context) -> Tensor:
    """A tensor whose positions were flattened at each step, with groups of channels for them."""
    size, kept = context.spatial(tensor), tensor.kept
    if len(size) <= kept:
        return replace(tensor, flat=False, kept=0)
    steps = Axes(tuple(range(kept)), len(size))
    return gathered(tensor, blocks(size, size[kept:], steps), tensor.shape, context)


def on_each_axis(value: Any, rank: int) -> Spatial:
    """Keras's setting of one number for all axes, or of one for each, as one for each."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    return tuple(int(n) for n in values)


def by(sizes: tuple[int, ...]) -> str:
    """Format sizes for a report: 3x3."""
    return "x".join(map(str, sizes))
