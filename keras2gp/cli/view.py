"""How a conversion looks on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from keras2gp.cli.output import Output
from keras2gp.errors import Obstacle
from keras2gp.report import ConversionReport, LayerRow

__all__ = ["show_obstacles", "show_report"]

_HEADER = ("layer", "Keras", "becomes", "w2", "b2", "note")
_NUMERIC = ("w2", "b2")
_MOST_ROWS = 30


def show_report(out: Output, report: ConversionReport, *, folded: bool = False) -> None:
    """The conversion table and what there is to say about it; obstacles are left to the caller.

    folded: layers that differ in nothing but their path share a row, if there are many
    """
    shapes = " and ".join("x".join(map(str, shape)) for shape in report.inputs)
    takes = f", input {shapes}" if shapes else ""
    out.line(f"{report.model}{takes}, prior from {report.prior}", style="bold")
    rows = [_cells(row) for row in report.rows]
    header = _HEADER
    if folded and len(rows) > _MOST_ROWS:
        rows, header = _folded(rows), ("calls", *_HEADER[1:])
    if rows:
        out.line()
        out.table(header, rows, ("calls", *_NUMERIC), [_style(row[2]) for row in rows])
        out.line()
    if report.exact:
        out.line(f"exact: the kernel of the output {report.output}", style="green")
    for note in report.notes:
        out.line(f"note: {note}")


def show_obstacles(out: Output, obstacles: Sequence[Obstacle]) -> None:
    """Every reason against an exact kernel, with what would work instead."""
    noun = "obstacle" if len(obstacles) == 1 else "obstacles"
    out.line(f"no exact kernel: {len(obstacles)} {noun}", style="red")
    for obstacle in obstacles:
        out.line(f"  {obstacle.where} ({obstacle.received}): {obstacle.why}")
        if obstacle.hint:
            out.line(f"    try: {obstacle.hint}")


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
