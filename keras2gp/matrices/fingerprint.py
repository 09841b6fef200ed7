"""Fingerprint of a matrix: hashes of all that its entries depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.version import VERSION
from keras2gp.graph.graph import Graph
from keras2gp.graph.serial import graph_to_dict
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.work import Work

__all__ = ["FORMAT", "differences", "digest", "fingerprint_of", "graph_identity", "nameless"]

FORMAT = 2

_MEANINGS = {
    "format": "the format of the store",
    "keras2gp": "the version of keras2gp",
    "graph": "the kernel's architecture",
    "parameters": "the kernel's variances or weights",
    "x1": "the images of the rows",
    "x2": "the images of the columns",
    "dtype": "the dtype",
    "kind": "the kind of kernel",
    "shape": "the size of the matrix",
    "block": "the block shape",
}


def fingerprint_of(work: Work) -> dict[str, Any]:
    """Everything that the entries depend on, one JSON value each; data and graph as SHA-256.

    The data are hashed as the compiled kernel receives them,
    after the deterministic layers. x2 is None for a symmetric matrix.
    """
    shape, second = work.partition.shape, work.second
    identity = work.program.identity(work.parameters)
    return {
        "format": FORMAT,
        "keras2gp": VERSION,
        **{part: _hash_json(value) for part, value in identity.items()},
        "x1": _hash_arrays(work.first),
        "x2": None if second is None else _hash_arrays(second),
        "dtype": work.program.dtype,
        "kind": work.program.kind,
        "shape": [*work.partition.size, *work.partition.positions],
        "block": [shape.rows, shape.columns, shape.tile_rows, shape.tile_columns],
    }


def graph_identity(graph: Graph, parameters: Mapping[str, LayerVariances]) -> dict[str, Any]:
    """The architecture of a graph and its variances, for JSON.

    The names of layers are left out: Keras numbers them anew whenever a model is built again,
    and they do not change a kernel.
    """
    return {"graph": nameless(graph), "parameters": _ordered(graph, parameters)}


def digest(fingerprint: Mapping[str, Any]) -> str:
    """One SHA-256 for all of a fingerprint."""
    return _hash_json(fingerprint)


def differences(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """A sentence for each part in which two fingerprints differ."""
    return [
        f"{meaning}: {_short(stored.get(part))} in the store, {_short(expected[part])} here"
        for part, meaning in _MEANINGS.items()
        if stored.get(part) != expected[part]
    ]


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)


def nameless(graph: Graph) -> dict[str, Any]:
    """A graph whose layers have numbers and no names, for JSON."""
    data = graph_to_dict(graph)
    numbers = {layer: i for i, layer in enumerate(graph.layers)}
    factors: dict[str, int] = {}
    for entry in data["nodes"]:
        del entry["path"]
        if "layer" in entry:
            entry["layer"] = numbers[entry["layer"]]
        if "factors" in entry and entry["op"] == "Gain":
            entry["factors"] = factors.setdefault(entry["factors"], len(factors))
    return data


def _ordered(graph: Graph, parameters: Mapping[str, LayerVariances]) -> list[list[float]]:
    return [[parameters[layer].weight, parameters[layer].bias] for layer in graph.layers]


def _hash_json(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _hash_arrays(arrays: Sequence[Array]) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str} {array.shape} ".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
