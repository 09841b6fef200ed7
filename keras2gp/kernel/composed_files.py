"""Sums and products of kernels on disk: a kernel.json, and a directory for each part.

    DIR/kernel.json     the operation, the number, the parts: digests of networks' kernels, or a
                        kernel of scikit-learn as data
    DIR/parts/1/ ...    each network's kernel, or a further sum or product, as it is saved alone

As of a single kernel, everything is data, and a changed file is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras2gp._util.digest import check_digest, file_digest, with_digest
from keras2gp.errors import ModelFileError
from keras2gp.kernel.functions import function_from_state, function_state
from keras2gp.kernel.saving import JSON, malformed_refused, replaced

__all__ = ["is_composed", "read_composed", "save_composed"]

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
