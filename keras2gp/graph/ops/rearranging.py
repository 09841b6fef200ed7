"""Ops that keep all positions, and lay them along other axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops.base import Kind, Offset, Op, Ratios, Refusal, Spatial, along

__all__ = [
    "Axes",
    "Permute",
    "Reshape",
    "ReshapeEach",
    "Shuffle",
    "Spread",
    "reshape_of",
]

_POOLED = "pooling (or its like) after it needs the covariance between different positions, and "


@dataclass(frozen=True)
class Permute(Op):
    """The spatial axes in another order: axis i is axis order[i] of the input, for d as for g."""

    order: tuple[int, ...]
    keeps_constants: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True
    keeps_axes: ClassVar[bool] = False

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The input's sizes in the new order."""
        if sorted(self.order) != list(range(len(inputs[0]))):
            raise GraphError(f"{self.order} is no order of the axes of {inputs[0]}")
        return tuple(inputs[0][axis] for axis in self.order)

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op; the axis of calls remains the first."""
        moved = tuple(axis + 1 for axis in self.order)
        return (Permute((0, *moved, *range(len(moved) + 1, rank + 1))),)

    def input_offset(self, offset: Ratios) -> Ratios:
        """The offset in the input's order of axes."""
        return tuple(offset[self.order.index(axis)] for axis in range(len(self.order)))


@dataclass(frozen=True)
class Reshape(Op):
    """Other spatial axes for the same positions in the same order."""

    size: Spatial
    keeps_constants: ClassVar[bool] = True
    rank: int
    linear: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True
    keeps_offsets: ClassVar[bool] = False

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The new spatial shape."""
        if math.prod(inputs[0]) != math.prod(self.size):
            raise GraphError(f"{inputs[0]} cannot become {self.size}")
        return self.size

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """A reshape behind the axis of calls; no op if only axes of one position change."""
        before, after = along(size, 1, rank)[1:], along(self.size, 1, rank)[1:]
        return () if before == after else (ReshapeEach(after, rank + 1, 1),)

    def input_offset(self, offset: Ratios) -> Ratios:
        """0; GraphError for another offset, which is not the same at every position."""
        if any(offset):
            raise GraphError("an offset other than 0 does not survive a reshape")
        return (0,) * self.rank

    def refuses_offsets(self, size: Spatial, kind: Kind) -> Refusal | None:
        """The refusal: neighbours after the reshape are not neighbours before it."""
        why = f"{_POOLED}neighbours after the reshape are not neighbours before it"
        hint = (
            "pooling before the Reshape, or global pooling after it, and nothing between the two "
            "that looks at neighbours"
        )
        return Refusal(f"Reshape of {size} positions to {self.size}", why, hint)


@dataclass(frozen=True)
class ReshapeEach(Reshape):
    """A Reshape of the positions behind the first axes, which stay as they are.

    size: of the axes behind those
    lead: how many stay
    """

    lead: int
    keeps_axes: ClassVar[bool] = False

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The first axes' sizes, and the new ones behind them."""
        (size,) = inputs
        first, rest = size[: self.lead], size[self.lead :]
        if len(size) != self.rank or math.prod(rest) != math.prod(self.size):
            raise GraphError(f"{rest} behind {first} cannot become {self.size}")
        return (*first, *self.size)

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op with one more axis that stays."""
        rest = (*self.size, *(1,) * (rank - self.lead - len(self.size)))
        return (ReshapeEach(rest, rank + 1, self.lead + 1),)

    def loses_offset(self, offset: Offset) -> bool:
        """True for an offset along the axes that change."""
        return any(offset[self.lead :])

    def input_offset(self, offset: Ratios) -> Ratios:
        """The offset along the axes that stay, 0 along others."""
        if any(offset[self.lead :]):
            raise GraphError("an offset other than 0 does not survive a reshape")
        return (*offset[: self.lead], *(0,) * (self.rank - self.lead))


def reshape_of(before: Spatial, size: Spatial) -> Reshape:
    """The op from one shape to another; the axes that both begin with keep their offsets."""
    lead = 0
    while lead < min(len(before), len(size)) and before[lead] == size[lead]:
        lead += 1
    rank = len(before)
    return ReshapeEach(size[lead:], rank, lead) if lead else Reshape(size, rank)


@dataclass(frozen=True)
class Axes(Op):
    """Axes of one position taken away or added, for d as for g: k'[d][g] = k[d][g] on the others.

    order: for each axis of the output the axis of the input that it is, in their order; a number
           from `rank` on is a new axis of one position
    rank:  axes of the input; those that are not named have one position
    """

    order: tuple[int, ...]
    rank: int
    keeps_constants: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True
    keeps_axes: ClassVar[bool] = False

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The sizes of the axes that stay."""
        (size,) = inputs
        kept = [axis for axis in self.order if axis < self.rank]
        gone = (n for axis, n in enumerate(size) if axis not in kept)
        if len(size) != self.rank or sorted(set(kept)) != kept or any(n > 1 for n in gone):
            raise GraphError(f"axes {self.order} of a map of {size}")
        return tuple(size[axis] if axis < self.rank else 1 for axis in self.order)

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """A permutation of the axes, all of which are there; no op if their order stays."""
        left = [axis for axis in range(rank) if axis not in self.order or axis >= self.rank]
        order = [axis if axis < self.rank else left.pop(0) for axis in self.order]
        order += [axis for axis in left if axis not in order]
        moved = (0, *(axis + 1 for axis in order))
        return () if moved == tuple(range(rank + 1)) else (Permute(moved),)

    def input_offset(self, offset: Ratios) -> Ratios:
        """The offset along the axes that stay, 0 along the others."""
        at = dict(zip(self.order, offset, strict=True))
        return tuple(at.get(axis, 0) for axis in range(self.rank))


