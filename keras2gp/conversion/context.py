"""What a reader works with: the call it reads, and the graph that it adds to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import keras

from keras2gp.conversion.priors import distribution_of, read_variances
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.errors import PriorError
from keras2gp.graph.graph import GraphBuilder
from keras2gp.graph.ops import Activation, Affine, Input, Mixture, Op, Positions, Spatial
from keras2gp.graph.variances import LayerVariances

__all__ = ["Call", "Context", "RefusalError", "State"]


class RefusalError(Exception):
    """Raised by `Context.refuse`, made an Obstacle by the walk; never leaves the frontend."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation, with Tensors in place of Keras tensors.

    output: the Keras shape of the (first) result, without the batch axis
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: tuple[int | None, ...]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments, in order, lists of them included."""
        return [t for t in _flat([self.args, list(self.kwargs.values())]) if isinstance(t, Tensor)]


def _flat(value: Any) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


@dataclass
class State:
    """What grows during one walk.

    dtype:       what the deterministic layers compute in, that of the kernel
    overridden:  whether the user states both variances of a layer, by its path
    max_pooling: "average" to read max pooling as average pooling; None refuses it
    own:         the activation of a function that is not Keras's, from it and its names; raises
                 InputError with the reason if there is none
    data:        pairs of a data tensor and its channels-last form, in the order of Input.index
    names:       the path of the first call of each layer's weights, by its identity and their name
    calls:       how often each of them was called so far, by that name
    """

    prior: str
    overridden: Callable[[str], bool]
    dtype: str = "float32"
    max_pooling: str | None = None
    own: Callable[[Any, Sequence[str]], Activation] | None = None
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    parameters: dict[str, LayerVariances] = field(default_factory=dict)
    data: list[Any] = field(default_factory=list)
    names: dict[tuple[int, str], str] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)


class Context:
    """The place of one call in the model. Readers add nodes through it, and refuse through it.

    became, note, variances: what the report says of the call
    halves: variances of a layer with weights of two kinds, by what is appended to its path
    """

    def __init__(self, state: State, path: str) -> None:
        self.state = state
        self.path = path
        self.became = ""
        self.note = ""
        self.variances: LayerVariances | None = None
        self.halves: dict[str, LayerVariances] = {}

    def refuse(self, why: str, hint: str = "") -> NoReturn:
        """There is no exact rule for this call; the walk goes on and collects all refusals."""
        raise RefusalError(why, hint)

    def gathered(self, tensor: Tensor) -> Tensor:
        """The tensor in the graph: data becomes an input of it, channels last."""
        if not tensor.is_data:
            return tensor
        data = tensor.data
        if tensor.channel_first:
            data = keras.ops.moveaxis(data, 1, -1)
        shape = tuple(data.shape[1:])
        if None in shape or not shape:
            self.refuse(
                f"the input of this layer has the shape {shape}: its size must be fixed",
                "an Input with a fixed size",
            )
        known = self.state.data
        # One tensor may be read in either format: its forms are different inputs of the graph.
        same = (
            i
            for i, (t, form) in enumerate(known)
            if t is tensor.data and (form is t) != tensor.channel_first
        )
        index = next(same, len(known))
        if index == len(known):
            known.append((tensor.data, data))
        op = Input(index, shape[:-1], shape[-1])
        node = self.state.builder.add(op, (), self.path)
        return Tensor(shape, (Part(node, shape[-1]),))

    def with_channels(self, tensor: Tensor, *, first: bool) -> Tensor:
        """The tensor in the graph, if its channels are where the layer takes them to be."""
        if tensor.is_data:
            return self.gathered(replace(tensor, channel_first=first))
        if tensor.channel_first != first and len(tensor.shape) > 1:
            self.refuse(
                "its data_format disagrees with the layers before it, so that it would take "
                "positions for channels",
                "one data_format throughout",
            )
        return tensor

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
                left += nodes[index].inputs
        return False

    def apply(self, op: Op, tensor: Tensor, shape: tuple[int | None, ...] | None = None) -> Tensor:
        """An op of one input on every channel group."""
        return tensor.map(
            lambda node: self.state.builder.add(op, (node,), self.path),
            tensor.shape if shape is None else shape,
        )

    def activated(self, activation: Activation, tensor: Tensor) -> Tensor:
        """An activation, except linear."""
        return tensor if activation.name == "linear" else self.apply(activation, tensor)

    def affine(
        self,
        tensor: Tensor,
        layer: Any,
        fan_in: int,
        shape: tuple[int | None, ...],
        *,
        channel_first: bool = False,
        kernel: str = "kernel",
        half: str = "",
    ) -> Tensor:
        """Random weights over the channels of `tensor` (and its positions, if it is flat).

        kernel, half: as for `weights`
        """
        builder = self.state.builder
        if tensor.flat:
            tensor = self._over_positions(tensor)
        node = tensor.parts[0].node
        if len(tensor.parts) > 1:
            total = sum(part.channels for part in tensor.parts)
            op = Mixture(tuple(part.channels / total for part in tensor.parts))
            node = builder.add(op, tuple(part.node for part in tensor.parts), self.path)
        name, call = self.weights(layer, fan_in, kernel=kernel, half=half)
        self._note_distributions(layer, fan_in if self.holds_data(tensor) else None, kernel, name)
        node = builder.add(Affine(name, call), (node,), self.path)
        channels = shape[0] if channel_first else shape[-1]
        return Tensor(shape, (Part(node, int(channels or 1)),), channel_first=channel_first)

    def _note_distributions(self, layer: Any, inputs: int | None, kernel: str, name: str) -> None:
        """Say of what is not Gaussian at any width that it is taken so: see distribution_of.

        inputs: how many numbers of the data one output sums over; None for a sum over channels
        """
        variances = self.state.parameters[name]
        if self.state.prior != "initializers" or self.state.overridden(name):
            return
        found = {}
        if inputs is not None and variances.weight > 0:
            found[f"weights on {inputs} inputs"] = distribution_of(layer, kernel)
        if variances.bias > 0:
            found["biases"] = distribution_of(layer, "bias")
        said = [f"{kind} {what}" for what, kind in found.items() if kind != "normal"]
        if said:
            text = f"{' and '.join(said)}, taken as Gaussian"
            self.note = f"{self.note}; {text}" if self.note else text

    def weights(
        self,
        layer: Any,
        fan_in: int,
        *,
        kernel: str = "kernel",
        bias: str | None = "bias",
        half: str = "",
    ) -> tuple[str, int]:
        """Enter a layer's weights into the parameters: their name, and which call of them this is.

        fan_in: how many weights one output sums over
        kernel, bias: which weights of the layer, as for `read_variances`
        half: appended to the layer's path, where it has weights of two kinds
        """
        # By identity: nested models may call one layer object under several paths.
        name = self.state.names.setdefault((id(layer), half), self.path + half)
        try:
            variances = read_variances(
                layer, prior=self.state.prior, fan_in=fan_in, kernel=kernel, bias=bias
            )
        except PriorError as error:
            if not self.state.overridden(name):
                hint = "another initialiser, prior='weights', or an override of both variances"
                self.refuse(str(error), hint)
            variances = LayerVariances(0.0)  # the override replaces it
        if half:
            self.halves[half] = variances
        else:
            self.variances = variances
        self.state.parameters[name] = variances
        call = self.state.calls.get(name, 0)
        self.state.calls[name] = call + 1
        return name, call

    def _over_positions(self, tensor: Tensor) -> Tensor:
        nodes = self.state.builder.nodes
        parts = []
        for part in tensor.parts:
            spatial = nodes[part.node].spatial
            if not spatial:
                parts.append(part)
                continue
            node = self.state.builder.add(Positions(len(spatial)), (part.node,), self.path)
            count = part.channels
            for size in spatial:
                count *= size
            parts.append(Part(node, count))
        return replace(tensor, parts=tuple(parts), flat=False, channel_first=False)
