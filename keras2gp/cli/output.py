"""The output of a command: text and tables for people, or one JSON document."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO

from keras2gp._util.text import console_for, printable
from keras2gp.errors import Obstacle, one_line
from keras2gp.report import VARIANCES, ConversionReport, LayerRow, positions_text

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Output", "folded", "short_line", "show_obstacles", "show_report"]

_HEADER = ("layer", "Keras", "becomes", "w2", "b2", "note")
_NUMERIC = ("w2", "b2")
_MOST_ROWS = 30
_WIDTH = 80
_GAP, _WIDE_GAP = 2, 3
"""Spaces between the columns of a table that is folded, and of another one."""


class Output:
    """The output of one command: `line` and `table` write text, `document` writes JSON.

    A command calls all of them: with --json the first two are silent, without it the last.

    stream: where to write; None for stdout
    """

    def __init__(self, *, json_wanted: bool, stream: TextIO | None = None) -> None:
        self.json = json_wanted
        self._stream = sys.stdout if stream is None else stream

    def line(self, text: str = "", style: str = "", *, hang: int | None = None) -> None:
        """One line, or several; with a rich style on a terminal, and folded there.

        hang: spaces before what goes on in the next line
        """
        if not self.json:
            text = folded(printable(text), self._stream, hang=hang)
            self._print(text, style=style or None, soft_wrap=True)

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and values, aligned."""
        rows = list(rows)
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            self.line(f"  {name.ljust(width)}  {value}", hang=width + 4)

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        numeric: Sequence[str] = (),
        styles: Iterable[str] | None = None,
    ) -> None:
        """A table; columns in `numeric` are right-aligned, empty columns are left out.

        Cells are folded, so that a table is no wider than the terminal, and in a pipe or a file no
        wider than 80 columns, or than COLUMNS says.

        styles: a rich style for each row
        """
        if self.json:
            return
        cells = [[short_line(cell, 400) for cell in row] for row in rows]
        kept = [i for i in range(len(header)) if any(row[i] for row in cells)]
        width = _width(self._stream) or _WIDTH
        columns = [[header[i], *(row[i] for row in cells)] for i in kept]
        fitted = _fitted(columns, width) if all(header[i] in numeric for i in kept) else None
        table = _empty_table()
        table.collapse_padding = fitted is not None
        widths: Sequence[int | None] = fitted or [None] * len(kept)
        for i, fixed in zip(kept, widths, strict=True):
            justify: Literal["left", "right"] = "right" if header[i] in numeric else "left"
            table.add_column(header[i], justify=justify, overflow="fold", width=fixed)
        for row, style in zip(cells, styles or [""] * len(cells), strict=True):
            table.add_row(*(row[i] for i in kept), style=style or None)
        self._print(table, width=width)

    def document(self, data: Mapping[str, Any]) -> None:
        """The one JSON document of this command."""
        if self.json:
            text = json.dumps(_finite(data), indent=2, allow_nan=False, default=_plain)
            self._stream.write(text + "\n")

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


def folded(text: str, stream: TextIO, *, hang: int | None = None) -> str:
    """Lines no longer than the terminal is wide, or than COLUMNS says; in a pipe as they are.

    hang: spaces before what goes on in the next line; None for two more than the line has
    """
    width = _width(stream)
    if width is None or width < 2 * (hang or 0):
        return text
    lines = []
    for line in text.split("\n"):
        spaces = len(line) - len(line.lstrip(" ")) + 2 if hang is None else hang
        indent = " " * spaces
        lines += textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)


def _width(stream: TextIO) -> int | None:
    """The width that COLUMNS states, or that of a terminal; None for a pipe or a file."""
    stated = os.environ.get("COLUMNS", "")
    if re.fullmatch("[1-9][0-9]{1,4}", stated):
        return int(stated)
    return shutil.get_terminal_size().columns if stream.isatty() else None


def _fitted(columns: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Widths of columns of numbers in a narrow table, where none is cut into two lines.

    None where all fit as they are, and where not even the numbers do.

    columns: the header and the cells of each
    """
    wanted = [max(map(len, column)) for column in columns]
    if sum(wanted) + _WIDE_GAP * (len(columns) - 1) <= width:
        return None
    widths = [max(map(len, column[1:])) for column in columns]
    free = width - sum(widths) - _GAP * (len(columns) - 1)
    if free < 0:
        return None
    for _ in range(free):
        lacking = max(range(len(columns)), key=lambda i: wanted[i] / widths[i])
        widths[lacking] += wanted[lacking] > widths[lacking]
    return widths


def _empty_table() -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")


def short_line(text: str, longest: int = 200) -> str:
    """Text from the file of a stranger, such as a name: one line, and not too long.

    A name with a line break must not look like a line of ours.
    """
    line = one_line(text)
    if len(line) <= longest:
        return line
    half = longest // 2
    return f"{line[:half]}[{len(line) - 2 * half} characters]{line[-half:]}"


def _plain(value: Any) -> Any:
    """A value that JSON does not know: numbers of numpy as such, others as text."""
    return value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else str(value)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


def show_report(out: Output, report: ConversionReport, *, folded: bool = False) -> None:
    """Show the table of a conversion and its notes; obstacles are left to the caller.

    folded: layers that differ in nothing but their path share a row, if there are many
    """
    _show_layers(out, report, folded=folded)
    if report.exact:
        out.line(f"exact: the kernel of the output {short_line(report.output)}", style="green")
        if report.positions:
            out.line(f"output: {positions_text(report.positions)}")
    for note in report.notes:
        out.line(f"note: {short_line(note, 2000)}")


def _show_layers(out: Output, report: ConversionReport, *, folded: bool) -> None:
    """Show the table of a conversion."""
    shapes = " and ".join("x".join(map(str, shape)) for shape in report.inputs)
    takes = f", input {shapes}" if shapes else ""
    out.line(f"{short_line(report.model)}{takes}, prior from {report.prior}", style="bold")
    rows = [_cells(row) for row in report.rows]
    header = _HEADER
    if folded and len(rows) > _MOST_ROWS:
        rows, header = _folded(rows), ("calls", *_HEADER[1:])
    if rows:
        out.line()
        out.table(header, rows, ("calls", *_NUMERIC), [_style(row[2]) for row in rows])
        if report.parameters:
            out.line(VARIANCES)
        out.line()


def show_obstacles(out: Output, obstacles: Sequence[Obstacle]) -> None:
    """Show every reason against an exact kernel, with what would work instead."""
    noun = "obstacle" if len(obstacles) == 1 else "obstacles"
    out.line(f"no exact kernel: {len(obstacles)} {noun}", style="red")
    for obstacle in obstacles:
        where, received = short_line(obstacle.where), short_line(obstacle.received)
        out.line(f"  {where} ({received}): {short_line(obstacle.why, 2000)}")
        if obstacle.hint:
            out.line(f"    try: {short_line(obstacle.hint, 2000)}")


def _cells(row: LayerRow) -> tuple[str, ...]:
    weight, bias = "", ""
    if row.variances is not None:
        weight, bias = f"{row.variances.weight:.6g}", f"{row.variances.bias:.6g}"
    return row.path, row.layer, row.became, weight, bias, row.note


def _folded(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows without paths, each kind once and with its number, in order of first appearance."""
    kinds = Counter(row[1:] for row in rows)
    return [(str(number), *kind) for kind, number in kinds.items()]


def _style(became: str) -> str:
    return "red" if became == "refused" else ""
