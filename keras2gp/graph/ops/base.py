"""The base class of ops: the questions that the analyses of a graph ask every op."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import ClassVar, NamedTuple, TypeVar

from keras2gp.errors import GraphError
from keras2gp.graph.linear_maps import SeparableMap

__all__ = [
    "FEW_CHANNELS",
    "WEIGHTS_FIRST",
    "Kind",
    "Margin",
    "NotGaussian",
    "Offset",
    "Op",
    "Ratios",
    "Reading",
    "Refusal",
    "Spatial",
    "along",
    "wrapped",
]

Value = TypeVar("Value")
Offset = tuple[int, ...]
Ratios = tuple[Fraction | int, ...]
"""An offset as fractions."""
Spatial = tuple[int, ...]


class Kind(Enum):
    """The distribution of a tensor, as far as it is known.

    data      a deterministic function of the input
    gaussian  zero mean, independent over channels, jointly Gaussian over positions and images
    features  independent and alike over channels, second moments known, not Gaussian
    unknown   the result of a refused layer
    """

    DATA = "data"
    GAUSSIAN = "gaussian"
    FEATURES = "features"
    UNKNOWN = "unknown"


def along(values: tuple[Value, ...], other: Value, rank: int) -> tuple[Value, ...]:
    """A setting of each axis, with `other` for the axis of calls in front and for further axes.

    rank: axes behind that of the calls
    """
    return (other, *values, *(other,) * (rank - len(values)))


def wrapped(offsets: Iterable[Offset], periods: Spatial) -> tuple[Offset, ...]:
    """The offsets modulo their period along each axis, sorted; as they are where that is 0."""
    if any(periods):
        offsets = {
            tuple(d % p if p else d for d, p in zip(offset, periods, strict=True))
            for offset in offsets
        }
    return tuple(sorted(offsets))


@dataclass(frozen=True)
class Margin:
    """The surroundings of a node's tensors on each axis, by which they are read at an offset.

    zeros:  zeros before and behind them: the largest offset
    period: in a cyclic loop (see graph/cycles.py) the distance at which they come again; else 0
    """

    zeros: Spatial
    period: Spatial

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.zeros)

    @property
    def added(self) -> Spatial:
        """The number of positions by which the margin makes a tensor longer, on each axis."""
        return tuple(2 * m + p for m, p in zip(self.zeros, self.period, strict=True))


class Reading(NamedTuple):
    """Where an op reads its input along one axis: row g at stride g - before + step t, tap by tap.

    taps: how many positions; t goes from 0 to taps - 1
    """

    taps: int
    stride: int
    step: int
    before: int


class Refusal(NamedTuple):
    """Why an op has no rule for its inputs.

    received: the op, and the settings that matter
    why:      the reason
    hint:     what would work instead
    """

    received: str
    why: str
    hint: str


WEIGHTS_FIRST = "a convolution or Dense layer on the input's branch (a 1x1 convolution will do)"
FEW_CHANNELS = (
    "the input has a fixed number of channels, each with a random factor of its own: what follows "
    "sums over few of them, and stays random however wide the network grows"
)
"""Why data times something random has no kernel."""


class NotGaussian(NamedTuple):
    """Why the features that come from an op are not Gaussian.

    cause:  in a few words
    hint:   what to put between them and an activation
    output: the cause, as a sentence about the model's output
    """

    cause: str
    hint: str
    output: str


@dataclass(frozen=True)
class Op:
    """One operation of a graph. Ops are values: equal fields, equal ops.

    A subclass overrides what differs from the defaults, which are those of an op that acts on
    every channel and position of one input alike.
    """

    linear: ClassVar[bool] = False
    """Whether it is a linear map without randomness."""

    random: ClassVar[bool] = False
    """Whether it draws weights: its output is a new source of randomness."""

    channelwise: ClassVar[bool] = False
    """Whether its weights act on each channel alone, so that the output depends on that channel."""

    mixing: ClassVar[bool] = False
    """Whether it combines several offsets of its input into one of its output (see Mixing)."""

    needs_gaussian: ClassVar[bool] = False
    """Whether its covariance is known for Gaussian inputs only."""

    needs_centered: ClassVar[bool] = False
    """Whether its covariance is known for inputs of mean 0 only."""

    moves_channels: ClassVar[bool] = False
    """Whether a channel of its output is made of other channels of its input."""

    single: ClassVar[bool] = False
    """Whether its output is one channel, however wide the network is."""

    keeps_sign: ClassVar[bool] = False
    """Whether its output is never negative where its inputs never are."""

    pointwise: ClassVar[bool] = False
    """Whether it acts at every position alike, on maps of any number of axes."""

    keeps_offsets: ClassVar[bool] = True
    """Whether an offset of its output is one offset of its input, the same at every position."""

    keeps_constants: ClassVar[bool] = False
    """Whether op(A + c) = op(A) + c for a constant c, of an op of one input."""

    keeps_axes: ClassVar[bool] = True
    """Whether each axis of an offset of its output is the same axis of its input's."""

    not_gaussian: ClassVar[NotGaussian] = NotGaussian(
        cause="an activation, or a sum with one, with no weights after it",
        hint="a convolution or Dense layer in between (a 1x1 convolution will do), or activations "
        "before the layers of a residual branch as in ResNet v2 instead of after the sum",
        output="the output ends in an activation, so that it is not Gaussian at infinite width",
    )
    """Why its features are not Gaussian."""

    @property
    def title(self) -> str:
        """The op in an error message."""
        return type(self).__name__

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Spatial shape of the output for these spatial shapes of the inputs.

        Raises: GraphError if the op does not fit the shapes.
        """
        return inputs[0]

    def kind(self, inputs: Sequence[Kind]) -> Kind:
        """Kind of the output; a mixture of kinds is features, and so is a function of Gaussians."""
        if self.random:
            return Kind.GAUSSIAN
        if Kind.UNKNOWN in inputs:
            return Kind.UNKNOWN
        alike = len(set(inputs)) == 1
        if alike and (self.keeps_gaussian or inputs[0] is not Kind.GAUSSIAN):
            return inputs[0]
        return Kind.FEATURES

    def sources(self, index: int, inputs: Sequence[frozenset[int]]) -> frozenset[int]:
        """The nodes whose random weights the output depends on, from the same of the inputs.

        index: the op's own node
        """
        return frozenset([index]) if self.random else frozenset[int]().union(*inputs)

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """Whether no entry of the output is negative, from the same of the inputs."""
        return self.keeps_sign and all(inputs)

    def is_centered(self, inputs: Sequence[bool]) -> bool:
        """Whether the mean of the output is known to be 0, from the same of the inputs."""
        if self.random:
            return True
        return bool(inputs) and all(inputs) and (self.linear or bool(self.sum_weights))

    def needs_means(self, inputs: Sequence[Kind]) -> bool:
        """Whether the covariance depends on the means of inputs of these kinds."""
        del inputs
        return False

    def mean_inputs(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """Those inputs whose means the mean of the output depends on."""
        return () if self.random else inputs

    @property
    def function(self) -> Op | None:
        """The Activation that it applies, alone or between its own steps; None for most ops."""
        return None

    def with_function(self, function: Op) -> Op:
        """The same op with another Activation in the place of its own."""
        del function
        return self

    @property
    def sum_weights(self) -> tuple[float, ...]:
        """Coefficients of its inputs, if it is their weighted sum; else none."""
        return ()

    @property
    def additive(self) -> bool:
        """Whether op(a + b) = op(a) + op(b)."""
        return self.linear

    @property
    def keeps_gaussian(self) -> bool:
        """Whether the output is Gaussian where the inputs are: of linear maps and of sums."""
        return self.linear or self.additive or bool(self.sum_weights)

    @property
    def refuses_data(self) -> Refusal | None:
        """Why there is no rule where an input is data, or holds it; None if there is one."""
        return None

    def refuses_offsets(self, size: Spatial, kind: Kind) -> Refusal | None:
        """Why there is no covariance at an offset other than 0, for an input of that size."""
        del size, kind
        return None

    def loses_offset(self, offset: Offset) -> bool:
        """Whether the offset is one that `refuses_offsets` is about."""
        return any(offset)

    def on_axes(self, rank: int) -> Op | None:
        """The op on maps of so many axes for the same positions; None where neighbours matter."""
        del rank
        return self if self.pointwise else None

    @property
    def reads_outside(self) -> bool:
        """Whether it reads its input beyond the border, where the input has to be 0."""
        return False

    @property
    def readings(self) -> tuple[Reading, ...]:
        """Where it reads its input along each axis, if it reads outside."""
        return ()

    @property
    def packs_offsets(self) -> bool:
        """Whether a map may hold two offsets (see graph/cycles.py), read by `readings` if any."""
        return self.pointwise

    @property
    def keeps_zeros(self) -> bool:
        """Whether its map is 0 beyond the border wherever those of its inputs are."""
        return self.linear

    def input_offset(self, offset: Ratios) -> Ratios:
        """The one offset of the input that this offset of the output needs.

        Exact fractions: where the result is not whole, the map of the output is 0.
        """
        return offset

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...] | None:
        """The ops that do the same on maps with an axis of calls in front; None if no ops do.

        size: the input's spatial shape without that axis
        rank: axes of the maps behind that axis; axes that the input lacks are of one position
        """
        del size, rank
        return (self,) if self.pointwise else None

    @property
    def separable(self) -> Op | None:
        """The op as a sum of separable linear maps; None if it is not one."""
        return None

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """The op on an input of that size, as a sum of separable maps.

        Raises: GraphError if it is not one.
        """
        raise GraphError(f"{self.title} is not a separable linear map of {size}")
