"""The networks that are measured, as Keras models, and the images."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras2gp import data, zoo
from keras2gp._util.arrays import Array

__all__ = ["images", "model"]


def model(name: str) -> Any:
    """A network of the zoo, or one of those below."""
    return OTHERS[name]() if name in OTHERS else zoo.build(name)


def fully_connected() -> Any:
    """Seven Dense layers with a ReLU each, w2 = 2 and b2 = 0.1, and the Dense layer of outputs."""
    weight = keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
    bias = keras.initializers.RandomNormal(stddev=0.1**0.5)
    prior = {"kernel_initializer": weight, "bias_initializer": bias}
    image = keras.Input((28, 28, 1))
    x = keras.layers.Flatten()(image)
    for number in range(1, 8):
        x = keras.layers.Dense(16, "relu", name=f"dense{number}", **prior)(x)
    return keras.Model(image, keras.layers.Dense(10, name="out", **prior)(x))


def pooling() -> Any:
    """Three 3x3 convolutions with ReLU, and 2x2 average pooling after the first two."""
    weight = keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
    bias = keras.initializers.RandomNormal(stddev=0.1**0.5)
    prior = {"kernel_initializer": weight, "bias_initializer": bias}
    x = image = keras.Input((28, 28, 1))
    for number in range(1, 4):
        x = keras.layers.Conv2D(16, 3, padding="same", name=f"conv{number}", **prior)(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.AveragePooling2D(2)(x) if number < 3 else keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(10, name="out", **prior)(x))


def resnet32_pooled() -> Any:
    """The zoo's ResNet-32 with global average pooling, as He et al. have it."""
    whole = zoo.build("resnet32")
    x = keras.layers.GlobalAveragePooling2D()(whole.get_layer("last_relu").output)
    weight = keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal")
    out = keras.layers.Dense(10, kernel_initializer=weight, use_bias=False, name="out")(x)
    return keras.Model(whole.inputs, out)


OTHERS = {
    "fully-connected": fully_connected,
    "pooling": pooling,
    "resnet32-pooled": resnet32_pooled,
}


def images(count: int) -> Array:
    """MNIST digits, [count, 28, 28, 1] in [0, 1].

    Beyond the 6000 of the embedded sample they come again with noise, so that no two are equal.
    """
    sample = data.load("sample")
    parts = [sample.x_train] if sample.x_test is None else [sample.x_train, sample.x_test]
    digits = np.concatenate(parts).reshape(-1, 28, 28, 1).astype(np.float32) / 255
    rng = np.random.default_rng(0)
    copies = [digits]
    while sum(map(len, copies)) < count:
        noise = rng.random(digits.shape, dtype=np.float32)
        copies.append(0.9 * digits + 0.1 * noise)
    return np.concatenate(copies)[:count]
