"""Where the law of a random network's values is known: after weights, given all drawn before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from keras.src.applications import convnext

from keras2gp.verification.layers import DrawnWeight, channels_first
from keras2gp.verification.survey import Random

__all__ = ["Copied", "Linear", "Tap", "Taps"]

# Multiply a Gaussian tensor by a constant at most, when they are not trained.
_SCALES = (
    layers.Activation,
    layers.ActivityRegularization,
    layers.BatchNormalization,
    layers.Dropout,
    layers.Identity,
    layers.Rescaling,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    convnext.LayerScale,
    convnext.StochasticDepth,
)


@dataclass(frozen=True, eq=False)
class Tap:
    """Values of a copy that are independent Gaussian variables over its units.

    Given all weights before the `draw`th they have the mean `centre` and the variance `variance`,
    which broadcasts to them: independent of the kernel's rules, as sums of squares of the input.

    axis: of the units
    """

    draw: int
    values: Any
    centre: Any
    variance: Any
    axis: int

    @property
    def tensors(self) -> list[Any]:
        """Values and variance, and the centre if there is one."""
        return [self.values, self.variance] + ([] if self.centre is None else [self.centre])


@dataclass(frozen=True)
class Linear:
    """A tensor is a multiple of what the `draw`th weights gave: Gaussian of mean 0.

    chain: the tensors from there to this one, by identity
    """

    draw: int
    variance: Any
    axis: int
    chain: tuple[int, ...]


@dataclass(frozen=True)
class Copied(Random):
    """A tensor of the copy.

    latest: number of the last weights that it depends on
    linear: its law, if it is a multiple of what those weights gave
    """

    latest: int = -1
    linear: Linear | None = None


class Taps:
    """Collects the taps of a copy while it is built."""

    def __init__(self) -> None:
        self._draws: dict[int, int] = {}
        self._taps: dict[int, Tap] = {}
        self._sums: dict[int, tuple[Tap, tuple[int, ...]]] = {}
        self._uses: Counter[int] = Counter()

    def found(self, model: Any) -> list[Tap]:
        """The taps that a model's output depends on, in the order of their draws."""
        known = {id(operation) for operation in model.operations}
        taps = []
        for draw, tap in sorted(self._taps.items()):
            summed, chain = self._sums.get(draw, (tap, ()))
            # Where the values are used in one sum alone, the sum tells all that they do.
            taken = summed if all(self._uses[key] == 1 for key in chain) else tap
            if id(taken.values._keras_history.operation) in known:  # noqa: SLF001
                taps.append(taken)
        return taps

    def weights(
        self, layer: Any, drawn: Sequence[tuple[DrawnWeight, float]], source: Any, result: Any
    ) -> Copied:
        """The result of a layer with one kernel of weights, which are drawn for this call.

        drawn:  its random weights, with their standard deviations
        source: the input, a Copied or what is not random
        """
        self._uses[id(source.data)] += 1
        earlier = self._draws.get(id(layer))
        draw = self._draws.setdefault(id(layer), len(self._draws))
        shape = tuple(result.shape[1:])
        if earlier is not None:  # the same weights again: no longer independent of what they act on
            return Copied(shape, data=result, latest=max(draw, _latest(source)))
        variance = _variance(layer, drawn, source.data)
        axis = 1 if channels_first(layer) else -1
        self._taps[draw] = Tap(draw, result, None, variance, axis)
        linear = Linear(draw, variance, axis, (id(result),))
        return Copied(shape, data=result, latest=draw, linear=linear)

    def between(self, operation: Any, sources: Sequence[Any], result: Any) -> Copied:
        """The result of a call without random weights: `operation` is the copy that was called."""
        for source in sources:
            self._uses[id(source.data)] += 1
        linear = None
        if type(operation) is layers.Add or type(operation).__name__ == "Add":
            self._add(sources, result)
        elif len(sources) == 1 and isinstance(operation, _SCALES):
            linear = _scaled(operation, sources[0], result)
        latest = max(map(_latest, sources))
        return Copied(tuple(result.shape[1:]), data=result, latest=latest, linear=linear)

    def _add(self, sources: Sequence[Any], result: Any) -> None:
        """The newest of the summands is Gaussian given the others, if it is newer than they."""
        newest = max(sources, key=_latest)
        linear = newest.linear if isinstance(newest, Copied) else None
        others = [s for s in sources if s is not newest]
        if linear is None or not others or max(map(_latest, others)) >= linear.draw:
            return
        if any(tuple(s.data.shape[1:]) != tuple(result.shape[1:]) for s in sources):
            return
        centre = others[0].data if len(others) == 1 else ops.sum([s.data for s in others], axis=0)
        tap = Tap(linear.draw, result, centre, linear.variance, linear.axis)
        self._sums[linear.draw] = tap, linear.chain


def _scaled(operation: Any, source: Any, result: Any) -> Linear | None:
    """The law of a layer's result; None if it does not multiply a Gaussian by a constant."""
    linear = source.linear if isinstance(source, Copied) else None
    factor = linear and _factor(operation, source, linear.axis)
    if not linear or not factor:
        return None
    chain = (*linear.chain, id(result))
    return Linear(linear.draw, linear.variance * factor**2, linear.axis, chain)


def _latest(tensor: Any) -> int:
    return tensor.latest if isinstance(tensor, Copied) else -1


def _factor(operation: Any, source: Copied, axis: int) -> float | None:
    """The constant that a layer multiplies by; None if it is none."""
    shape = [1] * (len(source.shape) + 1)
    shape[axis] = source.data.shape[axis]
    ones, zeros = (np.asarray(operation(make(shape, np.float32))) for make in (np.ones, np.zeros))
    if np.any(zeros) or np.ptp(ones) > 0:
        return None
    if (
        isinstance(operation, layers.Activation)
        and operation.activation is not keras.activations.linear
    ):
        return None
    return float(ones.flat[0])


def _variance(layer: Any, drawn: Sequence[tuple[DrawnWeight, float]], source: Any) -> Any:
    """Variance of a layer's outputs, given its input: sum of its squares over what it sees.

    The same layer with one filter of ones, on the sum of squares over channels, is that sum.
    """
    (_, deviation), *rest = drawn
    first = channels_first(layer)
    axis = 1 if first else -1
    squares = ops.square(source)
    units = 1
    if type(layer) is layers.Dense:
        total = ops.sum(squares, axis=-1, keepdims=True)
    else:
        config = layer.get_config()
        groups = 1
        if "depth_multiplier" in config:
            units = config["depth_multiplier"]
            config["depth_multiplier"] = 1
        else:
            groups = config.get("groups", 1)
            channels = source.shape[axis]
            if groups < channels:
                squares = _group_sums(squares, groups, axis)
            units = config["filters"] // groups if groups > 1 else 1
            config["filters"] = groups
        kernel = (
            "depthwise_initializer" if "depthwise_initializer" in config else "kernel_initializer"
        )
        config |= {kernel: "ones", "use_bias": False, "trainable": False}
        config["name"] = f"{layer.name}_squares"
        total = type(layer).from_config(config)(squares)
        if units > 1:
            total = ops.repeat(total, units, axis=axis)
    variance = deviation**2 * total
    for _, bias in rest:
        variance = variance + bias**2
    return variance


def _group_sums(values: Any, groups: int, axis: int) -> Any:
    if groups == 1:
        return ops.sum(values, axis=axis, keepdims=True)
    shape = tuple(values.shape)
    at = axis % len(shape)
    split = (-1, *shape[1:at], groups, shape[at] // groups, *shape[at + 1 :])
    return ops.sum(ops.reshape(values, split), axis=at + 1)
