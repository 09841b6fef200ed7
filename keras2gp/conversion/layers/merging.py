"""Sums, differences and averages of branches, and products with a constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import keras
import numpy as np
from keras.src.applications import convnext, inception_resnet_v2

from keras2gp.conversion.context import Call, Context
from keras2gp.conversion.registry import reader
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.conversion.unsupported import reason_for
from keras2gp.graph.ops import Scale, Spread, Sum

__all__ = [
    "added",
    "read_add",
    "read_average",
    "read_layer_scale",
    "read_product",
    "read_rescaling",
    "read_scaled_sum",
    "read_stochastic_depth",
    "read_subtract",
]


@reader(keras.layers.Add, "Add")
def read_add(call: Call, context: Context) -> Tensor:
    """Sum of branches: covariances of independent branches add, equal ones add coefficients."""
    return _sum(call, context, [1.0] * len(_terms(call, context)))


@reader(keras.layers.Subtract, "Subtract")
def read_subtract(call: Call, context: Context) -> Tensor:
    """Difference of two branches: as a sum, the second with coefficient -1."""
    count = len(_terms(call, context))
    signs = [1.0, -1.0] if count == 2 or isinstance(call.args[0], Tensor) else [-1.0]
    return _sum(call, context, signs[:count])


@reader(keras.layers.Average)
def read_average(call: Call, context: Context) -> Tensor:
    """Mean of branches: as a sum with coefficients 1/n."""
    count = len(call.tensors)
    return _sum(call, context, [1.0 / count] * count)


@reader(inception_resnet_v2.CustomScaleLayer)
def read_scaled_sum(call: Call, context: Context) -> Tensor:
    """A branch and a constant times another: as a sum with that coefficient."""
    return _sum(call, context, [1.0, _number(call.operation.scale, context)])


@reader("Multiply", "Divide", "TrueDivide", "Negative")
def read_product(call: Call, context: Context) -> Tensor:
    """A constant times a tensor: k' = factor^2 k."""
    tensor = context.gathered(call.tensors[0])
    factor = -1.0
    if type(call.operation).__name__ != "Negative":
        if len(call.tensors) != 1:
            context.refuse(*reason_for("Multiply"))
        values = [*call.args, *call.kwargs.values()]
        factor = _number(next(v for v in values if not isinstance(v, Tensor)), context)
        if type(call.operation).__name__ in ("Divide", "TrueDivide"):
            if not isinstance(values[0], Tensor) or factor == 0.0:
                context.refuse(
                    "a quotient with a random denominator, or by zero",
                    "a number other than 0 as the denominator",
                )
            factor = 1.0 / factor
    _keep_shape(call, tensor, context)
    return _scaled(tensor, factor, context)


@reader(keras.layers.Rescaling)
def read_rescaling(call: Call, context: Context) -> Tensor:
    """Between random layers: k' = scale^2 k; an offset is refused."""
    layer, tensor = call.operation, context.gathered(call.tensors[0])
    if np.ndim(layer.scale) and np.shape(layer.scale) != (tensor.channels,):
        context.refuse(
            f"its {np.shape(layer.scale)} factors are not one for each of its {tensor.channels} "
            "channels",
            "a single number",
        )
    if _number(layer.offset, context) != 0.0:
        _refuse_mean(context)
    return _scaled(tensor, _number(layer.scale, context), context)


@reader(convnext.LayerScale)
def read_layer_scale(call: Call, context: Context) -> Tensor:
    """A factor for each channel, at its one initial value: k' = factor^2 k."""
    factor = _number(call.operation.init_values, context)
    context.note = "at its initial value"
    return _scaled(context.gathered(call.tensors[0]), factor, context)


@reader(convnext.StochasticDepth)
def read_stochastic_depth(call: Call, context: Context) -> Tensor:
    """Does nothing to a prediction: branches are dropped in training alone."""
    context.became = "identity"
    return context.gathered(call.tensors[0])


def _scaled(tensor: Tensor, factor: float, context: Context) -> Tensor:
    context.became = f"factor {factor:g}"
    return context.apply(Scale(factor), tensor)


def _refuse_mean(context: Context) -> NoReturn:
    context.refuse(
        "adding a constant gives the tensor a mean, and there is no rule for that",
        "biases (use_bias=True)",
    )


@reader(keras.layers.Multiply)
def read_multiply_layer(call: Call, context: Context) -> Tensor:
    """Refused: a product of random branches."""
    del call
    context.refuse(*reason_for("Multiply"))


