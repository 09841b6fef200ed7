"""Maps that outlive the loop that made them, one for each demanded offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Covariance, Place, is_zero
from keras2gp.covariance.joint import apart
from keras2gp.graph.ops import Offset

__all__ = ["Kept"]


@dataclass(frozen=True)
class Kept:
    """The maps of one node at several offsets, [offsets, *spatial, *pairs], in their order.

    maps: of both kernels together (joint.py) where both are computed
    """

    offsets: tuple[Offset, ...]
    maps: Tensor

    def at(self, place: Place) -> Covariance:
        """The maps at one offset; 0 at one that is not kept, which is beyond every border."""
        if is_zero(place):
            found = self.maps[self.offsets.index((0,) * len(place))]
        else:
            slot, known = _lookup(self.offsets, place)
            found = tf.where(known, self.maps[slot], tf.zeros([], self.maps.dtype))
        return Covariance(*apart(found)) if found.dtype.is_complex else Covariance(found)


def _lookup(offsets: Sequence[Offset], place: Place) -> tuple[Tensor, Tensor]:
    """The position of an offset in the sequence, and whether it is in it."""
    known = np.array(offsets)
    low, high = known.min(0), known.max(0)
    table = np.full(high - low + 1, -1, np.int32)
    table[tuple((known - low).T)] = np.arange(len(offsets))
    moved = [tf.convert_to_tensor(d) - int(a) for d, a in zip(place, low, strict=True)]
    inside = tf.reduce_all([(m >= 0) & (m < n) for m, n in zip(moved, table.shape, strict=True)])
    clipped = [tf.clip_by_value(m, 0, n - 1) for m, n in zip(moved, table.shape, strict=True)]
    slot = tf.gather_nd(tf.constant(table), tf.stack(clipped))
    return tf.maximum(slot, 0), inside & (slot >= 0)
