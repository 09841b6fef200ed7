"""Matrices of constants on the positions of one axis: graph convolutions of a fixed graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.text import received_text
from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.ops import Matrix

__all__ = ["read_matmul"]

_MOST_ENTRIES = 2**18
"""Most entries of a matrix: 512 positions on 512."""


def read_matmul(call: Call, context: Context) -> Tensor:
    """Read a matrix of constants times the positions of one axis, from either side."""
    names = ("x1", "x2")
    stated = dict(zip(names, call.args, strict=False)) | call.kwargs
    first, second = (stated.get(name) for name in names)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.is_data or second.is_data:
            context.refuse(
                "it weighs positions by numbers of the data, and has no rule here",
                "a matrix of constants, if it is the same for all inputs",
            )
        context.refuse(
            "it sums products of two random branches over axes of its own, and has no rule here",
            "Multiply of independent branches with a layer with weights after it",
        )
    left = not isinstance(first, Tensor)
    constants = first if left else second
    tensor = context.as_graph_tensor(call.tensors[0])
    rank = len(tensor.shape)
    matrix = _matrix(constants, rank + 1, context)
    axis = rank - 2 if left else rank - 1  # of Keras's shape, which the product sums over
    channels = 0 if tensor.channel_first else rank - 1
    if tensor.flat or axis in (-1, channels):
        context.refuse(
            "its constants mix channels or images, so that its results are not alike",
            "a Dense layer in its place, or the matrix on an axis of positions",
        )
    rows = matrix if left else matrix.T
    context.became = f"matrix of {rows.shape[0]}x{rows.shape[1]} on positions"
    place = axis - 1 if tensor.channel_first else axis
    op = Matrix(place, tuple(tuple(map(float, row)) for row in rows))
    return context.apply(op, tensor, call.output)


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
