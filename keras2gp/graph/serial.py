"""A graph as readable JSON, and back: data, checked field by field, never code."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from keras2gp.errors import GraphError, ModelFileError
from keras2gp.graph import ops
from keras2gp.graph.graph import Graph, Node

__all__ = ["graph_from_dict", "graph_to_dict"]

_MOST_NODES = 100_000
_MOST_NUMBER = 2**31
_LONGEST_TEXT = 2**20
_DEEPEST = 8
_MOST_POSITIONS = 2**24
_COUNTS = frozenset({"window", "strides", "dilation", "factors", "size", "channels", "vocabulary"})
"""Fields whose numbers are at least 1; others are at least 0."""


_OPS: dict[str, type[ops.Op]] = {
    op.__name__: op
    for op in (
        ops.Activation,
        ops.Affine,
        ops.AveragePool,
        ops.Axes,
        ops.Calls,
        ops.Combination,
        ops.Composed,
        ops.Crop,
        ops.Depthwise,
        ops.Dilate,
        ops.Flip,
        ops.Gain,
        ops.Input,
        ops.Interpolate,
        ops.Matrix,
        ops.Mixture,
        ops.Multiple,
        ops.Normalize,
        ops.NormalizeAdded,
        ops.Pad,
        ops.Patches,
        ops.Permute,
        ops.Polynomial,
        ops.Positions,
        ops.Product,
        ops.Recurrent,
        ops.Repeat,
        ops.Reshape,
        ops.ReshapeEach,
        ops.Rest,
        ops.Scale,
        ops.Select,
        ops.Shift,
        ops.Shuffle,
        ops.Spread,
        ops.Stack,
        ops.Sum,
        ops.Tokens,
        ops.Total,
        ops.Upsample,
        ops.Weigh,
    )
}
"""The ops that a file may name, and no others."""


def graph_to_dict(graph: Graph) -> dict[str, Any]:
    """The graph as nested dicts and lists."""
    data = {"output": graph.output, "nodes": [_entry(node) for node in graph.nodes]}
    return {**data, "between": True} if graph.between else data


def _entry(node: Node) -> dict[str, Any]:
    if isinstance(node.op, ops.Opaque):
        raise GraphError(f"{node.path} was refused: a graph with it cannot be saved")
    place = {"inputs": node.inputs, "spatial": node.spatial, "path": node.path}
    return {**_written(node.op), **place}


def _written(op: ops.Op) -> dict[str, Any]:
    values = {field.name: _plain(getattr(op, field.name)) for field in fields(op)}
    return {"op": type(op).__name__, **values}


def _plain(value: Any) -> Any:
    if isinstance(value, ops.Op):
        return _written(value)
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def graph_from_dict(data: Any) -> Graph:
    """The graph of `graph_to_dict`, from parsed JSON.

    Raises: ModelFileError for anything else: an op that is not ours, a field that is missing or
            of another type, shapes that do not fit, numbers and sizes beyond all reason.
    """
    try:
        entries = data["nodes"]
        if not isinstance(entries, list) or len(entries) > _MOST_NODES:
            raise ModelFileError("the saved graph is not a list of nodes")
        between = _value(data.get("between", False), bool, "between", 0)
        output = _number(data["output"], "output")
        return Graph(tuple(_node(entry) for entry in entries), output, between)
    except (LookupError, TypeError, ValueError, ArithmeticError, GraphError) as error:
        raise ModelFileError(f"the saved graph is malformed: {error}") from error


def _node(entry: dict[str, Any]) -> Node:
    spatial = _value(entry["spatial"], ops.Spatial, "size", 0)
    if math.prod(spatial) > _MOST_POSITIONS:
        raise ModelFileError(f"the saved graph holds a map of {spatial} positions")
    inputs = _value(entry["inputs"], tuple[int, ...], "inputs", 0)
    return Node(_op(entry, 0), inputs, spatial, _value(entry["path"], str, "path", 0))


def _op(entry: dict[str, Any], depth: int) -> ops.Op:
    if depth > _DEEPEST:
        raise ModelFileError(f"the saved graph nests ops more than {_DEEPEST} levels deep")
    kind, hints = _OPS[entry["op"]], _hints(entry["op"])
    names = [field.name for field in fields(kind)]
    return kind(**{name: _value(entry[name], hints[name], name, depth) for name in names})


@cache
def _hints(name: str) -> dict[str, Any]:
    return get_type_hints(_OPS[name])


def _value(value: Any, hint: Any, name: str, depth: int) -> Any:
    """A field of that type; lists come back as the tuples that ops hold."""
    if get_origin(hint) is tuple:
        return _sequence(value, get_args(hint), name, depth)
    if hint is int:
        return _number(value, name)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return value
    if hint is str and isinstance(value, str) and len(value) <= _LONGEST_TEXT:
        return value
    if isinstance(hint, type) and issubclass(hint, ops.Op) and isinstance(value, dict):
        nested = _op(value, depth + 1)
        if isinstance(nested, hint):
            return nested
    raise ModelFileError(f"the saved graph holds {str(value)[:80]!r} as {name}")


def _sequence(value: Any, hints: tuple[Any, ...], name: str, depth: int) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ModelFileError(f"the saved graph holds {str(value)[:80]!r} as {name}")
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        raise ModelFileError(f"the saved graph holds {len(value)} values as {name}")
    return tuple(_value(v, hint, name, depth) for v, hint in zip(value, hints, strict=True))


def _number(value: Any, name: str) -> int:
    least = 1 if name in _COUNTS else 0
    if type(value) is not int or not least <= value < _MOST_NUMBER:
        raise ModelFileError(f"the saved graph holds {str(value)[:80]!r} as {name}")
    return value
