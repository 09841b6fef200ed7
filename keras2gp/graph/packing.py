"""Masked sequences whose kept steps are moved to the front, where no op depends on their positions.

A recurrence keeps its state at a step that a mask leaves out, as if the step did not exist. So it
has the same states on a sequence whose kept steps are moved to the front. The same is true of ops
that treat all steps alike, and of means over steps. Where a sequence is read by such ops only, its
data and its mask are moved, and the graph stays: the masks then have no gaps.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keras2gp.graph.graph import Graph, GraphBuilder
from keras2gp.graph.means import Constants
from keras2gp.graph.ops import AveragePool, Flip, Input, Normalize, Op, Recurrent, Weigh

__all__ = ["HeldStates", "MaskForm", "moved_inputs", "paths_of_held_states", "without_held_states"]


class MaskForm(NamedTuple):
    """An input of the graph that is made of a mask.

    mask:           which mask
    reversed_steps: whether its steps run backwards
    """

    mask: Hashable
    reversed_steps: bool


@dataclass(frozen=True)
class HeldStates(Weigh):
    """States of a recurrence that stand still where a mask leaves a step out.

    Weigh takes its place if no op depends on those steps.
    """


class _Steps(NamedTuple):
    """The facts about a tensor whose steps were moved.

    reversed_steps: whether the steps run backwards
    complete:       whether all steps have their values, in another order; else only those steps
                    have them that the mask keeps
    """

    reversed_steps: bool
    complete: bool


class _OrderMattersError(Exception):
    """An op depends on the positions of its steps, or on steps that a mask leaves out."""


def moved_inputs(graph: Graph, forms: Mapping[int, MaskForm], mask: Hashable) -> frozenset[int]:
    """The Input.index of all data whose steps are moved; empty if an op depends on their order.

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
                reversed_steps = form is not None and form.reversed_steps
                known = _Steps(reversed_steps, form is not None) if node.op.index in moved else None
            else:
                known = _steps_after(
                    node.op, [steps[i] for i in node.inputs], node.inputs, graph, forms
                )
            steps.append(known)
    except _OrderMattersError:
        return frozenset()
    return frozenset() if steps[graph.output] is not None else frozenset(moved)


def paths_of_held_states(graph: Graph) -> list[str]:
    """The paths of the layers whose states stand still at steps that a mask leaves out."""
    return list(dict.fromkeys(node.path for node in graph.nodes if isinstance(node.op, HeldStates)))


def without_held_states(
    graph: Graph, masks: Collection[Hashable], forms: Mapping[int, MaskForm]
) -> Graph:
    """The graph with Weigh in the place of every HeldStates op of one of these masks."""
    builder, renamed = GraphBuilder(), list[int]()
    for node in graph.nodes:
        op: Op = node.op
        if isinstance(op, HeldStates) and _form(node.inputs[1], graph, forms).mask in masks:
            op = Weigh()
        renamed.append(builder.add(op, tuple(renamed[i] for i in node.inputs), node.path))
    return Graph(tuple(builder.nodes), renamed[graph.output], graph.between)


def _is_masked(op: Op, inputs: Sequence[int]) -> bool:
    """Whether it is a recurrence along the first axis, with a mask."""
    return isinstance(op, Recurrent) and len(inputs) == 2 and op.axis == 0


def _form(index: int, graph: Graph, forms: Mapping[int, MaskForm]) -> MaskForm:
    """The mask that a node is. Raises: _OrderMattersError if it is not a mask."""
    op = graph.nodes[index].op
    if not isinstance(op, Input) or op.index not in forms:
        raise _OrderMattersError
    return forms[op.index]


def _steps_after(
    op: Op,
    known: Sequence[_Steps | None],
    inputs: Sequence[int],
    graph: Graph,
    forms: Mapping[int, MaskForm],
) -> _Steps | None:
    """The facts after an op; None for a tensor that does not depend on the order of the steps.

    Raises: _OrderMattersError if the op depends on the order.
    """
    moved = [steps for steps in known if steps is not None]
    if not moved:
        return None
    reversed_steps, complete = moved[0].reversed_steps, all(steps.complete for steps in moved)
    if isinstance(op, AveragePool):
        length = graph.nodes[inputs[0]].spatial[0]
        if complete and op.window[0] == length and op.pads[0] == (0, 0):
            return None
        raise _OrderMattersError
    if isinstance(op, Flip):
        return _Steps(reversed_steps != op.axes[0], complete)
    if len(moved) < len(known) or len({steps.reversed_steps for steps in moved}) > 1:
        raise _OrderMattersError
    if isinstance(op, Recurrent):
        if not _is_masked(op, inputs):
            raise _OrderMattersError
        _form(inputs[1], graph, forms)
        return _Steps(reversed_steps, False)
    if isinstance(op, Weigh) and _is_mask(inputs[1], graph, forms):
        return _Steps(reversed_steps, not isinstance(op, HeldStates))
    each = isinstance(op, Normalize) and not op.axes[0]
    if (op.pointwise or each) and not isinstance(op, Constants):
        return _Steps(reversed_steps, complete)
    raise _OrderMattersError


def _is_mask(index: int, graph: Graph, forms: Mapping[int, MaskForm]) -> bool:
    op = graph.nodes[index].op
    return isinstance(op, Input) and op.index in forms
