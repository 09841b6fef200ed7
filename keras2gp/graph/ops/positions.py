"""Ops that read single positions, or windows of them, and map each offset to one offset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.linear_maps import SeparableMap, identity, selection
from keras2gp.graph.ops.base import Op, Ratios, Reading, Spatial, along
from keras2gp.graph.ops.mixing import AveragePool

__all__ = [
    "Crop",
    "Dilate",
    "Flip",
    "Pad",
    "Patches",
    "Positions",
    "Repeat",
]


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
        """True: a window stays on its side of the seam."""
        return True

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op with windows of one call each."""
        window, strides, dilation = (
            along(values, 1, rank) for values in (self.window, self.strides, self.dilation)
        )
        return (Patches(window, strides, dilation, along(self.pads, (0, 0), rank)),)

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True if the input is, for one tap; False for a larger window, of random weights."""
        return self.taps == 1 and inputs[0]

    @property
    def reads_outside(self) -> bool:
        """True unless the op takes single positions of the image itself."""
        return self.taps > 1 or any(map(any, self.pads))

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The taps along each axis."""
        axes = zip(self.window, self.strides, self.dilation, self.pads, strict=True)
        return tuple(Reading(k, s, r, before) for k, s, r, (before, _) in axes)

    @property
    def keeps_zeros(self) -> bool:
        """True for single positions: a larger window beyond the border reads positions inside."""
        return not self.reads_outside

    def input_offset(self, offset: Ratios) -> Ratios:
        """The stride times the offset: both windows move together."""
        return tuple(s * d for s, d in zip(self.strides, offset, strict=True))

    @property
    def separable(self) -> Op | None:
        """The average over one position, if the op takes single positions of the image itself."""
        if self.reads_outside:
            return None
        return AveragePool(self.window, self.strides, self.pads)


@dataclass(frozen=True)
class Positions(Op):
    """All positions become channels (Flatten before Dense): k' = mean over g of k[0][g]."""

    rank: int
    linear: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """(): no spatial axis is left."""
        return ()

    def on_axes(self, rank: int) -> Op:
        """The same op on all of the axes."""
        return Positions(rank)

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The mean over a window of all positions of one call."""
        ones = (1,) * (rank + 1)
        return (Patches(along(size, 1, rank), ones, ones, ((0, 0),) * (rank + 1)),)

    def input_offset(self, offset: Ratios) -> Ratios:
        """0: weights of different positions are independent."""
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
        """The op itself: it is a separable map."""
        return self

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """One map, a selection along each axis."""
        bands = (selection(self.positions(axis, n)) for axis, n in enumerate(size))
        return (SeparableMap(1.0, tuple(bands)),)


@dataclass(frozen=True)
class Pad(_Selection):
    """Zeros around the map, (before, after) on each axis."""

    pads: tuple[tuple[int, int], ...]

    @property
    def reads_outside(self) -> bool:
        """True: the zeros that the op adds are beyond its input's border."""
        return True

    @property
    def readings(self) -> tuple[Reading, ...]:
        """Single positions along each axis."""
        return tuple(Reading(1, 1, 1, before) for before, _ in self.pads)

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op; the axis of calls stays as it is."""
        return (replace(self, pads=along(self.pads, (0, 0), rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """n + before + after on each axis."""
        return tuple(n + a + b for n, (a, b) in zip(inputs[0], self.pads, strict=True))

    @property
    def packs_offsets(self) -> bool:
        """True: it reads like a window of one tap."""
        return True

    def positions(self, axis: int, size: int) -> Sequence[int | None]:
        """The positions with None before and after them, for the zeros."""
        before, after = self.pads[axis]
        return [g if 0 <= g < size else None for g in range(-before, size + after)]


@dataclass(frozen=True)
class Crop(_Selection):
    """Positions removed, (before, after) on each axis."""

    crops: tuple[tuple[int, int], ...]
    keeps_constants: ClassVar[bool] = True

    @property
    def keeps_zeros(self) -> bool:
        """False: the positions that the op removes are beyond the new border."""
        return False

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op; the axis of calls stays as it is."""
        return (replace(self, crops=along(self.crops, (0, 0), rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """n - before - after on each axis."""
        out = tuple(n - a - b for n, (a, b) in zip(inputs[0], self.crops, strict=True))
        if min(out, default=1) < 1:
            raise GraphError(f"cropping {self.crops} leaves nothing of {inputs[0]}")
        return out

    @property
    def packs_offsets(self) -> bool:
        """True: the positions that stay keep their sides."""
        return True

    def positions(self, axis: int, size: int) -> Sequence[int | None]:
        """The positions that stay."""
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
        """The input's shape."""
        if len(self.axes) != len(inputs[0]):
            raise GraphError(f"axes {self.axes} of {inputs[0]} positions")
        return inputs[0]

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op; the axis of calls keeps its order."""
        return (Flip(along(self.axes, False, rank)),)

    def input_offset(self, offset: Ratios) -> Ratios:
        """The opposite offset along the axes that are reversed."""
        return tuple(-d if flip else d for d, flip in zip(offset, self.axes, strict=True))

    def positions(self, axis: int, size: int) -> Sequence[int | None]:
        """The positions from the last to the first, or in their order along other axes."""
        return range(size - 1, -1, -1) if self.axes[axis] else range(size)


@dataclass(frozen=True)
class Dilate(_Selection):
    """Zeros between positions (transposed convolution): k'[d][g] = k[d / s][g / s], else 0.

    strides: distance of neighbouring positions in the output, one integer for each axis.
    """

    strides: tuple[int, ...]

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op; the axis of calls stays as it is."""
        return (replace(self, strides=along(self.strides, 1, rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """(n - 1) s + 1 on each axis: no zeros behind the last position."""
        return tuple((n - 1) * s + 1 for n, s in zip(inputs[0], self.strides, strict=True))

    def input_offset(self, offset: Ratios) -> Ratios:
        """The offset divided by the stride; where that is not whole, one of the two is a zero."""
        return tuple(Fraction(d) / s for s, d in zip(self.strides, offset, strict=True))

    def positions(self, axis: int, size: int) -> Sequence[int | None]:
        """Position g / s where that is whole, else None."""
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
        """The same op; the axis of calls stays as it is."""
        return (replace(self, factors=along(self.factors, 1, rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The factor along an axis of one position, else the axis's size."""
        (size,) = inputs
        if any(f > 1 and n != 1 for n, f in zip(size, self.factors, strict=True)):
            raise GraphError(f"{self.factors} copies of {size} positions, which are more than one")
        return tuple(n * f for n, f in zip(size, self.factors, strict=True))

    @property
    def packs_offsets(self) -> bool:
        """True: every offset reads the one position."""
        return True

    @property
    def keeps_zeros(self) -> bool:
        """False: offsets beyond the border read the one position too."""
        return False

    def input_offset(self, offset: Ratios) -> Ratios:
        """0 along an axis of one position, else the offset."""
        return tuple(0 if f > 1 else d for f, d in zip(self.factors, offset, strict=True))

    @property
    def separable(self) -> Op:
        """The op itself: it is a separable map."""
        return self

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """One map: position 0 in every row of a repeated axis, the identity along others."""
        bands = (
            selection([0] * f) if f > 1 else identity(n)
            for n, f in zip(size, self.factors, strict=True)
        )
        return (SeparableMap(1.0, tuple(bands)),)
