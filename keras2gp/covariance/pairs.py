"""Pairs of images: each with itself, which gives the variances, or all of one block with another's.

At an offset d the second image is read at g + d: its tensors carry a margin, zeros or themselves
once more, and are cut out of it moved by d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.base import (
    ImageStatistics,
    Offset,
    Pairs,
    Parameters,
    Statistics,
    WindowMethod,
    is_zero,
    materialised,
)
from keras2gp.graph.ops import Input, Margin

__all__ = [
    "CrossPairs",
    "ImageBlock",
    "SelfPairs",
    "images_in_runs",
    "in_runs",
    "with_margin",
]

_FEW_CHANNELS = 16


def with_margin(tensor: Tensor, margin: Margin) -> Tensor:
    """Zeros around the spatial axes, which come first, or the tensor again at its period."""
    if not any(margin.added):
        return tensor
    for axis, (m, period) in enumerate(zip(margin.zeros, margin.period, strict=True)):
        widths = [(0, 0)] * tensor.shape.rank
        widths[axis] = (0, period - tensor.shape[axis]) if period else (m, m)
        padded = tf.pad(tensor, widths) if any(widths[axis]) else tensor
        tensor = tf.concat([padded, tensor], axis) if period else padded
    return tensor


def in_runs(tensor: Tensor, run: int) -> Tensor:
    """The images of a block in runs, [S / run, *spatial, run], for `ImageBlock`."""
    parts = tf.reshape(tensor, [*tensor.shape[:-1], tensor.shape[-1] // run, run])
    rank = parts.shape.rank
    return tf.transpose(parts, [rank - 2, *range(rank - 2), rank - 1])


def images_in_runs(image: Tensor, run: int) -> Tensor:
    """A data tensor in runs; long vectors as rows, [S / run, run, C]: see `ImageBlock.rows`."""
    if image.shape.rank != 2 or image.shape[0] <= _FEW_CHANNELS:
        return in_runs(image, run)
    return tf.reshape(tf.transpose(image), [-1, run, image.shape[0]])


def _stored_if_wide(statistic: Tensor, rank: int, parameters: Parameters) -> Tensor:
    """A statistic; a wide one, with many numbers for each position, is computed once and stored."""
    return materialised(statistic, parameters) if _is_wide(statistic, rank) else statistic


def _is_wide(statistic: Tensor, rank: int) -> bool:
    """Whether there are many numbers for each of the positions, on `rank` axes."""
    return bool(statistic.shape.rank > rank + 1)


def _count(images: Tensor) -> Any:
    static = images.shape[-1]
    return tf.shape(images)[-1] if static is None else static


@dataclass(frozen=True)
class ImageBlock:
    """The images of one side of a tile: `count` of them from `start` on, out of a larger block.

    Without `start` the tile has all images of the block, and the tensors have the images innermost,
    [*spatial, S]. With it they are in runs, [S / run, *spatial, run], so that the images of a tile
    lie together; a tile does not cross the end of a run. Long vectors are rows then, which a matrix
    product reads faster.

    With `whole` the tile is a run, and `start` its number: XLA on a GPU computes the place of a cut
    anew for every entry.

    Maps of one rank and margin are cut at the same place, which is computed once for an offset.
    """

    images: Sequence[Tensor]
    statistics: Statistics
    start: Tensor | None = None
    count: int = 0
    whole: bool = False
    _begins: dict[Any, dict[Any, tuple[Any, Tensor]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def cut(
        self, tensor: Tensor, margin: Margin, offset: Offset, turn: Tensor | None = None
    ) -> Tensor:
        """The tile's images of one tensor of the block at g + offset, [*spatial, count].

        turn: of a tensor of all stretches of a repetition, which are ahead of the spatial axes
        """
        if self.start is None:
            return _moved(tensor if turn is None else tensor[turn], margin, offset)
        ahead = [1] if turn is None else [1, 1]
        size = [*ahead, *_sizes(tensor.shape[len(ahead) : -1], margin), self.count]
        part = tf.slice(tensor, self._begin(tensor, margin, offset, turn), size)
        return tf.squeeze(part, list(range(len(ahead))))

    def _begin(self, tensor: Tensor, margin: Margin, offset: Offset, turn: Tensor | None) -> Tensor:
        """Where the cut of a tensor begins."""
        if tf.executing_eagerly():
            places: dict[Any, tuple[Any, Tensor]] = {}
        else:  # a tensor of the body of a loop is known nowhere else
            places = self._begins.setdefault(tf.compat.v1.get_default_graph(), {})
        run, rank = tensor.shape[-1], tensor.shape.rank
        key = rank, run, margin, id(turn), *(d if isinstance(d, int) else id(d) for d in offset)
        if key not in places:
            turns = [] if turn is None else [turn]
            first = turns + _begin(rank - 2 - len(turns), margin, offset)
            number, within = self._place(run)
            # With the offset, so that no other tensor is given its number.
            places[key] = (offset, turn), tf.stack([number, *first, within])
        return places[key][1]

    def _place(self, run: int) -> tuple[Any, Any]:
        """The number of the run in which the tile lies, and the tile's first image in it."""
        start: Any = self.start
        return (start, 0) if self.whole else (start // run, start % run)

    def rows(self, vectors: Tensor) -> Tensor:
        """The tile's images of a tensor of long vectors, [count, C]."""
        if self.start is None:
            return tf.transpose(vectors)
        run, channels = vectors.shape[1:]
        number, within = self._place(run)
        begin = tf.stack([number, within, 0])
        return tf.slice(vectors, begin, [1, self.count, channels])[0]


def _moved(tensor: Tensor, margin: Margin, offset: Offset) -> Tensor:
    if not any(margin.added):
        return tensor
    begin = tf.stack([*_begin(tensor.shape.rank - 1, margin, offset), 0])
    return tf.slice(tensor, begin, [*_sizes(tensor.shape[:-1], margin), -1])


def _begin(rank: int, margin: Margin, offset: Offset) -> list[Any]:
    """Where the map begins within its margin, along all axes but that of the images."""
    begin: list[Any] = [
        m + (d if isinstance(d, int) or period else tf.clip_by_value(d, -m, m))
        for d, m, period in zip(offset, margin.zeros, margin.period, strict=True)
    ]
    return begin + [0] * (rank - margin.rank)


def _sizes(shape: Sequence[int], margin: Margin) -> list[int]:
    """The sizes of a map without its margin, along all axes but that of the images."""
    size = [n - more for n, more in zip(shape[: margin.rank], margin.added, strict=True)]
    return size + list(shape[margin.rank :])


class SelfPairs(Pairs):
    """Every image with itself, [*spatial, B]: gives variances, means and statistics."""

    zero_first = True

    def __init__(
        self,
        images: tuple[Tensor, ...],
        margins: Mapping[int, Margin],
        parameters: Parameters,
        method: WindowMethod,
        needs_means: frozenset[int],
    ) -> None:
        super().__init__(margins, parameters, method, needs_means)
        self.images = images
        self.padded: Statistics = {}
        """The statistics of every node, with its margin."""
        self._unpadded: dict[int, ImageStatistics] = {}
        self._means: dict[int, ImageMap] = {}

    @property
    def shape(self) -> tuple[Any, ...]:
        """The number of images."""
        return (_count(self.images[0]),)

    def data(self, index: int, op: Input, offset: Offset) -> PairMap:
        """Mean over channels of x_g x_{g+d}."""
        images, margin = self.images[op.index], self.margins[index]
        here = _moved(images, margin, (0,) * margin.rank)
        return tf.reduce_mean(here * _moved(images, margin, offset), axis=-2)

    def data_mean(self, index: int, op: Input) -> ImageMap:
        """Mean over channels of x_g."""
        margin = self.margins[index]
        here = _moved(self.images[op.index], margin, (0,) * margin.rank)
        return tf.reduce_mean(here, axis=-2)

    def equal(self, index: int, op: Input, offset: Offset) -> PairMap:
        """1 where x_g = x_{g+d}."""
        images, margin = self.images[op.index][..., 0, :], self.margins[index]
        here, there = _moved(images, margin, (0,) * margin.rank), _moved(images, margin, offset)
        return tf.cast(here == there, images.dtype)

    def is_variance(self, offset: Offset) -> bool:
        """At offset 0."""
        return is_zero(offset)

    def statistics(
        self, index: int, offset: Offset, make: Callable[[], ImageStatistics]
    ) -> tuple[ImageStatistics, ImageStatistics]:
        """At offset 0 the statistics are computed, and stored for the other offsets and pairs."""
        margin = self.margins[index]
        if is_zero(offset):
            if index not in self._unpadded:
                rank, parameters = margin.rank, self.parameters
                unpadded = tuple(_stored_if_wide(t, rank, parameters) for t in make())
                self._unpadded[index] = unpadded
                self.padded[str(index)] = tuple(with_margin(t, margin) for t in unpadded)
            return self._unpadded[index], self._unpadded[index]
        padded = self.padded[str(index)]
        if self.turn is not None:
            padded = tuple(t[self.turn] for t in padded)
        first = tuple(_moved(t, margin, (0,) * margin.rank) for t in padded)
        return first, tuple(_moved(t, margin, offset) for t in padded)

    def statistics_of(self, nodes: Iterable[int]) -> dict[int, ImageStatistics]:
        """Takes what was made for nodes of a repetition, with their margins."""
        made = [index for index in nodes if index in self._unpadded]
        for index in made:
            del self._unpadded[index]
        return {index: self.padded.pop(str(index)) for index in made}

    def store_statistics(self, index: int, statistics: ImageStatistics) -> None:
        """Store those of all stretches of a repetition, [count, ...], for a node of the first."""
        self.padded[str(index)] = statistics

    def store_mean(self, index: int, make: Callable[[], ImageMap]) -> None:
        """Every image has a mean."""
        self._means[index] = make()

    def mean(self, index: int) -> ImageMap:
        """E[A_g(x)], [*spatial, B]."""
        return self._means[index]


class CrossPairs(Pairs):
    """All B1 x B2 pairs of the images of two blocks, [*spatial, B1, B2]."""

    def __init__(
        self,
        blocks: tuple[ImageBlock, ImageBlock],
        margins: Mapping[int, Margin],
        parameters: Parameters,
        method: WindowMethod,
        needs_means: frozenset[int],
    ) -> None:
        super().__init__(margins, parameters, method, needs_means)
        self.blocks = blocks
        self._first_images: dict[int, ImageStatistics] = {}

    @property
    def shape(self) -> tuple[Any, ...]:
        """The numbers of images of either block."""
        return tuple(
            _count(block.images[0]) if block.start is None else block.count for block in self.blocks
        )

    def data(self, index: int, op: Input, offset: Offset) -> PairMap:
        """Mean over channels of x1 x2."""
        if op.channels > _FEW_CHANNELS and not offset:
            x1, x2 = (block.rows(block.images[op.index]) for block in self.blocks)
            return tf.matmul(x1, x2, transpose_b=True) / op.channels
        x1, x2 = self._data(index, op, offset)
        if op.channels > _FEW_CHANNELS:
            return tf.matmul(x1, x2, transpose_a=True) / op.channels
        # A matrix product over a handful of channels costs more than writing it out.
        products = (x1[..., c, :, None] * x2[..., c, None, :] for c in range(op.channels))
        return sum(products) / op.channels

    def equal(self, index: int, op: Input, offset: Offset) -> PairMap:
        """1 where x1 = x2."""
        x1, x2 = self._data(index, op, offset)
        return tf.cast(x1[..., 0, :, None] == x2[..., 0, None, :], x1.dtype)

    def _data(self, index: int, op: Input, offset: Offset) -> tuple[Tensor, Tensor]:
        """The images at g and at g + d, [*spatial, C, B1] and [*spatial, C, B2]."""
        margin = self.margins[index]
        first, second = self.blocks
        x1 = first.cut(first.images[op.index], margin, (0,) * margin.rank)
        x2 = second.cut(second.images[op.index], margin, offset)
        return x1, x2 if is_zero(offset) else materialised(x2, self.parameters)

    def before_loop(self, nodes: Iterable[int]) -> None:
        """Slice wide statistics of the first images once; they do not depend on the offset."""
        first, _ = self.blocks
        for index in nodes:
            statistics = first.statistics.get(str(index), ())
            rank = self.margins[index].rank if statistics else 0
            if any(_is_wide(t, rank + (first.start is not None)) for t in statistics):
                self._first_images[index] = self._first(index)

    def statistics(
        self, index: int, offset: Offset, make: Callable[[], ImageStatistics]
    ) -> tuple[ImageStatistics, ImageStatistics]:
        """The blocks' statistics, which were computed with the variances."""
        del make
        margin, parameters = self.margins[index], self.parameters
        _, second = self.blocks
        s1 = self._first_images[index] if index in self._first_images else self._first(index)
        s2 = (second.cut(t, margin, offset, self.turn) for t in second.statistics[str(index)])
        if is_zero(offset):
            s2 = (_stored_if_wide(t, margin.rank, parameters) for t in s2)
        else:
            s2 = (materialised(t, parameters) for t in s2)
        return tuple(tf.expand_dims(t, -1) for t in s1), tuple(tf.expand_dims(t, -2) for t in s2)

    def _first(self, index: int) -> ImageStatistics:
        margin, rank = self.margins[index], self.margins[index].rank
        first, _ = self.blocks
        tensors = first.statistics[str(index)]
        cuts = (first.cut(t, margin, (0,) * rank, self.turn) for t in tensors)
        return tuple(_stored_if_wide(t, rank, self.parameters) for t in cuts)
