"""The sizes of a model that grow when it is widened, their bounds, and the cost of copies."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import keras

from keras2gp._util.keras_objects import KerasModel
from keras2gp.conversion.call import Call, State
from keras2gp.conversion.settings import Settings
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.tracing import Tracer
from keras2gp.errors import InputError, WideningError
from keras2gp.verification.costs import Scale, Work, cost_of
from keras2gp.verification.layers import (
    Random,
    StepByStep,
    channel_ends,
    channels_first,
    channelwise,
    depthwise,
    entries_of,
    joins,
    recurrent,
    transposed,
    units_of,
    weighted,
)

__all__ = ["UNITS", "Survey", "scales_of", "state_of_copies"]

UNITS = (1024, 512, 256, 128, 64, 32)
"""Numbers of output units to choose from."""
_CHEAP = 10**5
"""Weights whose drawing takes no longer than the rest of a small network."""


@dataclass
class Sizes:
    """Sizes of a model, and the constraints on them.

    Attributes:
        channels: Channels of hidden layers, by the layer's identity.
        spread: Channels of maps that the units of a vector are spread over, and of slices.
        groups: Channels, and the number of groups that must divide them.
        consumed: Layers whose units other layers read, by identity.
        joins: Whether the input is concatenated with random tensors.
        work: The work of every call that involves random weights.
    """

    channels: dict[int, int] = field(default_factory=dict)
    spread: list[int] = field(default_factory=list)
    groups: list[tuple[int, int]] = field(default_factory=list)
    consumed: set[int] = field(default_factory=set)
    joins: bool = False
    work: list[Work] = field(default_factory=list)


def state_of_copies(
    tracer: Tracer | None, trained_until: str | None, layers: Mapping[Any, Any] | None = None
) -> State:
    """The state of a walk for random copies, which draw their weights in a way of their own."""
    stated = {"*": (1.0, 0.0)}  # so that initialisers are not asked
    settings = Settings(
        overrides=stated, activations=None, layers=layers, trained_until=trained_until
    )
    return State(settings, tracer or Tracer())


class Survey(StepByStep):
    """A walk through a model that notes its sizes; it calls only what Keras runs on data.

    Args:
        functional: The Keras model.
        known: Paths of the layers that the kernel has variances of.
        output: Path of the call whose result the kernel is of.
        tracer: Has traced the user's code in the model.
        trained_until: As for convert().
        layers: As for convert().

    Raises:
        WideningError: A layer draws weights, and how its sizes grow is not known here.
    """

    def __init__(
        self,
        functional: KerasModel,
        known: Collection[str],
        output: str,
        *,
        tracer: Tracer | None = None,
        trained_until: str | None = None,
        layers: Mapping[Any, Any] | None = None,
    ) -> None:
        self.known, self._output = known, output
        self.sizes = Sizes()
        self._paths: dict[int, str] = {}
        super().__init__(functional, state_of_copies(tracer, trained_until, layers), {})
        result = self.results[output]
        origins = result.origins if isinstance(result, Random) else frozenset()
        free = not origins & self.sizes.consumed
        self._last = frozenset(origins) if free else frozenset[int]()

    @property
    def hidden(self) -> list[int]:
        """Numbers of channels that grow with the width."""
        channels = [n for layer, n in self.sizes.channels.items() if layer not in self._last]
        return channels + self.sizes.spread

    def scale(self, width: int, units: int) -> Scale:
        """The sizes of the copy whose narrowest hidden layer has about `width` channels.

        All hidden sizes share one factor. So sums keep branches of equal widths, and Concatenate
        keeps the ratios of its parts, which are weights in the kernel. The factor is a multiple of
        one over the sizes' common divisor: a copy may be narrower than the model.
        """
        hidden = self.hidden
        if not hidden:
            return Scale(Fraction(1), units, units, self._last)
        divisor = 1 if self.sizes.joins else math.gcd(*hidden)
        step = 1
        for channels, groups in self.sizes.groups:
            least = groups // math.gcd(groups, channels // math.gcd(channels, divisor))
            step = math.lcm(step, least)
        narrowest = min(hidden)
        multiple = step * max(1, round(width * divisor / (narrowest * step)))
        factor = Fraction(multiple, divisor)
        return Scale(factor, int(narrowest * factor), units, self._last)

    def _single(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        if self.cut.active:
            return self._plain(call, path, count, shapes)
        random = [t for t in call.tensors if isinstance(t, Random)]
        origins = frozenset[int]().union(*(t.origins for t in random))
        dead = self._output in self.results or any(t.dead for t in random)
        if weighted(call.operation) or self._entries(path):
            name = self._paths.setdefault(id(call.operation), path)
            dead = dead or not self._entries(name)
            if not dead:
                origins = self._weights(call, origins, path)
        elif not random:
            return self._plain(call, path, count, shapes)
        elif not dead:
            origins = self._between(call, origins)
            self.sizes.work.append(Work(_size(call.output), origins))
        return [Random(tuple(shape), origins=origins, dead=dead) for shape in shapes]

    def _entries(self, path: str) -> bool:
        return not entries_of(path).isdisjoint(self.known)

    def _weights(self, call: Call, origins: frozenset[int], path: str) -> frozenset[int]:
        """A layer with weights: its units are its own, unless it is depthwise."""
        layer, sizes = call.operation, self.sizes
        if not weighted(layer):
            kind = type(layer).__name__
            raise WideningError(
                f"{path} ({kind}): it draws weights, and how its sizes grow with its channels is "
                "not known. Try: a model with Keras's own layers in its place"
            )
        sizes.consumed |= origins
        if depthwise(layer) or recurrent(layer):
            sizes.consumed.add(id(layer))
        setting = None if depthwise(layer) else units_of(layer)
        if setting is not None:
            sizes.channels[id(layer)] = setting[1]
            groups = getattr(layer, "groups", 1)
            if groups > 1:
                channels = groups * layer.kernel.shape[-2]
                sizes.groups += [(channels, groups), (setting[1], groups)]
                sizes.consumed.add(id(layer))
        sizes.work.append(_work(call))
        return frozenset([id(layer)])

    def _between(self, call: Call, origins: frozenset[int]) -> frozenset[int]:
        """Note a call without weights: its sizes, and whether it keeps channels apart."""
        operation, sizes = call.operation, self.sizes
        kind = type(operation).__name__
        sizes.joins |= joins(call) and any(not isinstance(t, Random) for t in call.tensors)
        sizes.spread += channel_ends(call)
        if kind == "Reshape" and len(call.output) > 1:
            sizes.spread.append(int(call.output[-1] or 1))
        if isinstance(operation, keras.layers.GroupNormalization) and operation.groups > 1:
            channels = call.tensors[0].shape[operation.axis - (operation.axis > 0)]
            sizes.groups.append((int(channels or 1), operation.groups))
        if not channelwise(operation):
            sizes.consumed |= origins
        return origins


def _work(call: Call) -> Work:
    """The work of a layer with weights."""
    layer, source = call.operation, call.tensors[0]
    setting = units_of(layer)
    # A transposed convolution applies its weights at every position of its input.
    mapped = source.shape if transposed(layer) or recurrent(layer) else call.output
    positions = mapped[1:] if channels_first(layer) else mapped[:-1]
    return Work(
        _size(call.output),
        frozenset([id(layer)]),
        sum(math.prod(weight.shape) for weight in layer.weights),
        _size(positions),
        joins=recurrent(layer) or (isinstance(source, Random) and not depthwise(layer)),
        units=setting[1] if setting else 0,
    )


def _size(shape: tuple[int | None, ...]) -> int:
    return math.prod(int(n or 1) for n in shape)


def scales_of(survey: Survey, widths: Sequence[int], units: Sequence[int]) -> list[Scale]:
    """Sizes of the copies of different widths, narrow to wide.

    Args:
        survey: Of the model.
        widths: That are asked for.
        units: Numbers of output units to choose from; the last of them if all are costly.

    Raises:
        InputError: All of them are one copy.
    """
    by_factor = {}
    for width in widths:
        without = cost_of(survey.sizes.work, survey.scale(width, 1), 1).weights
        for count in units:
            scale = survey.scale(width, count)
            if cost_of(survey.sizes.work, scale, 1).weights <= max(1.5 * without, _CHEAP):
                break
        by_factor[scale.factor] = scale
    scales = [by_factor[factor] for factor in sorted(by_factor)]
    if len(scales) < 2 and survey.hidden:
        raise InputError(
            f"widths={tuple(widths)}: the model's sizes allow no more than a width of "
            f"{scales[0].width} near them. Try: larger widths"
        )
    return scales
