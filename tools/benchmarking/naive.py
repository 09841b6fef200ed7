"""The kernel of ResNet-32 with one convolution of [pairs, H, W, 1] for each of the network's.

What follows from reading the recursion as a network on covariances, without regard to layout.
"""

from __future__ import annotations

import math

import tensorflow as tf

from keras2gp._util.arrays import Tensor

__all__ = ["resnet32"]

Maps = tuple[Tensor, Tensor, Tensor]
"""Variances of the first and second images, [B, H, W, 1], and covariances, [B1 B2, H, W, 1]."""


def resnet32(x1: Tensor, x2: Tensor) -> Tensor:
    """Covariances of the zoo's resnet32, [B1, B2]; x1, x2: [B, H, W, 1]."""
    products = x1[:, None] * x2[None]
    maps = x1**2, x2**2, tf.reshape(products, [-1, *products.shape[2:]])
    maps = _convolution(maps, 3)
    for stride in (1, 2, 2):
        for block in range(5):
            step = stride if block == 0 else 1
            y = _relu(maps)
            skip = _convolution(y, 1, step) if block == 0 else maps
            y = _convolution(_relu(_convolution(y, 3, step)), 3)
            maps = tuple(a + b for a, b in zip(skip, y, strict=True))
    return tf.reshape(tf.reduce_mean(_relu(maps)[2], [1, 2, 3]), [len(x1), len(x2)])


def _convolution(maps: Maps, window: int, stride: int = 1) -> Maps:
    """Means over the window, zeros beyond the border: w2 = 1, no bias."""
    taps = tf.fill([window, window, 1, 1], 1 / window**2)
    return tuple(tf.nn.conv2d(k, taps, stride, "SAME") for k in maps)


def _relu(maps: Maps) -> Maps:
    """Cho & Saul, "Kernel methods for deep learning", equation 6, halved."""
    q1, q2, c = maps
    scale = tf.sqrt(q1[:, None] * q2[None])
    scale = tf.reshape(scale, c.shape)
    cosine = tf.clip_by_value(tf.math.divide_no_nan(c, scale), -1.0, 1.0)
    angle = tf.acos(cosine)
    dual = (tf.sqrt(1 - cosine**2) + (math.pi - angle) * cosine) / (2 * math.pi)
    return q1 / 2, q2 / 2, scale * dual
