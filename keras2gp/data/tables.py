"""Tables of columns from CSV files: text and numbers side by side, as they are written.

A table is a structured array of text, a field for each column. Numbers are read where a kernel asks
for them, since a column of digits may be one of names, such as post codes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Vector
from keras2gp._util.memory import require_memory
from keras2gp._util.paths import expanded
from keras2gp._util.text import did_you_mean, received_text, repeated
from keras2gp.errors import DataError, one_line

__all__ = [
    "TARGET",
    "has_leading_zeros",
    "is_table",
    "line_of",
    "numbers_of",
    "read_csv",
    "require_target",
    "without_target",
]

TARGET = "y"
"""The column of labels or targets, unless another is named."""
_UNEVEN = 2.0**53
"""The least size at which float64 takes different whole numbers for one."""
_CELL = 100
"""Bytes of a cell of a few characters while it is read."""


def is_table(x: Array) -> bool:
    """Whether an array is a table of named columns."""
    return x.dtype.names is not None


def read_csv(path: Path) -> Array:
    """Read a CSV file whose first line names its columns.

    Args:
        path: the file, in UTF-8.

    Returns:
        A table, [N], with a field of text for each column.

    Raises:
        DataError: the file is no such text, has no rows, names a column twice, or a row has more
            or fewer cells than the first line.
    """
    require_memory(_CELL * path.stat().st_size // 4, str(path), "a part of the rows", DataError)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header, rows = _cells(csv.reader(stream, strict=True), path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}. Try: save it as UTF-8") from error
    except (csv.Error, OSError) as error:
        if "field limit" in str(error):
            raise DataError(
                f"{path}: a cell has more than {csv.field_size_limit()} characters. Try: close the "
                "quote that opens it, or shorter cells"
            ) from error
        raise DataError(f"{path} is no CSV file: {error}") from error
    twice = repeated(header)
    if twice is not None or "" in header:
        which = "a column has no name" if "" in header else f"{twice!r} stands twice"
        raise DataError(f"{path}: {which} in its first line, which names the columns")
    if not rows:
        raise DataError(f"{path}: no rows below the line that names the columns")
    return _table(header, rows, path)


def _cells(reader: Any, path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the cells of all rows below; lines without cells are none."""
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise DataError(f"{path}: its first line is empty, and has to name the columns")
    rows = []
    for line, row in chain([(1, header)], _numbered(reader)):
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(row)} cells, and the first line names "
                f"{len(header)} columns{_other_separator(header)}"
            )
        if any("\0" in cell for cell in row):
            raise DataError(
                f"{path}, line {line}: a cell holds a null character, which ends text. "
                "Try: save it as UTF-8, without such characters"
            )
        rows.append(row)
    return header, rows[1:]


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The rows that have cells, with the line on which each starts, as editors count them."""
    start = reader.line_num + 1
    for row in reader:
        if row:
            yield start, row
        start = reader.line_num + 1


def line_of(source: str, column: str, cell: str) -> int | None:
    """The line of a CSV file on which the first row with a cell starts; the header is line 1.

    A table holds no lines: the file is read again, for a message.

    Args:
        source: the file.
        column: the name of the cell's column.
        cell: its text.

    Returns:
        The number of the line; None if the file is not there any more, or holds no such cell.
    """
    try:
        with expanded(source).open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            place = [name.strip() for name in next(reader, [])].index(column)
            return next((line for line, row in _numbered(reader) if row[place] == cell), None)
    except (OSError, ValueError, IndexError, csv.Error):
        return None


def _other_separator(header: Sequence[str]) -> str:
    """A remedy, after a full stop, where the columns' names are told apart by something else."""
    found = [mark for mark in ";\t|" if len(header) == 1 and mark in header[0]]
    return f". Try: commas between the cells, in place of {found[0]!r}" if found else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> Array:
    widest = sum(max(map(len, cells)) for cells in zip(*rows, strict=True))
    # numpy gives every cell of a column the room of the longest.
    require_memory(8 * widest * len(rows), str(path), "shorter cells", DataError)
    columns = [np.array(cells, dtype=str) for cells in zip(*rows, strict=True)]
    fields = [(name, cells.dtype) for name, cells in zip(header, columns, strict=True)]
    table: Array = np.empty(len(rows), dtype=fields)
    for name, cells in zip(header, columns, strict=True):
        table[name] = cells
    return table


