"""A graph as readable JSON, and back: data, checked field by field, never code."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from keras2gp.errors import GraphError, ModelFileError
from keras2gp.graph import ops
from keras2gp.graph.graph import Graph, Node

__all__ = ["graph_from_dict", "graph_to_dict"]

_OPS: dict[str, type[ops.Op]] = {
    name: getattr(ops, name)
    for name in ops.__all__
    if isinstance(getattr(ops, name), type) and name not in ("Op", "Opaque")
}
_MOST_NODES = 100_000


def graph_to_dict(graph: Graph) -> dict[str, Any]:
    """The graph as nested dicts and lists."""
    return {"output": graph.output, "nodes": [_entry(node) for node in graph.nodes]}


def _entry(node: Node) -> dict[str, Any]:
    if isinstance(node.op, ops.Opaque):
        raise GraphError(f"{node.path} was refused: a graph with it cannot be saved")
    values = {field.name: getattr(node.op, field.name) for field in fields(node.op)}
    place = {"inputs": node.inputs, "spatial": node.spatial, "path": node.path}
    return {"op": type(node.op).__name__, **values, **place}


def graph_from_dict(data: Any) -> Graph:
    """The graph of `graph_to_dict`, from parsed JSON.

    Raises: ModelFileError for anything else.
    """
    try:
        entries = data["nodes"]
        if not isinstance(entries, list) or len(entries) > _MOST_NODES:
            raise ModelFileError("the saved graph is not a list of nodes")
        return Graph(tuple(_node(entry) for entry in entries), int(data["output"]))
    except (LookupError, TypeError, ValueError, ArithmeticError, GraphError) as error:
        raise ModelFileError(f"the saved graph is malformed: {error}") from error


def _node(entry: dict[str, Any]) -> Node:
    kind = _OPS[entry["op"]]
    values = {field.name: _frozen(entry[field.name]) for field in fields(kind)}
    spatial = tuple(int(n) for n in entry["spatial"])
    inputs = tuple(int(i) for i in entry["inputs"])
    return Node(kind(**values), inputs, spatial, str(entry["path"]))


def _frozen(value: Any) -> Any:
    """JSON lists as the tuples that ops hold; nothing but numbers, texts and lists is let in."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, str | int | float):
        return value
    raise ModelFileError(f"the saved graph holds {value!r}")
