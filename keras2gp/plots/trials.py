"""The trials of a random search: a panel of scores for every setting."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras2gp._util.paths import as_path, read_if_regular
from keras2gp.errors import InputError
from keras2gp.plots.style import ACCENT, COLOURS, clean, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["read_rows", "trials"]

_SCORES = {
    "validation": ("validation_error", "validation error"),
    "leave-one-out": ("leave_one_out_error", "leave-one-out error"),
    "evidence": ("log_marginal_likelihood", "log marginal likelihood"),
}
_MEASURES = {
    "trial", "status", "validation_error", "leave_one_out_error", "log_marginal_likelihood",
    "jitter", "kernel_seconds", "solve_seconds", "reason",
}  # fmt: skip
_COLUMNS = 4
_WIDE = 20.0
"""Settings that span more than this factor have a logarithmic axis."""


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Read the rows of a search's trials.csv, as text.

    Args:
        path: the file.

    Returns:
        A row per trial: column to cell.

    Raises:
        InputError: the file cannot be read, or is no table of trials.
    """
    try:
        content = read_if_regular(as_path("path", path))
        if content is None:
            raise InputError(f"{path} is missing, or no file")
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {error}") from error
    if not rows or not set(rows[0]) >= _MEASURES:
        raise InputError(f"{path} is no table of trials, as a search writes it")
    return rows


def trials(rows: Sequence[Mapping[str, str]], score: str = "validation") -> Figure:
    """Draw the score of the trials against each setting, the best trial as a star.

    Args:
        rows: the rows of trials.csv, as `read_rows` returns them.
        score: "validation", "leave-one-out" or "evidence".

    Returns:
        A figure of a panel per setting.

    Raises:
        InputError: there is no such score, or no trial has it.
    """
    if score not in _SCORES:
        raise InputError(f"score={score!r}: expected {', '.join(map(repr, _SCORES))}")
    column, label = _SCORES[score]
    fine = [row for row in rows if row.get(column)]
    names = [name for row in fine[:1] for name in row if name and name not in _MEASURES]
    if not fine or not names:
        raise InputError(f"no trial has a {label}, or none has settings")
    try:
        values = np.array([float(row[column]) for row in fine])
    except ValueError as error:
        raise InputError(f"the column {column} of the trials holds no numbers: {error}") from error
    if not np.isfinite(values).all():
        raise InputError(f"the column {column} of the trials holds a number that is not finite")
    best = int(values.argmax() if score == "evidence" else values.argmin())
    width = min(len(names), _COLUMNS)
    height = math.ceil(len(names) / width)
    figure = new_figure(2.5 * width + 0.4, 2.2 * height + 0.4)
    panels = figure.subplots(height, width, squeeze=False, sharey=True)
    for number, axes in enumerate(panels.flat):
        if number >= len(names):
            axes.set_axis_off()
            continue
        place = _placed(axes, [row[names[number]] or "" for row in fine])
        axes.plot(place, values, "o", markersize=4, color=COLOURS[0], alpha=0.7)
        axes.plot(place[best], values[best], "*", markersize=13, color=ACCENT)
        clean(
            axes,
            "",
            plain(names[number], 40).replace("_", " "),
            label if number % width == 0 else "",
        )
        if score != "evidence":
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    figure.suptitle(
        f"{len(rows)} trials, {len(rows) - len(fine)} without a score; the best, "
        f"{plain(fine[best]['trial'], 20)}, is the star",
        fontsize=10,
    )
    return figure


def _placed(axes: Any, texts: Sequence[str]) -> Any:
    """Positions of a setting's values on an axis: numbers as they are, names one after another."""
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        names = sorted(set(texts))
        axes.set_xticks(range(len(names)), [plain(name, 40) for name in names], fontsize=8)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return np.array([names.index(text) for text in texts])
    if not np.isfinite(numbers).all():
        return numbers
    if numbers.min() > 0.0 and numbers.max() / numbers.min() > _WIDE:
        axes.set_xscale("log")
    elif all(float(n).is_integer() for n in numbers) and np.ptp(numbers) < 12:
        axes.set_xticks(sorted({int(n) for n in numbers}))
    return numbers