def without_target(table: Array, where: str, target: str = TARGET) -> tuple[Array, Vector | None]:
    """The columns of a table that a model takes, and its labels or targets.

    Args:
        table: the table.
        where: the file, for messages.
        target: the name of the column of labels or targets.

    Returns:
        The table without that column, and the column: integers, real numbers or text; None if
        there is no such column.

    Raises:
        DataError: there is no other column, or it has an empty cell, a number that is not finite,
            whole numbers of more than 64 bits, or one that is written in two ways (+1 and 1).
    """
    names = [name for name in table.dtype.names or () if name != target]
    if not names:
        raise DataError(f"{where}: no column but {one_line(target)}")
    stated = table[target] if target in (table.dtype.names or ()) else None
    inputs = np.empty(len(table), dtype=[(name, table.dtype[name]) for name in names])
    for name in names:
        inputs[name] = table[name]
    return inputs, None if stated is None else _typed(stated, where, target)


def require_target(table: Array, where: str, target: str = TARGET) -> None:
    """Refuse a table without the column of labels or targets, with a DataError.

    Args:
        table: the table.
        where: the file, for messages.
        target: the name of that column.
    """
    names = list(table.dtype.names or ())
    if target in names:
        return
    remedy = _other_separator(names)
    hint = did_you_mean(target, names)
    if not remedy and not hint:
        other = one_line(names[-1])
        remedy = f". Try: the name of that column, as in target={other!r} (--target {other})"
    listed = one_line(", ".join(names))
    end = "." if hint else ""
    raise DataError(
        f"{where}: no column {one_line(target)} of labels or targets; it has {listed}"
        f"{remedy}{end}{hint}"
    )


def numbers_of(cells: Vector, dtype: Any) -> Vector:
    """Cells of a table as numbers.

    Raises:
        ValueError: one of them is none; 1_000 neither, which Python alone takes for a number.
    """
    if cells.dtype.kind in "OU" and any("_" in str(cell) for cell in cells):
        raise ValueError("a cell with an underscore")
    values: Vector = cells.astype(dtype)
    return values


def _is_whole(cell: str) -> bool:
    return cell.strip().lstrip("+-").isdecimal()


def has_leading_zeros(text: str) -> bool:
    """Whether a text of digits is a name, such as 001 or a post code, and no whole number."""
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits.isdecimal() and int(digits[0]) == 0


def _require_one_spelling(cells: Vector, whole: Vector, where: str, target: str) -> None:
    """Refuse whole numbers that are written in two ways, as +1 and 1: two labels would be one."""
    spellings: dict[int, str] = {}
    for cell, number in zip(cells.tolist(), whole.tolist(), strict=True):
        text = cell.strip()
        first = spellings.setdefault(number, text)
        if text != first:
            raise DataError(
                f"{where}: {target} holds {received_text(first)} and {received_text(text)}, two "
                "texts and one number. Try: a letter before each, for labels; one way of writing a "
                "number, for targets"
            )


def _typed(cells: Vector, where: str, target: str) -> Vector:
    """Integers if all cells are, else real numbers if all are, else text.

    Whole numbers are text where any has a leading zero, which a number would lose.
    """
    empty = int(np.count_nonzero(cells == ""))
    if empty:
        line = line_of(where, target, "")
        which = "a row" if line is None else f"line {line}"
        more = f" ({empty} rows have none)" if empty > 1 else ""
        raise DataError(
            f"{where}: {which} has no {one_line(target)}{more}. Try: the table without such rows; "
            'or GPRegressor(kernel, missing="ignore") in Python'
        )
    target = one_line(target)
    texts = [cell.strip() for cell in cells.tolist()]
    if any(map(has_leading_zeros, texts)) and all(map(_is_whole, texts)):
        return np.array(texts)
    for dtype in (np.int64, np.float64):
        try:
            typed = numbers_of(cells, dtype)
        except (ValueError, OverflowError):
            continue
        large = np.abs(typed) >= _UNEVEN
        if dtype is np.float64 and any(_is_whole(cell) for cell in cells[large]):
            raise DataError(
                f"{where}: {target} holds {received_text(cells[large][0])}, a whole number of more "
                "than 64 bits. Try: a letter before it, for a label; a point at its end, for a "
                "target"
            )
        if dtype is np.int64:
            _require_one_spelling(cells, typed, where, target)
        if np.isfinite(typed).all():
            return typed
        raise DataError(f"{where}: {target} holds {received_text(cells[~np.isfinite(typed)][0])}")
    return cells
