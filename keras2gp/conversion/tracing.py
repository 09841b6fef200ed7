"""A user's own code, traced: calling it on symbolic tensors records the calls of Keras inside.

Only live models come here, in the user's own process. A file's code is never run.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.keras_objects import KerasLayer, KerasModel, KerasNode
from keras2gp._util.text import quoted_text
from keras2gp.conversion.batches import SIZES, of_any_batch, reads_batch, with_open_batch
from keras2gp.conversion.own_weights import OwnWeights
from keras2gp.conversion.recording import Record, Traced, hand_mask, mask_of, nodes_of, replaced
from keras2gp.conversion.same_for_all import SameForAll
from keras2gp.conversion.tf_calls import functions_of_tensorflow
from keras2gp.conversion.unchanged import counted_anew
from keras2gp.conversion.user_code import (
    NEEDS_BATCH,
    RANDOM,
    SEED,
    NoValues,
    UntracedError,
    reason_of,
)
from keras2gp.modelfile.building import without_values

__all__ = ["Tracer"]

_FROM_FILE = (
    "it is code, and code is never run for a model from a file",
    (
        "load the model in a program of your own, and hand over the model itself; or a reader: "
        "layers={YourLayer: reader}"
    ),
)


class Tracer:
    """Traces calls of layers, each of them once.

    Args:
        prepare: Is called before any code runs.
        live: Whether the model is the user's own object; code for a file's layers is not run.

    Attributes:
        live: As stated.
        made_weights: Whether layers were built on the way, which had no weights before.
    """

    def __init__(self, prepare: Callable[[], None] = lambda: None, *, live: bool = True) -> None:
        self._prepare, self.live = prepare, live
        self._known: dict[int, tuple[Any, Traced]] = {}
        self.made_weights = False
        self._own = OwnWeights()

    def inside(self, node: KerasNode) -> Traced:
        """The calls inside of one call of a layer. Raises: UntracedError."""
        if not self.live:
            raise UntracedError(*_FROM_FILE)
        return self._once(node, self._called)

    def wrapped(self, layer: KerasLayer, tensor: KerasTensor) -> Traced:
        """The calls inside of a layer that another one calls. Raises: UntracedError."""
        if not self.live:
            raise UntracedError(*_FROM_FILE)
        return self.called(layer, (tensor,), {})

    def called_with(
        self,
        graph: Any,
        node: KerasNode,
        tensors: Sequence[KerasTensor],
        masks: Sequence[KerasTensor | None] = (),
    ) -> Traced:
        """A functional model inside of another, with the sizes and masks of one of its calls."""
        return self._once(node, lambda _: self.replayed(graph, tensors, masks))

    def replayed(
        self, graph: Any, tensors: Sequence[KerasTensor], masks: Sequence[KerasTensor | None] = ()
    ) -> Traced:
        """The calls of a functional model, repeated on tensors of other sizes.

        masks: those of the tensors, or None in the place of each; or none for all

        Raises: UntracedError, with the layer, for sizes that it does not take.
        """
        stated = list({id(mask): mask for mask in masks if mask is not None}.values())
        sources = [*tensors, *stated]
        inputs = [_twin(t, t.name) for t in sources]
        known = {id(t): new for t, new in zip(graph.inputs, inputs, strict=False)}
        made = {id(t): new for t, new in zip(sources, inputs, strict=True)}
        for new, mask in zip(inputs, masks, strict=False):
            hand_mask(new, mask, made)

        def run() -> list[Any]:
            for node in nodes_of(graph):
                if isinstance(node.operation, keras.layers.InputLayer):
                    continue
                args, kwargs = (
                    replaced(a, known) for a in (node.arguments.args, node.arguments.kwargs)
                )
                try:
                    results = node.operation(*args, **kwargs)
                except Exception as error:
                    shapes = ", ".join(str(t.shape) for t in node.arguments.keras_tensors)
                    sizes = ", ".join(
                        str(t.shape)
                        for t in keras.tree.flatten((args, kwargs))
                        if isinstance(t, keras.KerasTensor)
                    )
                    raise UntracedError(
                        f"{node.operation.name} ({type(node.operation).__name__}) is made for "
                        f"{shapes}, and does not take {sizes}: {quoted_text(error)}",
                        "another input_shape=",
                    ) from error
                known.update(zip(map(id, node.outputs), keras.tree.flatten(results), strict=True))
            return [known[id(t)] for t in graph.outputs]

        names = list(getattr(graph, "output_names", ()))
        return self._recorded(run, inputs, sources, names)

    def _once(self, node: KerasNode, make: Callable[[Any], Traced]) -> Traced:
        if id(node) not in self._known:
            self._known[id(node)] = node, make(node)
        return self._known[id(node)][1]

    def _called(self, node: KerasNode) -> Traced:
        arguments = node.arguments
        return self.called(node.operation, arguments.args, arguments.kwargs)

    def called(self, layer: KerasLayer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Traced:
        """The calls inside of `layer.call(*args, **kwargs)`. Raises: UntracedError."""
        try:
            traced = self._at_size(layer, args, kwargs, None)
            if not reads_batch(traced.nodes):
                return traced
            raise UntracedError(*NEEDS_BATCH, reads_batch=True)
        except UntracedError as error:
            if not error.reads_batch:
                raise
            try:
                first, second = (self._at_size(layer, args, kwargs, size) for size in SIZES)
            except UntracedError:
                raise error from None
            nodes = of_any_batch(first.nodes, second.nodes)
            if nodes is None:
                raise
            by_old = zip(nodes, second.nodes, strict=True)
            lines = {id(new): second.lines.get(id(old), "") for new, old in by_old}
            return replace(second, nodes=nodes, lines=lines)

    def _at_size(
        self, layer: KerasLayer, args: Sequence[Any], kwargs: Mapping[str, Any], size: int | None
    ) -> Traced:
        """The calls inside of a layer, in a batch of a size; None for any."""
        tensors = [
            t for t in keras.tree.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)
        ]
        masks = [mask for mask in map(mask_of, tensors) if mask is not None]
        sources = list({id(t): t for t in (*tensors, *masks)}.values())
        inputs = [_twin(t, t.name, size) for t in sources]
        known = {id(t): new for t, new in zip(sources, inputs, strict=True)}
        for tensor in tensors:
            hand_mask(known[id(tensor)], mask_of(tensor), known)
        given = replaced(dict(kwargs), known)
        names = layer.call_signature_parameters
        if "training" in names and "training" not in given and len(args) <= names.index("training"):
            given["training"] = False

        def run() -> Any:
            # The user's model itself. Layers inside of it were built when they were called.
            if not layer.built and not str(type(layer).build.__module__).startswith("keras."):
                layer(*replaced(tuple(args), known), **given)
            return layer.call(*replaced(tuple(args), known), **given)

        return self._recorded(run, inputs, sources, [], layer)

    def built(self, model: KerasModel, tensor: KerasTensor) -> Any:
        """The graph of a Sequential model that did not state its sizes. Raises: UntracedError."""
        self._prepare()
        try:
            with without_values() as made:
                model.build(tensor.shape)
        except Exception as error:
            raise reason_of(error, model) from error
        self.made_weights |= any(v.name != SEED for v in made)
        return model._functional  # noqa: SLF001

    def _noted(
        self, run: Callable[[], Any], layer: KerasLayer, tables: Sequence[Any] = ()
    ) -> tuple[Record, Any]:
        """Run code of the user's, and note the calls that it makes. Raises: UntracedError.

        tables: weights of the layer that are tensors there
        """
        record = Record()
        try:
            with (
                warnings.catch_warnings(action="ignore"),
                counted_anew(),
                without_values(NoValues()) as made,
                record.recording(),
                functions_of_tensorflow(),
                record.weights_as_tensors(layer, tables) if tables else contextlib.nullcontext(),
            ):
                result = run()
        except UntracedError:
            raise
        except Exception as error:
            raise reason_of(error, layer) from error
        self.made_weights |= any(v.name != SEED for v in made)
        return record, result

    def _recorded(
        self,
        run: Callable[[], Any],
        inputs: Sequence[Any],
        sources: Sequence[Any],
        names: Sequence[str],
        layer: Any | None = None,
    ) -> Traced:
        self._prepare()
        try:
            return self._graph(run, inputs, sources, names, layer)
        except UntracedError as error:
            first, tables = error, [error.weight]
        own = [] if layer is None else [v for v in vars(layer).values() if v is not None]
        while any(tables[-1] is weight for weight in own):
            try:
                return self._graph(run, inputs, sources, names, layer, tables=tables)
            except UntracedError as error:
                if error.reads_batch:
                    raise
                if any(error.weight is weight for weight in tables):
                    break
                tables.append(error.weight)
        raise first

    def _graph(
        self,
        run: Callable[[], Any],
        inputs: Sequence[Any],
        sources: Sequence[Any],
        names: Sequence[str],
        layer: Any | None,
        *,
        tables: Sequence[Any] = (),
    ) -> Traced:
        """The calls that code makes. Raises: UntracedError.

        tables: weights of the layer that are added to its tensors or joined with them
        """
        record, result = self._noted(run, layer, tables)
        if layer is not None and record.constants:
            line = record.differs(self._noted(run, layer, tables)[0])
            if line is not None:
                raise UntracedError(*RANDOM, line)
        outputs = keras.tree.flatten(result)
        for output in outputs:
            if not isinstance(output, keras.KerasTensor):
                raise UntracedError(
                    f"its result is a {type(output).__name__}, which does not depend on its input",
                    "a result that Keras's layers and operations compute from the input",
                )
        if not names:
            names = list(result) if isinstance(result, dict) else [record.name(t) for t in outputs]
        nodes, lines = record.behind(outputs), dict(record.lines)
        if record.weights or record.tables:
            with counted_anew():
                self._own.note(layer)
        if record.fixed or record.tables:
            size = inputs[0].shape[0] if inputs else None
            same = SameForAll(
                record.fixed, record.tables, size, self._own.table, record.refuse_same
            )
            with counted_anew():
                replacing, outputs = same.with_images(nodes, outputs)
            nodes = [node for node, _ in replacing]
            lines |= {id(new): lines.get(id(old), "") for new, old in replacing}
        if record.weights:
            with counted_anew():
                pairs = self._own.as_layers(nodes, outputs, record.refuse_weight)
            nodes = [node for node, _ in pairs]
            lines |= {id(new): lines.get(id(old), "") for new, old in pairs}
        opened = [(with_open_batch(node), node) for node in nodes]
        lines |= {id(new): lines.get(id(old), "") for new, old in opened}
        return Traced(inputs, outputs, [node for node, _ in opened], sources, lines, names)


def _twin(tensor: KerasTensor, name: str, batch: int | None = None) -> Any:
    shape = tuple(tensor.shape)
    shape = (batch, *shape[1:]) if shape[:1] == (None,) else shape
    return keras.KerasTensor(shape, tensor.dtype, name=name)
