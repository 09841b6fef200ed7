"""The tensors of a reader: groups of channels in the graph, or data that Keras computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras2gp.errors import Obstacle

__all__ = ["Cut", "Part", "Tensor", "merged"]


@dataclass(frozen=True)
class Part:
    """A group of channels that are alike: channels [offset, offset + channels) of a node.

    The node stands for any number of independent channels. Two parts of one node are the same
    random variables where their ranges of channels agree, and independent where they do not.
    """

    node: int
    channels: int
    offset: int = 0


def merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The channel groups, with neighbours of one node that follow each other as one group."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last and last.node == part.node and last.offset + last.channels == part.offset:
            joined[-1] = replace(last, channels=last.channels + part.channels)
        else:
            joined.append(part)
    return tuple(joined)


@dataclass(frozen=True)
class Cut:
    """Channels that a Reshape has cut into two axes, the groups and the channels of each.

    before:   the tensor before it
    groups:   how many
    parts:    of the tensor that it made
    swapped:  whether a Permute has swapped the two axes, so that another Reshape shuffles channels
    obstacle: of what follows, unless it is that Permute or Reshape; None where the groups may be
              positions
    """

    before: Tensor
    groups: int
    parts: tuple[Part, ...]
    swapped: bool = False
    obstacle: Obstacle | None = None


@dataclass(frozen=True)
class Tensor:
    """A tensor of the Keras model.

    shape:         Keras's, without the batch axis
    parts:         its channel groups in the graph; empty for data
    data:          the tensor in the deterministic model that Keras runs; None unless data
    channel_first: whether the channels are axis 0 of `shape` rather than the last
    flat:          Keras sees a vector; the graph still keeps the positions, which a Dense layer
                   averages over
    kept:          of flat tensors: how many axes of positions, from the first on, Keras still sees
    split:         of channels that a Reshape has cut into blocks, (rows, columns) of a block and
                   whether they stand beside the positions that they belong to; () for none
    cut:           of channels that a Reshape has cut into groups of them; it counts while `parts`
                   are those of the Reshape
    outside:       positions of -inf around the map, (before, after) on each axis, which `shape`
                   counts and the graph does not: pooling after them takes no notice of them
    units:         of channels that depend on each other: in the graph they are positions of one
                   channel, as are all of Keras's axes. They may be an output; what else follows is
                   refused, and this is its obstacle
    pieces:        of flat tensors that were concatenated: how many channel groups each has, and
                   whether its channels come before its positions
    """

    shape: tuple[int | None, ...]
    parts: tuple[Part, ...] = ()
    data: Any = None
    channel_first: bool = False
    flat: bool = False
    kept: int = 0
    pieces: tuple[tuple[int, bool], ...] = ()
    split: tuple[int, ...] = ()
    cut: Cut | None = None
    outside: tuple[tuple[int, int], ...] = ()
    units: Obstacle | None = None

    @property
    def is_data(self) -> bool:
        """Whether it is a deterministic function of the input."""
        return not self.parts

    @property
    def spatial(self) -> tuple[int | None, ...]:
        """Sizes of the axes other than channels, as Keras sees them."""
        return self.shape[1:] if self.channel_first else self.shape[:-1]

    @property
    def channels(self) -> int | None:
        """Number of channels as Keras sees it."""
        if not self.shape:
            return 1
        return self.shape[0] if self.channel_first else self.shape[-1]

    def between(self, begin: int, end: int) -> tuple[Part, ...]:
        """The channel groups of the channels from `begin` up to `end`."""
        chosen: list[Part] = []
        first = 0
        for part in self.parts:
            low, high = max(begin, first), min(end, first + part.channels)
            if low < high:
                chosen.append(Part(part.node, high - low, part.offset + low - first))
            first += part.channels
        return tuple(chosen)

    def map(self, function: Callable[[int], int], shape: tuple[int | None, ...]) -> Tensor:
        """The same channel groups after a function of nodes, under another Keras shape."""
        parts = tuple(replace(part, node=function(part.node)) for part in self.parts)
        return replace(self, parts=parts, shape=shape)
