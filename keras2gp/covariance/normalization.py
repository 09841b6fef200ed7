"""Normalisation over channels, at infinite width: division by a number known from the variances.

The mean and the mean square over infinitely many channels are their expectations, which depend on
the image alone. They come from the variances q_i and the first moments m_i of all channel groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Here
from keras2gp.covariance.registry import rule
from keras2gp.graph.features import Normalize

__all__ = ["normalization_statistics", "normalize", "normalized_mean"]


@rule(Normalize)
def normalize(op: Normalize, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = (k - m1 m2 + c1 c2) r1 r2; k' = k r1 r2 if not centered, or of mean 0.

    Math: r = 1 / sqrt(v + epsilon), c = m - mean of m over the channels and axes normalised over,
          v the variance or the mean square over them.
    """
    statistics = here.own(lambda: normalization_statistics(op, maps, here))
    (r1, *means1), (r2, *means2) = statistics
    k = maps[op.group]
    if means1:
        (m1, c1), (m2, c2) = means1, means2
        k = k - m1 * m2 + c1 * c2
    return k * r1 * r2


def normalization_statistics(
    op: Normalize, maps: tuple[Tensor, ...], here: Here
) -> tuple[Tensor, ...]:
    """(r, m, c) of the group from variances `maps`, each [*spatial, B]; (r,) where m = c = 0.

    Math: v = mean of q_i - m_i^2 + c_i^2 over groups and axes (law of total variance); mean of
          q_i where no mean is taken away.
    """
    shape = tf.shape(maps[op.group])
    if here.index not in here.pairs.with_means:
        return (tf.broadcast_to(_inverse_root(op, _average(op, maps)), shape),)
    means = [here.mean(i) for i in range(len(maps))]
    overall = _average(op, means)
    rests = [m - overall for m in means]
    spread = [q - m * m + c * c for q, m, c in zip(maps, means, rests, strict=True)]
    r = tf.broadcast_to(_inverse_root(op, _average(op, spread)), shape)
    return (r, means[op.group], rests[op.group]) if op.centered else (r,)


def normalized_mean(op: Normalize, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """m' = c r, or m r if not centered, for variances `maps`."""
    r, *means = normalization_statistics(op, maps, here)
    return r * (means[1] if means else here.mean(op.group))


def _average(op: Normalize, maps: Sequence[Tensor]) -> Tensor:
    """Mean over channels and the axes normalised over, which keep size 1."""
    total = sum(weight * k for weight, k in zip(op.weights, maps, strict=True))
    axes = [axis for axis, over in enumerate(op.axes) if over]
    return tf.reduce_mean(total, axis=axes, keepdims=True) if axes else total


def _inverse_root(op: Normalize, v: Tensor) -> Tensor:
    """1 / sqrt(v + epsilon), 0 where both are 0: what it multiplies is 0 there."""
    # Rounding may leave the variance of features that hardly vary below 0.
    root = tf.sqrt(tf.maximum(v, 0.0) + op.epsilon)
    return tf.math.divide_no_nan(tf.ones_like(root), root)
