"""Mixing ops: the maps of their output that one map of their input adds to.

out[d][g] = sum over a of L1[g, a] L2[g + d, a + e] in[e][a], along each axis. For one e only few d
take anything (at most two of a pooling whose windows do not overlap), so a turn of the loop adds
a handful of small maps. All tables are constants; the loop looks up those of its e.

In a cyclic loop the map of a turn holds in[e] at its first positions and in[e - P] behind them, and
so may a map that is stored. The weights of either are 0 at positions of the other: they are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, ImageMap, Tensor
from keras2gp.covariance.joint import scaled, weighted_total
from keras2gp.graph.linear_maps import Band, SeparableMap, offset_weights
from keras2gp.graph.ops import Mixing, Offset, Spatial, wrapped

__all__ = ["Addition", "additions", "averaged"]

_MOST_TAPS = 8

Held = tuple[Sequence[Offset], Spatial]
"""Offsets, and the periods of the maps that hold them; () if there is a map for each."""


@dataclass(frozen=True)
class _Reading:
    """How the rows of a band lie in the input: row g reads `taps` positions from s g - p on.

    stride, before: s and p; stride 0 where there is no such order
    places: the first position that each row reads
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
class _Along:
    """Offsets along one axis, and the period of the maps that hold them; 0: one map for each."""

    offsets: Sequence[int]
    period: int

    @classmethod
    def each(cls, offsets: Sequence[Offset], periods: Spatial) -> list[_Along]:
        """Those of every axis."""
        values = zip(*offsets, strict=True)
        periods = periods or (0,) * len(offsets[0])
        return [cls(sorted(set(d)), p) for d, p in zip(values, periods, strict=True)]

    def turn(self, offset: int) -> int:
        """An offset modulo the period."""
        return offset % self.period if self.period else offset

    @property
    def turns(self) -> list[int]:
        """All of them, sorted."""
        return sorted(set(map(self.turn, self.offsets)))


@dataclass(frozen=True)
class _Axis:
    """One axis of one pair of maps: M pieces of a map, each for one offset d of the output.

    A piece takes all taps, or, where windows do not overlap, one: then every position of the
    input goes into exactly one piece.

    taps:    [M], the taps of each piece
    weights: [E, M, G, taps], for each turn e
    targets: [E, M], its d, modulo its period; None where there is nothing to add
    row:     the index of each turn e
    """

    reading: _Reading
    taps: tuple[tuple[int, ...], ...]
    weights: Array
    targets: list[list[int | None]]
    row: dict[int, int]

    @classmethod
    def of(cls, first: Band, second: Band, sources: _Along, results: _Along) -> _Axis:
        reading, turns = _Reading.of(first), sources.turns
        row = {turn: i for i, turn in enumerate(turns)}
        tables: list[dict[int, Array]] = [{} for _ in turns]
        for e, d in product(sources.offsets, results.offsets):
            rows = offset_weights(first, second, d, e)
            if rows is not None:
                table, target = tables[row[sources.turn(e)]], results.turn(d)
                table[target] = table.get(target, 0.0) + reading.aligned(first, rows)
        every = range(reading.taps)
        whole = max(map(len, tables))
        apart = max(sum(table[:, t].any() for table in e.values()) for e in tables for t in every)
        if reading.taps * apart < whole * reading.taps and len(first) > 1:
            choices: list[tuple[int, ...]] = [(t,) for t in every]
            most = int(apart)
        else:
            choices, most = [tuple(every)], whole
        taps = tuple(choice for choice in choices for _ in range(most))
        weights = np.zeros((len(turns), len(taps), len(first), reading.taps))
        targets: list[list[int | None]] = []
        for i, by_offset in enumerate(tables):
            targets.append([None] * len(taps))
            for c, choice in enumerate(choices):
                used = [(d, w) for d, w in by_offset.items() if w[:, choice].any()]
                for j, (d, w) in enumerate(used):
                    targets[i][c * most + j] = d
                    weights[i, c * most + j][:, choice] = w[:, choice]
        return cls(reading, taps, weights, targets, row)

    @property
    def reads_once(self) -> bool:
        """Whether no position of the input goes into two pieces."""
        return len(set(self.taps)) == len(self.taps) and all(len(t) == 1 for t in self.taps)


