"""The arguments of a reader: the call that it reads, and the context that adds to the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import keras
import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.text import numbers_text
from keras2gp.conversion.priors import bias_mean, distribution_of, read_variances
from keras2gp.conversion.registry import OwnLayers
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.conversion.tracing import Tracer
from keras2gp.conversion.user_code import UntracedError
from keras2gp.errors import Obstacle, PriorError
from keras2gp.graph.graph import GraphBuilder
from keras2gp.graph.independence import OtherChannels
from keras2gp.graph.means import Constants
from keras2gp.graph.ops import (
    Activation,
    Affine,
    Axes,
    Input,
    Mixture,
    Op,
    Patches,
    Positions,
    Scale,
    Shift,
    Spatial,
    Tokens,
    Weigh,
)
from keras2gp.graph.variances import LayerVariances

__all__ = [
    "BIASES_OF_MEAN",
    "UNITS_APART",
    "Call",
    "Context",
    "RefusalError",
    "State",
    "by_channel",
]


BIASES_OF_MEAN = "biases of mean"
"""The note on a layer whose initial biases have a mean, before that number."""


UNITS_APART = "every unit of the output is a position"
"""The note on an output whose units are not independent and alike, before the reason."""


_MOST_CONSTANTS = 2**20


class RefusalError(Exception):
    """Raised by `Context.refuse`; the walker makes an Obstacle of it, or takes the one it holds."""

    def __init__(
        self, why: str, hint: str, *, by_shape: bool, obstacle: Obstacle | None = None
    ) -> None:
        super().__init__(why)
        self.obstacle = obstacle
        self.why = why
        self.hint = hint
        self.by_shape = by_shape


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation, with Tensors in place of Keras tensors.

    output: the Keras shape of the (first) result, without the batch axis
    line: the line of the user's code that made it, if that was traced
    untraced: the reason why the user's code inside of it could not be traced
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: tuple[int | None, ...]
    line: str = ""
    untraced: UntracedError | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments, in order, lists of them included."""
        return [t for t in _flat([self.args, list(self.kwargs.values())]) if isinstance(t, Tensor)]

    @property
    def received(self) -> str:
        """The call in an error message."""
        shapes = ", ".join(str((None, *t.shape)) for t in self.tensors)
        line = f" in {self.line}" if self.line else ""
        return f"{type(self.operation).__name__} of {shapes}{line}"


def by_channel(values: float | Array, tensor: Tensor) -> float | Array:
    """One number for each channel, in a shape that broadcasts against Keras's."""
    if np.ndim(values) != 1 or not tensor.channel_first:
        return values
    return np.reshape(values, (-1, *(1,) * (len(tensor.shape) - 1)))


def _flat(value: Any) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


@dataclass
class State:
    """The settings of one walk over a model, and what it collects.

    dtype:       what the deterministic layers compute in, that of the kernel
    overridden:  whether the user states both variances of a layer, by its path
    max_pooling: "average" to read max pooling as average pooling; None refuses it
    activation:  the activation of a function that is not Keras's, from it and its names; raises
                 InputError with the reason if there is none
    layers:      readers that the caller handed over
    inside:      reads a layer that another one wraps (see KerasWalker.inside)
    tracer:      traces the user's own code
    trained_until: path of the last layer that runs with its present weights
    data:        pairs of a data tensor and its channels-last form, in the order of Input.index
    forms:       the Input.index of data in another form, by the identity of its tensor and the form
    masks:       data and form of the weights of positions, by Input.index
    names:       the path of the first call of each layer's weights, by its identity and their name
    calls:       how often each of them was called so far, by that name
    constants:   arrays of constants that are added, [*spatial, C] or of one entry along an axis,
                 and the channel of their node at which they begin; by Constants.index
    """

    prior: str
    overridden: Callable[[str], bool]
    dtype: str = "float32"
    max_pooling: str | None = None
    activation: Callable[[Any, Sequence[str]], Activation] | None = None
    layers: OwnLayers = field(default_factory=OwnLayers)
    tracer: Tracer = field(default_factory=Tracer)
    trained_until: str | None = None
    inside: Callable[..., list[Tensor]] = field(default=lambda *_: [])
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    parameters: dict[str, LayerVariances] = field(default_factory=dict)
    data: list[Any] = field(default_factory=list)
    forms: dict[tuple[int, object], int] = field(default_factory=dict)
    masks: dict[int, tuple[Any, Callable[[Any], Any]]] = field(default_factory=dict)
    names: dict[tuple[int, str], str] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    constants: list[tuple[Array, int]] = field(default_factory=list)


