"""Tensors as elementwise functions of one Gaussian tensor: u * sigmoid(u), relu6(u + 3) / 6.

Branches that share a source are not independent. Where they are functions of one Gaussian tensor,
channel by channel and position by position, so are their sum and their product: one activation.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras2gp.graph.graph import Node
from keras2gp.graph.ops import (
    Activation,
    Composed,
    Kind,
    Op,
    Product,
    Rest,
    Scale,
    Shift,
    Steps,
    Sum,
)

__all__ = ["function_of", "fuse"]

_ELEMENTWISE = (Activation, Product, Scale, Shift, Sum)
_MOST_STEPS = 64


def fuse(
    op: Activation | Sum | Product,
    inputs: Sequence[int],
    nodes: Sequence[Node],
    kinds: Sequence[Kind],
) -> tuple[int, Composed] | None:
    """Fuse an op on functions of one Gaussian tensor into one activation of it.

    Returns: the Gaussian node, and the activation of it; None if the inputs are not such functions.
    """
    function = function_of(inputs, nodes, kinds)
    if function is None:
        return None
    base, steps, places = function
    return base, Composed.of((*steps, (op, places)))


def function_of(
    indices: Sequence[int], nodes: Sequence[Node], kinds: Sequence[Kind]
) -> tuple[int, Steps, tuple[int, ...]] | None:
    """Nodes as steps from the one Gaussian node that all of them are elementwise functions of.

    Returns: that node, the steps, and the place of each node among their results; None if there
        is no such node.
    """
    inner: set[int] = set()
    bases: set[int] = set()
    left = list(indices)
    while left:
        index = left.pop()
        if index in inner:
            continue
        op = nodes[index].op
        gaussian = kinds[index] is Kind.GAUSSIAN
        elementwise = isinstance(op, _ELEMENTWISE) and not isinstance(op, Rest)
        if elementwise and (not gaussian or isinstance(op, Scale)):
            inner.add(index)
            left += nodes[index].inputs
        elif gaussian:
            bases.add(index)
        else:
            return None
        if len(bases) > 1 or len(inner) > _MOST_STEPS:
            return None
    if not bases:
        return None
    (base,) = bases
    places = {base: 0}
    steps: list[tuple[Op, tuple[int, ...]]] = []
    for index in sorted(inner):
        op, read = nodes[index].op, tuple(places[i] for i in nodes[index].inputs)
        if isinstance(op, Composed):
            at = [read[0], *range(len(steps) + 1, len(steps) + 1 + len(op.steps))]
            steps += [(step, tuple(at[i] for i in taken)) for step, taken in op.steps]
        elif isinstance(op, _ELEMENTWISE):
            steps.append((op, read))
        places[index] = len(steps)
    return base, tuple(steps), tuple(places[i] for i in indices)
