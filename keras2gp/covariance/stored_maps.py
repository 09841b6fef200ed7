"""Maps that outlive the loop that computes them, one for each demanded offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, PairMap, Tensor
from keras2gp.covariance.base import Covariance, Offset, Pairs, is_zero, materialised
from keras2gp.covariance.joint import apart, joint
from keras2gp.covariance.offset_mixing import Addition, additions
from keras2gp.graph.analysis import Analysis
from keras2gp.graph.linear_maps import SeparableMap, identity
from keras2gp.graph.offsets import Loop
from keras2gp.graph.ops import Mixing, Spatial

__all__ = ["LoopResults", "StoredMaps"]


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one node at several offsets, [offsets, *spatial, *pairs], in their order.

    maps:   of both kernels together (joint.py) where both are computed
    cyclic: whether each holds several offsets, as those of the cyclic loop that reads them
    """

    offsets: Sequence[Offset]
    maps: PairMap
    cyclic: bool = False

    def at(self, offset: Offset) -> Covariance:
        """The maps at one offset; 0 at one that is not stored, which is beyond every border."""
        k = self._at(offset)
        return Covariance(*apart(k)) if k.dtype.is_complex else Covariance(k)

    def around(self, offset: Offset, period: Spatial) -> Covariance:
        """The maps at an offset from 0 on and, beyond its border, at those less the period."""
        if self.cyclic:
            return self.at(offset)
        along = ([d, d - p] if p else [d] for d, p in zip(offset, period, strict=True))
        k = sum(self._at(at) for at in product(*along))
        return Covariance(*apart(k)) if k.dtype.is_complex else Covariance(k)

    def _at(self, offset: Offset) -> PairMap:
        if is_zero(offset):
            return self.maps[self.offsets.index((0,) * len(offset))]
        slot, stored = _lookup(self.offsets, offset)
        return tf.where(stored, self.maps[slot], tf.zeros([], self.maps.dtype))

    def between(self, size: Spatial) -> Covariance:
        """Covariances between all positions, [*size, *size, *pairs], of maps at all offsets."""
        places = np.indices(size).reshape(len(size), -1)
        least, sides = np.array(self.offsets[0]), [2 * n - 1 for n in size]
        moved = places[:, None, :] - places[:, :, None] - least[:, None, None]
        slots = np.ravel_multi_index(tuple(moved), sides)  # the offsets are sorted
        count, pairs = places.shape[1], tf.shape(self.maps)[1 + len(size) :]
        rows = slots * count + np.arange(count)[:, None]
        flat = tf.reshape(self.maps, tf.concat([[len(self.offsets) * count], pairs], 0))
        k = tf.reshape(tf.gather(flat, rows), tf.concat([size, size, pairs], 0))
        return Covariance(*apart(k)) if k.dtype.is_complex else Covariance(k)


def _lookup(offsets: Sequence[Offset], offset: Offset) -> tuple[Tensor, Tensor]:
    """The position of an offset in the sequence, and whether it is in it."""
    stored: Array = np.array(offsets)
    low, high = stored.min(0), stored.max(0)
    table = np.full(high - low + 1, -1, np.int32)
    table[tuple((stored - low).T)] = np.arange(len(offsets))
    moved = [tf.convert_to_tensor(d) - int(a) for d, a in zip(offset, low, strict=True)]
    inside = tf.reduce_all([(m >= 0) & (m < n) for m, n in zip(moved, table.shape, strict=True)])
    clipped = [tf.clip_by_value(m, 0, n - 1) for m, n in zip(moved, table.shape, strict=True)]
    slot = tf.gather_nd(tf.constant(table), tf.stack(clipped))
    return tf.maximum(slot, 0), inside & (slot >= 0)


class LoopResults:
    """The maps that a loop computes: one for each offset, as it is or added up by a mixing op.

    Those of a cyclic loop, which hold several offsets, are taken apart as if by a mixing op.

    tangent: whether each holds both kernels
    """

    def __init__(self, analysis: Analysis, loop: Loop, pairs: Pairs, *, tangent: bool) -> None:
        self.pairs = pairs
        self.tangent = tangent
        self.offsets = analysis.slots(loop.result)
        periods = analysis.periods.get(loop.result, ())
        self.cyclic = any(periods)
        held = (loop.offsets, loop.periods), (analysis.offsets[loop.result], periods)
        node = analysis.graph.nodes[loop.result]
        self.size = node.spatial
        self.additions: list[Addition] | None = None
        if isinstance(node.op, Mixing) and loop.mixes:
            maps = node.op.maps(analysis.graph.nodes[loop.last].spatial)
            self.additions = additions(maps, *held)
        elif loop.periods or self.cyclic:
            whole = SeparableMap(1.0, tuple(map(identity, self.size)))
            self.additions = additions([whole], *held)

    def empty(self) -> Any:
        """An array of zeros: of the NNGP, or of both kernels together."""
        shape = [len(self.offsets), *self.size, *self.pairs.shape]
        dtype = self.pairs.parameters.weights[0].dtype
        static = [n if isinstance(n, int) else None for n in shape[1:]]
        zeros = tf.zeros(shape if None not in static else tf.stack(shape), dtype)
        if self.tangent:
            zeros = joint(zeros, zeros)
        array = tf.TensorArray(zeros.dtype, shape[0], clear_after_read=False, element_shape=static)
        return array.unstack(zeros)

    def add(self, array: Tensor, t: Tensor, computed: Covariance) -> Any:
        """The array after iteration t."""
        k = computed.nngp
        if self.tangent:
            k = joint(k, tf.zeros_like(k) if computed.ntk is None else computed.ntk)
        if self.additions is None:
            return array.write(t, self._stored(k))
        if len(self.additions) > 1 or not self.additions[0].takes_unstored:
            k = self._stored(k)
        for addition in self.additions:
            array = addition.added(array, t, k, self._stored)
        return array

    def _stored(self, k: PairMap) -> PairMap:
        return materialised(k, self.pairs.parameters)

    def stored(self, array: Tensor) -> StoredMaps:
        """The maps at all offsets."""
        return StoredMaps(self.offsets, array.stack(), self.cyclic)
