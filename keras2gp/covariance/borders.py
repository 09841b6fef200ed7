"""Borders of maps: at which positions both g and g + d are inside."""

from __future__ import annotations

from copy import copy
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Covariance, Offset, Pairs, is_zero, materialised
from keras2gp.covariance.seams import Cuts, Seams
from keras2gp.graph.ops import Ratios, Spatial

__all__ = ["Borders"]


class Borders:
    """Whether g and g + d are both inside, at the offsets of one iteration: 1, else 0.

    One map for each size and offset, computed once: as a condition at every place that needs it,
    it costs more than the rest of the iteration. In a cyclic loop the cuts of windows at the seams
    take care of them.
    """

    def __init__(self, pairs: Pairs, offset: Offset, seams: Seams | None) -> None:
        self.pairs = pairs
        self.cyclic = seams is not None
        self.cuts: dict[int, Cuts] = {}
        if seams is not None:
            parameters = pairs.parameters
            dtype = parameters.weights[0].dtype
            self.cuts = seams.at(offset, dtype, lambda k: materialised(k, parameters))
        self.computed: dict[tuple[Spatial, Ratios], Tensor] = {}

    def within(self) -> Borders:
        """A copy for the body of a loop, whose tensors are known nowhere else."""
        borders = copy(self)
        borders.computed = dict(self.computed)
        return borders

    def cleared(self, k: Covariance, size: Spatial, scale: Ratios, offset: Offset) -> Covariance:
        """The maps of a node at an offset, with zeros where g + d is beyond the border."""
        clear = k.zeros and (k.ntk is None or k.ntk_zeros)
        if clear or self.cyclic or is_zero(offset):
            return k
        if (size, scale) not in self.computed:
            self.computed[size, scale] = self._inside(size, offset, k.nngp.dtype)
        inside = self.computed[size, scale]
        rest = k.nngp.shape.rank - len(size)
        inside = tf.reshape(inside, [*size, *[1] * rest])
        nngp = k.nngp if k.zeros else k.nngp * inside
        return Covariance(nngp, k.ntk if k.ntk is None or k.ntk_zeros else k.ntk * inside)

    def _inside(self, size: Spatial, offset: Offset, dtype: Any) -> Tensor:
        inside = tf.ones(size, tf.bool)
        for axis, (d, n) in enumerate(zip(offset, size, strict=True)):
            there = tf.range(n) + d
            inside &= tf.reshape((there >= 0) & (there < n), [n, *[1] * (len(size) - axis - 1)])
        return materialised(tf.cast(inside, dtype), self.pairs.parameters)
