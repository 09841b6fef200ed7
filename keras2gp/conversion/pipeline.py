"""convert() and inspect(): from a Keras model to its kernel, readable from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from keras2gp._util.checks import one_of
from keras2gp._util.keras_objects import KerasModel
from keras2gp.conversion.examination import examine, open_model
from keras2gp.conversion.output import choice_of_output
from keras2gp.conversion.settings import Settings
from keras2gp.covariance.duals.hermite import TOLERANCE
from keras2gp.covariance.program import check_tangent
from keras2gp.errors import OutputError, UnsupportedModelError
from keras2gp.kernel.inputs import require_eager
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.report import ConversionReport

__all__ = ["convert", "inspect"]

Prior = Literal["initializers", "weights"]
MaxPooling = Literal["average"] | None


def convert(
    model: KerasModel,
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
    require_eager("a conversion")
    one_of("kind", kind, ("nngp", "ntk"))
    settings = Settings.of(
        prior=prior,
        overrides=overrides,
        output=output,
        dtype=dtype,
        max_pooling=max_pooling,
        tolerance=tolerance,
        activations=activations,
        layers=layers,
        input_shape=input_shape,
        trained_until=trained_until,
    )
    with open_model(model, settings) as ready:
        conversion = examine(ready, settings)
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
    model: KerasModel,
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
    settings = Settings.of(
        prior=prior,
        overrides=overrides,
        output=output,
        max_pooling=max_pooling,
        tolerance=tolerance,
        activations=activations,
        layers=layers,
        input_shape=input_shape,
        trained_until=trained_until,
    )
    with open_model(model, settings) as ready:
        try:
            return examine(ready, settings).report
        except OutputError as error:
            # The layers are the same for every output; which of them matter is not known.
            report = examine(ready, replace(settings, output=0)).report
            choice = choice_of_output(report.model, error)
            return replace(report, obstacles=(choice,), output="", notes=())
