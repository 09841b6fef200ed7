"""Products: of independent tensors, with a number known of each image, and sums of products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops.base import Kind, NotGaussian, Op, Refusal, Spatial
from keras2gp.graph.ops.channels import Activation

__all__ = ["STRAIGHT", "Multiple", "Polynomial", "Product", "Rest", "Total"]


@dataclass(frozen=True)
class Product(Op):
    """The product of independent A_i: k' = product of k_i, features even of Gaussian tensors.

    One of them may be data: the others are alike in all of its channels.
    """

    pointwise: ClassVar[bool] = True
    not_gaussian: ClassVar[NotGaussian] = NotGaussian(
        cause="each is a product of random branches, with no weights after it",
        hint="a convolution or Dense layer in between (a 1x1 convolution will do)",
        output="the output is a product of random branches, which is not Gaussian at infinite "
        "width",
    )

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The shape that all factors share."""
        if len(set(inputs)) != 1:
            raise GraphError(f"a product of different shapes {inputs}")
        return inputs[0]

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Kind.FEATURES: a product of Gaussian tensors is not Gaussian."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else Kind.FEATURES

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True unless a factor may be negative."""
        return all(inputs)

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """True if the mean of a factor is 0."""
        return any(inputs)

    @property
    def keeps_zeros(self) -> bool:
        """True: the product is 0 wherever one factor is."""
        return True


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
        """The shape that all factors share."""
        if len(set(inputs)) != 1:
            raise GraphError(f"products of different shapes {inputs}")
        for _, factors in self.terms:
            if not factors or len(set(factors)) < len(factors) or max(factors) >= len(inputs):
                raise GraphError(f"{factors} as the factors of a product of {len(inputs)}")
        return inputs[0]

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Kind.FEATURES: a product of Gaussian tensors is not Gaussian."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else Kind.FEATURES

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True unless a factor or a coefficient may be negative."""
        return all(inputs) and min(c for c, _ in self.terms) >= 0.0

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """True if each product has a factor of mean 0."""
        return all(any(inputs[i] for i in factors) for _, factors in self.terms)

    def needs_means(self, inputs: Sequence[Kind]) -> bool:
        """True for features and data: a factor of one of two products contributes its mean."""
        return not {Kind.FEATURES, Kind.DATA}.isdisjoint(inputs)

    @property
    def keeps_zeros(self) -> bool:
        """True: every product has factors, which are 0 there."""
        return True


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
        """Kind.GAUSSIAN: the op adds up many independent channels."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else Kind.GAUSSIAN

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """False: the sum is Gaussian."""
        return False

    def mean_inputs(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """No inputs: the mean of the sum is 0."""
        return ()

    @property
    def refuses_data(self) -> Refusal | None:
        """The refusal: the sum over channels of data has a mean."""
        why = "the input is not random: the sum over its channels is a mean, and not 0"
        hint = "a Dense layer on the input's branch"
        return Refusal("a sum over channels, some of which are the input's", why, hint)


STRAIGHT = Activation("linear")


@dataclass(frozen=True)
class Rest(Activation):
    """phi(v) - E[phi'(v)] v: what is uncorrelated with every Gaussian tensor.

    By Stein's lemma a function of a Gaussian v has a straight part E[phi'(v)] v, and the rest of it
    is uncorrelated with every Gaussian tensor. The slope depends on the variance of v alone.

    of: phi
    """

    of: Activation = STRAIGHT

    @classmethod
    def beside_slope(cls, phi: Activation) -> Rest:
        """The rest of a function beside its straight part."""
        return cls(f"{phi.name} less its slope", (), phi)

    @property
    def function(self) -> Op | None:
        """The function phi."""
        return self.of

    def with_function(self, function: Op) -> Op:
        """The rest of another function."""
        if not isinstance(function, Activation):
            raise GraphError(f"{function.title} is no activation")
        return replace(self, of=function)

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """True if the mean of phi(v) is 0: the part that is taken away has the mean 0."""
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
        """The shape that all inputs share."""
        count = len(self.coefficients)
        if len(set(inputs)) != 1 or not len(inputs) == 2 + count == 2 + len(self.functions):
            raise GraphError(f"a multiple by {count} numbers of shapes {inputs}")
        return inputs[0]

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """The kind of F: the number is not random at infinite width."""
        return Kind.UNKNOWN if Kind.UNKNOWN in inputs else inputs[0]

    def sources(self, index: int, inputs: Sequence[frozenset[int]]) -> frozenset[int]:
        """The sources of F: the number is not random at infinite width."""
        return inputs[0]

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True if F is never negative and the number is known to be from 0 on."""
        straight = all(phi == STRAIGHT for phi in self.functions)
        return straight and min(self.coefficients) >= 0.0 and inputs[0]

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """True if the mean of F is 0."""
        return inputs[0]

    def mean_inputs(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """The input F."""
        return inputs[:1]

    @property
    def keeps_zeros(self) -> bool:
        """True: the op multiplies by numbers of both images."""
        return True
