"""Taps: tensors of a random network that are Gaussian, of known law, given all earlier weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from keras import layers, ops

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasLayer, KerasModel, KerasOperation
from keras2gp.verification.layers import DrawnWeight, Random, channels_first, scales

__all__ = ["Copied", "Linear", "Tap", "Taps"]


@dataclass(frozen=True, eq=False)
class Tap:
    """A tensor of a copy whose units are independent Gaussian variables.

    The law is that given all weights before the `draw`th. The variance is a sum of squares of the
    layer's input, independent of the kernel's rules.

    Attributes:
        draw: Number of the weights that the values depend on last.
        values: The tensor.
        centre: Its mean; None for 0.
        variance: Its variance, which broadcasts to it.
        axis: Axis of its units.
    """

    draw: int
    values: Any
    centre: Any
    variance: Any
    axis: int

    @property
    def tensors(self) -> list[Any]:
        """Values and variance, then the centre if it is not 0."""
        return [self.values, self.variance] + ([] if self.centre is None else [self.centre])


@dataclass(frozen=True)
class Linear:
    """The law of a tensor that is a multiple of the result of the `draw`th weights: of mean 0.

    Attributes:
        draw: Number of the weights.
        variance: Variance of the tensor, which broadcasts to it.
        axis: Axis of its units.
        chain: The tensors from the weights' result to this one, by identity.
    """

    draw: int
    variance: Any
    axis: int
    chain: tuple[int, ...]


@dataclass(frozen=True)
class Copied(Random):
    """A tensor of the copy.

    Attributes:
        latest: Number of the last weights that it depends on; -1 for none.
        linear: Its law, if it is a multiple of the result of those weights.
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

    def of_model(self, model: KerasModel) -> list[Tap]:
        """The taps that a model's output depends on, in the order of their draws."""
        operations = {id(operation) for operation in model.operations}
        taps = []
        for draw, tap in sorted(self._taps.items()):
            summed, chain = self._sums.get(draw, (tap, ()))
            # Values that only one sum reads affect the output through that sum alone.
            chosen = summed if all(self._uses[key] == 1 for key in chain) else tap
            if id(chosen.values._keras_history.operation) in operations:  # noqa: SLF001
                taps.append(chosen)
        return taps

    def weights(
        self,
        layer: KerasLayer,
        drawn: Sequence[tuple[DrawnWeight, float]],
        source: Any,
        result: Any,
        *,
        apart: bool = False,
    ) -> Copied:
        """Note a call of a layer with one kernel of random weights.

        Args:
            layer: The copy that was called.
            drawn: Its random weights, with their standard deviations.
            source: Its input: a Copied, or a tensor that is not random.
            result: Its result.
            apart: Whether it is left out of the taps.
        """
        self._uses[id(source.data)] += 1
        earlier = self._draws.get(id(layer))
        draw = self._draws.setdefault(id(layer), len(self._draws))
        shape = tuple(result.shape[1:])
        if (
            apart or earlier is not None
        ):  # weights that were used before depend on their input: no tap
            return Copied(shape, data=result, latest=max(draw, _latest(source)))
        variance = _variance(layer, drawn, source.data)
        axis = 1 if channels_first(layer) else -1
        self._taps[draw] = Tap(draw, result, None, variance, axis)
        linear = Linear(draw, variance, axis, (id(result),))
        return Copied(shape, data=result, latest=draw, linear=linear)

    def recurrent(self, layer: KerasLayer, source: Any, result: Any) -> Copied:
        """Note a call of a recurrent layer; no tap, since its units depend on their own past."""
        self._uses[id(source.data)] += 1
        draw = self._draws.setdefault(id(layer), len(self._draws))
        return Copied(tuple(result.shape[1:]), data=result, latest=max(draw, _latest(source)))

    def between(self, operation: KerasOperation, sources: Sequence[Any], result: Any) -> Copied:
        """Note a call without random weights of a copy, `operation`."""
        for source in sources:
            self._uses[id(source.data)] += 1
        linear = None
        if type(operation) is layers.Add or type(operation).__name__ == "Add":
            self._add(sources, result)
        elif len(sources) == 1 and scales(operation):
            linear = _scaled(operation, sources[0], result)
        latest = max(map(_latest, sources))
        return Copied(tuple(result.shape[1:]), data=result, latest=latest, linear=linear)

    def _add(self, sources: Sequence[Any], result: Any) -> None:
        """Note a sum: it is Gaussian given the older summands, if one summand is newest."""
        newest = max(sources, key=_latest)
        linear = newest.linear if isinstance(newest, Copied) else None
        older = [s for s in sources if s is not newest]
        if linear is None or not older or max(map(_latest, older)) >= linear.draw:
            return
        if any(tuple(s.data.shape[1:]) != tuple(result.shape[1:]) for s in sources):
            return
        centre = reduce(ops.add, [s.data for s in older])
        tap = Tap(linear.draw, result, centre, linear.variance, linear.axis)
        self._sums[linear.draw] = tap, linear.chain


def _scaled(operation: KerasOperation, source: Any, result: Any) -> Linear | None:
    """The law of a layer's result; None unless it is a constant times a Gaussian tensor."""
    linear = source.linear if isinstance(source, Copied) else None
    factor = linear and _factor(operation, source, linear.axis)
    if not linear or not factor:
        return None
    chain = (*linear.chain, id(result))
    return Linear(linear.draw, linear.variance * factor**2, linear.axis, chain)


def _latest(tensor: KerasTensor) -> int:
    return tensor.latest if isinstance(tensor, Copied) else -1


def _factor(operation: KerasOperation, source: Copied, axis: int) -> float | None:
    """The constant that a layer multiplies by, found by running it; None if it does not."""
    shape = [1] * (len(source.shape) + 1)
    shape[axis] = source.data.shape[axis]
    ones, zeros = (np.asarray(operation(make(shape, np.float32))) for make in (np.ones, np.zeros))
    if np.any(zeros) or np.ptp(ones) > 0:
        return None
    return float(ones.flat[0])


def _variance(layer: KerasLayer, drawn: Sequence[tuple[DrawnWeight, float]], source: Any) -> Any:
    """Variance of a layer's outputs, given its input.

    It is a weighted sum of squares over the inputs of each output, which the same layer with one
    filter of ones computes from the sum of squares over channels.
    """
    (_, deviation), *rest = drawn
    if type(layer) is layers.Embedding:  # One entry each, whichever it is.
        return deviation**2 * ops.ones_like(ops.expand_dims(source, -1), "float32")
    first = channels_first(layer)
    axis = 1 if first else -1
    squares = ops.square(source)
    units = 1
    if isinstance(layer, layers.Dense | layers.EinsumDense):
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
    """Sums over the channels of each group, on the axis of the channels."""
    if groups == 1:
        return ops.sum(values, axis=axis, keepdims=True)
    shape = tuple(values.shape)
    at = axis % len(shape)
    split = (-1, *shape[1:at], groups, shape[at] // groups, *shape[at + 1 :])
    return ops.sum(ops.reshape(values, split), axis=at + 1)
