"""One form of a program, compiled: for all images, or in fewer operations for small variances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Statistics
from keras2gp.covariance.pairs import ImageBlock, images_in_runs, in_runs
from keras2gp.covariance.program import Program
from keras2gp.matrices.fingerprint import nameless
from keras2gp.matrices.traces import KeptFunctions

__all__ = ["Form", "FormResults", "Variances", "innermost", "side_by_side"]

Variances = tuple[list[Tensor], list[Tensor]]
FormResults = tuple[tuple[Tensor, ...], list[Tensor], Statistics]
"""Output variances of a block's images for each kernel, and the contents of an ImageBlock."""


def innermost(images: Sequence[Tensor]) -> list[Tensor]:
    """Data tensors with the images innermost; those of vectors are rows before."""
    return [tf.transpose(image) if image.shape.rank == 2 else image for image in images]


def side_by_side(parts: Sequence[FormResults]) -> FormResults:
    """The results for the images of all parts, one after the other."""
    outputs, images, statistics = zip(*parts, strict=True)
    return (
        tuple(tf.concat(values, -1) for values in zip(*outputs, strict=True)),
        [tf.concat(tensors, 0) for tensors in zip(*images, strict=True)],  # in runs
        {
            key: tuple(tf.concat(t, 0) for t in zip(*(s[key] for s in statistics), strict=True))
            for key in statistics[0]
        },
    )


class Form:
    """Statistics of a block's images, and the tiles of a block, as compiled functions."""

    def __init__(self, program: Program, dtype: str, *, jit_compile: bool) -> None:
        self.program = program
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
        statistics = {
            key: tuple(in_runs(tensor, run) for tensor in tensors)
            for key, tensors in statistics.items()
        }
        images = [images_in_runs(image, run) for image in images]
        return diagonal, images, statistics

    def _tiles(
        self,
        first: tuple[list[Tensor], Statistics],
        second: tuple[list[Tensor], Statistics],
        starts: Tensor,
        count: Tensor,
        variances: Variances,
        *,
        tile: tuple[int, int],
    ) -> Tensor:
        """The first `count` tiles, [tiles, B1, B2]; `starts` holds their first row and column.

        first, second: images and statistics of either side, in runs. Both kernels: [tiles, 2, ..].
        With positions: [tiles, *positions, B1, B2], or between them, with two groups of axes.
        """
        size = starts.shape[0]
        positions = self.program.graph.positions * (2 if self.program.graph.between else 1)
        shape = (*((2,) if self.program.kind == "both" else ()), *positions, *tile)
        empty = tf.TensorArray(variances[0][0].dtype, size, element_shape=shape)

        def step(t: Tensor, done: Any) -> tuple[Tensor, Any]:
            row, column = starts[t, 0], starts[t, 1]
            sides = ImageBlock(*first, row, tile[0]), ImageBlock(*second, column, tile[1])
            kernels = self.program.cross(*sides, *variances)
            return t + 1, done.write(t, tf.stack(kernels) if len(kernels) > 1 else kernels[0])

        if size == 1:
            return step(tf.constant(0), empty)[1].stack()
        _, tiles = tf.while_loop(lambda t, _: t < count, step, (tf.constant(0), empty))
        return tiles.stack()
