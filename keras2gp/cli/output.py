"""What a command says: text and tables for people, or one JSON document."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Output", "console_for", "printable", "seconds_text"]

# A pipe has no width: lines are as long as they are, for grep and awk.
_PIPE_WIDTH = 400


class Output:
    """What one command says: `line` and `table` write text, `document` writes JSON.

    With --json the first two are silent, otherwise the last is: a command calls all of them.
    stream: stdout, unless given
    """

    def __init__(self, *, json_wanted: bool, stream: TextIO | None = None) -> None:
        self.json = json_wanted
        self._stream = sys.stdout if stream is None else stream

    def line(self, text: str = "", style: str = "") -> None:
        """One line, or several; with a rich style on a terminal."""
        if not self.json:
            self._print(printable(text), style=style or None, soft_wrap=True)

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and values, aligned."""
        rows = list(rows)
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            self.line(f"  {name.ljust(width)}  {value}")

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        numeric: Sequence[str] = (),
        styles: Iterable[str] | None = None,
    ) -> None:
        """A table; columns in `numeric` are right-aligned, empty columns are left out.

        styles: a rich style for each row
        """
        if self.json:
            return
        cells = [[printable(cell) for cell in row] for row in rows]
        kept = [i for i in range(len(header)) if any(row[i] for row in cells)]
        table = _empty_table()
        for i in kept:
            right = header[i] in numeric
            table.add_column(header[i], justify="right" if right else "left", overflow="fold")
        for row, style in zip(cells, styles or [""] * len(cells), strict=True):
            table.add_row(*(row[i] for i in kept), style=style or None)
        self._print(table)

    def document(self, data: Mapping[str, Any]) -> None:
        """The one JSON document of this command."""
        if self.json:
            self._stream.write(json.dumps(_finite(data), indent=2, allow_nan=False) + "\n")

    def raw(self, text: str) -> None:
        """Text as it is, for files that a command writes to stdout."""
        self._stream.write(text)

    def _print(self, what: Any, **settings: Any) -> None:
        """Rich's text, written by ourselves: rich would end the process at a closed pipe."""
        console = console_for(self._stream)
        with console.capture() as captured:
            console.print(what, **settings)
        text = captured.get()
        if not console.is_terminal:  # rich fills up the lines of a table
            text = "".join(f"{line.rstrip()}\n" for line in text.split("\n")[:-1])
        self._stream.write(text)


def console_for(stream: TextIO) -> Console:
    """A console that takes nothing in the text as markup.

    Escape codes go to a terminal only, and to none at all where NO_COLOR is set.
    """
    from rich.console import Console  # noqa: PLC0415 (0.1 s that --version need not wait for)

    plain = bool(os.environ.get("NO_COLOR"))
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(
        file=stream,
        markup=False,
        highlight=False,
        emoji=False,
        width=width,
        color_system=None if plain else "auto",
    )


def printable(text: str) -> str:
    """Text whose control characters are spelt out: names come from files of strangers."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def seconds_text(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _empty_table() -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
