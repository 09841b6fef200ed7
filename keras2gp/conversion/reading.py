"""Reads one call: run by Keras where it is of data alone, else by the reader of its layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras2gp._util.keras_objects import KerasOperation
from keras2gp.conversion.call import Call, RefusalError
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.windows import beside_each_other
from keras2gp.conversion.on_data import run_by_keras
from keras2gp.conversion.registry import entry_of, is_deterministic
from keras2gp.conversion.tensor import Tensor
from keras2gp.layer_table import NO_RULE

__all__ = ["is_data", "of_each_step", "read_call", "with_data_of_constants"]

_JOINS = frozenset({"Concatenate", "Stack"})
"""Operations that join tensors, and constants."""


def of_each_step(operation: KerasOperation, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The layer inside of TimeDistributed that acts on the last axis alone; else the operation."""
    if type(operation) is not keras.layers.TimeDistributed:
        return operation, kwargs
    entry = entry_of(operation.layer)
    if entry is None or not entry.on_last_axis or operation.layer._call_has_mask_arg:  # noqa: SLF001
        return operation, kwargs
    return operation.layer, {key: value for key, value in kwargs.items() if key != "mask"}


def is_data(call: Call) -> bool:
    """Whether a call is of data alone."""
    return bool(call.tensors) and all(t.is_data for t in call.tensors)


def read_call(call: Call, context: Context, *, training: bool) -> list[Tensor]:
    """The results of a call; refuses it where there is no reader or the reader refuses."""
    if is_data(call) and is_deterministic(call.operation):
        return run_by_keras(call, context)
    if call.untraced is not None:
        weightless = not call.operation.trainable_variables
        if context.state.tracer.live and is_data(call) and weightless:
            return run_by_keras(call, context)
        context.refuse(str(call.untraced), call.untraced.hint, by_shape=False)
    read = context.state.settings.readers.reader_of(call.operation)
    entry = entry_of(call.operation)
    if read is None:
        context.refuse(*(entry.reason if entry else NO_RULE), by_shape=False)
    inherits = training and getattr(call.operation, "_call_has_training_arg", False)
    ignores = entry is not None and entry.ignores_training
    if (call.kwargs.get("training") or inherits) and not ignores:
        context.refuse(
            "it is called with training=True, which makes it random or dependent on the batch",
            "calling it without training=True",
            by_shape=False,
        )
    units = next((t.units for t in call.tensors if t.units), None)
    if units is not None and (entry is None or not entry.unitwise):
        raise RefusalError(units.why, units.hint, by_shape=True, obstacle=units)
    result = read(_with_flattened_steps(call, context), context)
    return result if isinstance(result, list) else [result]


def with_data_of_constants(call: Call, context: Context) -> Call:
    """A call that joins tensors, with its constants as tensors of data: channels of CoordConv.

    Also a layer's call on constants alone, such as the numbers of positions.

    Raises: RefusalError for constants of several images.
    """
    alone = isinstance(call.operation, keras.Layer) and not call.tensors
    if type(call.operation).__name__ not in _JOINS and not alone:
        return call

    def as_data(value: Any) -> Any:
        is_array = isinstance(value, np.ndarray) or keras.ops.is_tensor(value)
        return context.data_of(value) if is_array else value

    args, kwargs = (_of_each(value, as_data) for value in (call.args, call.kwargs))
    return replace(call, args=args, kwargs=kwargs)


def _with_flattened_steps(call: Call, context: Context) -> Call:
    """The call; with the mean covariance, or groups of channels, of what each step flattened."""
    entry = entry_of(call.operation)
    if not any(t.kept for t in call.tensors) or (entry is not None and entry.keeps_steps):
        return call
    form = context.over_positions if entry is not None and entry.sums_over_steps else None

    def as_read(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.kept:
            return value
        return form(value) if form else beside_each_other(value, context)

    args, kwargs = (_of_each(value, as_read) for value in (call.args, call.kwargs))
    return replace(call, args=args, kwargs=kwargs)


def _of_each(value: Any, function: Callable[[Any], Any]) -> Any:
    """A function of each of the values within lists, tuples and dicts."""
    if isinstance(value, list | tuple):
        return type(value)(_of_each(item, function) for item in value)
    if isinstance(value, dict):
        return {key: _of_each(item, function) for key, item in value.items()}
    return function(value)
