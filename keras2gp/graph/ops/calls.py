"""Ops of the first axis of maps, along which the calls of a layer stand (see graph/calls.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.linear_maps import SeparableMap, identity, trimmed
from keras2gp.graph.ops.base import Op, Ratios, Spatial
from keras2gp.graph.ops.mixing import Mixing

__all__ = ["Calls", "Stack"]


@dataclass(frozen=True)
class Stack(Op):
    """Independent A_i of mean 0 side by side, one call each: k'[0, d] = k_i[d], 0 between them."""

    keeps_sign: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """As many calls as inputs."""
        if len(set(inputs)) != 1 or inputs[0][:1] != (1,):
            raise GraphError(f"maps of {inputs} as calls of one layer")
        return (len(inputs), *inputs[0][1:])

    @property
    def keeps_gaussian(self) -> bool:
        """Each call stays what it is."""
        return True

    @property
    def packs_offsets(self) -> bool:
        """Offset 0 of the calls is alone in its turn."""
        return True

    @property
    def keeps_zeros(self) -> bool:
        """Each is 0 where its input is."""
        return True

    def input_offset(self, offset: Ratios) -> Ratios:
        """0 along the calls."""
        return (0, *offset[1:])


@dataclass(frozen=True)
class Calls(Mixing):
    """Weighted sums of the calls along the first axis, a layer's: A'_r = sum of rows[r][c] A_c.

    rows: one weight for each call, for each position of the output along that axis
    """

    rows: tuple[tuple[float, ...], ...]

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """As many positions as rows along the first axis."""
        (size,) = inputs
        if not size or {len(row) for row in self.rows} != {size[0]}:
            raise GraphError(f"sums of calls {self.rows} of a map of {size}")
        return (len(self.rows), *size[1:])

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """Unless a weight is negative."""
        return inputs[0] and min(map(min, self.rows)) >= 0.0

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """The rows along the first axis."""
        rest = (identity(n) for n in size[1:])
        return (SeparableMap(1.0, (tuple(map(trimmed, self.rows)), *rest)),)