class Context:
    """One call of the model, for its reader: ops are added and refusals made through it.

    became, note, variances: what the report says of the call
    extra_rows: variances of a layer with two kinds of weights, by the suffix of its path
    """

    def __init__(self, state: State, path: str) -> None:
        self.state = state
        self.path = path
        self.became = ""
        self.note = ""
        self.variances: LayerVariances | None = None
        self.extra_rows: dict[str, LayerVariances] = {}

    def refuse(self, why: str, hint: str = "", *, by_shape: bool = True) -> NoReturn:
        """Refuse this call, which has no exact rule; the walk goes on and collects all refusals.

        by_shape: whether other shapes of the arguments might have a rule
        """
        raise RefusalError(why, hint, by_shape=by_shape)

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
        if vocabulary > 2 / float(np.finfo(self.state.dtype).eps):
            self.refuse(
                f"{self.state.dtype} does not tell its {vocabulary} integers apart",
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
        dtype = self.state.dtype
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

    def spatial(self, tensor: Tensor) -> Spatial:
        """Sizes of the spatial axes of a tensor's maps in the graph, () for a vector.

        A vector that was concatenated may hold several sizes: those of the first that is a map.
        """
        sizes = [self.state.builder.nodes[part.node].spatial for part in tensor.parts]
        return next((size for size in sizes if size), ())

    def holds_data(self, tensor: Tensor) -> bool:
        """Whether a channel group is the input itself, or a linear map of it."""
        nodes = self.state.builder.nodes
        left, seen = [part.node for part in tensor.parts], set()
        while left:
            index = left.pop()
            op = nodes[index].op
            if isinstance(op, Input):
                return True
            if index not in seen and not op.random and not isinstance(op, Activation):
                seen.add(index)
                left += nodes[index].op.mean_inputs(nodes[index].inputs)
        return False

    def apply(self, op: Op, tensor: Tensor, shape: tuple[int | None, ...] | None = None) -> Tensor:
        """Add an op of one input on every channel group."""
        tensor = self.as_graph_tensor(tensor)
        return tensor.map(
            lambda node: self.state.builder.add(op, (node,), self.path),
            tensor.shape if shape is None else shape,
        )

    def activated(self, activation: Activation, tensor: Tensor) -> Tensor:
        """Add an activation, unless it is linear."""
        for name, value in activation.params:
            # No bound is a bound at infinity.
            if not math.isfinite(value) and (name, value) != ("max_value", math.inf):
                self.refuse(f"its {name} is {value:g}", f"a finite {name}")
            if math.isfinite(value) and not math.isfinite(value * value):
                self.refuse(f"its {name} {value:g} has no finite square", f"a smaller {name}")
        return tensor if activation.name == "linear" else self.apply(activation, tensor)

    def scaled(self, tensor: Tensor, factor: float) -> Tensor:
        """Multiply a tensor by a constant: k' = factor^2 k."""
        if not math.isfinite(factor * factor):
            self.refuse(f"its factor {factor:g} has no finite square", "a smaller factor")
        if factor and factor * factor < np.finfo(self.state.dtype).tiny:
            self.refuse(
                f"the square of its factor {factor:g} is below {self.state.dtype}",
                "a larger factor, or dtype='float64'",
            )
        self.became = self.became or f"factor {factor:g}"
        return self.apply(Scale(factor), tensor)

    def shifted(self, tensor: Tensor, constant: float | Array) -> Tensor:
        """Add a constant: k' = k + constant (m1 + m2) + constant^2.

        An array of different ones, which broadcasts against Keras's shape, is a mean of the output.
        """
        values = np.asarray(constant, np.float64)
        with np.errstate(over="ignore"):
            if not np.isfinite(values * values).all():
                largest = f"{np.abs(values).max():g}"
                self.refuse(f"its constant {largest} has no finite square", "a smaller constant")
        tensor = self.as_graph_tensor(tensor)
        if (values != values.flat[0]).any():
            if tensor.units:
                raise RefusalError("", "", by_shape=True, obstacle=tensor.units)
            return self._shifted_by_array(tensor, values)
        number = float(values.flat[0])
        return self.apply(Shift(number), tensor) if number else tensor

    def _shifted_by_array(self, tensor: Tensor, values: Array) -> Tensor:
        """Add constants that differ between channels or positions."""
        rank = len(tensor.shape)
        if tensor.flat and self.spatial(tensor):
            self.refuse(
                "its constants differ, and what was flattened has them at positions",
                "constants before Flatten, or a single number",
            )
        if values.ndim > rank and math.prod(values.shape[:-rank]) == 1:  # an axis for the batch
            values = values.reshape(values.shape[-rank:])
        axes = (1,) * (rank - values.ndim) + values.shape
        sizes = zip(axes, tensor.shape, strict=False)
        if values.ndim > rank or any(n not in (1, size) for n, size in sizes):
            self.refuse(
                f"its constants {np.shape(values)} are not those of one image {tensor.shape}",
                "constants of that shape, or a single number",
            )
        if values.size > _MOST_CONSTANTS:
            self.refuse(f"it adds {values.size} constants", f"at most {_MOST_CONSTANTS}")
        values = values.reshape(axes)
        values = np.moveaxis(values, 0, -1) if tensor.channel_first else values
        parts, begin = [], 0
        for part in tensor.parts:
            end = begin + part.channels
            own = values if values.shape[-1] == 1 else values[..., begin:end]
            op = Constants(len(self.state.constants))
            self.state.constants.append((own, part.offset))
            node = self.state.builder.add(op, (part.node,), self.path)
            parts.append(replace(part, node=node))
            begin = end
        return replace(tensor, parts=tuple(parts))

    def affine(
        self,
        tensor: Tensor,
        layer: Any,
        fan_in: int,
        shape: tuple[int | None, ...],
        *,
        channel_first: bool = False,
        kernel: str = "kernel",
        suffix: str = "",
    ) -> Tensor:
        """Random weights over the channels of `tensor` (and its positions, if it is flat).

        kernel, suffix: as for `weights`
        """
        builder = self.state.builder
        if tensor.flat:
            tensor = self.over_positions(tensor)
        nodes = tuple(map(self.marked, tensor.parts))
        node = nodes[0]
        if len(tensor.parts) > 1:
            total = sum(part.channels for part in tensor.parts)
            op = Mixture(tuple(part.channels / total for part in tensor.parts))
            node = builder.add(op, nodes, self.path)
        name, call = self.weights(
            layer, fan_in, kernel=kernel, suffix=suffix, bias_may_have_mean=True
        )
        self._note_distributions(layer, fan_in if self.holds_data(tensor) else None, kernel, name)
        node = builder.add(Affine(name, call), (node,), self.path)
        channels = shape[0] if channel_first else shape[-1]
        result = Tensor(shape, (Part(node, int(channels or 1)),), channel_first=channel_first)
        return self.shifted(result, by_channel(self.bias_mean(layer, name), result))

    def bias_mean(self, layer: Any, name: str) -> float | Array:
        """The mean of a layer's initial biases; 0 where the user states its variances.

        An array where it differs between channels, which broadcasts against Keras's shape.

        name: of its weights in the parameters
        """
        if self.state.prior != "initializers" or self.state.overridden(name):
            return 0.0
        mean = bias_mean(layer)
        if np.any(mean):
            self._add_note(f"{BIASES_OF_MEAN} {numbers_text(mean)}")
        return mean

    def marked(self, part: Part) -> int:
        """The node of a channel group; another one if its channels are not the node's first ones.

        Calls of one layer on different channels of a node are not calls on one tensor.
        """
        if not part.offset:
            return part.node
        return self.state.builder.add(OtherChannels(part.offset), (part.node,), self.path)

    def _note_distributions(self, layer: Any, inputs: int | None, kernel: str, name: str) -> None:
        """Note weights that are not Gaussian at any width but taken as Gaussian.

        inputs: how many numbers of the data one output sums over; None for a sum over channels
        """
        variances = self.state.parameters[name]
        if self.state.prior != "initializers" or self.state.overridden(name):
            return
        distributions = {}
        if inputs is not None and variances.weight > 0:
            what = "entries" if kernel == "embeddings" else f"weights on {inputs} inputs"
            distributions[what] = distribution_of(layer, kernel)
        if variances.bias > 0:
            distributions["biases"] = distribution_of(layer, "bias")
        other = [f"{kind} {what}" for what, kind in distributions.items() if kind != "normal"]
        if other:
            text = f"{' and '.join(other)}, taken as Gaussian"
            if text not in self.note:  # both directions of a recurrence have the same to say
                self._add_note(text)

    def _add_note(self, text: str) -> None:
        self.note = f"{self.note}; {text}" if self.note else text

    def weights(
        self,
        layer: Any,
        fan_in: int,
        *,
        kernel: str = "kernel",
        bias: str | None = "bias",
        suffix: str = "",
        bias_may_have_mean: bool = False,
    ) -> tuple[str, int]:
        """Enter a layer's weights into the parameters: their name, and which call of them this is.

        fan_in: how many weights one output sums over
        kernel, bias: which weights of the layer, as for `read_variances`
        suffix: appended to the path of a layer with two kinds of weights
        bias_may_have_mean: the reader adds it, by `bias_mean`; else biases with a mean are refused
        """
        # By identity: nested models may call one layer object under several paths.
        name = self.state.names.setdefault((id(layer), suffix), self.path + suffix)
        try:
            variances = read_variances(
                layer,
                prior=self.state.prior,
                fan_in=fan_in,
                kernel=kernel,
                bias=bias,
                bias_may_have_mean=bias_may_have_mean,
            )
        except PriorError as error:
            if not self.state.overridden(name):
                hint = "another initialiser, prior='weights', or an override of both variances"
                self.refuse(str(error), hint, by_shape=False)
            variances = LayerVariances(0.0)  # the override replaces it
        if suffix:
            self.extra_rows[suffix] = variances
        else:
            self.variances = variances
        self.state.parameters[name] = variances
        return name, self.calls_before(layer, suffix)

    def calls_before(self, layer: Any, suffix: str) -> int:
        """Count a call of a layer's weights that are no parameters: how many there were before.

        suffix: names the weights
        """
        name = self.state.names.setdefault((id(layer), suffix), self.path + suffix)
        count = self.state.calls.get(name, 0)
        self.state.calls[name] = count + 1
        return count

    def over_positions(self, tensor: Tensor) -> Tensor:
        """The mean covariance over the positions of a flattened tensor, which weights see."""
        nodes, kept = self.state.builder.nodes, tensor.kept
        parts = []
        for part in tensor.parts:
            spatial = nodes[part.node].spatial
            if len(spatial) <= kept:
                parts.append(part)
                continue
            chain: list[Op] = [Positions(len(spatial))]
            if kept:
                ones, around = (1,) * len(spatial), ((0, 0),) * len(spatial)
                window = (*ones[:kept], *spatial[kept:])
                chain = [Patches(window, ones, ones, around)]
                chain += [Axes(tuple(range(kept)), len(spatial))]
            node = part.node
            for op in chain:
                node = self.state.builder.add(op, (node,), self.path)
            parts.append(Part(node, part.channels * math.prod(spatial[kept:])))
        return replace(tensor, parts=tuple(parts), flat=False, kept=0, channel_first=False)
