"""Larger and smaller: of a tensor and a number, which is an activation, or of two branches.

The larger of two Gaussian tensors is half of their sum plus half of the size of their difference:
max(a, b) = (a + b) / 2 + |a - b| / 2. The two halves are uncorrelated, since the second is even.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context
from keras2gp.conversion.layers.activation import bounded
from keras2gp.conversion.layers.branches import combined, keep_shape, number_of, of_one_shape
from keras2gp.conversion.tensor import Tensor
from keras2gp.graph.ops import Activation, Sum

__all__ = ["read_clip", "read_maximum", "read_minimum"]


def read_maximum(call: Call, context: Context) -> Tensor:
    """Read the larger of two branches, or of a tensor and a number."""
    return _extreme(call, context, 1.0)


def read_minimum(call: Call, context: Context) -> Tensor:
    """Read the smaller of two branches, or of a tensor and a number."""
    return _extreme(call, context, -1.0)


def read_clip(call: Call, context: Context) -> Tensor:
    """Read ops.clip between two numbers: relu with a bound, moved."""
    operation, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    low, high = (number_of(value, context) for value in (operation.x_min, operation.x_max))
    if not low < high:
        context.refuse(
            f"its lower bound {low:g} is not below its upper one {high:g}", "such bounds"
        )
    context.became = f"between {low:g} and {high:g}"
    inside = context.activated(bounded(high - low), context.shifted(tensor, -low))
    return context.shifted(inside, low)


def _extreme(call: Call, context: Context, sign: float) -> Tensor:
    """sign times the larger of sign times each."""
    name = "larger" if sign > 0 else "smaller"
    if len(call.tensors) == 1:
        return _of_a_number(call, context, sign, name)
    if len(call.tensors) > 2:
        context.refuse(
            f"the {name} of more than two random variables is not Gaussian, and has no closed form "
            "here",
            "two branches, or Add or Average of all",
        )
    tensors = of_one_shape(call, context)
    keep_shape(call, tensors[0], context)
    context.became = f"the {name} of 2 branches"
    distance = context.apply(Activation("abs"), _sum((1.0, -1.0), tensors, context))
    return _sum((0.5, 0.5, sign / 2), [*tensors, distance], context)


def _sum(coefficients: tuple[float, ...], tensors: Sequence[Tensor], context: Context) -> Tensor:
    return combined(Sum(coefficients), tensors, context)


def _of_a_number(call: Call, context: Context, sign: float, name: str) -> Tensor:
    """max(x, c) = relu(x - c) + c, and min(x, c) = c - relu(c - x)."""
    values = [*call.args, *call.kwargs.values()]
    number = number_of(next(v for v in values if not isinstance(v, Tensor)), context)
    tensor = context.as_graph_tensor(call.tensors[0])
    keep_shape(call, tensor, context)
    moved = context.shifted(_times(sign, tensor, context), -sign * number)
    above = context.activated(Activation("relu"), moved)
    context.became = f"the {name} of it and {number:g}"
    return context.shifted(_times(sign, above, context), number)


def _times(sign: float, tensor: Tensor, context: Context) -> Tensor:
    return tensor if sign > 0 else context.scaled(tensor, sign)
