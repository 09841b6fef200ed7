"""Walks over Sequential and functional models, nested to any depth, and reads every call.

This module alone knows how Keras keeps a functional graph: `_nodes_by_depth` holds the calls of
layers and operations by their distance from the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras2gp.conversion.context import Call, Context, RefusalError, State
from keras2gp.conversion.on_data import run_by_keras
from keras2gp.conversion.registry import entry_of, is_deterministic
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.errors import GraphError, Obstacle
from keras2gp.graph.ops import Opaque, Weighted
from keras2gp.layer_table import LAYERS, NO_RULE
from keras2gp.report import LayerRow

__all__ = ["KerasWalker", "WalkedCall", "functional_of", "runs_own_code"]


@dataclass(frozen=True)
class WalkedCall:
    """One call of the model after its reader.

    row:        its row of the report
    results:    its results
    obstacle:   why it was refused
    extra_rows: further rows of a layer with two kinds of weights
    """

    row: LayerRow
    results: tuple[Tensor, ...]
    obstacle: Obstacle | None = None
    extra_rows: tuple[LayerRow, ...] = ()


def functional_of(model: Any) -> Any | None:
    """The functional graph of a model: itself, or what a built Sequential keeps; else None.

    Also None for a subclass with a `call` of its own, which its graph does not show.
    """
    if not isinstance(model, keras.Model) or runs_own_code(model):
        return None
    if isinstance(model, keras.Sequential):
        return model._functional  # noqa: SLF001
    return model if hasattr(model, "_nodes_by_depth") else None


def runs_own_code(model: Any) -> bool:
    """Whether the model's class overrides the call that Keras makes of its graph."""
    for method in ("call", "__call__"):
        function = getattr(type(model), method)
        if not function.__module__.startswith("keras.src."):
            return True
    return False


