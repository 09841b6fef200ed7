"""What widening has to know of Keras's layers: where their sizes stand, and what they draw.

Fans are counted here anew, not by the readers: an error of theirs is to show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keras import layers

from keras2gp.graph.variances import LayerVariances

__all__ = [
    "DrawnWeight",
    "channels_first",
    "depthwise",
    "drawn_weights",
    "separable",
    "separated",
    "transposed",
    "units_of",
    "weighted",
]

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_WEIGHTED = (layers.Dense, *_CONVOLUTIONS, *_TRANSPOSED, *_SEPARABLE, *_DEPTHWISE)


@dataclass(frozen=True)
class DrawnWeight:
    """A variable of random weights.

    fan_in: how many of these weights one output sums over; None for a bias
    """

    variable: Any
    fan_in: int | None

    def deviation(self, variances: LayerVariances) -> float:
        """Standard deviation of one element, under the variances that the kernel states."""
        if self.fan_in is None:
            return math.sqrt(variances.bias)
        return math.sqrt(variances.weight / self.fan_in)


def weighted(operation: Any) -> bool:
    """Whether this is a layer whose weights are drawn, and whose sizes are known here."""
    return type(operation) in _WEIGHTED


def depthwise(layer: Any) -> bool:
    """Whether each output of this layer with weights sees one channel of its input alone."""
    if type(layer) in _CONVOLUTIONS:
        return bool(layer.groups > 1 and layer.kernel.shape[-2] == 1)
    return type(layer) in _DEPTHWISE


def separable(layer: Any) -> bool:
    """Whether this layer has two kernels, a depthwise one and a pointwise one after it."""
    return type(layer) in _SEPARABLE


_HALVES = {
    layers.SeparableConv1D: (layers.DepthwiseConv1D, layers.Conv1D),
    layers.SeparableConv2D: (layers.DepthwiseConv2D, layers.Conv2D),
}


def separated(layer: Any, config: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The two layers that a separable convolution of these settings is: half, class, settings."""
    first, second = _HALVES[type(layer)]
    shared = {key: config[key] for key in ("data_format", "dtype", "trainable")}
    own = ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier")
    name = config["name"]
    depthwise = shared | {key: config[key] for key in own} | {"name": f"{name}_depthwise"}
    yield "/depthwise", first, depthwise | {"use_bias": False, "depthwise_initializer": "zeros"}
    pointwise = shared | {"filters": config["filters"], "kernel_size": 1, "name": name}
    pointwise |= {"use_bias": config["use_bias"], "bias_initializer": "zeros"}
    yield "/pointwise", second, pointwise | {"kernel_initializer": "zeros"}


def channels_first(layer: Any) -> bool:
    """Whether the channels of this layer's tensors come before their positions."""
    return getattr(layer, "data_format", "") == "channels_first"


def transposed(layer: Any) -> bool:
    """Whether this layer spreads each position of its input over a window of its output."""
    return type(layer) in _TRANSPOSED


def units_of(layer: Any) -> tuple[str, int] | None:
    """The setting that says how many channels a layer has; None if that follows from its input."""
    if type(layer) in _DEPTHWISE:
        return None
    name = "units" if type(layer) is layers.Dense else "filters"
    return name, int(getattr(layer, name))


def drawn_weights(layer: Any) -> Iterator[DrawnWeight]:
    """The random weights of a built layer."""
    yield DrawnWeight(layer.kernel, _fan_in(layer))
    if layer.use_bias:
        yield DrawnWeight(layer.bias, None)


def _fan_in(layer: Any) -> int:
    shape = tuple(int(n) for n in layer.kernel.shape)
    if type(layer) in _DEPTHWISE:  # [*window, channels, multiplier]
        return math.prod(shape[:-2])
    if type(layer) in _TRANSPOSED:  # [*window, filters, channels]
        return math.prod(shape[:-2]) * shape[-1]
    return math.prod(shape[:-1])
