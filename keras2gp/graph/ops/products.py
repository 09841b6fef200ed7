"""Products of independent tensors: gates, channel attention, towers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops.base import Kind, NotGaussian, Op, Refusal, Spatial

__all__ = ["Product"]


@dataclass(frozen=True)
class Product(Op):
    """The product of independent A_i: k' = product of k_i, features even of Gaussian tensors."""

    pointwise: ClassVar[bool] = True
    not_gaussian: ClassVar[NotGaussian] = NotGaussian(
        cause="each is a product of random branches, with no weights after it",
        hint="a convolution or Dense layer in between (a 1x1 convolution will do)",
        output="the output is a product of random branches, which is not Gaussian at infinite "
        "width",
    )

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """That of every factor."""
        if len(set(inputs)) != 1:
            raise GraphError(f"a product of different shapes {inputs}")
        return inputs[0]

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Features."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else Kind.FEATURES

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """Unless a factor may be negative."""
        return all(inputs)

    @property
    def keeps_zeros(self) -> bool:
        """It is 0 wherever one factor is."""
        return True

    @property
    def refuses_data(self) -> Refusal | None:
        """Data times something random."""
        why = (
            "the input has a fixed number of channels, each with a random factor of its own: what "
            "follows sums over few of them, and stays random however wide the network grows"
        )
        hint = "a convolution or Dense layer on the input's branch (a 1x1 convolution will do)"
        return Refusal("product of the input and a random branch", why, hint)
