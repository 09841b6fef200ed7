"""Which sizes of a model grow when it is widened, and what keeps them from taking any value."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import keras

from keras2gp.conversion.context import Call, State
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.walker import Walk
from keras2gp.errors import WideningError
from keras2gp.verification.layers import (
    channels_first,
    depthwise,
    transposed,
    units_of,
    weighted,
)

__all__ = ["Random", "Scale", "Survey", "Work"]

# Each of their output channels is made of the same channel of their inputs, and of no other.
_CHANNEL_BY_CHANNEL = frozenset(
    {
        "Activation",
        "ActivityRegularization",
        "Add",
        "AlphaDropout",
        "Average",
        "AveragePooling1D",
        "AveragePooling2D",
        "AveragePooling3D",
        "BatchNormalization",
        "Cropping1D",
        "Cropping2D",
        "Cropping3D",
        "Divide",
        "Dropout",
        "Flatten",
        "GaussianDropout",
        "GaussianNoise",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "GlobalAveragePooling3D",
        "Identity",
        "Multiply",
        "Negative",
        "Rescaling",
        "Softmax",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "StochasticDepth",
        "Subtract",
        "TrueDivide",
        "UpSampling1D",
        "UpSampling2D",
        "UpSampling3D",
        "ZeroPadding1D",
        "ZeroPadding2D",
        "ZeroPadding3D",
    }
)


@dataclass(frozen=True)
class Random(Tensor):
    """A tensor that random weights have touched: its channels grow.

    origins: the layers whose units its channels are, by identity
    dead:    it comes from what the kernel does not know, so the output does not depend on it
    """

    origins: frozenset[int] = frozenset()
    dead: bool = False


@dataclass(frozen=True)
class Scale:
    """How a widened copy differs from the model.

    factor:  of the channels of all hidden layers
    width:   channels of the narrowest of them then; of the output, if no layer is hidden
    units:   of the output
    outputs: layers whose units are the output's and nothing else, by identity; they have `units`
    """

    factor: Fraction
    width: int
    units: int
    outputs: frozenset[int]


@dataclass(frozen=True)
class Work:
    """What one call of the model takes for one image.

    weights:   elements of the layer's weights
    positions: where they are applied
    outputs:   elements of the result, whose channels grow
    joins:     whether the weights join each output to channels that grow
    units:     of a layer that states them, else 0
    origins:   the layers whose units the result's channels are, by identity
    """

    outputs: int
    origins: frozenset[int]
    weights: int = 0
    positions: int = 0
    joins: bool = False
    units: int = 0


@dataclass
class Found:
    """What a survey collects.

    sizes:    channels of hidden layers, by the layer's identity
    spread:   channels of maps that the units of a vector are spread over
    groups:   channels and the number of groups that must divide them
    consumed: layers whose units are read by others, by identity
    joins:    whether the input is concatenated with random tensors
    work:     of every call that random weights have to do with
    """

    sizes: dict[int, int] = field(default_factory=dict)
    spread: list[int] = field(default_factory=list)
    groups: list[tuple[int, int]] = field(default_factory=list)
    consumed: set[int] = field(default_factory=set)
    joins: bool = False
    work: list[Work] = field(default_factory=list)


class Survey(Walk):
    """A walk that calls nothing but what Keras runs on data, and notes the sizes of the rest.

    known:  paths of the layers that the kernel has variances of
    output: path of the call whose result the kernel is of
    Raises: WideningError if a layer draws weights and its sizes are not known here.
    """

    def __init__(self, functional: Any, known: Collection[str], output: str) -> None:
        self.known = known
        self.found = Found()
        self._paths: dict[int, str] = {}
        super().__init__(functional, State("initializers", lambda _: True), {})
        result = self.results[output]
        origins = result.origins if isinstance(result, Random) else frozenset()
        free = not origins & self.found.consumed
        self._last = frozenset(origins) if free else frozenset[int]()

    @property
    def hidden(self) -> list[int]:
        """Numbers of channels that grow with the width."""
        sizes = [n for layer, n in self.found.sizes.items() if layer not in self._last]
        return sizes + self.found.spread

    def scale(self, width: int, units: int) -> Scale:
        """The copy whose narrowest hidden layer has `width` channels, or close to it.

        All hidden sizes share one factor. So sums keep branches of equal widths, and Concatenate
        keeps the ratios of its parts, which are weights in the kernel. The factor is a multiple of
        one over the sizes' common divisor: a copy may be narrower than the model.
        """
        sizes = self.hidden
        if not sizes:
            return Scale(Fraction(1), units, units, self._last)
        divisor = 1 if self.found.joins else math.gcd(*sizes)
        step = 1
        for channels, groups in self.found.groups:
            least = groups // math.gcd(groups, channels // math.gcd(channels, divisor))
            step = math.lcm(step, least)
        narrowest = min(sizes)
        multiple = step * max(1, round(width * divisor / (narrowest * step)))
        factor = Fraction(multiple, divisor)
        return Scale(factor, int(narrowest * factor), units, self._last)

    def _call(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        random = [t for t in call.tensors if isinstance(t, Random)]
        origins = frozenset[int]().union(*(t.origins for t in random))
        dead = any(t.dead for t in random)
        if weighted(call.operation) or self._entries(path):
            name = self._paths.setdefault(id(call.operation), path)
            dead = dead or not self._entries(name)
            if not dead:
                origins = self._weights(call, origins, path)
        elif not random:
            return super()._call(call, path, count, shapes)
        elif not dead:
            origins = self._between(call, origins)
            self.found.work.append(Work(_size(call.output), origins))
        return [Random(tuple(shape), origins=origins, dead=dead) for shape in shapes]

    def _entries(self, path: str) -> bool:
        return path in self.known or f"{path}/pointwise" in self.known

    def _weights(self, call: Call, origins: frozenset[int], path: str) -> frozenset[int]:
        """A layer with weights: its units are its own, unless it is depthwise."""
        layer, found = call.operation, self.found
        if not weighted(layer):
            kind = type(layer).__name__
            raise WideningError(
                f"{path} ({kind}): it draws weights, and how its sizes grow with its channels is "
                "not known. Try: a model with Keras's own layers in its place"
            )
        found.consumed |= origins
        if depthwise(layer):
            found.consumed.add(id(layer))
        elif setting := units_of(layer):
            found.sizes[id(layer)] = setting[1]
            groups = getattr(layer, "groups", 1)
            if groups > 1:
                channels = groups * layer.kernel.shape[-2]
                found.groups += [(channels, groups), (setting[1], groups)]
                found.consumed.add(id(layer))
        found.work.append(_work(call))
        return frozenset([id(layer)])

    def _between(self, call: Call, origins: frozenset[int]) -> frozenset[int]:
        """A call without weights: whether channels pass through it one by one, and its sizes."""
        operation, found = call.operation, self.found
        kind = type(operation).__name__
        if kind in ("Concatenate", "concatenate") and len(call.tensors) > 1:
            found.joins |= any(not isinstance(t, Random) for t in call.tensors)
        if kind == "Reshape" and len(call.output) > 1:
            found.spread.append(int(call.output[-1] or 1))
        if isinstance(operation, keras.layers.GroupNormalization) and operation.groups > 1:
            channels = call.tensors[0].shape[operation.axis - (operation.axis > 0)]
            found.groups.append((int(channels or 1), operation.groups))
        if kind not in _CHANNEL_BY_CHANNEL:
            found.consumed |= origins
        return origins


def _work(call: Call) -> Work:
    """The work of a layer with weights."""
    layer, (source,) = call.operation, call.tensors
    setting = units_of(layer)
    # A transposed convolution spreads every position of its input.
    mapped = source.shape if transposed(layer) else call.output
    positions = mapped[1:] if channels_first(layer) else mapped[:-1]
    return Work(
        _size(call.output),
        frozenset([id(layer)]),
        sum(math.prod(weight.shape) for weight in layer.weights),
        _size(positions),
        joins=isinstance(source, Random) and not depthwise(layer),
        units=setting[1] if setting else 0,
    )


def _size(shape: tuple[int | None, ...]) -> int:
    return math.prod(int(n or 1) for n in shape)
