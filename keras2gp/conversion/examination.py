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
    mean_notes,
    mean_of,
    no_such_layer,
    obstacles_before,
    output_obstacles,
    precision_notes,
    unit_notes,
    unused_notes,
    with_heads_apart,
    with_inputs_numbered,
)
from keras2gp.conversion.overrides import apply_overrides
from keras2gp.conversion.preprocessing import (
    deterministic_model,
    mixing_obstacles,
    side_by_side,
)
from keras2gp.conversion.registry import OwnLayers
from keras2gp.conversion.settings import Settings
from keras2gp.conversion.walker import KerasWalker
from keras2gp.covariance.expansion import with_degrees
from keras2gp.covariance.program import check_rules
from keras2gp.errors import Obstacle, PriorError
from keras2gp.graph.calls import join_calls
from keras2gp.graph.distributions import check_gaussianity
from keras2gp.graph.graph import Graph
from keras2gp.graph.heads import without_output_activation
from keras2gp.graph.means import split_mean, without_arrays
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

__all__ = ["Examination", "examined", "opened_as_set"]


@dataclass(frozen=True)
class Examination:
    """The report of a conversion, and the parts of the kernel if there are no obstacles."""

    report: ConversionReport
    graph: Graph | None = None
    parameters: Mapping[str, LayerVariances] = field(default_factory=dict)
    inputs: tuple[InputSpec, ...] = ()
    preprocessor: Any | None = None
    mean: Mean | None = None


def opened_as_set(source: Any, settings: Settings) -> AbstractContextManager[Opened]:
    """The model, opened as the settings ask for it."""
    return opened(
        source,
        weights=settings.takes_weights,
        activations=settings.activations.functions,
        layers=settings.layers,
        input_shape=settings.input_shape,
    )


def examined(model: Opened, settings: Settings) -> Examination:
    """Walk over the model, simplify its graph, and collect every obstacle."""
    functional, unreadable, name = model.functional, model.unreadable, model.name
    if functional is None:
        reasons = (model.obstacle,) if model.obstacle else tuple(unreadable.values())
        rows = tuple(
            LayerRow(path, kind, "refused" if path in unreadable else "")
            for path, kind in model.layers
        )
        return Examination(ConversionReport(name, settings.prior, rows, reasons))
    state = State(
        settings.prior,
        settings.states_both,
        settings.dtype,
        settings.max_pooling,
        settings.activations,
        OwnLayers(settings.layers),
        model.tracer,
        settings.trained_until,
    )
    walker = KerasWalker(functional, state, dict(unreadable))
    if settings.trained_until is not None and settings.trained_until not in walker.results:
        raise no_such_layer("trained_until", settings.trained_until, list(walker.results))
    if settings.takes_weights and model.tracer.made_weights:
        raise PriorError(
            f"{name}: it has layers without weights, which were never called, or which its code "
            "makes anew. Try: call the model on data; or prior='initializers', without "
            "trained_until="
        )
    output = chosen_output(walker, functional, settings.output)

    inputs = tuple(InputSpec(t.name, tuple(t.shape[1:]), _dtype(t)) for t in functional.inputs)
    try:
        output = with_heads_apart(output, state, walker)
        whole, notes, removed = without_output_activation(graph_of(output, state, walker))
    except RefusalError as refusal:
        obstacle = Obstacle(name, "the output", refusal.why, refusal.hint)
        rows = tuple(row for c in walker.calls for row in (c.row, *c.extra_rows))
        shapes = tuple(spec.shape for spec in inputs)
        return Examination(ConversionReport(name, settings.prior, rows, (obstacle,), shapes))
    graph, terms = split_mean(whole, channels_of(output))
    graph = without_arrays(graph, partial(data_of_constants, state))
    graph, held = without_gaps(graph, state, terms.data)
    shared = join_calls(graph, len(state.data))
    state.data += [(None, data) for data in side_by_side(shared, state.data)]
    graph, sum_obstacles = _with_sums_resolved(without_idle_activations(shared.graph))
    guessed = walker.stand_ins.shape_unknown(output)
    graph, lost = (graph, []) if guessed else _with_late_reshapes(graph, state)
    obstacles = [
        *obstacles_before(walker, graph),
        *([] if guessed else output_obstacles(output, graph)),
        *held,
        *sum_obstacles,
        *check_gaussianity(graph),
        *shared.obstacles,
        *check_rules(graph),
        *lost,
    ]
    # Where the model is refused, nothing is expanded: the search for a form takes seconds.
    expansions: list[str] = []
    if not obstacles:
        graph, expansions = with_degrees(graph, settings.tolerance)
    used = [op.index for op in graph.inputs]
    tensors = list(dict.fromkeys([*used, *terms.data]))
    preprocessor = mean = None
    if not obstacles:
        preprocessor = deterministic_model(walker.inputs, [state.data[i][1] for i in tensors])
        obstacles += mixing_obstacles(preprocessor)
        mean = mean_of(terms, output, graph.positions, state.constants, tensors)

    alive = {layer: state.parameters[layer] for layer in graph.layers}
    # A layer that was refused has no variances: an override of it is no mistake of its own.
    overrides = settings.overrides_of(alive) if obstacles else settings.overrides
    parameters = apply_overrides(alive, overrides)
    report = ConversionReport(
        name,
        settings.prior,
        tuple(_row(row, parameters) for c in walker.calls for row in (c.row, *c.extra_rows)),
        tuple(obstacles),
        tuple(spec.shape for spec in inputs),
        whole.nodes[whole.output].path,
        (
            *settings.notes,
            *(() if obstacles else unused_notes(settings, walker, graph)),
            *notes,
            *unit_notes(output),
            *data_notes(graph),
            *mean_notes(mean),
            *precision_notes(walker, settings.dtype),
            *expansions,
        ),
        graph.positions,
        removed,
    )
    if obstacles:
        return Examination(report)
    graph = with_running_means(with_inputs_numbered(graph, used))
    return Examination(report, graph, parameters, inputs, preprocessor, mean)


def _with_late_reshapes(graph: Graph, state: State) -> tuple[Graph, list[Obstacle]]:
    """The graph, its Reshapes after pooling and its like if that resolves all; and obstacles."""
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
