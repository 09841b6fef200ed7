"""Sums and products of kernels on disk, and kernels of scikit-learn in them, as data."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.checks import is_number, is_whole_number
from keras2gp._util.digest import check_digest, file_digest, with_digest
from keras2gp._util.text import received_text
from keras2gp.errors import ModelFileError
from keras2gp.kernel.saving import JSON, malformed_refused, replaced

__all__ = ["function_from_state", "function_state", "is_composed", "read_composed", "save_composed"]

_MODULE = "sklearn.gaussian_process.kernels"
_CLASSES = (
    *("RBF", "Matern", "RationalQuadratic", "ExpSineSquared", "DotProduct", "ConstantKernel"),
    *("Sum", "Product", "Exponentiation"),
)
"""Those whose settings are numbers, and kernels of this list."""
_FIXED = "fixed"


def function_state(kernel: Any) -> dict[str, Any]:
    """A kernel of scikit-learn as data for JSON.

    Raises:
        ModelFileError: it is of another class, or holds a setting that is no number.
    """
    kind = type(kernel)
    if kind.__module__ != _MODULE or kind.__name__ not in _CLASSES:
        raise ModelFileError(
            f"{received_text(kernel)} is a {kind.__name__}, and a saved kernel holds no code but "
            f"scikit-learn's {', '.join(_CLASSES)}. Try: one of these, or a sum that is put "
            "together again after keras2gp.load of its parts"
        )
    settings = {name: _state(v, name) for name, v in kernel.get_params(deep=False).items()}
    return {"class": kind.__name__, "settings": settings}


def function_from_state(state: Mapping[str, Any]) -> Any:
    """The kernel of a `function_state`; KeyError, TypeError and the like where it is malformed.

    Raises:
        ModelFileError: the class is none of the list.
    """
    name = state["class"]
    if name not in _CLASSES:
        raise ModelFileError(f"a kernel of the class {received_text(name)}")
    settings = {str(key): _value(entry) for key, entry in state["settings"].items()}
    return getattr(importlib.import_module(_MODULE), name)(**settings)


def _state(value: Any, name: str) -> Any:
    if value is None or (isinstance(value, str) and value == _FIXED):
        return value
    if is_whole_number(value):
        return int(value)
    if is_number(value) and math.isfinite(value):
        return float(value)
    if isinstance(value, tuple | list):
        return [_state(entry, name) for entry in value]
    if isinstance(value, np.ndarray) and value.ndim:
        return {"array": [_state(entry, name) for entry in value.tolist()]}
    if hasattr(value, "get_params"):
        return function_state(value)
    raise ModelFileError(
        f"{name}={received_text(value)} of a kernel of scikit-learn cannot be saved: expected "
        "finite numbers"
    )


def _value(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        if "array" not in entry:
            return function_from_state(entry)
        return np.array(entry["array"], dtype=np.float64)
    if isinstance(entry, list):
        return tuple(map(_value, entry))
    if entry is None or entry == _FIXED or (type(entry) in (int, float) and math.isfinite(entry)):
        return entry
    raise ModelFileError(f"a setting of a kernel is {received_text(entry)}")


_FORMAT = 3
_MOST_PARTS = 1000


def save_composed(operation: str, parts: Sequence[Any], number: float, directory: Path) -> None:
    """Write a sum or product into a directory, which is replaced if it holds a kernel already.

    Args:
        operation: "sum" or "product".
        parts: kernels of keras2gp, which have a `save`, or of scikit-learn.
        number: that is added, or multiplied.
        directory: where to.

    Raises:
        ModelFileError: the directory holds anything else, or cannot be written; a part is code.
    """
    states = [None if hasattr(part, "save") else function_state(part) for part in parts]
    with replaced(directory) as target:
        entries = []
        for i, (part, state) in enumerate(zip(parts, states, strict=True), start=1):
            if state is None:
                part.save(_part(target, i))
                entries.append({"digest": file_digest(_part(target, i) / JSON)})
            else:
                entries.append(state)
        data = {"format": _FORMAT, "operation": operation, "number": number, "parts": entries}
        text = json.dumps(with_digest(data), indent=1, allow_nan=False)
        (target / JSON).write_text(text, encoding="utf-8")


def is_composed(data: Mapping[str, Any]) -> bool:
    """Whether the contents of a kernel.json are those of a sum or product."""
    return "operation" in data


def read_composed(
    directory: Path, data: Mapping[str, Any], load: Callable[[Path], Any]
) -> tuple[Any, list[Any], float]:
    """The operation, the parts and the number that `save_composed` wrote.

    Args:
        directory: of the kernel.
        data: the contents of its kernel.json.
        load: reads the kernel of a directory.

    Raises:
        ModelFileError: it was changed or damaged.
    """
    file = directory / JSON
    check_digest(data, str(file))
    with malformed_refused(file):
        if data["format"] != _FORMAT or data["operation"] not in ("sum", "product"):
            raise ModelFileError(
                f"format {data['format']!r} with the operation {data['operation']!r}, this version "
                f"reads {_FORMAT} with a sum or a product"
            )
        entries, number = data["parts"], data["number"]
        if not isinstance(entries, list) or not 0 < len(entries) <= _MOST_PARTS:
            raise ModelFileError("its parts are no list of kernels")
        if type(number) not in (int, float):
            raise ModelFileError(f"its number is {number!r}")
        parts = []
        for i, entry in enumerate(entries, start=1):
            if "digest" not in entry:
                parts.append(function_from_state(entry))
                continue
            part = _part(directory, i)
            if file_digest(part / JSON) != entry["digest"]:
                raise ModelFileError(
                    f"{part / JSON} is missing or is not the file that keras2gp wrote (its digest "
                    "differs). Try: an unchanged copy, or save the kernel again"
                )
            parts.append(load(part))
        return data["operation"], parts, float(number)


def _part(directory: Path, number: int) -> Path:
    return directory / "parts" / str(number)
