"""Vocabularies that lookups were adapted to, which Keras 3 keeps as text beside the settings."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from keras2gp._util.memory import require_memory
from keras2gp.errors import ModelFileError
from keras2gp.modelfile.archive import member_of, member_size
from keras2gp.modelfile.sources import ModelSource, bytes_of

__all__ = ["fill_vocabularies"]

_LOOKUPS = {
    "IntegerLookup": "integer_lookup",
    "StringLookup": "string_lookup",
    "TextVectorization": "text_vectorization",
}
_MODELS = {"Functional": "functional", "Sequential": "sequential"}
_LIMIT = 2**26
"""Most bytes of all vocabularies of a file."""
_WORD = 120
"""Bytes of an entry in memory."""


def fill_vocabularies(source: ModelSource, config: dict[str, Any]) -> None:
    """Put vocabularies that lie beside the settings of lookups into the settings.

    The text is data: one entry a line. A lookup without one, or of another number of entries than
    its settings state, stays as it is.

    Args:
        source: the file.
        config: its configuration, of any content; it is changed.

    Raises:
        ModelFileError: a vocabulary is damaged or too large.
    """
    left, size = [(config, "assets")], _LIMIT
    while source.kind in ("archive", "directory") and left:
        model, place = left.pop()
        inner = model.get("config")
        layers = inner.get("layers") if isinstance(inner, dict) else None
        counts: Counter[str] = Counter()
        for layer in layers if isinstance(layers, list) else ():
            kind = layer.get("class_name") if isinstance(layer, dict) else None
            name = (_LOOKUPS | _MODELS).get(kind) if isinstance(kind, str) else None
            if name is None:
                continue
            where = f"{place}/layers/{name}" + (f"_{counts[name]}" if counts[name] else "")
            counts[name] += 1
            if kind in _MODELS:
                left.append((layer, where))
            else:
                size -= _fill(source, layer, f"{where}/vocabulary.txt", size)


def _fill(source: ModelSource, layer: dict[str, Any], name: str, limit: int) -> int:
    """Fill in the vocabulary of one lookup; the bytes that were read."""
    settings = layer.get("config")
    if not isinstance(settings, dict) or settings.get("vocabulary") is not None:
        return 0
    if settings.get("output_mode") == "tf_idf":  # The weights of its entries lie nowhere.
        return 0
    data = _text_of(source, name, limit)
    if data is None:
        return 0
    require_memory(
        _WORD * (1 + data.count(b"\n")), f"{source.path}: {name}", "fewer entries", ModelFileError
    )
    try:
        entries: list[Any] = data.decode("utf-8").split("\n")
        if layer["class_name"] == "IntegerLookup":
            entries = [int(entry) for entry in entries]
    except ValueError as error:
        raise ModelFileError(f"{source.path}: its {name} is damaged: {error}") from error
    if settings.get("vocabulary_size") in (None, len(entries)):
        settings["vocabulary"] = entries
    return len(data)


def _text_of(source: ModelSource, name: str, limit: int) -> bytes | None:
    """The text of a vocabulary; None if there is none."""
    if source.kind == "archive":
        return member_of(source.path, name, limit) if member_size(source.path, name) else None
    path = source.path / name
    inside = path.resolve().is_relative_to(source.path.resolve())
    if not inside or not path.is_file():
        return None
    return bytes_of(path, limit, os.O_NOFOLLOW)
