"""Pairs of images: each with itself, which gives the variances, or all of one block with another's.

At an offset d the second image is read at g + d: its tensors carry a margin of zeros, and are cut
out of it moved by d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import (
    Parameters,
    Place,
    Statistics,
    WindowMethod,
    is_zero,
    materialised,
)
from keras2gp.graph.ops import Input, Spatial

__all__ = ["CrossPairs", "SelfPairs", "Side", "in_runs", "with_margin"]

Made = tuple[Tensor, ...]
_FEW_CHANNELS = 16


def with_margin(tensor: Tensor, margin: Spatial) -> Tensor:
    """Zeros around the spatial axes, which come first."""
    if not any(margin):
        return tensor
    rest = [(0, 0)] * (tensor.shape.rank - len(margin))
    return tf.pad(tensor, [*((m, m) for m in margin), *rest])


def in_runs(tensor: Tensor, run: int) -> Tensor:
    """The images of a block in runs, [S / run, *spatial, run], for `Side`."""
    parts = tf.reshape(tensor, [*tensor.shape[:-1], tensor.shape[-1] // run, run])
    rank = parts.shape.rank
    return tf.transpose(parts, [rank - 2, *range(rank - 2), rank - 1])


def _once(statistic: Tensor, rank: int, parameters: Parameters) -> Tensor:
    """A statistic; one that has many numbers for each position is computed once and kept.

    rank: how many spatial axes there are
    """
    return materialised(statistic, parameters) if _many(statistic, rank) else statistic


def _many(statistic: Tensor, rank: int) -> bool:
    """Whether there are many numbers for each of the positions, on `rank` axes."""
    return bool(statistic.shape.rank > rank + 1)


def _count(images: Tensor) -> Any:
    known = images.shape[-1]
    return tf.shape(images)[-1] if known is None else known


@dataclass(frozen=True)
class Side:
    """The images of one side of a tile: `count` of them from `start` on, out of a larger block.

    Without `start` all of them are meant, and the tensors have the images innermost, [*spatial,
    S]. With it they are in runs, [S / run, *spatial, run], so that what a tile reads lies
    together; a tile does not cross the end of a run.
    """

    images: Sequence[Tensor]
    statistics: Statistics
    start: Tensor | None = None
    count: int = 0

    def cut(self, tensor: Tensor, margin: Spatial, place: Place) -> Tensor:
        """The tile's images of one tensor of the block at g + place, [*spatial, count]."""
        if self.start is None:
            return _moved(tensor, margin, place)
        run = tensor.shape[-1]
        first, size = _window(tensor.shape[1:-1], margin, place)
        begin = tf.stack([self.start // run, *first, self.start % run])
        return tf.slice(tensor, begin, [1, *size, self.count])[0]


def _moved(tensor: Tensor, margin: Spatial, place: Place) -> Tensor:
    if not any(margin):
        return tensor
    begin, size = _window(tensor.shape[:-1], margin, place)
    return tf.slice(tensor, tf.stack([*begin, 0]), [*size, -1])


def _window(shape: Sequence[int], margin: Spatial, place: Place) -> tuple[list[Any], list[int]]:
    """Where the map begins within its margin, and its size, of all axes but that of the images."""
    rank = len(margin)
    begin: list[Any] = [
        m + (d if isinstance(d, int) else tf.clip_by_value(d, -m, m))
        for m, d in zip(margin, place, strict=True)
    ]
    size = [n - 2 * m for n, m in zip(shape[:rank], margin, strict=True)]
    return begin + [0] * (len(shape) - rank), size + list(shape[rank:])


class SelfPairs:
    """Every image with itself, [*spatial, B]: gives variances, and collects the statistics.

    margins: of every node, what `reach` gives.
    """

    def __init__(
        self,
        images: tuple[Tensor, ...],
        margins: Mapping[int, Spatial],
        parameters: Parameters,
        method: WindowMethod,
        with_means: frozenset[int],
    ) -> None:
        self.with_means = with_means
        self.images = images
        self.margins = margins
        self.parameters = parameters
        self.method = method
        self.statistics: Statistics = {}
        self.made: dict[int, Made] = {}
        self.means: dict[int, Tensor] = {}

    @property
    def shape(self) -> tuple[Any, ...]:
        """The number of images."""
        return (_count(self.images[0]),)

    def data(self, index: int, op: Input, place: Place) -> Tensor:
        """Mean over channels of x_g x_{g+d}."""
        images, margin = self.images[op.index], self.margins[index]
        here = _moved(images, margin, (0,) * len(margin))
        return tf.reduce_mean(here * _moved(images, margin, place), axis=-2)

    def alone(self, place: Place) -> bool:
        """At offset 0."""
        return is_zero(place)

    def own(self, index: int, place: Place, make: Callable[[], Made]) -> tuple[Made, Made]:
        """At offset 0 the statistics are made, and kept for the other offsets and for pairs."""
        margin = self.margins[index]
        if is_zero(place):
            if index not in self.made:
                made = make()
                self.made[index] = tuple(_once(t, len(margin), self.parameters) for t in made)
                padded = (with_margin(t, margin) for t in self.made[index])
                self.statistics[str(index)] = tuple(padded)
            return self.made[index], self.made[index]
        kept = self.statistics[str(index)]
        first = tuple(_moved(t, margin, (0,) * len(margin)) for t in kept)
        return first, tuple(_moved(t, margin, place) for t in kept)

    def mean(self, index: int) -> Tensor:
        """E[A_g(x)], [*spatial, B]."""
        return self.means[index]


class CrossPairs:
    """All B1 x B2 pairs of the images of two sides, [*spatial, B1, B2]."""

    def __init__(
        self,
        sides: tuple[Side, Side],
        margins: Mapping[int, Spatial],
        parameters: Parameters,
        method: WindowMethod,
        with_means: frozenset[int],
    ) -> None:
        self.with_means = with_means
        self.sides = sides
        self.margins = margins
        self.parameters = parameters
        self.method = method
        self.firsts: dict[int, Made] = {}

    @property
    def shape(self) -> tuple[Any, ...]:
        """The numbers of images of either side."""
        return tuple(
            _count(side.images[0]) if side.start is None else side.count for side in self.sides
        )

    def data(self, index: int, op: Input, place: Place) -> Tensor:
        """Mean over channels of x1 x2."""
        margin = self.margins[index]
        first, second = self.sides
        x1 = first.cut(first.images[op.index], margin, (0,) * len(margin))
        x2 = second.cut(second.images[op.index], margin, place)
        if not is_zero(place):
            x2 = materialised(x2, self.parameters)
        if op.channels > _FEW_CHANNELS:
            return tf.matmul(x1, x2, transpose_a=True) / op.channels
        # A matrix product over a handful of channels costs more than writing it out.
        products = (x1[..., c, :, None] * x2[..., c, None, :] for c in range(op.channels))
        return sum(products) / op.channels

    def alone(self, place: Place) -> bool:
        """Never: these are different images, as far as the program knows."""
        return False

    def before_loop(self, nodes: Iterable[int]) -> None:
        """Cut the first images' statistics once for all offsets; those of many numbers alone."""
        first, _ = self.sides
        for index in nodes:
            statistics = first.statistics.get(str(index), ())
            rank = len(self.margins[index]) if statistics else 0
            if any(_many(t, rank + (first.start is not None)) for t in statistics):
                self.firsts[index] = self._first(index)

    def own(self, index: int, place: Place, make: Callable[[], Made]) -> tuple[Made, Made]:
        """What was made of either image alone."""
        del make
        margin = self.margins[index]
        _, second = self.sides
        rank, parameters = len(margin), self.parameters
        s1 = self.firsts[index] if index in self.firsts else self._first(index)
        s2 = (second.cut(t, margin, place) for t in second.statistics[str(index)])
        if is_zero(place):
            s2 = (_once(t, rank, parameters) for t in s2)
        else:
            s2 = (materialised(t, parameters) for t in s2)
        return tuple(tf.expand_dims(t, -1) for t in s1), tuple(tf.expand_dims(t, -2) for t in s2)

    def _first(self, index: int) -> Made:
        margin = self.margins[index]
        first, _ = self.sides
        cuts = (first.cut(t, margin, (0,) * len(margin)) for t in first.statistics[str(index)])
        return tuple(_once(t, len(margin), self.parameters) for t in cuts)

    def mean(self, index: int) -> Tensor:
        """Belongs to one image; the statistics hold what was made of it."""
        raise NotImplementedError
