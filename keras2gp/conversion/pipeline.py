"""convert(): from a Keras model to its kernel, readable from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import keras

from keras2gp.conversion.context import Context, State
from keras2gp.conversion.overrides import apply_overrides
from keras2gp.conversion.preprocessing import deterministic_model, mixing_obstacles
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.walker import Walk, functional_of, runs_own_code
from keras2gp.covariance.duals.hermite import TOLERANCE
from keras2gp.covariance.expansion import with_degrees
from keras2gp.covariance.own_activations import OwnActivations
from keras2gp.covariance.program import check_rules, check_tangent, layers_of
from keras2gp.errors import InputError, Obstacle, UnsupportedModelError
from keras2gp.graph.distributions import check_gaussianity
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Activation, Input, Opaque
from keras2gp.graph.positivity import without_idle_activations
from keras2gp.graph.reshapes import check_offsets
from keras2gp.graph.sums import check_shared_layers, resolve_sums
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.inputs import InputSpec
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.modelfile.loading import load_model_file
from keras2gp.report import ConversionReport, LayerRow

__all__ = ["convert", "inspect"]

Prior = Literal["initializers", "weights"]
MaxPooling = Literal["average"] | None
_OUTPUT_ACTIVATIONS = ("softmax", "sigmoid", "log_softmax", "log_sigmoid")


def convert(
    model: Any,
    prior: Prior = "initializers",
    overrides: Mapping[str, Any] | None = None,
    output: str | int | None = None,
    dtype: str = "float32",
    *,
    max_pooling: MaxPooling = None,
    kind: Literal["nngp", "ntk"] = "nngp",
    tolerance: float = TOLERANCE,
    activations: Mapping[Any, Any] | None = None,
) -> Kernel:
    """The kernel of the Gaussian process that the model's architecture becomes at infinite width.

    model:       a Keras model (Sequential or functional), or the path of a .keras or .json file
    prior:       "initializers" (what the layers draw their weights from) or "weights" (the second
                 moments of the model's present weights)
    overrides:   layer-name pattern to {"weight": w2, "bias": b2}; see LayerVariances for the units
    output:      which output: a position, the name of an output, or the path of any layer
    dtype:       "float32" or "float64", of the kernel's entries
    max_pooling: "average" puts average pooling in the place of max pooling, which has no exact
                 rule, and says so in the report; None refuses it
    kind:        "nngp", or "ntk" for the neural tangent kernel; see Kernel.__call__
    tolerance:   of activations that are expanded, for variances up to 4: the error of a covariance
                 against the square root of the two variances. The report has what is reached
    activations: functions that are not Keras's, by the name that a model file gives them or by
                 the function that the model has: a function of a tensor, elementwise and
                 continuous, which is expanded, or a Dual. A function that the model itself holds
                 needs no entry; one that a file names is never looked up anywhere else

    Raises: UnsupportedModelError with every obstacle, if there is no exact kernel;
            ModelFileError if the file cannot be read; PriorError if an override does not fit;
            InputError for another argument that does not.
    """
    if dtype not in ("float32", "float64"):
        raise InputError(f"dtype={dtype!r}: expected 'float32' or 'float64'")
    if kind not in ("nngp", "ntk"):
        raise InputError(f"kind={kind!r}: expected 'nngp' or 'ntk'")
    translation = _translate(
        model,
        prior,
        overrides or {},
        output,
        dtype,
        max_pooling=max_pooling,
        tolerance=tolerance,
        activations=activations,
    )
    report = translation.report
    obstacles = report.obstacles
    if not obstacles and translation.graph is not None and kind == "ntk":
        obstacles = tuple(check_tangent(translation.graph))
    if obstacles or translation.graph is None:
        raise UnsupportedModelError(report.model, obstacles, report)
    return Kernel(
        CompiledProgram(translation.graph, dtype, kind=kind),
        translation.parameters,
        translation.inputs,
        translation.preprocessor,
        report,
    )


def inspect(
    model: Any,
    prior: Prior = "initializers",
    overrides: Mapping[str, Any] | None = None,
    output: str | int | None = None,
    *,
    max_pooling: MaxPooling = None,
    tolerance: float = TOLERANCE,
    activations: Mapping[Any, Any] | None = None,
) -> ConversionReport:
    """What would become of each layer; never raises for a layer that is not supported.

    Arguments and other errors: as convert().
    """
    translation = _translate(
        model,
        prior,
        overrides or {},
        output,
        max_pooling=max_pooling,
        tolerance=tolerance,
        activations=activations,
    )
    return translation.report


@dataclass(frozen=True)
class _Translation:
    report: ConversionReport
    graph: Graph | None = None
    parameters: Mapping[str, LayerVariances] = field(default_factory=dict)
    inputs: tuple[InputSpec, ...] = ()
    preprocessor: Any | None = None


def _translate(
    source: Any,
    prior: str,
    overrides: Mapping[str, Any],
    output: str | int | None,
    dtype: str = "float32",
    *,
    max_pooling: str | None = None,
    tolerance: float = TOLERANCE,
    activations: Mapping[Any, Any] | None = None,
) -> _Translation:
    if prior not in ("initializers", "weights"):
        raise InputError(f"prior={prior!r}: expected 'initializers' or 'weights'")
    if max_pooling not in (None, "average"):
        raise InputError(f"max_pooling={max_pooling!r}: expected None or 'average'")
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance={tolerance!r}: expected a number between 0 and 1")
    own = OwnActivations(activations)
    model, unreadable, name = _opened(source, prior, own)
    functional = None if model is None else functional_of(model)
    if functional is None:
        obstacles = tuple(unreadable.values()) or (_no_graph(model, name),)
        return _Translation(ConversionReport(name, prior, (), obstacles))
    state = State(
        prior, lambda path: _states_both(overrides, path), dtype, max_pooling, own.activation
    )
    walk = Walk(functional, state, dict(unreadable))
    chosen = _chosen(walk, functional, output)
    inputs = tuple(InputSpec(t.name, tuple(t.shape[1:])) for t in functional.inputs)
    raw = _graph(chosen, state, walk)
    graph, notes = _without_output_activation(raw)
    graph, sums = resolve_sums(without_idle_activations(graph))
    found = [*_alive(walk, graph), *_positions(chosen, graph), *sums]
    found += [*check_gaussianity(graph), *check_shared_layers(graph), *check_rules(graph)]
    found += check_offsets(graph)
    graph, expansions = with_degrees(graph, tolerance)
    used = [op.index for op in graph.inputs]
    preprocessor = None
    if not found:
        preprocessor = deterministic_model(walk.inputs, [state.data[index][1] for index in used])
        found += mixing_obstacles(preprocessor)
    alive = {layer: state.parameters[layer] for layer in layers_of(graph)}
    # A layer that was refused has no variances: an override of it is no mistake of its own.
    stated = _matching(overrides, alive) if found else overrides
    parameters = apply_overrides(alive, stated)
    rows = tuple(_row(row, parameters) for c in walk.calls for row in (c.row, *c.halves))
    report = ConversionReport(
        name,
        prior,
        rows,
        tuple(found),
        tuple(spec.shape for spec in inputs),
        graph.nodes[graph.output].path,
        (*notes, *expansions),
    )
    if found:
        return _Translation(report)
    return _Translation(report, _numbered(graph, used), parameters, inputs, preprocessor)


def _opened(
    source: Any, prior: str, own: OwnActivations
) -> tuple[Any, Mapping[str, Obstacle], str]:
    """The model, the layers of its file that are not to be trusted, and a name for it."""
    if isinstance(source, str | Path):
        loaded = load_model_file(source, weights=prior == "weights", activations=own.functions)
        return loaded.model, loaded.unreadable, loaded.name
    if not isinstance(source, keras.Model):
        raise InputError(
            f"expected a Keras model or the path of one, received {type(source).__name__}"
        )
    return source, {}, source.name


def _no_graph(model: Any, name: str) -> Obstacle:
    if isinstance(model, keras.Sequential) and not runs_own_code(model):
        why = "the Sequential model is empty or not built, so its shapes are not known"
        return Obstacle(name, "Sequential", why, "keras.Input(shape) as its first element")
    why = "a subclassed model is code: there is no graph of layers that says what it computes"
    return Obstacle(name, type(model).__name__, why, "the Sequential or functional interface")


def _states_both(overrides: Mapping[str, Any], path: str) -> bool:
    """Whether the overrides give a layer both variances, so that its initialisers do not matter."""
    stated: set[str] = set()
    for pattern, value in overrides.items():
        if isinstance(pattern, str) and fnmatchcase(path, pattern):
            stated.update(value if isinstance(value, Mapping) else ("weight", "bias"))
    return {"weight", "bias"} <= stated


def _matching(overrides: Mapping[str, Any], layers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The overrides whose pattern matches a layer."""
    return {p: v for p, v in overrides.items() if any(fnmatchcase(name, p) for name in layers)}


def _chosen(walk: Walk, functional: Any, output: str | int | None) -> Tensor:
    """The tensor whose covariance is asked for."""
    names = list(functional.output_names)
    if output is None:
        if len(walk.outputs) > 1:
            raise InputError(
                f"the model has {len(names)} outputs: choose one with output=: {names}"
            )
        return walk.outputs[0]
    if isinstance(output, int):
        if not -len(names) <= output < len(names):
            raise InputError(f"output={output}: the model has {len(names)} outputs: {names}")
        return walk.outputs[output]
    if output in names and len(names) == len(walk.outputs):
        return walk.outputs[names.index(output)]
    if output in walk.results:
        return walk.results[output]
    known = ", ".join([*names, *walk.results])
    raise InputError(f"output={output!r}: no output or layer of that name. There are: {known}")


def _graph(chosen: Tensor, state: State, walk: Walk) -> Graph:
    """What the chosen tensor depends on; a tensor that no weights have touched is an input."""
    tensor = Context(state, walk.calls[-1].row.path if walk.calls else "input").gathered(chosen)
    return state.builder.graph(tensor.parts[0].node)


def _without_output_activation(graph: Graph) -> tuple[Graph, list[str]]:
    """A softmax or sigmoid at the output turns the process into probabilities: not part of it."""
    node = graph.nodes[graph.output]
    if isinstance(node.op, Activation) and node.op.name in _OUTPUT_ACTIVATIONS:
        note = f"{node.op.name} at the output ({node.path}) removed: the kernel is of its argument"
        return graph.pruned(node.inputs[0]), [note]
    return graph, []


def _alive(walk: Walk, graph: Graph) -> list[Obstacle]:
    """Refusals of layers that the output depends on; others do not matter."""
    alive = {node.path for node in graph.nodes if isinstance(node.op, Opaque)}
    return [c.obstacle for c in walk.calls if c.obstacle is not None and c.row.path in alive]


def _positions(chosen: Tensor, graph: Graph) -> list[Obstacle]:
    """The output must be one number for each image and unit."""
    node = graph.nodes[graph.output]
    obstacles = []
    if math.prod(node.spatial) > 1:
        why = f"the output has {node.spatial} positions, and the kernel is of one number per image"
        hint = "Flatten and a Dense layer at the end, or another output="
        obstacles.append(Obstacle(node.path, f"output of shape {chosen.shape}", why, hint))
    if len(chosen.parts) > 1:
        why = "the output is concatenated from different groups of channels"
        obstacles.append(Obstacle(node.path, "Concatenate", why, "a Dense layer after it"))
    return obstacles


def _row(row: LayerRow, parameters: Mapping[str, LayerVariances]) -> LayerRow:
    """The row with the variances that hold after overrides."""
    return replace(row, variances=parameters.get(row.path)) if row.variances else row


def _numbered(graph: Graph, used: list[int]) -> Graph:
    """The graph with its inputs numbered by their place in `used`; unused ones are left out."""
    nodes = tuple(
        replace(node, op=replace(node.op, index=used.index(node.op.index)))
        if isinstance(node.op, Input)
        else node
        for node in graph.nodes
    )
    return Graph(nodes, graph.output)
