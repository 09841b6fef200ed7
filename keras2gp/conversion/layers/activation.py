"""Activations: fused `activation=`, activation layers, and keras.ops functions of one tensor.

An activation carries the name that Keras gives the function. Whether it has a dual activation is
decided later, by covariance/duals: a new dual needs nothing here.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Hashable
from typing import Any

import keras

from keras2gp._util.keras_objects import KerasLayer, KerasOperation
from keras2gp.conversion.call import Call, RefusalError
from keras2gp.conversion.context import Context
from keras2gp.conversion.initial_values import initial_constant
from keras2gp.conversion.tensor import Tensor
from keras2gp.errors import InputError
from keras2gp.graph.ops import Activation
from keras2gp.graph.ops.channels import OVER_AXES

__all__ = [
    "bounded",
    "fused",
    "named_activation",
    "read_activation_layer",
    "read_log",
    "read_operation",
]

_CLOSED = frozenset({"abs", "absolute", "cos", "erf", "exp", "sin", "square"})
"""Functions of keras.ops that have closed forms, and would be expanded as a user's own."""


def named_activation(function: Any, context: Context) -> Activation:
    """The activation of a Keras function, from `keras.activations` or a user's own."""
    if function is None:
        return Activation("linear")
    if isinstance(function, keras.Layer):
        return layer_activation(function, context)
    name = _name_of(function)
    if name in _CLOSED and getattr(keras.ops, name) is function:
        return Activation(name)
    if not callable(function) or getattr(keras.activations, name, None) is not function:
        return _own(function, name, context)
    parameters = list(inspect.signature(getattr(keras.activations, name)).parameters.values())
    unstated = [p.name for p in parameters[1:] if p.default is p.empty]
    if unstated:
        context.refuse(
            f"its activation {name!r} needs {' and '.join(unstated)}, which nothing states: Keras "
            "cannot call it either",
            f"keras.ops.{name} with its arguments, called on the tensor",
        )
    defaults = {
        parameter.name: parameter.default
        for parameter in parameters
        if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
    }
    if name == "softmax":
        defaults = {}
    if name == "glu":
        context.refuse(
            "it halves the channels, and Keras states as many behind this activation as before it, "
            "so that no further layer fits",
            "keras.ops.glu, called on the tensor",
        )
    return _canonical(name, defaults)


def _own(function: Any, name: str, context: Context) -> Activation:
    """The activation of a function that the user wrote."""
    hint = "an activation of keras.activations, or activations={name: function}"
    own = context.state.settings.activations
    if not callable(function) or own is None:
        context.refuse(f"its activation {name!r} is not one of Keras's", hint)
    function, names = _with_names(function)
    try:
        return own.activation(function, names)
    except InputError as error:
        context.refuse(f"its activation is not one of Keras's: {error}", hint)


def _with_names(function: Any) -> tuple[Any, list[str]]:
    """A function of the user's that has a hash, and the names under which it may be stated."""
    name = _name_of(function)
    try:
        registered = keras.saving.get_registered_name(function)
    except (AttributeError, TypeError):  # functools.partial, or an object with a call of its own
        registered = name
    if not isinstance(function, Hashable):  # its method is, by the object's identity
        function = function.__call__
    return function, [registered, name]


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def fused(function: Any, tensor: Tensor, context: Context) -> Tensor:
    """Apply the `activation=` of a layer to its result."""
    applied = _applied(function, tensor, context)
    if isinstance(applied, Tensor):
        context.became += ", a function of its own"
        return applied
    if applied.name != "linear":
        context.became += f", {applied.name}"
    return context.activated(applied, tensor)


def _applied(function: Any, tensor: Tensor, context: Context) -> Activation | Tensor:
    """The activation of a function; or its result, by the calls of operations that it makes.

    A user's function is expanded where weights follow. At the output, and where it cannot be
    expanded, its calls tell what it is.
    """
    own = _users(function, context)
    if own and context.state.at_output:
        result = context.state.by_calls(function, tensor, context.path)
        if result is not None:
            return result
    try:
        return named_activation(function, context)
    except RefusalError:
        result = context.state.by_calls(function, tensor, context.path) if own else None
        if result is None:
            raise
        return result


def _users(function: Any, context: Context) -> bool:
    """Whether a function is the user's, and nothing is stated of it."""
    own = context.state.settings.activations
    if not callable(function) or isinstance(function, keras.Layer) or own is None:
        return False
    known = getattr(keras.activations, _name_of(function), None) is function
    return not known and not own.knows(*_with_names(function))


def _canonical(name: str, params: dict[str, float]) -> Activation:
    """One name for one function: relu with a slope is leaky_relu, without a bound no parameters."""
    if name == "relu":
        slope = params.get("negative_slope", 0.0)
        if params.get("max_value", math.inf) == math.inf and params.get("threshold", 0.0) == 0.0:
            return Activation("relu") if slope == 0.0 else _with("leaky_relu", negative_slope=slope)
        name = "clipped_relu"
    return _with(name, **params)


