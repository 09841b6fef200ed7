"""The context of a reader: through it ops, constants and weights enter the graph."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.keras_objects import KerasLayer
from keras2gp.conversion.call import RefusalError
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.conversion.weight_context import WeightContext
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
)

__all__ = ["Context", "by_channel"]


_MOST_CONSTANTS = 2**20
_SCATTERED = 2**40
"""Above all numbers of channels: no slice begins at one of its multiples."""


def by_channel(values: float | Array, tensor: Tensor) -> float | Array:
    """One number for each channel, in a shape that broadcasts against Keras's."""
    if np.ndim(values) != 1 or not tensor.channel_first:
        return values
    return np.reshape(values, (-1, *(1,) * (len(tensor.shape) - 1)))


class Context(WeightContext):
    """Adds ops, constants and random weights of a call to the graph, for its reader."""

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

    def made_of(self, tensor: Tensor) -> set[int]:
        """The nodes that its channels are made of, back to random layers that sum over channels."""
        nodes = self.state.builder.nodes
        left, seen = [part.node for part in tensor.parts], set[int]()
        while left:
            index = left.pop()
            op = nodes[index].op
            if index not in seen and (not op.random or op.channelwise):
                left += nodes[index].inputs
            seen.add(index)
        return seen

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
        if factor and factor * factor < np.finfo(self.state.settings.dtype).tiny:
            wider = ", or dtype='float64'" if factor * factor >= np.finfo(np.float64).tiny else ""
            self.refuse(
                f"the square of its factor {factor:g} is below {self.state.settings.dtype}",
                f"a larger factor{wider}",
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
        layer: KerasLayer,
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
        node = self.channel_mean(tensor)
        name, call = self.weights(
            layer, fan_in, kernel=kernel, suffix=suffix, bias_may_have_mean=True
        )
        self.note_distributions(layer, fan_in if self.holds_data(tensor) else None, kernel, name)
        node = builder.add(Affine(name, call), (node,), self.path)
        channels = shape[0] if channel_first else shape[-1]
        result = Tensor(shape, (Part(node, int(channels or 1)),), channel_first=channel_first)
        return self.shifted(result, by_channel(self.bias_mean(layer, name), result))

    def channel_mean(self, tensor: Tensor) -> int:
        """The mean over all channels of a tensor."""
        parts = self.by_node(tensor).values()
        total = sum(channels for _, channels in parts)
        nodes = tuple(node for node, _ in parts)
        if len(nodes) == 1:
            return nodes[0]
        op = Mixture(tuple(channels / total for _, channels in parts))
        return self.state.builder.add(op, nodes, self.path)

    def by_node(self, tensor: Tensor) -> dict[int, tuple[int, int]]:
        """Each node of a tensor, marked by which of its channels are where, and their number.

        Calls of one layer on different channels of a node are not calls on one tensor. Channels
        that a shuffle has scattered are one set of them.
        """
        places: dict[int, list[tuple[int, int, int]]] = {}
        begin = 0
        for part in tensor.parts:
            places.setdefault(part.node, []).append((begin, part.offset, part.channels))
            begin += part.channels
        found = {}
        for node, runs in places.items():
            shift = first = runs[0][1]
            if len(runs) > 1:
                pattern = tuple((at, offset - first, count) for at, offset, count in runs)
                known = self.state.patterns
                shift += _SCATTERED * known.setdefault(pattern, len(known) + 1)
            found[node] = self._renumbered(node, shift), sum(count for _, _, count in runs)
        return found

    def _renumbered(self, node: int, shift: int) -> int:
        return self.state.builder.add(OtherChannels(shift), (node,), self.path) if shift else node

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
