"""Ops that act on channels, at every position alike: data, weights, activations, sums, norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.linear_maps import SeparableMap, identity
from keras2gp.graph.ops.base import WEIGHTS_FIRST, Kind, NotGaussian, Op, Refusal, Spatial

__all__ = [
    "Activation",
    "Affine",
    "Depthwise",
    "Input",
    "Mixture",
    "Opaque",
    "Scale",
    "Sum",
    "Tokens",
    "Weighted",
]

_NEVER_NEGATIVE = frozenset(
    {
        "abs", "absolute", "exp", "exponential", "hard_sigmoid", "heaviside", "relu", "relu6",
        "sigmoid", "softmax", "softplus", "sparse_plus", "sparse_sigmoid", "square", "squareplus",
    }
)  # fmt: skip
"""Functions with phi(u) >= 0 for every u."""
OVER_AXES = frozenset({"log_softmax", "softmax", "sparsemax"})
"""Functions of all numbers along an axis: of channels, or of `positions` if they say so."""
_IDENTITY_FROM_ZERO = frozenset({"abs", "absolute", "celu", "elu", "leaky_relu", "relu"})
"""Functions with phi(u) = u for every u from 0."""
_HOMOGENEOUS = frozenset({"abs", "absolute", "leaky_relu", "linear", "relu"})
"""Functions with phi(t u) = t phi(u) for every t from 0."""
_ODD = frozenset(
    {
        "arctan", "erf", "hard_shrink", "hard_tanh", "sin", "sinh", "soft_shrink", "softsign",
        "tanh", "tanh_shrink",
    }
)  # fmt: skip
"""Functions with phi(-u) = -phi(u)."""
_EVEN = frozenset({"abs", "absolute", "cos", "square"})
"""Functions with phi(-u) = phi(u)."""


@dataclass(frozen=True)
class Input(Op):
    """A data tensor: images after every deterministic layer. `index` counts them."""

    index: int
    size: Spatial
    channels: int

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Spatial shape of the data tensor itself."""
        return self.size

    @property
    def packs_offsets(self) -> bool:
        """True: the second image is read cyclically."""
        return True

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Kind.DATA."""
        return Kind.DATA


@dataclass(frozen=True)
class Tokens(Input):
    """A data tensor of integers, as one-hot vectors: k = 1 where two are equal, else 0.

    vocabulary: how many different ones there are; they are from 0 on and below it
    """

    vocabulary: int


@dataclass(frozen=True)
class Opaque(Op):
    """Stands for a layer that was refused, so that what follows it can still be examined."""

    path: str
    size: Spatial
    random: ClassVar[bool] = True
    keeps_offsets: ClassVar[bool] = False

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Spatial shape that Keras states for the layer's output."""
        return self.size

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Kind.UNKNOWN."""
        return Kind.UNKNOWN


@dataclass(frozen=True)
class Weighted(Op):
    """One call of a layer with weights and biases.

    layer: the entry in the kernel's parameters
    call:  counts the layer's calls
    """

    layer: str
    call: int = 0
    random: ClassVar[bool] = True


@dataclass(frozen=True)
class Affine(Weighted):
    """Weights over channels, and biases: k' = b2 + w2 k, pointwise.

    The average over a window, over positions or over channel groups is an op before this one:
    Patches, Positions, Mixture.
    """

    pointwise: ClassVar[bool] = True


@dataclass(frozen=True)
class Depthwise(Weighted):
    """A weight of its own for each channel and tap: k' = b2 + w2 k after Patches.

    It sums over no channels, so its result is not Gaussian: features, of zero mean.
    """

    channelwise: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    not_gaussian: ClassVar[NotGaussian] = NotGaussian(
        cause="each is made of one channel alone, by its weights of a depthwise convolution",
        hint="a pointwise convolution or Dense layer between the two, and the activation after "
        "that (SeparableConv, ConvNeXt), or an ordinary convolution",
        output="the output comes from a depthwise convolution, which sums over no channels: it is "
        "not Gaussian at infinite width",
    )

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Kind.FEATURES: the output depends on one channel alone."""
        return Kind.FEATURES

    @property
    def refuses_data(self) -> Refusal | None:
        """The refusal: the input has few channels, and the op sums over none of them."""
        why = (
            "the input has a fixed number of channels, and a depthwise convolution sums over none "
            "of them: what follows sees a few random filters, whose second moments stay random "
            "however wide the network grows"
        )
        return Refusal("depthwise convolution of the input", why, WEIGHTS_FIRST)


