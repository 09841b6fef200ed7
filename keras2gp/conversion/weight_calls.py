"""Calls on weights of a user's own: what they compute, and the calls that stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras2gp._util.keras_objects import KerasNode, KerasOperation, KerasVariable
from keras2gp.conversion.derived_weights import turned

__all__ = [
    "StandIn",
    "is_pair",
    "last_of",
    "matrix_of",
    "sums_positions",
    "uses_of",
    "variables_of",
]


@dataclass(frozen=True, eq=False)
class StandIn:
    """A record of a call of one of Keras's layers that was not made, as Keras's own records are.

    arguments: Keras's, of the call
    outputs:   the results of the calls that it stands for
    """

    operation: KerasOperation
    arguments: Any
    outputs: Sequence[Any]

    @property
    def input_tensors(self) -> list[Any]:
        """The symbolic tensors of the call."""
        tensors: list[Any] = self.arguments.keras_tensors
        return tensors


def variables_of(node: KerasNode) -> list[Any]:
    """The weights among the arguments of a call."""
    arguments = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    return [value for value in arguments if isinstance(value, keras.Variable)]


def matrix_of(node: KerasNode, weight: KerasVariable) -> Any | None:
    """The matrix w of a call that is x @ w, as matmul, dot, tensordot or einsum; None for others.

    It is the weight, or the weight with its axes exchanged where the call sums over its columns.
    """
    operation, name = node.operation, type(node.operation).__name__
    rank = len(node.arguments.keras_tensors[0].shape)
    if len(weight.shape) != 2 or rank < 2:
        return None
    if name in ("Matmul", "Dot"):
        return weight
    summed = None
    if name == "Tensordot":
        axes = operation.axes
        if isinstance(axes, int):
            return weight if axes == 1 else None
        own, others = (np.ravel(each).tolist() for each in axes)
        if own in ([-1], [rank - 1]) and len(others) == 1:
            summed = others[0] % 2
    if name == "Einsum":
        (tensor, matrix), result = _letters(operation)
        letters = tensor.replace("...", "")
        if len(matrix) == 2 and matrix.isalpha() and letters[-1:] in set(matrix):
            summed = matrix.index(letters[-1])
            column = matrix[1 - summed]
            alone = len({*letters, column}) == len(letters) + 1
            summed = summed if alone and result == tensor[:-1] + column else None
    return None if summed is None else weight if summed == 0 else turned(weight, (1, 0))


def sums_positions(node: KerasNode, weight: KerasVariable) -> bool:
    """Whether a call is w @ x, or an einsum that sums neither channels nor images of a tensor."""
    tensors, name = node.arguments.keras_tensors, type(node.operation).__name__
    if len(tensors) != 1 or len(tensors[0].shape) < 3:
        return False
    args = keras.tree.flatten(node.arguments.args)
    if name != "Einsum":
        return name == "Matmul" and len(args) == 2 and args[0] is weight
    terms, result = _letters(node.operation)
    letters = dict(zip(map(id, args), terms, strict=False))
    own, others = letters.get(id(weight), ""), letters.get(id(tensors[0]), "")
    summed = (set(own) & set(others)) - set(result)
    return bool(summed) and not summed & {others[0], others[-1]}


def _letters(operation: KerasOperation) -> tuple[list[str], str]:
    """The letters of the arguments of an einsum, and those of its result."""
    sources, _, result = operation.subscripts.replace(" ", "").partition("->")
    return sources.split(","), result


def is_pair(node: KerasNode, weight: KerasVariable) -> bool:
    """Whether a call is of a tensor and a weight, in this order unless that makes no difference."""
    args = node.arguments.args
    if len(args) == 2 and type(node.operation).__name__ in ("Add", "Multiply"):
        args = args if args[1] is weight else args[::-1]
    tensor = len(args) == 2 and isinstance(args[0], keras.KerasTensor)
    return tensor and args[1] is weight


def uses_of(weight: KerasVariable, nodes: Sequence[Any]) -> list[Any]:
    """The calls on a weight."""
    return [node for node in nodes if any(v is weight for v in variables_of(node))]


def last_of(node: KerasNode, nodes: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """The call that adds biases, one for each unit, to the result of another, and nothing else."""
    result = node.outputs[0]
    after = [n for n in nodes if any(t is result for t in n.input_tensors)]
    if len(after) != 1 or any(result is t for t in outputs):
        return node
    found = variables_of(after[0])
    alone = len(found) == 1 and type(after[0].operation).__name__ == "Add"
    fits = alone and is_pair(after[0], found[0])
    return after[0] if fits and tuple(found[0].shape) == result.shape[-1:] else node
