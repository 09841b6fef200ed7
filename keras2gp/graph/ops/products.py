"""Products of independent tensors, their sums, and sums over channels: gates, towers, highways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops.base import FEW_CHANNELS, Kind, NotGaussian, Op, Refusal, Spatial

__all__ = ["Polynomial", "Product", "Total"]


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

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """If a factor is."""
        return any(inputs)

    @property
    def keeps_zeros(self) -> bool:
        """It is 0 wherever one factor is."""
        return True

    @property
    def refuses_data(self) -> Refusal | None:
        """Data times something random."""
        hint = "a convolution or Dense layer on the input's branch (a 1x1 convolution will do)"
        return Refusal("product of the input and a random branch", FEW_CHANNELS, hint)


@dataclass(frozen=True)
class Polynomial(Op):
    """A sum of products of independent A_i, each at most once in a product: t h + x - t x.

    terms: coefficient and factors of each product, the factors by their place among the inputs

    Raises: GraphError from `spatial` for a term without factors, or with one twice.
    """

    terms: tuple[tuple[float, tuple[int, ...]], ...]
    pointwise: ClassVar[bool] = True
    not_gaussian: ClassVar[NotGaussian] = NotGaussian(
        cause="each is a sum of products of random branches, with no weights after it",
        hint="a convolution or Dense layer in between (a 1x1 convolution will do)",
        output="the output is a sum of products of random branches, which is not Gaussian at "
        "infinite width",
    )

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """That of every factor."""
        if len(set(inputs)) != 1:
            raise GraphError(f"products of different shapes {inputs}")
        for _, factors in self.terms:
            if not factors or len(set(factors)) < len(factors) or max(factors) >= len(inputs):
                raise GraphError(f"{factors} as the factors of a product of {len(inputs)}")
        return inputs[0]

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Features."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else Kind.FEATURES

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """Unless a factor or a coefficient may be negative."""
        return all(inputs) and min(c for c, _ in self.terms) >= 0.0

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """If a factor of each product is."""
        return all(any(inputs[i] for i in factors) for _, factors in self.terms)

    def needs_means(self, inputs: Sequence[Kind]) -> bool:
        """A factor that stands in one of two products contributes its mean."""
        return Kind.FEATURES in inputs

    @property
    def keeps_zeros(self) -> bool:
        """No product is without factors."""
        return True

    @property
    def refuses_data(self) -> Refusal | None:
        """As a product."""
        return Product().refuses_data


@dataclass(frozen=True)
class Total(Op):
    """The sum over the channels of a tensor of mean 0, one number at each position: k' = count k.

    It is Gaussian: channels are independent, and many.

    count: the number of channels of the model
    """

    count: float
    linear: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    single: ClassVar[bool] = True
    needs_centered: ClassVar[bool] = True

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Gaussian."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else Kind.GAUSSIAN

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """It is Gaussian."""
        return False

    def mean_inputs(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """None: its mean is 0."""
        return ()

    @property
    def refuses_data(self) -> Refusal | None:
        """Data among random channels."""
        why = "the input is not random: the sum over its channels is a mean, and not 0"
        hint = "a Dense layer on the input's branch"
        return Refusal("a sum over channels, some of which are the input's", why, hint)