def _with(name: str, **params: float) -> Activation:
    return Activation(name, tuple(sorted((key, float(value)) for key, value in params.items())))


def bounded(bound: float) -> Activation:
    """relu with an upper bound."""
    return _canonical("relu", {"negative_slope": 0.0, "threshold": 0.0, "max_value": bound})


def layer_activation(layer: KerasLayer, context: Context) -> Activation:
    """The activation that an activation layer computes."""
    kind = type(layer)
    if kind is keras.layers.Activation:
        return named_activation(layer.activation, context)
    if kind not in _LAYERS:
        context.refuse("an activation layer that is not Keras's own", "a reader of your own")
    return _LAYERS[kind](layer, context)


def _relu(layer: KerasLayer, context: Context) -> Activation:
    del context
    params = {"negative_slope": layer.negative_slope, "threshold": layer.threshold}
    if layer.max_value is not None:
        params["max_value"] = layer.max_value
    return _canonical("relu", params)


def _prelu(layer: KerasLayer, context: Context) -> Activation:
    """PReLU draws no weights: its slope is taken at its initial value, one constant."""
    slope = initial_constant(layer.alpha_initializer)
    if slope is None:
        context.refuse("its slopes do not start from one constant", "a LeakyReLU layer")
    context.note = f"at its initial slope {slope:g}"
    return _canonical("relu", {"negative_slope": slope})


_LAYERS: dict[type, Callable[[Any, Context], Activation]] = {
    keras.layers.ReLU: _relu,
    keras.layers.PReLU: _prelu,
    keras.layers.LeakyReLU: lambda layer, _: _canonical(
        "relu", {"negative_slope": layer.negative_slope}
    ),
    keras.layers.ELU: lambda layer, _: _with("elu", alpha=layer.alpha),
    keras.layers.Softmax: lambda _layer, _: Activation("softmax"),
}


def read_activation_layer(call: Call, context: Context) -> Tensor:
    """Read an activation layer."""
    layer, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    if type(layer) is keras.layers.Activation:
        activation = _applied(layer.activation, tensor, context)
        if isinstance(activation, Tensor):
            context.became = "a function of its own"
            return activation
    else:
        activation = layer_activation(layer, context)
    context.became = activation.name
    return context.activated(_along_axis(activation, call.operation, tensor), tensor)


def _along_axis(activation: Activation, operation: KerasOperation, tensor: Tensor) -> Activation:
    """The activation; of a softmax over positions, one that says so."""
    axis = getattr(operation, "axis", None)
    if activation.name not in OVER_AXES or axis is None:
        return activation
    rank = len(tensor.shape) + 1
    channels = 1 if tensor.channel_first else rank - 1
    axes = {a % rank for a in (axis if isinstance(axis, list | tuple) else [axis])}
    over = axes != {channels} or tensor.flat or tensor.channels == 1
    return _with(activation.name, positions=1.0) if over else activation


def read_operation(call: Call, context: Context) -> Tensor:
    """Read an activation that is written as a keras.ops function."""
    operation = call.operation
    name = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", type(operation).__name__).lower()
    params = {
        key: value
        for key in ("negative_slope", "alpha", "threshold", "default_value", "b", "max_value")
        if isinstance(value := getattr(operation, key, None), int | float)
    }
    if name == "heaviside":
        params = {"at_zero": _second_number(call, context)}
    if name == "gelu" and getattr(operation, "approximate", False):
        name = "gelu_tanh"
    activation = _canonical(name, params)
    context.became = activation.name
    tensor = context.as_graph_tensor(call.tensors[0])
    return context.activated(_along_axis(activation, operation, tensor), tensor)


def read_log(call: Call, context: Context) -> Tensor:
    """Read the logarithm of a softmax or sigmoid, which is an activation of its own."""
    tensor = context.as_graph_tensor(call.tensors[0])
    nodes = context.state.builder.nodes
    names = {getattr(nodes[part.node].op, "name", "") for part in tensor.parts}
    name = names.pop() if len(names) == 1 else ""
    if name not in ("sigmoid", "softmax"):
        context.refuse(
            "the logarithm of a random variable is not finite at 0 and below, and one of a clipped "
            "variable jumps there too steeply for the series here",
            "the logarithm of a softmax or sigmoid; softplus, log1p of exp or another function of "
            "any number",
        )
    context.became = f"log_{name}"
    argument = tensor.map(lambda node: nodes[node].inputs[0], tensor.shape)
    return context.activated(Activation(f"log_{name}"), argument)


def _second_number(call: Call, context: Context) -> float:
    value = call.args[1] if len(call.args) > 1 else call.kwargs.get("x2")
    if not isinstance(value, int | float):
        context.refuse("its second argument is not a number", "a constant")
    return float(value)
