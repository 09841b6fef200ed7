"""Normalisation, layers that do nothing to a prediction, and what Keras runs on data.

Statistics over channels are taken over all of them, however wide the network: at infinite width
they are expectations. Parameters that are trained (gamma, beta) stand at their initial values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import keras

from keras2gp.conversion.context import Call, Context
from keras2gp.conversion.registry import deterministic, reader
from keras2gp.conversion.tensor import Part, Tensor
from keras2gp.graph.features import Normalize
from keras2gp.graph.ops import Scale

__all__ = [
    "read_batch_normalization",
    "read_group_normalization",
    "read_identity",
    "read_layer_normalization",
    "read_rms_normalization",
    "read_unit_normalization",
]


@reader(
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)
def read_identity(call: Call, context: Context) -> Tensor:
    """Does nothing to a prediction: dropout, noise, regularisation of activities."""
    context.became = "identity"
    return context.gathered(call.tensors[0])


@reader(keras.layers.BatchNormalization)
def read_batch_normalization(call: Call, context: Context) -> Tensor:
    """At its initial statistics: k' = gamma^2 / (variance + epsilon) k."""
    layer, tensor = call.operation, context.gathered(call.tensors[0])
    axis = (layer.axis if isinstance(layer.axis, int) else layer.axis[0]) % (len(tensor.shape) + 1)
    if not tensor.flat and axis != (1 if tensor.channel_first else len(tensor.shape)):
        context.refuse("it normalises along an axis that is not the channels", "axis of channels")
    mean = _initial(layer.moving_mean_initializer)
    variance = _initial(layer.moving_variance_initializer)
    gamma = _initial(layer.gamma_initializer) if layer.scale else 1.0
    beta = _initial(layer.beta_initializer) if layer.center else 0.0
    if mean != 0.0 or beta != 0.0 or gamma is None or variance is None or variance < 0.0:
        context.refuse(
            "its initial parameters are not constants with zero mean, so that its output has a "
            "mean or differs from channel to channel",
            "Keras's default initialisers",
        )
    factor = gamma / math.sqrt(variance + layer.epsilon)
    context.became = f"factor {factor:.6g}"
    context.note = "at its initial statistics"
    return context.apply(Scale(factor), tensor)


@reader(keras.layers.LayerNormalization)
def read_layer_normalization(call: Call, context: Context) -> Tensor:
    """At initial gamma and beta: k' = gamma^2 (k - m1 m2) / sqrt((v1 + epsilon) (v2 + epsilon))."""
    layer, tensor = call.operation, context.gathered(call.tensors[0])
    scaled_only = layer.rms_scaling  # by the deviation, whatever its name says
    gamma = layer.gamma_initializer if layer.scale or scaled_only else None
    beta = layer.beta_initializer if layer.center and not scaled_only else None
    factor = _factor(gamma, beta, context)
    op = _over(layer.axis, tensor, context)
    op = replace(op, centered=not scaled_only, deviation=True, epsilon=_epsilon(layer, context))
    return _scaled(_normalized(tensor, [tensor.parts], op, context), factor, context)


