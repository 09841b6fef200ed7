"""Normalisation layers, and layers that change nothing in a prediction.

Statistics over channels are taken over all of them, however wide the network: at infinite width
they are expectations. Parameters that are trained (gamma, beta) stand at their initial values; a
gamma that is drawn at random is a random factor for each channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import keras
import numpy as np

from keras2gp._util.keras_objects import KerasInitializer, KerasLayer
from keras2gp.conversion.call import Call
from keras2gp.conversion.context import Context, by_channel
from keras2gp.conversion.initial_values import (
    Moments,
    initial_constant,
    initial_constants,
    moments_of,
)
from keras2gp.conversion.tensor import Part, Tensor, merged
from keras2gp.graph.ops import Gain, Normalize

__all__ = [
    "read_batch_normalization",
    "read_cast",
    "read_group_normalization",
    "read_identity",
    "read_layer_normalization",
    "read_normalize",
    "read_rms_normalization",
    "read_unit_normalization",
    "unit_norm",
]


def read_identity(call: Call, context: Context) -> Tensor:
    """Read dropout, noise, stochastic depth or a regulariser: no change in a prediction."""
    context.became = "identity"
    return context.as_graph_tensor(call.tensors[0])


def read_cast(call: Call, context: Context) -> Tensor:
    """Read a change of dtype: none, as long as the numbers stay real."""
    dtype = getattr(call.operation, "dtype", None)
    if dtype is not None and "float" not in str(dtype):
        context.refuse(f"it rounds to {dtype}", "a dtype of real numbers")
    return read_identity(call, context)


def read_batch_normalization(call: Call, context: Context) -> Tensor:
    """Read BatchNormalization at its initial statistics: k' = gamma^2 / (variance + epsilon) k."""
    layer, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    axis = (layer.axis if isinstance(layer.axis, int) else layer.axis[0]) % (len(tensor.shape) + 1)
    whole = tensor.flat and not tensor.kept
    of_channels = whole or axis == (1 if tensor.channel_first else len(tensor.shape))
    mean = initial_constants(layer.moving_mean_initializer)
    variance = initial_constant(layer.moving_variance_initializer)
    gamma = _gamma(layer.gamma_initializer if layer.scale else None, context)
    beta = initial_constants(layer.beta_initializer) if layer.center else 0.0
    if mean is None or beta is None or variance is None:
        context.refuse(
            "its initial parameters are not constants, so that its output differs from channel to "
            "channel",
            "Keras's default initialisers",
        )
    if not of_channels and not all(isinstance(each, float) for each in (gamma, mean, beta)):
        context.refuse(
            "it has other parameters for each position, along an axis that is not the channels",
            "the axis of channels, or Keras's default initialisers",
        )
    if not 0.0 < variance + layer.epsilon < math.inf:
        context.refuse(
            f"its initial variance {variance:g} plus its epsilon {layer.epsilon:g} has no root to "
            "divide by",
            "a positive epsilon",
        )
    factor = 1.0 / math.sqrt(variance + layer.epsilon)
    if isinstance(gamma, float):
        factor *= gamma
    elif np.any(mean):
        context.refuse(
            "its initial mean is not 0, and its random gamma multiplies that: a random constant "
            "for each channel, for which there is no rule here",
            "moving_mean_initializer='zeros'",
        )
    context.became = f"factor {factor:.6g}"
    context.note = "at its initial statistics"
    tensor = context.scaled(tensor, factor)
    if isinstance(gamma, Moments):
        tensor = _gained(tensor, gamma, layer, context)
    return context.shifted(tensor, by_channel(beta - factor * mean, tensor))


def read_layer_normalization(call: Call, context: Context) -> Tensor:
    """Read LayerNormalization at its initial gamma and beta.

    Math: k' = gamma^2 (k - m1 m2) / sqrt((v1 + epsilon) (v2 + epsilon)).
    """
    layer, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    scaled_only = layer.rms_scaling  # by the deviation, whatever its name says
    gamma = layer.gamma_initializer if layer.scale or scaled_only else None
    beta = layer.beta_initializer if layer.center and not scaled_only else None
    factors = _factor(gamma, beta, context)
    op = _over(layer.axis, tensor, context)
    op = replace(op, centered=not scaled_only, deviation=True, epsilon=_epsilon(layer, context))
    return _with_gamma(_normalized(tensor, [tensor.parts], op, context), factors, call, context)


