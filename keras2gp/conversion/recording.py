"""Records of calls: those that Keras keeps of a model, and those of code while it is traced."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.ops.node import Node

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasLayer, KerasNode, KerasOperation, KerasVariable
from keras2gp.conversion.derived_weights import as_drawn, weights_as_symbols
from keras2gp.conversion.user_code import OWN_WEIGHTS, UntracedError, line_of, user_frame
from keras2gp.conversion.weight_calls import sums_positions, variables_of

__all__ = ["Record", "Traced", "hand_mask", "mask_of", "mask_of_call", "nodes_of", "replaced"]

_ON_CONSTANTS = (
    "its layer {name} has weights and acts on constants: all inputs share what it gives",
    "those constants as an input of the model (keras.Input), the same for all rows of the data",
)

_DISTANCES = (
    (
        "it compares each channel with weights of its own ({name}), one for each unit, as "
        "distances to centres do: that is no sum of channels times weights, and there is no rule "
        "for it"
    ),
    (
        "a Dense layer and an activation in its place; or a reader of your own: "
        "layers={YourLayer: reader}"
    ),
)

_OVER_POSITIONS = (
    (
        "it sums positions by weights of its own ({name}), the same for all channels: of a fixed "
        "number of positions that sum stays random at any width"
    ),
    "a Permute or Flatten before it, so that it sums over channels; or means over positions",
)


@dataclass(frozen=True, eq=False)
class Traced:
    """The calls of layers and operations inside of a layer, as a functional model has them.

    inputs:       its symbolic inputs
    outputs:      its results
    nodes:        Keras's records of the calls that the results depend on, in order
    sources:      the tensors that it was called with, one for each input
    lines:        the line of the user's code that made a call, by the identity of its record
    output_names: the names of the results
    """

    inputs: Sequence[Any]
    outputs: Sequence[Any]
    nodes: Sequence[Any]
    sources: Sequence[Any] = ()
    lines: Mapping[int, str] = field(default_factory=dict)
    output_names: Sequence[str] = ()


def nodes_of(graph: Any) -> Iterator[Any]:
    """The records of the calls of a functional model, or of a traced one, in order."""
    if isinstance(graph, Traced):
        yield from graph.nodes
        return
    by_depth = graph._nodes_by_depth  # noqa: SLF001
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def replaced(value: Any, tensors: Mapping[int, KerasTensor]) -> Any:
    """The arguments of a call with other objects in the place of its symbolic tensors."""
    if isinstance(value, keras.KerasTensor):
        return tensors[id(value)]
    if isinstance(value, list | tuple):
        return type(value)(replaced(item, tensors) for item in value)
    if isinstance(value, dict):
        return {key: replaced(item, tensors) for key, item in value.items()}
    return value


def mask_of_call(node: KerasNode) -> Any:
    """The mask that a call of a layer is handed, or one for each of several tensors; else None.

    Keras hands on that of the one tensor that a layer is called with, and does not always note it.
    """
    layer, (args, kwargs) = node.operation, (node.arguments.args, node.arguments.kwargs)
    if not isinstance(layer, keras.Layer) or not layer._call_has_mask_arg:  # noqa: SLF001
        return None
    if kwargs.get("mask") is not None:
        return kwargs["mask"]
    leaves = [keras.tree.flatten(value) for value in (*args, *kwargs.values())]
    holding = [v for v in leaves if any(isinstance(t, keras.KerasTensor) for t in v)]
    masks = [mask_of(tensor) for tensor in holding[0]] if len(holding) == 1 else []
    if all(mask is None for mask in masks):
        return None
    return masks if len(masks) > 1 else masks[0]


def mask_of(tensor: KerasTensor) -> Any:
    """The mask that Keras has for a symbolic tensor; None for none."""
    return getattr(tensor, "_keras_mask", None)


def hand_mask(tensor: KerasTensor, mask: KerasTensor, known: Mapping[int, Any]) -> None:
    """Give a symbolic tensor the twin of a mask, which layers hand on as Keras does."""
    if mask is not None:
        tensor._keras_mask = known[id(mask)]  # noqa: SLF001


class _WeightTensor(keras.KerasTensor):  # type: ignore[misc]
    """A weight as a symbolic tensor, of which a slice may be taken as of a weight."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__((key,) if isinstance(key, slice) else key)


def _compares(node: KerasNode) -> bool:
    """Whether a call subtracts weights of each unit and one channel from one another."""
    units = [v.shape[-1] for v in (*node.input_tensors, *variables_of(node)) if v.shape]
    return type(node.operation).__name__ == "Subtract" and 1 in units and max(units) > 1


