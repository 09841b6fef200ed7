"""Masks with gaps: sequences whose steps are moved together.

A recurrence keeps its state at a step that a mask leaves out, as if that step were none. So it has
the same states on a sequence whose steps are moved to the front, and so has all that acts on every
step alike, or takes a mean over steps. Where nothing else is made of the steps, the data and the
mask are moved, and the graph stays: its masks then have no gaps.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keras2gp.graph.graph import Graph, GraphBuilder
from keras2gp.graph.means import Constants
from keras2gp.graph.ops import AveragePool, Flip, Input, Normalize, Op, Recurrent, Weigh

__all__ = ["Held", "MaskForm", "moved_inputs", "paths_of_held", "without_held"]


class MaskForm(NamedTuple):
    """An input of the graph that is made of a mask.

    mask:  which mask
    turns: whether its steps run backwards
    """

    mask: Hashable
    turns: bool


@dataclass(frozen=True)
class Held(Weigh):
    """States of a recurrence that stand still where a mask leaves a step out.

    Weigh is in its place if nothing takes notice of those steps.
    """


class _Steps(NamedTuple):
    """The facts about a tensor of steps that were moved.

    turns: whether they run backwards
    whole: whether it is the tensor as it was but for the order of its steps; else this is known
           of the steps that the mask leaves in
    """

    turns: bool
    whole: bool


class _FixedError(Exception):
    """An op takes notice of where its steps are, or of those that a mask leaves out."""


def moved_inputs(graph: Graph, forms: Mapping[int, MaskForm], mask: Hashable) -> frozenset[int]:
    """The Input.index of all data whose steps are to be moved; none if they may not be.

    forms: the inputs that are masks, by Input.index
    """
    nodes = graph.nodes
    left = [i for i, node in enumerate(nodes) if _is_masked(node.op, node.inputs)]
    lengths = {nodes[i].spatial[0] for i in left}
    seen: set[int] = set()
    while left:
        index = left.pop()
        if index not in seen:
            seen.add(index)
            left += nodes[index].inputs
    moved = {
        op.index
        for op in (nodes[i].op for i in seen)
        if isinstance(op, Input) and op.size[:1] and op.size[0] in lengths
    }
    moved = {i for i in moved if forms.get(i, MaskForm(mask, False)).mask == mask}
    moved |= {op.index for op in graph.inputs if op.index in forms and forms[op.index].mask == mask}
    steps: list[_Steps | None] = []
    try:
        for node in nodes:
            if isinstance(node.op, Input):
                form = forms.get(node.op.index)
                turns = form is not None and form.turns
                known = _Steps(turns, form is not None) if node.op.index in moved else None
            else:
                known = _after(node.op, [steps[i] for i in node.inputs], node.inputs, graph, forms)
            steps.append(known)
    except _FixedError:
        return frozenset()
    return frozenset() if steps[graph.output] is not None else frozenset(moved)


def paths_of_held(graph: Graph) -> list[str]:
    """The layers whose states stand still."""
    return list(dict.fromkeys(node.path for node in graph.nodes if isinstance(node.op, Held)))


def without_held(graph: Graph, masks: Collection[Hashable], forms: Mapping[int, MaskForm]) -> Graph:
    """The graph with Weigh in the place of every Held of one of these masks."""
    builder, renamed = GraphBuilder(), list[int]()
    for node in graph.nodes:
        op: Op = node.op
        if isinstance(op, Held) and _form(node.inputs[1], graph, forms).mask in masks:
            op = Weigh()
        renamed.append(builder.add(op, tuple(renamed[i] for i in node.inputs), node.path))
    return Graph(tuple(builder.nodes), renamed[graph.output], graph.between)


def _is_masked(op: Op, inputs: Sequence[int]) -> bool:
    """Whether it is a recurrence along the first axis, with a mask."""
    return isinstance(op, Recurrent) and len(inputs) == 2 and op.axis == 0


def _form(index: int, graph: Graph, forms: Mapping[int, MaskForm]) -> MaskForm:
    """The mask that a node is. Raises: _FixedError if it is none."""
    op = graph.nodes[index].op
    if not isinstance(op, Input) or op.index not in forms:
        raise _FixedError
    return forms[op.index]


def _after(
    op: Op,
    known: Sequence[_Steps | None],
    inputs: Sequence[int],
    graph: Graph,
    forms: Mapping[int, MaskForm],
) -> _Steps | None:
    """The facts after an op; None of a tensor that the order of the steps does not matter to.

    Raises: _FixedError if it matters.
    """
    moved = [steps for steps in known if steps is not None]
    if not moved:
        return None
    turns, whole = moved[0].turns, all(steps.whole for steps in moved)
    if isinstance(op, AveragePool):
        length = graph.nodes[inputs[0]].spatial[0]
        if whole and op.window[0] == length and op.pads[0] == (0, 0):
            return None
        raise _FixedError
    if isinstance(op, Flip):
        return _Steps(turns != op.axes[0], whole)
    if len(moved) < len(known) or len({steps.turns for steps in moved}) > 1:
        raise _FixedError
    if isinstance(op, Recurrent):
        if not _is_masked(op, inputs):
            raise _FixedError
        _form(inputs[1], graph, forms)
        return _Steps(turns, False)
    if isinstance(op, Weigh) and _is_mask(inputs[1], graph, forms):
        return _Steps(turns, not isinstance(op, Held))
    each = isinstance(op, Normalize) and not op.axes[0]
    if (op.pointwise or each) and not isinstance(op, Constants):
        return _Steps(turns, whole)
    raise _FixedError


def _is_mask(index: int, graph: Graph, forms: Mapping[int, MaskForm]) -> bool:
    op = graph.nodes[index].op
    return isinstance(op, Input) and op.index in forms
