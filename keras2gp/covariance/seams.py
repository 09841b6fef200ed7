"""The seams of a cyclic loop: which taps of a window stay within their offset's part of a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor
from keras2gp.covariance.joint import scaled
from keras2gp.graph.cycles import seams
from keras2gp.graph.graph import Node
from keras2gp.graph.offsets import Loop

__all__ = ["Cuts", "Seams", "cut"]

Cuts = tuple[tuple[Tensor | None, ...], ...]
"""For each axis and tap: 1 at the rows where the tap counts, else 0, [rows]; None if all do."""


def cut(k: Tensor, axis: int, factor: Tensor | None) -> Tensor:
    """The rows of a map along one axis times their factors."""
    if factor is None:
        return k
    return scaled(k, tf.reshape(factor, [-1, *[1] * (k.shape.rank - axis - 1)]))


class Seams:
    """All seams of one loop, as bounds of its turns: a tap counts at turns d <= low and d >= high.

    The bounds of all nodes lie one behind the other, so that an iteration compares and stores one
    vector. Nodes whose windows lie alike share a part of it.
    """

    def __init__(self, nodes: Sequence[Node], loop: Loop) -> None:
        self._axis: list[Array] = []
        self._low: list[Array] = []
        self._high: list[Array] = []
        self._length = 0
        self._parts: dict[int, list[list[slice | None]]] = {}
        known: dict[Any, list[slice | None]] = {}
        for index in loop.nodes:
            node, scale = nodes[index], loop.scales[index]
            if not any(scale):
                continue
            self._parts[index] = []
            for axis, reading in enumerate(node.op.readings if node.op.reads_outside else ()):
                size = nodes[node.inputs[0]].spatial[axis]
                rows, ratio = node.spatial[axis], int(scale[axis])
                key = axis, reading, size, rows, ratio
                if key not in known:
                    bounds = seams(reading, size, rows, ratio, loop.periods[axis])
                    known[key] = [self._part(axis, np.array(tap).T) for tap in bounds]
                self._parts[index].append(known[key])

    def _part(self, axis: int, bounds: Array) -> slice | None:
        low, high = bounds
        if (low + 1 >= high).all():
            return None
        begin, self._length = self._length, self._length + len(low)
        self._axis.append(np.full(len(low), axis))
        self._low.append(low)
        self._high.append(high)
        return slice(begin, self._length)

    def at(
        self, turn: Sequence[Tensor], dtype: Any, keep: Callable[[Tensor], Tensor]
    ) -> dict[int, Cuts]:
        """The cuts of one turn by the nodes that have any.

        keep: ends a fusion, so that they are not computed anew at every position
        """
        if not self._length:
            return {}
        axis, low, high = map(np.concatenate, (self._axis, self._low, self._high))
        d = tf.gather(tf.stack(turn), axis)
        vector = keep(tf.cast((d <= low) | (d >= high), dtype))
        return {
            index: tuple(
                tuple(None if part is None else vector[part] for part in taps) for taps in axes
            )
            for index, axes in self._parts.items()
        }
