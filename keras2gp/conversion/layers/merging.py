"""Sums and averages of branches, factors of one branch, and concatenation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.text import numbers_text
from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.branches import (
    combined,
    keep_shape,
    number_of,
    numbers_of,
    summands,
)
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.ops import Axes, Pad, Sum

__all__ = [
    "read_add",
    "read_average",
    "read_concatenate",
    "read_layer_scale",
    "read_rescaling",
    "read_scaled_sum",
    "read_stack",
    "read_subtract",
]


def read_add(call: Call, context: Context) -> Tensor:
    """Read a sum: covariances of independent branches add, equal branches add coefficients."""
    return _sum(call, context, [1.0] * len(call.tensors), _constant(call, context))


def read_subtract(call: Call, context: Context) -> Tensor:
    """Read a difference: a sum in which the second branch has the coefficient -1."""
    count, constant = len(call.tensors), _constant(call, context)
    if count == 2 or isinstance(call.args[0], Tensor):
        return _sum(call, context, [1.0, -1.0][:count], -constant)
    return _sum(call, context, [-1.0], constant)


def read_average(call: Call, context: Context) -> Tensor:
    """Read a mean of n branches: a sum with coefficients 1/n."""
    count = len(call.tensors)
    return _sum(call, context, [1.0 / count] * count)


def read_scaled_sum(call: Call, context: Context) -> Tensor:
    """Read CustomScaleLayer: a branch plus a constant times another."""
    return _sum(call, context, [1.0, number_of(call.operation.scale, context)])


def read_rescaling(call: Call, context: Context) -> Tensor:
    """Read Rescaling of random channels: k' = scale^2 k, and offsets as constants."""
    layer, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    if np.ndim(layer.scale) and np.shape(layer.scale) != (tensor.channels,):
        context.refuse(
            f"its {np.shape(layer.scale)} factors are not one for each of its {tensor.channels} "
            "channels",
            "a single number",
        )
    scaled = context.scaled(tensor, number_of(layer.scale, context))
    return context.shifted(scaled, numbers_of(layer.offset, context))


def read_layer_scale(call: Call, context: Context) -> Tensor:
    """Read LayerScale: one factor for all channels, at its initial value."""
    factor = number_of(call.operation.init_values, context)
    context.note = "at its initial value"
    return context.scaled(context.as_graph_tensor(call.tensors[0]), factor)


def _constant(call: Call, context: Context) -> Array:
    """The number among the terms of a sum, or the array of them; 0 where there is none."""
    values = [*call.args, *call.kwargs.values()]
    constants = [v for v in values if not isinstance(v, Tensor)]
    if isinstance(call.operation, keras.Layer) or not constants:
        return np.zeros(())
    return numbers_of(constants[0], context)  # the other term is a tensor


def _sum(
    call: Call, context: Context, coefficients: list[float], constant: float | Array = 0.0
) -> Tensor:
    terms = _written_out(call, coefficients, context)
    if sum(tensor.is_data for tensor, _ in terms) > 1:
        terms = _with_data_together(terms, context)
        call = replace(call, args=([tensor for tensor, _ in terms],), kwargs={})
        coefficients = [factor for _, factor in terms]
    tensors = summands(call, context)
    keep_shape(call, tensors[0], context)
    context.became = f"sum of {len(tensors)} branches"
    if np.any(constant):
        context.became = f"constant {numbers_text(constant)} added"
    result = _added(tensors, coefficients, context)
    if len(terms) > 1 and any(tensor.is_data for tensor, _ in terms):
        context.state.holding_data[result.parts] = terms
    return context.shifted(result, constant)


Terms = tuple[tuple[Tensor, float], ...]
"""Tensors with a coefficient each."""


def _written_out(call: Call, coefficients: Sequence[float], context: Context) -> Terms:
    """The terms of a sum, with those of sums that hold data in their place.

    Of tensors of one rank alone: Keras adds axes to others in its own way.
    """
    known, terms = context.state.holding_data, list[tuple[Tensor, float]]()
    for tensor, factor in zip(call.tensors, coefficients, strict=True):
        inner = known.get(tensor.parts, ((tensor, 1.0),))
        terms += [(term, factor * c) for term, c in inner]
    same = {len(term.shape) for term, _ in terms} == {len(call.output)}
    return tuple(terms) if same else ()


