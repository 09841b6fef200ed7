"""Small networks and data for the tests of X-rays."""

import keras
import numpy as np
from keras import layers

from keras2gp.xrays.arguments import XRaySettings
from keras2gp.xrays.running.run import XRayRun

__all__ = [
    "HE",
    "convnet",
    "dense",
    "pooled",
    "residual",
    "series",
    "shifted",
    "stages",
    "xray_run",
]

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


def convnet():
    """Three convolutions, one of them with a normalisation, and two poolings."""
    law = {"padding": "same", "kernel_initializer": HE}
    return keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(4, 3, activation="relu", name="conv1", **law),
            layers.AveragePooling2D(2, name="pool1"),
            layers.Conv2D(4, 3, name="conv2", **law),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(name="relu"),
            layers.AveragePooling2D(2, name="pool2"),
            layers.Dropout(0.2, name="drop"),
            layers.Conv2D(4, 3, activation="relu", name="conv3", **law),
            layers.Flatten(name="flat"),
            layers.Dense(8, "relu", kernel_initializer=HE, name="hidden"),
            layers.Dense(3, name="out"),
        ]
    )


def stages():
    """A pooling and two residual blocks, the second with a stride and a projected skip."""
    law = {"padding": "same", "kernel_initializer": HE}
    image = keras.Input((12, 12, 1))
    x = layers.Conv2D(4, 3, name="stem", **law)(image)
    x = layers.AveragePooling2D(2, name="pool")(x)
    for block, stride in ((1, 1), (2, 2)):
        y = layers.ReLU(name=f"relu{block}a")(layers.BatchNormalization(name=f"bn{block}")(x))
        y = layers.Conv2D(4, 3, strides=stride, name=f"conv{block}a", **law)(y)
        y = layers.ReLU(name=f"relu{block}b")(y)
        y = layers.Conv2D(4, 3, name=f"conv{block}b", **law)(y)
        if stride > 1:
            x = layers.Conv2D(4, 1, strides=stride, kernel_initializer=HE, name="project")(x)
        x = layers.Add(name=f"add{block}")([x, y])
    x = layers.GlobalAveragePooling2D(name="gap")(layers.ReLU(name="last")(x))
    return keras.Model(image, layers.Dense(3, name="out")(x))


def series():
    """Two convolutions of a sequence with biases, a pooling, a normalisation and an average."""
    law = {"kernel_initializer": HE, "bias_initializer": keras.initializers.RandomNormal(0, 0.2)}
    return keras.Sequential(
        [
            keras.Input((32, 2)),
            layers.Conv1D(4, 5, activation="tanh", name="conv1", **law),
            layers.AveragePooling1D(2, name="pool"),
            layers.Conv1D(4, 5, strides=2, activation="tanh", name="conv2", **law),
            layers.LayerNormalization(name="norm"),
            layers.GlobalAveragePooling1D(name="gap"),
            layers.Dense(3, name="out", **law),
        ]
    )


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


def dense(name="dense"):
    return keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(8, "relu", kernel_initializer="he_normal", name="hidden"),
            layers.Dense(2, name="out"),
        ],
        name=name,
    )


def xray_run(model, x, y, *, test=None, **settings):
    """The run of an X-ray, with settings as for keras2gp.xray."""
    return XRayRun(model, x, y, XRaySettings(**settings), test=test)