@dataclass(frozen=True)
class Mixture(Op):
    """Channel groups become one: k' = sum of weights[i] k_i, the weights C_i / sum C."""

    weights: tuple[float, ...]
    linear: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True

    @property
    def additive(self) -> bool:
        """False: the op has several inputs."""
        return False


@dataclass(frozen=True)
class Activation(Op):
    """phi, elementwise. `name` selects the dual activation, `params` its constants."""

    name: str
    params: tuple[tuple[str, float], ...] = ()
    needs_gaussian: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """The activation's name."""
        return f"activation {self.name}"

    @property
    def function(self) -> Op | None:
        """The op itself."""
        return self

    def with_function(self, function: Op) -> Op:
        """The other function, which takes the place of this op."""
        return function

    @property
    def identity_from_zero(self) -> bool:
        """Whether phi(u) = u for every u from 0."""
        return self.name in _IDENTITY_FROM_ZERO

    @property
    def homogeneous(self) -> bool:
        """Whether phi(t u) = t phi(u) for every t from 0."""
        return self.name in _HOMOGENEOUS

    @property
    def even(self) -> bool:
        """Whether phi(-u) = phi(u) for every u."""
        return self.name in _EVEN

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Kind.FEATURES."""
        return Kind.FEATURES

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True if the function has no negative values."""
        return self.name in _NEVER_NEGATIVE

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """True for an odd function: its argument is Gaussian of mean 0."""
        return self.name in _ODD

    def mean_inputs(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """No inputs: Gaussian arguments have the mean 0."""
        return ()

    @property
    def refuses_data(self) -> Refusal | None:
        """The refusal of data joined with random channels; Keras runs activations of data alone."""
        why = (
            "the input is not random, and it stands beside random channels here: the activation "
            "of its channels is not known from their mean covariance"
        )
        received = f"{self.title} of the input, concatenated"
        return Refusal(received, why, "the activation of each before they are joined")


@dataclass(frozen=True)
class Sum(Op):
    """sum of coefficients[i] A_i over independent A_i: k' = sum of coefficients[i]^2 k_i.

    Products of the means of features are added.
    """

    coefficients: tuple[float, ...]
    pointwise: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The shape that all terms share."""
        if len(set(inputs)) != 1:
            raise GraphError(f"a sum of different shapes {inputs}")
        return inputs[0]

    @property
    def sum_weights(self) -> tuple[float, ...]:
        """The coefficients of the terms."""
        return self.coefficients

    @property
    def keeps_zeros(self) -> bool:
        """True: a sum of zeros is zero."""
        return True

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True if neither a term nor a coefficient may be negative."""
        return min(self.coefficients) >= 0.0 and all(inputs)

    def needs_means(self, inputs: Sequence[Kind]) -> bool:
        """True if two inputs are features or data: the product of their means counts."""
        return sum(kind in (Kind.FEATURES, Kind.DATA) for kind in inputs) > 1


@dataclass(frozen=True)
class Scale(Op):
    """factor A: k' = factor^2 k."""

    factor: float
    linear: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True

    @property
    def sum_weights(self) -> tuple[float, ...]:
        """The factor, as the weight of the one term."""
        return (self.factor,)

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True unless the factor or the input may be negative."""
        return self.factor >= 0.0 and inputs[0]

    @property
    def separable(self) -> Op:
        """The op itself: it is a separable map."""
        return self

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """The factor times the identity."""
        return (SeparableMap(self.factor, tuple(identity(n) for n in size)),)
