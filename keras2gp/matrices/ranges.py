"""Checks that a dtype holds the variances of images: overflow, underflow and their true causes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Images, Tensor
from keras2gp.covariance.base import Statistics
from keras2gp.covariance.program import Program
from keras2gp.errors import NumericalError

__all__ = ["require_range"]

_NONZERO = 1e-6
"""Least variance, at variances of weights of 2, of an image whose variance is not exactly 0."""


def require_range(
    values: Sequence[Tensor],
    images: Sequence[Images],
    start: int,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    program: Program,
    statistics: Callable[..., Sequence[Tensor]],
) -> None:
    """Refuse variances that left the range of their dtype.

    A variance of 0 is right where the image is 0, or a weight variance is. The same network with
    images of size 1 and weight variances of 2 tells: its variance is 0 only there.

    Args:
        values: variances of the images, [*positions, S] for each kernel; entries beyond the images
            are ignored.
        images: data tensors of the images, [B, *shape] each.
        start: number of the first image, for the message.
        weights: weight variances, in the program's order of layers.
        biases: bias variances.
        program: the kernel.
        statistics: function of (images, weights, biases) that computes `values`.

    Raises:
        NumericalError: a variance is infinite or NaN; or 0 or subnormal, and should not be.
    """
    count = len(images[0])
    variances = _by_image(values, count)
    finite, tiny = np.isfinite(variances), np.finfo(variances.dtype).tiny
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        index = place[-1]
        raise NumericalError(
            f"the variance of image {start + index} is {variances[place]}: "
            f"{_reason(program, [x[index : index + 1] for x in images], weights, biases)}"
        )
    small = np.abs(variances) < tiny
    if not small.any():
        return
    # A position has a variance of its own, whatever is the largest value of the image.
    parts = bool(program.graph.positions) and variances.dtype == np.float32
    normal = [np.sign(x) if parts else _normalised(x) for x in images]
    own = weights, biases
    weights = [tf.where(w > 0, tf.constant(2, w.dtype), w) for w in weights]
    biases = [tf.where(b > 0, tf.constant(1, b.dtype), b) for b in biases]
    reference = _by_image(statistics(normal, weights, biases), count)
    lost = np.argwhere(small & ~(reference < _NONZERO))
    if len(lost) and parts:
        of, column = np.unique(lost[:, -1], return_inverse=True)
        exact = _by_image(_in_double(program, [x[of] for x in images], *own)[0], len(of))
        lost = lost[exact[lost[:, 0], lost[:, 1], column] > 0]
    if len(lost):
        place = tuple(int(i) for i in lost[0])
        raise NumericalError(
            f"the variance of image {start + place[-1]} is {variances[place]}, and is not 0: "
            f"variances shrink below {variances.dtype}. Try: {_wider(variances.dtype)}larger "
            "variances, or larger inputs"
        )


def _by_image(values: Sequence[Tensor], count: int) -> Array:
    """Variances of the first `count` images, [kernels, positions, count]."""
    stacked: Array = np.stack([np.asarray(v) for v in values])
    return stacked.reshape(len(stacked), -1, stacked.shape[-1])[..., :count]


def _normalised(images: Images) -> Images:
    """Images of largest value 1, [B, *shape]; images of zeros stay as they are."""
    largest = np.abs(images).max(axis=tuple(range(1, images.ndim)), keepdims=True)
    divided: Images = images / np.where(largest > 0, largest, 1)
    return divided


def _reason(
    program: Program, image: Sequence[Images], weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> str:
    """The cause of a variance that is not finite, and a remedy: the same image in float64."""
    dtype = image[0].dtype
    outputs, statistics = _in_double(program, image, weights, biases)
    tensors = [*outputs, *(tensor for group in statistics.values() for tensor in group)]
    numbers = [np.asarray(tensor) for tensor in tensors]
    if all((np.abs(n) <= np.finfo(dtype).max).all() for n in numbers):
        return f"{dtype} loses the values on the way to it. Try: {_wider(dtype)}smaller inputs"
    if any(np.isnan(n).any() for n in numbers) and not any(np.isinf(n).any() for n in numbers):
        return (
            "an activation is not known at the variance of its input: unless the report states a "
            "smaller one, expansions reach 1e12. Try: "
            "smaller variances, or smaller inputs"
        )
    return (
        f"variances grow beyond {dtype}. Try: {_wider(dtype)}smaller variances, or smaller inputs"
    )


def _in_double(
    program: Program, images: Sequence[Images], weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Statistics]:
    """Variances and statistics of a few images in float64."""
    double = [[tf.cast(v, tf.float64) for v in group] for group in (weights, biases)]
    tensors = [tf.constant(np.moveaxis(x, 0, -1), tf.float64) for x in images]
    # XLA, unlike single operations, goes on where an index of a table is not a number.
    compiled = tf.function(program.statistics, jit_compile=True, autograph=False)
    outputs, _, statistics = compiled(tensors, *double)
    return outputs, statistics


def _wider(dtype: np.dtype[Any]) -> str:
    return "dtype='float64', " if dtype == np.float32 else ""
