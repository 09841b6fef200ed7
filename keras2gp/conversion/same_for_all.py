"""Tensors in a user's code that are the same for all images: embedded positions, class tokens.

A layer with weights that is called on constants (`Embedding(length, units)(ops.arange(length))`),
and a weight that is added or joined, have no axis of images. Here they get one: what they enter is
then a call of a layer on data, which are constants. A weight [*positions, units] is an Embedding of
the numbers of its positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasNode, KerasOperation
from keras2gp.conversion.registry import entry_of
from keras2gp.conversion.weight_calls import StandIn

__all__ = ["SameForAll"]

_EACH_NUMBER = (
    "activation.read_activation_layer",
    "activation.read_operation",
    "merging.read_rescaling",
    "normalization.read_cast",
    "normalization.read_identity",
)
"""Readers of operations that act on each number alone."""
_OF_PAIRS = ("Add", "Divide", "Maximum", "Minimum", "Multiply", "Subtract", "TrueDivide")
"""Operations on numbers that meet, of which those of one tensor may be repeated."""
_ADD_AN_AXIS = ("BroadcastTo", "ExpandDims", "GetItem", "Reshape")
_REPEAT = ("BroadcastTo", "Repeat", "Tile")


@dataclass(frozen=True)
class _Form:
    """A tensor that is the same for all images, with their axis.

    tensor:  the one with it, [N, *shape]
    has_one: whether the user's has an axis of one image, [1, *shape], and not the shape alone
    """

    tensor: Any
    has_one: bool


class SameForAll:
    """Gives such tensors an axis of images, in the records of a code's calls.

    Args:
        constants: Tensors that stand for constants on which layers with weights are called.
        tables: Tensors that stand for weights.
        size: The number of images; None for any.
        embedding: The Embedding that a weight is.
        refuse: Raises the reason for a record of a call in which they cannot have that axis.
    """

    def __init__(
        self,
        constants: Mapping[int, tuple[Any, Any]],
        tables: Mapping[int, tuple[Any, Any]],
        size: int | None,
        embedding: Callable[[Any], Any],
        refuse: Callable[[Any], Any],
    ) -> None:
        self._constants, self._tables, self._size = constants, tables, size
        self._embedding, self._refuse = embedding, refuse
        self._forms: dict[int, _Form] = {}

    def with_images(
        self, nodes: Sequence[Any], outputs: Sequence[Any]
    ) -> tuple[list[tuple[Any, Any]], list[Any]]:
        """The records, each with the one that it stands for, and the outputs of the code.

        Raises: what `refuse` does.
        """
        made: list[tuple[Any, Any]] = []
        for node in nodes:
            tables = [t for t in node.input_tensors if id(t) in self._tables]
            new = [t for t in tables if id(t) not in self._forms]
            made += [(self._table(node, tensor), node) for tensor in new]
            record = self._record(node)
            made += [] if record is None else [(record, node)]
        if any(not self._forms[id(t)].has_one for t in outputs if id(t) in self._forms):
            self._refuse(nodes[-1])
        return made, [self._with(t) for t in outputs]

    def _with(self, tensor: KerasTensor) -> Any:
        form = self._forms.get(id(tensor))
        return tensor if form is None else form.tensor

    def _table(self, node: KerasNode, tensor: KerasTensor) -> StandIn:
        """A call of the Embedding that a weight is, on the numbers of its positions."""
        _, weight = self._tables[id(tensor)]
        has_one = len(weight.shape) > 1 and weight.shape[0] == 1
        *positions, units = weight.shape[1:] if has_one else weight.shape
        numbers = np.arange(math.prod(positions)).reshape(1, *positions)
        result = keras.KerasTensor((self._size, *positions, units), tensor.dtype, name="positions")
        self._forms[id(tensor)] = _Form(result, has_one)
        return StandIn(self._embedding(weight), type(node.arguments)(numbers), [result])

    def _record(self, node: KerasNode) -> Any | None:
        """The record with an axis of images; None for one that only adds that axis."""
        inputs = node.input_tensors
        if any(id(t) in self._constants for t in inputs):
            return self._on_constants(node)
        forms = [self._forms[id(t)] for t in inputs if id(t) in self._forms]
        if not forms:
            return node
        if len(forms) < len(inputs):
            return self._joined(node)
        if len(inputs) == 1 and self._adds_axis(node, forms[0]):
            return None
        return self._of_them_alone(node, forms)

    def _on_constants(self, node: KerasNode) -> StandIn:
        """A layer's call on constants: Keras takes their first axis for that of images."""
        if len(node.input_tensors) > 1 or len(node.outputs) > 1:
            self._refuse(node)
        (tensor,), (result,), layer = node.input_tensors, node.outputs, node.operation
        array = np.asarray(self._constants[id(tensor)][1])
        has_one = array.ndim > 1 and array.shape[0] == 1
        if not has_one:
            alike = isinstance(layer, keras.layers.Embedding) and array.ndim
            if not alike and not (isinstance(layer, keras.layers.Dense) and array.ndim > 1):
                self._refuse(node)
            array = array[None]
        new = self._with_images(result, has_one=has_one)
        return StandIn(layer, type(node.arguments)(array), [new])

    def _with_images(self, result: KerasTensor, *, has_one: bool) -> KerasTensor:
        """Register and return the tensor with an axis of images that stands for a result."""
        shape = result.shape[1:] if has_one else result.shape
        new = keras.KerasTensor((self._size, *shape), result.dtype, name=result.name)
        self._forms[id(result)] = _Form(new, has_one)
        return new

    def _adds_axis(self, node: KerasNode, form: _Form) -> bool:
        """Whether a call adds, takes or repeats the axis of images, and does nothing else."""
        (tensor,), name = node.input_tensors, type(node.operation).__name__
        if isinstance(node.operation, keras.Layer) or len(node.outputs) > 1:
            return False
        (result,) = node.outputs
        shape, of_images = tuple(tensor.shape), (1, None, self._size)
        before = shape[1:] if form.has_one else shape
        repeats = name in _REPEAT and (name != "Repeat" or node.operation.axis == 0)
        if result.shape[1:] == before and result.shape[0] in of_images:
            if repeats or (not form.has_one and name in _ADD_AN_AXIS):
                self._forms[id(result)] = _Form(form.tensor, has_one=True)
                return True
        elif form.has_one and result.shape == before and name in ("GetItem", "Squeeze"):
            self._forms[id(result)] = _Form(form.tensor, has_one=False)
            return True
        return False

    def _of_them_alone(self, node: KerasNode, forms: Sequence[_Form]) -> StandIn:
        """A call on such tensors alone, as one on the tensors with an axis of images."""
        name, entry = type(node.operation).__name__, entry_of(node.operation)
        has_one, operation = forms[0].has_one, None
        ranks = {len(t.shape) for t in node.input_tensors}
        args = node.arguments.args
        if len(ranks) > 1 or any(form.has_one != has_one for form in forms):
            self._refuse(node)
        if (entry is not None and entry.reader in _EACH_NUMBER) or name in _OF_PAIRS:
            operation = node.operation
        elif name == "GetItem" and len(args) == 2:
            key = args[1] if isinstance(args[1], tuple) else (args[1],)
            if has_one and key[0] != slice(None):
                self._refuse(node)
            operation, args = node.operation, (args[0], key if has_one else (slice(None), *key))
        elif has_one and isinstance(node.operation, keras.Layer):
            operation = node.operation
        elif name == "Reshape":
            shape = tuple(node.outputs[0].shape)
            if has_one and shape[0] == 1:
                shape = shape[1:]
            elif has_one:
                self._refuse(node)
            operation = type(node.operation)((-1, *shape))
        if operation is None or len(node.outputs) > 1:
            self._refuse(node)
        (result,) = node.outputs
        new = self._with_images(result, has_one=has_one)
        return self._called(node, args, operation, [new])

    def _joined(self, node: KerasNode) -> StandIn:
        """A call on such tensors beside others, which have an axis of images."""
        rank = len(node.outputs[0].shape)
        for tensor in node.input_tensors:
            form = self._forms.get(id(tensor))
            if form is not None and len(form.tensor.shape) != rank:
                self._refuse(node)
            named = type(node.operation).__name__ in _OF_PAIRS
            of_pairs = named and not isinstance(node.operation, keras.Layer)
            if form is not None and not form.has_one and not of_pairs:
                self._refuse(node)
            units = tensor.shape[-1:]
            if form is not None and any(units != (1,) == t.shape[-1:] for t in node.input_tensors):
                self._refuse(node)  # a weight for each unit beside one channel
        return self._called(node, node.arguments.args, node.operation, node.outputs)

    def _called(
        self, node: KerasNode, args: Any, operation: KerasOperation, outputs: Sequence[Any]
    ) -> StandIn:
        def entered(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return type(value)(map(entered, value))
            if isinstance(value, dict):
                return {key: entered(item) for key, item in value.items()}
            return self._with(value)

        arguments = type(node.arguments)(*entered(tuple(args)), **entered(node.arguments.kwargs))
        return StandIn(operation, arguments, outputs)
