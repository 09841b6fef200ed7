"""Recurrent layers: SimpleRNN, and Bidirectional around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras

from keras2gp._util.keras_objects import KerasLayer
from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.activation import fused, named_activation
from keras2gp.conversion.layers.branches import combined
from keras2gp.conversion.layers.masks import (
    block,
    block_backwards,
    last_of_block,
    last_of_block_backwards,
    mask_of,
)
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.ops import AveragePool, Crop, Flip, Op, Product, Recurrent, Reshape, Sum, Weigh
from keras2gp.graph.packing import HeldStates
from keras2gp.layer_table import LAYERS

__all__ = ["read_bidirectional", "read_simple_rnn"]

_BACKWARDS = Flip((True,))
_MERGED: dict[str, Op] = {"sum": Sum((1.0, 1.0)), "ave": Sum((0.5, 0.5)), "mul": Product()}


def read_simple_rnn(call: Call, context: Context) -> list[Tensor]:
    """Read SimpleRNN: k'[d][t] = b2 + w2 k[d][t] + u2 s[d][t - 1], s the states' covariance."""
    layer, (tensor, mask) = call.operation, _sequence(call, context)
    context.became = f"recurrence over {tensor.shape[0]} steps"
    return _states(layer, tensor, mask, context, "")


def read_bidirectional(call: Call, context: Context) -> list[Tensor]:
    """Read Bidirectional around SimpleRNN: two recurrences, one of them from the last step on."""
    layer = call.operation
    for inner in (layer.forward_layer, layer.backward_layer):
        if type(inner) is not keras.layers.SimpleRNN:
            reason = LAYERS.get(type(inner).__name__, LAYERS["RNN"]).reason
            context.refuse(f"of its {type(inner).__name__}: {reason[0]}", reason[1])
    tensor, mask = _sequence(call, context)
    context.became = f"two recurrences over {tensor.shape[0]} steps"
    forward, *last = _states(layer.forward_layer, tensor, mask, context, "/forward")
    backward, *first = _states(layer.backward_layer, tensor, mask, context, "/backward")
    if layer.return_sequences:
        backward = context.apply(_BACKWARDS, backward)
    return [*_merged(call, [forward, backward], context), *last, *first]


def _merged(call: Call, tensors: list[Tensor], context: Context) -> list[Tensor]:
    """The results of both directions, joined as the layer says, or apart."""
    mode = call.operation.merge_mode
    if mode is None:
        return tensors
    if mode == "concat":
        parts = tuple(part for tensor in tensors for part in tensor.parts)
        return [replace(tensors[0], shape=call.output, parts=parts)]
    return [combined(_MERGED[mode], tensors, context)]


def _sequence(call: Call, context: Context) -> tuple[Tensor, Tensor | None]:
    """The sequence that a recurrent layer goes through, and its mask."""
    layer = call.operation
    stated = [*call.args[1:2], call.kwargs.get("initial_state")]
    if any(value is not None for value in stated):
        context.refuse("its first state is given, and not 0", "no initial_state")
    if layer.stateful:
        context.refuse(
            "its state is kept from one batch to the next, so that the result of an image depends "
            "on others",
            "stateful=False",
        )
    mask = mask_of(call, context, 2)
    return context.with_channels(call.tensors[0], first=False), mask


def _states(
    layer: KerasLayer, tensor: Tensor, mask: Tensor | None, context: Context, suffix: str
) -> list[Tensor]:
    """The states that a recurrence returns, in the order in which it computes them.

    They are those of all steps or of the last, and the last once more if it is asked for.
    """
    if mask is not None and layer.zero_output_for_mask and not layer.return_sequences:
        context.refuse(
            "its result is 0 where its mask leaves out the last step", "zero_output_for_mask=False"
        )
    steps = _recurrence(layer, tensor, mask, context, suffix)
    last = _last(layer, steps, mask, context)
    became = context.became
    states = []
    if layer.return_sequences:
        states.append(fused(layer.activation, steps, context))
        if mask is not None:
            op = Weigh() if layer.zero_output_for_mask else HeldStates()
            states = [context.weighed(states[0], mask, _block(layer), op)]
    if layer.return_state or not layer.return_sequences:
        states += [fused(layer.activation, last, context)] * (2 - len(states))
    name = context.became.removeprefix(became).split(", ")[-1]
    context.became = f"{became}, {name}" if name and name not in became else became
    return states[: 1 + layer.return_state]


def _recurrence(
    layer: KerasLayer, tensor: Tensor, mask: Tensor | None, context: Context, suffix: str
) -> Tensor:
    """All steps of a recurrence before their activations, which are Gaussian."""
    cell, steps = layer.cell, int(tensor.shape[0] or 1)
    shape = (steps, int(layer.units))
    result = context.affine(
        tensor, cell, int(cell.kernel.shape[0]), shape, suffix=f"{suffix}/input"
    )
    if layer.go_backwards:
        result = context.apply(_BACKWARDS, result)
    name, number = context.weights(
        cell, int(layer.units), kernel="recurrent", bias=None, suffix=f"{suffix}/recurrent"
    )
    op = Recurrent(name, number, phi=named_activation(layer.activation, context))
    masks = () if mask is None else (context.weights_of(mask, _block(layer)),)
    add = context.state.builder.add
    return result.map(lambda node: add(op, (node, *masks), context.path), result.shape)


def _block(layer: KerasLayer) -> Any:
    """The mask in the order in which a recurrence takes the steps."""
    return block_backwards if layer.go_backwards else block


def _last(layer: KerasLayer, steps: Tensor, mask: Tensor | None, context: Context) -> Tensor:
    """The last step alone, or the last of each image's mask."""
    count, units = (int(n or 1) for n in steps.shape)
    if mask is not None:
        form = last_of_block_backwards if layer.go_backwards else last_of_block
        steps = context.weighed(steps, mask, form)
        if count > 1:
            steps = context.apply(AveragePool((count,), (1,), ((0, 0),)), steps)
    elif count > 1:
        steps = context.apply(Crop(((count - 1, 0),)), steps)
    return context.apply(Reshape((), 1), steps, (units,))
