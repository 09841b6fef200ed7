"""The examination of a model: one walk, its graph simplified, and every obstacle collected."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import keras

from keras2gp._util.arrays import KerasTensor
from keras2gp.conversion.call import RefusalError, State
from keras2gp.conversion.data_inputs import data_of_constants
from keras2gp.conversion.layers.masks import without_gaps
from keras2gp.conversion.opening import Opened, opened
from keras2gp.conversion.output import (
    channels_of,
    chosen_output,
    data_notes,
    graph_of,
    idle_notes,
    mean_notes,
    mean_of,
    no_such_layer,
    obstacles_before,
    output_obstacles,
    precision_notes,
    unit_notes,
    with_heads_apart,
    with_inputs_numbered,
)
from keras2gp.conversion.overrides import apply_overrides
from keras2gp.conversion.preprocessing import (
    deterministic_model,
    mixing_obstacles,
    side_by_side,
)
from keras2gp.conversion.settings import Settings
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.walker import KerasWalker
from keras2gp.covariance.expansion import with_degrees
from keras2gp.covariance.program import check_rules
from keras2gp.errors import Obstacle, PriorError
from keras2gp.graph.calls import join_calls
from keras2gp.graph.distributions import check_gaussianity
from keras2gp.graph.graph import Graph
from keras2gp.graph.heads import without_output_activation
from keras2gp.graph.means import MeanTerms, split_mean, without_arrays
from keras2gp.graph.offsets import check_offsets
from keras2gp.graph.ops import Input, Spatial
from keras2gp.graph.simplification import (
    with_late_reshapes,
    with_running_means,
    without_idle_activations,
    without_joins,
)
from keras2gp.graph.sums import resolve_sums
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.inputs import InputSpec
from keras2gp.kernel.mean import Mean
from keras2gp.report import ConversionReport, LayerRow

__all__ = ["Examination", "examine", "open_model"]


@dataclass(frozen=True)
class Examination:
    """The report of a conversion, and the parts of the kernel if there are no obstacles."""

    report: ConversionReport
    graph: Graph | None = None
    parameters: Mapping[str, LayerVariances] = field(default_factory=dict)
    inputs: tuple[InputSpec, ...] = ()
    preprocessor: Any | None = None
    mean: Mean | None = None


def open_model(source: Any, settings: Settings) -> AbstractContextManager[Opened]:
    """Open the model with what the settings say of weights, activations, layers and shape."""
    return opened(
        source,
        weights=settings.takes_weights,
        activations=settings.activations.functions if settings.activations else {},
        layers=settings.layers,
        input_shape=settings.input_shape,
    )


def examine(model: Opened, settings: Settings) -> Examination:
    """Walk over the model, simplify its graph, and collect every obstacle."""
    if model.functional is None:
        return Examination(_report_of_unread(model, settings))
    walker = _walk(model, settings)
    output = chosen_output(walker, model.functional, settings.output)
    inputs = tuple(
        InputSpec(t.name, tuple(t.shape[1:]), _dtype(t)) for t in model.functional.inputs
    )
    report = ConversionReport(
        model.name,
        settings.prior,
        tuple(row for c in walker.calls for row in (c.row, *c.extra_rows)),
        inputs=tuple(spec.shape for spec in inputs),
    )
    try:
        output = with_heads_apart(output, walker.state, walker)
        whole, notes, removed = without_output_activation(graph_of(output, walker.state, walker))
    except RefusalError as refusal:
        obstacle = Obstacle(model.name, "the output", refusal.why, refusal.hint)
        return Examination(replace(report, obstacles=(obstacle,)))
    graph, terms, obstacles = _simplify(whole, output, walker)
    expansions: list[str] = []
    if not obstacles:  # the search for an expansion takes seconds
        graph, expansions = with_degrees(graph, settings.tolerance)
    used = [op.index for op in graph.inputs]
    tensors = list(dict.fromkeys([*used, *terms.data]))
    preprocessor = mean = None
    if not obstacles:
        data = [walker.state.data[index][1] for index in tensors]
        preprocessor = deterministic_model(walker.inputs, data)
        obstacles = mixing_obstacles(preprocessor)
        mean = mean_of(terms, output, graph.positions, walker.state.constants, tensors)
    parameters = _variances(graph, walker, settings, refused=bool(obstacles))
    idle = () if obstacles else tuple(idle_notes(settings, walker, graph))
    report = replace(
        report,
        rows=tuple(_row(row, parameters) for row in report.rows),
        obstacles=tuple(obstacles),
        output=whole.nodes[whole.output].path,
        notes=(
            *settings.notes,
            *idle,
            *notes,
            *unit_notes(output),
            *data_notes(graph),
            *mean_notes(mean),
            *precision_notes(walker, settings.dtype),
            *expansions,
        ),
        positions=graph.positions,
        removed=removed,
        idle=idle,
        units_apart=output.units is not None,
    )
    if obstacles:
        return Examination(report)
    graph = with_running_means(with_inputs_numbered(graph, used))
    return Examination(report, graph, parameters, inputs, preprocessor, mean)


def _report_of_unread(model: Opened, settings: Settings) -> ConversionReport:
    """The report on a model whose layers are known, and their connections are not."""
    reasons = (model.obstacle,) if model.obstacle else tuple(model.unreadable.values())
    rows = tuple(
        LayerRow(path, kind, "refused" if path in model.unreadable else "")
        for path, kind in model.layers
    )
    return ConversionReport(model.name, settings.prior, rows, reasons)


def _walk(model: Opened, settings: Settings) -> KerasWalker:
    """Walk over all layers of the model.

    Raises:
        OutputError: trained_until is no layer.
        PriorError: present weights are asked for, and some layers have none.
    """
    state = State(settings, model.tracer)
    walker = KerasWalker(model.functional, state, dict(model.unreadable))
    if settings.trained_until is not None and settings.trained_until not in walker.results:
        raise no_such_layer("trained_until", settings.trained_until, list(walker.results))
    if settings.takes_weights and model.tracer.made_weights:
        raise PriorError(
            f"{model.name}: it has layers without weights, which were never called, or which its "
            "code makes anew. Try: call the model on data; or prior='initializers', without "
            "trained_until="
        )
    return walker


def _simplify(
    whole: Graph, output: Tensor, walker: KerasWalker
) -> tuple[Graph, MeanTerms, list[Obstacle]]:
    """Split off the mean, resolve gaps, shared layers and sums, and collect every obstacle."""
    state = walker.state
    graph, terms = split_mean(whole, channels_of(output))
    graph = without_arrays(graph, partial(data_of_constants, state))
    graph, gaps = without_gaps(graph, state, terms.data)
    shared = join_calls(graph, len(state.data))
    state.data += [(None, data) for data in side_by_side(shared, state.data)]
    graph, sum_obstacles = _with_sums_resolved(without_idle_activations(shared.graph))
    guessed = walker.stand_ins.shape_unknown(output)
    graph, offsets = (graph, []) if guessed else _with_late_reshapes(graph, state)
    obstacles = [
        *obstacles_before(walker, graph),
        *([] if guessed else output_obstacles(output, graph)),
        *gaps,
        *sum_obstacles,
        *check_gaussianity(graph),
        *shared.obstacles,
        *check_rules(graph),
        *offsets,
    ]
    return graph, terms, obstacles


def _variances(
    graph: Graph, walker: KerasWalker, settings: Settings, *, refused: bool
) -> dict[str, LayerVariances]:
    """The variances of the graph's layers, with the overrides.

    A layer that was refused has no variances: an override of it is no mistake of its own.
    """
    layers = {layer: walker.state.parameters[layer] for layer in graph.layers}
    return apply_overrides(layers, settings.overrides_of(layers) if refused else settings.overrides)


def _with_late_reshapes(graph: Graph, state: State) -> tuple[Graph, list[Obstacle]]:
    """The graph and its obstacles; Reshapes move behind pooling where that resolves every one."""
    obstacles = check_offsets(graph)
    if not obstacles:
        return graph, []
    data, made = list(state.data), dict[tuple[int, Spatial], int]()

    def entered(op: Input, size: Spatial) -> Input:
        if (op.index, size) not in made:
            form = data[op.index][1]
            made[op.index, size] = len(data)
            data.append((None, keras.ops.reshape(form, (-1, *size, form.shape[-1]))))
        return replace(op, index=made[op.index, size], size=size)

    late = with_late_reshapes(graph, entered)
    left = check_offsets(late)
    if left:
        return graph, obstacles
    state.data[:] = data
    return late, []


def _with_sums_resolved(graph: Graph) -> tuple[Graph, list[Obstacle]]:
    """The graph with sums of independent terms, also of fields that were joined; and obstacles."""
    resolved, obstacles = resolve_sums(graph)
    if obstacles:
        apart, left = resolve_sums(without_joins(graph))
        if not left:
            return apart, left
    return resolved, obstacles


def _dtype(tensor: KerasTensor) -> str:
    """The dtype of an input of integers, booleans or text; "" of real numbers."""
    return "" if "float" in str(tensor.dtype) else str(tensor.dtype)


def _row(row: LayerRow, parameters: Mapping[str, LayerVariances]) -> LayerRow:
    """The row with the variances that hold after overrides."""
    return replace(row, variances=parameters.get(row.path)) if row.variances else row
