"""Sums, differences and averages of branches, and products with a constant."""

from __future__ import annotations

from typing import Any, NoReturn

import keras
import numpy as np

from keras2gp.frontend.context import Call, Context
from keras2gp.frontend.registry import reader
from keras2gp.frontend.tensor import Part, Tensor
from keras2gp.graph.ops import Scale, Sum

__all__ = ["read_add", "read_average", "read_product", "read_subtract"]


@reader(keras.layers.Add, "Add")
def read_add(call: Call, context: Context) -> Tensor:
    """Sum of branches: covariances of independent branches add, equal ones add coefficients."""
    return _sum(call, context, [1.0] * len(_terms(call, context)))


@reader(keras.layers.Subtract, "Subtract")
def read_subtract(call: Call, context: Context) -> Tensor:
    """Difference of two branches: as a sum, the second with coefficient -1."""
    count = len(_terms(call, context))
    signs = [1.0, -1.0] if count == 2 or isinstance(call.args[0], Tensor) else [-1.0]
    return _sum(call, context, signs[:count])


@reader(keras.layers.Average)
def read_average(call: Call, context: Context) -> Tensor:
    """Mean of branches: as a sum with coefficients 1/n."""
    count = len(call.tensors)
    return _sum(call, context, [1.0 / count] * count)


@reader("Multiply", "Divide", "TrueDivide", "Negative")
def read_product(call: Call, context: Context) -> Tensor:
    """A constant times a tensor: k' = factor^2 k."""
    tensor = context.gathered(call.tensors[0])
    factor = -1.0
    if type(call.operation).__name__ != "Negative":
        if len(call.tensors) != 1:
            _refuse_product(context)
        values = [*call.args, *call.kwargs.values()]
        factor = _number(next(v for v in values if not isinstance(v, Tensor)), context)
        if type(call.operation).__name__ in ("Divide", "TrueDivide"):
            if not isinstance(values[0], Tensor) or factor == 0.0:
                context.refuse("a quotient with a random denominator, or by zero")
            factor = 1.0 / factor
    _keep_shape(call, tensor, context)
    context.became = f"factor {factor:g}"
    return context.apply(Scale(factor), tensor)


def _refuse_product(context: Context) -> NoReturn:
    context.refuse(
        "a product of two random branches has no Gaussian limit here",
        "a sum, or a constant factor",
    )


@reader(keras.layers.Multiply)
def read_multiply_layer(call: Call, context: Context) -> Tensor:
    """Refused: a product of random branches."""
    del call
    _refuse_product(context)


def _keep_shape(call: Call, tensor: Tensor, context: Context) -> None:
    if call.output != tensor.shape:
        context.refuse(
            f"its constant makes {call.output} of {tensor.shape}: axes are added to the batch's",
            "a constant without axes",
        )


def _number(value: Any, context: Context) -> float:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.size != 1 or not np.isfinite(array).all():
        context.refuse("its constant is not one finite number", "a single number")
    return float(array.reshape(()))


def _terms(call: Call, context: Context) -> list[Tensor]:
    """The tensors of a sum; a constant is let in only if it is 0."""
    if isinstance(call.operation, keras.Layer):
        return call.tensors
    constants = [v for v in [*call.args, *call.kwargs.values()] if not isinstance(v, Tensor)]
    if any(_number(value, context) != 0.0 for value in constants):
        context.refuse(
            "adding a constant gives the tensor a mean, and there is no rule for that",
            "biases (use_bias=True)",
        )
    return call.tensors


def _sum(call: Call, context: Context, coefficients: list[float]) -> Tensor:
    tensors = [context.gathered(t) for t in call.tensors]
    first = tensors[0]
    for tensor in tensors[1:]:
        if tensor.shape != first.shape or tensor.channel_first != first.channel_first:
            context.refuse(
                f"the branches have different shapes {first.shape} and {tensor.shape}: what is "
                "broadcast shares its randomness across positions or channels",
                "branches of equal shapes",
            )
        if [p.channels for p in tensor.parts] != [p.channels for p in first.parts]:
            context.refuse(
                "the branches are concatenated from different channel groups",
                "a 1x1 convolution on a concatenated branch before the sum",
            )
    _keep_shape(call, first, context)
    builder = context.state.builder
    parts = []
    for group in zip(*(t.parts for t in tensors), strict=True):
        nodes = tuple(part.node for part in group)
        node = builder.add(Sum(tuple(coefficients)), nodes, context.path)
        parts.append(Part(node, group[0].channels))
    context.became = f"sum of {len(tensors)} branches"
    flat = any(t.flat for t in tensors)
    return Tensor(call.output, tuple(parts), channel_first=first.channel_first, flat=flat)
