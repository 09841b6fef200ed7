"""Sums and averages of branches, products with a constant, and concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import keras
import numpy as np

from keras2gp.conversion.context import Call, Context
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.graph.ops import Pad, Spread, Sum
from keras2gp.graph.sums import OtherChannels
from keras2gp.layer_table import LAYERS

__all__ = [
    "read_add",
    "read_average",
    "read_concatenate",
    "read_layer_scale",
    "read_product",
    "read_rescaling",
    "read_scaled_sum",
    "read_stochastic_depth",
    "read_subtract",
]


def read_add(call: Call, context: Context) -> Tensor:
    """Read a sum: covariances of independent branches add, equal branches add coefficients."""
    return _sum(call, context, [1.0] * len(_terms(call, context)))


def read_subtract(call: Call, context: Context) -> Tensor:
    """Read a difference: a sum in which the second branch has the coefficient -1."""
    count = len(_terms(call, context))
    signs = [1.0, -1.0] if count == 2 or isinstance(call.args[0], Tensor) else [-1.0]
    return _sum(call, context, signs[:count])


def read_average(call: Call, context: Context) -> Tensor:
    """Read a mean of n branches: a sum with coefficients 1/n."""
    count = len(call.tensors)
    return _sum(call, context, [1.0 / count] * count)


def read_scaled_sum(call: Call, context: Context) -> Tensor:
    """Read CustomScaleLayer: a branch plus a constant times another."""
    return _sum(call, context, [1.0, _number(call.operation.scale, context)])


def read_product(call: Call, context: Context) -> Tensor:
    """Read a product, a quotient or a negation: k' = factor^2 k."""
    tensor = context.as_graph_tensor(call.tensors[0])
    factor = -1.0
    if type(call.operation).__name__ != "Negative":
        if len(call.tensors) != 1:
            context.refuse(*LAYERS["Multiply"].reason)
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
    return context.scaled(tensor, factor)


def read_rescaling(call: Call, context: Context) -> Tensor:
    """Read Rescaling of features: k' = scale^2 k; an offset is refused."""
    layer, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    if np.ndim(layer.scale) and np.shape(layer.scale) != (tensor.channels,):
        context.refuse(
            f"its {np.shape(layer.scale)} factors are not one for each of its {tensor.channels} "
            "channels",
            "a single number",
        )
    if _number(layer.offset, context) != 0.0:
        _refuse_mean(context)
    return context.scaled(tensor, _number(layer.scale, context))


def read_layer_scale(call: Call, context: Context) -> Tensor:
    """Read LayerScale: one factor for all channels, at its initial value."""
    factor = _number(call.operation.init_values, context)
    context.note = "at its initial value"
    return context.scaled(context.as_graph_tensor(call.tensors[0]), factor)


def read_stochastic_depth(call: Call, context: Context) -> Tensor:
    """Read StochasticDepth, which changes nothing in a prediction."""
    context.became = "identity"
    return context.as_graph_tensor(call.tensors[0])


def _refuse_mean(context: Context) -> NoReturn:
    context.refuse(
        "adding a constant gives the tensor a mean, and there is no rule for that",
        "biases (use_bias=True)",
    )


def _keep_shape(call: Call, tensor: Tensor, context: Context) -> None:
    if call.output != tensor.shape:
        context.refuse(
            f"its constant makes {call.output} of {tensor.shape}: axes are added to the batch's",
            "a constant without axes",
        )


