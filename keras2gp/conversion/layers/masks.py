"""Masks of steps: functions of the data, which Keras computes, as weights of positions.

A step that a mask leaves out has the weight 0. Where there is no weight that would do, it is no
number, and a kernel refuses the image. Steps are moved together before, where that changes nothing
but the weights (see graph/packing.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection

from keras import ops

from keras2gp._util.arrays import KerasTensor
from keras2gp.conversion.call import Call, State
from keras2gp.conversion.context import Context
from keras2gp.conversion.tensor import Tensor
from keras2gp.errors import Obstacle
from keras2gp.graph.graph import Graph
from keras2gp.graph.packing import MaskForm, moved_inputs, paths_of_held_states, without_held_states

__all__ = [
    "any_sign",
    "block",
    "block_backwards",
    "last_of_block",
    "last_of_block_backwards",
    "mask_of",
    "moved_together",
    "nonnegative",
    "shares",
    "without_gaps",
]


def mask_of(call: Call, context: Context, place: int) -> Tensor | None:
    """The mask that a layer is called with, by its name or its place among the arguments."""
    mask = call.kwargs.get("mask", call.args[place] if len(call.args) > place else None)
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or not mask.is_data:
        context.refuse("its mask depends on random weights", "a mask of the input itself")
    return mask


def shares(mask: KerasTensor) -> KerasTensor:
    """Weights of a mean over the steps of a mask, times the number of all steps; [N, T]."""
    return mask * mask.shape[1] / ops.sum(mask, axis=1, keepdims=True)


def any_sign(numbers: KerasTensor) -> KerasTensor:
    """The numbers of any sign."""
    return numbers


def nonnegative(numbers: KerasTensor) -> KerasTensor:
    """The numbers; one below 0 is not finite."""
    return numbers / ops.cast(numbers >= 0.0, numbers.dtype)


def block(mask: KerasTensor) -> KerasTensor:
    """The mask, [N, T], if its steps follow one another without a gap."""
    begins = ops.maximum(mask[:, 1:] - mask[:, :-1], 0.0)
    count = ops.sum(begins, axis=1, keepdims=True) + mask[:, :1]
    return mask / ops.cast(count < 1.5, mask.dtype)


def block_backwards(mask: KerasTensor) -> KerasTensor:
    """`block` with the steps from the last to the first."""
    return block(ops.flip(mask, axis=1))


def last_of_block(mask: KerasTensor) -> KerasTensor:
    """The number of all steps at the last one of the mask, 0 at all others; [N, T]."""
    after = ops.pad(mask[:, 1:], ((0, 0), (0, 1)))
    some = ops.max(mask, axis=1, keepdims=True)
    return block(mask) * (1.0 - after) * mask.shape[1] / some


def last_of_block_backwards(mask: KerasTensor) -> KerasTensor:
    """`last_of_block` with the steps from the last to the first."""
    return last_of_block(ops.flip(mask, axis=1))


_BACKWARDS = (block_backwards, last_of_block_backwards)
_MASKS = (shares, block, last_of_block, *_BACKWARDS)


def moved_together(data: KerasTensor, mask: KerasTensor) -> KerasTensor:
    """The steps of data, [N, T, ...], that a mask leaves in, in front; 0 behind them.

    mask: [N, T], of the type of the data
    """
    number = ops.expand_dims(mask * ops.cumsum(mask, axis=1), 1)
    place = ops.expand_dims(ops.cumsum(ops.ones_like(mask), axis=1), 2)
    taken = ops.cast(ops.equal(place, number), data.dtype)
    columns = ops.reshape(data, (-1, data.shape[1], math.prod(data.shape[2:])))
    return ops.reshape(ops.matmul(taken, columns), (-1, *data.shape[1:]))


def without_gaps(
    graph: Graph, state: State, fixed: Collection[int]
) -> tuple[Graph, list[Obstacle]]:
    """The graph on data whose steps are moved together, and states that stand still in a gap.

    fixed: data tensors that are not to be moved, by Input.index
    """
    forms = {
        index: MaskForm(id(mask), form in _BACKWARDS)
        for index, (mask, form) in state.masks.items()
        if form in _MASKS
    }
    masks = {id(mask): mask for mask, form in state.masks.values() if form in _MASKS}
    done = set()
    for number, mask in masks.items():
        moved = moved_inputs(graph, forms, number)
        if not moved or moved & set(fixed):
            continue
        done.add(number)
        weights = ops.cast(mask, state.settings.dtype)
        for index in moved:
            key, data = state.data[index]
            if index in forms:
                form = state.masks[index][1]
                data = ops.expand_dims(form(moved_together(weights, weights)), -1)
            else:
                data = moved_together(ops.cast(data, state.settings.dtype), weights)
            state.data[index] = (key, data)
    graph = without_held_states(graph, done, forms)
    return graph, [_still(path) for path in paths_of_held_states(graph)]


def _still(path: str) -> Obstacle:
    return Obstacle(
        path,
        "states under a mask",
        "at a step that its mask leaves out it repeats the state before, wherever that is, and "
        "what follows takes notice of these steps",
        "recurrences, layers on each step and GlobalAveragePooling1D with that mask after it; "
        "zero_output_for_mask=True, or Bidirectional, which gives zeros there",
    )
