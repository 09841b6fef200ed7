"""Tables of columns as a kernel takes them: numbers, or text beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Vector
from keras2gp._util.text import received_text, shape_text
from keras2gp.data.tables import is_table, line_of, numbers_of
from keras2gp.errors import InputError, one_line
from keras2gp.kernel.inputs import InputSpec

__all__ = ["dominant_column", "prepared_table", "takes_table", "unprepared"]

_DOMINANT = 0.99
"""The share of the inputs' variance beyond which one column hides the others."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_MOST = 5
"""Columns that a message tells of."""


def takes_table(specs: Sequence[InputSpec], x: Array) -> bool:
    """Whether data go to a kernel as a table: columns by name, text, or inputs side by side."""
    if is_table(x) or x.dtype.kind == "U":
        return True
    sizes = [math.prod(n or 0 for n in spec.shape) for spec in specs]
    return len(specs) > 1 and x.ndim == 2 and all(sizes) and x.shape[1] == sum(sizes)


def prepared_table(specs: Sequence[InputSpec], x: Array, source: str) -> tuple[Array, list[str]]:
    """A table as the kernel takes it, [N, columns], and what was done to it.

    Args:
        specs: the inputs of the kernel.
        x: a table of named columns, or an array [N, columns] of text or numbers.
        source: the file that the table is of, for messages.

    Raises:
        InputError: a column is missing, or holds something else than numbers.
    """
    if not is_table(x):
        return x, []
    names, notes = _names(specs, x), []
    left = [name for name in x.dtype.names or () if name not in names]
    if left:
        notes.append(f"columns that are not used: {one_line(', '.join(left))}")
    columns = [x[name] for name in names]
    if not any(spec.dtype == "string" for spec in specs):
        columns = _numbers(columns, names, source)
    return np.stack(columns, axis=1), notes


def unprepared(x: Array, source: str) -> Array:
    """Rows for a model that is not built yet: a table's columns as numbers, others as they are.

    source: the file that the table is of, for messages

    Raises:
        InputError: a column holds something else than numbers.
    """
    if not is_table(x):
        return x
    names = list(x.dtype.names or ())
    try:
        return np.stack(_numbers([x[name] for name in names], names, source), axis=1)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _names(specs: Sequence[InputSpec], x: Array) -> list[str]:
    """The columns of the inputs, in their order: by name, or all of them for one input."""
    present = list(x.dtype.names or ())
    sizes = [math.prod(n or 0 for n in spec.shape) for spec in specs]
    if len(specs) == 1:
        if len(present) != sizes[0]:
            raise InputError(
                f"{len(present)} columns ({one_line(', '.join(present))}), and the model takes "
                f"{_taken(specs[0])}"
            )
        return present
    missing = [spec.name for spec in specs if spec.name not in present]
    wide = [spec.name for spec, size in zip(specs, sizes, strict=True) if size != 1]
    if missing or wide:
        what = f"no column {missing[0]}" if missing else f"the input {wide[0]} is no single number"
        raise InputError(
            f"{what}. A table for a model of several inputs has a column for each: "
            f"{one_line(', '.join(spec.name for spec in specs))}"
        )
    return [spec.name for spec in specs]


def _taken(spec: InputSpec) -> str:
    """The sizes that one input takes, and a remedy for a table of other columns."""
    if len(spec.shape) == 1 and spec.shape[0] is not None:
        return (
            f"{spec.shape[0]}. Try: a table of y and the columns that the model takes; or a model "
            "whose input has as many numbers as the table has columns"
        )
    sizes = shape_text(spec.shape)
    return (
        f"inputs of shape ({sizes}). Try: a folder of images, or an .npz file whose x is "
        f"[N, {sizes}]"
    )


def dominant_column(x: Array, names: Sequence[str] = ()) -> list[str]:
    """A sentence on one column that has nearly all of the inputs' variance, if one has.

    Args:
        x: inputs; [N, columns] of numbers, or others, of which nothing is said.
        names: of the columns, if they have some.
    """
    if x.ndim != 2 or x.dtype.kind != "f" or x.shape[1] < 2:
        return []
    with np.errstate(over="ignore", invalid="ignore"):
        variances = x.var(axis=0, dtype=np.float64)
        share = variances / variances.sum()
    largest = int(share.argmax())
    if not share[largest] > _DOMINANT:
        return []
    name = names[largest] if names else f"{largest} of {x.shape[1]} (counted from 0)"
    told = (
        f"the column {one_line(name)} has {share[largest]:.3%} of the variance of the inputs: the "
        "kernel sees little of the others. Try: a model whose first layer is a "
        "keras.layers.Normalization, adapted to the inputs"
    )
    return [told]


def _numbers(columns: Sequence[Vector], names: Sequence[str], source: str) -> list[Vector]:
    """Columns of numbers; InputError names every one that holds something else.

    The rows may be in another order than those of the file, whose line the message states.
    """
    numbers, wrong, endless, empty, commas = [], [], [], False, False
    for column, name in zip(columns, names, strict=True):
        try:
            read = numbers_of(column, np.float64)
        except ValueError:
            others = [str(cell) for cell in column if not _reads_as_number(cell)]
            cell, more = others[0], len(others) - 1
            empty = empty or not cell.strip()
            commas = commas or _DECIMAL_COMMA.fullmatch(cell.strip()) is not None
            told = _cell_text(cell, name, source)
            wrong.append(told + (f", and no number in {more} more" if more else ""))
            continue
        finite = np.isfinite(read)
        if not finite.all():
            endless.append(_cell_text(str(column[int(finite.argmin())]), name, source))
        numbers.append(read)
    if wrong:
        fill = "numbers in the empty cells, or the table without those rows; " if empty else ""
        fill += "a decimal point in place of the comma; " if commas else ""
        raise InputError(
            f"{'; '.join(wrong[:_MOST])}{'; ...' if len(wrong) > _MOST else ''}: expected numbers. "
            f"Try: {fill}a number for each category, or a model with an input for each column and "
            "a StringLookup behind those of text"
        )
    if endless:
        raise InputError(
            f"{'; '.join(endless[:_MOST])}{'; ...' if len(endless) > _MOST else ''}: expected "
            "finite numbers. Try: numbers in such cells, or the table without those rows"
        )
    return numbers


def _cell_text(cell: str, name: str, source: str) -> str:
    """The column, the cell, and the line of the file on which it stands."""
    line = line_of(source, name, cell)
    place = f" in line {line}" if line else ""
    return f"the column {one_line(name)} holds {received_text(cell, 80)}{place}"


def _reads_as_number(cell: Any) -> bool:
    """Whether a cell of a table is a number, or text that says one."""
    try:
        numbers_of(np.array([cell]), np.float64)
    except ValueError:
        return False
    return True