def _number(value: Any, context: Context) -> float:
    """The value of a constant, or of an array of equal numbers."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.size == 0 or not np.isfinite(array).all() or (array != array.flat[0]).any():
        context.refuse("its constant is not one finite number", "a single number")
    return float(array.flat[0])


def _terms(call: Call, context: Context) -> list[Tensor]:
    """The tensors of a sum; a constant among them must be 0."""
    if isinstance(call.operation, keras.Layer):
        return call.tensors
    constants = [v for v in [*call.args, *call.kwargs.values()] if not isinstance(v, Tensor)]
    if any(_number(value, context) != 0.0 for value in constants):
        _refuse_mean(context)
    return call.tensors


def _sum(call: Call, context: Context, coefficients: list[float]) -> Tensor:
    tensors = [context.as_graph_tensor(t) for t in call.tensors]
    first = tensors[0]
    for tensor in tensors[1:]:
        if tensor.shape == first.shape and tensor.channel_first != first.channel_first:
            context.refuse(
                "one branch has its channels first and the other last, so that channels would be "
                "added to positions",
                "one data_format throughout, or a Permute of one branch",
            )
        if tensor.shape != first.shape:
            context.refuse(
                f"the branches have different shapes {first.shape} and {tensor.shape}: what is "
                "broadcast shares its randomness across positions or channels",
                "branches of equal shapes",
            )
    _keep_shape(call, first, context)
    context.became = f"sum of {len(tensors)} branches"
    return _added(tensors, coefficients, context)


def _added(tensors: Sequence[Tensor], coefficients: Sequence[float], context: Context) -> Tensor:
    """The sum of tensors of one shape, by channel groups that all of them have."""
    tensors = _over_the_same_positions(tensors, context)
    builder = context.state.builder
    if len(tensors) == 1 and tuple(coefficients) == (1.0,):
        return tensors[0]
    parts = []
    for group in zip(*_common_groups(tensors, context), strict=True):
        nodes = tuple(_aligned(part, group[0].offset, context) for part in group)
        node = builder.add(Sum(tuple(coefficients)), nodes, context.path)
        parts.append(replace(group[0], node=node))
    return replace(tensors[0], parts=tuple(parts))


def _aligned(part: Part, offset: int, context: Context) -> int:
    """A node whose channels from `offset` on are those of a part."""
    if part.offset == offset:
        return part.node
    op = OtherChannels(part.offset - offset)
    return context.state.builder.add(op, (part.node,), context.path)


def _over_the_same_positions(tensors: Sequence[Tensor], context: Context) -> list[Tensor]:
    """Vectors as maps, where others are maps that were flattened: units beside units."""
    maps = [t for t in tensors if context.spatial(t)]
    if not maps or len(maps) == len(tensors):
        return list(tensors)
    sizes = {context.spatial(t) for t in maps}
    if len(sizes) > 1 or any(len(t.parts) > 1 or t.pieces or t.parts[0].offset for t in tensors):
        _refuse_groups(context)
    (size,) = sizes
    channels = maps[0].parts[0].channels
    over_positions = []
    for tensor in tensors:
        if not context.spatial(tensor):
            if context.holds_data(tensor):
                _refuse_groups(context)
            spread = context.apply(Spread(size), tensor)
            part = replace(spread.parts[0], channels=channels)
            tensor = replace(spread, parts=(part,), flat=True)  # noqa: PLW2901 (a form of it)
        over_positions.append(tensor)
    return over_positions


def _common_groups(tensors: Sequence[Tensor], context: Context) -> list[list[Part]]:
    """The parts of each, cut where any of them begins a new one: channels of a part are alike."""
    counts = [[part.channels for part in t.parts] for t in tensors]
    if all(groups == counts[0] for groups in counts) and len({t.pieces for t in tensors}) == 1:
        return [list(t.parts) for t in tensors]
    if any(t.flat and context.spatial(t) for t in tensors):
        _refuse_groups(context)
    ends = sorted({sum(groups[: i + 1]) for groups in counts for i in range(len(groups))})
    return [_cut(t.parts, ends) for t in tensors]


def _cut(parts: Sequence[Part], ends: Sequence[int]) -> list[Part]:
    """The parts cut at these places, counted in channels."""
    cut: list[Part] = []
    left = list(parts)
    begin, until = 0, left[0].channels
    for end in ends:
        if begin == until:
            del left[0]
            until += left[0].channels
        start = left[0].offset + left[0].channels - (until - begin)
        cut.append(Part(left[0].node, end - begin, start))
        begin = end
    return cut


def _refuse_groups(context: Context) -> NoReturn:
    context.refuse(
        "the branches are made of different channel groups, which cannot be paired channel by "
        "channel",
        "a 1x1 convolution or Dense layer on a concatenated branch before the sum",
    )


def read_concatenate(call: Call, context: Context) -> Tensor:
    """Read a concatenation: channel groups side by side, or maps side by side."""
    rank = len(call.output)
    first = rank > 1 and next((t.channel_first for t in call.tensors if not t.is_data), False)
    tensors = [context.with_channels(t, first=first) for t in call.tensors]
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
