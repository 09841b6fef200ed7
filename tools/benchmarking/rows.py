"""Rows of a table that are kept in a file, so that a run that was cut off goes on with the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Rows"]


class Rows:
    """Rows by name.

    path:     a file with a line for each row, which need not exist; None keeps nothing
    settings: what rows are measured with; those of other settings are not taken from the file
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self._path, self._settings = path, settings
        lines = path.read_text().splitlines() if path and path.exists() else []
        kept = map(json.loads, lines)
        self._found = {line["name"]: line["row"] for line in kept if line["settings"] == settings}

    def row(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of a name; it is measured and kept if the file has none."""
        if name not in self._found:
            self._found[name] = measure()
            if self._path:
                line = {"name": name, "settings": self._settings, "row": self._found[name]}
                with self._path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
        return dict(self._found[name])
