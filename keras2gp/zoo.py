"""The three networks of the paper, as Keras models with its hyperparameters for MNIST.

The paper states sigma_w^2 per element of a filter; w2, the weight variance times fan-in, is
sigma_w^2 times the window size. The paper's equations 2, 3 and 11 give every layer a bias;
therefore the last Dense layer has the same bias variance b2 as the convolutions. Widths are those
of a small finite network; the kernel does not depend on them.

References:
    Garriga-Alonso et al., "Deep Convolutional Networks as shallow Gaussian Processes", section 4
    and table 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras2gp._util.checks import is_whole_number
from keras2gp._util.memory import require_memory
from keras2gp.errors import InputError

__all__ = ["ZOO", "build", "convnet", "residual_cnn", "resnet32"]

_MNIST = (28, 28, 1)
_WIDTH = 16
_STAGES = ((16, 1), (32, 2), (64, 2))
"""ResNet-32: channels and stride of each stage."""
_BLOCKS = 5


def convnet(input_shape: Sequence[int] = _MNIST, classes: int = 10) -> Any:
    """ConvNet GP: seven convolutions of 7x7, a ReLU after each, and a Dense layer.

    w2 = 2.79 * 49 and b2 = 7.86; for the Dense layer w2 = 2.79 and b2 = 7.86.

    Args:
        input_shape: height, width and channels of an image.
        classes: number of outputs.

    Returns:
        A Keras model with fresh weights.

    >>> from keras2gp import zoo
    >>> zoo.convnet((8, 8, 1)).output_shape
    (None, 10)
    """
    x = image = keras.Input(tuple(input_shape))
    for number in range(1, 8):
        x = _conv(f"conv{number}", 7, w2=2.79 * 49, b2=7.86)(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return _model("convnet", image, x, classes, w2=2.79, b2=7.86)


def residual_cnn(input_shape: Sequence[int] = _MNIST, classes: int = 10) -> Any:
    """Residual CNN GP: eight residual blocks of 4x4, a 4x4 convolution, ReLU and a Dense layer.

    A block is x + relu(conv(x)). For convolutions w2 = 7.27 * 16 and b2 = 4.69, for the Dense layer
    w2 = 7.27 and b2 = 4.69.

    The output of a ReLU is not Gaussian, so x + relu(conv(x)) is no Gaussian process. A 1x1
    convolution of w2 = 1 without bias after each ReLU makes it one; the convolution keeps the
    covariance, k' = 1 * k, so that the kernel is the paper's sum. The image has such a convolution
    too: the skip of the first block then carries a Gaussian tensor of covariance
    x1 . x2 / channels; the image itself would be a mean that differs from channel to channel.

    Args:
        input_shape: height, width and channels of an image.
        classes: number of outputs.

    Returns:
        A Keras model with fresh weights.

    >>> from keras2gp import zoo
    >>> zoo.residual_cnn((8, 8, 3), classes=4).output_shape
    (None, 4)
    """
    image = keras.Input(tuple(input_shape))
    x = _conv("stem", 1, w2=1.0)(image)
    for number in range(1, 9):
        name = f"block{number}"
        y = _conv(f"{name}_conv", 4, w2=7.27 * 16, b2=4.69)(x)
        y = layers.ReLU(name=f"{name}_relu")(y)
        y = _conv(f"{name}_mix", 1, w2=1.0)(y)
        x = layers.Add(name=f"{name}_add")([x, y])
    x = _conv("last_conv", 4, w2=7.27 * 16, b2=4.69)(x)
    x = layers.ReLU(name="last_relu")(x)
    return _model("residual-cnn", image, x, classes, w2=7.27, b2=4.69)


def resnet32(input_shape: Sequence[int] = _MNIST, classes: int = 10) -> Any:
    """ResNet GP: He et al.'s pre-activation ResNet of 32 layers, without pooling; 31 ReLUs.

    A 3x3 convolution, three stages of five blocks with strides 1, 2 and 2, ReLU, and a Dense layer
    instead of average pooling. Every w2 = 1; there are no biases and no BatchNormalization. In the
    first block of each stage a projection replaces the identity: a 1x1 convolution of the stage's
    stride after the block's first ReLU. As in the paper's code, the first stage has one too,
    although neither width nor stride changes there.

    Args:
        input_shape: height, width and channels of an image.
        classes: number of outputs.

    Returns:
        A Keras model with fresh weights.

    References:
        He et al., "Identity mappings in deep residual networks".

    >>> from keras2gp import zoo
    >>> zoo.resnet32((8, 8, 1)).output_shape
    (None, 10)
    """
    image = keras.Input(tuple(input_shape))
    x = _conv("conv", 3, w2=1.0)(image)
    for stage, (width, stride) in enumerate(_STAGES, start=1):
        for block in range(1, _BLOCKS + 1):
            x = _preactivation_block(
                x, f"stage{stage}_block{block}", width, stride, first=block == 1
            )
    x = layers.ReLU(name="last_relu")(x)
    return _model("resnet32", image, x, classes, w2=1.0)


def _preactivation_block(x: Any, name: str, width: int, stride: int, *, first: bool) -> Any:
    stride = stride if first else 1
    y = layers.ReLU(name=f"{name}_relu1")(x)
    if first:
        x = _conv(f"{name}_projection", 1, w2=1.0, stride=stride, width=width)(y)
    y = _conv(f"{name}_conv1", 3, w2=1.0, stride=stride, width=width)(y)
    y = layers.ReLU(name=f"{name}_relu2")(y)
    y = _conv(f"{name}_conv2", 3, w2=1.0, width=width)(y)
    return layers.Add(name=f"{name}_add")([x, y])


def _conv(
    name: str, window: int, *, w2: float, b2: float = 0.0, stride: int = 1, width: int = _WIDTH
) -> Any:
    """A convolution with padding "same"; without biases if b2 is 0."""
    return layers.Conv2D(width, window, stride, padding="same", name=name, **_variances(w2, b2))


def _variances(w2: float, b2: float) -> dict[str, Any]:
    """Arguments of a layer: initialisers of variances w2 / fan-in and b2."""
    weight = keras.initializers.VarianceScaling(w2, "fan_in", "untruncated_normal")
    if b2 == 0.0:
        return {"kernel_initializer": weight, "use_bias": False}
    bias = keras.initializers.RandomNormal(stddev=math.sqrt(b2))
    return {"kernel_initializer": weight, "bias_initializer": bias}


def _model(name: str, image: Any, x: Any, classes: int, *, w2: float, b2: float = 0.0) -> Any:
    x = layers.Flatten(name="flatten")(x)
    require_memory(
        3 * 4 * x.shape[-1] * classes,  # drawn, scaled and kept
        f"zoo:{name} of images {image.shape[1:]}",
        "smaller images",
    )
    x = layers.Dense(classes, name="dense", **_variances(w2, b2))(x)
    return keras.Model(image, x, name=name)


ZOO: dict[str, Callable[..., Any]] = {
    "convnet": convnet,
    "residual-cnn": residual_cnn,
    "resnet32": resnet32,
}
"""The models of the zoo by name: functions of (input_shape, classes)."""


def build(name: str, input_shape: Sequence[int] = _MNIST, classes: int = 10) -> Any:
    """Build a model of the zoo by its name, with fresh weights.

    Args:
        name: "convnet", "residual-cnn" or "resnet32".
        input_shape: height, width and channels of an image.
        classes: number of outputs.

    Returns:
        A Keras model.

    Raises:
        InputError: there is no such model, or a size is not a whole number from 1.

    >>> from keras2gp import zoo
    >>> zoo.build("resnet32", (8, 8, 1), classes=3).name
    'resnet32'
    """
    if not isinstance(name, str) or name not in ZOO:
        raise InputError(f"zoo: no model is called {name!r}; it has {', '.join(ZOO)}")
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else (input_shape,)
    sizes = [*shape, classes]
    if len(sizes) != 4 or not all(is_whole_number(n) and n >= 1 for n in sizes):
        raise InputError(
            f"zoo:{name}: input shape {shape} with {classes} classes; expected "
            "(height, width, channels), and whole numbers from 1"
        )
    *image, outputs = map(int, sizes)
    return ZOO[name](tuple(image), outputs)
