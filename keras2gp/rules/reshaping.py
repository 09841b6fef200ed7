"""Zeros around a map, positions cut from it, other spatial axes for the same positions."""

from __future__ import annotations

import tensorflow as tf

from keras2gp.graph.ops import Crop, Pad, Reshape
from keras2gp.rules.covariance import Pairs, Tensor
from keras2gp.rules.registry import rule

__all__ = ["crop", "pad", "reshape"]


@rule(Pad)
def pad(op: Pad, maps: tuple[Tensor, ...], pairs: Pairs) -> Tensor:
    """k' = k inside, 0 outside."""
    del pairs
    (k,) = maps
    return tf.pad(k, [*op.pads, *([(0, 0)] * (k.shape.rank - len(op.pads)))])


@rule(Crop)
def crop(op: Crop, maps: tuple[Tensor, ...], pairs: Pairs) -> Tensor:
    """k' = k at the positions that stay."""
    del pairs
    (k,) = maps
    return k[tuple(slice(before, -after or None) for before, after in op.crops)]


@rule(Reshape)
def reshape(op: Reshape, maps: tuple[Tensor, ...], pairs: Pairs) -> Tensor:
    """k' = k with its positions in the same order on other axes."""
    del pairs
    (k,) = maps
    return tf.reshape(k, [*op.size, *tf.unstack(tf.shape(k)[op.rank :])])
