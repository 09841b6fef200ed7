"""Layers that do nothing to a prediction, BatchNormalization, and what Keras runs on data."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras2gp.frontend.context import Call, Context
from keras2gp.frontend.registry import deterministic, reader
from keras2gp.frontend.tensor import Tensor
from keras2gp.graph.ops import Scale

__all__ = ["read_batch_normalization", "read_identity"]


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
