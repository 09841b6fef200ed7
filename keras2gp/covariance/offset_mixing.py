"""Mixing ops: the maps of their output that one map of their input adds to.

out[d][g] = sum over a of L1[g, a] L2[g + d, a + e] in[e][a], along each axis. For one e only few d
take anything (at most two of a pooling whose windows do not overlap), so a turn of the loop adds
a handful of small maps. All tables are constants; the loop looks up those of its e.

In a cyclic loop the map of a turn holds in[e] at its first positions and in[e - P] behind them, and
so may a map that is stored. The weights of either are 0 at positions of the other: they are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, ImageMap, Tensor
from keras2gp.covariance.joint import scaled
from keras2gp.covariance.taps import BandReading, pieces_of
from keras2gp.graph.linear_maps import Band, SeparableMap, offset_weights
from keras2gp.graph.ops import Mixing, Offset, Spatial, wrapped

__all__ = ["Addition", "additions", "averaged"]

_MOST_PIECES = 16
"""Pieces of a map that are written out: compiling each takes as long as a layer."""

Held = tuple[Sequence[Offset], Spatial]
"""Offsets, and the periods of the maps that hold them; () if there is a map for each."""


@dataclass(frozen=True)
class _Along:
    """Offsets along one axis, and the period of the maps that hold them; 0: one map for each."""

    offsets: Sequence[int]
    period: int

    @classmethod
    def each(cls, offsets: Sequence[Offset], periods: Spatial) -> list[_Along]:
        """One for each axis of the offsets."""
        values = zip(*offsets, strict=True)
        periods = periods or (0,) * len(offsets[0])
        return [cls(sorted(set(d)), p) for d, p in zip(values, periods, strict=True)]

    def turn(self, offset: int) -> int:
        """An offset modulo the period."""
        return offset % self.period if self.period else offset

    @property
    def turns(self) -> list[int]:
        """The turns of all offsets, sorted."""
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

    reading: BandReading
    taps: tuple[tuple[int, ...], ...]
    weights: Array
    targets: list[list[int | None]]
    row: dict[int, int]

    @classmethod
    def of(cls, first: Band, second: Band, sources: _Along, results: _Along) -> _Axis:
        reading, turns = BandReading.of(first), sources.turns
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
    def is_regular(self) -> bool:
        """Whether each piece takes one tap, at positions a stride apart."""
        return self.reading.stride > 0 and all(len(taps) == 1 for taps in self.taps)

    @property
    def of_single_taps(self) -> Array:
        """The weights of the tap of each piece, [E, M, G]."""
        taps = np.array([tap for (tap,) in self.taps])
        return np.take_along_axis(self.weights, taps[None, :, None, None], 3)[..., 0]

    def strips(self, size: int) -> _Strips:
        """The strips that the pieces read of a map of `size` positions."""
        reading, rows = self.reading, self.weights.shape[2]
        length = (rows - 1) * reading.stride + 1
        starts = [tap - reading.before for (tap,) in self.taps]
        before = max(-min(starts), 0)
        behind = max(max(starts) + length - size, 0)
        return _Strips((before, behind), [start + before for start in starts], length)

    @property
    def reads_once(self) -> bool:
        """Whether no position of the input goes into two pieces."""
        return len(set(self.taps)) == len(self.taps) and all(len(t) == 1 for t in self.taps)


@dataclass(frozen=True)
class _Strips:
    """The positions that single taps read along one axis, of a map with zeros around it.

    widths: the zeros before and behind it
    begins: [M], where the strip of each piece begins
    length: of a strip
    """

    widths: tuple[int, int]
    begins: list[int]
    length: int


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
    def takes_unstored(self) -> bool:
        """Whether the map may fuse into it: no position is read twice, or it stores the map."""
        return self.is_long or all(axis.reads_once for axis in self.axes)

    def added(self, array: Tensor, t: Tensor, k: Tensor, keep: Callable[[Tensor], Tensor]) -> Any:
        """The array of maps with all that in[e] = k adds, e being the offset of iteration t.

        keep: ends a fusion
        """
        if self.is_long:
            return self._added_in_turn(array, t, k, keep)
        for slot, part in self.parts(t, k):
            array = array.write(slot, array.read(slot) + part)
        return array

    @property
    def is_long(self) -> bool:
        """Whether its pieces are added in a loop."""
        return self._count > _MOST_PIECES and all(axis.is_regular for axis in self.axes)

    @property
    def _count(self) -> int:
        """The number of pieces."""
        return math.prod(len(axis.taps) for axis in self.axes)

    def _added_in_turn(
        self, array: Tensor, t: Tensor, k: Tensor, keep: Callable[[Tensor], Tensor]
    ) -> Any:
        """Add the pieces one by one in a loop of the program."""
        rows = tf.constant(self.rows, tf.int32)[t]
        along = [axis.strips(n) for axis, n in zip(self.axes, k.shape, strict=False)]
        rest = k.shape.rank - len(self.axes)
        k = keep(tf.pad(scaled(k, self.factor), [s.widths for s in along] + [(0, 0)] * rest))
        tables = [
            tf.constant(axis.of_single_taps, k.dtype.real_dtype)[rows[number]]
            for number, axis in enumerate(self.axes)
        ]
        begins = [tf.constant(s.begins, tf.int32) for s in along]
        places = tf.constant(np.indices(self.slots.shape[1:]).reshape(len(along), -1).T)
        slots = tf.reshape(tf.constant(self.slots, tf.int32)[t], [-1])
        used = tf.reshape(tf.constant(self.used, k.dtype.real_dtype)[t], [-1])
        lengths = [s.length for s in along] + [-1] * rest
        strides = tuple(slice(None, None, axis.reading.stride) for axis in self.axes)

        def piece(n: Tensor, array: Tensor) -> tuple[Tensor, Any]:
            place = [places[n, number] for number in range(len(along))]
            begin = [b[m] for b, m in zip(begins, place, strict=True)] + [0] * rest
            part = tf.slice(k, tf.stack(begin), lengths)[strides]
            for number, (table, m) in enumerate(zip(tables, place, strict=True)):
                column = table[m] * used[n] if number == 0 else table[m]
                part = scaled(part, tf.reshape(column, [-1] + [1] * (k.shape.rank - number - 1)))
            slot = slots[n]
            return n + 1, array.write(slot, array.read(slot) + part)

        _, array = tf.while_loop(
            lambda n, _: n < self._count,
            piece,
            (tf.constant(0), array),
            parallel_iterations=1,
        )
        return array

    def parts(self, t: Tensor, k: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Slot and map of everything that in[e] = k adds, e being the offset of iteration t."""
        rows = tf.constant(self.rows, tf.int32)[t]
        whole = k if self.factor == 1.0 else scaled(k, self.factor)
        pieces: list[tuple[tuple[int, ...], Tensor]] = [((), whole)]
        for number, axis in enumerate(self.axes):
            table = tf.constant(axis.weights, k.dtype.real_dtype)[rows[number]]
            pieces = [
                ((*place, m), piece)
                for place, part in pieces
                for m, piece in enumerate(pieces_of(part, number, axis.reading, table, axis.taps))
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


def averaged(op: Mixing, m: ImageMap, size: Spatial) -> ImageMap:
    """The op applied to a map of one image, [*spatial, B]: to a mean."""
    total: Tensor = 0
    for term in op.maps(size):
        part = m * term.coefficient
        for axis, band in enumerate(term.bands):
            reading = BandReading.of(band)
            table = tf.constant(reading.aligned(band, [weights for _, weights in band]), m.dtype)
            (part,) = pieces_of(part, axis, reading, table[None], [range(reading.taps)])
        total += part
    return total
