"""The output whose kernel is asked for: which tensor it is, and what its graph may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.checks import is_whole_number
from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.text import did_you_mean, received_text
from keras2gp.conversion.call import State
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.units import units_of
from keras2gp.conversion.settings import Settings
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.walker import KerasWalker
from keras2gp.covariance.duals.hermite import TOLERANCE
from keras2gp.errors import InputError, Obstacle, OutputError
from keras2gp.graph.distributions import holding_data
from keras2gp.graph.graph import Graph
from keras2gp.graph.means import MeanTerms
from keras2gp.graph.ops import (
    Activation,
    Input,
    Opaque,
    Polynomial,
    Product,
)
from keras2gp.kernel.mean import Mean
from keras2gp.modelfile.archive import printable

__all__ = [
    "channels_of",
    "choice_of_output",
    "chosen_output",
    "data_notes",
    "graph_of",
    "idle_notes",
    "mean_notes",
    "mean_of",
    "no_such_layer",
    "obstacles_before",
    "output_obstacles",
    "precision_notes",
    "unit_notes",
    "with_heads_apart",
    "with_inputs_numbered",
]

_LISTED = 50


def chosen_output(walker: KerasWalker, functional: KerasModel, output: str | int | None) -> Tensor:
    """The tensor that `output` names: a position, the name of an output, or the path of a layer."""
    names = list(functional.output_names)
    if output is None:
        if len(walker.outputs) > 1:
            raise OutputError(
                f"the model has {len(names)} outputs: choose one with output=: {names}", names
            )
        return walker.outputs[0]
    if is_whole_number(output):
        if not -len(names) <= output < len(names):
            raise InputError(f"output={output}: the model has {len(names)} outputs: {names}")
        return walker.outputs[int(output)]
    if not isinstance(output, str):
        raise InputError(f"output={received_text(output)}: expected a position or a name")
    if output in names and len(names) == len(walker.outputs):
        return walker.outputs[names.index(output)]
    if output in walker.results:
        return walker.results[output]
    raise no_such_layer("output", output, list(dict.fromkeys([*names, *walker.results])))


def no_such_layer(argument: str, stated: str, present: Sequence[str]) -> InputError:
    """The error of an argument that names no layer of the model, with those that there are."""
    more = f" and {len(present) - _LISTED} more" if len(present) > _LISTED else ""
    listed = ", ".join(printable(name, 80) for name in present[:_LISTED])
    what = "no output or layer" if argument == "output" else "no layer"
    return InputError(
        f"{argument}={received_text(stated)}: {what} of that name. There are: {listed}{more}."
        f"{did_you_mean(stated, present)}"
    )


def with_heads_apart(tensor: Tensor, state: State, walker: KerasWalker) -> Tensor:
    """An output of several channel groups as one of positions, with each channel at its own."""
    if len(tensor.parts) < 2:
        return tensor
    path = walker.calls[-1].row.path if walker.calls else "output"
    units = units_of(tensor, Context(state, path))
    if units is None:
        return tensor
    path, why = "output", "it is concatenated from different groups of channels"
    return replace(units, units=Obstacle(path, "Concatenate", why))


def graph_of(tensor: Tensor, state: State, walker: KerasWalker) -> Graph:
    """The graph of everything that a tensor depends on; a tensor of data is an input of it.

    Raises:
        RefusalError: the tensor cannot be an output.
    """
    path = walker.calls[-1].row.path if walker.calls else "input"
    tensor = Context(state, path).as_graph_tensor(tensor)
    return state.builder.graph(tensor.parts[0].node)


def obstacles_before(walker: KerasWalker, graph: Graph) -> list[Obstacle]:
    """The refusals of layers that the output depends on; other refusals do not matter."""
    alive = {node.path for node in graph.nodes if isinstance(node.op, Opaque)}
    found: dict[Any, Obstacle] = {}
    for call in walker.calls:
        if call.obstacle is not None and call.row.path in alive:
            # Calls of one layer have the same to say.
            key = id(call.operation), replace(call.obstacle, where="")
            found.setdefault(key, call.obstacle)
    return list(dict.fromkeys(found.values()))  # several layers may follow what only an output may


def output_obstacles(output: Tensor, graph: Graph) -> list[Obstacle]:
    """Obstacles unless all channels of the output are alike."""
    if len(output.parts) <= 1:
        return []
    why = "the output is concatenated from different groups of channels"
    path = graph.nodes[graph.output].path
    return [Obstacle(path, "Concatenate", why, "a Dense layer after it, or output= of one of them")]


def channels_of(output: Tensor) -> int:
    """The channels of an output that data can be added to channel by channel; 0 for another."""
    single = len(output.parts) == 1 and not output.parts[0].offset
    return output.parts[0].channels if single else 0


def mean_of(
    terms: MeanTerms,
    output: Tensor,
    positions: tuple[int, ...],
    arrays: Sequence[tuple[Array, int]],
    tensors: Sequence[int],
) -> Mean | None:
    """The mean of an output; None if it is 0.

    positions: sizes of the output's axes of positions
    arrays:    those of the constants, and the channel of their node at which they begin
    tensors:   Input.index of the tensors that the preprocessor gives, in order
    """
    constant = np.array([terms.constant])
    for index, coefficient in terms.arrays.items():
        values, begin = arrays[index]
        if values.shape[-1] > 1:
            first = output.parts[0].offset - begin
            values = values[..., first : first + output.parts[0].channels]
        values = values if positions else values.reshape(-1)
        constant = constant + coefficient * values
    if (constant == constant.flat[0]).all():
        constant = constant.reshape(-1)[:1]
    data = tuple((tensors.index(index), c) for index, c in terms.data.items())
    return Mean(constant, positions, data) if data or constant.any() else None


def unit_notes(output: Tensor) -> list[str]:
    """A note on an output whose channels are positions."""
    if output.units is None:
        return []
    reason = "they depend on each other, or are of different layers"
    return [f"every unit of the output is a position: {reason}"]


def mean_notes(mean: Mean | None) -> list[str]:
    """A note on the mean of the output."""
    if mean is None:
        return []
    return [f"the process has the mean {mean.text} (kernel.mean); the kernel is its covariance"]


def data_notes(graph: Graph) -> list[str]:
    """Notes on data that is added to random channels inside the network, or multiplies them."""
    holding = holding_data(graph)
    joining: dict[str, set[str]] = {"are added to": set(), "multiply": set()}
    for node in graph.nodes:
        if {holding[i] for i in node.inputs} == {True, False}:
            if node.op.sum_weights:
                joining["are added to"].add(node.path)
            elif isinstance(node.op, Product | Polynomial):
                joining["multiply"].add(node.path)
    how = "they count as if repeated as often as those have grown"
    return [
        f"the input, or constants, {join} random channels ({', '.join(sorted(where))}): {how}"
        for join, where in joining.items()
        if where
    ]


def with_inputs_numbered(graph: Graph, used: list[int]) -> Graph:
    """Renumber the inputs of a graph by their place in `used`."""
    nodes = tuple(
        replace(node, op=replace(node.op, index=used.index(node.op.index)))
        if isinstance(node.op, Input)
        else node
        for node in graph.nodes
    )
    return Graph(nodes, graph.output, graph.between)


def choice_of_output(model: str, error: OutputError) -> Obstacle:
    """The obstacle of a model with several outputs, of which none was chosen."""
    first = [received_text(name, 80) for name in error.outputs[:_LISTED]]
    more = f" and {len(error.outputs) - _LISTED} more" if len(error.outputs) > _LISTED else ""
    return Obstacle(
        model,
        f"{len(error.outputs)} outputs",
        f"a kernel is of one output, and the model has {', '.join(first)}{more}.",
        f"output={first[0]} (--output {printable(error.outputs[0])}), and one kernel for each.",
    )


def precision_notes(walker: KerasWalker, dtype: str) -> list[str]:
    """A note on layers of fewer digits than the kernel's dtype."""
    half = sorted({call.policy for call in walker.calls if call.policy.endswith("float16")})
    return [f"layers of {', '.join(half)} are taken in full precision: {dtype}"] if half else []


def idle_notes(settings: Settings, walker: KerasWalker, graph: Graph) -> list[str]:
    """Notes on settings for which a model that converts has no layer."""
    notes = []
    if settings.max_pooling is not None and not walker.state.replaced_max_pooling:
        notes.append("max_pooling changes nothing: the model has no max pooling to replace")
    functions = [node.op.function for node in graph.nodes]
    expanded = any(isinstance(f, Activation) and "degree" in dict(f.params) for f in functions)
    if settings.tolerance != TOLERANCE and not expanded:
        notes.append("tolerance changes nothing: no activation of the model is expanded")
    return notes
