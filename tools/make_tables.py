"""Writes the tables of docs/reference from the registries; with --check says if they are stale.

python tools/make_tables.py [--check]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras2gp.covariance import program  # noqa: F401 (registers the rules)
from keras2gp.covariance.registry import dual_table
from keras2gp.layer_table import LAYERS, OPERATIONS

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"


def table(header: tuple[str, str], rows: dict[str, list[str]]) -> str:
    """A Markdown table: what a group of names does, and the names."""
    lines = [f"| {header[0]} | {header[1]} |", "|---|---|"]
    lines += [f"| {', '.join(names)} | {what} |" for what, names in rows.items()]
    return "\n".join(lines)


def grouped(entries: dict[str, str]) -> dict[str, list[str]]:
    """Names by what they do, for one row each."""
    groups: dict[str, list[str]] = {}
    for name, what in entries.items():
        groups.setdefault(what.replace("|", "\\|"), []).append(f"`{name}`")
    return groups


def layers() -> str:
    """Layers and operations that are read."""
    rows = {entry.name: entry.becomes for entry in LAYERS.values()}
    rows |= {f"keras.ops {entry.name}": entry.becomes for entry in OPERATIONS.values()}
    phi = OPERATIONS["Relu"].becomes
    rows = {name: what for name, what in sorted(rows.items()) if what not in ("", phi)}
    rows["keras.ops functions of the table of activations"] = phi
    return table(("Keras", "becomes"), grouped(rows))


def activations() -> str:
    """Activations with a closed form."""
    return table(("activation", "E[phi(u) phi(v)]"), grouped(dual_table()))


def filled(text: str, name: str, rows: str) -> str:
    """The text with the table between its markers made anew."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    head, rest = text.split(begin, 1)
    _, tail = rest.split(end, 1)
    return head + begin + rows + end + tail


def main() -> int:
    """Write the pages of tables, or compare them."""
    stale = []
    for name, make in {"layers": layers, "activations": activations}.items():
        page = REFERENCE / f"{name}.md"
        old = page.read_text()
        new = filled(old, name, make())
        if new == old:
            continue
        stale.append(page.name)
        if "--check" not in sys.argv[1:]:
            page.write_text(new)
    if stale and "--check" in sys.argv[1:]:
        names = ", ".join(stale)
        print(f"{names}: stale tables; run python tools/make_tables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
