"""Poolings and convolutions of TensorFlow as operations of Keras 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from keras2gp._util.arrays import KerasTensor
from keras2gp.modelfile.config_values import UnreadableError

__all__ = ["convolved", "convolved_each", "convolved_in_one_axis", "pooling"]


def pooling(pool: Callable[..., Any]) -> Callable[..., Any]:
    """A pooling of TensorFlow, from Keras's."""

    def pooled(x: KerasTensor, ksize: Any, strides: Any, padding: str) -> Any:
        rank = len(x.shape) - 2
        window, step = (_sizes(value, rank) for value in (ksize, strides))
        return pool(x, window, step, padding.lower(), "channels_last")

    return pooled


def convolved(  # noqa: PLR0917 (TensorFlow's arguments)
    x: KerasTensor,
    filters: KerasTensor,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str | None = None,
    dilations: Any = None,
    convolve: Callable[..., Any] = ops.conv,
) -> Any:
    """The result of tf.nn.conv2d and its kin, or with `convolve` of another convolution.

    Raises:
        UnreadableError: a padding of numbers, channels before positions.
    """
    if (data_format or "NHWC").startswith("NC") or not isinstance(padding, str):
        raise UnreadableError("tf.nn", "channels before positions, or a padding of numbers", "")
    rank = len(x.shape) - 2
    steps, dilation = (_sizes(1 if v is None else v, rank) for v in (strides, dilations))
    return convolve(x, filters, steps, padding.lower(), "channels_last", dilation)


def _sizes(value: Any, rank: int) -> tuple[int, ...]:
    """Sizes of a window; TensorFlow also takes one for all axes, and those of images and channels.

    Raises:
        UnreadableError: it is one over images or channels.
    """
    sizes = [value] if isinstance(value, int) else list(value)
    if len(sizes) == rank + 2:
        if (sizes[0], sizes[-1]) != (1, 1):
            raise UnreadableError("tf", "a window over images or channels", "")
        sizes = sizes[1:-1]
    return tuple(sizes * rank if len(sizes) == 1 else sizes)


def convolved_in_one_axis(  # noqa: PLR0917 (TensorFlow's arguments)
    x: KerasTensor,
    filters: KerasTensor,
    stride: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
) -> Any:
    """The result of tf.nn.conv1d."""
    return convolved(x, filters, stride, padding, data_format, dilations)


def convolved_each(  # noqa: PLR0917 (TensorFlow's arguments)
    x: KerasTensor,
    filter: KerasTensor,  # noqa: A002
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
) -> Any:
    """The result of tf.nn.depthwise_conv2d."""
    return convolved(x, filter, strides, padding, data_format, dilations, ops.depthwise_conv)
