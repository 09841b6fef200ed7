"""Widened copies of a Keras model: the same graph, of copies of its layers with more channels."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np

from keras2gp._util.arrays import InputsLike, KerasTensor
from keras2gp._util.keras_objects import KerasModel, KerasOperation
from keras2gp._util.text import quoted_text
from keras2gp.conversion.call import Call
from keras2gp.conversion.priors import bias_mean
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.tracing import Tracer
from keras2gp.errors import GraphError, WideningError
from keras2gp.graph.variances import LayerVariances
from keras2gp.verification.copies import Copies, first_number
from keras2gp.verification.costs import Scale
from keras2gp.verification.laws import Law, gamma_law
from keras2gp.verification.layers import (
    Random,
    StepByStep,
    channel_index,
    drawn_weights,
    entries_of,
    growth_over_channels,
    joins,
    recurrent,
    recurrent_layers,
    weighted,
)
from keras2gp.verification.survey import state_of_copies
from keras2gp.verification.taps import Copied, Taps

__all__ = ["Widened", "deviations"]


class Widened(StepByStep):
    """A walk through a model that calls a copy of each layer, with the sizes of `scale`.

    The result is `model`. Its first output is the kernel's; the others are the tensors of `taps`,
    one after the other. `gammas` are the laws of random gammas, by the variable's identity.

    Args:
        functional: The Keras model.
        scale: The sizes of the copy.
        parameters: The kernel's variances. Layers with weights that are not in them have no effect
            on the output.
        output: Path of the call whose result the kernel is of, without a softmax that is removed.
        averages: Whether max pooling is read as average pooling.
        tracer: Has traced the user's code in the model.
        trained_until: As for convert().
        layers: As for convert().
        removed: Paths of activations before the output that are left out.
        bias_means: Paths of the layers whose biases have a mean in the kernel.

    Raises:
        WideningError: Keras cannot build the copy.
    """

    def __init__(
        self,
        functional: KerasModel,
        scale: Scale,
        parameters: Mapping[str, LayerVariances],
        output: str,
        *,
        averages: bool,
        tracer: Tracer | None = None,
        trained_until: str | None = None,
        layers: Mapping[Any, Any] | None = None,
        removed: Collection[str] = (),
        bias_means: Collection[str] = (),
    ) -> None:
        self.scale = scale
        self.output = output
        self.removed = removed
        self.bias_means = bias_means
        self.parameters = parameters
        self.drawn: dict[str, Any] = {}
        self.gammas: dict[int, Law] = {}
        self._notes = Taps()
        state = state_of_copies(tracer, trained_until, layers)
        self._copies = Copies(scale, state.settings.dtype, averages=averages)
        self._surrounded: set[int] = set()
        self._paths: dict[int, str] = {}
        super().__init__(functional, state, {})
        result = self.results[output].data
        self.taps = self._notes.of_model(keras.Model(self.inputs, result))
        tensors = [tensor for tap in self.taps for tensor in tap.tensors]
        self.model = keras.Model(self.inputs, [result, *tensors])

    def _single(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        random = [t for t in call.tensors if isinstance(t, Random)]
        if self.cut.active or (not random and not weighted(call.operation)):
            return self._plain(call, path, count, shapes)
        name = self._paths.setdefault(id(call.operation), path)
        after = self.output in self.results
        if after or any(t.dead for t in random) or self._is_unknown(call.operation, name):
            return [Random(tuple(shape), dead=True) for shape in shapes]
        try:
            results = (
                self._weights(call, path, name)
                if weighted(call.operation)
                else self._between(call, path)
            )
        except (ValueError, TypeError) as error:
            kind = type(call.operation).__name__
            raise WideningError(
                f"{path} ({kind}): Keras cannot build it with {float(self.scale.factor):g} times "
                f"the channels: {quoted_text(error)}"
            ) from error
        return results

    def _folded(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, Copied):
            return super()._folded(tensor)
        return self._notes.between(None, [tensor], super()._folded(tensor).data)

    def _unfolded(self, tensor: Tensor, steps: int) -> Tensor:
        if not isinstance(tensor, Copied):
            return super()._unfolded(tensor, steps)
        return self._notes.between(None, [tensor], super()._unfolded(tensor, steps).data)

    def _is_unknown(self, operation: KerasOperation, name: str) -> bool:
        return weighted(operation) and entries_of(name).isdisjoint(self.parameters)

    def _weights(self, call: Call, path: str, name: str) -> list[Tensor]:
        """Call the copies of a layer with weights, one for each of its kernels."""
        operation, source = call.operation, call.tensors[0]
        if recurrent(operation):
            return self._recurrent(call, path, name)
        result = source
        for suffix, layer in self._copies.of_weights(call, path).items():
            self.drawn[name + suffix] = layer
            data = layer(result.data)
            variances = self.parameters[name + suffix]
            drawn = [(w, w.deviation(variances)) for w in drawn_weights(layer)]
            apart = self.depth > 0  # controls are of images, and these are of steps
            result = self._notes.weights(layer, drawn, result, data, apart=apart)
        if name in self.bias_means:  # weights are drawn about 0
            moved = result.data + first_number(bias_mean(operation))
            result = self._notes.between(None, [result], moved)
        # The function itself is handed on, since a function of the user's own has no name in Keras.
        # The kernel is that of a Gaussian output: an activation in the output's layer was removed.
        function = getattr(operation, "activation", keras.activations.linear)
        if path not in (self.output, *self.removed) and function is not keras.activations.linear:
            activation = keras.layers.Activation(function)
            result = self._notes.between(activation, [result], activation(result.data))
        return [result]

    def _recurrent(self, call: Call, path: str, name: str) -> list[Tensor]:
        """Call the copy of a recurrent layer."""
        operation, (source, *masks) = call.operation, call.tensors
        if path in (self.output, *self.removed):
            raise WideningError(
                f"{path}: its last activation is left out at the output, and Keras gives no state "
                "before it. Try: a Dense layer after it"
            )
        copy = self._copies.of_recurrent(operation)
        results = copy(source.data, mask=masks[0].data if masks else None)
        results = results if isinstance(results, list | tuple) else [results]
        for suffix, layer in recurrent_layers(copy).items():
            self.drawn |= {f"{name}{suffix}/{part}": layer for part in ("input", "recurrent")}
        return [self._notes.recurrent(copy, source, result) for result in results]

    def _between(self, call: Call, path: str) -> list[Tensor]:
        """Call the copy of an operation without random weights."""
        if path in self.removed:
            return list(call.tensors)
        operation, copied = call.operation, self._copies.of_operation(call, path)
        args, kwargs = (self._value(v, call) for v in (call.args, call.kwargs))
        kwargs.pop("training", None)
        if index := channel_index(call):
            place, channels = index
            keys = list(args[1])
            keys[place] = slice(
                self._copies.grown(channels.start), self._copies.grown(channels.stop)
            )
            args = (args[0], tuple(keys))
        if args and id(args[0]) in self._surrounded:
            results = _inside(copied, args[0])
        else:
            results = copied(*args, **kwargs)
        if type(operation).__name__ == "Pad" and -math.inf in (*args[1:], *kwargs.values()):
            self._surrounded.add(id(results))
        if power := growth_over_channels(call):
            results = results * float(self.scale.factor) ** -power
        if law := gamma_law(operation):
            self.gammas[id(copied.gamma)] = law
        results = results if isinstance(results, list | tuple) else [results]
        return [self._notes.between(copied, call.tensors, t) for t in results]

    def _value(self, value: Any, call: Call) -> Any:
        """An argument of the copy's call: a tensor's copy, or the number in a constant array."""
        if isinstance(value, Tensor):
            grows = joins(call) and not isinstance(value, Random) and not _weighs(value, call)
            return self._repeated(value.data, call) if grows else value.data
        if isinstance(value, list | tuple):
            return type(value)(self._value(v, call) for v in value)
        if isinstance(value, dict):
            return {key: self._value(v, call) for key, v in value.items()}
        if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
            listed = type(call.operation).__name__ in ("Take", "Matmul")  # of positions
            return value if listed else first_number(value)
        return value

    def _repeated(self, data: InputsLike, call: Call) -> Any:
        """The data beside random channels, each channel repeated as often as those have grown.

        The kernel depends on means over channels, which repetition keeps.
        """
        times = int(self.scale.factor)
        axis = getattr(call.operation, "axis", None)
        if axis is None:  # that along which the others have grown
            grown = next(t.data.shape for t in call.tensors if isinstance(t, Random))
            pairs = enumerate(zip(data.shape, grown, strict=False))
            axes = [a for a, (n, m) in pairs if a and n is not None and m == times * n]
            axis = axes[-1] if times > 1 and axes else -1
        return keras.ops.concatenate([data] * times, axis=axis)


def _weighs(data: Tensor, call: Call) -> bool:
    """Whether data is one number for all channels of what it multiplies."""
    return type(call.operation).__name__ == "Multiply" and data.channels == 1


def _inside(pooling: Any, x: KerasTensor) -> Any:
    """The average over what is finite in each window of an average pooling."""
    finite = keras.ops.isfinite(x)
    total = pooling(keras.ops.where(finite, x, 0.0))
    return total / pooling(keras.ops.cast(finite, x.dtype))


def deviations(widened: Widened) -> list[float | None]:
    """Standard deviations of the model's trainable variables; None for those that are not drawn.

    Variables that are not drawn are scales, slopes and the like, which the kernel takes at their
    initial values.
    """
    by_variable = {}
    for name, layer in widened.drawn.items():
        for weight in drawn_weights(layer, name):
            variances = widened.parameters[name]
            by_variable[id(weight.variable)] = weight.deviation(variances)
    variables = widened.model.trainable_variables
    drawn = sum(id(v) in by_variable for v in variables)
    if drawn != len(by_variable):
        raise GraphError(
            f"{len(by_variable)} weights are to be drawn, and the copy has {drawn} of them"
        )
    return [by_variable.get(id(v)) for v in variables]
