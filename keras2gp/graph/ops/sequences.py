"""Ops of sequences, whose positions are steps: recurrences, and masks of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops.base import Kind, Op, Spatial
from keras2gp.graph.ops.channels import Activation, Weighted

__all__ = ["Recurrent", "Weigh"]


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
        """The op by its activation."""
        return f"recurrence with {self.phi.name}"

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """That of its input."""
        size = inputs[0]
        if self.axis >= len(size) or len(inputs) > 2 or set(inputs) != {size}:
            raise GraphError(f"a recurrence over axis {self.axis} of {inputs} positions")
        return size

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """A recurrence for each call."""
        return (replace(self, axis=self.axis + 1),)

    @property
    def function(self) -> Op | None:
        """The activation of its state."""
        return None if self.phi.name == "linear" else self.phi

    def with_function(self, function: Op) -> Op:
        """The same recurrence with another activation."""
        if not isinstance(function, Activation):
            raise GraphError(f"{function.title} as the activation of a recurrence")
        return replace(self, phi=function)


@dataclass(frozen=True)
class Weigh(Op):
    """Every position times a number of its own from 0, which depends on the image: k' = w1 w2 k.

    The second input is data of one channel, the numbers w: a mask, or the weights of a mean.
    """

    pointwise: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """That of both."""
        if len(inputs) != 2 or inputs[0] != inputs[1]:
            raise GraphError(f"positions and their weights of the shapes {inputs}")
        return inputs[0]

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """That of the first."""
        return inputs[0]

    def sources(self, index: int, inputs: Sequence[frozenset[int]]) -> frozenset[int]:
        """Those of the first."""
        return inputs[0]

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """As the first."""
        return inputs[0]

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """As the first."""
        return inputs[0]

    def mean_inputs(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """The first."""
        return inputs[:1]

    @property
    def keeps_zeros(self) -> bool:
        """There are no weights beyond the border."""
        return True
