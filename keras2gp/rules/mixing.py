"""Ops that mix offsets: what one map of their input adds to which maps of their output.

out[d][g] = sum over a of L1[g, a] L2[g + d, a + e] in[e][a], along each axis. For one e only few d
take anything (at most two of a pooling whose windows do not overlap), so a turn of the loop adds
a handful of small maps. All tables are constants; the loop looks up those of its e.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp.graph.bands import Band, offset_weights
from keras2gp.graph.mixing import Mixing, SeparableMap
from keras2gp.graph.ops import Offset, Spatial

__all__ = ["Addition", "additions", "averaged"]

Array = np.ndarray[Any, Any]
Tensor = Any
_MOST_TAPS = 8


@dataclass(frozen=True)
class _Reading:
    """How the rows of a band lie in the input: row g reads `taps` positions from s g - p on.

    stride, before: s and p; stride 0 where there is no such order, and `places` says where
    """

    taps: int
    stride: int
    before: int
    places: Array

    @classmethod
    def of(cls, band: Band) -> _Reading:
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


@dataclass(frozen=True)
class _Axis:
    """One axis of one pair of maps: for each e the offsets d that it adds to, and the weights.

    weights: [E, J, G, taps]
    targets: for each e its d, at most J
    """

    reading: _Reading
    weights: Array
    targets: dict[int, list[int]]
    row: dict[int, int]

    @classmethod
    def of(cls, first: Band, second: Band, sources: list[int], results: list[int]) -> _Axis:
        reading = _Reading.of(first)
        found: dict[int, list[tuple[int, Array]]] = {}
        for e in sources:
            found[e] = []
            for d in results:
                rows = offset_weights(first, second, d, e)
                if rows is not None:
                    found[e].append((d, reading.aligned(first, rows)))
        most = max(map(len, found.values()))
        weights = np.zeros((len(sources), most, len(first), reading.taps))
        for i, e in enumerate(sources):
            for j, (_, table) in enumerate(found[e]):
                weights[i, j] = table
        targets = {e: [d for d, _ in entries] for e, entries in found.items()}
        return cls(reading, weights, targets, {e: i for i, e in enumerate(sources)})

    @property
    def most(self) -> int:
        """J, the most offsets that one e adds to."""
        return int(self.weights.shape[1])


@dataclass(frozen=True)
class Addition:
    """All that one pair of separable maps adds, for every turn t of a loop over offsets e.

    rows:  [T, axes]     the row of each axis's table
    slots: [T, J0, J1..] which map of the output, by its place in the order of its offsets
    used:  the same      whether there is one; else 0 is added to the first
    """

    factor: float
    axes: tuple[_Axis, ...]
    rows: Array
    slots: Array
    used: Array

    def parts(self, t: Any, k: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Slot and map of everything that in[e] = k adds, e being the offset of turn t."""
        rows = tf.constant(self.rows, tf.int32)[t]
        found: list[tuple[tuple[int, ...], Tensor]] = [((), k * self.factor)]
        if self.factor == 1.0:
            found = [((), k)]
        for number, axis in enumerate(self.axes):
            table = tf.constant(axis.weights, k.dtype)[rows[number]]
            found = [
                ((*place, j), _applied(part, number, axis.reading, table[j]))
                for place, part in found
                for j in range(axis.most)
            ]
        slots, used = tf.constant(self.slots, tf.int32)[t], tf.constant(self.used, k.dtype)[t]
        full = bool(self.used.all())
        return [(slots[place], part if full else part * used[place]) for place, part in found]


def additions(
    op: Mixing, size: Spatial, sources: Sequence[Offset], results: Sequence[Offset]
) -> list[Addition]:
    """What the op adds from the offsets of its input to those of its output, turn by turn."""
    maps = op.maps(size)
    return [_addition(a, b, sources, results) for a, b in product(maps, maps)]


def _addition(
    first: SeparableMap,
    second: SeparableMap,
    sources: Sequence[Offset],
    results: Sequence[Offset],
) -> Addition:
    axes = tuple(
        _Axis.of(b1, b2, sorted(set(e)), sorted(set(d)))
        for b1, b2, e, d in zip(
            first.bands, second.bands, zip(*sources, strict=True), zip(*results, strict=True),
            strict=True,
        )
    )  # fmt: skip
    known = {offset: slot for slot, offset in enumerate(results)}
    shape = (len(sources), *(axis.most for axis in axes))
    rows = np.zeros((len(sources), len(axes)), np.int32)
    slots, used = np.zeros(shape, np.int32), np.zeros(shape)
    for t, source in enumerate(sources):
        rows[t] = [axis.row[e] for axis, e in zip(axes, source, strict=True)]
        targets = [axis.targets[e] for axis, e in zip(axes, source, strict=True)]
        for place in product(*(range(len(found)) for found in targets)):
            slot = known.get(tuple(found[j] for found, j in zip(targets, place, strict=True)))
            if slot is not None:
                slots[(t, *place)], used[(t, *place)] = slot, 1.0
    return Addition(first.coefficient * second.coefficient, axes, rows, slots, used)


def _applied(k: Tensor, axis: int, reading: _Reading, weights: Tensor) -> Tensor:
    """sum over a of weights[g, a] k[.., a, ..] along one axis; weights [G, taps]."""
    count, taps = weights.shape
    if taps > _MOST_TAPS and reading.stride:
        k = _strip(k, axis, reading, 0, (count - 1) * reading.stride + taps)
        return _summed(k, axis, reading, weights)
    total: Tensor = 0
    for tap in range(taps):
        if reading.stride:
            part = _strip(k, axis, reading, tap, (count - 1) * reading.stride + 1)
            part = part[(*(slice(None),) * axis, slice(None, None, reading.stride))]
        else:
            inside = np.clip(reading.places + tap, 0, k.shape[axis] - 1)
            part = tf.gather(k, inside, axis=axis)
        column = tf.reshape(weights[:, tap], [count] + [1] * (k.shape.rank - axis - 1))
        total += column * part
    return total


def _summed(k: Tensor, axis: int, reading: _Reading, weights: Tensor) -> Tensor:
    """A long window: one weighted sum for each position of the output."""
    count, taps = weights.shape
    lead = (slice(None),) * axis
    rows = []
    for g in range(count):
        begin = g * reading.stride
        part = k[(*lead, slice(begin, begin + taps))]
        column = tf.reshape(weights[g], [taps] + [1] * (k.shape.rank - axis - 1))
        rows.append(tf.reduce_sum(column * part, axis))
    return tf.stack(rows, axis)


def _strip(k: Tensor, axis: int, reading: _Reading, tap: int, length: int) -> Tensor:
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


def averaged(op: Mixing, m: Tensor, size: Spatial) -> Tensor:
    """The op applied to a map of one image, [*spatial, B]: to first moments."""
    total: Tensor = 0
    for term in op.maps(size):
        part = m * term.coefficient
        for axis, band in enumerate(term.bands):
            reading = _Reading.of(band)
            table = reading.aligned(band, [weights for _, weights in band])
            part = _applied(part, axis, reading, tf.constant(table, m.dtype))
        total += part
    return total
