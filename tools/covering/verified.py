"""The table of what random copies of the models say of their kernels, a row for each."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import keras2gp
from covering.models import built, images
from keras2gp.errors import Keras2GPError, UnsupportedModelError

__all__ = ["HEADER", "rows_in", "verified_row", "with_rows"]

HEADER = (
    "| model | widths | networks of each | variance, against the kernel's | "
    "would be rejected | verdict | seconds |\n|---|---|---|---|---|---|---|\n"
)
_ROW = re.compile(r"^\| `(\w+)` \|.*\|$")


def rows_in(document: str) -> dict[str, str]:
    """The table's rows, by model."""
    _, found, table = document.partition(HEADER)
    if not found:
        return {}
    rows: dict[str, str] = {}
    for line in table.splitlines():
        match = _ROW.match(line)
        if match is None:
            break
        rows[match[1]] = line
    return rows


def with_rows(document: str, rows: dict[str, str]) -> str:
    """The document with these rows in place of the table's own."""
    before, header, table = document.partition(HEADER)
    left = [line for line in table.splitlines(keepends=True) if _ROW.match(line.rstrip()) is None]
    return before + header + "".join(f"{rows[name]}\n" for name in sorted(rows)) + "".join(left)


def verified_row(name: str, widths: Sequence[int], samples: int) -> str:
    """The verdict of random copies of a model; empty if it has no kernel."""
    with built(name) as model:
        began = time.perf_counter()
        try:
            report = keras2gp.verify(
                model,
                data=images(model),
                widths=widths,
                samples=samples,
                max_pooling="average",
            )
        except UnsupportedModelError:
            return ""
        except Keras2GPError as error:
            return _row(name, widths, samples, "", "", str(error), began)
    off = f"{100 * (report.variance - 1):+.1f}% +- {100 * report.error:.1f}%"
    resolution = f"{100 * report.resolution:.1f}% off"
    drawn = [level.width for level in report.levels]
    return _row(name, drawn, samples, off, resolution, str(report.verdict), began)


def _row(name: str, widths: Any, samples: int, *cells: Any) -> str:
    *said, began = cells
    seconds = f"{time.perf_counter() - began:.0f}"
    between = [", ".join(str(n) for n in widths), str(samples), *said, seconds]
    return " | ".join([f"| `{name}`", *between]) + " |"
