"""Both kernels as one complex map, k + i Theta, where a map is stored.

Linear ops of real factors keep the parts apart. Stored as two tensors, each would be made by a
pass of its own, and the covariance before an activation, of which both are made, computed twice:
both kernels would cost 2.3 to 3.5 times the NNGP kernel alone, where so they cost 1.3 to 1.9 times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Tensor

__all__ = ["apart", "joint", "scaled", "total", "weighted_total"]

_FEWEST, _MOST = 8, 32
"""Slices that are added up at once: so many that the map is read about once, and compile fast."""


def joint(k: Tensor, theta: Tensor) -> Tensor:
    """k + i Theta."""
    return tf.complex(k, theta)


def apart(both: Tensor) -> tuple[Tensor, Tensor]:
    """k and Theta."""
    return tf.math.real(both), tf.math.imag(both)


def scaled(k: Tensor, factor: Any) -> Tensor:
    """k times a real factor: of complex numbers part by part, a third of their own product."""
    return joint(*(factor * part for part in apart(k))) if k.dtype.is_complex else factor * k


def weighted_total(weights: Tensor, k: Tensor, axis: int) -> Tensor:
    """Sum of weights times k over one axis; a reduction of complex numbers is not vectorised."""
    if k.dtype.is_complex:
        return joint(*(weighted_total(weights, part, axis) for part in apart(k)))
    return tf.reduce_sum(weights * k, axis)


def total(k: Tensor, rank: int, keep: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum of k, [*spatial, *pairs], over its `rank` spatial axes.

    Of complex numbers it adds whole slices, whose loops the compiler vectorises; their reduction,
    a number at a time, would take as long as a convolution with its activation.
    """
    if not k.dtype.is_complex:
        return tf.reduce_sum(k, axis=list(range(rank)))
    count = math.prod(k.shape[:rank])
    k = tf.reshape(k, [count, *tf.unstack(tf.shape(k)[rank:])])
    while count > 1:
        rows = -(-count // _slices(count))
        parts = [k[begin : begin + rows] for begin in range(0, count, rows)]
        if short := rows - parts[-1].shape[0]:
            parts[-1] = tf.pad(parts[-1], [(0, short), *[(0, 0)] * (k.shape.rank - 1)])
        k, count = keep(sum(parts)), rows
    return k[0]


def _slices(count: int) -> int:
    """How many slices: such as divide the map evenly, if possible."""
    even = (n for n in range(_MOST, _FEWEST - 1, -1) if count % n == 0)
    return min(next(even, _MOST), count)
