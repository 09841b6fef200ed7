"""The facts that tell an X-ray from another one, and what differs between two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from keras2gp._util.arrays import Array
from keras2gp._util.version import VERSION
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.fingerprint import digest, graph_identity
from keras2gp.xrays.images import Inputs, arrays_of
from keras2gp.xrays.scores import Task

__all__ = ["differing", "identity_of", "of_data", "of_model"]

_FORMAT = 2
_MEANINGS = {
    "keras2gp": "the version of keras2gp",
    "format": "the format of the directory",
    "rows": "the number of rows",
    "data_sha256": "the images",
    "targets_sha256": "the targets",
    "test_rows": "the number of test rows",
    "test_sha256": "the test rows",
    "subsets": "subsets",
    "seed": "the seed",
    "kind": "the kind of kernel",
    "dtype": "the dtype",
    "network": "the model, or its settings (position, overrides, output, ...)",
}


def of_data(x: Inputs, task: Task, test: Inputs | None, subsets: int, seed: int) -> dict[str, Any]:
    """The facts that are known before a model is read."""
    tested = [] if test is None else [*arrays_of(test), task.test]
    return {
        "format": _FORMAT,
        "rows": len(task.y),
        "data_sha256": _sha256(*arrays_of(x)),
        "targets_sha256": _sha256(task.y),
        "test_rows": 0 if task.test is None else len(task.test),
        "test_sha256": _sha256(*(array for array in tested if array is not None)),
        "subsets": subsets,
        "seed": seed,
    }


def of_model(kernel: Kernel) -> dict[str, Any]:
    """The facts of the kernel of the model as it is."""
    network = graph_identity(kernel.graph, kernel.parameters)
    return {"kind": kernel.kind, "dtype": kernel.dtype, "network": digest(network)}


def identity_of(data: Mapping[str, Any], kernel: Kernel, key: str) -> dict[str, Any]:
    """All facts.

    Args:
        data: of the data.
        kernel: of the model as it is.
        key: names its matrix.
    """
    return {"xray": key, **data, **of_model(kernel)}


def differing(earlier: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """A clause for each fact that differs, with the values where they are short.

    Args:
        earlier: the facts of a directory.
        facts: some of those of this X-ray.
    """
    clauses = []
    for name, value in {"keras2gp": VERSION, **facts}.items():
        there = earlier.get(name)
        if there == value or name not in _MEANINGS:
            continue
        long = name.endswith("sha256") or name == "network"
        clauses.append(_MEANINGS[name] + ("" if long else f" ({there} there, {value} here)"))
    if not clauses and earlier.get("xray") != facts.get("xray", earlier.get("xray")):
        return ["the images as the model's preprocessing leaves them"]
    return clauses


def _sha256(*arrays: Array) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
    return total.hexdigest()