def read_group_normalization(call: Call, context: Context) -> Tensor:
    """Read GroupNormalization: as LayerNormalization, over positions and a group of channels."""
    layer, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    factors = _factor(
        layer.gamma_initializer if layer.scale else None,
        layer.beta_initializer if layer.center else None,
        context,
    )
    op = _over([layer.axis], tensor, context)
    axes = (True,) * len(op.axes)
    op = replace(op, axes=axes, centered=True, deviation=True, epsilon=_epsilon(layer, context))
    channels = int(tensor.channels or 0)
    size = channels if layer.groups == 1 else channels // layer.groups
    if layer.groups != 1 and size == 1:
        _refuse_single_channels(context)
    if layer.groups != 1 and tensor.flat:
        context.refuse(
            "its groups are cut out of a flattened tensor: each holds some of the positions",
            "the normalisation before Flatten",
        )
    runs = [tensor.parts] if layer.groups == 1 else _runs(tensor.parts, size)
    return _with_gamma(_normalized(tensor, runs, op, context), factors, call, context)


def read_rms_normalization(call: Call, context: Context) -> Tensor:
    """Read RMSNormalization: k' = k / sqrt((q1 + epsilon) (q2 + epsilon))."""
    layer, tensor = call.operation, context.as_graph_tensor(call.tensors[0])
    op = replace(_over(layer.axis, tensor, context), epsilon=_epsilon(layer, context))
    return _with_gamma(_normalized(tensor, [tensor.parts], op, context), (1.0, 0.0), call, context)


def read_unit_normalization(call: Call, context: Context) -> Tensor:
    """Read UnitNormalization over the C channels that the model has: k' = k / (C sqrt(q1 q2))."""
    return unit_norm(context.as_graph_tensor(call.tensors[0]), call.operation.axis, context)


def read_normalize(call: Call, context: Context) -> Tensor:
    """Read ops.normalize: as UnitNormalization, where its norm is that of order 2."""
    operation = call.operation
    if operation.order != 2:
        context.refuse(f"its norm is of order {operation.order}", "order=2")
    return unit_norm(context.as_graph_tensor(call.tensors[0]), operation.axis, context)


def unit_norm(tensor: Tensor, axis: Any, context: Context) -> Tensor:
    """A tensor over its norm over these axes of Keras, as many numbers as the model has there."""
    axes = _axes(axis, tensor, context)
    count = math.prod(int(tensor.shape[axis - 1] or 0) for axis in axes)
    tensor = _normalized(tensor, [tensor.parts], _over(axis, tensor, context), context)
    context.note = f"the norm is over {count} numbers, as in this model, not infinitely many"
    return context.scaled(tensor, 1.0 / math.sqrt(count))


def _axes(axis: Any, tensor: Tensor, context: Context) -> list[int]:
    """The axes of a layer as numbers from 0, the batch's included."""
    rank = len(tensor.shape) + 1
    axes = sorted({a % rank for a in ([axis] if isinstance(axis, int) else axis)})
    if 0 in axes:
        context.refuse("it normalises over the batch", "axes of one sample, such as -1")
    channels = 1 if tensor.channel_first and not tensor.flat else rank - 1
    if channels not in axes:
        _refuse_single_channels(context)
    return axes


def _refuse_single_channels(context: Context) -> NoReturn:
    context.refuse(
        "it normalises every channel by itself, by the channel's own mean and variance over "
        "positions: they stay random at infinite width, and the result is not Gaussian",
        "statistics over the channels too: LayerNormalization, or fewer groups",
    )


def _over(axis: Any, tensor: Tensor, context: Context) -> Normalize:
    """The op that divides one channel group by its root mean square over these axes of Keras."""
    axes = _axes(axis, tensor, context)
    nodes = context.state.builder.nodes
    sizes = {nodes[part.node].spatial for part in tensor.parts}
    size = context.spatial(tensor)
    if sizes != {size} or not (tensor.flat or size == tensor.spatial):
        context.refuse(
            "it takes one mean over tensors of different shapes that were flattened and joined",
            "the normalisation of each before they are joined",
        )
    first = 2 if tensor.channel_first else 1
    # What was flattened, as a whole or at each step, is of the axis of channels.
    joined = tensor.kept if tensor.flat else len(size)
    over = tuple(i >= joined or first + i in axes for i in range(len(size)))
    return Normalize(0, (1.0,), over, centered=False, deviation=False, epsilon=0.0)


