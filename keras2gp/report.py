"""The report of a conversion: the counterpart of each Keras layer, and every obstacle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras2gp._util import html
from keras2gp.errors import Obstacle, one_line
from keras2gp.graph.variances import LayerVariances

__all__ = ["VARIANCES", "ConversionReport", "LayerRow", "positions_text"]

VARIANCES = "w2: fan-in times the variance of one weight; b2: the variance of one bias"
"""The legend of the columns of variances, below a table that has some."""
_HEADER, _NUMERIC = ("layer", "Keras", "becomes", "w2", "b2", "note"), ("w2", "b2")
_WIDEST = 120


@dataclass(frozen=True)
class LayerRow:
    """One call of one Keras layer or operation.

    Attributes:
        path: Layer names from the outermost model inwards, separated by "/".
        layer: The Keras class.
        became: Its counterpart in the kernel: "convolution 3x3", "relu", "run by Keras", "refused".
        variances: Prior variances of a layer with random weights.
        note: A change that the conversion made, or a value that it took as constant.
        biases_have_mean: Whether the layer's initial biases have a mean other than 0.
    """

    path: str
    layer: str
    became: str
    variances: LayerVariances | None = None
    note: str = ""
    biases_have_mean: bool = False


@dataclass(frozen=True)
class ConversionReport:
    """The conversion of one model: a row for each layer, and every obstacle.

    `print(report)` shows it as a table.

    Attributes:
        model: The model's name.
        prior: "initializers" or "weights".
        rows: One row for each call of a layer, in the order of the calls.
        obstacles: Reasons why there is no exact kernel.
        inputs: Shapes of the model's inputs, without the batch axis.
        output: The path of the layer whose output the kernel describes.
        notes: Changes that concern no single layer, such as a softmax that is left out.
        positions: Sizes of the output's axes of positions; () for a vector.
        removed: Paths of the activations at the output that are left out, if ops come after them.
        idle: The notes that say that a setting changes nothing, as the model has no layer for it.
        units_apart: Whether each unit of the output is a position of its own, because units depend
            on each other or are of different layers.

    >>> import keras, keras2gp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="out")])
    >>> report = keras2gp.inspect(model)
    >>> report.exact
    True
    >>> report.rows[0].became
    'dense'
    """

    model: str
    prior: str
    rows: tuple[LayerRow, ...]
    obstacles: tuple[Obstacle, ...] = ()
    inputs: tuple[tuple[int | None, ...], ...] = ()
    output: str = ""
    notes: tuple[str, ...] = field(default=())
    positions: tuple[int, ...] = ()
    removed: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    units_apart: bool = False

    @property
    def exact(self) -> bool:
        """Whether the model has an exact kernel."""
        return not self.obstacles

    @property
    def parameters(self) -> dict[str, LayerVariances]:
        """Prior variances by layer."""
        return {row.path: row.variances for row in self.rows if row.variances is not None}

    def to_dict(self) -> dict[str, Any]:
        """Write the report as data for JSON.

        Returns:
            A dictionary of texts, numbers and lists; `from_dict` reads it back.
        """
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
                    "biases_have_mean": row.biases_have_mean,
                }
                for row in self.rows
            ],
            "obstacles": [vars(obstacle) for obstacle in self.obstacles],
            "notes": list(self.notes),
            "positions": list(self.positions),
            "removed": list(self.removed),
            "idle": list(self.idle),
            "units_apart": self.units_apart,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ConversionReport:
        """Read a report that `to_dict` wrote.

        Args:
            data: The dictionary of `to_dict`.

        Returns:
            An equal report.

        Raises:
            KeyError: An entry is missing.
            TypeError: An entry has another type.
            ValueError: A variance is not valid.
        """
        return cls(
            model=str(data["model"]),
            prior=str(data["prior"]),
            rows=tuple(_row(entry) for entry in data["layers"]),
            obstacles=tuple(Obstacle(**entry) for entry in data["obstacles"]),
            inputs=tuple(tuple(shape) for shape in data["inputs"]),
            output=str(data["output"]),
            notes=tuple(str(note) for note in data["notes"]),
            # keras2gp 0.1 knew no outputs with positions.
            positions=tuple(map(int, data.get("positions", ()))),
            removed=tuple(str(path) for path in data.get("removed", ())),
            idle=tuple(str(note) for note in data.get("idle", ())),
            units_apart=bool(data.get("units_apart", False)),
        )

    def _repr_html_(self) -> str:
        """The report in a notebook."""
        verdict = "exact" if self.exact else f"{len(self.obstacles)} obstacle(s)"
        return html.page(
            f"{self.model}: {verdict}, prior from {self.prior}",
            html.table(_HEADER, map(_cells, self.rows), _NUMERIC),
            html.lines([VARIANCES] if self.parameters else []),
            html.lines([f"note: {note}" for note in self.notes]),
            html.lines([f"obstacle: {obstacle}" for obstacle in self.obstacles]),
        )

    def __str__(self) -> str:
        table: list[Sequence[str]] = [
            _HEADER,
            *([_shown(cell) for cell in _cells(row)] for row in self.rows),
        ]
        widths = [max(len(cells[i]) for cells in table) for i in range(len(_HEADER))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in table
        ]
        if self.parameters:
            lines.append(VARIANCES)
        verdict = "exact" if self.exact else f"{len(self.obstacles)} obstacle(s)"
        lines.append(one_line(f"{self.model}: {verdict}, prior from {self.prior}"))
        if self.positions:
            lines.append(f"output: {positions_text(self.positions)}")
        lines += [one_line(f"note: {note}") for note in self.notes]
        lines += [f"obstacle: {obstacle}" for obstacle in self.obstacles]
        return "\n".join(lines)


def positions_text(positions: Sequence[int]) -> str:
    """The sizes of axes of positions for a reader: "8 x 8 positions"."""
    return f"{' x '.join(map(str, positions))} positions"


def _shown(cell: str) -> str:
    """A cell of the table on one line, and no wider than a terminal."""
    line = one_line(cell)
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 3]}..."


def _cells(row: LayerRow) -> tuple[str, ...]:
    weight, bias = "", ""
    if row.variances is not None:
        weight, bias = f"{row.variances.weight:.6g}", f"{row.variances.bias:.6g}"
    cells = row.path, row.layer, row.became, weight, bias, row.note
    return tuple(one_line(cell) for cell in cells)


def _row(entry: Mapping[str, Any]) -> LayerRow:
    variances = None
    if entry["weight_variance"] is not None:
        variances = LayerVariances(entry["weight_variance"], entry["bias_variance"])
    return LayerRow(
        str(entry["path"]),
        str(entry["layer"]),
        str(entry["became"]),
        variances,
        str(entry["note"]),
        bool(entry.get("biases_have_mean", False)),
    )
