"""Activations at the output of a graph, which are left out: those of one head or of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from keras2gp.graph.graph import Graph, Node
from keras2gp.graph.ops import (
    Activation,
    Axes,
    Crop,
    Flip,
    Op,
    Pad,
    Patches,
    Permute,
    Reshape,
    Scale,
    Select,
    Shift,
    Shuffle,
    Spread,
    Sum,
)

__all__ = ["without_output_activation"]

_OUTPUT_ACTIVATIONS = ("softmax", "sigmoid", "tanh", "log_softmax", "log_sigmoid")
_OF_PARAMETERS = ("exp", "exponential", "softplus")
"""Functions that make a parameter of a distribution, one of several heads, a positive number."""


def without_output_activation(graph: Graph) -> tuple[Graph, list[str], tuple[str, ...]]:
    """Remove a softmax, sigmoid or tanh at the output, which makes values in an interval of it.

    Ops that only move positions may come after it: they act on its argument as they act on it. So
    may a join of several heads, of which some end in such an activation. Factors and constants
    after it, as in 2 tanh(u), are left out with it. Of several heads, which are parameters of a
    distribution, exp, softplus, elu + constant and clip are left out too.

    Returns: the graph, notes, and the activations' paths if there are such ops
    """
    last = graph.output
    while isinstance(graph.nodes[last].op, Scale | Shift):
        (last,) = graph.nodes[last].inputs
    heads, scaled = _Heads(graph), last != graph.output
    output = heads.stripped(last)
    if not heads.removed or (scaled and heads.joined):
        return graph, [], ()
    more = ", with the factor and constant after it"
    notes = [
        f"{node.op.name} at the output ({node.path}) removed"
        f"{more if scaled or node in heads.moved else ''}: the kernel is of its argument"
        for node in heads.removed
        if isinstance(node.op, Activation)
    ]
    after = not isinstance(graph.nodes[last].op, Activation)
    paths = tuple(node.path for node in heads.removed) if after else ()
    return replace(graph, nodes=tuple(heads.nodes)).pruned(output), notes, paths


class _Heads:
    """Takes the activations off the heads of an output.

    nodes:   those of the graph, and the new ones
    removed: the activations that are left out, and factors and constants after them
    moved:   those activations that have such
    joined:  whether there are several heads
    """

    def __init__(self, graph: Graph) -> None:
        self.nodes, self.joined = list(graph.nodes), False
        self.removed: list[Node] = []
        self.moved: list[Node] = []
        self._known = {(node.op, node.inputs): index for index, node in enumerate(graph.nodes)}
        self._readers = Counter(index for node in graph.nodes for index in node.inputs)

    def stripped(self, index: int) -> int:
        """The node that takes the place of one."""
        node = self.nodes[index]
        if self.joined and (chain := self._parameter(index)):
            self.removed += [each for each in chain if each not in self.removed]
            self.moved += chain[1:]
            return self.stripped(chain[-1].inputs[0])
        if isinstance(node.op, Activation) and node.op.name in _OUTPUT_ACTIVATIONS:
            if self._readers[index] > 1:  # Something else than the output is made of it.
                return index
            self.removed += [] if node in self.removed else [node]
            return node.inputs[0]
        if _is_join(self.nodes, index):
            self.joined = True
            inputs = tuple(map(self._padded, node.inputs))
        elif _moves_positions(node.op):
            inputs = (self.stripped(node.inputs[0]),)
        else:
            return index
        return self._with_inputs(index, inputs)

    def _parameter(self, index: int) -> list[Node]:
        """The last ops of a head, from the last one on, if they map a number into an interval.

        Such heads make the parameters of a distribution: a standard deviation by softplus, a
        probability by sigmoid, a number between two bounds. Other heads give an empty list.
        """
        after, index = self._affine(index)
        node = self.nodes[index]
        if not isinstance(node.op, Activation) or self._readers[index] > 1:
            return []
        if node.op.name == "clipped_relu":
            before, _ = self._affine(node.inputs[0])
            return [*after, node, *before] if after and before else []
        moved = node.op.name == "elu" and any(isinstance(each.op, Shift) for each in after)
        known = node.op.name in _OUTPUT_ACTIVATIONS or node.op.name in _OF_PARAMETERS
        return [*after, node] if moved or known else []

    def _affine(self, index: int) -> tuple[list[Node], int]:
        """Factors of a node and constants that are added, from the last one on, and that node."""
        found: list[Node] = []
        while self._readers[index] <= 1:
            op = self.nodes[index].op
            if not isinstance(op, Shift) and not (isinstance(op, Scale) and op.factor):
                break
            found.append(self.nodes[index])
            (index,) = found[-1].inputs
        return found, index

    def _padded(self, index: int) -> int:
        """`stripped` of a head that is padded with zeros in the places of other heads."""
        return self._with_inputs(index, (self.stripped(self.nodes[index].inputs[0]),))

    def _with_inputs(self, index: int, inputs: tuple[int, ...]) -> int:
        node = self.nodes[index]
        if (node.op, inputs) not in self._known:
            self._known[node.op, inputs] = len(self.nodes)
            self.nodes.append(replace(node, inputs=inputs))
        return self._known[node.op, inputs]


def _is_join(nodes: Sequence[Node], index: int) -> bool:
    """Whether a node is others side by side along an axis: a sum of each with zeros around it."""
    node = nodes[index]
    if not isinstance(node.op, Sum) or set(node.op.coefficients) != {1.0}:
        return False
    places = []
    for source in node.inputs:
        pad = nodes[source]
        if not isinstance(pad.op, Pad):
            return False
        sizes = nodes[pad.inputs[0]].spatial
        places.append([(n, *ends) for n, ends in zip(sizes, pad.op.pads, strict=True)])
    padded = {axis for place in places for axis, (_, *ends) in enumerate(place) if any(ends)}
    if len(padded) != 1:
        return False
    (axis,), end = padded, 0
    for size, before, _ in sorted((place[axis] for place in places), key=lambda place: place[1]):
        if before != end:
            return False
        end += size
    return end == node.spatial[axis]


def _moves_positions(op: Op) -> bool:
    """Whether an op gives numbers of its input, in other places or fewer of them."""
    single = isinstance(op, Patches) and op.taps == 1 and not op.reads_outside
    return single or isinstance(
        op, Axes | Crop | Flip | Permute | Reshape | Select | Shuffle | Spread
    )
