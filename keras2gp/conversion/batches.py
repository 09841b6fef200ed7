"""Code of the user's that reads the size of the batch, which has no number while it is traced.

It is traced at two sizes. What differs between the two is where the size went: the first axis of a
Reshape, or constants that were repeated for every image. Everything else has to be equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras2gp._util.keras_objects import KerasNode
from keras2gp.conversion.weight_calls import StandIn

__all__ = ["SIZES", "of_any_batch", "reads_batch", "with_open_batch"]

SIZES = (2, 3)
"""Sizes at which code is traced that reads the size."""


class _DiffersError(Exception):
    """Something is not the same function of each image at both sizes."""


def with_open_batch(node: KerasNode) -> Any:
    """The record of a call; for a Reshape to (batch, ...) one to (-1, ...), whatever the batch."""
    if type(node.operation).__name__ != "Reshape" or isinstance(node.operation, keras.Layer):
        return node
    return _reshape(node, -1) if node.operation.newshape[:1] == (None,) else node


def reads_batch(nodes: Sequence[Any]) -> bool:
    """Whether a Reshape leaves two sizes open, the batch's and one that follows from it."""
    return any(
        type(node.operation).__name__ == "Reshape"
        and not isinstance(node.operation, keras.Layer)
        and node.operation.newshape.count(-1) == 2
        for node in nodes
    )


def of_any_batch(first: Sequence[Any], second: Sequence[Any]) -> list[Any] | None:
    """Records of the same code at both of SIZES as records for every size; None if they differ.

    Returns: those of the second, in order. The first axis of their tensors is open from here on.
    """
    if len(first) != len(second):
        return None
    places = [{id(t): (i, j) for i, n in enumerate(side) for j, t in enumerate(n.outputs)}
              for side in (first, second)]  # fmt: skip
    try:
        made = [_joined(*both, *places) for both in zip(first, second, strict=True)]
    except _DiffersError:
        return None
    for node in second:
        for tensor in (*node.input_tensors, *node.outputs):
            tensor._shape = (None, *tensor.shape[1:])  # noqa: SLF001 (of a record of our own)
    return made


def _joined(
    first: Any, second: Any, first_places: dict[int, Any], second_places: dict[int, Any]
) -> Any:
    """Two records of one call as one record."""
    shapes = [[t.shape for t in node.outputs] for node in (first, second)]
    for one, other in zip(*shapes, strict=True):
        if (one[:1], other[:1]) != tuple((n,) for n in SIZES) or one[1:] != other[1:]:
            raise _DiffersError
    node = _of_one_operation(first, second)
    pairs = [
        keras.tree.flatten((each.arguments.args, each.arguments.kwargs)) for each in (first, second)
    ]
    if len(pairs[0]) != len(pairs[1]):
        raise _DiffersError
    values, changed = [], False
    for one, other in zip(*pairs, strict=True):
        if isinstance(other, keras.KerasTensor):
            if first_places.get(id(one)) != second_places.get(id(other)):
                raise _DiffersError
            values.append(other)
            continue
        value = _of_each_image(one, other)
        changed |= value is not other
        values.append(value)
    if not changed:
        return node
    both = node.arguments.args, node.arguments.kwargs
    args, kwargs = keras.tree.pack_sequence_as(both, values)
    return StandIn(node.operation, type(node.arguments)(*args, **kwargs), node.outputs)


def _of_one_operation(first: Any, second: Any) -> Any:
    """The second record, if both are of the same operation."""
    one, other = first.operation, second.operation
    if one is other:
        return second
    if type(one) is not type(other):
        raise _DiffersError
    if isinstance(one, keras.Layer):  # made anew by each call of the code
        alike = not one.weights and _settings(one.get_config()) == _settings(other.get_config())
        if not alike:
            raise _DiffersError
        return second
    if type(one).__name__ == "Reshape" and (one.newshape[:1], other.newshape[:1]) == tuple(
        (n,) for n in SIZES
    ):
        return _reshape(second, -1)
    if _settings(vars(one)) != _settings(vars(other)):
        raise _DiffersError
    return second


def _settings(values: dict[str, Any]) -> dict[str, str]:
    """Settings as text, less names and Keras's records."""
    return {
        key: repr(value)
        for key, value in values.items()
        if key != "name" and not key.startswith("_")
    }


def _reshape(node: KerasNode, first: int) -> StandIn:
    """The record of a Reshape with another first size, and the others as they came out."""
    stated = node.operation.newshape[1:]
    sizes = tuple(node.outputs[0].shape[1:])
    newshape = (first, *(stated if None in sizes else sizes))
    # Keras keeps what an operation was made with: a copy would be made with the old sizes.
    operation = type(node.operation)(newshape, name=node.operation.name)
    return StandIn(operation, node.arguments, node.outputs)


def _of_each_image(one: Any, other: Any) -> Any:
    """An argument that is equal at both sizes; of constants repeated for every image, those of one.

    Raises: _DiffersError
    """
    if one is other:
        return other
    if not (keras.ops.is_tensor(other) or isinstance(other, np.ndarray)):
        if type(one) is not type(other) or one != other:
            raise _DiffersError
        return other
    arrays = np.asarray(one), np.asarray(other)
    if arrays[0].shape == arrays[1].shape:
        if not np.array_equal(*arrays, equal_nan=True):
            raise _DiffersError
        return other
    repeated = all(
        a.shape[:1] == (n,) and (a == a[:1]).all() for a, n in zip(arrays, SIZES, strict=True)
    )
    if not repeated or not np.array_equal(arrays[0][:1], arrays[1][:1]):
        raise _DiffersError
    return arrays[1][:1]
