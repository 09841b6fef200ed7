"""convert() and inspect(): from a Keras model to its kernel, readable from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from keras2gp._util.checks import one_of
from keras2gp.conversion.call import RefusalError, State
from keras2gp.conversion.layers.masks import without_gaps
from keras2gp.conversion.opening import Opened, opened
from keras2gp.conversion.output import (
    channels_of,
    choice_of_output,
    chosen_output,
    graph_of,
    mean_notes,
    mean_of,
    no_such_layer,
    obstacles_before,
    output_obstacles,
    precision_notes,
    unit_notes,
    with_heads_apart,
    with_inputs_numbered,
    without_output_activation,
)
from keras2gp.conversion.overrides import apply_overrides, check_overrides
from keras2gp.conversion.preprocessing import (
    deterministic_model,
    mixing_obstacles,
    side_by_side,
)
from keras2gp.conversion.registry import OwnLayers
from keras2gp.conversion.settings import Settings
from keras2gp.conversion.walker import KerasWalker
from keras2gp.covariance.duals.hermite import TOLERANCE
from keras2gp.covariance.expansion import with_degrees
from keras2gp.covariance.own_activations import OwnActivations
from keras2gp.covariance.program import check_rules, check_tangent
from keras2gp.errors import Obstacle, OutputError, PriorError, UnsupportedModelError
from keras2gp.graph.calls import join_calls
from keras2gp.graph.distributions import check_gaussianity
from keras2gp.graph.graph import Graph
from keras2gp.graph.joins import without_joins
from keras2gp.graph.means import array_obstacles, split_mean
from keras2gp.graph.offsets import check_offsets
from keras2gp.graph.positivity import without_idle_activations
from keras2gp.graph.sums import resolve_sums
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.inputs import InputSpec
from keras2gp.kernel.kernel import Kernel
from keras2gp.kernel.mean import Mean
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.report import ConversionReport, LayerRow

__all__ = ["convert", "inspect"]

Prior = Literal["initializers", "weights"]
MaxPooling = Literal["average"] | None


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
    layers: Mapping[Any, Any] | None = None,
    input_shape: Any = None,
    trained_until: str | None = None,
) -> Kernel:
    """Compute the kernel of the Gaussian process that a network becomes at infinite width.

    The kernel is exact for the model's prior, or every obstacle is reported. Changes that do not
    touch the prior, such as a softmax at the output that is left out, stand in `Kernel.report`.
    Where the output is a map or a sequence, `Kernel.positions` has its sizes.

    Args:
        model: A Keras model, or the path of a .keras, .h5 or .json file. The code of subclassed
            models and layers is called on symbolic tensors, in inference mode; no file's code runs.
        prior: "initializers" for the variances that the layers draw their weights with, or
            "weights" for the second moments of the model's present weights.
        overrides: Layer-name patterns to {"weight": w2, "bias": b2}; see `LayerVariances` for the
            units. `*` stands for any text, and later patterns win.
        output: A position, the name of an output, or the path of any layer. A model of one output
            needs none.
        dtype: "float32" or "float64": the type of the kernel's entries.
        max_pooling: "average" puts average pooling in the place of max pooling, which has no exact
            rule, and says so in the report; None refuses max pooling.
        kind: "nngp", or "ntk" for the neural tangent kernel; see `Kernel.__call__`.
        tolerance: For activations that are expanded: the error of a covariance relative to the
            square root of the two variances, for variances up to 4. The report has the reached one.
        activations: Functions that are not Keras's, by the function of the model or by the name
            that a model file gives them, to a function of a tensor (elementwise and continuous) or
            a `Dual`. A file's functions are looked up here alone.
        layers: Layer classes of your own to their readers, {YourLayer: reader}; or their
            registered names to classes whose reader `keras2gp.reader` has registered,
            {"package>YourLayer": YourLayer}. A file's layers are looked up here alone.
        input_shape: Sizes of one input without the batch axis, such as (28, 28, 1), where the
            model leaves them open: of a list for several inputs, or a dict by name. A
            `keras.Input` in the place of a shape states the type too.
        trained_until: The path of a layer. Keras runs it and all before it with their present
            weights, and what follows is infinitely wide.

    Returns:
        The kernel: a function of two sets of inputs.

    Raises:
        UnsupportedModelError: There is no exact kernel; the error lists every obstacle.
        ModelFileError: The file cannot be read.
        PriorError: An override does not fit the model.
        InputError: Another argument does not fit.

    >>> import keras, keras2gp
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal"),
    ...     keras.layers.Dense(1, kernel_initializer="he_normal"),
    ... ])
    >>> kernel = keras2gp.convert(model, dtype="float64")
    >>> print(kernel([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]).numpy().round(4))
    [[1.     0.3183]
     [0.3183 1.    ]]
    """
    one_of("dtype", dtype, ("float32", "float64"))
    one_of("kind", kind, ("nngp", "ntk"))
    settings = Settings(
        prior,
        check_overrides(overrides),
        output,
        max_pooling,
        tolerance,
        OwnActivations(activations),
        layers,
        input_shape,
        trained_until,
        dtype,
    )
    with _opened(model, settings) as ready:
        conversion = _walked(ready, settings)
    report, graph = conversion.report, conversion.graph
    obstacles = report.obstacles
    if graph is not None and kind == "ntk":
        obstacles = tuple(check_tangent(graph))
    if obstacles or graph is None:
        raise UnsupportedModelError(report.model, obstacles, report)
    return Kernel(
        CompiledProgram(graph, dtype, kind=kind),
        conversion.parameters,
        conversion.inputs,
        conversion.preprocessor,
        report,
        mean=conversion.mean,
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
    layers: Mapping[Any, Any] | None = None,
    input_shape: Any = None,
    trained_until: str | None = None,
) -> ConversionReport:
    """Report what each layer of a model becomes in its kernel, and every obstacle.

    Args:
        model: As for `convert`, and so are the others.
        prior: See `convert`.
        overrides: See `convert`.
        output: See `convert`.
        max_pooling: See `convert`.
        tolerance: See `convert`.
        activations: See `convert`.
        layers: See `convert`.
        input_shape: See `convert`.
        trained_until: See `convert`.

    Returns:
        The report. A layer without a rule is an obstacle in it and raises nothing. So is an
        output that was not chosen where the model has several.

    Raises:
        ModelFileError: The file cannot be read.
        PriorError: An override does not fit the model.
        InputError: Another argument does not fit.

    >>> import keras, keras2gp
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, kernel_initializer=keras.initializers.RandomNormal(stddev=0.5)),
    ...     keras.layers.ReLU(),
    ...     keras.layers.Dense(3, kernel_initializer="he_normal"),
    ... ])
    >>> report = keras2gp.inspect(model)
    >>> report.exact
    True
    >>> [row.became for row in report.rows]
    ['dense', 'relu', 'dense']
    """
    settings = Settings(
        prior,
        check_overrides(overrides),
        output,
        max_pooling,
        tolerance,
        OwnActivations(activations),
        layers,
        input_shape,
        trained_until,
    )
    with _opened(model, settings) as ready:
        try:
            return _walked(ready, settings).report
        except OutputError as error:
            # The layers are the same for every output; which of them matter is not known.
            report = _walked(ready, replace(settings, output=0)).report
            choice = choice_of_output(report.model, error)
            return replace(report, obstacles=(choice,), output="", notes=())


@dataclass(frozen=True)
class _Conversion:
    """The report of a conversion, and the parts of the kernel if there are no obstacles."""

    report: ConversionReport
    graph: Graph | None = None
    parameters: Mapping[str, LayerVariances] = field(default_factory=dict)
    inputs: tuple[InputSpec, ...] = ()
    preprocessor: Any | None = None
    mean: Mean | None = None


def _opened(source: Any, settings: Settings) -> AbstractContextManager[Opened]:
    """The model, opened as the settings ask for it."""
    return opened(
        source,
        weights=settings.takes_weights,
        activations=settings.activations.functions,
        layers=settings.layers,
        input_shape=settings.input_shape,
    )


def _walked(model: Opened, settings: Settings) -> _Conversion:
    """Walk over the model, simplify its graph, and collect every obstacle."""
    functional, unreadable, name = model.functional, model.unreadable, model.name
    if functional is None:
        reasons = (model.obstacle,) if model.obstacle else tuple(unreadable.values())
        rows = tuple(
            LayerRow(path, kind, "refused" if path in unreadable else "")
            for path, kind in model.layers
        )
        return _Conversion(ConversionReport(name, settings.prior, rows, reasons))
    state = State(
        settings.prior,
        settings.states_both,
        settings.dtype,
        settings.max_pooling,
        settings.activations.activation,
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
        return _Conversion(ConversionReport(name, settings.prior, rows, (obstacle,), shapes))
    graph, terms = split_mean(whole, channels_of(output))
    arrays = array_obstacles(graph)
    graph, held = without_gaps(graph, state, terms.data)
    shared = join_calls(graph, len(state.data))
    graph, sum_obstacles = _with_sums_resolved(without_idle_activations(shared.graph))
    guessed = walker.has_unknown_shape(output)
    obstacles = [
        *obstacles_before(walker, graph),
        *([] if guessed else output_obstacles(output, graph)),
        *arrays,
        *held,
        *sum_obstacles,
        *([] if arrays else check_gaussianity(graph)),
        *shared.obstacles,
        *check_rules(graph),
        *([] if guessed else check_offsets(graph)),
    ]
    graph, expansions = with_degrees(graph, settings.tolerance)
    state.data += [(None, data) for data in side_by_side(shared, state.data)]
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
            *notes,
            *unit_notes(output),
            *mean_notes(mean),
            *precision_notes(walker, settings.dtype),
            *expansions,
        ),
        graph.positions,
        removed,
    )
    if obstacles:
        return _Conversion(report)
    graph = with_inputs_numbered(graph, used)
    return _Conversion(report, graph, parameters, inputs, preprocessor, mean)


def _with_sums_resolved(graph: Graph) -> tuple[Graph, list[Obstacle]]:
    """The graph with sums of independent terms, also of fields that were joined; and obstacles."""
    resolved, obstacles = resolve_sums(graph)
    if obstacles:
        apart, left = resolve_sums(without_joins(graph))
        if not left:
            return apart, left
    return resolved, obstacles


def _dtype(tensor: Any) -> str:
    """The dtype of an input of integers, booleans or text; "" of real numbers."""
    return "" if "float" in str(tensor.dtype) else str(tensor.dtype)


def _row(row: LayerRow, parameters: Mapping[str, LayerVariances]) -> LayerRow:
    """The row with the variances that hold after overrides."""
    return replace(row, variances=parameters.get(row.path)) if row.variances else row
