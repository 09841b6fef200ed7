"""Concatenation: over channels as channel groups, over positions as a sum of padded maps."""

from __future__ import annotations

from dataclasses import replace

import keras

from keras2gp.conversion.context import Call, Context
from keras2gp.conversion.layers.merging import added
from keras2gp.conversion.registry import reader
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.ops import Pad

__all__ = ["read_concatenate"]


@reader(keras.layers.Concatenate, "Concatenate")
def read_concatenate(call: Call, context: Context) -> Tensor:
    """Channel groups, which weights after it average over, C_i / sum C; or maps side by side."""
    rank = len(call.output)
    first = rank > 1 and next((t.channel_first for t in call.tensors if not t.is_data), False)
    tensors = [context.with_channels(t, first=first) for t in call.tensors]
    axis = call.operation.axis % (rank + 1)
    if axis == 0:
        context.refuse("it joins the images of one batch", "an axis of channels")
    channels = 1 if first else rank
    if rank == 1:
        context.became = f"{len(tensors)} vectors joined"
        return _vectors(call, tensors)
    if axis == channels:
        context.became = f"{len(tensors)} groups of channels"
        parts = tuple(part for t in tensors for part in t.parts)
        return replace(tensors[0], shape=call.output, parts=parts)
    context.became = f"{len(tensors)} maps side by side"
    return _side_by_side(call, tensors, axis - (2 if first else 1), context)


def _vectors(call: Call, tensors: list[Tensor]) -> Tensor:
    flat = any(t.flat for t in tensors)
    pieces: tuple[tuple[int, bool], ...] = ()
    for tensor in tensors:
        pieces += tensor.pieces or ((len(tensor.parts), tensor.channel_first),)
    parts = tuple(part for t in tensors for part in t.parts)
    return Tensor(call.output, parts, flat=flat, pieces=pieces if flat else ())


def _side_by_side(call: Call, tensors: list[Tensor], axis: int, context: Context) -> Tensor:
    """Maps joined along a spatial axis: each with zeros where the others are, added up."""
    lengths = [context.spatial(t)[axis] for t in tensors]
    rank = len(context.spatial(tensors[0]))
    padded = []
    for number, tensor in enumerate(tensors):
        around = [(0, 0)] * rank
        around[axis] = (sum(lengths[:number]), sum(lengths[number + 1 :]))
        padded.append(context.apply(Pad(tuple(around)), tensor, call.output))
    return added(padded, [1.0] * len(padded), context)