class Record:
    """The calls of layers and operations while code is traced, with the lines that made them.

    Attributes:
        lines: By the identity of a call's record.
        weights: Whether weights of the user's own are among the arguments.
        fixed: Symbolic tensors, by identity, with the constants that they stand for.
        tables: Symbolic tensors, by identity, with the weights that they stand for.
    """

    def __init__(self) -> None:
        self.lines: dict[int, str] = {}
        self.weights = False
        self.fixed: dict[int, tuple[Any, Any]] = {}
        self.tables: dict[int, tuple[Any, Any]] = {}
        self._nodes: list[Any] = []

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Note every record of a call that Keras makes in this thread."""
        original, thread = Node.__init__, threading.get_ident()

        def noted(node: KerasNode, operation: KerasOperation, *args: Any, **kwargs: Any) -> None:
            original(node, operation, *args, **kwargs)
            frame = user_frame(sys._getframe(1))  # noqa: SLF001
            if threading.get_ident() != thread:
                return
            self._nodes.append(node)
            if frame is None:
                return
            self.lines[id(node)] = line_of(frame)
            self.weights |= bool(variables_of(node))

        Node.__init__ = noted
        try:
            with weights_as_symbols(), self._constants_as_symbols():
                yield
        finally:
            Node.__init__ = original

    @contextlib.contextmanager
    def _constants_as_symbols(self) -> Iterator[None]:
        """Let calls of layers with weights on constants be recorded, which Keras would run."""
        original = keras.Layer.__call__

        def called(layer: KerasLayer, *args: Any, **kwargs: Any) -> Any:
            result = original(layer, *args, **kwargs)
            values = [v for v in keras.tree.flatten((args, kwargs)) if hasattr(v, "shape")]
            eager = all(isinstance(v, np.ndarray) or hasattr(v, "numpy") for v in values)
            inside = isinstance(result, keras.KerasTensor)
            if not values or not eager or inside or not layer.trainable_variables:
                return result
            if len(values) > 1 or not args or values[0] is not args[0]:
                frame = user_frame(sys._getframe(1))  # noqa: SLF001
                why, hint = _ON_CONSTANTS
                line = "" if frame is None else line_of(frame)
                raise UntracedError(why.format(name=layer.name), hint, line)
            array = np.asarray(values[0])
            symbol = keras.KerasTensor(array.shape, str(array.dtype))
            self.fixed[id(symbol)] = symbol, array
            return original(layer, symbol, *args[1:], **kwargs)

        keras.Layer.__call__ = called
        try:
            yield
        finally:
            keras.Layer.__call__ = original

    @contextlib.contextmanager
    def weights_as_tensors(self, layer: KerasLayer, weights: Sequence[Any]) -> Iterator[None]:
        """Let these weights of a layer be tensors, which code may do anything with."""
        own = {n: v for n, v in layer.__dict__.items() if any(v is weight for weight in weights)}
        for name, weight in own.items():
            symbol = _WeightTensor(weight.shape, weight.dtype, name=weight.name)
            self.tables[id(symbol)] = symbol, weight
            layer.__dict__[name] = symbol
        try:
            yield
        finally:
            layer.__dict__.update(own)

    def refuse_weight(self, node: KerasNode, weight: KerasVariable) -> None:
        """Refuse a call on a weight that no layer of Keras's stands for. Raises: UntracedError."""
        why, hint = _OVER_POSITIONS if sums_positions(node, weight) else OWN_WEIGHTS
        if _compares(node):
            why, hint = _DISTANCES
        line = self.lines.get(id(node), "")
        raise UntracedError(why.format(name=weight.name), hint, line, weight=as_drawn(weight))

    def refuse_same(self, node: KerasNode) -> None:
        """Refuse a call on what is the same for all images. Raises: UntracedError."""
        layers = [n.operation.name for n in self._nodes if self._reads_fixed(n)]
        why, hint = _ON_CONSTANTS if layers else OWN_WEIGHTS
        if not layers and _compares(node):
            why, hint = _DISTANCES
        names = layers or [weight.name for _, weight in self.tables.values()]
        line = self.lines.get(id(node), "")
        raise UntracedError(why.format(name=names[0]), hint, line)

    def _reads_fixed(self, node: KerasNode) -> bool:
        return any(id(t) in self.fixed for t in node.input_tensors)

    @property
    def constants(self) -> list[tuple[int, Any]]:
        """Real numbers among the arguments of calls: the number of the call, and an array."""
        found = []
        for number, node in enumerate(self._nodes):
            arguments = node.arguments
            for value in keras.tree.flatten((arguments.args, arguments.kwargs)):
                if id(value) in self.fixed:
                    found.append((number, self.fixed[id(value)][1]))
                is_real = isinstance(value, float | np.floating | np.ndarray) or tf.is_tensor(value)
                if is_real and not isinstance(value, keras.KerasTensor):
                    found.append((number, np.asarray(value)))
        return found

    def differs(self, other: Record) -> str | None:
        """The line of a constant that the same code made another the second time; None for none."""
        for (number, first), (_, second) in zip(self.constants, other.constants, strict=False):
            if first.shape != second.shape or not np.array_equal(first, second, equal_nan=True):
                return self.lines.get(id(self._nodes[number]), "")
        return None if len(self.constants) == len(other.constants) else ""

    def behind(self, outputs: Sequence[Any]) -> list[Any]:
        """The recorded calls that tensors depend on, in the order in which they were made."""
        producers = {id(t): node for node in self._nodes for t in node.outputs}
        left, needed = [id(t) for t in outputs], set[int]()
        while left:
            node = producers.get(left.pop())
            if node is not None and id(node) not in needed:
                needed.add(id(node))
                left += map(id, node.input_tensors)
        return [node for node in self._nodes if id(node) in needed]

    def name(self, tensor: KerasTensor) -> str:
        """The name of the layer or operation whose result a tensor is."""
        made = (n.operation.name for n in self._nodes if any(t is tensor for t in n.outputs))
        return next(made, str(tensor.name))
