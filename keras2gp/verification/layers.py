"""The facts of Keras's layers that widening needs: their sizes, and the weights that they draw.

Fans are counted here independently of the readers, so that an error of the readers shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers
from keras.activations import linear

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasLayer, KerasOperation, KerasVariable
from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.reading import with_data_of_constants
from keras2gp.conversion.registry import entry_of
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.walker import KerasWalker
from keras2gp.graph.variances import LayerVariances
from keras2gp.verification.laws import gamma_law

__all__ = [
    "DrawnWeight",
    "Random",
    "StepByStep",
    "channel_ends",
    "channel_index",
    "channels_first",
    "channelwise",
    "depthwise",
    "drawn_weights",
    "entries_of",
    "growth_over_channels",
    "joins",
    "recurrent",
    "recurrent_layers",
    "scales",
    "separable",
    "separated",
    "transposed",
    "units_of",
    "weighted",
]

_SUFFIXES = ("", "/pointwise", "/input", "/forward/input")
"""Endings of the names in a kernel's parameters, of which every layer with weights has one."""


@dataclass(frozen=True)
class DrawnWeight:
    """A variable of random weights.

    Attributes:
        variable: The Keras variable.
        fan_in: How many of its weights one output sums over; None for a bias.
    """

    variable: KerasVariable
    fan_in: int | None

    def deviation(self, variances: LayerVariances) -> float:
        """Standard deviation of one element, from the variances of the kernel."""
        if self.fan_in is None:
            return math.sqrt(variances.bias)
        return math.sqrt(variances.weight / self.fan_in)


def entries_of(path: str) -> frozenset[str]:
    """Names in a kernel's parameters, of which one is there for a layer of this path."""
    return frozenset(path + suffix for suffix in _SUFFIXES)


def _weights(operation: KerasOperation) -> str:
    """How the random weights of a layer are arranged, as the table of layers says; "" if none."""
    entry = entry_of(operation)
    return "" if entry is None else entry.weights


def weighted(operation: KerasOperation) -> bool:
    """Whether an operation is a layer with random weights whose sizes are known here."""
    return bool(_weights(operation))


def depthwise(layer: KerasLayer) -> bool:
    """Whether each output channel of a layer with weights reads a single channel of its input."""
    if _weights(layer) == "convolution":
        return bool(layer.groups > 1 and layer.kernel.shape[-2] == 1)
    return _weights(layer) == "depthwise"


def separable(layer: KerasLayer) -> bool:
    """Whether a layer has two kernels: a depthwise one, and a pointwise one after it."""
    return _weights(layer) == "separable"


_STEPS = {
    layers.SeparableConv1D: (layers.DepthwiseConv1D, layers.Conv1D),
    layers.SeparableConv2D: (layers.DepthwiseConv2D, layers.Conv2D),
}


