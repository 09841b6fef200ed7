"""Docstrings of the package as reStructuredText.

They are plain text with Google's sections, in which `*`, `_` and `|` mean themselves, backticks
are code, and `>>>` starts an example.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

FIELDS = {"Args": ":param {}:", "Attributes": "* **{}** --", "Raises": ":raises {}:"}
"""Sections that are lists of names, and how a name is written."""
PARAGRAPHS = ("Shapes", "References", "Reference", "Yields", "Note")
VERBATIM = ("Math",)
_SECTION = re.compile(rf"^({'|'.join((*FIELDS, *PARAGRAPHS, *VERBATIM, 'Returns'))}):\s*(.*)$")
_ENTRY = re.compile(r"^(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*)(?: \([^)]*\))?:(?:\s+(.*))?$")


def plain(text: str) -> str:
    """One line, whose marks are text and whose backticks are code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return re.sub(r"([\\*_|`])", r"\\\1", text)
    parts[::2] = [re.sub(r"([\\*_|])", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f"``{part}``" for part in parts[1::2]]
    return "".join(parts)


def body(lines: list[str]) -> Iterator[str]:
    """Lines of text, those of examples untouched."""
    example = False
    for line in lines:
        if line.lstrip().startswith(">>>"):
            if not example:
                yield ""
            example = True
        elif not line.strip():
            example = False
        yield line if example else plain(line)


def dedented(lines: list[str]) -> list[str]:
    """Without the indentation that all lines have."""
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    return [line[min(indents, default=0) :] for line in lines]


def parts_of(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The sections of a docstring, that of the text before them without a name."""
    name, held = "", []
    for line in lines:
        if found := _SECTION.match(line):
            yield name, held
            name, held = found[1], [f"    {found[2]}"] if found[2] else []
        elif name and line.strip() and not line.startswith(" "):
            yield name, held
            name, held = "", [line]
        else:
            held.append(line)
    yield name, held


def fields(kind: str, lines: list[str]) -> Iterator[str]:
    """A list of names and what they are."""
    yield ""
    if not kind.startswith(":"):
        yield from (".. rubric:: Attributes", "")
    for line in dedented(lines):
        found = None if line.startswith(" ") else _ENTRY.match(line)
        if found:
            names = [plain(part.strip()) for part in found[1].split(",")]
            yield f"{kind.format(', '.join(names))} {plain(found[2] or '')}".rstrip()
        else:
            indented = line.startswith(" ") or not line.strip()
            yield plain(line[2:] if indented else f"  {line}")
    yield ""


def as_rst(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText."""
    result: list[str] = []
    for name, held in parts_of(lines):
        if name in FIELDS:
            result += fields(FIELDS[name], held)
        elif name == "Returns":
            text = [plain(line) for line in dedented(held)]
            result += ["", f":returns: {text[0] if text else ''}"]
            result += [f"  {line}" if line else line for line in text[1:]]
            result.append("")
        elif name in VERBATIM:
            result += ["", f".. rubric:: {name}", "", ".. code-block:: text", ""]
            result += [f"   {line}" for line in dedented(held)] + [""]
        elif name:
            result += ["", f".. rubric:: {name}", "", *body(dedented(held)), ""]
        else:
            result += body(held)
    return result


def convert(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Rewrite a docstring in place."""
    lines[:] = as_rst(list(lines))


def skip(_app: Any, _what: str, name: str, obj: Any, skipped: bool, _options: Any) -> bool | None:
    """Leave out members that a base class outside the package brings."""
    function = getattr(obj, "fget", None) or getattr(obj, "__func__", obj)
    home = getattr(function, "__module__", None)
    foreign = isinstance(home, str) and not home.startswith("keras2gp")
    return True if name.startswith("_") or foreign else (skipped or None)


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", convert)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
