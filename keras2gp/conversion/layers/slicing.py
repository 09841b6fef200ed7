"""Operations of keras.ops that take, repeat or surround positions or channels: x[:, 1:], pad."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from keras2gp._util.text import received_text
from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.ops import Axes, Crop, Flip, Pad, Patches, Select, Upsample

__all__ = [
    "channels_between",
    "read_flip",
    "read_getitem",
    "read_pad",
    "read_repeat",
    "read_roll",
    "read_split",
    "read_take",
    "read_tile",
]


def read_getitem(call: Call, context: Context) -> Tensor:
    """Read x[:, 1:, ::2, None, :32]: a slice of the positions' axes, or one position or a new axis.

    Channels may be a slice, too.
    """
    tensor = context.as_graph_tensor(call.tensors[0])
    spatial = context.spatial(tensor)
    stated, channels = _along_axes(call, tensor, context)
    keys = [key for key in stated if key is not None]
    if channels != range(int(tensor.channels or 0)):
        tensor = channels_between(tensor, channels, context)
    ranges = [_range(key, n, context) for key, n in zip(keys, spatial, strict=True)]
    taken = [r if r.step > 0 else r[::-1] for r in ranges]
    crops = tuple((r[0], n - 1 - r[-1]) for r, n in zip(taken, spatial, strict=True))
    steps = tuple(r.step for r in taken)
    context.became = "positions cut out" if spatial else "channels cut out"
    if any(map(any, crops)):
        tensor = context.apply(Crop(crops), tensor)
    flips = tuple(key_range.step < 0 for key_range in ranges)
    if any(flips):
        tensor = context.apply(Flip(flips), tensor)
    if set(steps) - {1}:
        ones, none = (1,) * len(steps), ((0, 0),) * len(steps)
        tensor = context.apply(Patches(ones, steps, ones, none), tensor)
    kept = iter(axis for axis, key in enumerate(keys) if isinstance(key, slice))
    fresh = iter(range(len(spatial), len(spatial) + len(stated)))
    axes = tuple(next(fresh if key is None else kept) for key in stated if type(key) is not int)
    if axes != tuple(range(len(spatial))):
        tensor = context.apply(Axes(axes, len(spatial)), tensor)
    return replace(tensor, shape=call.output)


def _along_axes(call: Call, tensor: Tensor, context: Context) -> tuple[list[Any], range]:
    """The index of each spatial axis, None for a new one, and the channels; refuse some images."""
    stated = call.args[1] if len(call.args) > 1 else call.kwargs["key"]
    given = list(stated) if isinstance(stated, list | tuple) else [stated]
    rank = len(tensor.shape) + 1
    missing = [slice(None)] * (rank - sum(key is not Ellipsis and key is not None for key in given))
    place = next((i for i, key in enumerate(given) if key is Ellipsis), len(given))
    keys = [*given[:place], *missing, *given[place + 1 :]]
    whole = [key for key in keys if key is not None]
    if len(whole) != rank or not all(isinstance(key, slice) or type(key) is int for key in whole):
        _refuse(context, f"its index {received_text(stated)} is no choice of positions")
    axis = 1 if tensor.channel_first else len(keys) - 1
    if keys[axis] is None:
        _refuse(context, "it adds an axis beyond that of the channels")
    # Only that all images are meant can be seen without their number.
    every = isinstance(keys[0], slice) and range(1)[keys[0]] == range(1) and keys[0].stop is None
    channels = range(int(tensor.channels or 0))[keys[axis]] if isinstance(keys[axis], slice) else ()
    if tensor.flat or not every or not isinstance(channels, range) or channels.step != 1:
        _refuse(context, "it takes some of the images, or channels that are no slice of step 1")
    if not channels:
        _refuse(context, "it takes no channels")
    return [key for a, key in enumerate(keys) if a not in (0, axis)], channels


def channels_between(tensor: Tensor, channels: range, context: Context) -> Tensor:
    """A slice of the channels; different slices of one random tensor are independent."""
    if tensor.flat:
        _refuse(context, "it takes some of a flattened tensor's numbers")
    parts = tensor.between(channels.start, channels.stop)
    cut = [part for part in parts if part not in tensor.parts]
    if context.holds_data(replace(tensor, parts=tuple(cut))):
        context.refuse(
            "it takes some of the input's own channels, which are not alike, after they were "
            "joined to random ones",
            "the slice of the input before it is joined",
        )
    count = (len(channels),)
    shape = count + tensor.shape[1:] if tensor.channel_first else tensor.shape[:-1] + count
    return replace(tensor, parts=parts, shape=shape)


def read_flip(call: Call, context: Context) -> Tensor:
    """Read ops.flip along axes of positions: the opposite order."""
    tensor, stated = context.as_graph_tensor(call.tensors[0]), call.operation.axis
    axes = [stated] if isinstance(stated, int) else list(stated or ())
    places = [_position(axis, tensor) for axis in axes]
    if not places or None in places:
        _refuse(context, "it reverses the order of the images or channels")
    context.became = "positions reversed"
    return context.apply(Flip(tuple(i in places for i in range(len(tensor.spatial)))), tensor)


def read_split(call: Call, context: Context) -> list[Tensor]:
    """Read ops.split into slices of channels, or of the positions along one axis."""
    tensor, operation = context.as_graph_tensor(call.tensors[0]), call.operation
    rank = len(tensor.shape) + 1
    axis = operation.axis % rank
    channels = 1 if tensor.channel_first else rank - 1
    if axis == 0 or tensor.flat:
        _refuse(context, "it splits the images, or a flattened tensor")
    size, stated = int(tensor.shape[axis - 1] or 0), operation.indices_or_sections
    if isinstance(stated, int):
        stated = range(size // stated, size, size // stated)
    ends = [min(int(end) % (size + 1) if end < 0 else int(end), size) for end in stated]
    context.became = f"{len(ends) + 1} slices"
    slices = []
    for begin, end in zip([0, *ends], [*ends, size], strict=True):
        if begin >= end:
            _refuse(context, f"its slice from {begin} to {end} is empty")
        shape = (*tensor.shape[: axis - 1], end - begin, *tensor.shape[axis:])
        if axis == channels:
            slices.append(channels_between(tensor, range(begin, end), context))
            continue
        crops = [(0, 0)] * (rank - 2)
        crops[axis - (2 if tensor.channel_first else 1)] = (begin, size - end)
        slices.append(context.apply(Crop(tuple(crops)), tensor, shape))
    return slices


def _range(key: Any, size: int, context: Context) -> range:
    if not isinstance(key, slice):
        return range(size)[key : key + 1 or None]  # of -1, up to the end
    positions = range(size)[key]
    if not positions:
        _refuse(context, f"its slice {key} takes no position")
    return positions


def read_repeat(call: Call, context: Context) -> Tensor:
    """Read ops.repeat along one axis of positions, as UpSampling."""
    operation, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    spatial, axis = context.spatial(tensor), _position(operation.axis, tensor)
    repeats = operation.repeats
    if isinstance(repeats, list | tuple) and len(repeats) == 1:
        (repeats,) = repeats
    if axis is None or not isinstance(repeats, int):
        _refuse(context, "it repeats images or channels, or each position a different number")
    context.became = f"repeated {repeats} times"
    factors = tuple(repeats if i == axis else 1 for i in range(len(spatial)))
    return context.apply(Upsample(factors), tensor, call.output)


def read_roll(call: Call, context: Context) -> Tensor:
    """Read ops.roll along one axis of positions: those that leave at one end enter at the other."""
    operation, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    axis = _position(operation.axis, tensor) if isinstance(operation.axis, int) else None
    if axis is None or not isinstance(operation.shift, int):
        _refuse(context, "it moves images or channels")
    places = np.roll(np.arange(context.spatial(tensor)[axis]), operation.shift)
    context.became = f"positions moved by {operation.shift}"
    return _selected(tensor, {axis: places}, call, context)


def read_take(call: Call, context: Context) -> Tensor:
    """Read ops.take along one axis of positions: those of a list, in its order."""
    operation, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    axis = _position(operation.axis, tensor) if isinstance(operation.axis, int) else None
    stated = call.args[1] if len(call.args) > 1 else call.kwargs.get("indices")
    if axis is None or isinstance(stated, Tensor):
        _refuse(context, "it takes images or channels, or positions that depend on the input")
    places, count = np.asarray(stated), context.spatial(tensor)[axis]
    whole = np.issubdtype(places.dtype, np.integer) and places.ndim == 1 and places.size > 0
    if not whole or not ((-count <= places) & (places < count)).all():
        _refuse(context, f"its indices {received_text(stated)} are no list of positions")
    context.became = f"{places.size} positions taken"
    return _selected(tensor, {axis: places % count}, call, context)


def read_tile(call: Call, context: Context) -> Tensor:
    """Read ops.tile along axes of positions: the map several times, side by side."""
    tensor, stated = context.as_graph_tensor(call.tensors[0]), call.operation.repeats
    repeats = [stated] if isinstance(stated, int) else list(stated)
    repeats = [1] * (len(tensor.shape) + 1 - len(repeats)) + [int(n) for n in repeats]
    axes = {i: n for i, n in enumerate(repeats) if n != 1}
    if len(repeats) != len(tensor.shape) + 1 or None in (_position(i, tensor) for i in axes):
        _refuse(context, "it repeats images or channels, or adds axes")
    spatial = context.spatial(tensor)
    places = {_position(i, tensor): n for i, n in axes.items()}
    context.became = "maps side by side"
    chosen = {i: np.tile(np.arange(spatial[i]), n) for i, n in places.items() if i is not None}
    return _selected(tensor, chosen, call, context)


def _selected(tensor: Tensor, places: dict[int, Any], call: Call, context: Context) -> Tensor:
    """The positions at these places along some axes, in their order."""
    axes = range(len(context.spatial(tensor)))
    op = Select(tuple(tuple(int(p) for p in places.get(axis, ())) for axis in axes))
    return context.apply(op, tensor, call.output)


_MIRRORING = ("edge", "reflect", "symmetric", "wrap")
"""Ways to continue a map by its own positions, by the name that Keras and numpy give them."""


def read_pad(call: Call, context: Context) -> Tensor:
    """Read ops.pad with zeros, as ZeroPadding; or with positions of the map, as by a mirror."""
    operation, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    value = call.kwargs.get("constant_values", call.args[1] if len(call.args) > 1 else None)
    widths = [tuple(map(int, pair)) for pair in operation.pad_width]
    rank = len(tensor.shape) + 1
    if len(widths) == 1:
        widths *= rank
    channels = 1 if tensor.channel_first else rank - 1
    if tensor.flat or any(any(widths[axis]) for axis in (0, channels)):
        _refuse(context, "it adds images or channels")
    around = [pair for axis, pair in enumerate(widths) if axis not in (0, channels)]
    pads = tuple((before, after) for before, after in around)
    if operation.mode in _MIRRORING:
        context.became = f"the map's own positions around ({operation.mode})"
        sizes = enumerate(zip(context.spatial(tensor), pads, strict=True))
        places = {i: np.pad(np.arange(n), pad, operation.mode) for i, (n, pad) in sizes if any(pad)}
        return _selected(tensor, places, call, context)
    if operation.mode != "constant" or value not in (None, 0, -math.inf):
        _refuse(context, "it surrounds the map with other numbers than zeros")
    context.became = "zeros around"
    if value == -math.inf:
        context.became = "-inf around, which pooling does not count"
        return replace(tensor, shape=call.output, outside=pads)
    return context.apply(Pad(pads), tensor, call.output)


def _position(axis: int | None, tensor: Tensor) -> int | None:
    """The spatial axis that an axis of Keras is; None for channels and the batch."""
    rank = len(tensor.shape) + 1
    if axis is None or tensor.flat:
        return None
    channels = 1 if tensor.channel_first else rank - 1
    positions = [i for i in range(1, rank) if i != channels]
    return positions.index(axis % rank) if axis % rank in positions else None


def _refuse(context: Context, why: str) -> NoReturn:
    context.refuse(why, "the axes of positions alone: layers such as Cropping and UpSampling")
