"""Ops of sequences, whose positions are steps: recurrences."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops.base import Op, Spatial
from keras2gp.graph.ops.channels import Activation, Weighted

__all__ = ["Recurrent"]


@dataclass(frozen=True)
class Recurrent(Weighted):
    """The steps of a recurrence before their activation: A_t = X_t + U phi(A_{t-1}), A_{-1} = 0.

    The input X is what the step's input and biases contribute; U are the op's own weights, the
    same at every step.

    phi: the activation of the state; "linear" for none
    """

    phi: Activation = field(kw_only=True)
    needs_gaussian: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """The op by its activation."""
        return f"recurrence with {self.phi.name}"

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """That of its input, whose one spatial axis counts the steps."""
        (size,) = inputs
        if len(size) != 1:
            raise GraphError(f"a recurrence over the steps of {size} positions")
        return size

    @property
    def function(self) -> Op | None:
        """The activation of its state."""
        return None if self.phi.name == "linear" else self.phi

    def with_function(self, function: Op) -> Op:
        """The same recurrence with another activation."""
        if not isinstance(function, Activation):
            raise GraphError(f"{function.title} as the activation of a recurrence")
        return replace(self, phi=function)