def separated(
    layer: KerasLayer, config: dict[str, Any]
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The two layers that a separable convolution equals: suffix, class and settings of each."""
    first, second = _STEPS[type(layer)]
    shared = {key: config[key] for key in ("data_format", "dtype", "trainable")}
    window = ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier")
    name = config["name"]
    depthwise = shared | {key: config[key] for key in window} | {"name": f"{name}_depthwise"}
    yield "/depthwise", first, depthwise | {"use_bias": False, "depthwise_initializer": "zeros"}
    pointwise = shared | {"filters": config["filters"], "kernel_size": 1, "name": name}
    pointwise |= {"use_bias": config["use_bias"], "bias_initializer": "zeros"}
    yield "/pointwise", second, pointwise | {"kernel_initializer": "zeros"}


_JOINS = ("Add", "Average", "Concatenate", "Multiply", "Subtract")


def joins(call: Call) -> bool:
    """Whether tensors meet channel by channel or side by side in it: data there grows as others."""
    return type(call.operation).__name__ in _JOINS and len(call.tensors) > 1


def recurrent(layer: KerasLayer) -> bool:
    """Whether a layer goes through the steps of a sequence with the same weights."""
    return _weights(layer) == "recurrent"


def recurrent_layers(layer: KerasLayer) -> dict[str, Any]:
    """The layers of a recurrent layer's directions, by the suffix of their names in parameters."""
    if isinstance(layer, layers.Bidirectional):
        return {"/forward": layer.forward_layer, "/backward": layer.backward_layer}
    return {"": layer}


def channels_first(layer: KerasLayer) -> bool:
    """Whether a layer's tensors have their channels before their positions."""
    return getattr(layer, "data_format", "") == "channels_first"


def transposed(layer: KerasLayer) -> bool:
    """Whether a layer is a transposed convolution."""
    return _weights(layer) == "transposed"


def units_of(layer: KerasLayer) -> tuple[str, int] | None:
    """The setting of a layer's number of channels, and its value; None if the input sets it."""
    entry = entry_of(layer)
    if isinstance(layer, layers.Bidirectional):  # Both of its directions grow alike.
        return units_of(layer.forward_layer)
    if entry is None or not entry.width:
        return None
    if entry.width == "output_shape":
        return entry.width, int(layer.partial_output_shape[-1])
    return entry.width, int(getattr(layer, entry.width))


def channel_index(call: Call) -> tuple[int, range] | None:
    """Where x[..., a:b] states its channels: their place in the index, and which; else None."""
    if type(call.operation).__name__ != "GetItem":
        return None
    stated = call.args[1] if len(call.args) > 1 else call.kwargs["key"]
    index = stated if isinstance(stated, tuple) else (stated,)
    shape = call.tensors[0].shape
    if Ellipsis not in index[:-1] and len(index) <= len(shape):
        return None
    last = index[-1]
    return (len(index) - 1, range(int(shape[-1] or 1))[last]) if isinstance(last, slice) else None


def channel_ends(call: Call) -> list[int]:
    """The numbers of the channels at which a slice of them begins or ends."""
    operation, count = call.operation, int(call.tensors[0].shape[-1] or 1)
    kind = type(operation).__name__
    ends: list[int] = []
    if index := channel_index(call):
        ends = [index[1].start, index[1].stop]
    elif kind in ("Glu", "Split") and operation.axis in (-1, len(call.tensors[0].shape)):
        stated = 2 if kind == "Glu" else operation.indices_or_sections
        ends = [count // stated] if isinstance(stated, int) else [int(n) for n in stated]
    return [n for n in ends if 0 < n < count]


def growth_over_channels(call: Call) -> float:
    """The power of the number of channels by which a sum over them grows, or a mean shrinks.

    The kernel has the sum over the channels of the user's model, whatever the copy's width.
    """
    operation, name = call.operation, type(call.operation).__name__
    if name in ("Normalize", "UnitNormalization") or (name == "Dot" and operation.normalize):
        return -0.5
    if name in ("Dot", "Einsum"):
        return 0.5
    rank = len(call.tensors[0].shape) + 1
    if name not in ("Mean", "Sum") or operation.axis is None:
        return 0.0
    axes = operation.axis if isinstance(operation.axis, list | tuple) else [operation.axis]
    if [axis % rank for axis in axes] != [rank - 1]:
        return 0.0
    return 0.5 if name == "Sum" else -0.5


def channelwise(operation: KerasOperation) -> bool:
    """Whether each output channel is made of the same channel of the inputs, and of no other."""
    entry = entry_of(operation)
    return entry is not None and entry.channelwise


def scales(operation: KerasOperation) -> bool:
    """Whether an operation multiplies its input by a constant before any training."""
    if gamma_law(operation) is not None:
        return False
    entry = entry_of(operation)
    removed = type(operation) is layers.Activation and operation.activation is linear
    return removed or (entry is not None and entry.scales)


def drawn_weights(layer: KerasLayer, suffix: str = "") -> Iterator[DrawnWeight]:
    """The random weights of a built layer.

    Args:
        layer: The layer.
        suffix: Of the name in the parameters of a recurrent layer's weights: "/input" for those of
            a step's input with the biases, or "/recurrent".
    """
    if recurrent(layer):
        layer = layer.cell
        if suffix.endswith("/recurrent"):
            yield DrawnWeight(layer.recurrent_kernel, int(layer.units))
            return
    if _weights(layer) == "embedding":
        yield DrawnWeight(layer.embeddings, 1)
        return
    yield DrawnWeight(layer.kernel, _fan_in(layer))
    if getattr(layer, "use_bias", getattr(layer, "bias", None) is not None):
        yield DrawnWeight(layer.bias, None)


def _fan_in(layer: KerasLayer) -> int:
    shape = tuple(int(n) for n in layer.kernel.shape)
    if _weights(layer) == "depthwise":  # [*window, channels, multiplier]
        return math.prod(shape[:-2])
    if _weights(layer) == "transposed":  # [*window, filters, channels]
        return math.prod(shape[:-2]) * shape[-1]
    return math.prod(shape[:-1])


@dataclass(frozen=True)
class Random(Tensor):
    """A tensor that depends on random weights: its channels grow.

    Attributes:
        origins: The layers whose units its channels are, by identity.
        dead: It comes from a layer that the kernel does not know: the output does not depend on it.
    """

    origins: frozenset[int] = frozenset()
    dead: bool = False


class _LessMean(keras.layers.Layer):  # type: ignore[misc]
    """x - mean(x) over the channels, whose number grows."""

    def call(self, x: KerasTensor) -> Any:
        """The difference."""
        return x - keras.ops.mean(x, axis=-1, keepdims=True)


class StepByStep(KerasWalker):
    """A walk that reads what TimeDistributed wraps on all steps at once.

    depth: how many of them the present call is inside of
    """

    depth = 0

    def _call(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        if type(call.operation) is not keras.layers.TimeDistributed or self.cut.active:
            joined = with_data_of_constants(call, Context(self.state, path))
            return self._single(joined, path, count, shapes)
        tensor, known = call.tensors[0], set(self.results)
        steps, shape = int(tensor.shape[0] or 1), call.output[1:]
        folded = self._folded(tensor)
        self.depth += 1
        (result,) = self._wrapped(call.operation.layer, folded, path, shape)
        self.depth -= 1
        for name in self.results.keys() - known:
            self.results[name] = self._unfolded(self.results[name], steps)
        return [self._unfolded(result, steps)]

    def _is_random(self, tensor: Tensor) -> bool:
        return isinstance(tensor, Random)

    def _has_no_mean(self, tensor: Tensor) -> bool:
        return isinstance(tensor, Random)  # There is no kernel otherwise.

    def _less_mean(self) -> Any:
        return _LessMean()

    def _single(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        """A call of another layer or operation."""
        raise NotImplementedError

    def _plain(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        """A call as it is read for a kernel."""
        return super()._call(call, path, count, shapes)

    def _folded(self, tensor: Tensor) -> Tensor:
        """A tensor with its steps as images."""
        data = tensor.data
        if data is not None:
            data = keras.ops.reshape(data, (-1, *data.shape[2:]))
        return replace(tensor, shape=tensor.shape[1:], data=data)

    def _unfolded(self, tensor: Tensor, steps: int) -> Tensor:
        """A tensor with its steps as an axis."""
        data = tensor.data
        if data is not None:
            data = keras.ops.reshape(data, (-1, steps, *data.shape[1:]))
        return replace(tensor, shape=(steps, *tensor.shape), data=data)
