"""Walks over models, nested to any depth, and reads every call of a layer or operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasLayer, KerasModel, KerasNode, KerasOperation
from keras2gp.conversion.call import Call, RefusalError, State
from keras2gp.conversion.context import Context
from keras2gp.conversion.on_data import run_by_keras
from keras2gp.conversion.reading import is_data, of_each_step, read_call, with_data_of_constants
from keras2gp.conversion.recording import mask_of_call, nodes_of, replaced
from keras2gp.conversion.registry import functional_of, is_deterministic, is_own_code
from keras2gp.conversion.stand_ins import StandIns
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.trained import Cut
from keras2gp.conversion.user_code import UntracedError
from keras2gp.conversion.written_norms import (
    WrittenNorm,
    before_weights,
    centred,
    has_no_mean,
    written_norm,
)
from keras2gp.errors import GraphError, Obstacle
from keras2gp.report import LayerRow

__all__ = ["KerasWalker", "WalkedCall"]


@dataclass(frozen=True)
class WalkedCall:
    """One call of the model after its reader.

    row:        its row of the report
    results:    its results
    obstacle:   why it was refused
    extra_rows: further rows of a layer with two kinds of weights
    policy:     the name of the layer's dtype policy; "" for an operation
    operation:  Keras's layer or operation
    """

    row: LayerRow
    results: tuple[Tensor, ...]
    obstacle: Obstacle | None = None
    extra_rows: tuple[LayerRow, ...] = ()
    policy: str = ""
    operation: KerasOperation = None


class KerasWalker:
    """One pass over a model: `calls` in order, `outputs` of the model, and the grown state."""

    def __init__(
        self, functional: KerasModel, state: State, unreadable: dict[str, Obstacle]
    ) -> None:
        self.state = state
        self.stand_ins = StandIns(state, unreadable)
        self.calls: list[WalkedCall] = []
        self.results: dict[str, Tensor] = {}
        self.cut = Cut(state.settings.trained_until)
        self._training = False
        self.masks = 0
        self._producers: dict[int, Any] = {}
        self._hidden: set[int] = set()
        self.inputs = [
            keras.Input(batch_shape=t.shape, dtype=_dtype(t, state), name=t.name)
            for t in functional.inputs
        ]
        state.inside, state.by_calls, state.inputs = self.inside, self.by_calls, self.inputs
        images = [Tensor(tuple(t.shape[1:]), data=t) for t in self.inputs]
        self.outputs = self._model(functional, images, "")

    def _model(self, functional: KerasModel, inputs: Sequence[Tensor], prefix: str) -> list[Tensor]:
        tensors = {id(t): tensor for t, tensor in zip(functional.inputs, inputs, strict=True)}
        lines = getattr(functional, "lines", {})
        seen: dict[str, int] = {}
        calls = []
        for node in nodes_of(functional):
            if isinstance(node.operation, keras.layers.InputLayer):
                continue
            name = node.operation.name
            seen[name] = seen.get(name, 0) + 1
            calls.append((node, prefix + (name if seen[name] == 1 else f"{name}#{seen[name]}")))
        outer, before = self.cut.active, self.cut.before(calls)
        self._producers.update((id(t), node) for node, _ in calls for t in node.outputs)
        self._hidden |= before_weights([node for node, _ in calls], functional.outputs)
        for node, path in calls:
            self.cut.active = outer or id(node) in before
            results = self._node(node, tensors, path, lines.get(id(node), ""))
            self.cut.passed(path, results)
            tensors.update((id(t), r) for t, r in zip(node.outputs, results, strict=True))
        self.cut.active = outer
        return [tensors[id(t)] for t in functional.outputs]

    def _node(
        self, node: KerasNode, tensors: dict[int, Tensor], path: str, line: str = ""
    ) -> list[Tensor]:
        norm = written_norm(node, self._producers)
        if norm is not None and self._is_random(tensors[id(norm.of)]):
            return self._normalized(norm, tensors[id(norm.of)], path, line)
        of = centred(node, self._producers) if id(node) in self._hidden else None
        if of is not None and self._has_no_mean(tensors[id(of)]):
            less = WrittenNorm(of, (self._less_mean(),))
            return self._normalized(less, tensors[id(of)], path, line)
        kwargs, mask = node.arguments.kwargs, mask_of_call(node)
        if mask is not None:
            for each in keras.tree.flatten(mask):
                if isinstance(each, keras.KerasTensor):
                    self._known(each, tensors)
            kwargs = {**kwargs, "mask": mask}
        operation, kwargs = of_each_step(node.operation, kwargs)
        call = Call(
            operation,
            replaced(node.arguments.args, tensors),
            replaced(kwargs, tensors),
            tuple(node.outputs[0].shape[1:]),
            line,
        )
        try:
            inner, inputs = self._inside(node, call, tensors)
        except UntracedError as error:
            inner, call = None, replace(call, untraced=error)
        if inner is not None:
            outer = self._training
            self._training |= bool(call.kwargs.get("training"))
            results = self._model(inner, inputs, path + "/")
            self._training = outer
        else:
            self.state.at_output = id(node) not in self._hidden
            results = self._call(call, path, len(node.outputs), [t.shape[1:] for t in node.outputs])
        self.results[path] = results[0]
        return results

    def _is_random(self, tensor: Tensor) -> bool:
        """Whether random weights come before a tensor."""
        return not tensor.is_data

    def _has_no_mean(self, tensor: Tensor) -> bool:
        """Whether the mean over the channels of a random tensor vanishes as they become more."""
        return has_no_mean(tensor, self.state)

    def _less_mean(self) -> Any:
        """The layer that is read in the place of x - mean(x), where the mean vanishes."""
        return keras.layers.Identity()

    def _normalized(self, norm: WrittenNorm, tensor: Tensor, path: str, line: str) -> list[Tensor]:
        """The result of the layers that compute what a call does, and those before it."""
        shape = tensor.shape
        for layer in norm.layers:
            call = Call(layer, (tensor,), {}, shape, line)
            (tensor,) = self._call(call, path, 1, [shape])
        self.results[path] = tensor
        return [tensor]

    def _inside(
        self, node: KerasNode, call: Call, tensors: dict[int, Tensor]
    ) -> tuple[Any | None, list[Tensor]]:
        """The graph inside of a call, and its inputs; None for a call that has a reader of its own.

        Raises: UntracedError for code that leaves no graph.
        """
        layer, tracer = node.operation, self.state.tracer
        if not isinstance(layer, keras.Layer) or self._has_reader(layer):
            return None, []
        graph = functional_of(layer)
        if graph is not None:
            masks = keras.tree.flatten(mask_of_call(node))
            handed = [id(mask) for mask in masks if mask is not None]
            tensors_in = [t for t in node.arguments.keras_tensors if id(t) not in handed]
            symbolic = _ordered(graph, node.arguments.args, tensors_in)
            inputs = _ordered(graph, call.args, [tensors[id(t)] for t in tensors_in])
            if handed and len(masks) != len(symbolic):
                masks = [getattr(t, "_keras_mask", None) for t in symbolic]
            if handed or (_are_sized(symbolic) and not _are_sized(graph.inputs)):
                graph = tracer.called_with(graph, node, symbolic, masks if handed else ())
                inputs += [self._known(t, tensors) for t in graph.sources[len(symbolic) :]]
            return graph, inputs
        if not is_own_code(layer) or (is_data(call) and is_deterministic(layer)):
            return None, []
        traced = tracer.inside(node)
        return traced, [self._known(t, tensors) for t in traced.sources]

    def _known(self, tensor: KerasTensor, tensors: dict[int, Tensor]) -> Tensor:
        """The reader's tensor for a symbolic one.

        Reads the operations of a mask that no other call depends on.
        """
        if id(tensor) not in tensors:
            operation, index, _ = tensor._keras_history  # noqa: SLF001
            node = operation._inbound_nodes[index]  # noqa: SLF001
            for source in node.input_tensors:
                self._known(source, tensors)
            self.masks += 1
            results = self._node(node, tensors, f"mask_{self.masks}_{operation.name}")
            tensors.update((id(t), r) for t, r in zip(node.outputs, results, strict=True))
        return tensors[id(tensor)]

    def inside(
        self,
        layer: KerasLayer,
        tensor: Tensor,
        path: str,
        shape: tuple[int | None, ...],
        apart: Any,
    ) -> list[Tensor]:
        """The results of a layer that another one wraps.

        path:  of the wrapper
        shape: Keras's, of its result
        apart: the graph that it is read into, and the way from there to this one

        Raises: UntracedError for code that leaves no graph.
        """
        outer, known = (self.state.builder, self.stand_ins), set(self.results)
        own = StandIns(self.state, self.stand_ins.unreadable)
        self.state.builder, self.stand_ins = apart.builder, own
        try:
            results = self._wrapped(layer, tensor, path, shape)
        finally:
            self.state.builder, self.stand_ins = outer
        apart.finish()
        self.stand_ins.take(own, apart.node)
        for name in self.results.keys() - known:
            self.results[name] = apart.tensor(self.results[name])
        return [apart.tensor(result) for result in results]

    def by_calls(self, function: Any, tensor: Tensor, path: str) -> Tensor | None:
        """The result of a function of the user's, by the calls of operations that it makes.

        None for a function of a file, one that leaves no graph, and one whose calls are refused.

        path: of the layer that applies it
        """
        if not self.state.tracer.live:
            return None
        walked, known = len(self.calls), set(self.results)
        layer = keras.layers.Lambda(function, output_shape=tensor.shape)
        try:
            results = self._wrapped(layer, tensor, path, tensor.shape)
        except UntracedError:
            results = []
        obstacles = any(call.obstacle is not None for call in self.calls[walked:])
        if obstacles or [result.shape for result in results] != [tensor.shape]:
            del self.calls[walked:]
            for name in self.results.keys() - known:
                del self.results[name]
            return None
        return results[0]

    def _has_reader(self, layer: KerasLayer) -> bool:
        return self.state.settings.readers.reader_of(layer) is not None

    def _wrapped(
        self, layer: KerasLayer, tensor: Tensor, path: str, shape: tuple[int | None, ...]
    ) -> list[Tensor]:
        call = Call(layer, (tensor,), {}, shape)
        graph = None if self._has_reader(layer) else functional_of(layer)
        if graph is None and (
            not is_own_code(layer) or (is_data(call) and is_deterministic(layer))
        ):
            return self._call(call, f"{path}/{layer.name}", 1, [shape])
        symbolic = keras.KerasTensor((None, *tensor.shape), layer.compute_dtype)
        tracer = self.state.tracer
        if graph is None:
            graph = tracer.wrapped(layer, symbolic)
        elif not _are_sized(graph.inputs):
            graph = tracer.replayed(graph, [symbolic])
        return self._model(graph, [tensor], f"{path}/")

    def _call(self, call: Call, path: str, count: int, shapes: list[Any]) -> list[Tensor]:
        context = Context(self.state, path)
        obstacle = None
        try:
            if path in self.stand_ins.unreadable:
                obstacle = self.stand_ins.unreadable[path]
                results = self.stand_ins.results_of(call, shapes, path)
            elif self.stand_ins.may_be_data(call):
                context.became = "not examined"
                results = self.stand_ins.results_of(call, shapes, path)
            else:
                call = with_data_of_constants(call, context)
                self.cut.check(call, context)
                if self.cut.active and not is_data(call):  # a call before it was refused
                    context.became = "not examined"
                    results = self.stand_ins.results_of(call, shapes, path)
                elif self.cut.active:
                    results = run_by_keras(call, context, trained=True)
                    self.cut.note(call, path, results)
                else:
                    results = read_call(call, context, training=self._training)
                if len(results) != count:
                    context.refuse(
                        f"it has {count} outputs, and only one can be read",
                        "a layer with one output",
                    )
        except RefusalError as refusal:
            guessed = refusal.by_shape and self.stand_ins.shape_unknown(*call.tensors)
            guessed |= refusal.by_layout and self.stand_ins.layout_unknown(*call.tensors)
            if not guessed:
                stated = Obstacle(path, call.received, refusal.why, refusal.hint)
                obstacle = refusal.obstacle or stated
            context.became = "not examined"
            results = self.stand_ins.results_of(call, shapes, path)
        except GraphError as error:
            if not self.stand_ins.shape_unknown(*call.tensors):
                obstacle = Obstacle(path, call.received, str(error))
            context.became = "not examined"
            results = self.stand_ins.results_of(call, shapes, path)
        became = "refused" if obstacle else context.became
        # In the place of an unreadable layer stands another, which is not the user's.
        unreadable = self.stand_ins.unreadable.get(path)
        kind = unreadable.received if unreadable else type(call.operation).__name__
        row = LayerRow(
            path, kind, became, context.variances, context.note, context.biases_have_mean
        )
        extra_rows = tuple(
            LayerRow(path + name, kind, name.strip("/"), variances)
            for name, variances in context.extra_rows.items()
            if not obstacle
        )
        policy = str(getattr(getattr(call.operation, "dtype_policy", None), "name", ""))
        called = call.operation
        self.calls.append(WalkedCall(row, tuple(results), obstacle, extra_rows, policy, called))
        return results


def _dtype(tensor: KerasTensor, state: State) -> str:
    """The kernel's dtype for real inputs; the dtype of the model for integers and text."""
    return state.settings.dtype if "float" in tensor.dtype else str(tensor.dtype)


def _ordered(inner: Any, args: Sequence[Any], tensors: Sequence[Any]) -> list[Any]:
    """The tensors that a nested model is called with, in the order of its inputs."""
    first = args[0] if args else None
    if isinstance(first, dict):
        names = [t.name for t in inner.inputs]
        keys = names if set(names) == set(first) else sorted(first)
        return [first[key] for key in keys]
    return list(tensors)


def _are_sized(tensors: Sequence[Any]) -> bool:
    """Whether all sizes of symbolic tensors are known but those of the batch."""
    return not any(None in t.shape[1:] for t in tensors)
