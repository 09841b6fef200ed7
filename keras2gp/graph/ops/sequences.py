"""Ops of steps and of calls: recurrences, masks of steps, the calls of a layer side by side.

The calls stand along the first axis of maps (see graph/calls.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.linear_maps import SeparableMap, identity, trimmed
from keras2gp.graph.ops.base import Kind, Op, Ratios, Spatial
from keras2gp.graph.ops.channels import Activation, Weighted
from keras2gp.graph.ops.mixing import Mixing

__all__ = ["Calls", "Recurrent", "Stack", "Weigh"]


@dataclass(frozen=True)
class Recurrent(Weighted):
    """The steps of a recurrence before their activation: A_t = X_t + U phi(A_{t-1}), A_{-1} = 0.

    The input X is what the step's input and biases contribute; U are the op's own weights, the
    same at every step. A second input is data of one channel, which what a step leaves to the
    next is multiplied by: a mask.

    phi:  the activation of the state; "linear" for none
    axis: the spatial axis of the steps; along others there are sequences side by side
    """

    phi: Activation = field(kw_only=True)
    axis: int = field(default=0, kw_only=True)
    needs_gaussian: ClassVar[bool] = True
    pointwise: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """The op named by its activation."""
        return f"recurrence with {self.phi.name}"

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The input's shape."""
        size = inputs[0]
        if self.axis >= len(size) or len(inputs) > 2 or set(inputs) != {size}:
            raise GraphError(f"a recurrence over axis {self.axis} of {inputs} positions")
        return size

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same recurrence for each call; its axis has one more in front."""
        return (replace(self, axis=self.axis + 1),)

    @property
    def function(self) -> Op | None:
        """The activation of the state; None if it is linear."""
        return None if self.phi.name == "linear" else self.phi

    def with_function(self, function: Op) -> Op:
        """The same recurrence with another activation."""
        if not isinstance(function, Activation):
            raise GraphError(f"{function.title} as the activation of a recurrence")
        return replace(self, phi=function)


@dataclass(frozen=True)
class Weigh(Op):
    """Every position times a number of its own, which depends on the image: k' = w1 w2 k.

    The second input is data of one channel, the numbers w: a mask, or the weights of a mean. They
    are from 0 on, unless the first input is Gaussian.
    """

    pointwise: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The shape that both inputs share."""
        if len(inputs) != 2 or inputs[0] != inputs[1]:
            raise GraphError(f"positions and their weights of the shapes {inputs}")
        return inputs[0]

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """The first input's kind."""
        return inputs[0]

    def sources(self, index: int, inputs: Sequence[frozenset[int]]) -> frozenset[int]:
        """The first input's sources."""
        return inputs[0]

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True if the first input is never negative."""
        return inputs[0]

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """True if the mean of the first input is 0."""
        return inputs[0]

    def mean_inputs(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """The first input."""
        return inputs[:1]

    @property
    def keeps_zeros(self) -> bool:
        """True: zero times the number is zero."""
        return True


@dataclass(frozen=True)
class Stack(Op):
    """Independent A_i of mean 0 side by side, one call each: k'[0, d] = k_i[d], 0 between them."""

    keeps_sign: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The inputs' shape, with their number along the first axis."""
        if len(set(inputs)) != 1 or inputs[0][:1] != (1,):
            raise GraphError(f"maps of {inputs} as calls of one layer")
        return (len(inputs), *inputs[0][1:])

    @property
    def keeps_gaussian(self) -> bool:
        """True: each call is one of the inputs."""
        return True

    @property
    def packs_offsets(self) -> bool:
        """True: offset 0 of the calls has a turn of its own."""
        return True

    @property
    def keeps_zeros(self) -> bool:
        """True: each call is 0 where its input is."""
        return True

    def input_offset(self, offset: Ratios) -> Ratios:
        """The offset with 0 along the calls."""
        return (0, *offset[1:])


@dataclass(frozen=True)
class Calls(Mixing):
    """Weighted sums of the calls along the first axis, a layer's: A'_r = sum of rows[r][c] A_c.

    rows: one weight for each call, for each position of the output along that axis
    """

    rows: tuple[tuple[float, ...], ...]

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The input's shape, with the number of rows along the first axis."""
        (size,) = inputs
        if not size or {len(row) for row in self.rows} != {size[0]}:
            raise GraphError(f"sums of calls {self.rows} of a map of {size}")
        return (len(self.rows), *size[1:])

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True unless a weight or the input may be negative."""
        return inputs[0] and min(map(min, self.rows)) >= 0.0

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """One map, with the rows along the first axis and the identity along others."""
        rest = (identity(n) for n in size[1:])
        return (SeparableMap(1.0, (tuple(map(trimmed, self.rows)), *rest)),)
