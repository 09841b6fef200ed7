"""Cyclic offsets: loops whose maps hold two offsets along an axis.

At the offset s d, s the scale of a node, only n - s d of its n positions have g + s d within the
border; of those at s (d - P), with a period P of at least n / s, the other ones have. So both fit
into one map. The turn d of the loop reads the second image at (g + s d) modulo s P:

  rows 0 to n - s d - 1      hold the offset s d
  rows s (P - d) to n - 1    hold the offset s (d - P); between the two there may be a gap

Global pooling of n positions takes n turns along an axis instead of 2 n - 1. An op that reads its
input at other positions than its own must not cross the seam between the two parts, where a window
that stays within one of them would read zeros: `seams` says at which turns each tap is within.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from keras2gp.graph.graph import Graph
from keras2gp.graph.offsets import Loop
from keras2gp.graph.ops import Input, Ratios, Reading, Spatial

__all__ = ["packed", "seams", "stored_periods"]

_LEAST_GAIN = Fraction(4, 3)
"""Offsets for each turn: below that the masks at the seams cost what is gained."""


def packed(graph: Graph, walks: Iterable[Loop]) -> tuple[Loop, ...]:
    """The loops, those with periods that take fewer turns so."""
    result = [replace(loop, periods=_periods(graph, loop)) for loop in walks]
    while clashing := _clashing(graph, result):
        result = [
            replace(loop, periods=()) if number in clashing else loop
            for number, loop in enumerate(result)
        ]
    return tuple(result)


def _periods(graph: Graph, loop: Loop) -> Spatial:
    """P along each axis; none where offsets are walked one by one."""
    periods = [1] * len(loop.offsets[0])
    for index, scale in loop.scales.items():
        if not any(scale):
            continue  # at offset 0 in every turn
        node = graph.nodes[index]
        if not node.op.packs_offsets:
            return ()
        read = node.op.input_offset(scale)
        reads = [(read, graph.nodes[i].spatial) for i in node.inputs]
        for ratios, size in [(scale, node.spatial), *reads]:
            for axis, (ratio, n) in enumerate(zip(ratios, size, strict=True)):
                if ratio < 0 or ratio.denominator != 1:
                    return ()
                if ratio:
                    periods[axis] = max(periods[axis], -(-n // int(ratio)))
    cyclic = replace(loop, periods=tuple(periods))
    gains = bool(loop.nodes) and len(loop.offsets) >= _LEAST_GAIN * len(cyclic.turns)
    return cyclic.periods if gains else ()


def _clashing(graph: Graph, walks: Sequence[Loop]) -> set[int]:
    """Cyclic loops that read an input together with a loop that reads it in another way."""
    clashing = set()
    for index, node in enumerate(graph.nodes):
        if not isinstance(node.op, Input):
            continue
        readers = [n for n, loop in enumerate(walks) if any(loop.scales.get(index, ()))]
        if len({walks[n].period_of(index) for n in readers}) > 1:
            clashing |= {n for n in readers if walks[n].periods}
    return clashing


def stored_periods(graph: Graph, walks: Iterable[Loop]) -> dict[int, Spatial]:
    """The period by which the maps of a node are stored, two offsets in one along each axis.

    Of the nodes whose every reader is in a cyclic loop, and reads them with that period.
    """
    periods: dict[int, set[Spatial]] = {}
    for loop in walks:
        if not loop.nodes and any(map(any, loop.offsets)):
            periods.setdefault(loop.last, set()).add(())
        for index in loop.nodes:
            node = graph.nodes[index]
            read = node.op.input_offset(loop.scales[index]) if node.inputs else ()
            if not any(read):
                continue  # offset 0 alone
            period = _times(read, loop.periods) if loop.periods else ()
            for source in set(node.inputs) - set(loop.nodes):
                periods.setdefault(source, set()).add(period)
    return {index: found.pop() for index, found in periods.items() if len(found) == 1}


def _times(scale: Ratios, periods: Spatial) -> Spatial:
    return tuple(int(ratio) * p for ratio, p in zip(scale, periods, strict=True))


def seams(
    reading: Reading, size: int, rows: int, scale: int, period: int
) -> list[list[tuple[int, int]]]:
    """For each tap and row (low, high): the tap is in the row's part at turns d <= low, d >= high.

    reading: where the rows of the output read the input, along one axis
    size, rows: positions of the input and of the output
    scale:   that of the output
    """
    read = scale * reading.stride

    def turns(g: int, place: int) -> tuple[int, int]:
        if not scale or not 0 <= place < size:
            return period, 0  # one offset throughout; or a zero beyond the border
        low = min((rows - 1 - g) // scale, (size - 1 - place) // read)
        return low, period - min(g // scale, place // read)

    first = [reading.stride * g - reading.before for g in range(rows)]
    return [
        [turns(g, place + reading.step * tap) for g, place in enumerate(first)]
        for tap in range(reading.taps)
    ]
