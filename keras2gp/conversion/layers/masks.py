"""Masks of steps: functions of the data, which Keras computes, as weights of positions.

A step that a mask leaves out has the weight 0. Where there is no weight that would do, it is no
number, and a kernel refuses the image.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from keras2gp.conversion.context import Call, Context
from keras2gp.conversion.tensor import Tensor

__all__ = [
    "block",
    "block_backwards",
    "from_zero",
    "last_of_block",
    "last_of_block_backwards",
    "mask_of",
    "shares",
]


def mask_of(call: Call, context: Context, place: int) -> Tensor | None:
    """The mask that a layer is called with, by its name or its place among the arguments."""
    mask = call.kwargs.get("mask", call.args[place] if len(call.args) > place else None)
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or not mask.is_data:
        context.refuse("its mask depends on random weights", "a mask of the input itself")
    return mask


def shares(mask: Any) -> Any:
    """Weights of a mean over the steps of a mask, times the number of all steps; [N, T]."""
    return mask * mask.shape[1] / ops.sum(mask, axis=1, keepdims=True)


def from_zero(numbers: Any) -> Any:
    """The numbers; one below 0 is not finite."""
    return numbers / ops.cast(numbers >= 0.0, numbers.dtype)


def block(mask: Any) -> Any:
    """The mask, [N, T], if its steps follow one another without a gap."""
    begins = ops.maximum(mask[:, 1:] - mask[:, :-1], 0.0)
    count = ops.sum(begins, axis=1, keepdims=True) + mask[:, :1]
    return mask / ops.cast(count < 1.5, mask.dtype)


def block_backwards(mask: Any) -> Any:
    """The same from the last step to the first."""
    return block(ops.flip(mask, axis=1))


def last_of_block(mask: Any) -> Any:
    """The number of all steps at the last one of the mask, 0 at all others; [N, T]."""
    after = ops.pad(mask[:, 1:], ((0, 0), (0, 1)))
    some = ops.max(mask, axis=1, keepdims=True)
    return block(mask) * (1.0 - after) * mask.shape[1] / some


def last_of_block_backwards(mask: Any) -> Any:
    """The same from the last step to the first."""
    return last_of_block(ops.flip(mask, axis=1))
