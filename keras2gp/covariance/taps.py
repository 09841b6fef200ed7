"""The taps of windows along one axis: where they lie in a map, and sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor
from keras2gp.covariance.joint import scaled, weighted_total
from keras2gp.graph.linear_maps import Band

__all__ = ["BandReading", "pieces_of"]

_MOST_TAPS = 8


@dataclass(frozen=True)
class BandReading:
    """How the rows of a band lie in the input: row g reads `taps` positions from s g - p on.

    stride, before: s and p; stride 0 where there is no such order
    places: the first position that each row reads
    """

    taps: int
    stride: int
    before: int
    places: Array

    @classmethod
    def of(cls, band: Band) -> BandReading:
        """The reading of a band that takes the fewest positions."""
        starts = np.array([start for start, _ in band])
        ends = np.array([start + len(weights) for start, weights in band])
        rows = np.arange(len(band))
        wide = int((ends - starts).max(initial=1))
        best = cls(wide, 0, 0, starts)
        for stride in range(1, max(ends.max(initial=1), 2)):
            before = int((stride * rows - starts).max())
            taps = max(int((ends - (stride * rows - before)).max()), 1)
            if taps < (2 * wide if best.stride == 0 else best.taps):
                best = cls(taps, stride, before, stride * rows - before)
        return best

    def aligned(self, band: Band, rows: Sequence[tuple[float, ...]]) -> Array:
        """Weights [G, taps] over the positions that are read."""
        table = np.zeros((len(band), self.taps))
        for g, ((start, _), weights) in enumerate(zip(band, rows, strict=True)):
            shift = start - int(self.places[g])
            table[g, shift : shift + len(weights)] = weights
        return table


def pieces_of(
    k: Tensor, axis: int, reading: BandReading, weights: Tensor, taps: Sequence[Sequence[int]]
) -> list[Tensor]:
    """For each m: sum over taps[m] t of weights[m, g, t] k[.., s g - p + t, ..] along one axis.

    weights: [M, G, taps]
    """
    read: dict[int, Tensor] = {}
    results = []
    for m, chosen in enumerate(taps):
        if len(chosen) > _MOST_TAPS and reading.stride:
            results.append(_summed(k, axis, reading, weights[m]))
            continue
        total: Tensor = 0
        for tap in chosen:
            if tap not in read:
                read[tap] = _at_tap(k, axis, reading, tap, weights.shape[1])
            column = tf.reshape(weights[m, :, tap], [-1] + [1] * (k.shape.rank - axis - 1))
            total += scaled(read[tap], column)
        results.append(total)
    return results


def _at_tap(k: Tensor, axis: int, reading: BandReading, tap: int, count: int) -> Tensor:
    """k[.., s g - p + tap, ..] for `count` rows g along one axis; zeros beyond the border."""
    if reading.stride:
        part = _strip(k, axis, reading, tap, (count - 1) * reading.stride + 1)
        return part[(*(slice(None),) * axis, slice(None, None, reading.stride))]
    return tf.gather(k, np.clip(reading.places + tap, 0, k.shape[axis] - 1), axis=axis)


def _summed(k: Tensor, axis: int, reading: BandReading, weights: Tensor) -> Tensor:
    """A long window: one weighted sum for each position of the output."""
    count, taps = weights.shape
    k = _strip(k, axis, reading, 0, (count - 1) * reading.stride + taps)
    lead = (slice(None),) * axis
    rows = []
    for g in range(count):
        begin = g * reading.stride
        part = k[(*lead, slice(begin, begin + taps))]
        column = tf.reshape(weights[g], [taps] + [1] * (k.shape.rank - axis - 1))
        rows.append(weighted_total(column, part, axis))
    return tf.stack(rows, axis)


def _strip(k: Tensor, axis: int, reading: BandReading, tap: int, length: int) -> Tensor:
    """Positions tap - p up to `length` of them, zeros where there are none."""
    begin = tap - reading.before
    end = begin + length
    size = k.shape[axis]
    inside = k[(*(slice(None),) * axis, slice(max(begin, 0), max(min(end, size), 0)))]
    before, after = min(max(-begin, 0), length), min(max(end - size, 0), length)
    if not before and not after:
        return inside
    widths = [(0, 0)] * k.shape.rank
    widths[axis] = (before, after)
    return tf.pad(inside, widths)
