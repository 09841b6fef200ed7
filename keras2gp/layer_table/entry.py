"""One row of the table of layers, and the functions that make rows of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

__all__ = [
    "NO_RULE",
    "Entry",
    "ops",
    "read_rows",
    "rows",
    "table_of",
    "weighted_rows",
]


@dataclass(frozen=True)
class Entry:
    """One row: the facts of one Keras layer class or operation.

    name:     the name under which `module` has it, and a model file names it
    module:   the module that a model file names it by
    reader:   "family.function" in keras2gp.conversion.layers; "" without an exact rule
    becomes:  the line of the documentation
    reason:   why there is no rule, and what to try instead; also of a reader's refusals
    in_files: whether a model file may name it; True only after a look at its from_config and build
    runs_code: whether it runs code of the user's, or of another library, that no rule describes
    on_data:  whether Keras may run it on the input, before the first layer with weights
    weights:  how its random weights are arranged: "dense", "convolution", "transposed",
              "depthwise", "separable", "embedding" or "recurrent"; "" for a layer without
    width:    the setting that holds its number of channels; "" if that follows from its input
    channelwise: whether each output channel is made of the same channel of its inputs alone
    scales:   whether it multiplies by a constant, or does nothing, before any training
    ignores_training: whether training=True, with which Keras calls some, makes no difference
    on_last_axis: whether it treats the steps of a sequence all alike, whatever its axes are
    keeps_steps: whether it takes the positions within a step as they are
    unitwise: whether it acts on each number alone, or adds them: what may follow channels that
              depend on each other
    """

    name: str
    module: str
    reader: str = ""
    becomes: str = ""
    reason: tuple[str, str] = ("", "")
    in_files: bool = True
    runs_code: bool = False
    on_data: bool = False
    weights: str = ""
    width: str = ""
    channelwise: bool = False
    scales: bool = False
    ignores_training: bool = False
    on_last_axis: bool = False
    keeps_steps: bool = False
    unitwise: bool = False

    @property
    def sums_over_steps(self) -> bool:
        """Whether it has weights over all numbers of a step."""
        return self.weights in ("dense", "convolution", "recurrent")


NO_RULE = (
    "there is no exact rule for it here",
    "a layer of docs/reference/layers.md, or a reader of your own: keras2gp.reader(Layer)",
)


def rows(names: str, module: str = "keras.layers", **columns: Any) -> list[Entry]:
    """One entry for each name, with the same columns."""
    return [Entry(name, module, **columns) for name in names.split()]


def read_rows(reader: str, names: str, becomes: str, **columns: Any) -> list[Entry]:
    """Layers without random weights that have a rule, and that Keras may run on the input."""
    return rows(names, reader=reader, becomes=becomes, **{"on_data": True, **columns})


def weighted_rows(
    reader: str, names: str, weights: str, becomes: str, width: str, **columns: Any
) -> list[Entry]:
    """Layers that draw random weights."""
    return rows(names, reader=reader, becomes=becomes, weights=weights, width=width, **columns)


def ops(module: str, names: str, **columns: Any) -> list[Entry]:
    """Operations of a module of keras.ops, which Keras may run on the input."""
    module = module if "." in module else f"keras.src.ops.{module}"
    return rows(names, module, **{"on_data": True, **columns})


def table_of(*groups: list[Entry]) -> Mapping[str, Entry]:
    """Entries by name. Those with neither a reader nor a reason get NO_RULE."""
    entries: dict[str, Entry] = {}
    for entry in (entry for group in groups for entry in group):
        if entry.name in entries:
            raise ValueError(f"{entry.name} stands twice in the table of layers")
        no_rule = not (entry.reader or entry.reason[0])
        entries[entry.name] = replace(entry, reason=NO_RULE) if no_rule else entry
    return MappingProxyType(entries)