def _normalized(
    tensor: Tensor, runs: Sequence[Sequence[Part]], op: Normalize, context: Context
) -> Tensor:
    """Each run of channel groups normalised by its own statistics."""
    normalized: list[Part] = []
    for run in runs:
        counts: dict[int, int] = {}
        for part in run:
            counts[part.node] = counts.get(part.node, 0) + part.channels
        nodes, total = tuple(counts), sum(counts.values())
        weights = tuple(count / total for count in counts.values())
        for part in run:
            member = replace(op, group=nodes.index(part.node), weights=weights)
            node = context.state.builder.add(member, nodes, context.path)
            normalized.append(replace(part, node=node))
    where = "channels and positions" if any(op.axes) else "channels"
    context.became = f"normalisation over {where}"
    return replace(tensor, parts=tuple(normalized) if len(runs) == 1 else merged(normalized))


def _runs(parts: Sequence[Part], size: int) -> list[list[Part]]:
    """The channel groups cut into runs of `size` channels."""
    runs: list[list[Part]] = []
    left = 0
    for part in parts:
        offset, end = part.offset, part.offset + part.channels
        while offset < end:
            if not left:
                runs.append([])
                left = size
            taken = min(end - offset, left)
            runs[-1].append(Part(part.node, taken, offset))
            offset, left = offset + taken, left - taken
    return runs


def _factor(gamma: Any, beta: Any, context: Context) -> tuple[float | Moments, float]:
    """The initial gamma and constant beta; None for an initialiser that the layer does without."""
    mean = 0.0 if beta is None else initial_constant(beta)
    if mean is None:
        _refuse_unlike_channels(context)
    return _gamma(gamma, context), mean


def _gamma(initializer: KerasInitializer, context: Context) -> float | Moments:
    """The constant that gamma starts at, or the moments of what it is drawn from."""
    factor = 1.0 if initializer is None else initial_constant(initializer)
    gamma = moments_of(initializer) if factor is None else factor
    if gamma is None or (isinstance(gamma, float) and not math.isfinite(gamma)):
        _refuse_unlike_channels(context)
    return gamma


def _refuse_unlike_channels(context: Context) -> NoReturn:
    context.refuse(
        "its initial gamma or beta is no constant, so that its output differs from channel to "
        "channel",
        "Keras's default initialisers; or a gamma that is RandomNormal, TruncatedNormal or "
        "RandomUniform, before relu, leaky_relu or weights",
    )


def _with_gamma(
    tensor: Tensor, factors: tuple[float | Moments, float], call: Call, context: Context
) -> Tensor:
    context.note = "gamma and beta at their initial values"
    gamma, beta = factors
    if isinstance(gamma, Moments):
        tensor = _gained(tensor, gamma, call.operation, context)
    elif gamma != 1.0:
        tensor = context.scaled(tensor, gamma)
    return context.shifted(tensor, beta)


def _gained(tensor: Tensor, gamma: Moments, layer: KerasLayer, context: Context) -> Tensor:
    """Multiply every channel by a random number of its own."""
    context.require_own_weights(layer, [layer.gamma])
    name = context.state.names.setdefault((id(layer), "/gamma"), context.path)
    if context.state.gammas.setdefault(name, tensor.parts) != tensor.parts:
        context.refuse(
            "its random gamma multiplies several tensors, which depend on each other by it",
            "a layer of its own for each, or a gamma that starts at a constant",
            by_shape=False,
        )
    context.note = f"{context.note}; random gamma, E[gamma^2] = {gamma.square:.6g}"
    parts, begin = [], 0
    for part in tensor.parts:
        shift = begin - part.offset
        op = Gain(f"{name}[{shift}:]" if shift else name, *gamma)
        node = context.state.builder.add(op, (part.node,), context.path)
        parts.append(replace(part, node=node))
        begin += part.channels
    return replace(tensor, parts=tuple(parts))


def _epsilon(layer: KerasLayer, context: Context) -> float:
    epsilon = keras.config.epsilon() if layer.epsilon is None else float(layer.epsilon)
    if not 0.0 <= epsilon < math.inf:
        context.refuse(f"its epsilon is {epsilon:g}", "an epsilon from 0 on")
    return epsilon
