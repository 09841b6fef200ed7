"""Ops that move positions, or average over them, and map each offset to one offset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.linear_maps import SeparableMap, identity, selection
from keras2gp.graph.ops.base import Kind, Op, Ratios, Reading, Refusal, Spatial, along
from keras2gp.graph.ops.mixing import AveragePool

__all__ = [
    "Axes",
    "Crop",
    "Dilate",
    "Flip",
    "Pad",
    "Patches",
    "Permute",
    "Positions",
    "Repeat",
    "Reshape",
    "Shuffle",
    "Spread",
]

_POOLED = "pooling (or its like) after it needs the covariance between different positions, and "


@dataclass(frozen=True)
class Patches(Op):
    """The window of a convolution: k'[g] = mean over the taps of k, zero outside the image.

    window, strides, dilation: one integer for each spatial axis.
    pads: zeros (before, after) on each axis.
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    linear: ClassVar[bool] = True

    @property
    def taps(self) -> int:
        """Number of elements of the window."""
        return math.prod(self.window)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """(n + pads - reach) // stride + 1 on each axis."""
        (size,) = inputs
        out = []
        for n, k, s, r, (before, after) in zip(
            size, self.window, self.strides, self.dilation, self.pads, strict=True
        ):
            reach = (k - 1) * r + 1
            if n + before + after < reach:
                raise GraphError(f"a window of {reach} does not fit into {n + before + after}")
            out.append((n + before + after - reach) // s + 1)
        return tuple(out)

    @property
    def packs_offsets(self) -> bool:
        """A window stays on its side of the seam."""
        return True

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """A window of one call."""
        window, strides, dilation = (
            along(values, 1, rank) for values in (self.window, self.strides, self.dilation)
        )
        return (Patches(window, strides, dilation, along(self.pads, (0, 0), rank)),)

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """A window of one tap moves positions; a larger one stands for random weights."""
        return self.taps == 1 and inputs[0]

    @property
    def reads_outside(self) -> bool:
        """Unless it takes single positions of the image itself."""
        return self.taps > 1 or any(map(any, self.pads))

    @property
    def readings(self) -> tuple[Reading, ...]:
        """Its taps."""
        axes = zip(self.window, self.strides, self.dilation, self.pads, strict=True)
        return tuple(Reading(k, s, r, before) for k, s, r, (before, _) in axes)

    @property
    def keeps_zeros(self) -> bool:
        """Only of single positions: a window beyond the border still reads positions inside."""
        return not self.reads_outside

    def input_offset(self, offset: Ratios) -> Ratios:
        """Stride times the offset: both windows move together."""
        return tuple(s * d for s, d in zip(self.strides, offset, strict=True))

    @property
    def separable(self) -> Op | None:
        """The average over one position, if it takes single positions of the image itself."""
        if self.reads_outside:
            return None
        return AveragePool(self.window, self.strides, self.pads)


@dataclass(frozen=True)
class Positions(Op):
    """All positions become channels (Flatten before Dense): k' = mean over g of k[0][g]."""

    rank: int
    linear: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """No spatial axis is left."""
        return ()

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The mean over a window of all positions of one call."""
        ones = (1,) * (rank + 1)
        return (Patches(along(size, 1, rank), ones, ones, ((0, 0),) * (rank + 1)),)

    def input_offset(self, offset: Ratios) -> Ratios:
        """Equal positions only: weights of different positions are independent."""
        return (0,) * self.rank


@dataclass(frozen=True)
class _Selection(Op):
    """A linear map whose every output position is one position of the input, or 0."""

    linear: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def positions(self, axis: int, size: int) -> Sequence[int | None]:
        """The input position of each output position along one axis; None: 0."""
        raise NotImplementedError

    @property
    def separable(self) -> Op:
        """Itself."""
        return self

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """One selection along each axis."""
        bands = (selection(self.positions(axis, n)) for axis, n in enumerate(size))
        return (SeparableMap(1.0, tuple(bands)),)


@dataclass(frozen=True)
class Pad(_Selection):
    """Zeros around the map, (before, after) on each axis."""

    pads: tuple[tuple[int, int], ...]

    @property
    def reads_outside(self) -> bool:
        """The zeros that it adds are beyond its input's border."""
        return True

    @property
    def readings(self) -> tuple[Reading, ...]:
        """Single positions."""
        return tuple(Reading(1, 1, 1, before) for before, _ in self.pads)

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """Nothing along the calls."""
        return (replace(self, pads=along(self.pads, (0, 0), rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Grown by the zeros."""
        return tuple(n + a + b for n, (a, b) in zip(inputs[0], self.pads, strict=True))

    @property
    def packs_offsets(self) -> bool:
        """As a window of one tap."""
        return True

    def positions(self, axis: int, size: int) -> Sequence[int | None]:
        """0 outside of the input."""
        before, after = self.pads[axis]
        return [g if 0 <= g < size else None for g in range(-before, size + after)]


@dataclass(frozen=True)
class Crop(_Selection):
    """Positions removed, (before, after) on each axis."""

    crops: tuple[tuple[int, int], ...]
    keeps_constants: ClassVar[bool] = True

    @property
    def keeps_zeros(self) -> bool:
        """The positions that it removes are beyond the new border."""
        return False

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """Nothing along the calls."""
        return (replace(self, crops=along(self.crops, (0, 0), rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Shrunk by the positions removed."""
        out = tuple(n - a - b for n, (a, b) in zip(inputs[0], self.crops, strict=True))
        if min(out, default=1) < 1:
            raise GraphError(f"cropping {self.crops} leaves nothing of {inputs[0]}")
        return out

    @property
    def packs_offsets(self) -> bool:
        """The positions that stay keep their sides."""
        return True

    def positions(self, axis: int, size: int) -> Sequence[int | None]:
        """Those that stay."""
        before, after = self.crops[axis]
        return range(before, size - after)


@dataclass(frozen=True)
class Flip(_Selection):
    """The positions of some axes in the opposite order: k'[d][g] = k[-d][n - 1 - g] along them.

    axes: for each spatial axis, whether it is reversed
    """

    axes: tuple[bool, ...]
    keeps_constants: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """As before."""
        if len(self.axes) != len(inputs[0]):
            raise GraphError(f"axes {self.axes} of {inputs[0]} positions")
        return inputs[0]

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The calls in their order."""
        return (Flip(along(self.axes, False, rank)),)

    def input_offset(self, offset: Ratios) -> Ratios:
        """The opposite offset along the axes that are reversed."""
        return tuple(-d if flip else d for d, flip in zip(offset, self.axes, strict=True))

    def positions(self, axis: int, size: int) -> Sequence[int | None]:
        """From the last to the first, or as before."""
        return range(size - 1, -1, -1) if self.axes[axis] else range(size)


@dataclass(frozen=True)
class Permute(Op):
    """The spatial axes in another order: axis i is axis order[i] of the input, for d as for g."""

    order: tuple[int, ...]
    keeps_constants: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True
    keeps_axes: ClassVar[bool] = False

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The sizes in that order."""
        if sorted(self.order) != list(range(len(inputs[0]))):
            raise GraphError(f"{self.order} is no order of the axes of {inputs[0]}")
        return tuple(inputs[0][axis] for axis in self.order)

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The calls remain the first axis."""
        moved = tuple(axis + 1 for axis in self.order)
        return (Permute((0, *moved, *range(len(moved) + 1, rank + 1))),)

    def input_offset(self, offset: Ratios) -> Ratios:
        """The offset along the axes as they were."""
        return tuple(offset[self.order.index(axis)] for axis in range(len(self.order)))


@dataclass(frozen=True)
class Dilate(_Selection):
    """Zeros between positions (transposed convolution): k'[d][g] = k[d / s][g / s], else 0.

    strides: distance of neighbouring positions in the output, one integer for each axis.
    """

    strides: tuple[int, ...]

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """Nothing along the calls."""
        return (replace(self, strides=along(self.strides, 1, rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """(n - 1) s + 1 on each axis: no zeros behind the last position."""
        return tuple((n - 1) * s + 1 for n, s in zip(inputs[0], self.strides, strict=True))

    def input_offset(self, offset: Ratios) -> Ratios:
        """The offset divided by the stride; where that is not whole, one of the two is a zero."""
        return tuple(Fraction(d) / s for s, d in zip(self.strides, offset, strict=True))

    def positions(self, axis: int, size: int) -> Sequence[int | None]:
        """g / s, where that is whole."""
        stride = self.strides[axis]
        return [None if g % stride else g // stride for g in range((size - 1) * stride + 1)]


@dataclass(frozen=True)
class Repeat(Op):
    """The one position along some axes repeated (a gate that is broadcast): k'[d][g] = k[0].

    factors: how often, one integer for each axis; 1 keeps an axis of any size
    """

    factors: tuple[int, ...]
    keeps_constants: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """Nothing along the calls."""
        return (replace(self, factors=along(self.factors, 1, rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The factor along an axis of one position, else the size."""
        (size,) = inputs
        if any(f > 1 and n != 1 for n, f in zip(size, self.factors, strict=True)):
            raise GraphError(f"{self.factors} copies of {size} positions, which are more than one")
        return tuple(n * f for n, f in zip(size, self.factors, strict=True))

    @property
    def packs_offsets(self) -> bool:
        """The one position is that of every offset."""
        return True

    @property
    def keeps_zeros(self) -> bool:
        """The one position is read at every offset, also at those beyond the border."""
        return False

    def input_offset(self, offset: Ratios) -> Ratios:
        """0 along an axis of one position."""
        return tuple(0 if f > 1 else d for f, d in zip(self.factors, offset, strict=True))

    @property
    def separable(self) -> Op:
        """Itself."""
        return self

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """Position 0 in every row, or the identity."""
        bands = (
            selection([0] * f) if f > 1 else identity(n)
            for n, f in zip(size, self.factors, strict=True)
        )
        return (SeparableMap(1.0, tuple(bands)),)


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

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...] | None:
        """Nothing, if it takes away or adds axes of one position at the end."""
        same = along(size, 1, rank) == along(self.size, 1, rank)
        return () if same else None

    def input_offset(self, offset: Ratios) -> Ratios:
        """Offset 0 only: another one is not the same offset at every position."""
        if any(offset):
            raise GraphError("an offset other than 0 does not survive a reshape")
        return (0,) * self.rank

    def refuses_offsets(self, size: Spatial, kind: Kind) -> Refusal | None:
        """Neighbours after the reshape are not neighbours before it."""
        why = f"{_POOLED}neighbours after the reshape are not neighbours before it"
        hint = "pooling before the Reshape, or global pooling, straight after it"
        return Refusal(f"Reshape of {size} positions to {self.size}", why, hint)


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
        """Another order of the axes, all of which are there, some with one position."""
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
        """Each channel goes to its positions."""
        return True

    @property
    def keeps_zeros(self) -> bool:
        """A position beyond the border is one of a source beyond it."""
        return True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """n r on each axis."""
        return tuple(n * r for n, r in zip(inputs[0], self.factors, strict=True))

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """Nothing along the calls."""
        return (Shuffle(along(self.factors, 1, rank)),)

    def input_offset(self, offset: Ratios) -> Ratios:
        """The offset divided by r; where that is not whole, two channels meet."""
        return tuple(Fraction(d) / r for r, d in zip(self.factors, offset, strict=True))

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """As its input."""
        return inputs[0]

    def refuses_offsets(self, size: Spatial, kind: Kind) -> Refusal | None:
        """Different channels of features have means, whose product is not 0."""
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
        """Each unit goes to one position."""
        return True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The new spatial shape."""
        if inputs[0]:
            raise GraphError(f"only a vector is spread over positions, not a map of {inputs[0]}")
        return self.size

    @property
    def packs_offsets(self) -> bool:
        """Offset 0 is alone in its turn."""
        return True

    def input_offset(self, offset: Ratios) -> Ratios:
        """A vector has no offsets."""
        return ()

    def refuses_offsets(self, size: Spatial, kind: Kind) -> Refusal | None:
        """Different units of features have means, whose product is not 0."""
        if kind is not Kind.FEATURES:
            return None
        why = (
            f"{_POOLED}there is no rule for that between units after an activation, whose means "
            "are not 0"
        )
        hint = "the activation after the Reshape instead of before it"
        return Refusal(f"Reshape of features to {self.size}", why, hint)
