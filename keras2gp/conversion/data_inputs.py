"""Data at the input of a graph: channels last, integers as tokens, weights of a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import keras
import numpy as np

from keras2gp._util.arrays import ArrayLike
from keras2gp.conversion.call import CallContext, RefusalError, State
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.graph.means import Constants
from keras2gp.graph.ops import (
    Input,
    Op,
    Spatial,
    Tokens,
    Weigh,
)

__all__ = ["InputContext", "data_of_constants"]


class InputContext(CallContext):
    """Enters tensors of data into the graph, each in the form that the call reads."""

    def as_graph_tensor(self, tensor: Tensor) -> Tensor:
        """Enter a tensor of data into the graph as an input, channels last; keep any other."""
        if tensor.outside:
            self.refuse(
                "what is before it surrounds the map with -inf, which only max pooling straight "
                "after that takes no notice of",
                "zeros around the map (ZeroPadding), or max pooling",
            )
        if tensor.split:
            self.refuse(
                "the Reshape before it cuts the channels into blocks of positions, and it is not "
                "followed by Permute((1, 3, 2, 4, 5)) and a Reshape that puts them in their places",
                "a Reshape that keeps the channels last, or keras.ops.nn.depth_to_space",
            )
        if tensor.cut is not None and tensor.cut.obstacle is not None:
            raise RefusalError("", "", by_shape=True, obstacle=tensor.cut.obstacle)
        if not tensor.is_data:
            return tensor
        data = tensor.data
        if tensor.channel_first:
            data = keras.ops.moveaxis(data, 1, -1)
        shape = tuple(data.shape[1:])
        if data.dtype == "string":
            self.refuse(
                "its input is text",
                "StringLookup, Hashing or TextVectorization before it",
                by_shape=False,
            )
        self._require_sizes(shape)
        if not shape:
            self.refuse(
                "the input of this layer has one number per row and no axis of channels",
                "an Input of shape (1,)",
            )
        inputs = self.state.data
        # One tensor may be read in either format: its forms are different inputs of the graph.
        same = (
            i
            for i, (t, form) in enumerate(inputs)
            if t is tensor.data and (form is t) != tensor.channel_first
        )
        index = next(same, len(inputs))
        if index == len(inputs):
            inputs.append((tensor.data, data))
        op = Input(index, shape[:-1], shape[-1])
        node = self.state.builder.add(op, (), self.path)
        return Tensor(shape, (Part(node, shape[-1]),))

    def beside(self, tensor: Tensor, *, first: bool) -> Tensor:
        """Enter data as it stands beside tensors of a format, in Keras's shape; see above.

        first: whether the channels of those come before their positions
        """
        if not tensor.is_data or not first or len(tensor.shape) == 1:
            return self.as_graph_tensor(tensor)
        entered = self.as_graph_tensor(replace(tensor, channel_first=True))
        return replace(entered, shape=tensor.shape, channel_first=True)

    def data_of(self, values: ArrayLike) -> Tensor:
        """Constants, [1, *shape], as a tensor of data that is the same for all images."""
        array = np.asarray(values)
        if array.shape[:1] != (1,):
            self.refuse(
                f"it joins constants of the shape {array.shape} to the images of a batch",
                "constants of the shape (1, ...), the same for all images",
            )
        place = ("constants", array.shape, str(array.dtype), array.tobytes())
        if place not in self.state.fixed:
            first = self.state.inputs[0]
            number = first[(slice(None), *(0,) * (len(first.shape) - 1))]
            if first.dtype == "string":
                number = keras.ops.not_equal(number, number)
            zeros = keras.ops.zeros_like(number, self.state.settings.dtype)
            each = keras.ops.reshape(zeros, (-1, *(1,) * (array.ndim - 1)))
            self.state.fixed[place] = each + array.astype(self.state.settings.dtype)
        return Tensor(array.shape[1:], data=self.state.fixed[place])

    def _require_sizes(self, shape: tuple[int | None, ...]) -> None:
        """Refuse data of a size that the model leaves open."""
        if None in shape:
            self.refuse(
                f"the input of this layer has the shape {shape}: its size must be fixed",
                "input_shape= (--input-shape), or an Input with a fixed size",
            )

    def as_tokens(self, tensor: Tensor, vocabulary: int) -> Tensor:
        """Enter a tensor of integers from 0 to `vocabulary` - 1 into the graph as an input."""
        data, shape = tensor.data, tensor.shape
        self._require_sizes(shape)
        if not str(data.dtype).startswith(("int", "uint", "float", "bfloat")):
            self.refuse(f"its input holds values of type {data.dtype}", "integers")
        # Data is held in the dtype of the kernel, whose integers have gaps from here on.
        if vocabulary > 2 / float(np.finfo(self.state.settings.dtype).eps):
            self.refuse(
                f"{self.state.settings.dtype} does not tell its {vocabulary} integers apart",
                "dtype='float64'",
            )
        spatial = tuple(int(n or 1) for n in shape)
        index = self._in_form(data, vocabulary, lambda data: data)
        node = self.state.builder.add(Tokens(index, spatial, 1, vocabulary), (), self.path)
        return Tensor((*shape, 1), (Part(node, 1),))

    def weights_of(self, mask: Tensor, form: Callable[[Any], Any]) -> int:
        """The node of numbers of each position, which Keras computes of a mask of the data.

        form: computes them, [N, *spatial], of the mask as numbers of the kernel's dtype
        """
        dtype = self.state.settings.dtype
        self._require_sizes(mask.shape)
        index = self._in_form(mask.data, form, lambda data: form(keras.ops.cast(data, dtype)))
        self.state.masks[index] = (mask.data, form)
        spatial = tuple(int(n or 1) for n in mask.shape)
        return self.state.builder.add(Input(index, spatial, 1), (), self.path)

    def weighed(
        self, tensor: Tensor, mask: Tensor, form: Callable[[Any], Any], op: Op | None = None
    ) -> Tensor:
        """Multiply the positions of a tensor by numbers of a mask; see `weights_of`."""
        weights = self.weights_of(mask, form)
        add, op = self.state.builder.add, op or Weigh()
        return tensor.map(lambda node: add(op, (node, weights), self.path), tensor.shape)

    def _in_form(self, data: Any, key: object, form: Callable[[Any], Any]) -> int:
        """The Input.index of data in a form of its own, with an axis of one channel."""
        place = (id(data), key)
        if place not in self.state.forms:
            self.state.forms[place] = len(self.state.data)
            made = keras.ops.expand_dims(form(data), -1)
            self.state.data.append((made, made))
        return self.state.forms[place]

    def with_channels(self, tensor: Tensor, *, first: bool) -> Tensor:
        """Enter a tensor into the graph; refuse it if the layer takes another axis for channels."""
        if tensor.is_data:
            return self.as_graph_tensor(replace(tensor, channel_first=first))
        if tensor.channel_first != first and len(tensor.shape) > 1:
            self.refuse(
                "its data_format disagrees with the layers before it, so that it would take "
                "positions for channels",
                "one data_format throughout",
            )
        return self.as_graph_tensor(tensor)


def data_of_constants(state: State, constants: Constants, size: Spatial, path: str) -> Input:
    """The data tensor of an array of constants that are added to a map of that size."""
    values, _ = state.constants[constants.index]
    channels = values.shape[-1]
    values = np.broadcast_to(values, (*size, channels))
    context = InputContext(state, path)
    entered = context.as_graph_tensor(context.data_of(values[None]))
    op = state.builder.nodes[entered.parts[0].node].op
    return cast(Input, op)
