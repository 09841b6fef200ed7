"""Writes the tables of README.md from the registries; with --check says whether they are stale.

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

README = Path(__file__).resolve().parent.parent / "README.md"


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
    rows["keras.ops functions of the table below"] = phi
    return table(("Keras", "becomes"), grouped(rows))


def activations() -> str:
    """Activations with a closed form."""
    return table(("activation", "E[phi(u) phi(v)]"), grouped(dual_table()))


def filled(text: str) -> str:
    """The text with every table between its markers made anew."""
    for name, make in {"layers": layers, "activations": activations}.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        head, rest = text.split(begin, 1)
        _, tail = rest.split(end, 1)
        text = head + begin + make() + end + tail
    return text


def main() -> int:
    """Write README.md, or compare it."""
    old = README.read_text()
    new = filled(old)
    if "--check" in sys.argv[1:]:
        if new != old:
            print("README.md: stale tables; run python tools/make_tables.py", file=sys.stderr)
        return int(new != old)
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
