"""Zeros around a map, positions cut from it, other spatial axes for the same positions."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Here, is_zero
from keras2gp.covariance.registry import rule
from keras2gp.graph.ops import Crop, Dilate, Pad, Reshape, Spread

__all__ = ["crop", "dilate", "pad", "reshape", "spread"]


@rule(Pad)
def pad(op: Pad, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = k inside, 0 outside."""
    del here
    (k,) = maps
    return tf.pad(k, [*op.pads, *([(0, 0)] * (k.shape.rank - len(op.pads)))])


@rule(Crop)
def crop(op: Crop, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = k at the positions that stay."""
    del here
    (k,) = maps
    return k[tuple(slice(before, -after or None) for before, after in op.crops)]


@rule(Reshape)
def reshape(op: Reshape, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = k with its positions in the same order on other axes."""
    del here
    (k,) = maps
    return tf.reshape(k, [*op.size, *tf.unstack(tf.shape(k)[op.rank :])])


@rule(Spread)
def spread(op: Spread, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = k at every position at offset 0, 0 at another: the units are independent."""
    (k,) = maps
    rank = len(op.size)
    everywhere = tf.reshape(k, tf.concat([[1] * rank, tf.shape(k)], 0))
    everywhere = tf.tile(everywhere, [*op.size, *[1] * (k.shape.rank)])
    return everywhere if is_zero(here.place) else _unless_zero(everywhere, here.place)


def _unless_zero(k: Tensor, remainders: Iterable[Tensor]) -> Tensor:
    """k, or 0 if one of the numbers is not 0."""
    same = tf.reduce_all([number == 0 for number in remainders])
    return tf.where(same, k, tf.zeros([], k.dtype))


@rule(Dilate)
def dilate(op: Dilate, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k'[d][g] = k[d / s][g / s] where both are whole, else 0."""
    (k,) = maps
    for axis, stride in enumerate(op.strides):
        size = k.shape[axis]
        rows = tf.expand_dims(k, axis + 1)
        widths = [(0, 0)] * rows.shape.rank
        widths[axis + 1] = (0, stride - 1)
        rows = tf.pad(rows, widths)
        shape = tf.unstack(tf.shape(k))
        shape[axis] = size * stride
        k = tf.reshape(rows, [*k.shape[:axis], size * stride, *shape[axis + 1 :]])
        k = k[(*(slice(None),) * axis, slice(0, (size - 1) * stride + 1))]
    if is_zero(here.place):
        return k
    return _unless_zero(k, [d % s for d, s in zip(here.place, op.strides, strict=True)])
