"""Normalisations that are written by hand, as the layers of Keras that compute the same.

(x - mean) / sqrt(var + epsilon) is LayerNormalization, x * rsqrt(mean(x^2) + epsilon) is
RMSNormalization, x / norm is UnitNormalization. The statistics in between have no rule of their
own; the last step, which divides by them, is read as the layer. x - mean(x) alone is x, where the
channels of x have mean 0 and weights follow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasNode
from keras2gp.conversion.call import State
from keras2gp.conversion.registry import entry_of
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.distributions import kinds
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Kind

__all__ = ["WrittenNorm", "before_weights", "centred", "has_no_mean", "written_norm"]

Producers = Mapping[int, Any]
"""Keras's record of the call that made a symbolic tensor, by the tensor's identity."""


@dataclass(frozen=True)
class WrittenNorm:
    """A normalisation that a call completes.

    of:     the symbolic tensor that is normalised
    layers: what computes the same, one after the other
    """

    of: Any
    layers: tuple[Any, ...]


@dataclass(frozen=True)
class _Statistic:
    """A statistic of a tensor over axes, and a number added to it.

    kind: "mean", "variance", "square" for the mean of squares, or "sum" for their sum
    axes: Keras's, from 1 on
    """

    kind: str
    of: Any
    axes: tuple[int, ...]
    epsilon: float = 0.0


def written_norm(node: KerasNode, producers: Producers) -> WrittenNorm | None:
    """The normalisation that a call is the last step of; None for any other call."""
    reader, kind = _Reader(producers), type(node.operation).__name__
    if kind == "Normalize" and node.operation.order == 2:
        (tensor,) = node.input_tensors
        axes = _axes(node.operation.axis, tensor)
        return reader.norm(tensor, _Statistic("sum", reader.before(tensor), axes), bare=True)
    pair = reader.pair(node)
    if pair is None:
        return None
    if kind in ("Divide", "TrueDivide"):
        divided = reader.root(pair[1])
        return None if divided is None else reader.norm(pair[0], divided)
    if kind == "Multiply":
        for tensor, other in (pair, pair[::-1]):
            divided = reader.inverse(other)
            if divided is not None:
                return reader.norm(tensor, divided)
    return None


def centred(node: KerasNode, producers: Producers) -> Any:
    """The symbolic tensor x of a call x - mean(x) over its last axis; None for other calls."""
    if type(node.operation).__name__ != "Subtract":
        return None
    return _Reader(producers).less_mean(node, (len(node.outputs[0].shape) - 1,))


def before_weights(nodes: Sequence[Any], outputs: Sequence[Any]) -> set[int]:
    """The calls, by identity, whose results reach the outputs through layers with weights alone.

    nodes: Keras's records of calls, in order
    """
    exposed, found = set(map(id, outputs)), set[int]()
    for node in reversed(nodes):
        entry = entry_of(node.operation)
        if all(id(tensor) not in exposed for tensor in node.outputs):
            found.add(id(node))
        elif entry is None or not entry.weights:
            exposed.update(map(id, node.input_tensors))
    return found


def has_no_mean(tensor: Tensor, state: State) -> bool:
    """Whether the mean over the channels of a tensor vanishes as they become more.

    Then x - mean(x) is x for what has weights after it: the channels are independent, of mean 0.
    """
    apart = tensor.is_data or tensor.units or tensor.kept or tensor.channel_first
    nodes = tuple(state.builder.nodes)
    return not apart and all(
        kinds(Graph(nodes, part.node))[part.node] is Kind.GAUSSIAN for part in tensor.parts
    )


class _Reader:
    """Reads the steps of a normalisation from the last to the first."""

    def __init__(self, producers: Producers) -> None:
        self.producers = producers

    def before(self, tensor: KerasTensor) -> Any:
        """A tensor before changes of its dtype to another of real numbers."""
        while (node := self._made(tensor, "Cast")) is not None and "float" in str(tensor.dtype):
            (tensor,) = node.input_tensors
        return tensor

    def norm(
        self, tensor: KerasTensor, divisor: _Statistic, *, bare: bool = False
    ) -> WrittenNorm | None:
        """A tensor over the root of a statistic of it.

        bare: whether it is read without the layer too, unless its mean is taken away
        """
        tensor, axes = self.before(tensor), divisor.axes
        centred, inner = self._centred(tensor, axes), self._centred(divisor.of, axes)
        of = divisor.of if inner is None else inner
        by_deviation = divisor.kind == "variance" or inner is not None
        if of is not (tensor if centred is None else centred):
            return None
        if centred is None if bare else centred is not None and not by_deviation:
            return None
        layers: list[Any] = []
        stated = {"axis": axes if len(axes) > 1 else axes[0]}
        epsilon, count = divisor.epsilon, 1
        if divisor.kind == "sum":
            count = math.prod(int(tensor.shape[axis] or 0) for axis in axes)
            if not count:
                return None
            epsilon /= count
        if centred is not None:
            layers.append(_of_deviation(epsilon, stated, centred=True))
        elif by_deviation:
            layers.append(_of_deviation(epsilon, stated, centred=False))
        else:
            layers.append(keras.layers.RMSNormalization(epsilon=epsilon, **stated))
        if count > 1:
            layers.append(keras.layers.Rescaling(1.0 / math.sqrt(count)))
        return WrittenNorm(tensor if centred is None else centred, tuple(layers))

    def root(self, tensor: KerasTensor) -> _Statistic | None:
        """The statistic whose root a tensor is."""
        tensor = self.before(tensor)
        node = self._made(tensor, "Std")
        if node is not None:
            return self._over(node, "variance")
        node = self._made(tensor, "Norm")
        if node is not None and node.operation.ord in (None, 2):
            return self._over(node, "sum")
        return self._power(tensor, "Sqrt", 0.5)

    def inverse(self, tensor: KerasTensor) -> _Statistic | None:
        """The statistic whose root a tensor divides by."""
        tensor = self.before(tensor)
        node = self._made(tensor, "Reciprocal")
        if node is not None:
            return self.root(node.input_tensors[0])
        for kind in ("Divide", "TrueDivide"):
            node = self._made(tensor, kind)
            if node is not None and _number(node.arguments.args[0]) == 1.0:
                return self.root(node.input_tensors[0])
        return self._power(tensor, "Rsqrt", -0.5)

    def _power(self, tensor: KerasTensor, kind: str, exponent: float) -> _Statistic | None:
        node = self._made(tensor, kind) or self._made(tensor, "Power")
        if node is None:
            return None
        if type(node.operation).__name__ == "Power" and _second(node) != exponent:
            return None
        return self._spread(node.input_tensors[0])

    def _spread(self, tensor: KerasTensor) -> _Statistic | None:
        """A variance, a mean of squares or their sum, with a number added."""
        tensor = self.before(tensor)
        node = self._made(tensor, "Add")
        if node is not None and len(node.input_tensors) == 1:
            numbers = [_number(v) for v in node.arguments.args]
            epsilon = next((n for n in numbers if n is not None), None)
            found = self._spread(node.input_tensors[0])
            if found is None or epsilon is None or found.epsilon or epsilon < 0.0:
                return None
            return _Statistic(found.kind, found.of, found.axes, epsilon)
        node = self._made(tensor, "Var")
        if node is not None:
            return self._over(node, "variance")
        node = self._made(tensor, "Moments")
        if node is not None and tensor is node.outputs[1]:
            return self._over(node, "variance")
        for kind, name in (("Mean", "square"), ("Sum", "sum")):
            node = self._made(tensor, kind)
            if node is not None:
                return self._of_squares(node, name)
        return None

    def _of_squares(self, node: KerasNode, kind: str) -> _Statistic | None:
        """A mean of squares, or their sum."""
        found = self._over(node, kind)
        if found is None:
            return None
        squared = self._squared(found.of)
        return None if squared is None else _Statistic(kind, squared, found.axes)

    def _squared(self, tensor: KerasTensor) -> Any:
        """The tensor whose square a tensor is; None if it is no square."""
        node = self._made(tensor, "Square")
        if node is not None:
            return self.before(node.input_tensors[0])
        node = self._made(tensor, "Power")
        if node is not None and _second(node) == 2:
            return self.before(node.input_tensors[0])
        node = self._made(tensor, "Multiply")
        pair = None if node is None else self.pair(node)
        return pair[0] if pair is not None and pair[0] is pair[1] else None

    def _centred(self, tensor: KerasTensor, axes: tuple[int, ...]) -> Any:
        """The tensor from which its own mean is taken away; None if it is no such."""
        node = self._made(tensor, "Subtract")
        return None if node is None else self.less_mean(node, axes)

    def less_mean(self, node: KerasNode, axes: tuple[int, ...]) -> Any:
        """The tensor from which a call takes its own mean away; None if it does not."""
        pair = self.pair(node)
        if pair is None:
            return None
        mean = self._made(pair[1], "Mean") or self._made(pair[1], "Moments")
        if mean is None or pair[1] is not mean.outputs[0]:
            return None
        stated = self._over(mean, "mean")
        return pair[0] if stated and (stated.of, stated.axes) == (pair[0], axes) else None

    def pair(self, node: KerasNode) -> tuple[Any, Any] | None:
        """The two symbolic tensors of a call, in order."""
        leaves = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        tensors = [self.before(v) for v in leaves if isinstance(v, keras.KerasTensor)]
        return (tensors[0], tensors[1]) if len(tensors) == 2 else None

    def _over(self, node: KerasNode, kind: str) -> _Statistic | None:
        """The statistic of a call that keeps the axes it is over."""
        operation, tensor = node.operation, self.before(node.input_tensors[0])
        axes = operation.axes if hasattr(operation, "axes") else operation.axis
        if not operation.keepdims or axes is None:
            return None
        return _Statistic(kind, tensor, _axes(axes, tensor))

    def _made(self, tensor: KerasTensor, kind: str) -> Any:
        """The record of the call that made a tensor, if it is of that kind."""
        node = self.producers.get(id(tensor))
        return node if node is not None and type(node.operation).__name__ == kind else None


def _of_deviation(epsilon: float, stated: Mapping[str, Any], *, centred: bool) -> Any:
    """A tensor over its deviation, less its mean or not."""
    scaled_only = {"rms_scaling": True} if not centred else {"center": False, "scale": False}
    return keras.layers.LayerNormalization(epsilon=epsilon, **stated, **scaled_only)


def _axes(axis: Any, tensor: KerasTensor) -> tuple[int, ...]:
    rank = len(tensor.shape)
    return tuple(sorted({a % rank for a in ([axis] if isinstance(axis, int) else axis)}))


def _second(node: KerasNode) -> float | None:
    """The exponent of a power."""
    arguments = node.arguments
    stated = arguments.args[1] if len(arguments.args) > 1 else arguments.kwargs.get("x2")
    return _number(stated)


def _number(value: Any) -> float | None:
    """A single real constant; None for anything else."""
    if isinstance(value, keras.KerasTensor | keras.Variable):
        return None
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return float(array.reshape(())) if array.size == 1 else None