def _keep_shape(call: Call, tensor: Tensor, context: Context) -> None:
    if call.output != tensor.shape:
        context.refuse(
            f"its constant makes {call.output} of {tensor.shape}: axes are added to the batch's",
            "a constant without axes",
        )


def _number(value: Any, context: Context) -> float:
    """A constant, or an array of equal ones."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.size == 0 or not np.isfinite(array).all() or (array != array.flat[0]).any():
        context.refuse("its constant is not one finite number", "a single number")
    return float(array.flat[0])


def _terms(call: Call, context: Context) -> list[Tensor]:
    """The tensors of a sum; a constant is let in only if it is 0."""
    if isinstance(call.operation, keras.Layer):
        return call.tensors
    constants = [v for v in [*call.args, *call.kwargs.values()] if not isinstance(v, Tensor)]
    if any(_number(value, context) != 0.0 for value in constants):
        _refuse_mean(context)
    return call.tensors


def _sum(call: Call, context: Context, coefficients: list[float]) -> Tensor:
    tensors = [context.gathered(t) for t in call.tensors]
    first = tensors[0]
    for tensor in tensors[1:]:
        if tensor.shape != first.shape or tensor.channel_first != first.channel_first:
            context.refuse(
                f"the branches have different shapes {first.shape} and {tensor.shape}: what is "
                "broadcast shares its randomness across positions or channels",
                "branches of equal shapes",
            )
    _keep_shape(call, first, context)
    context.became = f"sum of {len(tensors)} branches"
    return added(tensors, coefficients, context)


def added(tensors: Sequence[Tensor], coefficients: Sequence[float], context: Context) -> Tensor:
    """The sum of tensors of one shape, by channel groups that all of them have."""
    tensors = _over_the_same_positions(tensors, context)
    builder = context.state.builder
    if len(tensors) == 1 and tuple(coefficients) == (1.0,):
        return tensors[0]
    parts = []
    for group in zip(*_common_groups(tensors, context), strict=True):
        nodes = tuple(part.node for part in group)
        node = builder.add(Sum(tuple(coefficients)), nodes, context.path)
        parts.append(Part(node, group[0].channels))
    return replace(tensors[0], parts=tuple(parts))


def _over_the_same_positions(tensors: Sequence[Tensor], context: Context) -> list[Tensor]:
    """Vectors as maps, where others are maps that were flattened: units beside units."""
    maps = [t for t in tensors if context.spatial(t)]
    if not maps or len(maps) == len(tensors):
        return list(tensors)
    sizes = {context.spatial(t) for t in maps}
    if len(sizes) > 1 or any(len(t.parts) > 1 for t in tensors) or any(t.pieces for t in tensors):
        _refuse_groups(context)
    (size,) = sizes
    channels = maps[0].parts[0].channels
    made = []
    for tensor in tensors:
        if not context.spatial(tensor):
            if context.holds_data(tensor):
                _refuse_groups(context)
            spread = context.apply(Spread(size), tensor)
            part = replace(spread.parts[0], channels=channels)
            tensor = replace(spread, parts=(part,), flat=True)  # noqa: PLW2901 (a form of it)
        made.append(tensor)
    return made


def _common_groups(tensors: Sequence[Tensor], context: Context) -> list[list[Part]]:
    """The parts of each, cut where any of them begins a new one: channels of a part are alike."""
    counts = [[part.channels for part in t.parts] for t in tensors]
    if all(found == counts[0] for found in counts) and len({t.pieces for t in tensors}) == 1:
        return [list(t.parts) for t in tensors]
    if any(t.flat and context.spatial(t) for t in tensors):
        _refuse_groups(context)
    ends = sorted({sum(found[: i + 1]) for found in counts for i in range(len(found))})
    return [_cut(t.parts, ends) for t in tensors]


def _cut(parts: Sequence[Part], ends: Sequence[int]) -> list[Part]:
    """The parts cut at these places, counted in channels."""
    found: list[Part] = []
    left = list(parts)
    begin, until = 0, left[0].channels
    for end in ends:
        if begin == until:
            del left[0]
            until += left[0].channels
        found.append(Part(left[0].node, end - begin))
        begin = end
    return found


def _refuse_groups(context: Context) -> NoReturn:
    context.refuse(
        "the branches are made of different channel groups, which cannot be paired channel by "
        "channel",
        "a 1x1 convolution or Dense layer on a concatenated branch before the sum",
    )
