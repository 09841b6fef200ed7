"""What became of each Keras layer, and why: the record of a conversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras2gp.errors import Obstacle
from keras2gp.graph.variances import LayerVariances

__all__ = ["ConversionReport", "LayerRow"]


@dataclass(frozen=True)
class LayerRow:
    """One call of one Keras layer or operation.

    path:      layer names from the outermost model inwards, separated by "/"
    layer:     the Keras class
    became:    its counterpart in the kernel: "convolution 3x3", "relu", "run by Keras", "refused"
    variances: prior variances if the layer draws weights
    note:      what a reader of the report should know: something removed, or taken as constant
    """

    path: str
    layer: str
    became: str
    variances: LayerVariances | None = None
    note: str = ""


@dataclass(frozen=True)
class ConversionReport:
    """The conversion of one model: a row for each layer, and every obstacle."""

    model: str
    prior: str
    rows: tuple[LayerRow, ...]
    obstacles: tuple[Obstacle, ...] = ()
    inputs: tuple[tuple[int | None, ...], ...] = ()
    output: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def exact(self) -> bool:
        """Whether the model has an exact kernel."""
        return not self.obstacles

    @property
    def parameters(self) -> dict[str, LayerVariances]:
        """Prior variances by layer."""
        return {row.path: row.variances for row in self.rows if row.variances is not None}

    def to_dict(self) -> dict[str, Any]:
        """The report as data for JSON."""
        return {
            "model": self.model,
            "exact": self.exact,
            "prior": self.prior,
            "inputs": [list(shape) for shape in self.inputs],
            "output": self.output,
            "layers": [
                {
                    "path": row.path,
                    "layer": row.layer,
                    "became": row.became,
                    "weight_variance": row.variances.weight if row.variances else None,
                    "bias_variance": row.variances.bias if row.variances else None,
                    "note": row.note,
                }
                for row in self.rows
            ],
            "obstacles": [vars(obstacle) for obstacle in self.obstacles],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ConversionReport:
        """The report of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            model=str(data["model"]),
            prior=str(data["prior"]),
            rows=tuple(_row(entry) for entry in data["layers"]),
            obstacles=tuple(Obstacle(**entry) for entry in data["obstacles"]),
            inputs=tuple(tuple(shape) for shape in data["inputs"]),
            output=str(data["output"]),
            notes=tuple(str(note) for note in data["notes"]),
        )

    def __str__(self) -> str:
        header = ("layer", "Keras", "becomes", "w2", "b2", "note")
        table = [header, *(_cells(row) for row in self.rows)]
        widths = [max(len(cells[i]) for cells in table) for i in range(len(header))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in table
        ]
        verdict = "exact" if self.exact else f"{len(self.obstacles)} obstacle(s)"
        lines.append(f"{self.model}: {verdict}, prior from {self.prior}")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"obstacle: {obstacle}" for obstacle in self.obstacles]
        return "\n".join(lines)


def _cells(row: LayerRow) -> tuple[str, ...]:
    weight, bias = "", ""
    if row.variances is not None:
        weight, bias = f"{row.variances.weight:.6g}", f"{row.variances.bias:.6g}"
    return row.path, row.layer, row.became, weight, bias, row.note


def _row(entry: Mapping[str, Any]) -> LayerRow:
    variances = None
    if entry["weight_variance"] is not None:
        variances = LayerVariances(entry["weight_variance"], entry["bias_variance"])
    return LayerRow(
        str(entry["path"]), str(entry["layer"]), str(entry["became"]), variances, str(entry["note"])
    )
