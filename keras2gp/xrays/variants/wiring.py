"""The wiring of a Keras model: its calls, which call reads which, and copies with calls changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import keras
from keras import layers

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasModel, KerasNode, KerasOperation
from keras2gp._util.text import quoted_text
from keras2gp.conversion.recording import nodes_of, replaced
from keras2gp.conversion.registry import functional_of
from keras2gp.errors import InputError

__all__ = [
    "CONVOLUTIONS",
    "Change",
    "NamedChanges",
    "Visit",
    "Wired",
    "Wiring",
    "is_weighted",
    "rebuilt",
]

CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
)
"""Layers whose window, stride and padding an ablation may change."""
_WEIGHTED = (
    *CONVOLUTIONS,
    *(layers.Dense, layers.EinsumDense),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
)
_AGAIN = "_again"


def is_weighted(operation: KerasOperation) -> bool:
    """Whether it is a dense layer or a convolution, or a model that holds one."""
    if isinstance(operation, keras.Model):
        return any(map(is_weighted, operation.layers))
    return isinstance(operation, _WEIGHTED)


@dataclass(frozen=True, eq=False)
class Wired:
    """One call of a functional graph.

    Attributes:
        path: path of the operation, nested models separated by "/".
        operation: a Keras layer, model or operation.
        node: Keras's record of the call.
        sources: numbers of the calls whose results it reads, in order; -1 for an input.
    """

    path: str
    operation: KerasOperation
    node: KerasNode
    sources: tuple[int, ...]

    @property
    def shape(self) -> tuple[Any, ...]:
        """Shape of its first input without the batch axis."""
        return tuple(self.node.input_tensors[0].shape[1:])


class Wiring:
    """The calls of one functional graph, in order; nested models have wirings of their own.

    Args:
        functional: a functional graph of Keras.
        prefix: start of all paths; "" for the model itself.
        followed: whether weights come after this graph in a model around it.
    """

    def __init__(self, functional: KerasModel, prefix: str = "", *, followed: bool = False) -> None:
        self.functional, self.prefix, self.followed = functional, prefix, followed
        producers: dict[int, int] = {}
        calls: list[Wired] = []
        for node in nodes_of(functional):
            if isinstance(node.operation, keras.layers.InputLayer):
                continue
            sources = tuple(producers.get(id(t), -1) for t in node.input_tensors)
            producers |= {id(t): len(calls) for t in node.outputs}
            calls.append(Wired(prefix + node.operation.name, node.operation, node, sources))
        self.calls = tuple(calls)

    @cached_property
    def ancestors(self) -> list[frozenset[int]]:
        """For each call, the call itself and all earlier calls that it depends on."""
        result: list[frozenset[int]] = []
        for number, call in enumerate(self.calls):
            before = [result[i] for i in call.sources if i >= 0]
            result.append(frozenset({number}).union(*before))
        return result

    @cached_property
    def readers(self) -> list[list[int]]:
        """For each call, the calls that read its results, once for each reading."""
        result: list[list[int]] = [[] for _ in self.calls]
        for number, call in enumerate(self.calls):
            for source in call.sources:
                if source >= 0:
                    result[source].append(number)
        return result

    def is_hidden(self, number: int) -> bool:
        """Whether weights come after a call."""
        later = (n for n in range(number + 1, len(self.calls)) if number in self.ancestors[n])
        return self.followed or any(is_weighted(self.calls[n].operation) for n in later)

    def nested(self) -> Iterator[Wiring]:
        """The wiring itself, and those of the models that it calls, at any depth, each once."""
        yield self
        seen: set[int] = set()
        for number, call in enumerate(self.calls):
            inner = functional_of(call.operation)
            if inner is not None and id(call.operation) not in seen:
                seen.add(id(call.operation))
                followed = self.is_hidden(number)
                yield from Wiring(inner, f"{call.path}/", followed=followed).nested()


@dataclass(frozen=True, eq=False)
class Visit:
    """A call while a copy of its model is built.

    Attributes:
        call: the call in the original.
        args, kwargs: its arguments, with the tensors of the copy.
        tensors: tensors of the copy, by the identity of those in the original.
        wiring: the graph of the call.
        builder: makes the copies of layers.
    """

    call: Wired
    args: Any
    kwargs: Any
    tensors: Mapping[int, Any]
    wiring: Wiring
    builder: _Builder

    @property
    def inputs(self) -> list[Any]:
        """The tensors of the copy that the call reads."""
        return [self.tensors[id(t)] for t in self.call.node.input_tensors]

    def result(self, **settings: Any) -> Any:
        """The result of the call of a copy with other settings."""
        operation = self.builder.copy_of(self.call.operation, settings)
        return operation(*self.args, **self.kwargs)

    def result_after(self, operations: Sequence[Any], tensor: int) -> Any:
        """The result of the call after copies of operations on one tensor that it reads.

        Args:
            operations: layers, in order.
            tensor: identity of the tensor in the original; other tensors are read as they are.
        """
        changed = self.builder.apply(operations, self.tensors[tensor])
        tensors = {**self.tensors, tensor: changed}
        arguments = self.call.node.arguments
        args, kwargs = (replaced(v, tensors) for v in (arguments.args, arguments.kwargs))
        return self.builder.unchanged(replace(self, args=args, kwargs=kwargs, tensors=tensors))

    def repeat(self, numbers: Sequence[int], start: int, result: Any) -> Any:
        """Apply further copies of calls, with weights of their own, to `result`.

        Args:
            numbers: numbers of the calls; this call is the last one.
            start: number of the call in whose place `result` is read; -1 for the input.
            result: the result of this call.

        Returns:
            The result of the last copy.
        """
        tensors = dict(self.tensors)
        origin = self.wiring.calls[numbers[0]]
        before = self.wiring.calls[start].node.outputs if start >= 0 else origin.node.input_tensors
        tensors[id(before[0])] = result
        for number in numbers:
            call = self.wiring.calls[number]
            arguments = call.node.arguments
            operation = self.builder.copy_of(call.operation, _even(call.operation), _AGAIN)
            args, kwargs = (replaced(v, tensors) for v in (arguments.args, arguments.kwargs))
            result = operation(*args, **kwargs)
            tensors[id(call.node.outputs[0])] = result
        return result


Change = Callable[[Visit], Any]
"""Gives the results of a call in a copy of the model."""

NamedChanges = tuple[str, str, Mapping[str, Change]]
"""An ablation: its name, a clause that describes it, and its changes by path."""


def rebuilt(functional: KerasModel, changes: Mapping[str, Change], name: str = "") -> Any:
    """A copy of a functional model with new weights, some of whose calls are changed.

    Args:
        functional: the model's graph, which stays as it is.
        changes: the changes of calls, by path.
        name: name of the copy; "" for that of the model.

    Returns:
        A Keras model.

    Raises:
        InputError: Keras cannot build it; the message is Keras's reason.
    """
    inputs = [_input_like(t, t) for t in functional.inputs]
    try:
        return _Builder(changes).model(Wiring(functional), inputs, name or functional.name)
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise InputError(quoted_text(error)) from error


class _Builder:
    """Builds one copy; a layer that is called twice has one copy."""

    def __init__(self, changes: Mapping[str, Change]) -> None:
        self._changes = changes
        self._copies: dict[tuple[int, str], Any] = {}
        self._applied: dict[tuple[int, int], Any] = {}

    def model(self, wiring: Wiring, inputs: list[Any], name: str) -> Any:
        """The copy of one graph."""
        functional = wiring.functional
        tensors = {id(t): new for t, new in zip(functional.inputs, inputs, strict=True)}
        for call in wiring.calls:
            arguments = call.node.arguments
            args, kwargs = (replaced(v, tensors) for v in (arguments.args, arguments.kwargs))
            visit = Visit(call, args, kwargs, tensors, wiring, self)
            change = self._changes.get(call.path)
            results = self.unchanged(visit) if change is None else change(visit)
            results = results if isinstance(results, list | tuple) else [results]
            tensors |= {id(t): r for t, r in zip(call.node.outputs, results, strict=True)}
        outputs = [tensors[id(t)] for t in functional.outputs]
        single = inputs[0] if len(inputs) == 1 else inputs
        structure = getattr(functional, "_inputs_struct", single)  # one, a list or a dict
        packed = keras.tree.pack_sequence_as(structure, inputs)
        return keras.Model(packed, outputs[0] if len(outputs) == 1 else outputs, name=name)

    def unchanged(self, visit: Visit) -> Any:
        """The result of a call as it is, whose nested model is a copy too."""
        inner = functional_of(visit.call.operation)
        if inner is None:
            return visit.result()
        key = (id(visit.call.operation), "")
        if key not in self._copies:
            wiring = Wiring(inner, f"{visit.call.path}/")
            inputs = [_input_like(t, n) for t, n in zip(inner.inputs, visit.inputs, strict=True)]
            self._copies[key] = self.model(wiring, inputs, visit.call.operation.name)
        return self._copies[key](*visit.args, **visit.kwargs)

    def copy_of(
        self, operation: KerasOperation, settings: Mapping[str, Any], suffix: str = ""
    ) -> Any:
        """The copy of a layer or operation."""
        key = (id(operation), suffix)
        if key not in self._copies:
            self._copies[key] = _copy(operation, settings, operation.name + suffix)
        return self._copies[key]

    def apply(self, operations: Sequence[Any], tensor: KerasTensor) -> Any:
        """Apply copies of layers to a tensor, one after the other; once for each tensor."""
        for operation in operations:
            key = (id(operation), id(tensor))
            if key not in self._applied:
                self._applied[key] = self.copy_of(operation, {})(tensor)
            tensor = self._applied[key]
        return tensor


def _copy(operation: KerasOperation, settings: Mapping[str, Any], name: str) -> Any:
    if not isinstance(operation, keras.Layer):
        twin = copy.copy(operation)
        twin._inbound_nodes, twin._outbound_nodes = [], []  # noqa: SLF001
        twin.name = name
        return twin
    config = {**operation.get_config(), "name": name}
    if callable(getattr(operation, "activation", None)) and "activation" in config:
        config["activation"] = operation.activation  # a function of the user's has no name in Keras
    return type(operation).from_config({**config, **settings})


def _input_like(tensor: KerasTensor, shaped: Any) -> Any:
    """An input of the name and type of one tensor and the shape of another."""
    return keras.Input(batch_shape=shaped.shape, dtype=tensor.dtype, name=tensor.name)


def _even(operation: KerasOperation) -> dict[str, Any]:
    """Settings of a layer that is repeated: without a stride, so that the size stays."""
    strides = getattr(operation, "strides", None)
    if strides is None or not hasattr(operation, "kernel_size"):
        return {}
    return {"strides": 1 if isinstance(strides, int) else (1,) * len(strides)}
