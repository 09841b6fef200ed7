"""Widened copies of a Keras model: the same layers in the same graph, with other channel counts."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras.src.applications import convnext

from keras2gp._util.text import quoted_text
from keras2gp.conversion.call import Call
from keras2gp.conversion.initial_values import initial_constants
from keras2gp.conversion.priors import bias_mean
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.tracing import Tracer
from keras2gp.errors import GraphError, WideningError
from keras2gp.graph.variances import LayerVariances
from keras2gp.verification.costs import Scale
from keras2gp.verification.layers import (
    StepByStep,
    channel_ends,
    channel_index,
    depthwise,
    drawn_weights,
    entries_of,
    growth_over_channels,
    recurrent,
    recurrent_layers,
    separable,
    separated,
    units_of,
    weighted,
)
from keras2gp.verification.survey import Random, state_of_copies
from keras2gp.verification.taps import Copied, Taps

__all__ = ["Widened", "deviations"]

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


class Widened(StepByStep):
    """A walk through a model that calls a copy of each layer, with the sizes of `scale`.

    The result is `model`. Its first output is the kernel's; the others are the tensors of `taps`,
    one after the other.

    Args:
        functional: The Keras model.
        scale: The sizes of the copy.
        parameters: The kernel's variances. Layers with weights that are not in them have no effect
            on the output.
        output: Path of the call whose result the kernel is of, without a softmax that is removed.
        averages: Whether max pooling is read as average pooling.
        tracer: Has traced the user's code in the model.
        trained_until: As for convert().
        layers: As for convert().
        removed: Path of an activation before the output that is left out; "" for none.
        bias_means: Paths of the layers whose biases have a mean in the kernel.

    Raises:
        WideningError: Keras cannot build the copy.
    """

    def __init__(
        self,
        functional: Any,
        scale: Scale,
        parameters: Mapping[str, LayerVariances],
        output: str,
        *,
        averages: bool,
        tracer: Tracer | None = None,
        trained_until: str | None = None,
        layers: Mapping[Any, Any] | None = None,
        removed: str = "",
        bias_means: Collection[str] = (),
    ) -> None:
        self.scale = scale
        self.output = output
        self.removed = removed
        self.bias_means = bias_means
        self.averages = averages
        self.parameters = parameters
        self.drawn: dict[str, Any] = {}
        self._notes = Taps()
        self._copies: dict[int, Any] = {}
        self._surrounded: set[int] = set()
        self._paths: dict[int, str] = {}
        super().__init__(functional, state_of_copies(tracer, trained_until, layers), {})
        result = self.results[output].data
        self.taps = self._notes.of_model(keras.Model(self.inputs, result))
        tensors = [tensor for tap in self.taps for tensor in tap.tensors]
        self.model = keras.Model(self.inputs, [result, *tensors])

    def _single(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        random = [t for t in call.tensors if isinstance(t, Random)]
        if self.cut.active or (not random and not weighted(call.operation)):
            return self._plain(call, path, count, shapes)
        name = self._paths.setdefault(id(call.operation), path)
        if any(t.dead for t in random) or self._is_unknown(call.operation, name):
            return [Random(tuple(shape), dead=True) for shape in shapes]
        try:
            results = (
                self._weights(call, path, name)
                if weighted(call.operation)
                else self._between(call, path)
            )
        except (ValueError, TypeError) as error:
            kind = type(call.operation).__name__
            raise WideningError(
                f"{path} ({kind}): Keras cannot build it with {float(self.scale.factor):g} times "
                f"the channels: {quoted_text(error)}"
            ) from error
        return results

    def _folded(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, Copied):
            return super()._folded(tensor)
        return self._notes.between(None, [tensor], super()._folded(tensor).data)

    def _unfolded(self, tensor: Tensor, steps: int) -> Tensor:
        if not isinstance(tensor, Copied):
            return super()._unfolded(tensor, steps)
        return self._notes.between(None, [tensor], super()._unfolded(tensor, steps).data)

    def _is_unknown(self, operation: Any, name: str) -> bool:
        return weighted(operation) and entries_of(name).isdisjoint(self.parameters)

    def _weights(self, call: Call, path: str, name: str) -> list[Tensor]:
        """Call the copies of a layer with weights, one for each of its kernels."""
        operation, source = call.operation, call.tensors[0]
        if recurrent(operation):
            return self._recurrent(call, path, name)
        key = id(operation)
        if key not in self._copies:
            self._copies[key] = self._by_suffix(call, path)
            self.drawn |= {name + suffix: layer for suffix, layer in self._copies[key].items()}
        result = source
        for suffix, layer in self._copies[key].items():
            data = layer(result.data)
            variances = self.parameters[name + suffix]
            drawn = [(w, w.deviation(variances)) for w in drawn_weights(layer)]
            apart = self.depth > 0  # controls are of images, and these are of steps
            result = self._notes.weights(layer, drawn, result, data, apart=apart)
        if name in self.bias_means:  # weights are drawn about 0
            moved = result.data + _first(bias_mean(operation))
            result = self._notes.between(None, [result], moved)
        # The function itself is handed on, since a function of the user's own has no name in Keras.
        # The kernel is that of a Gaussian output: an activation in the output's layer was removed.
        function = getattr(operation, "activation", keras.activations.linear)
        if path not in (self.output, self.removed) and function is not keras.activations.linear:
            activation = keras.layers.Activation(function)
            result = self._notes.between(activation, [result], activation(result.data))
        return [result]

    def _recurrent(self, call: Call, path: str, name: str) -> list[Tensor]:
        """Call the copy of a recurrent layer."""
        operation, (source, *masks) = call.operation, call.tensors
        if path in (self.output, self.removed):
            raise WideningError(
                f"{path}: its last activation is left out at the output, and Keras gives no state "
                "before it. Try: a Dense layer after it"
            )
        key = id(operation)
        if key not in self._copies:
            directions = []
            for layer in recurrent_layers(operation).values():
                config = layer.get_config()
                config |= {each: "zeros" for each in _INITIALIZERS if each in config}
                config |= {"units": self._grown(layer.units), "dtype": self.state.dtype}
                # The function itself, since a function of the user's own has no name in Keras.
                config |= {"activation": layer.activation, "name": f"{len(self._copies)}_rnn"}
                directions.append(type(layer).from_config(config))
            self._copies[key] = directions[0]
            if len(directions) > 1:
                self._copies[key] = keras.layers.Bidirectional(
                    directions[0], operation.merge_mode, backward_layer=directions[1]
                )
        copy = self._copies[key]
        results = copy(source.data, mask=masks[0].data if masks else None)
        results = results if isinstance(results, list | tuple) else [results]
        for suffix, layer in recurrent_layers(copy).items():
            self.drawn |= {f"{name}{suffix}/{part}": layer for part in ("input", "recurrent")}
        return [self._notes.recurrent(copy, source, result) for result in results]

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

    def _between(self, call: Call, path: str) -> list[Tensor]:
        """Call the copy of an operation without random weights."""
        if path == self.removed:
            return list(call.tensors)
        operation = call.operation
        key = id(operation)
        if key not in self._copies:
            self._copies[key] = self._copy(call, path)
        args, kwargs = (self._value(v, call) for v in (call.args, call.kwargs))
        kwargs.pop("training", None)
        if index := channel_index(call):
            place, channels = index
            keys = list(args[1])
            keys[place] = slice(self._grown(channels.start), self._grown(channels.stop))
            args = (args[0], tuple(keys))
        if args and id(args[0]) in self._surrounded:
            results = _inside(self._copies[key], args[0])
        else:
            results = self._copies[key](*args, **kwargs)
        if type(operation).__name__ == "Pad" and -math.inf in (*args[1:], *kwargs.values()):
            self._surrounded.add(id(results))
        if power := growth_over_channels(call):
            results = results * float(self.scale.factor) ** -power
        results = results if isinstance(results, list | tuple) else [results]
        return [self._notes.between(self._copies[key], call.tensors, t) for t in results]

    def _copy(self, call: Call, path: str) -> Any:
        operation = call.operation
        if not isinstance(operation, keras.Layer):
            return self._operation(operation, call, path)
        kind = type(operation)
        if self.averages and kind in _AVERAGES:
            kind = _AVERAGES[kind]
        return kind.from_config(self._config(call, path))

    def _config(self, call: Call, path: str) -> dict[str, Any]:
        """The settings of a layer's copy."""
        config: dict[str, Any] = call.operation.get_config()
        config |= {"name": self._name(path), "dtype": self.state.dtype, "trainable": True}
        config |= dict.fromkeys({"lora_alpha", "lora_rank"} & config.keys())
        for key in _CONSTANTS & config.keys():
            values = initial_constants(getattr(call.operation, key))
            if values is None and key == "gamma_initializer" and call.operation.gamma is not None:
                raise WideningError(f"{path}: its gamma is random, and copies have one that is not")
            if values is not None:  # the first of several, since the channels grow
                config[key] = keras.initializers.Constant(_first(values))
        return config | self._sizes(call)

    def _name(self, path: str) -> str:
        """The name of the next copy, which no other has."""
        return f"{len(self._copies)}_{re.sub(r'[^A-Za-z0-9_.-]', '_', path)}"

    def _sizes(self, call: Call) -> dict[str, Any]:
        """The settings of a layer that change with the number of channels."""
        layer = call.operation
        kind = type(layer)
        if kind is keras.layers.Reshape:
            return {"target_shape": self._target(call)}
        if kind is keras.layers.Rescaling:
            return {"scale": _first(layer.scale), "offset": _first(layer.offset)}
        if kind is convnext.LayerScale:
            return {"projection_dim": self._grown(layer.projection_dim)}
        setting = units_of(layer) if weighted(layer) else None
        if setting is None:
            return {}
        name, units = setting
        free = id(layer) in self.scale.outputs
        sizes: dict[str, Any] = {name: self.scale.units if free else self._grown(units)}
        if name == "output_shape":
            sizes[name] = (*layer.partial_output_shape[:-1], sizes[name])
        if depthwise(layer):
            sizes["groups"] = self._grown(layer.groups)
        return sizes

    def _operation(self, operation: Any, call: Call, path: str) -> Any:
        """A copy of an operation of keras.ops, which leaves the nodes of the original alone."""
        kind = type(operation).__name__
        if self.averages and kind == "MaxPool":
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
            growth = self.scale.factor if channel_ends(call) else 1
            twin.indices_or_sections = tuple(int(n * growth) for n in ends)
        if kind == "Reshape":
            twin.newshape = (-1, *self._target(call))
        return twin

    def _target(self, call: Call) -> tuple[int, ...]:
        """Target shape of the copy of a Reshape: channels are on the last axis."""
        *positions, channels = (int(n or 1) for n in call.output)
        return (*positions, self._grown(channels))

    def _grown(self, channels: int) -> int:
        return int(channels * self.scale.factor)

    def _value(self, value: Any, call: Call) -> Any:
        """An argument of the copy's call: a tensor's copy, or the number in a constant array."""
        if isinstance(value, Tensor):
            joined = type(call.operation).__name__ == "Concatenate"
            grows = joined and not isinstance(value, Random) and len(call.tensors) > 1
            return self._repeated(value.data, call) if grows else value.data
        if isinstance(value, list | tuple):
            return type(value)(self._value(v, call) for v in value)
        if isinstance(value, dict):
            return {key: self._value(v, call) for key, v in value.items()}
        if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
            listed = type(call.operation).__name__ in ("Take", "Matmul")  # of positions
            return value if listed else _first(value)
        return value

    def _repeated(self, data: Any, call: Call) -> Any:
        """The data beside random channels, each channel repeated as often as those have grown.

        The kernel depends on means over channels, which repetition keeps.
        """
        times = int(self.scale.factor)
        return keras.ops.concatenate([data] * times, axis=call.operation.axis)


def _inside(pooling: Any, x: Any) -> Any:
    """The average over what is finite in each window of an average pooling."""
    finite = keras.ops.isfinite(x)
    total = pooling(keras.ops.where(finite, x, 0.0))
    return total / pooling(keras.ops.cast(finite, x.dtype))


def deviations(widened: Widened) -> list[float | None]:
    """Standard deviations of the model's trainable variables; None for those that are not drawn.

    Variables that are not drawn are scales, slopes and the like, which the kernel takes at their
    initial values.
    """
    by_variable = {}
    for name, layer in widened.drawn.items():
        for weight in drawn_weights(layer, name):
            variances = widened.parameters[name]
            by_variable[id(weight.variable)] = weight.deviation(variances)
    variables = widened.model.trainable_variables
    drawn = sum(id(v) in by_variable for v in variables)
    if drawn != len(by_variable):
        raise GraphError(
            f"{len(by_variable)} weights are to be drawn, and the copy has {drawn} of them"
        )
    return [by_variable.get(id(v)) for v in variables]


def _first(value: Any) -> float:
    """The first number in an array, whose shape has the model's channels."""
    return float(np.asarray(value).flat[0])
