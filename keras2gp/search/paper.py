"""Networks of the paper's search, as Keras models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers

__all__ = ["network"]

_WIDTH = 16


def network(settings: Mapping[str, Any], image_shape: Sequence[int], classes: int) -> Any:
    """A convolutional network of `paper_space`'s settings.

    Activations come before the convolutions that they feed, so that sums are of Gaussian tensors.
    Reference: equations 2, 3 and 16 of the paper.
    """
    taps = settings["window"] ** 2
    conv = {
        "kernel_size": settings["window"],
        "strides": settings["stride"],
        "padding": settings["padding"],
        **_prior(settings["weight_variance"] * taps, settings["bias_variance"]),
    }
    image = keras.Input(tuple(image_shape))
    tensors = [layers.Conv2D(_WIDTH, name="conv1", **conv)(image)]
    for number in range(2, settings["layers"] + 1):
        x = _activated(tensors[-1], settings["activation"])
        x = layers.Conv2D(_WIDTH, name=f"conv{number}", **conv)(x)
        skip = settings["skip"]
        if skip and (number - 1) % skip == 0:
            x = layers.Add(name=f"add{number}")([tensors[-skip], x])
        tensors.append(x)
    x = layers.Flatten(name="flatten")(_activated(tensors[-1], settings["activation"]))
    prior = _prior(settings["weight_variance"], settings["bias_variance"])
    return keras.Model(image, layers.Dense(classes, name="dense", **prior)(x), name="searched")


def _activated(x: Any, name: str) -> Any:
    return keras.ops.erf(x) if name == "erf" else layers.ReLU()(x)


def _prior(w2: float, b2: float) -> dict[str, Any]:
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(
            w2, "fan_in", "untruncated_normal"
        ),
        "bias_initializer": keras.initializers.RandomNormal(stddev=math.sqrt(b2)),
    }
