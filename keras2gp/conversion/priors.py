"""Prior variances of a layer's weights and biases: from its initialisers or its trained weights."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import initializers

from keras2gp._util.arrays import Array
from keras2gp._util.checks import whole_number
from keras2gp._util.keras_objects import KerasInitializer
from keras2gp.conversion.derived_weights import as_drawn
from keras2gp.conversion.initial_values import (
    TRUNCATED_VARIANCE,
    element_variance,
    initial_constants,
)
from keras2gp.errors import PriorError
from keras2gp.graph.variances import LayerVariances

__all__ = ["bias_mean", "distribution_of", "read_variances"]


# The name by which a reader asks -> where Keras keeps the weight, and its initialiser.
# DepthwiseConv calls its weight `kernel`, SeparableConv calls the same thing `depthwise_kernel`.
_WEIGHTS: dict[str, tuple[tuple[str, ...], str]] = {
    "kernel": (("kernel",), "kernel_initializer"),
    "depthwise": (("depthwise_kernel", "kernel"), "depthwise_initializer"),
    "pointwise": (("pointwise_kernel",), "pointwise_initializer"),
    "recurrent": (("recurrent_kernel",), "recurrent_initializer"),
    "embeddings": (("embeddings",), "embeddings_initializer"),
    "bias": (("bias",), "bias_initializer"),
}


def read_variances(
    layer: keras.Layer,
    *,
    prior: str,
    fan_in: int,
    kernel: str = "kernel",
    bias: str | None = "bias",
    bias_may_have_mean: bool = False,
) -> LayerVariances:
    """Read the prior variances of one layer's weights and biases.

    layer:  a built Dense or convolution, or a relative of theirs
    prior:  "initializers": what the layer's initialisers would draw;
            "weights": the mean square of the values that the layer holds now
    fan_in: how many weights one output sums over: window size times input channels
    kernel: which weight, "kernel", "depthwise", "pointwise", "recurrent" or "embeddings"
    bias_may_have_mean: whether biases with a mean count by their variance, and are not refused
    bias:   "bias", or None for a weight that has none (the depthwise half of a separable one)

    Raises: PriorError, naming the layer, if the prior is unknown, if an initialiser has no exact
        rule, or if a weight is not finite.
    """
    if prior not in ("initializers", "weights"):
        raise PriorError(f"the prior is 'initializers' or 'weights', not {prior!r}")
    fan_in = whole_number(f"layer {layer.name!r}: fan_in", fan_in, 1, error=PriorError)
    read = _initial_variance if prior == "initializers" else _mean_square
    has_bias = bias is not None and bool(
        getattr(layer, "use_bias", getattr(layer, "bias", None) is not None)
    )
    weight = fan_in * read(layer, kernel)
    if not math.isfinite(weight):
        raise PriorError(f"layer {layer.name!r}: the variance of its weights is not finite")
    if has_bias and bias_may_have_mean and prior == "initializers" and np.any(bias_mean(layer)):
        return LayerVariances(weight, _variance_about_mean(layer.bias_initializer))
    return LayerVariances(weight, read(layer, str(bias)) if has_bias else 0.0)


def bias_mean(layer: keras.Layer) -> float | Array:
    """The mean of the biases that a layer draws; 0 for a layer without, or another initialiser.

    An array [C] where it is another one for each channel.
    """
    if not getattr(layer, "use_bias", getattr(layer, "bias", None) is not None):
        return 0.0
    initializer = layer.bias_initializer
    if type(initializer) in (initializers.RandomNormal, initializers.TruncatedNormal):
        return float(initializer.mean)
    if type(initializer) is initializers.RandomUniform:
        return (float(initializer.minval) + float(initializer.maxval)) / 2
    values = initial_constants(initializer)
    return 0.0 if values is None else values


def _variance_about_mean(initializer: KerasInitializer) -> float:
    """The variance of an initialiser whose mean `bias_mean` knows."""
    if type(initializer) is initializers.RandomUniform:
        return float(initializer.maxval - initializer.minval) ** 2 / 12.0
    if not hasattr(initializer, "stddev"):
        return 0.0
    cut = type(initializer) is initializers.TruncatedNormal
    return (TRUNCATED_VARIANCE if cut else 1.0) * float(initializer.stddev) ** 2


def distribution_of(layer: keras.Layer, weight: str) -> str:
    """The distribution of a layer's initialiser: "normal", "uniform", "truncated normal" ...

    Only the variance matters to what sums over more and more channels, by the central limit
    theorem; a sum over few inputs, or a bias, keeps its distribution at any width.
    """
    initializer = getattr(layer, _slot(weight)[1])
    if isinstance(initializer, initializers.VarianceScaling):
        name = str(initializer.distribution)
        return {"untruncated_normal": "normal", "uniform": name}.get(name, "truncated normal")
    return _DISTRIBUTIONS.get(type(initializer), "normal")


def _initial_variance(layer: keras.Layer, weight: str) -> float:
    """Variance of one element of a weight as its initialiser draws it."""
    attribute = _slot(weight)[1]
    initializer = getattr(layer, attribute, None)
    if initializer is None:
        raise PriorError(
            f"layer {layer.name!r} ({type(layer).__name__}) has no {attribute} that is known: "
            "weights of a layer of your own have one where its build() makes them by add_weight"
        )
    try:
        shape = tuple(as_drawn(_find_weight(layer, weight)).shape)
        return element_variance(initializer, shape)
    except PriorError as error:
        raise PriorError(f"layer {layer.name!r}, {attribute}: {error}") from error


def _mean_square(layer: keras.Layer, weight: str) -> float:
    """Mean of the squares of a weight's values, shape [], in float64."""
    values = np.asarray(keras.ops.convert_to_numpy(_find_weight(layer, weight)), dtype=np.float64)
    square = float(np.mean(np.square(values)))
    if not math.isfinite(square):
        raise PriorError(f"layer {layer.name!r}: its trained {weight} is not finite")
    return square


def _find_weight(layer: keras.Layer, weight: str) -> Any:
    """The variable or tensor that holds a layer's weight."""
    if not layer.built:
        raise PriorError(f"layer {layer.name!r} is not built: its weights have no shape yet")
    for attribute in _slot(weight)[0]:
        value = getattr(layer, attribute, None)
        if value is not None:
            return value
    raise PriorError(f"layer {layer.name!r} ({type(layer).__name__}) has no weight {weight!r}")


def _slot(weight: str) -> tuple[tuple[str, ...], str]:
    """The attributes where Keras keeps a weight, and that of its initialiser."""
    if weight not in _WEIGHTS:
        raise PriorError(f"no weight is called {weight!r}; one of {', '.join(_WEIGHTS)}")
    return _WEIGHTS[weight]


_DISTRIBUTIONS: dict[type, str] = {
    initializers.RandomUniform: "uniform",
    initializers.TruncatedNormal: "truncated normal",
    initializers.Orthogonal: "orthogonal",
}
