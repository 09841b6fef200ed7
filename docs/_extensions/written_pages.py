"""Parts of pages that are written when the documentation is built.

A comment of a page is replaced: `<!-- commands -->` by the options of every command, from their
parsers, `<!-- exit codes -->` by their table, `<!-- file: NAME -->` by a file of the root, and in
a table of contents `<!-- others of FOLDER -->` by the pages of that folder that it does not name.
`<!-- other names of MODULE -->` stands for the public names that no page of the reference has.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
LINKS = {
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/": "../",
}
"""Links of the root's files, and where they lead from docs/project/."""


def cell(text: str) -> str:
    """Text in a cell of a table."""
    parts = " ".join(text.split()).split("`")  # every other part is code
    parts[::2] = [re.sub(r"([|<*\[\]])", r"\\\1", part) for part in parts[::2]]
    parts[::2] = [re.sub(r"(?<!\w)(--[a-z][\w-]*)", r"`\1`", part) for part in parts[::2]]
    return "`".join(parts)


def option_of(action: argparse.Action) -> str:
    """An argument as it is written."""
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    if not action.option_strings:
        return f"`{value}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return names if action.nargs == 0 else f"{names} `{value}`"


def help_of(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """The help of an argument, its defaults filled in."""
    if not action.help:
        return ""
    text = action.help % {**vars(action), "prog": parser.prog}
    return text + (" (required)" if action.required and action.option_strings else "")


def subparsers_of(parser: argparse.ArgumentParser) -> Any:
    """The action that holds the commands of a parser, if it has any."""
    return next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)  # noqa: SLF001


def command(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    """The section of one command."""
    yield f"{'#' * level} {parser.prog}\n"
    yield f"{cell(parser.description or '')}\n"
    held = subparsers_of(parser)
    if held is not None:
        for kind in held.choices.values():
            yield from command(kind, level + 1)
        return
    first, *others = parser.format_usage().removeprefix("usage: ").splitlines()
    yield "\n".join(["```text", first, *(f"    {line.strip()}" for line in others), "```\n"])
    for group in parser._action_groups:  # noqa: SLF001
        actions = [a for a in group._group_actions if a.dest != "help"]  # noqa: SLF001
        if actions:
            title = "Arguments" if group.title == "positional arguments" else group.title
            yield f":::{{table}} {(title or '').capitalize()}\n:class: options\n"
            yield "| | |\n|---|---|"
            for action in actions:
                yield f"| {option_of(action)} | {cell(help_of(action, parser))} |"
            yield "\n:::\n"


def commands() -> str:
    """Every command, with its arguments."""
    from keras2gp.cli.parser import build_parser

    held = subparsers_of(build_parser())
    return "\n".join(line for parser in held.choices.values() for line in command(parser, 2))


def exit_codes() -> str:
    """The table of exit codes."""
    from keras2gp.cli.exit_codes import MEANINGS

    rows = [f"| {int(code)} | {cell(meaning)} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def file_of_root(name: str) -> str:
    """A file of the root, its links made those of docs/project/, and pages that it names links."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for link, to in LINKS.items():
        text = text.replace(f"]({link}", f"]({to}")
    return re.sub(r"(?<![\w(/`])docs/([\w/-]+\.md)\b", r"[docs/\1](../\1)", text)


def other_names(module: str) -> str:
    """Public names of a module, with their docstrings, that no page of the reference has."""
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    home = import_module(module)
    lacking = [
        name
        for name in home.__all__
        if not name.startswith("_")
        and not re.search(rf":: [\w.]*\b{name}\b", pages)
        and f"automodule:: {getattr(getattr(home, name), '__module__', '')}\n" not in pages
    ]
    if not lacking:
        return ""
    lines = ["## Other names\n", "```{eval-rst}"]
    for name in lacking:
        value = getattr(home, name)
        if isinstance(value, type):
            lines += [f".. autoclass:: {module}.{name}", "   :members:"]
        elif callable(value):
            lines.append(f".. autofunction:: {module}.{name}")
    return "\n".join([*lines, "```"])


def others(folder: str, text: str) -> str:
    """The pages of a folder that a text does not name, a line each."""
    pages = sorted(f"{folder}/{path.stem}" for path in (ROOT / "docs" / folder).glob("*.md"))
    return "\n".join(page for page in pages if f"\n{page}\n" not in text)


def write(_app: Any, _page: str, source: list[str]) -> None:
    """Fill in a page."""
    text = source[0]
    for mark, make in (("<!-- commands -->", commands), ("<!-- exit codes -->", exit_codes)):
        if mark in text:
            text = text.replace(mark, make())
    text = re.sub(r"<!-- file: ([\w.]+) -->", lambda found: file_of_root(found[1]), text)
    text = re.sub(r"<!-- other names of ([\w.]+) -->", lambda found: other_names(found[1]), text)
    source[0] = re.sub(r"<!-- others of (\w+) -->", lambda found: others(found[1], text), text)


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
