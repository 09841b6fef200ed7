"""Rules of ops that move positions: zeros around a map or between positions, cuts, reshapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.base import Covariance, Maps, Rule, RuleContext, is_zero
from keras2gp.covariance.registry import rule
from keras2gp.covariance.seams import cut
from keras2gp.graph.ops import (
    Axes,
    Crop,
    Dilate,
    Flip,
    Pad,
    Permute,
    Repeat,
    Reshape,
    ReshapeEach,
    Shuffle,
    Spread,
    Stack,
)

__all__ = [
    "AxesRule",
    "CropRule",
    "DilateRule",
    "FlipRule",
    "PadRule",
    "PermuteRule",
    "RepeatRule",
    "ReshapeEachRule",
    "ReshapeRule",
    "ShuffleRule",
    "SpreadRule",
    "StackRule",
]


@rule(Pad)
class PadRule(Rule[Pad]):
    """k' = k inside, 0 outside."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """Zeros around k."""
        (k,) = maps
        k = tf.pad(k, [*self.op.pads, *([(0, 0)] * (k.shape.rank - len(self.op.pads)))])
        for axis, (factor,) in enumerate(context.cuts):
            k = cut(k, axis, factor)
        return k


@rule(Crop)
class CropRule(Rule[Crop]):
    """k' = k at the positions that stay."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k[before : n - after] on each axis."""
        return maps[0][tuple(slice(before, -after or None) for before, after in self.op.crops)]


@rule(Flip)
class FlipRule(Rule[Flip]):
    """k'[d][g] = k[-d][n - 1 - g] along the axes that are reversed."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k in the opposite order."""
        return tf.reverse(maps[0], [axis for axis, flip in enumerate(self.op.axes) if flip])


@rule(Permute)
class PermuteRule(Rule[Permute]):
    """k'[d][g] = k with the axes of d and of g in another order."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k transposed."""
        (k,) = maps
        return tf.transpose(k, [*self.op.order, *range(len(self.op.order), k.shape.rank)])


@rule(Repeat)
class RepeatRule(Rule[Repeat]):
    """k'[d][g] = k at the one position of an axis, for every g and d."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """Copies of k."""
        (k,) = maps
        return tf.tile(k, [*self.op.factors, *[1] * (k.shape.rank - len(self.op.factors))])


@rule(Reshape)
class ReshapeRule(Rule[Reshape]):
    """k' = k with its positions in the same order on other axes."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k in another shape."""
        (k,) = maps
        return tf.reshape(k, [*self.op.size, *tf.unstack(tf.shape(k)[self.op.rank :])])


@rule(ReshapeEach)
class ReshapeEachRule(Rule[ReshapeEach]):
    """k' = k with its positions behind the first axes in the same order on other axes."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k in another shape."""
        (k,) = maps
        first, rest = tf.shape(k)[: self.op.lead], tf.shape(k)[self.op.rank :]
        return tf.reshape(k, tf.concat([first, self.op.size, rest], 0))


@rule(Axes)
class AxesRule(Rule[Axes]):
    """k'[d][g] = k[d][g] without the axes of one position that are taken away, or with new ones."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k in another shape."""
        (k,) = maps
        size = [k.shape[axis] if axis < self.op.rank else 1 for axis in self.op.order]
        return tf.reshape(k, [*size, *tf.unstack(tf.shape(k)[self.op.rank :])])


@rule(Spread)
class SpreadRule(Rule[Spread]):
    """k' = k at every position at offset 0, 0 at another: the units are independent."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k if d = 0, else 0."""
        (k,) = maps
        rank = len(self.op.size)
        everywhere = tf.reshape(k, tf.concat([[1] * rank, tf.shape(k)], 0))
        everywhere = tf.tile(everywhere, [*self.op.size, *[1] * (k.shape.rank)])
        return everywhere if is_zero(context.offset) else _if_zero(everywhere, context.offset)

    def vanishes(self, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
        """It is 0 at every offset but 0."""
        return True, True


@rule(Stack)
class StackRule(Rule[Stack]):
    """k' = k_i for call i, and 0 between different calls, which are independent."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """The maps one after the other at offset 0 of the calls, else 0."""
        k = tf.concat(maps, 0)
        return k if is_zero(context.offset) else _if_zero(k, context.offset[:1])


@rule(Shuffle)
class ShuffleRule(Rule[Shuffle]):
    """k'[d][g] = k[d / r][g // r] where r divides d, and 0 between different channels."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k with each position repeated, if r divides d; else 0."""
        (k,) = maps
        for axis, factor in enumerate(self.op.factors):
            k = tf.repeat(k, factor, axis) if factor > 1 else k
        if is_zero(context.offset):
            return k
        return _if_zero(k, [d % r for d, r in zip(context.offset, self.op.factors, strict=True)])

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """m at every position of a source."""
        m = context.mean(0)
        for axis, factor in enumerate(self.op.factors):
            m = tf.repeat(m, factor, axis)
        return m


@rule(Dilate)
class DilateRule(Rule[Dilate]):
    """k'[d][g] = k[d / s][g / s] where both are whole, else 0."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k with zeros between positions, if s divides d; else 0."""
        (k,) = maps
        for axis, stride in enumerate(self.op.strides):
            k = _dilated(k, axis, stride)
        if is_zero(context.offset):
            return k
        return _if_zero(k, [d % s for d, s in zip(context.offset, self.op.strides, strict=True)])


def _if_zero(k: PairMap, numbers: Iterable[Tensor]) -> PairMap:
    """k, or 0 if one of the numbers is not 0."""
    return tf.where(tf.reduce_all([n == 0 for n in numbers]), k, tf.zeros([], k.dtype))


def _dilated(k: PairMap, axis: int, stride: int) -> PairMap:
    """k with stride - 1 zeros between its positions along one axis."""
    size = k.shape[axis]
    rows = tf.expand_dims(k, axis + 1)
    widths = [(0, 0)] * rows.shape.rank
    widths[axis + 1] = (0, stride - 1)
    rows = tf.pad(rows, widths)
    shape = tf.unstack(tf.shape(k))
    shape[axis] = size * stride
    k = tf.reshape(rows, [*k.shape[:axis], size * stride, *shape[axis + 1 :]])
    return k[(*(slice(None),) * axis, slice(0, (size - 1) * stride + 1))]