@reader(keras.layers.GroupNormalization)
def read_group_normalization(call: Call, context: Context) -> Tensor:
    """As LayerNormalization over positions and a group of the channels, which all grow."""
    layer, tensor = call.operation, context.gathered(call.tensors[0])
    factor = _factor(
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
    return _scaled(_normalized(tensor, runs, op, context), factor, context)


@reader(keras.layers.RMSNormalization)
def read_rms_normalization(call: Call, context: Context) -> Tensor:
    """Over channels, or all of a sample: k' = k / sqrt((q1 + epsilon) (q2 + epsilon))."""
    layer, tensor = call.operation, context.gathered(call.tensors[0])
    op = replace(_over(layer.axis, tensor, context), epsilon=_epsilon(layer, context))
    return _scaled(_normalized(tensor, [tensor.parts], op, context), 1.0, context)


@reader(keras.layers.UnitNormalization)
def read_unit_normalization(call: Call, context: Context) -> Tensor:
    """To the norm 1 over the C channels that the model has: k' = k / (C sqrt(q1 q2))."""
    layer, tensor = call.operation, context.gathered(call.tensors[0])
    axes = _axes(layer.axis, tensor, context)
    count = math.prod(int(tensor.shape[axis - 1] or 0) for axis in axes)
    tensor = _normalized(tensor, [tensor.parts], _over(layer.axis, tensor, context), context)
    context.note = f"the norm is over {count} numbers, as in this model, not infinitely many"
    return context.apply(Scale(1.0 / math.sqrt(count)), tensor)


def _axes(axis: Any, tensor: Tensor, context: Context) -> list[int]:
    """Keras's axes, counted with that of the batch, from 0."""
    rank = len(tensor.shape) + 1
    axes = sorted({a % rank for a in ([axis] if isinstance(axis, int) else axis)})
    if 0 in axes:
        context.refuse("it normalises over the batch", "axes of one sample, such as -1")
    channels = 1 if tensor.flat or tensor.channel_first else rank - 1
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
    """Division by the root mean square over these axes of Keras, of one channel group."""
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
    over = tuple(tensor.flat or first + i in axes for i in range(len(size)))
    return Normalize(0, (1.0,), over, centered=False, deviation=False, epsilon=0.0)


def _normalized(
    tensor: Tensor, runs: Sequence[Sequence[Part]], op: Normalize, context: Context
) -> Tensor:
    """Each run of channel groups normalised by its own statistics."""
    made: list[Part] = []
    for run in runs:
        total = sum(part.channels for part in run)
        weights = tuple(part.channels / total for part in run)
        nodes = tuple(part.node for part in run)
        for group, part in enumerate(run):
            member = replace(op, group=group, weights=weights)
            node = context.state.builder.add(member, nodes, context.path)
            made.append(Part(node, part.channels))
    where = "channels and positions" if any(op.axes) else "channels"
    context.became = f"normalisation over {where}"
    return replace(tensor, parts=tuple(made) if len(runs) == 1 else _merged(made))


def _runs(parts: Sequence[Part], size: int) -> list[list[Part]]:
    """The channel groups cut into runs of `size` channels."""
    runs: list[list[Part]] = []
    left = 0
    for part in parts:
        rest = part.channels
        while rest:
            if not left:
                runs.append([])
                left = size
            taken = min(rest, left)
            runs[-1].append(Part(part.node, taken))
            rest, left = rest - taken, left - taken
    return runs


def _merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Neighbours of one node as one channel group: what was cut and came out alike."""
    made: list[Part] = []
    for part in parts:
        if made and made[-1].node == part.node:
            made[-1] = Part(part.node, made[-1].channels + part.channels)
        else:
            made.append(part)
    return tuple(made)


def _factor(gamma: Any, beta: Any, context: Context) -> float:
    """The constant gamma of initialisers, None for one that the layer does without."""
    factor = 1.0 if gamma is None else _initial(gamma)
    mean = 0.0 if beta is None else _initial(beta)
    if factor is None or not math.isfinite(factor) or mean != 0.0:
        context.refuse(
            "its initial gamma is no constant, or its initial beta is not 0, so that its output "
            "has a mean or differs from channel to channel",
            "Keras's default initialisers",
        )
    return factor


def _scaled(tensor: Tensor, factor: float, context: Context) -> Tensor:
    context.note = "gamma and beta at their initial values"
    return tensor if factor == 1.0 else context.apply(Scale(factor), tensor)


def _epsilon(layer: Any, context: Context) -> float:
    epsilon = keras.config.epsilon() if layer.epsilon is None else float(layer.epsilon)
    if not 0.0 <= epsilon < math.inf:
        context.refuse(f"its epsilon is {epsilon:g}", "an epsilon from 0 on")
    return epsilon


def _initial(initializer: Any) -> float | None:
    """The constant that an initialiser gives; None if it gives something else."""
    kind = type(initializer)
    if kind is keras.initializers.Zeros:
        return 0.0
    if kind is keras.initializers.Ones:
        return 1.0
    if kind is keras.initializers.Constant and isinstance(initializer.value, int | float):
        return float(initializer.value)
    return None


_WITHOUT_WEIGHTS = (
    "Activation ActivityRegularization Add AlphaDropout Average AveragePooling1D AveragePooling2D "
    "AveragePooling3D AutoContrast BatchNormalization CenterCrop Concatenate Cropping1D "
    "Cropping2D Cropping3D Dot Dropout ELU Flatten GaussianDropout GaussianNoise "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D "
    "GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization Identity LayerNormalization "
    "LeakyReLU MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum Multiply Normalization "
    "PReLU Permute RMSNormalization RandomBrightness RandomContrast RandomCrop RandomFlip "
    "RandomRotation RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing "
    "Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D Subtract UnitNormalization "
    "UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D"
)
deterministic(*(getattr(keras.layers, name) for name in _WITHOUT_WEIGHTS.split()))
