"""Tables of columns as a kernel takes them: numbers, or text beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Vector
from keras2gp._util.text import received_text
from keras2gp.data.tables import is_table, numbers_of
from keras2gp.errors import InputError, one_line
from keras2gp.kernel.inputs import InputSpec

__all__ = ["prepared_table", "takes_table"]


def takes_table(specs: Sequence[InputSpec], x: Array) -> bool:
    """Whether data go to a kernel as a table: columns by name, text, or inputs side by side."""
    if is_table(x) or x.dtype.kind == "U":
        return True
    sizes = [math.prod(n or 0 for n in spec.shape) for spec in specs]
    return len(specs) > 1 and x.ndim == 2 and all(sizes) and x.shape[1] == sum(sizes)


def prepared_table(specs: Sequence[InputSpec], x: Array) -> tuple[Array, list[str]]:
    """A table as the kernel takes it, [N, columns], and what was done to it.

    Args:
        specs: the inputs of the kernel.
        x: a table of named columns, or an array [N, columns] of text or numbers.

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
        columns = [_numbers(column, name) for column, name in zip(columns, names, strict=True)]
    return np.stack(columns, axis=1), notes


def _names(specs: Sequence[InputSpec], x: Array) -> list[str]:
    """The columns of the inputs, in their order: by name, or all of them for one input."""
    present = list(x.dtype.names or ())
    sizes = [math.prod(n or 0 for n in spec.shape) for spec in specs]
    if len(specs) == 1:
        if len(present) != sizes[0]:
            raise InputError(
                f"{len(present)} columns ({one_line(', '.join(present))}), and the model takes "
                f"{sizes[0] or specs[0].shape}"
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


def _numbers(column: Vector, name: str) -> Vector:
    try:
        return numbers_of(column, np.float64)
    except ValueError as error:
        row, cell = next((i, c) for i, c in enumerate(column) if not _is_number(c))
        raise InputError(
            f"the column {one_line(name)} holds {received_text(str(cell), 80)} in row {row + 1}, "
            "expected a number"
        ) from error


def _is_number(cell: Any) -> bool:
    try:
        numbers_of(np.array([cell]), np.float64)
    except ValueError:
        return False
    return True
