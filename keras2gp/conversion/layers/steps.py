"""TimeDistributed: a layer or a model at each step of a sequence, with the same weights at all.

The layer is read for one step. Its ops then act on maps with the steps as one more axis, the
first, as they do on the calls of a shared layer (graph/calls.py): the covariance of different steps
follows by the same rules. Data of the steps are images of one batch, until they enter the graph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import keras

from keras2gp.conversion.call import Call, RefusalError
from keras2gp.conversion.context import Context
from keras2gp.conversion.tensor import Tensor
from keras2gp.conversion.user_code import UntracedError
from keras2gp.graph.graph import GraphBuilder, Node
from keras2gp.graph.ops import Axes, Input, Op, Opaque, Spatial
from keras2gp.graph.ops.base import along

__all__ = ["read_time_distributed"]


@dataclass(frozen=True)
class _Step(Op):
    """A step of a random tensor: that of a node of the graph, without its first axis."""

    index: int
    size: Spatial
    channels: int
    pointwise: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """Without the steps."""
        return self.size


@dataclass(frozen=True)
class _DataStep(Input):
    """A step of a tensor that is data, or a linear map of it; `index` is the node."""


def read_time_distributed(call: Call, context: Context) -> Tensor:
    """Read TimeDistributed: its layer for one step, then the same ops with an axis of steps."""
    layer, (tensor, *_) = call.operation.layer, call.tensors
    if call.kwargs.get("mask") is not None and layer._call_has_mask_arg:  # noqa: SLF001
        context.refuse(
            "it hands the mask of the steps to the layer inside of it",
            "the sequence without a mask, or a layer that takes none",
        )
    if tensor.shape[0] is None:
        context.refuse("the number of its steps is left open", "input_shape= (--input-shape)")
    if tensor.channel_first or tensor.pieces or (tensor.flat and not tensor.kept):
        context.refuse(
            "the first axis of what it is called with is not one of positions",
            "the steps on the axis after the batch, and the channels last",
        )
    if tensor.parts:
        tensor = context.as_graph_tensor(tensor)
    reading = _Reading(context, int(tensor.shape[0] or 1))
    try:
        (result,) = context.state.inside(
            layer, reading.step(tensor), context.path, call.output[1:], reading
        )
    except UntracedError as error:
        context.refuse(str(error), error.hint, by_shape=False)
    if result.units:
        raise RefusalError(
            result.units.why, result.units.hint, by_shape=True, obstacle=result.units
        )
    if result.channel_first:
        context.refuse(
            "the channels of its result stand between the steps and the other positions",
            "data_format='channels_last', or Flatten or global pooling within each step",
        )
    if reading.refused:
        context.refuse(
            f"{reading.refused} gives positions of a step in another arrangement, and there is no "
            "rule for that beside the axis of the steps",
            "that layer outside of TimeDistributed",
        )
    context.became = f"each of {tensor.shape[0]} steps"
    return result


class _Reading:
    """One step of a tensor, in a graph of its own, and the way back to that of all steps.

    builder: of the graph of one step
    refused: an op without a form that has an axis of steps
    """

    def __init__(self, context: Context, steps: int) -> None:
        self.context, self.steps = context, steps
        self.outer, self.builder = context.state.builder, GraphBuilder()
        self.refused = ""
        self._data = len(context.state.data)
        self._nodes: list[int] = []

    def step(self, tensor: Tensor) -> Tensor:
        """A step of a tensor: one node each, or data with the steps among the images."""
        shape = tensor.shape[1:]
        if tensor.is_data:
            return Tensor(shape, data=keras.ops.reshape(tensor.data, (-1, *shape)))
        parts = []
        for part in tensor.parts:
            node = self.outer.nodes[part.node]
            kind = _DataStep if self.context.holds_data(replace(tensor, parts=(part,))) else _Step
            leaf = self.builder.add(kind(part.node, node.spatial[1:], 1), (), node.path)
            parts.append(replace(part, node=leaf))
        return replace(tensor, parts=tuple(parts), shape=shape, kept=max(tensor.kept - 1, 0))

    def tensor(self, tensor: Tensor) -> Tensor:
        """All steps of a tensor of one step."""
        shape = (self.steps, *tensor.shape)
        if tensor.is_data:
            data = keras.ops.reshape(tensor.data, (-1, *shape))
            return replace(tensor, shape=shape, data=data)
        parts = tuple(replace(part, node=self.node(part.node)) for part in tensor.parts)
        kept = tensor.kept + 1 if tensor.flat else 0
        return replace(tensor, shape=shape, parts=parts, kept=kept)

    def node(self, index: int) -> int:
        """A node of the graph of one step, at all steps."""
        rank = self._rank
        size = self.builder.nodes[index].spatial
        node, path = self._nodes[index], self.builder.nodes[index].path
        if len(size) == rank:
            return node
        return self.outer.add(Axes(tuple(range(len(size) + 1)), rank + 1), (node,), path)

    def finish(self) -> None:
        """Take over the graph of one step, and the data that entered it."""
        self._rank = max((len(n.spatial) for n in self.builder.nodes), default=0)
        data = self.context.state.data
        for number in range(self._data, len(data)):
            key, form = data[number]
            *size, channels = form.shape[1:]
            shape = (*along(tuple(size), 1, self._rank)[1:], channels)
            data[number] = (key, keras.ops.reshape(form, (-1, self.steps, *shape)))
        for node in self.builder.nodes:
            inputs = tuple(self._nodes[i] for i in node.inputs)
            self._nodes.append(self._at_all_steps(node.op, inputs, node))

    def _at_all_steps(self, op: Op, inputs: tuple[int, ...], node: Node) -> int:
        """The op with an axis of steps in front of all positions, and axes of one behind them."""
        add, rank, path = self.outer.add, self._rank, node.path
        size = (self.steps, *along(node.spatial, 1, rank)[1:])
        if isinstance(op, _Step | _DataStep):
            own = len(op.size) + 1
            if own == rank + 1:
                return op.index
            return add(Axes(tuple(range(rank + 1)), own), (op.index,), path)
        if isinstance(op, Input):
            return add(replace(op, size=size), (), path)
        if isinstance(op, Opaque):
            return add(replace(op, size=size), inputs, path)
        before = self.builder.nodes[node.inputs[0]].spatial
        chain = op.with_calls(before, rank)
        if chain is None:
            self.refused = self.refused or f"{op.title} ({path})"
            return add(Opaque(path, size), inputs, path)
        (index, *_), rest = inputs, inputs
        for step in chain:
            index = add(step, rest, path)
            rest = (index,)
        return index
