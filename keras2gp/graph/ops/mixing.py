"""Linear ops without weights that combine several offsets: pooling, upsampling, two-sided sums.

Each is a sum of products of linear maps, one along each axis (see linear_maps.py). With the maps
L1 of the first image and L2 of the second,
    k'[d][g] = sum over a, b of L1[g, a] L2[g + d, b] k[b - a][a].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.linear_maps import (
    Band,
    SeparableMap,
    composed,
    identity,
    selection,
    source_offsets,
    trimmed,
)
from keras2gp.graph.ops.base import Offset, Op, Ratios, Spatial, along

__all__ = ["AveragePool", "Combination", "Interpolate", "Matrix", "Mixing", "Select", "Upsample"]

_MOST = 2**21
"""Most offsets that one offset may need: global pooling of 724 x 724 positions."""
_MOST_PAIRS = 2**26
"""Most pairs of positions within the windows along one axis."""


@dataclass(frozen=True)
class Mixing(Op):
    """An op whose output at one offset reads its input at several; a subclass states its maps."""

    linear: ClassVar[bool] = True
    mixing: ClassVar[bool] = True

    @property
    def separable(self) -> Op:
        """The op itself: it is a sum of separable maps."""
        return self

    def input_offset(self, offset: Ratios) -> Ratios:
        """Raises GraphError: the op reads several offsets (input_offsets)."""
        raise GraphError(f"{self.title} reads several offsets")

    def input_offsets(self, offsets: frozenset[Offset], size: Spatial) -> frozenset[Offset]:
        """All offsets of an input of that size that these offsets of the output read.

        Raises: GraphError if there are more than can be computed.
        """
        sources: set[Offset] = set()
        by_axis = [sorted(set(values)) for values in zip(*offsets, strict=True)]
        maps = self.maps(size)
        for first, second in product(maps, maps):
            self._check_bands(first, size)
            axes = [
                {d: sorted(source_offsets(b1, b2, [d])) for d in values}
                for b1, b2, values in zip(first.bands, second.bands, by_axis, strict=True)
            ]
            for offset in offsets:
                if math.prod(len(axis[d]) for axis, d in zip(axes, offset, strict=True)) > _MOST:
                    raise GraphError(f"{self.title} of {size} positions needs too many offsets")
                sources.update(product(*(axis[d] for axis, d in zip(axes, offset, strict=True))))
        return frozenset(sources)

    def _check_bands(self, separable: SeparableMap, size: Spatial) -> None:
        for band in separable.bands:
            if sum(len(weights) ** 2 for _, weights in band) > _MOST_PAIRS:
                raise GraphError(f"{self.title} of {size} positions has windows that are too large")


@dataclass(frozen=True)
class AveragePool(Mixing):
    """Mean over the positions of a window that are inside the image.

    window, strides: one integer for each spatial axis
    pads: positions (before, after) by which windows reach beyond the border
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    keeps_constants: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op with windows of one call each."""
        pads = along(self.pads, (0, 0), rank)
        return (AveragePool(along(self.window, 1, rank), along(self.strides, 1, rank), pads),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """(n + pads - window) // stride + 1 on each axis."""
        out = []
        for n, k, s, pads in zip(inputs[0], self.window, self.strides, self.pads, strict=True):
            if n + sum(pads) < k or max(pads) >= k:
                raise GraphError(f"a window of {k} does not fit into {n} positions and {pads}")
            out.append((n + sum(pads) - k) // s + 1)
        return tuple(out)

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """One map, whose weights are 1 / (positions of the window inside the image)."""
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
    keeps_constants: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op; the axis of calls stays as it is."""
        return (replace(self, factors=along(self.factors, 1, rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """n u on each axis."""
        return tuple(n * u for n, u in zip(inputs[0], self.factors, strict=True))

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """One map, each of whose rows reads one position."""
        bands = [
            tuple((g // u, (1.0,)) for g in range(n * u))
            for n, u in zip(size, self.factors, strict=True)
        ]
        return (SeparableMap(1.0, tuple(bands)),)


@dataclass(frozen=True)
class Interpolate(Mixing):
    """A map of another size whose positions lie between those of the input, from edge to edge.

    Math: position g of m is at x = (g + 1/2) n / m - 1/2 of n; A'_g is the mean of its neighbours
          weighted by their nearness, or the nearest one.

    size:   sizes of the output
    smooth: whether it is the mean (bilinear, in two dimensions)
    """

    size: Spatial
    smooth: bool
    keeps_constants: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The new sizes."""
        if len(self.size) != len(inputs[0]):
            raise GraphError(f"{inputs[0]} positions cannot become {self.size}")
        return self.size

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """A Matrix of the neighbours' weights for each axis whose size changes."""
        sizes = enumerate(zip(size, self.size, strict=True))
        return tuple(Matrix(axis + 1, self._rows(n, m)) for axis, (n, m) in sizes if n != m)

    def _rows(self, n: int, m: int) -> tuple[tuple[float, ...], ...]:
        ends = ((0.0,) * first + weights for first, weights in self._band(n, m))
        return tuple(row + (0.0,) * (n - len(row)) for row in ends)

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """One map, each of whose rows reads two neighbours, or one."""
        bands = (self._band(n, m) for n, m in zip(size, self.size, strict=True))
        return (SeparableMap(1.0, tuple(bands)),)

    def _band(self, n: int, m: int) -> Band:
        rows: list[tuple[int, tuple[float, ...]]] = []
        for g in range(m):
            low, rest = divmod((2 * g + 1) * n - m, 2 * m)  # x = low + rest / 2 m
            if not self.smooth:
                rows.append((min(low + (rest >= m), n - 1), (1.0,)))
            elif rest == 0 or not 0 <= low < n - 1:
                rows.append((min(max(low, 0), n - 1), (1.0,)))
            else:
                rows.append((low, (1 - rest / (2 * m), rest / (2 * m))))
        return tuple(rows)


@dataclass(frozen=True)
class Select(Mixing):
    """Positions of the input in any order, any number of times, along each axis: A'_g = A_p(g).

    places: for each axis p(g), the position of the input that each one of the output is; () where
            the axis stays as it is
    """

    places: tuple[tuple[int, ...], ...]
    keeps_constants: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op; the axis of calls stays as it is."""
        return (replace(self, places=along(self.places, (), rank)),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The number of places along each axis, or the axis's size if it has none."""
        (size,) = inputs
        if len(self.places) != len(size) or any(
            not 0 <= place < n for n, axis in zip(size, self.places, strict=True) for place in axis
        ):
            raise GraphError(f"places {self.places} of {size} positions")
        return tuple(len(axis) or n for n, axis in zip(size, self.places, strict=True))

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """One map, a selection along each axis."""
        axes = zip(size, self.places, strict=True)
        bands = (selection(places) if places else identity(n) for n, places in axes)
        return (SeparableMap(1.0, tuple(bands)),)


@dataclass(frozen=True)
class Matrix(Mixing):
    """A matrix of constants times the positions of one axis: A'_g = sum of rows[g][a] A_a.

    rows: one weight for each position of the input, for each one of the output
    """

    axis: int
    rows: tuple[tuple[float, ...], ...]

    def with_calls(self, size: Spatial, rank: int) -> tuple[Op, ...]:
        """The same op; its axis has one more in front."""
        return (replace(self, axis=self.axis + 1),)

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """The input's shape, with the number of rows along the axis."""
        (size,) = inputs
        fits = 0 <= self.axis < len(size) and self.rows
        if not fits or {len(row) for row in self.rows} != {size[self.axis]}:
            raise GraphError(f"a matrix of {len(self.rows)} rows for axis {self.axis} of {size}")
        return (*size[: self.axis], len(self.rows), *size[self.axis + 1 :])

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True unless a weight or the input may be negative."""
        return inputs[0] and min(map(min, self.rows)) >= 0.0

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """One map, with the rows along the axis and the identity along others."""
        bands = [identity(n) for n in size]
        bands[self.axis] = tuple(map(trimmed, self.rows))
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
        """The shape that all chains give."""
        shapes = set()
        for chain in self.chains:
            size = inputs[0]
            for op in chain:
                size = op.spatial((size,))
            shapes.add(size)
        if len(shapes) != 1:
            raise GraphError(f"a sum of different shapes {sorted(shapes)}")
        return shapes.pop()

    def never_negative(self, inputs: Sequence[bool]) -> bool:
        """True if neither the input, nor a coefficient, nor a chain makes a negative number."""
        links = (link for chain in self.chains for link in chain)
        never = all(link.never_negative([True]) for link in links)
        return min(self.coefficients) >= 0.0 and inputs[0] and never

    def maps(self, size: Spatial) -> tuple[SeparableMap, ...]:
        """The maps of the chains, each composed into one band along each axis."""
        maps: list[SeparableMap] = []
        for coefficient, chain in zip(self.coefficients, self.chains, strict=True):
            terms = [SeparableMap(coefficient, tuple(identity(n) for n in size))]
            now = size
            for op in chain:
                terms = [
                    SeparableMap(
                        outer.coefficient * inner.coefficient,
                        tuple(map(composed, outer.bands, inner.bands)),
                    )
                    for outer in op.maps(now)
                    for inner in terms
                ]
                now = op.spatial((now,))
            maps += terms
        return tuple(maps)
