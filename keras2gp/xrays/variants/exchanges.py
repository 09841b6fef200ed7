"""Ablations that exchange settings: strides, padding, windows, activations, biases."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import layers

from keras2gp.graph.variances import LayerVariances
from keras2gp.xrays.variants.parts import (
    activation_name,
    calls_of,
    is_activation,
    is_convolution,
    sides_of,
    window_of,
)
from keras2gp.xrays.variants.removals import merges_of
from keras2gp.xrays.variants.wiring import Change, NamedChanges, Visit, Wired, Wiring, is_weighted

__all__ = [
    "activations",
    "biases",
    "paddings",
    "receptive_fields",
    "replace_by",
    "strides",
    "windows",
]

Parameters = Mapping[str, LayerVariances]
_FUNCTIONS = ("relu", "gelu", "tanh")
"""Activations to exchange for: one with a kink, a smooth one, and one that saturates."""
_BIAS = 0.1
"""Bias variance for a model that has none."""


def _change_settings(**settings: Any) -> Change:
    return lambda visit: visit.result(**settings)


def replace_by(layer: Callable[[Visit], Any]) -> Change:
    """Apply another layer to the call's first input."""
    return lambda visit: layer(visit)(visit.inputs[0])


def _convolutions(wirings: Sequence[Wiring]) -> dict[str, Wired]:
    """The convolutions of windows of more than one position."""
    calls = calls_of(wirings, is_convolution)
    return {path: call for path, call in calls.items() if max(window_of(call.operation)) > 1}


def _counted(paths: Collection[str], noun: str = "convolution") -> str:
    """The number of calls, with their noun."""
    return f"{len(paths)} {noun}" + "s" * (len(paths) != 1)


def strides(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[NamedChanges]:
    """All convolutions with stride 1."""
    del parameters
    calls = calls_of(wirings, is_convolution)
    strided = [p for p, call in calls.items() if max(sides_of(call.operation.strides)) > 1]
    changes = dict.fromkeys(strided, _change_settings(strides=1))
    yield "stride 1", f"with stride 1 in {_counted(strided)} that had another", changes


def paddings(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[NamedChanges]:
    """All convolutions with the other padding, and those outside of blocks: merges need sizes."""
    del parameters
    convolutions = _convolutions(wirings)
    blocks = {
        wiring.calls[i].path for wiring in wirings for m in merges_of(wiring) for i in m.block
    }
    for old, new in (("same", "valid"), ("valid", "same")):
        paths = [path for path, call in convolutions.items() if call.operation.padding == old]
        text = f'with padding "{new}" in {_counted(paths)} that had "{old}"'
        yield f"padding {new}", text, dict.fromkeys(paths, _change_settings(padding=new))
        outside = [path for path in paths if path not in blocks]
        if len(outside) < len(paths):
            name, where = f"padding {new} outside of blocks", "outside of blocks with a skip"
            text = f'with padding "{new}" in {_counted(outside)} {where} that had "{old}"'
            yield name, text, dict.fromkeys(outside, _change_settings(padding=new))


def windows(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[NamedChanges]:
    """All windows smaller and larger by two positions."""
    del parameters
    convolutions = _convolutions(wirings)
    for name, step in (("smaller windows", -2), ("larger windows", 2)):
        sizes = {
            path: tuple(max(n + step, 1) if n > 1 else 1 for n in window_of(call.operation))
            for path, call in convolutions.items()
        }
        least = ", 1 at least," if step < 0 else ""
        text = f"with windows {name.split()[0]} by 2{least} in {_counted(sizes)}"
        yield name, text, {path: _change_settings(kernel_size=size) for path, size in sizes.items()}


def receptive_fields(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[NamedChanges]:
    """Convolutions that see one position, and dilated ones."""
    del parameters
    convolutions = _convolutions(wirings)
    is_wide = any(max(window_of(call.operation)) > 3 for call in convolutions.values())
    if is_wide or len(convolutions) > 1:
        text = f"with windows of one position in {_counted(convolutions)}"
        yield "windows of 1", text, dict.fromkeys(convolutions, _change_settings(kernel_size=1))
    unstrided = [
        p for p, call in convolutions.items() if max(sides_of(call.operation.strides)) == 1
    ]
    text = f"with dilation 2 in {_counted(unstrided)} of stride 1"
    yield "dilation 2", text, dict.fromkeys(unstrided, _change_settings(dilation_rate=2))


def activations(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[NamedChanges]:
    """The activations of all hidden layers exchanged, and left out."""
    del parameters
    activated = {
        call.path: call
        for wiring in wirings
        for number, call in enumerate(wiring.calls)
        if wiring.is_hidden(number)
        and (is_activation(call.operation) or is_weighted(call.operation))
        and activation_name(call.operation) != "linear"
    }
    present = Counter(activation_name(call.operation) for call in activated.values())
    others = [name for name in _FUNCTIONS if present and name != present.most_common(1)[0][0]]
    for name in others[:2]:
        text = f"with {name} in the place of {' and '.join(present)}, the variances as they are"
        yield name, text, {path: _change_activation(call, name) for path, call in activated.items()}
    changes = {path: _change_activation(call, "linear") for path, call in activated.items()}
    yield "linear", "without any activation in hidden layers", changes


def _change_activation(call: Wired, name: str) -> Change:
    if is_weighted(call.operation):
        return _change_settings(activation=name)
    return replace_by(lambda visit: layers.Activation(name, name=visit.call.operation.name))


def biases(wirings: Sequence[Wiring], parameters: Parameters) -> Iterator[NamedChanges]:
    """Other variances of all biases."""
    layers_with_bias = calls_of(wirings, lambda o: is_weighted(o) and hasattr(o, "use_bias"))
    present = {
        path: parameters[path].bias
        for path, call in layers_with_bias.items()
        if call.operation.use_bias and path in parameters
    }
    if not any(present.values()):
        text = f"with biases of variance {_BIAS:g} in {_counted(layers_with_bias, 'layer')}"
        yield f"biases {_BIAS:g}", text, dict.fromkeys(layers_with_bias, _change_bias(_BIAS))
        return
    yield (
        "no biases",
        f"without the biases of {_counted(present, 'layer')}",
        dict.fromkeys(present, _change_settings(use_bias=False)),
    )
    for name, factor in (("biases x 4", 4.0), ("biases / 4", 0.25)):
        times = name.removeprefix("biases ")
        text = f"with the bias variances of {_counted(present, 'layer')} {times}"
        yield name, text, {path: _change_bias(factor * b2) for path, b2 in present.items() if b2}


def _change_bias(variance: float) -> Change:
    law = keras.initializers.RandomNormal(stddev=math.sqrt(variance))
    return _change_settings(use_bias=True, bias_initializer=law)
