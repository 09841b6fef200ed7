"""Linear maps along one axis, as rows of weights: pooling, upsampling, cropping.

Glossary
  band    one row for each output position: the first input position that it reads, and weights
  L1, L2  the maps of the first and of the second image
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Band",
    "SeparableMap",
    "composed",
    "identity",
    "offset_weights",
    "selection",
    "source_offsets",
    "trimmed",
]

Band = tuple[tuple[int, tuple[float, ...]], ...]


@dataclass(frozen=True)
class SeparableMap:
    """coefficient times one band along each axis."""

    coefficient: float
    bands: tuple[Band, ...]


def identity(size: int) -> Band:
    """Every position as it is."""
    return tuple((g, (1.0,)) for g in range(size))


def selection(positions: Sequence[int | None]) -> Band:
    """One input position for each output position; None: 0."""
    return tuple((0, ()) if place is None else (place, (1.0,)) for place in positions)


def trimmed(weights: Sequence[float]) -> tuple[int, tuple[float, ...]]:
    """A row of a band from the weights of all positions, without the zeros at either end."""
    used = [place for place, weight in enumerate(weights) if weight]
    return (used[0], tuple(weights[used[0] : used[-1] + 1])) if used else (0, ())


def composed(outer: Band, inner: Band) -> Band:
    """outer after inner."""
    rows = []
    for start, weights in outer:
        found: dict[int, float] = {}
        for offset, weight in enumerate(weights):
            first, inside = inner[start + offset]
            for step, value in enumerate(inside):
                found[first + step] = found.get(first + step, 0.0) + weight * value
        first = min(found, default=0)
        last = max(found, default=-1)
        rows.append((first, tuple(found.get(a, 0.0) for a in range(first, last + 1))))
    return tuple(rows)


def offset_weights(first: Band, second: Band, d: int, e: int) -> list[tuple[float, ...]] | None:
    """Weights of offset e of the input in offset d of the output, for every row of `first`.

    Math: out[d][g] = sum over a of L1[g, a] L2[g + d, a + e] in[e][a]; the weights of in[e] over
          the positions a of row g of L1, 0 where g + d is outside. None if all are 0.
    """
    rows = []
    for g, (start, weights) in enumerate(first):
        if not 0 <= g + d < len(second):
            rows.append((0.0,) * len(weights))
            continue
        other, values = second[g + d]
        theirs = dict(enumerate(values, other))
        rows.append(tuple(w * theirs.get(a + e, 0.0) for a, w in enumerate(weights, start)))
    return rows if any(map(any, rows)) else None


def source_offsets(first: Band, second: Band, offsets: Sequence[int]) -> set[int]:
    """Offsets of the input that these offsets of the output take anything from."""
    found: set[int] = set()
    for d in offsets:
        for g, (start, weights) in enumerate(first):
            if not 0 <= g + d < len(second):
                continue
            other, values = second[g + d]
            if weights and values and all(weights) and all(values):
                # Whole windows: n^2 pairs make 2 n - 1 offsets.
                low = other - start - len(weights) + 1
                found.update(range(low, low + len(weights) + len(values) - 1))
                continue
            ours = [start + t for t, w in enumerate(weights) if w != 0.0]
            theirs = [other + t for t, w in enumerate(values) if w != 0.0]
            found.update(b - a for a in ours for b in theirs)
    return found
