"""HTML for notebooks: tables in the notebook's own colours, light or dark, and without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from keras2gp.errors import one_line

__all__ = ["lines", "page", "progress", "table"]

_LONGEST = 200
_MOST_ROWS = 200
_CELL = "padding:2px 10px;border-bottom:1px solid rgba(128,128,128,.35)"


def page(title: str, *parts: str) -> str:
    """A titled block of parts that are HTML already; its text has the colour around it."""
    return (
        '<div style="color:inherit;background:none;font-size:90%">'
        f"<p><strong>{_shown(title)}</strong></p>{''.join(parts)}</div>"
    )


def lines(texts: Iterable[str]) -> str:
    """A paragraph for each text."""
    return "".join(f"<p>{_shown(text, 2000)}</p>" for text in texts)


def progress(title: str, done: int, total: int | None, figures: str) -> str:
    """A bar with figures after it; one that only moves where the total is not known."""
    share = f' value="{done}" max="{max(total, 1)}"' if total is not None else ""
    return f"<span>{_shown(title)} <progress{share}></progress> {_shown(figures)}</span>"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Sequence[str] = ()) -> str:
    """A table; the columns in `numeric` are right-aligned, empty columns are left out."""
    cells = [[str(cell) for cell in row] for row in rows]
    kept = [i for i in range(len(header)) if any(row[i] for row in cells)]
    aligned = ["right" if header[i] in numeric else "left" for i in range(len(header))]

    def line(tag: str, row: Sequence[str]) -> str:
        shown = (
            f'<{tag} style="{_CELL};text-align:{aligned[i]}">{_shown(row[i])}</{tag}>' for i in kept
        )
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(line("td", row) for row in cells[:_MOST_ROWS])
    left = len(cells) - _MOST_ROWS
    more = lines([f"and {left} more rows"]) if left > 0 else ""
    style = "border-collapse:collapse;color:inherit"
    head = f"<thead>{line('th', header)}</thead>"
    return f'<table style="{style}">{head}<tbody>{body}</tbody></table>{more}'


def _shown(text: str, longest: int = _LONGEST) -> str:
    """Text from the file of a stranger: one line, not too long, and no markup."""
    line = one_line(text)
    return escape(line if len(line) <= longest else f"{line[: longest - 3]}...")
