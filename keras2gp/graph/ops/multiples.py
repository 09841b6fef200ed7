"""A tensor times a number that is known of each image, and what a function has beside its slope.

By Stein's lemma a function of a Gaussian v has a straight part E[phi'(v)] v, and the rest of it is
uncorrelated with every Gaussian tensor. The slope depends on the variance of v alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops.base import Kind, Op, Spatial
from keras2gp.graph.ops.channels import Activation

__all__ = ["STRAIGHT", "Multiple", "Rest"]

STRAIGHT = Activation("linear")


@dataclass(frozen=True)
class Rest(Activation):
    """phi(v) - E[phi'(v)] v: what is uncorrelated with every Gaussian tensor.

    of: phi
    """

    of: Activation = STRAIGHT

    @classmethod
    def beside_slope(cls, phi: Activation) -> Rest:
        """That of a function."""
        return cls(f"{phi.name} less its slope", (), phi)

    @property
    def function(self) -> Op | None:
        """phi."""
        return self.of

    def with_function(self, function: Op) -> Op:
        """The rest of another function."""
        if not isinstance(function, Activation):
            raise GraphError(f"{function.title} is no activation")
        return replace(self, of=function)

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """As phi: what is taken away has the mean 0."""
        return self.of.is_centered(inputs)


@dataclass(frozen=True)
class Multiple(Op):
    """A tensor F times sum of c_i E[phi_i'(v_i)] sqrt(Var v_i / Var A), for images and positions.

    inputs:       F, A, and the v_i, which are multiples of A
    coefficients: the c_i
    functions:    the phi_i; linear where the slope is 1

    Raises: GraphError from `spatial`, if the fields do not fit the inputs.
    """

    coefficients: tuple[float, ...]
    functions: tuple[Activation, ...]
    pointwise: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """That of every input."""
        count = len(self.coefficients)
        if len(set(inputs)) != 1 or not len(inputs) == 2 + count == 2 + len(self.functions):
            raise GraphError(f"a multiple by {count} numbers of shapes {inputs}")
        return inputs[0]

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """That of F: the number is not random at infinite width."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else inputs[0]

    def sources(self, index: int, inputs: Sequence[frozenset[int]]) -> frozenset[int]:
        """Those of F: the number is not random at infinite width."""
        return inputs[0]

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """As F, if the number is positive."""
        straight = all(phi == STRAIGHT for phi in self.functions)
        return straight and min(self.coefficients) >= 0.0 and inputs[0]

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """If F is."""
        return inputs[0]

    def mean_inputs(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """F."""
        return inputs[:1]

    @property
    def keeps_zeros(self) -> bool:
        """Both images are multiplied by a number."""
        return True
