"""The table of a search's trials, trials.csv, which a killed run reads and goes on with."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from keras2gp._util.files import write_file
from keras2gp._util.paths import read_if_regular
from keras2gp._util.text import harmless_cell
from keras2gp.errors import StoreError
from keras2gp.search.spaces import Settings

__all__ = ["COLUMNS", "SCORES", "Trial", "read_trials", "require_same_search", "write_trials"]

SCORES = {
    "validation": "validation_error",
    "leave-one-out": "leave_one_out_error",
    "evidence": "log_marginal_likelihood",
}
"""Score of a search to the column that holds it; errors are minimised, the evidence maximised."""


@dataclass(frozen=True)
class Trial:
    """The settings of one draw, and its measures or the reason why it failed.

    Errors are fractions; the log marginal likelihood is in nats, summed over outputs; jitter is
    relative to the mean of the kernel's diagonal; seconds include compilation.
    """

    trial: int
    status: str
    settings: Settings = field(default_factory=dict)
    validation_error: float | None = None
    leave_one_out_error: float | None = None
    log_marginal_likelihood: float | None = None
    jitter: float | None = None
    kernel_seconds: float | None = None
    solve_seconds: float | None = None
    reason: str = ""

    def loss(self, score: str) -> float | None:
        """The number that a search by this score minimises; None for a failed trial."""
        value: float | None = getattr(self, SCORES[score])
        return value if value is None or score != "evidence" else -value


_NUMBERS = [
    f.name for f in fields(Trial) if f.name not in ("trial", "status", "settings", "reason")
]


COLUMNS = frozenset(("trial", "status", *_NUMBERS, "reason"))
"""Columns of the table; the others are settings."""


def write_trials(path: Path, trials: Sequence[Trial], names: Sequence[str]) -> None:
    """Write all rows in one step.

    names: of the settings, a column each

    Raises: StoreError if the file cannot be written.
    """
    text = io.StringIO()
    columns = ["trial", "status", *_NUMBERS, *names, "reason"]
    rows = csv.DictWriter(text, columns, lineterminator="\n")
    rows.writeheader()
    for trial in trials:
        cells = {name: getattr(trial, name) for name in ("trial", "status", *_NUMBERS, "reason")}
        settings = {name: harmless_cell(value) for name, value in trial.settings.items()}
        rows.writerow(cells | settings)
    write_file(path, text.getvalue())


def read_trials(path: Path, names: Sequence[str]) -> list[Trial]:
    """The trials of an earlier run, with settings as text; none if there is no file.

    Raises: StoreError if the file is no table of trials.
    """
    try:
        content = read_if_regular(path)
        if content is None:
            _require_absent(path)
            return []
        rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
        return [_trial(n, rows.line_num, row, names) for n, row in enumerate(rows)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} is no table of trials: {type(error).__name__} {error}") from error


def _require_absent(path: Path) -> None:
    """Refuse a pipe, a folder or a link to nothing in the place of a file. Raises: StoreError."""
    if os.path.lexists(path):
        raise StoreError(f"{path} is no file. Try: another directory, or move it away")


def _trial(number: int, line: int, row: Mapping[str, str], names: Sequence[str]) -> Trial:
    if None in row or None in row.values():
        raise ValueError(f"line {line} has more or fewer cells than the first line")
    if int(row["trial"]) != number:
        raise ValueError(f"line {line} is trial {row['trial']}, and has to be trial {number}")
    numbers = {name: float(row[name]) if row[name] else None for name in _NUMBERS}
    if not all(value is None or math.isfinite(value) for value in numbers.values()):
        raise ValueError(f"trial {row['trial']} holds a number that is not finite")
    settings = {name: row[name] for name in names}
    return Trial(number, row["status"], settings, reason=row["reason"], **numbers)


def require_same_search(path: Path, identity: Mapping[str, Any]) -> None:
    """Write the identity of a new search, or compare it with that of an earlier run.

    Raises: StoreError if the earlier run is another search.
    """
    try:
        content = read_if_regular(path)
        if content is None:
            _require_absent(path)
            write_file(path, json.dumps(identity, indent=2) + "\n")
            return
        earlier = json.loads(content)
        differing = [key for key in identity if earlier.get(key) != identity[key]]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} is no record of a search: {error}") from error
    if differing:
        changes = "; ".join(
            f"{key}: {earlier.get(key)!r}, now {identity[key]!r}" for key in differing
        )
        raise StoreError(f"{path} is of another search ({changes}). Try: another directory")
