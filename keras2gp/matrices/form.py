"""One form of a program, compiled: for all images, or in fewer operations for small variances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Statistics
from keras2gp.covariance.pairs import ImageBlock, images_in_runs, in_runs
from keras2gp.covariance.program import Program
from keras2gp.matrices.fingerprint import nameless
from keras2gp.matrices.tiles import over_tiles
from keras2gp.matrices.traces import KeptFunctions

__all__ = ["Form", "FormResults", "Variances", "innermost"]

Variances = tuple[list[Tensor], list[Tensor]]
FormResults = tuple[tuple[Tensor, ...], list[Tensor], Statistics]
"""Output variances of a block's images for each kernel, and the contents of an ImageBlock."""


def innermost(images: Sequence[Tensor]) -> list[Tensor]:
    """Data tensors with the images innermost; those of vectors are rows before."""
    return [tf.transpose(image) if image.shape.rank == 2 else image for image in images]


def _run_first(tensor: Tensor) -> Tensor:
    """A map in runs, [S / run, *spatial, run], as [run, S / run, *spatial]."""
    rank = tensor.shape.rank
    return tf.transpose(tensor, [rank - 1, *range(rank - 1)]) if rank > 2 else tensor


def _run_last(tensor: Tensor) -> Tensor:
    """The inverse of `_run_first`."""
    rank = tensor.shape.rank
    return tf.transpose(tensor, [*range(1, rank), 0]) if rank > 2 else tensor


def _mapped(function: Callable[[Tensor], Tensor], statistics: Statistics) -> Statistics:
    return {key: tuple(map(function, tensors)) for key, tensors in statistics.items()}


class Form:
    """Statistics of a block's images, and the tiles of a block, as compiled functions.

    XLA on a GPU lays the entries of a map of pairs in the order [B1, B2, *spatial]. Statistics with
    the images innermost are then each turned in a pass of its own: 163 launches of kernels for a
    block of ResNet-32 where 40 do. So a program for a GPU keeps them with the images outermost, but
    for those that walk offsets: with two poolings, 43 launches in place of 30.
    """

    def __init__(self, program: Program, dtype: str, *, jit_compile: bool) -> None:
        self.program = program
        self._for_gpu = not program.boundaries
        walks = any(len(loop.offsets) > 1 for loop in program.analysis.loops)
        self._images_first = self._for_gpu and not walks
        settings = program.method, program.kind, program.boundaries, program.reach
        self.kept = KeptFunctions(nameless(program.graph), dtype, *settings)
        self.statistics = tf.function(self._statistics, jit_compile=jit_compile, autograph=False)
        self.cross = tf.function(self._tiles, jit_compile=jit_compile, autograph=False)

    def _statistics(
        self, images: list[Tensor], weights: list[Tensor], biases: list[Tensor], *, run: int
    ) -> FormResults:
        """Output variances, [S], and the contents of an ImageBlock, in runs.

        images: [*spatial, C, S], and vectors as rows, [S, C]
        """
        images = innermost(images)
        diagonal, images, statistics = self.program.statistics(images, weights, biases)
        statistics = _mapped(lambda tensor: in_runs(tensor, run), statistics)
        if self._images_first:
            statistics = _mapped(_run_first, statistics)
        images = [images_in_runs(image, run) for image in images]
        return diagonal, images, statistics

    def side_by_side(self, parts: Sequence[FormResults]) -> FormResults:
        """The results for the images of all parts, one after the other."""
        outputs, images, statistics = zip(*parts, strict=True)

        def joined(*tensors: Tensor) -> Tensor:
            return tf.concat(tensors, 1 if self._images_first and tensors[0].shape.rank > 2 else 0)

        return (
            tuple(tf.concat(values, -1) for values in zip(*outputs, strict=True)),
            [tf.concat(tensors, 0) for tensors in zip(*images, strict=True)],  # in runs
            {key: tuple(map(joined, *(s[key] for s in statistics))) for key in statistics[0]},
        )

    def _tiles(
        self,
        first: tuple[list[Tensor], Statistics],
        second: tuple[list[Tensor], Statistics],
        places: tuple[Tensor, Tensor],
        variances: Variances,
        *,
        tile: tuple[int, int],
    ) -> Tensor:
        """The tiles at some places (`places_of`), [tiles, B1, B2].

        first, second: images and statistics of either side, in runs. Both kernels: [tiles, 2, ..].
        With positions: [tiles, *positions, B1, B2], or between them, with two groups of axes.
        """
        starts, count = places
        size = starts.shape[0]
        positions = self.program.graph.positions * (2 if self.program.graph.between else 1)
        shape = (*((2,) if self.program.kind == "both" else ()), *positions, *tile)
        # Runs are as long as a tile has columns.
        whole = self._for_gpu and tile[0] == tile[1], self._for_gpu
        if self._for_gpu:
            starts = starts // [n if is_run else 1 for n, is_run in zip(tile, whole, strict=True)]
        if self._images_first:
            first, second = ((x, _mapped(_run_last, kept)) for x, kept in (first, second))
        empty = tf.TensorArray(variances[0][0].dtype, size, element_shape=shape)

        def step(t: Tensor, row: Tensor, column: Tensor, done: Any) -> list[Any]:
            sides = (
                ImageBlock(*first, row, tile[0], whole=whole[0]),
                ImageBlock(*second, column, tile[1], whole=whole[1]),
            )
            kernels = self.program.cross(*sides, *variances)
            return [done.write(t, tf.stack(kernels) if len(kernels) > 1 else kernels[0])]

        if size == 1:
            (tiles,) = step(tf.constant(0), starts[0, 0], starts[0, 1], empty)
        else:
            (tiles,) = over_tiles((starts, count), step, [empty])
        return tiles.stack()