class KerasWalker:
    """One pass over a model: `calls` in order, `outputs` of the model, and the grown state."""

    def __init__(self, functional: Any, state: State, unreadable: dict[str, Obstacle]) -> None:
        self.state = state
        self.unreadable = unreadable
        self.calls: list[WalkedCall] = []
        self.results: dict[str, Tensor] = {}
        self._training = False
        self._maybe_data: set[int] = set()
        self._unknown_shapes: set[int] = set()
        self.inputs = [
            keras.Input(batch_shape=t.shape, dtype=_dtype(t, state), name=t.name)
            for t in functional.inputs
        ]
        images = [Tensor(tuple(t.shape[1:]), data=t) for t in self.inputs]
        self.outputs = self._model(functional, images, "")

    def _model(self, functional: Any, inputs: Sequence[Tensor], prefix: str) -> list[Tensor]:
        tensors = {id(t): tensor for t, tensor in zip(functional.inputs, inputs, strict=True)}
        seen: dict[str, int] = {}
        by_depth = functional._nodes_by_depth  # noqa: SLF001
        for depth in sorted(by_depth, reverse=True):
            for node in by_depth[depth]:
                if isinstance(node.operation, keras.layers.InputLayer):
                    continue
                name = node.operation.name
                seen[name] = seen.get(name, 0) + 1
                path = prefix + (name if seen[name] == 1 else f"{name}#{seen[name]}")
                results = self._node(node, tensors, path)
                tensors.update((id(t), r) for t, r in zip(node.outputs, results, strict=True))
        return [tensors[id(t)] for t in functional.outputs]

    def _node(self, node: Any, tensors: dict[int, Tensor], path: str) -> list[Tensor]:
        arguments = node.arguments
        call = Call(
            node.operation,
            _replaced(arguments.args, tensors),
            _replaced(arguments.kwargs, tensors),
            tuple(node.outputs[0].shape[1:]),
        )
        inner = functional_of(node.operation)
        if inner is not None:
            outer = self._training
            self._training = outer or bool(call.kwargs.get("training"))
            results = self._model(inner, _ordered(inner, call), path + "/")
            self._training = outer
        else:
            results = self._call(call, path, len(node.outputs), [t.shape[1:] for t in node.outputs])
        self.results[path] = results[0]
        return results

    def _call(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        context = Context(self.state, path)
        obstacle = None
        try:
            if path in self.unreadable:
                obstacle = self.unreadable[path]
                results = self._opaque(call, shapes, path)
            elif self._may_be_data(call):
                context.became = "not examined"
                results = self._opaque(call, shapes, path)
            else:
                results = _read(call, context, training=self._training)
                if len(results) != count:
                    context.refuse(
                        f"it has {count} outputs, and only one can be read",
                        "a layer with one output",
                    )
        except RefusalError as refusal:
            if not (refusal.by_shape and self.has_unknown_shape(*call.tensors)):
                obstacle = Obstacle(path, _received(call), refusal.why, refusal.hint)
            context.became = "not examined"
            results = self._opaque(call, shapes, path)
        except GraphError as error:
            if not self.has_unknown_shape(*call.tensors):
                obstacle = Obstacle(path, _received(call), str(error))
            context.became = "not examined"
            results = self._opaque(call, shapes, path)
        became = "refused" if obstacle else context.became
        # In the place of an unreadable layer stands another, which is not the user's.
        unreadable = self.unreadable.get(path)
        kind = unreadable.received if unreadable else type(call.operation).__name__
        row = LayerRow(path, kind, became, context.variances, context.note)
        extra_rows = tuple(
            LayerRow(path + name, kind, name.strip("/"), variances)
            for name, variances in context.extra_rows.items()
            if not obstacle
        )
        self.calls.append(WalkedCall(row, tuple(results), obstacle, extra_rows))
        return results

    def _opaque(self, call: Call, shapes: list[Any], path: str) -> list[Tensor]:
        """Stand-ins of the shapes that Keras states, so that later layers are examined too."""
        first = any(t.channel_first for t in call.tensors)
        # It keeps its inputs, so that the output depends on obstacles before it too.
        sources = tuple(part.node for t in call.tensors for part in t.parts)
        results = []
        for number, shape in enumerate(shapes):
            sizes = tuple(int(n or 1) for n in shape) or (1,)
            spatial, channels = (sizes[1:], sizes[0]) if first else (sizes[:-1], sizes[-1])
            name = path if number == 0 else f"{path}:{number}"
            node = self.state.builder.add(Opaque(name, spatial), sources, path)
            if path in self.unreadable:
                self._unknown_shapes.add(node)
            if not sources and (path in self.unreadable or _is_code(call.operation)):
                self._maybe_data.add(node)
            results.append(Tensor(sizes, (Part(node, channels),), channel_first=first))
        return results

    def has_unknown_shape(self, *tensors: Tensor) -> bool:
        """Whether a tensor depends on a layer that a file only names: its shapes are guessed."""
        return bool(self._unknown_shapes and self._unknown_shapes & self._behind(tensors))

    def _may_be_data(self, call: Call) -> bool:
        """Whether Keras would run this call if an unknown layer before it only changed data."""
        if not self._maybe_data or not is_deterministic(call.operation):
            return False
        return bool(self._maybe_data & self._behind(call.tensors, weights=False))

    def _behind(self, tensors: Sequence[Tensor], *, weights: bool = True) -> set[int]:
        """The nodes that tensors depend on; weights: also through layers that draw weights."""
        nodes = self.state.builder.nodes
        left, seen = [part.node for tensor in tensors for part in tensor.parts], set[int]()
        while left:
            index = left.pop()
            if index not in seen and (weights or not isinstance(nodes[index].op, Weighted)):
                seen.add(index)
                left += nodes[index].inputs
        return seen


def _is_code(operation: Any) -> bool:
    """Whether an operation runs code that nothing here describes: a user's layer, or Lambda."""
    entry = entry_of(operation)
    return entry is None or entry.reason == LAYERS["Lambda"].reason


def _dtype(tensor: Any, state: State) -> str:
    """The kernel's dtype for real inputs; the dtype of the model for integers and text."""
    return state.dtype if "float" in tensor.dtype else str(tensor.dtype)


def _ordered(inner: Any, call: Call) -> list[Tensor]:
    """The tensors that a nested model is called with, in the order of its inputs."""
    first = call.args[0] if call.args else None
    if isinstance(first, dict):
        names = [t.name for t in inner.inputs]
        keys = names if set(names) == set(first) else sorted(first)
        return [first[key] for key in keys]
    return call.tensors


def _replaced(value: Any, tensors: dict[int, Tensor]) -> Any:
    if isinstance(value, keras.KerasTensor):
        return tensors[id(value)]
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, tensors) for item in value)
    if isinstance(value, dict):
        return {key: _replaced(item, tensors) for key, item in value.items()}
    return value


def _received(call: Call) -> str:
    shapes = ", ".join(str((None, *t.shape)) for t in call.tensors)
    return f"{type(call.operation).__name__} of {shapes}"


def _read(call: Call, context: Context, *, training: bool) -> list[Tensor]:
    if call.tensors and all(t.is_data for t in call.tensors) and is_deterministic(call.operation):
        return run_by_keras(call, context)
    read = context.state.layers.reader_of(call.operation)
    if read is None:
        entry = entry_of(call.operation)
        if entry is not None or type(call.operation).__module__.startswith("keras."):
            context.refuse(*(entry.reason if entry else NO_RULE), by_shape=False)
        context.refuse(
            "a class that is not Keras's own",
            "a reader of your own: layers={YourLayer: reader}, or keras2gp.reader(YourLayer)",
            by_shape=False,
        )
    inherits = training and getattr(call.operation, "_call_has_training_arg", False)
    if call.kwargs.get("training") or inherits:
        context.refuse(
            "it is called with training=True, which makes it random or dependent on the batch",
            "calling it without training=True",
            by_shape=False,
        )
    result = read(call, context)
    return result if isinstance(result, list) else [result]
