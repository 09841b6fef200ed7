"""Ops of normalisation: over the channels of a tensor, and random factors of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops.base import (
    FEW_CHANNELS,
    Kind,
    NotGaussian,
    Op,
    Refusal,
    Spatial,
    along,
)

__all__ = ["Gain", "Normalize", "NormalizeAdded"]


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
        """The same op with the absolute values of the factors.

        For a Gaussian A of mean 0, gamma A is |gamma| A in law; so phi(gamma A) is |gamma| phi(A)
        for a homogeneous phi.
        """
        return replace(self, mean=self.absolute)

    @property
    def never_turns(self) -> bool:
        """Whether no factor is negative."""
        return self.mean == self.absolute

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Kind.FEATURES: each channel has a factor of its own."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else Kind.FEATURES

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True unless a factor or the input may be negative."""
        return self.never_turns and inputs[0]

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """True if the mean of the input is 0, or that of the factor."""
        return all(inputs) or self.mean == 0.0

    @property
    def keeps_zeros(self) -> bool:
        """True: zero times the factor is zero."""
        return True

    @property
    def refuses_data(self) -> Refusal | None:
        """The refusal: each of the input's few channels has a random factor."""
        hint = "a convolution or Dense layer before it, or a gamma that starts at a constant"
        return Refusal("random gamma on the input", FEW_CHANNELS, hint)


@dataclass(frozen=True)
class Normalize(Op):
    """One group of channels over the root mean square (or deviation) of all: A / sqrt(v + epsilon).

    inputs:    all channel groups that are normalised together
    group:     which of them this node is about
    weights:   C_i / sum C of the groups
    axes:      for each spatial axis, whether the statistics are taken over it too
    centered:  whether the mean over channels (and axes) is taken away from A first
    deviation: whether v is the variance, not the mean square
    epsilon:   added to v; where both are 0 the result is 0

    Raises: GraphError from `spatial`, if the fields do not fit the inputs.
    """

    group: int
    weights: tuple[float, ...]
    axes: tuple[bool, ...]
    centered: bool
    deviation: bool
    epsilon: float

    @property
    def plain(self) -> Normalize:
        """The normalisation without a term beside it: the op itself."""
        return self

    def beside(self, skip: float, factor: float) -> NormalizeAdded:
        """skip times the group plus factor times its normalisation, as one op."""
        stated = {each.name: getattr(self, each.name) for each in fields(Normalize)}
        return NormalizeAdded(**stated, skip=skip, factor=factor)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The shape that all groups share."""
        if len(set(inputs)) != 1 or len(inputs) != len(self.weights):
            raise GraphError(f"a normalisation of {len(self.weights)} groups of shapes {inputs}")
        if not 0 <= self.group < len(inputs) or len(self.axes) != len(inputs[0]):
            raise GraphError(f"group {self.group} and axes {self.axes} of the shapes {inputs}")
        if self.centered and not self.deviation:
            raise GraphError("a normalisation that is centered divides by the deviation")
        return inputs[0]

    @property
    def packs_offsets(self) -> bool:
        """True: the op multiplies every position by numbers of both images."""
        return True

    @property
    def keeps_zeros(self) -> bool:
        """True: the op multiplies by numbers of both images."""
        return True

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op with statistics of its own for each call."""
        return (replace(self, axes=along(self.axes, False, rank)),)

    def on_axes(self, rank: int) -> Op | None:
        """The same op if its statistics are taken over all axes or over none; else None."""
        alike = len(set(self.axes)) == 1
        return replace(self, axes=self.axes[:1] * rank) if alike and rank else None

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """The group's kind: the divisor is not random at infinite width."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else inputs[self.group]

    def sources(self, index: int, inputs: Sequence[frozenset[int]]) -> frozenset[int]:
        """The group's sources: the divisor is not random at infinite width."""
        return inputs[self.group]

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True if the group is never negative and no mean is taken away."""
        return not self.centered and inputs[self.group]

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """True if all groups have the mean 0."""
        return all(inputs)

    def needs_means(self, inputs: Sequence[Kind]) -> bool:
        """True for features and data where v is the variance: their mean is taken away."""
        return self.deviation and not {Kind.FEATURES, Kind.DATA}.isdisjoint(inputs)

    def mean_inputs(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """The group."""
        return (inputs[self.group],)


@dataclass(frozen=True)
class NormalizeAdded(Normalize):
    """A group beside its own normalisation: skip A + factor (A - mean) / sqrt(v + epsilon).

    It is A times a number that depends on the image, less a mean: Gaussian where A is.
    """

    skip: float
    factor: float

    @property
    def plain(self) -> Normalize:
        """The normalisation without the term beside it."""
        return Normalize(**{each.name: getattr(self, each.name) for each in fields(Normalize)})

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True if both coefficients are from 0 on and neither term may be negative."""
        return min(self.skip, self.factor) >= 0.0 and super().never_negative(inputs)