def _with_data_together(terms: Terms, context: Context) -> Terms:
    """The terms with one tensor of data, whose moments are those of the sum; none if all cancel."""
    random = tuple((term, factor) for term, factor in terms if not term.is_data)
    data = {id(term.data): term for term, _ in terms if term.is_data}
    factors: dict[int, float] = defaultdict(float)
    for term, factor in terms:
        if term.is_data:
            factors[id(term.data)] += factor
    left = [(data[key], factor) for key, factor in factors.items() if factor]
    if len(left) < 2:
        return (*random, *left)
    parts = [
        factor * keras.ops.cast(term.data, context.state.settings.dtype) for term, factor in left
    ]
    whole = sum(parts[1:], parts[0])
    return (*random, (Tensor(tuple(whole.shape[1:]), data=whole), 1.0))


def _added(tensors: Sequence[Tensor], coefficients: Sequence[float], context: Context) -> Tensor:
    """The sum of tensors of one shape."""
    if len(tensors) == 1 and tuple(coefficients) == (1.0,):
        return tensors[0]
    return combined(Sum(tuple(coefficients)), tensors, context)


def read_concatenate(call: Call, context: Context) -> Tensor:
    """Read a concatenation: channel groups side by side, or maps side by side."""
    rank = len(call.output)
    first = rank > 1 and next((t.channel_first for t in call.tensors if not t.is_data), False)
    tensors = [
        context.beside(t, first=first) if t.is_data else context.with_channels(t, first=first)
        for t in call.tensors
    ]
    axis = call.operation.axis % (rank + 1)
    if axis == 0:
        context.refuse("it joins the images of one batch", "an axis of channels")
    channels = 1 if first else rank
    if rank == 1:
        context.became = f"{len(tensors)} vectors joined"
        return _vectors(call, tensors)
    if axis == channels:
        context.became = f"{len(tensors)} groups of channels"
        parts = tuple(part for t in tensors for part in t.parts)
        return replace(tensors[0], shape=call.output, parts=parts)
    context.became = f"{len(tensors)} maps side by side"
    return _side_by_side(call, tensors, axis - (2 if first else 1), context)


def read_stack(call: Call, context: Context) -> Tensor:
    """Read ops.stack along a new axis of positions: maps side by side."""
    tensors = [context.as_graph_tensor(t) for t in call.tensors]
    rank = len(call.output)
    axis = call.operation.axis % (rank + 1) - 1
    plain = not any(t.flat or t.channel_first for t in tensors)
    if not plain or not 0 <= axis < rank - 1:
        single = "a new axis before the channels: keras.ops.stack(tensors, axis=1)"
        if rank == 1:
            single = "sums with keepdims=True, and a Concatenate layer"
        context.refuse(
            "it puts images or channels beside each other along an axis of their own", single
        )
    count = rank - 2
    order = (*range(axis), count, *range(axis, count))
    shape = (*call.output[:axis], 1, *call.output[axis + 1 :])
    placed = [context.apply(Axes(order, count), t, shape) for t in tensors]
    context.became = f"{len(tensors)} maps side by side"
    return _side_by_side(call, placed, axis, context)


def _vectors(call: Call, tensors: list[Tensor]) -> Tensor:
    flat = any(t.flat for t in tensors)
    pieces: tuple[tuple[int, bool], ...] = ()
    for tensor in tensors:
        pieces += tensor.pieces or ((len(tensor.parts), tensor.channel_first),)
    parts = tuple(part for t in tensors for part in t.parts)
    return Tensor(call.output, parts, flat=flat, pieces=pieces if flat else ())


def _side_by_side(call: Call, tensors: list[Tensor], axis: int, context: Context) -> Tensor:
    """Maps joined along a spatial axis: each with zeros where the others are, added up."""
    lengths = [context.spatial(t)[axis] for t in tensors]
    rank = len(context.spatial(tensors[0]))
    padded = []
    for number, tensor in enumerate(tensors):
        around = [(0, 0)] * rank
        around[axis] = (sum(lengths[:number]), sum(lengths[number + 1 :]))
        padded.append(context.apply(Pad(tuple(around)), tensor, call.output))
    return _added(padded, [1.0] * len(padded), context)
