"""Layers that move positions: Flatten, Reshape, Permute, RepeatVector, and several as one."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from keras2gp._util.keras_objects import KerasOperation
from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.shuffling import (
    alike,
    cut_into_groups,
    differ,
    groups_of,
    joined_again,
    over_blocks,
    swapped,
)
from keras2gp.conversion.layers.windows import (
    beside_each_other,
    blocks,
    by,
    gathered,
)
from keras2gp.conversion.tensor import Tensor
from keras2gp.errors import Obstacle
from keras2gp.graph.ops import (
    Axes,
    Op,
    Permute,
    Reshape,
    Shuffle,
    Spatial,
    Spread,
    Upsample,
    reshape_of,
)

__all__ = [
    "read_flatten",
    "read_permute",
    "read_repeat_vector",
    "read_reshape",
]


def read_flatten(call: Call, context: Context) -> Tensor:
    """Read Flatten: the next Dense layer averages over positions as well as channels."""
    tensor = context.as_graph_tensor(joined_again(call.tensors[0], call.output))
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
        return replace(tensor, shape=call.output, flat=False, kept=0, channel_first=False)
    return replace(tensor, shape=call.output, flat=True, kept=0)


def read_reshape(call: Call, context: Context) -> Tensor:
    """Read a Reshape that keeps the channels last, flattens, or spreads channels over positions."""
    target = call.output
    tensor = joined_again(call.tensors[0], target)
    if tensor.split:
        return _shuffled(tensor, call, context)
    tensor = context.as_graph_tensor(tensor)
    sizes = tuple(n for n in target if n is not None)
    if len(sizes) < len(target) or math.prod(sizes) != math.prod(n or 0 for n in tensor.shape):
        context.refuse(
            f"from {tensor.shape} to {target} it mixes images with one another",
            "a target shape of as many elements, or a Reshape layer",
        )
    if len(target) == 1:
        return _flattened(tensor, call, context)
    if tensor.shape == target and call.tensors[0].cut is not None:
        context.became = "channels in another order"
        return tensor
    return _on_other_axes(tensor, sizes, call, context)


def _on_other_axes(tensor: Tensor, sizes: Spatial, call: Call, context: Context) -> Tensor:
    spatial, channels = context.spatial(tensor), sum(part.channels for part in tensor.parts)
    if tensor.kept and sizes != (*spatial, channels):
        tensor = beside_each_other(tensor, context)
        spatial = context.spatial(tensor)
        channels = sum(part.channels for part in tensor.parts)
    if spatial and math.prod(spatial) == 1 < math.prod(sizes[:-1]) and not tensor.pieces:
        tensor, spatial = context.apply(Reshape((), len(spatial)), tensor), ()
    plain = not (tensor.channel_first or tensor.pieces or tensor.flat)
    groups = groups_of(spatial, channels, sizes) if plain else 0
    if not spatial and math.prod(sizes[:-1]) > 1:
        spread = partial(_spread, call, tensor, context)
        return cut_into_groups(call, tensor, groups, spread, context) if groups else spread()
    moved = _between_channels_and_positions(call, tensor, groups, context) if plain else None
    if moved is not None:
        return moved
    if sizes[-1] != channels or tensor.channel_first or tensor.pieces:
        context.refuse(
            f"from {(*spatial, channels)} to {call.output} it mixes channels with positions",
            "a target shape that keeps the channels on the last axis, or joins whole positions to "
            "them, or has one axis in all",
        )
    context.became = "reshape"
    if spatial != sizes[:-1]:
        tensor = context.apply(reshape_of(spatial, sizes[:-1]), tensor)
    return replace(tensor, shape=call.output, flat=False, kept=0)


def _flattened_steps(tensor: Tensor, call: Call, context: Context) -> Tensor:
    """The positions of a step joined to its channels: columns of a map as steps of a sequence."""
    spatial = context.spatial(tensor)
    *steps, joined = (int(n or 1) for n in call.output)
    kept, channels = len(steps), sum(part.channels for part in tensor.parts)
    if spatial[:kept] != tuple(steps):
        tensor = context.apply(reshape_of(spatial, (*steps, joined // channels)), tensor)
    context.became = f"positions within each of {by(tuple(steps))} joined to the channels"
    return replace(tensor, shape=call.output, flat=True, kept=kept)


def _between_channels_and_positions(
    call: Call, tensor: Tensor, groups: int, context: Context
) -> Tensor | None:
    """A Reshape of a map that makes channels of positions or positions of channels; else None.

    groups: that it cuts the channels into, on an axis of their own; 0 if it does not
    """
    spatial = context.spatial(tensor)
    channels = sum(part.channels for part in tensor.parts)
    sizes = tuple(int(n or 1) for n in call.output)
    if len(spatial) == 2 and sizes[:2] == spatial and len(sizes) == 5:
        context.became = f"channels in blocks of {by(sizes[2:4])}"
        return replace(alike(tensor, context), shape=call.output, split=(*sizes[2:4], 0))
    if len(spatial) == 4 and sizes == (*spatial[:2], math.prod(spatial[2:]) * channels):
        context.became = f"blocks of {by(spatial[2:])} as channels"
        places = blocks(spatial, spatial[2:], Axes((0, 1), 4))
        return gathered(tensor, places, call.output, context)
    if spatial and sizes[-1] > channels and sizes[-1] % channels == 0:
        return _flattened_steps(tensor, call, context)
    if channels % sizes[-1] or channels <= sizes[-1]:
        return None
    beside = partial(_beside_positions, call, tensor, channels // sizes[-1], context)
    return cut_into_groups(call, tensor, groups, beside, context) if groups else beside()


def _shuffled(tensor: Tensor, call: Call, context: Context) -> Tensor:
    """The last step of a pixel shuffle that is written as Reshape, Permute and Reshape."""
    *block, moved = tensor.split
    spatial = context.spatial(tensor)
    sizes = tuple(n * r for n, r in zip(spatial, block, strict=True))
    if not moved or tuple(call.output) != (*sizes, tensor.shape[-1]):
        context.as_graph_tensor(tensor)  # refuses it
    return over_blocks(replace(tensor, split=()), tuple(block), call, context)


def _beside_positions(call: Call, tensor: Tensor, groups: int, context: Context) -> Tensor:
    """Groups of the channels as positions, one after the other at each position of the map."""
    tensor, spatial = alike(tensor, context), context.spatial(tensor)
    *size, channels = (int(n or 1) for n in call.output)
    rank = len(spatial)
    if tuple(size) == (*spatial, groups):
        chain: list[Op] = [Axes(tuple(range(rank + 1)), rank), Shuffle((*(1,) * rank, groups))]
    else:
        flat = [] if rank == 1 else [Reshape((math.prod(spatial),), rank)]
        after = [] if len(size) == 1 else [Reshape(tuple(size), 1)]
        chain = [*flat, Shuffle((groups,)), *after]
    for op in chain:
        tensor = context.apply(op, tensor, call.output)
    context.became = f"{groups} groups of channels as positions"
    return replace(tensor, parts=(replace(tensor.parts[0], channels=channels),))


def _spread(call: Call, tensor: Tensor, context: Context) -> Tensor:
    """Place the units of a vector at the positions of a map: units are i.i.d."""
    if differ(tensor, context):
        context.refuse(
            f"from {tensor.shape} to {call.output} it puts units that are not alike, or depend on "
            "each other, at different positions of a map",
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
    """Read another order of the axes: of positions, with the channels first or last."""
    tensor = call.tensors[0]
    if tensor.split == (*tensor.split[:2], 0) and _order(call.operation, 6) == [0, 1, 3, 2, 4, 5]:
        context.became = "blocks beside their positions"
        return replace(tensor, shape=call.output, split=(*tensor.split[:2], 1))
    rank = len(tensor.shape)
    places = _order(call.operation, rank + 1)
    channels = 1 if tensor.channel_first else rank
    why = (
        f"it orders the axes as {tuple(places)}: images are mixed, or channels stand between "
        "positions, and there is no rule for that"
    )
    hint = "an order that keeps the images' axis, with the channels first or last"
    impossible = tensor.flat or places[0] != 0 or places.index(channels) not in (1, rank)
    cut = swapped(tensor, places)
    if cut is not None and (impossible or cut.obstacle):
        context.became = "groups beside their channels"
        obstacle = cut.obstacle or Obstacle(context.path, call.received, why, hint)
        cut = replace(cut, parts=cut.before.parts, obstacle=obstacle)
        return replace(cut.before, shape=call.output, cut=cut)
    tensor = context.as_graph_tensor(tensor)
    if impossible:
        context.refuse(why, hint)
    positions = [axis for axis in range(1, rank + 1) if axis != channels]
    order = tuple(positions.index(axis) for axis in places if axis in positions)
    first = rank > 1 and places[1] == channels
    context.became = "channels first" if first else "channels last"
    if order != tuple(range(len(order))):
        context.became = "positions along other axes"
        tensor = context.apply(Permute(order), tensor)
    return replace(tensor, shape=call.output, channel_first=first, cut=cut)


def _order(operation: KerasOperation, rank: int) -> list[int]:
    """The axis of the input, the batch's included, that each axis of the output is."""
    if stated := getattr(operation, "dims", None):
        return [0, *stated]
    order = list(range(rank))
    if type(operation).__name__ == "Swapaxes":
        first, second = operation.axis1 % rank, operation.axis2 % rank
        order[first], order[second] = second, first
        return order
    axes = getattr(operation, "axes", None)
    return [axis % rank for axis in axes] if axes else order[::-1]