@dataclass(frozen=True)
class Addition:
    """All that one pair of separable maps adds, for every iteration t of a loop over offsets e.

    rows:  [T, axes]     the row of each axis's table
    slots: [T, M0, M1..] the map of the output, by its index among the output's offsets
    used:  the same      whether there is one; else 0 is added to the first
    """

    factor: float
    axes: tuple[_Axis, ...]
    rows: Array
    slots: Array
    used: Array

    @property
    def reads_once(self) -> bool:
        """Whether no position of the input is read twice."""
        return all(axis.reads_once for axis in self.axes)

    def parts(self, t: Any, k: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Slot and map of everything that in[e] = k adds, e being the offset of iteration t."""
        rows = tf.constant(self.rows, tf.int32)[t]
        whole = k if self.factor == 1.0 else scaled(k, self.factor)
        pieces: list[tuple[tuple[int, ...], Tensor]] = [((), whole)]
        for number, axis in enumerate(self.axes):
            table = tf.constant(axis.weights, k.dtype.real_dtype)[rows[number]]
            pieces = [
                ((*place, m), piece)
                for place, part in pieces
                for m, piece in enumerate(_pieces(part, number, axis.reading, table, axis.taps))
            ]
        slots = tf.constant(self.slots, tf.int32)[t]
        if self.used.all():
            return [(slots[place], part) for place, part in pieces]
        used = tf.constant(self.used, k.dtype.real_dtype)[t]
        return [(slots[place], scaled(part, used[place])) for place, part in pieces]


def additions(maps: Sequence[SeparableMap], sources: Held, results: Held) -> list[Addition]:
    """The additions of a sum of maps, from the offsets of its input to those of its output."""
    along = list(zip(_Along.each(*sources), _Along.each(*results), strict=True))
    turns, slots = wrapped(*sources), wrapped(*results)
    return [
        _addition(
            first.coefficient * second.coefficient,
            tuple(
                _Axis.of(b1, b2, *both)
                for b1, b2, both in zip(first.bands, second.bands, along, strict=True)
            ),
            turns,
            slots,
        )
        for first, second in product(maps, maps)
    ]


def _addition(
    factor: float, axes: tuple[_Axis, ...], turns: Sequence[Offset], slots: Sequence[Offset]
) -> Addition:
    slot_of: dict[tuple[int | None, ...], int] = {d: slot for slot, d in enumerate(slots)}
    shape = (len(turns), *(len(axis.taps) for axis in axes))
    rows = np.zeros((len(turns), len(axes)), np.int32)
    places, used = np.zeros(shape, np.int32), np.zeros(shape)
    for t, turn in enumerate(turns):
        rows[t] = [axis.row[e] for axis, e in zip(axes, turn, strict=True)]
        targets = [axis.targets[i] for axis, i in zip(axes, rows[t], strict=True)]
        for place in product(*(range(len(along)) for along in targets)):
            slot = slot_of.get(tuple(along[j] for along, j in zip(targets, place, strict=True)))
            if slot is not None:
                places[(t, *place)], used[(t, *place)] = slot, 1.0
    return Addition(factor, axes, rows, places, used)


def _pieces(
    k: Tensor, axis: int, reading: _Reading, weights: Tensor, taps: Sequence[Sequence[int]]
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


def _at_tap(k: Tensor, axis: int, reading: _Reading, tap: int, count: int) -> Tensor:
    """k[.., s g - p + tap, ..] for `count` rows g along one axis; zeros beyond the border."""
    if reading.stride:
        part = _strip(k, axis, reading, tap, (count - 1) * reading.stride + 1)
        return part[(*(slice(None),) * axis, slice(None, None, reading.stride))]
    return tf.gather(k, np.clip(reading.places + tap, 0, k.shape[axis] - 1), axis=axis)


def _summed(k: Tensor, axis: int, reading: _Reading, weights: Tensor) -> Tensor:
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


def averaged(op: Mixing, m: ImageMap, size: Spatial) -> ImageMap:
    """The op applied to a map of one image, [*spatial, B]: to a mean."""
    total: Tensor = 0
    for term in op.maps(size):
        part = m * term.coefficient
        for axis, band in enumerate(term.bands):
            reading = _Reading.of(band)
            table = tf.constant(reading.aligned(band, [weights for _, weights in band]), m.dtype)
            (part,) = _pieces(part, axis, reading, table[None], [range(reading.taps)])
        total += part
    return total
