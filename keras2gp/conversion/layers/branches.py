"""Branches that are merged channel by channel: one shape, one place, common channel groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NoReturn

import keras
import numpy as np

from keras2gp._util.arrays import Array
from keras2gp.conversion.call import Call, RefusalError
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.units import units_of_call
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.errors import Obstacle
from keras2gp.graph.independence import OtherChannels
from keras2gp.graph.ops import Axes, Op, Opaque, Repeat, Reshape, Spread

__all__ = [
    "at_the_same_positions",
    "combined",
    "keep_shape",
    "number_of",
    "numbers_of",
    "of_one_shape",
    "summands",
]


def keep_shape(call: Call, tensor: Tensor, context: Context) -> None:
    """Refuse a constant that adds axes, or repeats the tensor along one."""
    if len(call.output) == len(tensor.shape) and call.output != tensor.shape:
        context.refuse(
            f"its constant makes {call.output} of {tensor.shape}: what is repeated shares its "
            "randomness, and each copy would have another constant",
            "a branch of its own for each constant, joined by Concatenate",
        )
    if call.output != tensor.shape:
        context.refuse(
            f"its constant makes {call.output} of {tensor.shape}: axes are added to the batch's",
            "a constant without axes",
        )


def number_of(value: Any, context: Context) -> float:
    """The value of a constant, or of an array of equal numbers."""
    array = numbers_of(value, context)
    if (array != array.flat[0]).any():
        context.refuse("its constant is not one finite number", "a single number")
    return float(array.flat[0])


def numbers_of(value: Any, context: Context) -> Array:
    """The value of a constant, of any shape."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.size == 0 or not np.isfinite(array).all():
        context.refuse("its constant is not one finite number", "a single number")
    return array


def summands(call: Call, context: Context) -> list[Tensor]:
    """The tensors of a sum; where channels are broadcast, as units, which may be an output."""
    stated = next((t.units for t in call.tensors if t.units), None)
    try:
        if stated is None:
            return of_one_shape(call, context)
        refusal = RefusalError("", "", by_shape=True, obstacle=stated)
    except RefusalError as error:
        refusal = error
        if error.by_layout and _behind_refusals(call, context):
            raise
    obstacle = stated or Obstacle(context.path, call.received, refusal.why, refusal.hint)
    units = units_of_call(call, obstacle, context)
    if units is None:
        raise refusal
    return units


def _behind_refusals(call: Call, context: Context) -> bool:
    """Whether a branch is made of the result of a refused call, whose layout is guessed."""
    nodes = context.state.builder.nodes
    return any(
        isinstance(nodes[index].op, Opaque)
        for tensor in call.tensors
        for index in context.made_of(tensor)
    )


_OTHER_SHAPES = (
    "branches of as many channels, and of equal or single positions; where these are outputs, such "
    "as V + A - mean(A), a kernel for each branch (output=)"
)
_ONE_GATE = (
    "a factor for each channel in the place of one for all: a Dense layer of as many units with a "
    "sigmoid, say (of experts and of attention, too, whose softmax has none)"
)


def of_one_shape(call: Call, context: Context) -> list[Tensor]:
    """The tensors of a call, one position of a branch repeated where others have several."""
    rank = max(len(t.shape) for t in call.tensors)
    formats = {t.channel_first for t in call.tensors if not t.is_data and len(t.shape) == rank}
    ahead = formats == {True}
    tensors = [context.beside(t, first=ahead and len(t.shape) == rank) for t in call.tensors]
    if isinstance(call.operation, keras.Layer):
        tensors = [_with_axes(t, rank, context) for t in tensors]
    first = tensors[0]
    for tensor in tensors[1:]:
        if len(tensor.shape) == rank > 1 and tensor.channel_first != first.channel_first:
            context.refuse(
                "one branch has its channels first and the other last, so that channels would "
                "meet positions",
                "one data_format throughout, or a Permute of one branch",
                by_layout=True,
            )
        if len(tensor.shape) != len(first.shape) or tensor.channels != first.channels:
            context.refuse(
                f"the branches have different shapes {first.shape} and {tensor.shape}: what is "
                "broadcast shares its randomness across channels, which then depend on each other",
                _ONE_GATE if type(call.operation).__name__ == "Multiply" else _OTHER_SHAPES,
            )
    return at_the_same_positions(tensors, context)


