"""Convolutions with filters of a user's own, as Keras's convolution layers of these weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras2gp._util.keras_objects import KerasNode

__all__ = ["convolution_of", "is_convolution"]


@dataclass(frozen=True)
class _Family:
    """The layers that do what an operation of Keras does.

    layers: for one, two and three spatial axes; None where Keras has none
    units:  the setting that the filters' size `axis` is
    prefix: of the name of the initialiser
    """

    layers: tuple[Any, ...]
    units: str
    axis: int
    prefix: str = "kernel"


_FAMILIES = {
    "Conv": _Family((keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D), "filters", -1),
    "ConvTranspose": _Family(
        (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose),
        "filters",
        -2,
    ),
    "DepthwiseConv": _Family(
        (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
        "depth_multiplier",
        -1,
        "depthwise",
    ),
}


def is_convolution(node: KerasNode) -> bool:
    """Whether a call is a convolution of a tensor with filters that Keras has a layer for."""
    family = _FAMILIES.get(type(node.operation).__name__)
    rank = len(node.arguments.args[1].shape) - 2
    return family is not None and rank <= len(family.layers)


def convolution_of(
    node: KerasNode, filters: Any, bias: Any | None, law: Callable[[Any], Any], name: str
) -> Any:
    """The layer whose filters are weights of a user's own layer.

    Args:
        node: the call of an operation on a tensor and the filters.
        filters: the weights.
        bias: a weight for each channel of the result, or none.
        law: gives the initialiser of a weight.
        name: of the layer.
    """
    operation = node.operation
    family = _FAMILIES[type(operation).__name__]
    window = tuple(map(int, filters.shape[:-2]))
    settings = {
        "kernel_size": window,
        "strides": operation.strides,
        "padding": operation.padding,
        "data_format": operation.data_format or keras.config.image_data_format(),
        "dilation_rate": operation.dilation_rate,
        "use_bias": bias is not None,
        "name": name,
        family.units: int(filters.shape[family.axis]),
    }
    if getattr(operation, "output_padding", None) is not None:
        settings["output_padding"] = operation.output_padding
    layer = family.layers[len(window) - 1](**settings)
    setattr(layer, "_kernel" if hasattr(type(layer), "kernel") else "kernel", filters)
    setattr(layer, f"{family.prefix}_initializer", law(filters))
    layer.bias, layer.bias_initializer = bias, law(bias)
    layer.built = True
    return layer
