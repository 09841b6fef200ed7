"""Repetitions: equal stretches of a loop, one behind the other, each of which reads the one before.

The layers of a DenseNet's block and the middle blocks of Xception are such stretches. Compiled code
has one of them, in a loop of its own, in the place of each written out.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from keras2gp.graph.analysis import Analysis
from keras2gp.graph.offsets import Loop
from keras2gp.graph.ops import Mixture, Op, Weighted

__all__ = ["Repetition", "repetitions"]

_LEAST_SAVED = 100
"""Nodes of a graph that have to be saved: one of a few layers compiles in seconds written out, and
XLA fuses across its blocks."""
_LEAST_COUNT = 3


@dataclass(frozen=True)
class Repetition:
    """A stretch of a loop, several times.

    nodes:    [count][length], in the order of the loop
    carried:  places in a stretch, whose maps the next one reads
    entering: for each of them, the node before all stretches that the first one reads instead
    """

    nodes: tuple[tuple[int, ...], ...]
    carried: tuple[int, ...]
    entering: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many stretches there are."""
        return len(self.nodes)

    @property
    def saved(self) -> int:
        """How many nodes need not be written out."""
        return (self.count - 1) * len(self.nodes[0])

    def alike(self, node: int) -> tuple[int, ...]:
        """The nodes of all stretches at the place of a node of the first."""
        place = self.nodes[0].index(node)
        return tuple(nodes[place] for nodes in self.nodes)


def repetitions(analysis: Analysis) -> Mapping[int, Repetition]:
    """The repetitions of all loops, by the node that the first stretch begins with.

    Nothing where they save little.
    """
    found = [r for loop in analysis.loops if loop.nodes for r in _Search(analysis, loop).all()]
    if sum(r.saved for r in found) < _LEAST_SAVED:
        return {}
    return {r.nodes[0][0]: r for r in found}


class _Search:
    """The repetitions of one loop."""

    def __init__(self, analysis: Analysis, loop: Loop) -> None:
        graph = analysis.graph
        self.nodes = loop.nodes
        self.ops = {i: graph.nodes[i].op for i in loop.nodes}
        self.inputs = {i: graph.nodes[i].inputs for i in loop.nodes}
        self.place = {index: place for place, index in enumerate(loop.nodes)}
        self.kinds = [_kind(analysis, loop, index) for index in loop.nodes]
        self.readers: dict[int, set[int]] = {i: set() for i in loop.nodes}
        for reader, node in enumerate(graph.nodes):
            for i in node.inputs:
                self.readers.get(i, set()).add(reader)
        self.readers[loop.last].add(len(graph.nodes))

    def all(self) -> list[Repetition]:
        """The repetition that saves most, and those of what is before and behind it."""
        return self._within(0, len(self.nodes))

    def _within(self, begin: int, end: int) -> list[Repetition]:
        best: Repetition | None = None
        for length in range(1, (end - begin) // _LEAST_COUNT + 1):
            for first in range(begin, end - _LEAST_COUNT * length + 1):
                most = ((end - first) // length - 1) * length
                if self.kinds[first] == self.kinds[first + length] and most > _saved(best):
                    found = self._at(first, length, end)
                    best = found if _saved(found) > _saved(best) else best
        if best is None:
            return []
        first, last = self.place[best.nodes[0][0]], self.place[best.nodes[-1][-1]]
        return [*self._within(begin, first), best, *self._within(last + 1, end)]

    def _at(self, first: int, length: int, end: int) -> Repetition | None:
        """The longest repetition of stretches of a length from a place on."""
        stretches = [self.nodes[first : first + length]]
        kinds = self.kinds[first : first + length]
        reads: list[Any] = []
        for begin in range(first + length, end - length + 1, length):
            stretch = self.nodes[begin : begin + length]
            read = self._reads(stretch, stretches[-1])
            if self.kinds[begin : begin + length] != kinds or read != (reads or read):
                break
            reads = read
            stretches.append(stretch)
        entering = self._entering(stretches[0], reads) if reads else {}
        while len(stretches) >= _LEAST_COUNT and not self._is_apart(stretches, set(entering)):
            stretches.pop()
        if len(stretches) < _LEAST_COUNT or not entering or self._share_layers(stretches):
            return None
        return Repetition(tuple(stretches), *zip(*sorted(entering.items()), strict=True))

    def _share_layers(self, stretches: Sequence[Sequence[int]]) -> bool:
        """Whether one layer of the first stretch stands for different ones of another."""
        alike: dict[str, set[tuple[str, ...]]] = {}
        for nodes in zip(*stretches, strict=True):
            layers = tuple(op.layer for op in map(self.ops.get, nodes) if isinstance(op, Weighted))
            if layers:
                alike.setdefault(layers[0], set()).add(layers)
        return any(len(found) > 1 for found in alike.values())

    def _reads(self, stretch: Sequence[int], before: Sequence[int]) -> list[Any]:
        """Each input of a stretch: a place in itself, one in the stretch before, or a node."""
        places: dict[int, tuple[str, int]] = {i: ("before", u) for u, i in enumerate(before)}
        places |= {i: ("here", u) for u, i in enumerate(stretch)}
        return [[places.get(i, ("node", i)) for i in self.inputs[index]] for index in stretch]

    def _entering(self, stretch: Sequence[int], reads: list[Any]) -> dict[int, int]:
        """The node that the first stretch reads in the place of each of the stretch before.

        Nothing where it does not read as the others do.
        """
        entering: dict[int, int] = {}
        nodes = set()
        for own, others in zip(self._reads(stretch, ()), reads, strict=True):
            for (where, i), (other, u) in zip(own, others, strict=True):
                if other == "before":
                    if where == "here" or i not in self.place or entering.setdefault(u, i) != i:
                        return {}
                elif (where, i) != (other, u):
                    return {}
                elif where == "node":
                    nodes.add(i)
        before = set(entering.values())
        return entering if len(before) == len(entering) and not before & nodes else {}

    def _is_apart(self, stretches: Sequence[Sequence[int]], carried: set[int]) -> bool:
        """Whether each map of a stretch is read there and in the next one alone.

        A carried one of the last stretch is at hand behind it.
        """
        for stretch, later in pairwise([*stretches, ()]):
            for place, index in enumerate(stretch):
                leaves = self.readers[index] - {*stretch, *later}
                if leaves and (later or place not in carried):
                    return False
        return True


def _saved(repetition: Repetition | None) -> int:
    return repetition.saved if repetition else 0


def _kind(analysis: Analysis, loop: Loop, index: int) -> Hashable:
    """All that the rules of a node depend on, but for numbers that they take as tensors."""
    node = analysis.graph.nodes[index]
    if index in analysis.means or index in analysis.needs_means or not node.inputs:
        return index
    sizes = tuple(analysis.graph.nodes[i].spatial for i in node.inputs)
    margin = analysis.margins.get(index)
    return type(node.op), _settings(node.op), node.spatial, sizes, loop.scales[index], margin


def _settings(op: Op) -> Sequence[Any]:
    if isinstance(op, Mixture):
        return (len(op.weights),)
    numbers = {"layer", "call"} if isinstance(op, Weighted) else set()
    return tuple(getattr(op, field.name) for field in fields(op) if field.name not in numbers)