def at_the_same_positions(tensors: list[Tensor], context: Context) -> list[Tensor]:
    """Maps of as many axes, one position of any of them repeated where others have several."""
    sizes = [context.spatial(t) for t in tensors]
    if any(t.flat for t in tensors) or len(set(sizes)) == 1:
        return tensors
    whole = tuple(max(along) for along in zip(*sizes, strict=True))
    return [_repeated(t, n, whole, context) for t, n in zip(tensors, sizes, strict=True)]


def _with_axes(tensor: Tensor, rank: int, context: Context) -> Tensor:
    """A tensor with axes of one position ahead, as Keras's merging layers add them."""
    missing = rank - len(tensor.shape)
    if not missing or tensor.flat:
        return tensor
    if tensor.channel_first:
        context.refuse(
            f"axes are added before those of {tensor.shape}, so that its channels become positions",
            "a Reshape before it that says where each axis goes",
        )
    spatial = context.spatial(tensor)
    axes = len(spatial)
    moved = Axes((*range(axes, axes + missing), *range(axes)), axes)
    return context.apply(moved, tensor, (*(1,) * missing, *spatial, tensor.channels))


def _repeated(
    tensor: Tensor, size: tuple[int, ...], whole: tuple[int, ...], context: Context
) -> Tensor:
    """A tensor with its one position repeated along axes where others have several."""
    if any(n not in (1, m) for n, m in zip(size, whole, strict=True)):
        context.refuse(
            f"the branches have {size} and {whole} positions, and neither is a single one",
            "branches of equal shapes",
        )
    if size == whole:
        return tensor
    factors = tuple(m if n == 1 else 1 for n, m in zip(size, whole, strict=True))
    positions = tuple(n * m for n, m in zip(size, factors, strict=True))
    first = tensor.channel_first
    shape = (tensor.channels, *positions) if first else (*positions, tensor.channels)
    return context.apply(Repeat(factors), tensor, shape)


def combined(op: Op, tensors: Sequence[Tensor], context: Context) -> Tensor:
    """An op of several inputs on tensors of one shape, by channel groups that all of them have."""
    _require_one_order(tensors, context)
    tensors = _over_the_same_positions(_of_one_row(tensors, context), context)
    parts = []
    for group in zip(*_common_groups(tensors, context), strict=True):
        nodes = tuple(_aligned(part, group[0].offset, context) for part in group)
        node = context.state.builder.add(op, nodes, context.path)
        parts.append(replace(group[0], node=node))
    return replace(tensors[0], parts=tuple(parts))


def _require_one_order(tensors: Sequence[Tensor], context: Context) -> None:
    """Refuse branches whose units are numbered in other orders, the channels first in one of them.

    The graph has them at positions, and cannot tell which unit meets which: that is no matter for
    independent ones alone.
    """
    flat = [t for t in tensors if t.flat and context.spatial(t)]
    if not any(t.channel_first or any(first for _, first in t.pieces) for t in flat):
        return
    nodes = context.state.builder.nodes
    orders = {t.channel_first for t in flat if not t.pieces}
    mixed = len(orders) > 1
    for one, other in combinations(tensors, 2):
        shared = context.made_of(one) & context.made_of(other)
        spread = any(isinstance(nodes[index].op, Spread) for index in shared)
        alike = context.spatial(one) == context.spatial(other) and not spread
        mixed |= bool(shared) and one.parts != other.parts and not alike
    if mixed:
        context.refuse(
            "its branches number their units in different orders, since one was flattened with its "
            "channels first: each unit meets another one, at another position",
            "both branches flattened alike, or the sum before they are flattened",
        )


def _of_one_row(tensors: Sequence[Tensor], context: Context) -> Sequence[Tensor]:
    """Maps that were flattened from different axes, with all of their positions along one.

    Their units meet at other positions: that is no matter for independent branches alone.
    """
    maps = [t for t in tensors if t.flat and context.spatial(t)]
    if len({context.spatial(t) for t in maps}) < 2:
        return tensors
    counts = {(math.prod(context.spatial(t)), *(part.channels for part in t.parts)) for t in maps}
    shared = any(context.made_of(a) & context.made_of(b) for a, b in combinations(maps, 2))
    if shared or len(counts) > 1 or any(t.pieces or t.channel_first for t in maps):
        shapes = " and ".join(str(context.spatial(t)) for t in maps)
        context.refuse(
            f"its branches are maps of {shapes} positions that were flattened: each unit meets one "
            "of another position",
            "the sum before they are flattened, or a Dense layer after Flatten on all but one",
        )
    rows = []
    for tensor in tensors:
        spatial = context.spatial(tensor)
        row = Reshape((math.prod(spatial),), len(spatial))
        rows.append(context.apply(row, tensor) if len(spatial) > 1 else tensor)
    return rows


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
