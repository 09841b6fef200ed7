"""Stand-ins for the results of calls without a rule, so that later layers are examined too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras2gp.conversion.call import Call, State
from keras2gp.conversion.registry import is_deterministic, runs_code
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.errors import Obstacle
from keras2gp.graph.ops import Opaque, Weighted

__all__ = ["StandIns"]


class StandIns:
    """The stand-ins of one graph, and what later calls may not conclude from them.

    Args:
        state: of the walk, whose builder they enter.
        unreadable: layers that a file only names, by path.
    """

    def __init__(self, state: State, unreadable: Mapping[str, Obstacle]) -> None:
        self.state, self.unreadable = state, unreadable
        self._maybe_data: set[int] = set()
        self._unknown_shapes: set[int] = set()
        self._unknown_layouts: set[int] = set()

    def results_of(self, call: Call, shapes: Sequence[Any], path: str) -> list[Tensor]:
        """Tensors of the shapes that Keras states for the results of a call."""
        first = any(t.channel_first for t in call.tensors)
        guessed = self.layout_unknown(*call.tensors)
        guessed |= len({t.channel_first for t in call.tensors if not t.is_data}) > 1
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
            if guessed:
                self._unknown_layouts.add(node)
            if not sources and (path in self.unreadable or runs_code(call.operation)):
                self._maybe_data.add(node)
            results.append(Tensor(sizes, (Part(node, channels),), channel_first=first))
        return results

    def shape_unknown(self, *tensors: Tensor) -> bool:
        """Whether a tensor depends on a layer that a file only names: its shapes are guessed."""
        return bool(self._unknown_shapes and self._unknown_shapes & self._behind(tensors))

    def layout_unknown(self, *tensors: Tensor) -> bool:
        """Whether a tensor stands for a call on channels first and last: its own are guessed."""
        return bool(self._unknown_layouts & self._behind(tensors, weights=False))

    def may_be_data(self, call: Call) -> bool:
        """Whether Keras would run this call if an unknown layer before it only changed data."""
        if not self._maybe_data or not is_deterministic(call.operation):
            return False
        return bool(self._maybe_data & self._behind(call.tensors, weights=False))

    def take(self, other: StandIns, node: Callable[[int], int]) -> None:
        """Take those of another graph, whose nodes became these."""
        self._maybe_data |= set(map(node, other._maybe_data))
        self._unknown_shapes |= set(map(node, other._unknown_shapes))
        self._unknown_layouts |= set(map(node, other._unknown_layouts))

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
