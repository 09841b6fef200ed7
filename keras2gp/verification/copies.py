"""Copies of layers and operations with other channel counts, each made once."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras.src.applications import convnext

from keras2gp._util.keras_objects import KerasLayer, KerasOperation
from keras2gp.conversion.call import Call
from keras2gp.conversion.initial_values import initial_constants
from keras2gp.verification.costs import Scale
from keras2gp.verification.layers import (
    channel_ends,
    depthwise,
    recurrent_layers,
    separable,
    separated,
    units_of,
    weighted,
)

__all__ = ["Copies", "first_number"]

_INITIALIZERS = (
    "embeddings_initializer",
    "kernel_initializer",
    "bias_initializer",
    "recurrent_initializer",
    "depthwise_initializer",
    "pointwise_initializer",
)
_AVERAGES = {
    getattr(keras.layers, f"{reach}MaxPooling{rank}D"): getattr(
        keras.layers, f"{reach}AveragePooling{rank}D"
    )
    for reach in ("", "Global")
    for rank in (1, 2, 3)
}


_CONSTANTS = frozenset({"beta_initializer", "gamma_initializer", "moving_mean_initializer"})
"""Initialisers of variables that are not drawn."""


class Copies:
    """Copies of a model's layers and operations, with the sizes of `scale`.

    Args:
        scale: the sizes.
        dtype: the type in which copies compute.
        averages: whether max pooling is read as average pooling.
    """

    def __init__(self, scale: Scale, dtype: str, *, averages: bool) -> None:
        self._scale, self._dtype, self._averages = scale, dtype, averages
        self._made: dict[int, Any] = {}

    def of_weights(self, call: Call, path: str) -> dict[str, Any]:
        """The copies of a layer with weights, by the suffix of their names in the parameters."""
        copies: dict[str, Any] = self._once(call.operation, lambda: self._by_suffix(call, path))
        return copies

    def of_operation(self, call: Call, path: str) -> Any:
        """The copy of a layer or an operation without random weights."""
        return self._once(call.operation, lambda: self._copy(call, path))

    def of_recurrent(self, operation: KerasOperation) -> Any:
        """The copy of a recurrent layer, or of two directions."""
        return self._once(operation, lambda: self._recurrent(operation))

    def _once(self, operation: KerasOperation, make: Callable[[], Any]) -> Any:
        key = id(operation)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _recurrent(self, operation: KerasOperation) -> Any:
        directions = []
        for layer in recurrent_layers(operation).values():
            config = layer.get_config()
            config |= {each: "zeros" for each in _INITIALIZERS if each in config}
            config |= {"units": self.grown(layer.units), "dtype": self._dtype}
            # The function itself, since a function of the user's own has no name in Keras.
            config |= {"activation": layer.activation, "name": f"{len(self._made)}_rnn"}
            directions.append(type(layer).from_config(config))
        if len(directions) == 1:
            return directions[0]
        return keras.layers.Bidirectional(
            directions[0], operation.merge_mode, backward_layer=directions[1]
        )

    def _by_suffix(self, call: Call, path: str) -> dict[str, Any]:
        """Copies of a layer with weights, by the suffix of their names in the parameters."""
        operation = call.operation
        config = self._config(call, path)
        config |= {"activation": "linear"} if "activation" in config else {}
        # Weights are drawn for every network; some initialisers would take minutes.
        config |= {key: "zeros" for key in _INITIALIZERS if key in config}
        if not separable(operation):
            return {"": type(operation).from_config(config)}
        steps = separated(operation, config)
        return {suffix: kind.from_config(settings) for suffix, kind, settings in steps}

    def _copy(self, call: Call, path: str) -> Any:
        operation = call.operation
        if not isinstance(operation, keras.Layer):
            return self._operation(operation, call, path)
        kind = type(operation)
        if self._averages and kind in _AVERAGES:
            kind = _AVERAGES[kind]
        return kind.from_config(self._config(call, path))

    def _config(self, call: Call, path: str) -> dict[str, Any]:
        """The settings of a layer's copy."""
        config = _settings(call.operation)
        config |= {"name": self._name(path), "dtype": self._dtype}
        config |= dict.fromkeys({"trainable"} & config.keys(), True)  # not of SpatialDropout
        config |= dict.fromkeys({"lora_alpha", "lora_rank"} & config.keys())
        for key in _CONSTANTS & config.keys():
            values = initial_constants(getattr(call.operation, key))
            if values is not None:  # the first of several, since the channels grow
                config[key] = keras.initializers.Constant(first_number(values))
        return config | self._sizes(call)

    def _name(self, path: str) -> str:
        """The name of the next copy, which no other has."""
        return f"{len(self._made)}_{re.sub(r'[^A-Za-z0-9_.-]', '_', path)}"

    def _sizes(self, call: Call) -> dict[str, Any]:
        """The settings of a layer that change with the number of channels."""
        layer = call.operation
        kind = type(layer)
        if kind is keras.layers.Reshape:
            return {"target_shape": self._target(call)}
        if kind is keras.layers.Rescaling:
            return {"scale": first_number(layer.scale), "offset": first_number(layer.offset)}
        if kind is convnext.LayerScale:
            return {"projection_dim": self.grown(layer.projection_dim)}
        setting = units_of(layer) if weighted(layer) else None
        if setting is None:
            return {}
        name, units = setting
        free = id(layer) in self._scale.outputs
        sizes: dict[str, Any] = {name: self._scale.units if free else self.grown(units)}
        if name == "output_shape":
            sizes[name] = (*layer.partial_output_shape[:-1], sizes[name])
        if depthwise(layer):
            sizes["groups"] = self.grown(layer.groups)
        return sizes

    def _operation(self, operation: KerasOperation, call: Call, path: str) -> Any:
        """A copy of an operation of keras.ops, which leaves the nodes of the original alone."""
        kind = type(operation).__name__
        if self._averages and kind == "MaxPool":
            return partial(
                keras.ops.average_pool,
                pool_size=operation.pool_size,
                strides=operation.strides,
                padding=operation.padding,
                data_format=operation.data_format,
            )
        twin = copy.copy(operation)
        twin._inbound_nodes, twin._outbound_nodes = [], []  # noqa: SLF001
        twin.name = self._name(path)
        if kind == "Split" and not isinstance(operation.indices_or_sections, int):
            ends = channel_ends(call) or operation.indices_or_sections
            growth = self._scale.factor if channel_ends(call) else 1
            twin.indices_or_sections = tuple(int(n * growth) for n in ends)
        if kind == "Reshape":
            twin.newshape = (-1, *self._target(call))
        return twin

    def _target(self, call: Call) -> tuple[int, ...]:
        """Target shape of the copy of a Reshape: channels are on the last axis."""
        *positions, channels = (int(n or 1) for n in call.output)
        return (*positions, self.grown(channels))

    def grown(self, channels: int) -> int:
        """The number of channels of a copy."""
        return int(channels * self._scale.factor)


def _settings(layer: KerasLayer) -> dict[str, Any]:
    """The settings of a layer, with its activation as the function itself.

    A function of the user's own has no name in Keras, which looks for its source to tell of it.
    """
    function = vars(layer).get("activation")
    if not callable(function) or isinstance(function, keras.Layer):
        return dict(layer.get_config())
    kind: Any = type(layer)
    twin = kind.__new__(kind)
    vars(twin).update(vars(layer) | {"activation": keras.activations.linear})
    return {**twin.get_config(), "activation": function}


def first_number(value: Any) -> float:
    """The first number in an array, whose shape has the model's channels."""
    return float(np.asarray(value).flat[0])
