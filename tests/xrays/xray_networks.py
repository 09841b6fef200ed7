"""Small networks and data for the tests of X-rays."""

import keras
import numpy as np
from keras import layers

__all__ = ["HE", "pooled", "residual", "shifted"]

HE = "he_normal"


def residual(size=6):
    """Two blocks with a normalisation each, a pooling, and a hidden dense layer."""
    x = image = keras.Input((size, size, 1))
    x = layers.Conv2D(4, 3, padding="same", kernel_initializer=HE, name="stem")(x)
    for block in (1, 2):
        y = layers.LayerNormalization(name=f"norm{block}")(x)
        y = layers.ReLU(name=f"relu{block}")(y)
        y = layers.Conv2D(4, 3, padding="same", kernel_initializer=HE, name=f"conv{block}")(y)
        x = layers.Add(name=f"add{block}")([x, y])
    x = layers.AveragePooling2D(2, name="pool")(layers.ReLU(name="relu3")(x))
    x = layers.Dense(4, "relu", kernel_initializer=HE, name="hidden")(
        layers.Flatten(name="flat")(x)
    )
    return keras.Model(image, layers.Dense(2, name="out")(x), name="residual")


def pooled(size=6):
    """A convolution, averaged over all positions."""
    return keras.Sequential(
        [
            keras.Input((size, size, 1)),
            layers.Conv2D(
                4, 2, padding="same", activation="relu", kernel_initializer=HE, name="conv"
            ),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(2, name="out"),
        ],
        name="pooled",
    )


def shifted(count, seed, size=6):
    """A bar, lying or upright, anywhere in an image; both have the same sum."""
    rng = np.random.default_rng(seed)
    bars = np.array([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    y = rng.integers(0, 2, count)
    x = 0.1 * rng.normal(size=(count, size, size, 1))
    for image, label in zip(x, y, strict=True):
        i, j = rng.integers(0, size - 1, 2)
        image[i : i + 2, j : j + 2, 0] += 2.0 * bars[label]
    return x.astype("float32"), y