@dataclass(frozen=True)
class Shuffle(Op):
    """Channels become positions between those of the map (pixel shuffle): r for each, on each axis.

    The positions of one source are different channels, which are independent: k'[d][g] =
    k[d / r][g // r] where r divides d, else 0.

    factors: r, one integer for each axis
    """

    factors: tuple[int, ...]
    keeps_sign: ClassVar[bool] = True
    moves_channels: ClassVar[bool] = True

    @property
    def additive(self) -> bool:
        """True: each channel goes to positions of its own."""
        return True

    @property
    def keeps_zeros(self) -> bool:
        """True: a position beyond the border comes from one beyond the input's border."""
        return True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """n r on each axis."""
        return tuple(n * r for n, r in zip(inputs[0], self.factors, strict=True))

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op; the axis of calls stays as it is."""
        return (Shuffle(along(self.factors, 1, rank)),)

    def input_offset(self, offset: Ratios) -> Ratios:
        """The offset divided by r; where that is not whole, two channels meet."""
        return tuple(Fraction(d) / r for r, d in zip(self.factors, offset, strict=True))

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """True if the mean of the input is 0."""
        return inputs[0]

    def refuses_offsets(self, size: Spatial, kind: Kind) -> Refusal | None:
        """The refusal of features: the product of different channels' means is not 0."""
        if kind is not Kind.FEATURES:
            return None
        why = (
            f"{_POOLED}there is no rule for that between channels after an activation, whose means "
            "are not 0"
        )
        hint = "the activation after the rearrangement instead of before it"
        return Refusal(f"channels of features over {self.factors} positions", why, hint)


@dataclass(frozen=True)
class Spread(Op):
    """The units of a vector become the positions of a map (Reshape after Dense).

    Independent units at all positions: k'[0][g] = k, and 0 at every other offset.
    """

    size: Spatial
    keeps_sign: ClassVar[bool] = True

    @property
    def additive(self) -> bool:
        """True: each unit goes to one position."""
        return True

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The Shuffle that spreads each call's units over positions of its own."""
        return (Shuffle(along(self.size, 1, rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The new spatial shape."""
        if inputs[0]:
            raise GraphError(f"only a vector is spread over positions, not a map of {inputs[0]}")
        return self.size

    @property
    def packs_offsets(self) -> bool:
        """True: offset 0 has a turn of its own."""
        return True

    def input_offset(self, offset: Ratios) -> Ratios:
        """(): a vector has no offsets."""
        return ()

    def refuses_offsets(self, size: Spatial, kind: Kind) -> Refusal | None:
        """The refusal of features: the product of different units' means is not 0."""
        if kind is not Kind.FEATURES:
            return None
        why = (
            f"{_POOLED}there is no rule for that between units after an activation, whose means "
            "are not 0"
        )
        hint = "the activation after the Reshape instead of before it"
        return Refusal(f"Reshape of features to {self.size}", why, hint)
