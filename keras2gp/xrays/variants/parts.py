"""The parts that an ablation takes out or changes: which call of a model is what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
from keras import layers

from keras2gp._util.keras_objects import KerasOperation
from keras2gp.xrays.variants.wiring import CONVOLUTIONS, Wired, Wiring

__all__ = [
    "activation_name",
    "branches",
    "calls_of",
    "is_activation",
    "is_attached",
    "is_convolution",
    "is_global_pooling",
    "is_merge",
    "is_normalization",
    "is_pooling",
    "sides_of",
    "signature",
    "unit",
    "window_of",
]

_RANKS = (1, 2, 3)
_NORMALIZATIONS = (
    *(layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization),
    *(layers.RMSNormalization, layers.UnitNormalization),
)
_ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU)
_FUNCTIONS = (
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Silu", "Gelu", "Tanh", "Sigmoid"),
    *("Softplus", "Softsign", "Mish", "HardSigmoid", "HardSilu", "HardTanh", "Erf", "Sin", "Cos"),
)
"""Operations that are activations: `keras.ops.relu(x)` in a functional graph is a call of one."""
_POOLINGS = tuple(
    getattr(layers, f"{kind}Pooling{rank}D") for kind in ("Average", "Max") for rank in _RANKS
)
_GLOBAL = tuple(
    getattr(layers, f"Global{kind}Pooling{rank}D") for kind in ("Average", "Max") for rank in _RANKS
)
_IDLE = (layers.Dropout, layers.Identity, layers.SpatialDropout1D, layers.SpatialDropout2D)
_NAMELESS = frozenset({"name", "seed", "seed_generator", "noise_shape", "trainable", "dtype"})


def is_convolution(operation: KerasOperation) -> bool:
    """Whether it is a convolution whose window and padding can be changed."""
    return isinstance(operation, CONVOLUTIONS)


def is_normalization(operation: KerasOperation) -> bool:
    """Whether it is one of Keras's layers that normalise by a mean, a variance or a norm."""
    return isinstance(operation, _NORMALIZATIONS)


def is_activation(operation: KerasOperation) -> bool:
    """Whether it is an activation that stands alone, a layer or a function."""
    return isinstance(operation, _ACTIVATIONS) or _is_function(operation)


def _is_function(operation: KerasOperation) -> bool:
    return not isinstance(operation, keras.Layer) and type(operation).__name__ in _FUNCTIONS


def is_attached(call: Wired) -> bool:
    """Whether it is an activation, a normalisation or a dropout of one tensor."""
    operation = call.operation
    kinds = is_activation(operation), is_normalization(operation), isinstance(operation, _IDLE)
    return any(kinds) and len(call.sources) == 1


def is_pooling(operation: KerasOperation) -> bool:
    """Whether it is a pooling over windows."""
    return isinstance(operation, _POOLINGS)


def is_global_pooling(operation: KerasOperation) -> bool:
    """Whether it is a pooling over all positions."""
    return isinstance(operation, _GLOBAL)


def is_merge(operation: KerasOperation) -> bool:
    """Whether it adds or concatenates."""
    return isinstance(operation, layers.Add | layers.Concatenate) or (
        not isinstance(operation, keras.Layer)
        and type(operation).__name__ in ("Add", "Concatenate")
    )


def activation_name(operation: KerasOperation) -> str:
    """The name of the function that a layer applies; "linear" for none."""
    function = getattr(operation, "activation", None)
    if isinstance(operation, layers.ReLU):
        plain = operation.max_value is None and not operation.negative_slope
        return "relu" if plain else "clipped relu"
    if function is None:
        return type(operation).__name__.lower() if is_activation(operation) else "linear"
    return str(getattr(function, "__name__", type(function).__name__))


def calls_of(wirings: Sequence[Wiring], wanted: Callable[[Any], bool]) -> dict[str, Wired]:
    """The calls of the operations that `wanted` accepts, by path."""
    calls = (call for wiring in wirings for call in wiring.calls)
    return {call.path: call for call in calls if wanted(call.operation)}


def window_of(operation: KerasOperation) -> tuple[int, ...]:
    """The window of a convolution."""
    return tuple(int(n) for n in operation.kernel_size)


def branches(wiring: Wiring, number: int) -> list[frozenset[int]]:
    """The calls of each branch of a merge, from the fork on; empty for the forked tensor itself."""
    paths = [wiring.ancestors[i] if i >= 0 else frozenset() for i in wiring.calls[number].sources]
    common = frozenset.intersection(*paths)
    return [path - common for path in paths]


def unit(wiring: Wiring, number: int) -> tuple[int, ...]:
    """A layer with weights, and the normalisations and activations that it alone feeds."""
    chain = [number]
    while len(readers := wiring.readers[chain[-1]]) == 1:
        reader = wiring.calls[readers[0]]
        if not is_attached(reader):
            break
        chain.append(readers[0])
    return tuple(chain)


def sides_of(setting: Any) -> tuple[int, ...]:
    """A setting of Keras's that is one number for all axes, or one for each."""
    return (setting,) if isinstance(setting, int) else tuple(setting)


def signature(calls: Iterable[Wired]) -> str:
    """A text that is the same for calls of the same kinds and settings on maps of the same size."""
    parts = []
    for call in calls:
        operation, config = call.operation, {}
        if isinstance(operation, keras.Layer):
            config = {k: v for k, v in operation.get_config().items() if k not in _NAMELESS}
        parts.append([type(operation).__name__, list(call.shape), config])
    return json.dumps(parts, sort_keys=True, default=str)
