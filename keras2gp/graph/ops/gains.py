"""Random factors of channels: the gamma of a normalisation that does not start at a constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops.base import FEW_CHANNELS, Kind, NotGaussian, Op, Refusal

__all__ = ["Gain"]


@dataclass(frozen=True)
class Gain(Op):
    """A random factor for each channel, gamma A: k' = E[gamma^2] k, features even of Gaussian A.

    factors:  their name: the layer that draws them, and for which of its channels
    square:   E[gamma^2]
    mean:     E[gamma]
    absolute: E[|gamma|]
    variance: Var(gamma), which the tangent kernel counts

    Raises: GraphError if there is no gamma of these moments.
    """

    factors: str
    square: float
    mean: float
    absolute: float
    variance: float
    pointwise: ClassVar[bool] = True
    not_gaussian: ClassVar[NotGaussian] = NotGaussian(
        cause="each channel has a random factor of its own, gamma",
        hint="a homogeneous activation straight after it (relu, leaky_relu, abs), weights in "
        "between, or a gamma that starts at a constant",
        output="the output has a random factor for each channel, gamma: it is not Gaussian",
    )

    def __post_init__(self) -> None:
        """Check the moments, which a file may state."""
        fits = abs(self.mean) <= self.absolute and self.absolute**2 <= self.square * (1 + 1e-9)
        if not fits or not 0.0 <= self.variance <= self.square:
            raise GraphError(f"no random factor has the moments {self}")

    @property
    def positive(self) -> Gain:
        """The absolute value of the factors.

        For a Gaussian A of mean 0, gamma A is |gamma| A in law; so phi(gamma A) is |gamma| phi(A)
        for a homogeneous phi.
        """
        return replace(self, mean=self.absolute)

    @property
    def never_turns(self) -> bool:
        """Whether no factor is negative."""
        return self.mean == self.absolute

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Features."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else Kind.FEATURES

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """Unless a factor may be negative."""
        return self.never_turns and inputs[0]

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """If its input or the factor is."""
        return all(inputs) or self.mean == 0.0

    @property
    def keeps_zeros(self) -> bool:
        """It multiplies."""
        return True

    @property
    def refuses_data(self) -> Refusal | None:
        """Data times something random."""
        hint = "a convolution or Dense layer before it, or a gamma that starts at a constant"
        return Refusal("random gamma on the input", FEW_CHANNELS, hint)
