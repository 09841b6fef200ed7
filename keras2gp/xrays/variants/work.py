"""The cost of a kernel's entries: maps that its forward pass computes, by their ops."""

from __future__ import annotations

import math

from keras2gp.graph.graph import Graph, Node
from keras2gp.graph.offsets import Loop
from keras2gp.graph.ops import Activation
from keras2gp.kernel.kernel import Kernel

__all__ = ["entries_of", "work_of", "work_of_loops"]

_ENTRIES = {
    **dict.fromkeys(("relu", "leaky_relu", "abs", "linear", "sign"), 1.0),
    "relu6": 1.6,
    "gelu": 4.3,
    "sigmoid": 4.6,
    "silu": 5.5,
    "softplus": 8.2,
    "tanh": 12.0,
    "hard_sigmoid": 14.0,
    "hard_tanh": 27.0,
}
"""Time of one entry of an activation, in that of ReLU: a ReLU is one of three entries of a layer
(the window, the weights, the activation), so that networks that take r times as long as those with
ReLU have activations of 1 + 3 (r - 1) (docs/benchmarks/speed.md)."""
_OTHER = 12.0


def work_of(kernel: Kernel) -> float:
    """Work of one pair of images, in entries of maps: about a nanosecond of a core each."""
    return sum(work_of_loops(kernel))


def work_of_loops(kernel: Kernel) -> list[float]:
    """Work of one pair of images in each loop of the forward pass, in entries of maps."""
    return [_work(kernel.graph, loop) for loop in kernel.program.program.analysis.loops]


def _work(graph: Graph, loop: Loop) -> float:
    return len(loop.turns) * sum(entries_of(graph.nodes[i]) for i in loop.nodes)


def entries_of(node: Node) -> float:
    """Work of one pair of images at a node, at one offset, in entries of maps."""
    function = node.op.function
    cost = _ENTRIES.get(function.name, _OTHER) if isinstance(function, Activation) else 1.0
    return cost * math.prod(node.spatial)
