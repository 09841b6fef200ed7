"""A graph rewritten node by node, with the random layers that each tensor depends on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from keras2gp.errors import Obstacle
from keras2gp.graph.composition import fuse
from keras2gp.graph.graph import GraphBuilder
from keras2gp.graph.independence import Origins, OtherChannels, may_depend, origins
from keras2gp.graph.ops import Activation, Kind, Op, Product, Shift, Sum
from keras2gp.graph.ops.base import WEIGHTS_FIRST

__all__ = ["Rewriting", "Terms"]

Terms = dict[int, float]
"""Coefficients of the terms of a sum, by node."""


_THE_DATA = frozenset([-1])
"""Stands for a source shared by all data tensors, so that any two of them count as dependent."""


class Rewriting:
    """A graph under construction: each node's sources, origins, kind, and whether its mean is 0.

    moves: whether an op of the network moves channels
    """

    def __init__(self, *, moves: bool) -> None:
        self.builder = GraphBuilder()
        self.sources: list[frozenset[int]] = []
        self.origins: list[Origins] = []
        self.kinds: list[Kind] = []
        self.centered: list[bool] = []
        self.shifted: dict[tuple[int, int], int] = {}
        self.moves = moves

    def _add(self, op: Op, inputs: tuple[int, ...], path: str) -> int:
        index = self.builder.add(op, inputs, path)
        if index == len(self.sources):
            sources = op.sources(index, [self.sources[i] for i in inputs])
            if self.moves and isinstance(op, OtherChannels):
                # An op that moves channels may pair channels of equal number with others.
                sources |= self.sources[inputs[0]]
            self.sources.append(sources)
            self.origins.append(origins(op, index, [self.origins[i] for i in inputs]))
            self.kinds.append(op.kind([self.kinds[i] for i in inputs]))
            self.centered.append(op.is_centered([self.centered[i] for i in inputs]))
            if self.kinds[index] is Kind.DATA:  # one tensor of data depends on another
                self.sources[index] = _THE_DATA
                self.origins[index] = frozenset((n, None) for n in _THE_DATA)
        return index

    def _shift(self, index: int, constant: float, path: str) -> int:
        return self._add(Shift(constant), (index,), path) if constant else index

    def _shifted(self, index: int, shift: int) -> int:
        """The node with its channels renumbered, down to its sources.

        A stack and no recursion: networks are deeper than Python's calls may be.
        """
        stack = [(index, shift)]
        while stack:
            key = stack[-1]
            if key in self.shifted:
                stack.pop()
                continue
            needed = self._shifted_inputs(*key)
            missing = [other for other in needed if other not in self.shifted]
            stack += reversed(missing)
            if not missing:
                self.shifted[key] = self._renumbered(*key, [self.shifted[n] for n in needed])
        return self.shifted[index, shift]

    def _shifted_inputs(self, index: int, shift: int) -> list[tuple[int, int]]:
        """The inputs of a renumbered node, each with the shift of its channels."""
        node = self.builder.nodes[index]
        if isinstance(node.op, OtherChannels):
            return [(node.inputs[0], shift + node.op.shift)]
        if shift == 0 or node.op.random:
            return []
        return [(i, shift) for i in node.inputs]

    def _renumbered(self, index: int, shift: int, inputs: Sequence[int]) -> int:
        """A node with its channels renumbered, from its renumbered inputs."""
        node = self.builder.nodes[index]
        if isinstance(node.op, OtherChannels):
            return inputs[0]
        if shift == 0:
            return index
        if node.op.random or not node.inputs:
            return self._add(OtherChannels(shift), (index,), node.path)
        return self._add(node.op, tuple(inputs), node.path)

    def _fused(
        self, op: Activation | Sum | Product, inputs: tuple[int, ...], path: str
    ) -> int | None:
        """The op as one activation of a Gaussian tensor; None if it is not one."""
        fused = fuse(op, inputs, self.builder.nodes, self.kinds)
        return None if fused is None else self._add(fused[1], (fused[0],), path)

    def _dependent_factors(self, factors: Sequence[int]) -> tuple[int, int] | None:
        for first, second in combinations(factors, 2):
            if may_depend(self.origins[first], self.origins[second]):
                return first, second
        return None

    def _has_free_factor(self, index: int, other: int) -> bool:
        """Whether a node is a product with a factor of mean 0 that does not depend on the other.

        Products that were summed over channels, or moved to other positions, count.
        """
        node = self.builder.nodes[index]
        while len(node.inputs) == 1 and (node.op.linear or node.op.single):
            node = self.builder.nodes[node.inputs[0]]
        return isinstance(node.op, Product) and any(
            self.centered[factor] and not may_depend(self.origins[factor], self.origins[other])
            for factor in node.inputs
        )

    def _parts(self, index: int, path: str) -> Terms | None:
        """The node as a sum of others: a Sum's terms, a Scale's input, L(a + b) as L(a) + L(b)."""
        node = self.builder.nodes[index]
        if node.op.sum_weights:
            return dict(zip(node.inputs, node.op.sum_weights, strict=True))
        if node.op.additive:
            inner = self._parts(node.inputs[0], path)
            if inner is not None:
                parts: Terms = {}
                for part, coefficient in inner.items():
                    moved = self._add(node.op, (part,), path)
                    parts[moved] = parts.get(moved, 0.0) + coefficient
                return parts
        return None

    def _shared_layer(
        self, pair: tuple[int, int], path: str, what: str, shared: frozenset[int], why: str
    ) -> Obstacle:
        """The obstacle of two branches that depend on the same random layers.

        what: "sum" or "product", the op on the branches
        why:  what follows from the shared layer
        shared: the nodes of the layers
        """
        if shared <= _THE_DATA:
            return Obstacle(
                path,
                f"{what} of branches that hold the input or constants",
                "both hold the input or constants themselves, in forms or products of their own, "
                "and there is no rule for what these are to each other",
                f"{WEIGHTS_FIRST}; or the sum of input and constants first",
            )
        layers = ", ".join(sorted({self.builder.nodes[i].path for i in shared - _THE_DATA}))
        ends = list(dict.fromkeys(self.builder.nodes[i].path for i in pair))
        return Obstacle(
            path,
            f"{what} of branches that {'both ' if len(ends) == 1 else ''}end in "
            f"{' and '.join(ends)}",
            f"both branches are made of the same random layer ({layers}){why}, and there is no "
            "rule for this combination",
            "weights of their own on one of the branches (a 1x1 convolution will do)",
        )
