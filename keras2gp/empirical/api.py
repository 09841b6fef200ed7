"""keras2gp.empirical_kernel: the kernel of a finite Keras model at its present weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from keras2gp._util.checks import is_whole_number, one_of, truth, whole_number
from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.text import received_text
from keras2gp.empirical.kernel import EmpiricalKernel, Kind, Parameterization
from keras2gp.empirical.network import Network, chosen_model
from keras2gp.empirical.weights import last_weights
from keras2gp.errors import InputError
from keras2gp.kernel.inputs import require_eager

__all__ = ["empirical_kernel"]


def empirical_kernel(
    model: KerasModel,
    kind: Kind = "ntk",
    *,
    parameterization: Parameterization | None = None,
    output: int | str | None = None,
    unit: int | None = None,
    logits: bool = False,
    last: str | None = None,
    sketch: int | None = None,
    seed: int = 0,
    dtype: str = "float64",
) -> EmpiricalKernel:
    """The kernel of a finite network as it is: any built Keras model, at its present weights.

    The network is trained or not, and of any layers, subclassed models included. It runs with
    training=False. Only the trainable weights count: a layer with trainable=False adds nothing.

    Math:
        k(x, x') = sum_u sum_p S[p]^2 (d f_u(x) / d w[p]) (d f_u(x') / d w[p]) / U

        for U output units (all axes of the output, flattened) and weights p: all trainable ones
        for "ntk"; for "nngp" those of the last layer, in which f is linear, so that k is
        E[f(x) f(x')] over weights of the last layer of standard deviations S, the covariance of
        its input features. For a Dense layer of N inputs h that is S^2 N (h . h' / N), and the
        bias's variance.

        standard   "ntk": S = 1, the tangent kernel J J^T as gradient descent has it.
                   "nngp": S^2 = 1 / N and no bias: the mean h . h' / N over the features.
        ntk        S is the standard deviation that the weight's initialiser draws with, 0 for
                   constants. Then both kinds converge, in randomly initialised networks of more
                   and more channels, to keras2gp.convert(model)(x, get=kind).

    Args:
        model: a built keras.Model, which is never changed.
        kind: "ntk", the tangent kernel, which is that of the network linearised at its weights;
            or "nngp", the covariance of the last layer's features.
        parameterization: "standard" or "ntk", see above; None for "standard" if the kind is
            "ntk", and for "ntk" if it is "nngp".
        output: position or name of an output; a model of one output needs none.
        unit: the one output unit whose kernel it is; None for the mean over units.
        logits: whether a softmax or sigmoid at the output is left out.
        last: for "nngp", the name of the last layer, where a subclassed model does not list it
            last.
        sketch: number K of random directions for a large network; None for exact derivatives.
            The error is in `EmpiricalKernel.error`: sqrt(2 / K) or less, relative.
        seed: of the sketch's directions.
        dtype: "float64" or "float32", in which products are summed. Derivatives have the model's
            own precision.

    Returns:
        The kernel: a function of two sets of inputs.

    Raises:
        InputError: the model is not built, has no trainable weights, or an argument does not fit.
        OutputError: the model has several outputs, and none was chosen.
        PriorError: parameterization "ntk", and an initialiser whose variance is not known.
        NumericalError: a weight is not finite.

    References:
        Jacot et al., "Neural Tangent Kernel", 2018; Lee et al., "Deep Neural Networks as Gaussian
        Processes", 2018.

    >>> import keras, keras2gp, numpy
    >>> keras.utils.set_random_seed(1)
    >>> model = keras.Sequential([
    ...     keras.Input((3,)), keras.layers.Dense(50, activation="tanh"), keras.layers.Dense(1),
    ... ])
    >>> x = numpy.random.default_rng(0).normal(size=(40, 3))
    >>> y = numpy.sin(x[:, 0])
    >>> model.compile("adam", "mse")
    >>> history = model.fit(x, y, epochs=5, verbose=0)
    >>> kernel = keras2gp.empirical_kernel(model)
    >>> gp = keras2gp.GPRegressor(kernel, noise_variance=0.01).fit(x, y)
    >>> bool(abs(gp.predict(x) - y).max() < 0.1)
    True
    >>> keras2gp.empirical_kernel(model, sketch=200).error
    0.1
    """
    require_eager("the kernel of a finite network")
    one_of("kind", kind, ("ntk", "nngp"))
    one_of("parameterization", parameterization, (None, "standard", "ntk"))
    one_of("dtype", dtype, ("float32", "float64"))
    logits = truth("logits", logits)
    if unit is not None and not is_whole_number(unit):
        raise InputError(f"unit={received_text(unit)}: expected the number of an output unit")
    if sketch is not None:
        sketch = whole_number("sketch", sketch, 1, 2**24)
    seed = whole_number("seed", seed, 0, 2**62)
    if last is not None and kind != "nngp":
        raise InputError("last= is for kind='nngp': all trainable weights count in the 'ntk'")
    _require_built(model)
    chosen, place = chosen_model(model, output, logits=bool(logits))
    network = Network(chosen, place)
    if not network.weights:
        raise InputError(f"{network.name} has no trainable weights: its kernel is 0")
    if parameterization is None:
        parameterization = "standard" if kind == "ntk" else "ntk"
    return EmpiricalKernel(
        network,
        kind,
        _deviations(network, kind, parameterization, last),
        parameterization=parameterization,
        unit=unit,
        dtype=dtype,
        sketch=sketch,
        seed=seed,
    )


def _require_built(model: KerasModel) -> None:
    if isinstance(model, str):
        raise InputError(
            f"model={received_text(model)}: expected a live Keras model. Try: "
            "keras.models.load_model(path) for a file of your own"
        )
    if not isinstance(model, keras.Model):
        raise InputError(f"model={received_text(model)}: expected a keras.Model")
    if not model.built:
        raise InputError(
            f"{model.name} is not built: its weights do not exist yet. Try: call it on a batch of "
            "images first"
        )


def _deviations(
    network: Network, kind: Kind, parameterization: Parameterization, last: str | None
) -> list[float]:
    """S of the Math of `empirical_kernel`, one number for each trainable variable."""
    weights = network.weights
    places: Sequence[int] = range(len(weights))
    if kind == "nngp":
        places = last_weights(network.model, weights, last)
    deviations = [0.0] * len(weights)
    for i in places:
        if parameterization == "ntk":
            deviations[i] = math.sqrt(weights[i].variance)
        elif kind == "ntk":
            deviations[i] = 1.0
        elif weights[i].fan_in:
            deviations[i] = 1.0 / math.sqrt(weights[i].fan_in)
    if not any(deviations):
        names = ", ".join(weights[i].path for i in places)
        raise InputError(
            f"none of the weights {names} is drawn at random by its initialiser, so that the "
            "kernel is 0. Try: parameterization='standard', or another last= layer"
        )
    return deviations
