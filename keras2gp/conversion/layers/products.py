"""Products: with a constant, and of independent branches such as gates and channel attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import keras
import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.text import received_text
from keras2gp.conversion.call import Call, RefusalError
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.branches import (
    at_the_same_positions,
    combined,
    keep_shape,
    number_of,
    of_one_shape,
)
from keras2gp.conversion.layers.masks import any_sign, nonnegative
from keras2gp.conversion.layers.normalization import unit_norm
from keras2gp.conversion.layers.pooling import channel_sum
from keras2gp.conversion.layers.slicing import channels_between
from keras2gp.conversion.layers.units import units_of
from keras2gp.conversion.tensor import Tensor
from keras2gp.errors import Obstacle
from keras2gp.graph.distributions import kinds
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Activation, Kind, Matrix, Product
from keras2gp.layer_table.wording import PRODUCT

__all__ = [
    "read_contraction",
    "read_dot",
    "read_glu",
    "read_inner",
    "read_matmul",
    "read_power",
    "read_product",
]

_MOST_FACTORS = 8
_QUOTIENTS = ("Divide", "TrueDivide")

_MOST_ENTRIES = 2**18
"""Most entries of a matrix: 512 positions on 512."""
_MIXES = (
    (
        "its constants mix channels or images, so that its results depend on each other, and a "
        "layer with weights would sum over few numbers that share random ones"
    ),
    "a Dense layer in its place, the matrix on an axis of positions, or the product as the output",
)


def read_product(call: Call, context: Context) -> Tensor:
    """Read a product of branches, k' = product of k, or with a constant, k' = factor^2 k."""
    name = type(call.operation).__name__
    if len(call.tensors) > 1:
        if name in _QUOTIENTS:
            _refuse_quotient(context)
        return _of_branches(call, context)
    tensor = context.as_graph_tensor(call.tensors[0])
    factor = -1.0
    if name != "Negative":
        values = [*call.args, *call.kwargs.values()]
        factor = number_of(next(v for v in values if not isinstance(v, Tensor)), context)
        if name in _QUOTIENTS:
            if not isinstance(values[0], Tensor) or factor == 0.0:
                _refuse_quotient(context)
            factor = 1.0 / factor
    keep_shape(call, tensor, context)
    return context.scaled(tensor, factor)


def _refuse_quotient(context: Context) -> NoReturn:
    context.refuse(
        "a quotient with a random denominator, or by zero",
        "a number other than 0 as the denominator",
    )


def _of_branches(call: Call, context: Context) -> Tensor:
    units = next((t.units for t in call.tensors if t.units), None)
    if units is not None:
        raise RefusalError(units.why, units.hint, by_shape=True, obstacle=units)
    weighed = _weighted_by_data(call, context)
    if weighed is not None:
        return weighed
    tensors = of_one_shape(call, context)
    keep_shape(call, tensors[0], context)
    context.became = f"product of {len(tensors)} branches"
    return combined(Product(), tensors, context)


def _weighted_by_data(call: Call, context: Context) -> Tensor | None:
    """A random tensor times data of one channel, a number for each position: k' = w w k.

    The numbers must be at least 0, unless the tensor is Gaussian, whose mean is 0. Returns None
    for any other product.
    """
    data = [t for t in call.tensors if t.is_data]
    random = [t for t in call.tensors if not t.is_data]
    if len(data) != 1 or len(random) != 1:
        return None
    (numbers,), (tensor,) = data, random
    shape = tuple(tensor.shape)
    plain = not (tensor.flat or tensor.channel_first or tensor.split or tensor.outside)
    gaussian = all(
        kinds(Graph(tuple(context.state.builder.nodes), part.node))[part.node] is Kind.GAUSSIAN
        for part in tensor.parts
    )
    fits = len(numbers.shape) == len(shape) and numbers.shape[-1] == 1
    fits = fits and (gaussian or tensor.channels != 1)
    if not plain or not fits or None in shape or tuple(call.output) != shape:
        return None
    ones = keras.ops.ones((1, *shape[:-1]), context.state.settings.dtype)
    cast = keras.ops.cast(keras.ops.squeeze(numbers.data, -1), context.state.settings.dtype)
    mask = Tensor(shape[:-1], data=cast * ones)
    context.became = "a number of the data for each position"
    return context.weighed(tensor, mask, any_sign if gaussian else nonnegative)


def read_dot(call: Call, context: Context) -> Tensor:
    """Read the inner product of two towers, k' = C k1 k2; of unit vectors k' = k1 k2 / (C q q)."""
    layer = call.operation
    tensors = [context.as_graph_tensor(t) for t in call.tensors]
    axes = layer.axes if isinstance(layer.axes, list | tuple) else [layer.axes] * 2
    last = [
        axis % (len(t.shape) + 1) == len(t.shape) for axis, t in zip(axes, tensors, strict=True)
    ]
    single = [math.prod(context.spatial(t)) == 1 for t in tensors]
    if not any(single) or not all(last):
        context.refuse(
            "it gives a matrix of inner products, whose columns are no channels that are alike",
            "vectors, and the axis of channels (axes=-1), or one vector and those of a sequence; "
            "or Multiply, with a layer with weights after it",
        )
    if any(t.flat or t.channel_first or len(t.shape) != len(call.output) for t in tensors):
        context.refuse(
            "its towers are maps that were flattened, or vectors and maps",
            "a Dense layer at the end of each tower",
        )
    if layer.normalize:
        tensors = [unit_norm(t, -1, context) for t in tensors]
    made = _inner(at_the_same_positions(tensors, context), call.output, context)
    return replace(made, channel_first=single[0] and not single[1])


def read_inner(call: Call, context: Context) -> Tensor:
    """Read the inner product of two towers that ops.einsum writes: 'ij,ij->i'."""
    tensors = [context.as_graph_tensor(t) for t in call.tensors]
    terms, _, result = call.operation.subscripts.partition("->")
    first, *others = terms.split(",")
    alike = others == [first] and result == first[:-1] and len(set(first)) == len(first)
    if not alike or len(tensors) != 2 or any(t.flat or t.channel_first for t in tensors):
        context.refuse(
            "it sums products of two random branches over axes of its own, and has no rule here",
            "'ij,ij->i', which is their inner product; or Multiply of independent branches with a "
            "layer with weights after it",
        )
    return _inner(tensors, call.output, context)


def _inner(tensors: Sequence[Tensor], shape: tuple[int | None, ...], context: Context) -> Tensor:
    """The sum of products channel by channel."""
    product = combined(Product(), tensors, context)
    return channel_sum(replace(product, shape=tensors[0].shape), shape, context)


def read_power(call: Call, context: Context) -> Tensor:
    """Read a whole power: a tensor times itself."""
    stated = call.args[1] if len(call.args) > 1 else call.kwargs.get("x2")
    whole = isinstance(call.args[0], Tensor) and isinstance(stated, int | float)
    exponent = int(stated or 0) if whole and stated in range(1, _MOST_FACTORS + 1) else 0
    if not exponent:
        context.refuse(
            f"a power is read for whole exponents from 1 to {_MOST_FACTORS} alone",
            "such an exponent, or a function of your own as an activation",
        )
    tensor = context.as_graph_tensor(call.args[0])
    context.became = f"power {exponent}"
    if exponent == 1:
        return tensor
    return combined(Product(), [tensor] * exponent, context)


def read_glu(call: Call, context: Context) -> Tensor:
    """Read a gated linear unit: half of the channels times the sigmoid of the other half."""
    tensor = context.as_graph_tensor(call.tensors[0])
    rank = len(tensor.shape) + 1
    channels = 1 if tensor.channel_first else rank - 1
    if tensor.flat or call.operation.axis % rank != channels:
        context.refuse("it gates positions by one another", "the axis of channels")
    half = int(tensor.channels or 0) // 2
    values, gates = (
        channels_between(tensor, range(begin, begin + half), context) for begin in (0, half)
    )
    context.became = "channels gated by others"
    gates = context.activated(Activation("sigmoid"), gates)
    return combined(Product(), [values, gates], context)


def _refuse_pairs(first: Tensor, second: Tensor, context: Context) -> NoReturn:
    """Refuse the product of two random tensors as matrices."""
    if len(first.shape) > 1 and len(second.shape) > 1:
        context.refuse(
            "it multiplies each position of a random branch by each of another, as attention and "
            "crosses of fields do: sums of such products, of a fixed number of positions, stay "
            "random at any width",
            "Multiply of independent branches, position by position, with a layer with weights "
            "after it; or Dot(1) of two vectors, their inner product",
        )
    context.refuse(
        "it sums products of two random branches over axes of its own, and has no rule here",
        "Multiply of independent branches with a layer with weights after it",
    )


def read_matmul(call: Call, context: Context) -> Tensor:
    """Read a matrix of constants times the positions of one axis, or units, from either side."""
    names = ("x1", "x2")
    stated = dict(zip(names, call.args, strict=False)) | call.kwargs
    first, second = (stated.get(name) for name in names)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.is_data or second.is_data:
            context.refuse(
                "it weighs positions by numbers of the data, and has no rule here",
                "a matrix of constants, if it is the same for all inputs",
            )
        _refuse_pairs(first, second, context)
    left = not isinstance(first, Tensor)
    constants = first if left else second
    tensor = context.as_graph_tensor(call.tensors[0])
    rank = len(tensor.shape)
    matrix = _matrix(constants, rank + 1, context)
    axis = rank - 2 if left else rank - 1  # of Keras's shape, which the product sums over
    channels = 0 if tensor.channel_first else rank - 1
    if axis == channels and not tensor.units:
        tensor = _units_to_mix(call, tensor, context)
    elif tensor.flat or axis == -1:
        context.refuse(*_MIXES)
    rows = matrix if left else matrix.T
    context.became = f"matrix of {rows.shape[0]}x{rows.shape[1]} on positions"
    place = axis - 1 if tensor.channel_first else axis
    op = Matrix(place, tuple(tuple(map(float, row)) for row in rows))
    return context.apply(op, tensor, call.output)


def read_contraction(call: Call, context: Context) -> Tensor:
    """Read ops.dot and ops.tensordot of a tensor and a matrix of constants, as its product."""
    constants = next((a for a in call.args[1:2] if not isinstance(a, Tensor)), None)
    axes, rank = getattr(call.operation, "axes", 1), len(call.tensors[0].shape) + 1
    if not isinstance(axes, int):
        own, others = ([int(axis) for axis in np.ravel(each)] for each in axes)
        axes = int((own, others) in (([rank - 1], [0]), ([-1], [0])))
    if constants is None or np.ndim(constants) != 2 or axes != 1:
        context.refuse(*PRODUCT)
    return read_matmul(call, context)


def _units_to_mix(call: Call, tensor: Tensor, context: Context) -> Tensor:
    """A tensor with its channels as units, which a matrix mixes at an output."""
    units = units_of(tensor, context)
    if units is None:
        context.refuse(*_MIXES)
    return replace(units, units=Obstacle(context.path, call.received, *_MIXES))


def _matrix(stated: Any, rank: int, context: Context) -> Array:
    """The constants as one matrix; refuses other arrays."""
    values = np.asarray(stated)
    while values.ndim > 2 and values.shape[0] == 1 and values.ndim <= rank:
        values = values[0]
    if values.ndim != 2 or values.dtype.kind not in "biuf" or not 0 < values.size <= _MOST_ENTRIES:
        context.refuse(
            f"its constants {received_text(stated)} are no real matrix of at most {_MOST_ENTRIES} "
            "entries",
            "one matrix for all inputs",
        )
    values = values.astype(np.float64)
    with np.errstate(over="ignore"):
        if not np.isfinite(values * values).all():
            context.refuse("its constants have no finite squares", "finite constants")
    return values
