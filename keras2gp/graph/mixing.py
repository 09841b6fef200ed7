"""Linear ops without weights that combine several offsets: pooling, upsampling, two-sided sums.

Each is a sum of products of linear maps, one along each axis (see bands.py). With the maps L1 of
the first image and L2 of the second,
    k'[d][g] = sum over a, b of L1[g, a] L2[g + d, b] k[b - a][a].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.linear_maps import Band, composed, identity, source_offsets
from keras2gp.graph.ops import Crop, Dilate, Offset, Op, Pad, Ratios, Scale, Spatial

__all__ = ["AveragePool", "Combination", "Mixing", "SeparableMap", "Upsample"]


@dataclass(frozen=True)
class SeparableMap:
    """coefficient times one band along each axis."""

    coefficient: float
    bands: tuple[Band, ...]


@dataclass(frozen=True)
class Mixing(Op):
    """An op whose output at one offset reads its input at several."""

    linear: ClassVar[bool] = True
    mixing: ClassVar[bool] = True

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """The op on an input of that size, as a sum of separable maps."""
        raise NotImplementedError

    def input_offset(self, offset: Ratios) -> Ratios:
        """There is not one; see input_offsets."""
        raise GraphError(f"{type(self).__name__} reads several offsets")

    def input_offsets(self, offsets: frozenset[Offset], size: Spatial) -> frozenset[Offset]:
        """All offsets of an input of that size that these offsets of the output read."""
        found: set[Offset] = set()
        along = [sorted(set(values)) for values in zip(*offsets, strict=True)]
        maps = self.maps(size)
        for first, second in product(maps, maps):
            axes = [
                {d: sorted(source_offsets(b1, b2, [d])) for d in values}
                for b1, b2, values in zip(first.bands, second.bands, along, strict=True)
            ]
            for offset in offsets:
                found.update(product(*(axis[d] for axis, d in zip(axes, offset, strict=True))))
        return frozenset(found)


@dataclass(frozen=True)
class AveragePool(Mixing):
    """Mean over the positions of a window that are inside the image.

    window, strides: one integer for each spatial axis
    pads: positions (before, after) by which windows reach beyond the border
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """(n + pads - window) // stride + 1 on each axis."""
        out = []
        for n, k, s, pads in zip(inputs[0], self.window, self.strides, self.pads, strict=True):
            if n + sum(pads) < k or max(pads) >= k:
                raise GraphError(f"a window of {k} does not fit into {n} positions and {pads}")
            out.append((n + sum(pads) - k) // s + 1)
        return tuple(out)

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """Weights 1 / (positions inside)."""
        bands = []
        for n, k, s, (before, _), m in zip(
            size, self.window, self.strides, self.pads, self.spatial((size,)), strict=True
        ):
            rows = []
            for g in range(m):
                first, last = max(g * s - before, 0), min(g * s - before + k, n)
                rows.append((first, (1 / (last - first),) * (last - first)))
            bands.append(tuple(rows))
        return (SeparableMap(1.0, tuple(bands)),)


@dataclass(frozen=True)
class Upsample(Mixing):
    """Every position repeated, `factors` times along each axis: A'_g = A_(g // u)."""

    factors: tuple[int, ...]

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """n u on each axis."""
        return tuple(n * u for n, u in zip(inputs[0], self.factors, strict=True))

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """One position each."""
        bands = [
            tuple((g // u, (1.0,)) for g in range(n * u))
            for n, u in zip(size, self.factors, strict=True)
        ]
        return (SeparableMap(1.0, tuple(bands)),)


@dataclass(frozen=True)
class Combination(Mixing):
    """sum of c_i L_i A for one tensor A: x + average_pool(x), whose terms are not independent.

    coefficients: c_i
    chains: L_i, the ops that it is made of from the first applied to the last; () is A itself
    """

    coefficients: tuple[float, ...]
    chains: tuple[tuple[Op, ...], ...]

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """That of every chain."""
        found = set()
        for chain in self.chains:
            size = inputs[0]
            for op in chain:
                size = op.spatial((size,))
            found.add(size)
        if len(found) != 1:
            raise GraphError(f"a sum of different shapes {sorted(found)}")
        return found.pop()

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """The chains, each composed into one band along each axis."""
        found = []
        for coefficient, chain in zip(self.coefficients, self.chains, strict=True):
            terms = [SeparableMap(coefficient, tuple(identity(n) for n in size))]
            now = size
            for op in chain:
                terms = [
                    SeparableMap(
                        outer.coefficient * inner.coefficient,
                        tuple(map(composed, outer.bands, inner.bands)),
                    )
                    for outer in separable_maps(op, now)
                    for inner in terms
                ]
                now = op.spatial((now,))
            found += terms
        return tuple(found)


def separable_maps(op: Op, size: Spatial) -> tuple[SeparableMap, ...]:
    """A linear op on an input of that size, as a sum of separable maps.

    Raises: GraphError for an op that is none.
    """
    match op:
        case Mixing():
            return op.maps(size)
        case Scale():
            return (SeparableMap(op.factor, tuple(identity(n) for n in size)),)
        case Crop():
            bands = [
                _positions(list(range(before, n - after)))
                for n, (before, after) in zip(size, op.crops, strict=True)
            ]
        case Pad():
            bands = [
                _positions([g if 0 <= g < n else None for g in range(-before, n + after)])
                for n, (before, after) in zip(size, op.pads, strict=True)
            ]
        case Dilate():
            bands = [
                _positions([None if g % s else g // s for g in range((n - 1) * s + 1)])
                for n, s in zip(size, op.strides, strict=True)
            ]
        case _:
            raise GraphError(f"{type(op).__name__} is not a separable linear map")
    return (SeparableMap(1.0, tuple(bands)),)


def _positions(places: Sequence[int | None]) -> Band:
    """One input position for each output position, or none: 0."""
    return tuple((0, ()) if place is None else (place, (1.0,)) for place in places)
