"""Channels in another order: a Reshape into groups, a Permute and a Reshape, as in ShuffleNet.

Of n channels in g groups, channel a n / g + b becomes channel b g + a. Every channel keeps its
covariance; which of them stand beside which matters to slices, sums and joined tensors alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from keras2gp.conversion.call import Call, RefusalError
from keras2gp.conversion.context import Context
from keras2gp.conversion.tensor import Cut, Part, Tensor, merged
from keras2gp.errors import Obstacle

__all__ = ["cut_into_groups", "groups_of", "joined_again", "swapped"]

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
