"""Channels in another order, and channels that become positions or are made of them.

The first is a Reshape into groups, a Permute and a Reshape, as in ShuffleNet. Of n channels in g
groups, channel a n / g + b becomes channel b g + a. Every channel keeps its covariance; which of
them stand beside which matters to slices, sums and joined tensors alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product

from keras2gp.conversion.call import Call, RefusalError
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.resizing import located
from keras2gp.conversion.layers.units import is_renumbered
from keras2gp.conversion.layers.windows import blocks, by, gathered, on_each_axis, pads
from keras2gp.conversion.tensor import Cut, Part, Tensor, merged
from keras2gp.errors import Obstacle
from keras2gp.graph.ops import Crop, Patches, Shuffle, Spatial

__all__ = [
    "alike",
    "cut_into_groups",
    "differ",
    "groups_of",
    "joined_again",
    "over_blocks",
    "read_depth_to_space",
    "read_extract_patches",
    "read_space_to_depth",
    "swapped",
]

_MOST_CHANNELS = 2**13


def groups_of(spatial: tuple[int, ...], channels: int, sizes: tuple[int, ...]) -> int:
    """The number of groups that a Reshape cuts the channels of a map into; 0 if it does not."""
    if sizes[:-2] != spatial or channels > _MOST_CHANNELS:
        return 0
    return sizes[-2] if sizes[-2] * sizes[-1] == channels and min(sizes[-2:]) > 1 else 0


def cut_into_groups(
    call: Call, tensor: Tensor, groups: int, positions: Callable[[], Tensor], context: Context
) -> Tensor:
    """The groups of the channels as positions; where they are none, what a shuffle may go on with.

    positions: makes that tensor, or refuses
    """
    try:
        made = positions()
    except RefusalError as error:
        if context.holds_data(tensor):
            raise
        context.became = f"{groups} groups of channels"
        obstacle = Obstacle(context.path, call.received, error.why, error.hint)
        cut = Cut(tensor, groups, tensor.parts, obstacle=obstacle)
        return replace(tensor, shape=call.output, cut=cut)
    return replace(made, cut=Cut(tensor, groups, made.parts))


def swapped(tensor: Tensor, order: list[int]) -> Cut | None:
    """The cut of a tensor whose groups and the channels of each change places; None for another."""
    cut, rank = _cut_of(tensor), len(tensor.shape) + 1
    if cut is None or cut.swapped or order != [*range(rank - 2), rank - 1, rank - 2]:
        return None
    return replace(cut, swapped=True)


def joined_again(tensor: Tensor, shape: tuple[int | None, ...]) -> Tensor:
    """The channels on one axis again, if they were cut into groups; else the tensor as it is.

    shape: that a Reshape makes
    """
    cut = _cut_of(tensor)
    if cut is None or not (cut.swapped or shape == cut.before.shape):
        return tensor
    return _shuffled(cut.before, cut.groups) if cut.swapped else cut.before


def _cut_of(tensor: Tensor) -> Cut | None:
    """How a Reshape has cut the channels of a tensor, if nothing else has come after it."""
    return tensor.cut if tensor.cut and tensor.cut.parts == tensor.parts else None


def _shuffled(tensor: Tensor, groups: int) -> Tensor:
    units = [Part(p.node, 1, p.offset + i) for p in tensor.parts for i in range(p.channels)]
    size = len(units) // groups
    order = (units[a * size + b] for b in range(size) for a in range(groups))
    return replace(tensor, parts=merged(list(order)))


def read_depth_to_space(call: Call, context: Context) -> Tensor:
    """Read depth_to_space: blocks of channels become positions, k'[d][g] = k[d / r][g // r]."""
    size = int(call.operation.block_size)
    tensor = alike(located(call, context), context)
    return over_blocks(tensor, (size, size), call, context)


def read_space_to_depth(call: Call, context: Context) -> Tensor:
    """Read space_to_depth: the positions of a block are groups of channels side by side."""
    sizes = (int(call.operation.block_size),) * 2
    tensor = located(call, context)
    ones, around = (1, 1), ((0, 0), (0, 0))
    context.became = f"blocks of {by(sizes)} as channels"
    op = Patches(ones, sizes, ones, around)
    return gathered(tensor, blocks(context.spatial(tensor), sizes, op), call.output, context)


def read_extract_patches(call: Call, context: Context) -> Tensor:
    """Read extract_patches: the positions of a window are groups of channels side by side."""
    operation, tensor = call.operation, located(call, context)
    spatial = context.spatial(tensor)
    window, strides, dilation = (
        on_each_axis(value, len(spatial))
        for value in (
            operation.size,
            operation.strides or operation.size,
            operation.dilation_rate,
        )
    )
    around = pads(operation.padding, spatial, window, strides, dilation)
    sizes = Patches(window, strides, dilation, around).spatial((spatial,))
    context.became = f"patches of {by(window)} as channels"
    places = []
    for place in product(*map(range, window)):
        firsts = [i * r - b for i, r, (b, _) in zip(place, dilation, around, strict=True)]
        lasts = [f + (m - 1) * s for f, m, s in zip(firsts, sizes, strides, strict=True)]
        ends = [last + 1 - n for last, n in zip(lasts, spatial, strict=True)]
        cut = Crop(tuple((max(f, 0), max(-e, 0)) for f, e in zip(firsts, ends, strict=True)))
        added = tuple((max(-f, 0), max(e, 0)) for f, e in zip(firsts, ends, strict=True))
        ones = (1,) * len(window)
        places.append((cut, Patches(ones, strides, ones, added)))
    return gathered(tensor, places, call.output, context)


def differ(tensor: Tensor, context: Context) -> bool:
    """Whether channels are not independent and alike: several groups, data, sums of neighbours."""
    single = len(tensor.parts) == 1 and not tensor.parts[0].offset
    return not single or context.holds_data(tensor) or is_renumbered(tensor.parts[0].node, context)


def alike(tensor: Tensor, context: Context) -> Tensor:
    """A tensor whose channels are alike and random. Refuses others."""
    if differ(tensor, context):
        context.refuse(
            "it puts channels that are not alike, or depend on each other, at different positions "
            "of a map",
            "a convolution before it",
        )
    return tensor


def over_blocks(tensor: Tensor, block: Spatial, call: Call, context: Context) -> Tensor:
    """The channels of a tensor as positions: a block of them in the place of each."""
    context.became = f"channels over blocks of {by(block)}"
    made = context.apply(Shuffle(block), tensor, call.output)
    channels = made.parts[0].channels // math.prod(block)
    return replace(made, parts=(replace(made.parts[0], channels=channels),))
