"""Derivatives of a sum over a block of pairs by the variances of layers: a sweep back over tiles.

The tiles of a block go through one loop of a compiled program, whose maps stay in the cache. What
their covariances ask of the statistics of images is summed over the block: a tape over the
statistics alone, once for each side of a block, takes it to the variances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor
from keras2gp._util.progress import Advance
from keras2gp.covariance.adjoint import AdjointPass, SweptPairs
from keras2gp.covariance.base import Parameters, Statistics
from keras2gp.covariance.pairs import ImageBlock, images_in_runs, in_runs
from keras2gp.covariance.program import Program
from keras2gp.covariance.subprograms import differentiable
from keras2gp.matrices.blocks import Block, BlockShape
from keras2gp.matrices.footprint import footprint_of
from keras2gp.matrices.form import Variances
from keras2gp.matrices.plan import Partition
from keras2gp.matrices.tiles import over_tiles, places_of
from keras2gp.matrices.xla import set_up_xla

__all__ = ["Sweep", "block_weights", "innermost_of"]

Side = tuple[list[Tensor], Statistics]

_TILE_MAP = 8 * 16 * 784
"""Entries of a tile's largest map: 800 KB of doubles."""
_MAPS, _TAPE = 2, 4
"""Numbers of a pair, and of an image of either side, for each position of a node, at most: in a
residual network of 7 activations XLA takes 0.8 and 1.4."""
_TILE_BYTES, _IMAGE_BYTES = 2**28, 2**28
"""Most bytes of the maps of a tile, and of the images of one side of a block."""
_LARGEST = 512
"""Images of either side of a block."""


class Sweep:
    """The derivatives of sum_ij G_ij K_ij, block by block, for a program that mixes no offsets.

    compiled: whether by XLA
    """

    def __init__(self, program: Program, *, compiled: bool = True) -> None:
        self._program = program
        positions = sum(math.prod(node.spatial) for node in program.graph.nodes)
        self._image = 8 * _TAPE * max(positions, 1)
        self._pair = 8 * _MAPS * max(positions, 1)
        self._shape = self._largest_shape()
        if compiled:
            set_up_xla()
        make = {"jit_compile": compiled, "autograph": False}
        self._statistics = tf.function(self._statistics_of, **make)
        self._tiles = tf.function(self._by_tiles, **make)
        self._images = tf.function(self._by_images, **make)

    @property
    def memory(self) -> int:
        """Bytes of a block at work."""
        shape = self._shape
        return self._pair * shape.tile_rows * shape.tile_columns + 2 * self._image * shape.rows

    def _largest_shape(self) -> BlockShape:
        largest = footprint_of(self._program.graph).largest
        pairs = min(_TILE_MAP // largest, _TILE_BYTES // self._pair, _LARGEST**2 // 4)
        pairs = max(_floor_power(pairs), 16)
        columns = _floor_power(math.isqrt(pairs))
        columns = max(columns, min(pairs // 4, 16))  # they are contiguous
        side = max(min(_floor_power(_IMAGE_BYTES // self._image), _LARGEST), columns)
        return BlockShape(side, side, max(pairs // columns, 1), columns)

    def shape(self, count: int) -> BlockShape:
        """Blocks and tiles for so many images; matrices of many sizes share a few programs."""
        whole = self._shape
        side = min(whole.rows, 1 << max(count - 1, 15).bit_length())
        return BlockShape(side, side, min(whole.tile_rows, side), min(whole.tile_columns, side))

    def total(
        self,
        variances: Variances,
        images: Sequence[Array],
        weights: Array,
        *,
        threads: int,
        advance: Advance,
    ) -> Array:
        """The derivatives by weights and biases, [2, layers].

        images: [N, *shape] each; weights: G, [N, N], symmetric
        threads: blocks at work at a time
        """
        count = len(weights)
        shape = self.shape(count)
        blocks = Partition.of(self._program.graph, count, None, shape).blocks()

        def derivatives(block: Block) -> Array:
            return self._block(block, shape, variances, images, weights)

        total = derivatives(blocks[0])  # compiles; two threads would compile the same twice
        advance(1, len(blocks))
        with ThreadPoolExecutor(threads) as pool:
            tasks = [pool.submit(derivatives, block) for block in blocks[1:]]
            try:
                for number, _ in enumerate(as_completed(tasks), start=2):
                    advance(number, len(blocks))
            finally:
                for task in tasks:
                    task.cancel()
        # In the order of the blocks, so that the sum is the same in each run.
        return sum((task.result() for task in tasks), total)

    def _block(
        self,
        block: Block,
        shape: BlockShape,
        variances: Variances,
        images: Sequence[Array],
        weights: Array,
    ) -> Array:
        """The derivatives of one block's part of the sum."""
        side, tile = shape.rows, (shape.tile_rows, shape.tile_columns)
        single = block.row == block.column
        pairs, on_diagonal = block_weights(weights, block.row, block.column, side)
        begins = [block.row] if single else [block.row, block.column]
        sides = [innermost_of(images, begin, side) for begin in begins]
        found = [self._statistics(x, variances, run=tile[1]) for x in sides]
        tiles = places_of(shape, list(shape.tiles(block)))
        both, weighted = (found[0], found[-1]), tf.constant(pairs)
        own, *by = self._tiles(both, weighted, tiles, variances, tile=tile)
        if single:
            by = [by[0] + by[1]]
        total = np.asarray(own)
        for x, upstream in zip(sides, by, strict=True):
            total = total + np.asarray(
                self._images(x, upstream, tf.constant(on_diagonal), variances)
            )
        return total

    def _statistics_of(self, images: list[Tensor], variances: Variances, *, run: int) -> Side:
        """The contents of an ImageBlock, in runs; images [*spatial, C, S]."""
        _, images, statistics = self._program.statistics(images, *variances)
        found = {key: tuple(in_runs(t, run) for t in ts) for key, ts in statistics.items()}
        return [images_in_runs(x, run) for x in images], found

    def _by_tiles(
        self,
        sides: tuple[Side, Side],
        weights: Tensor,
        tiles: tuple[Tensor, Tensor],
        variances: Variances,
        *,
        tile: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives by weights and biases, [2, layers], and by all statistics of either side.

        weights: G of the block, [S, S]
        tiles: of `places_of`

        Shapes: statistics [P, S], in the order of `_parts`
        """
        program, (rows, columns), side = self._program, tile, int(weights.shape[0])
        first, second = sides
        parameters = Parameters(program.layers, *variances, program.boundaries)
        analysis = program.analysis
        length = sum(math.prod(t.shape[1:-1]) for _, _, t in _parts(first[1]))

        def step(
            _: Tensor, row: Tensor, column: Tensor, own: Tensor, *sums: Tensor
        ) -> tuple[Any, ...]:
            blocks = ImageBlock(*first, row, rows), ImageBlock(*second, column, columns)
            pairs = SweptPairs(
                blocks, analysis.margins, parameters, program.method, analysis.needs_means
            )
            adjoint = AdjointPass(analysis, program.rules, pairs)
            adjoint.output()
            adjoint.sweep(tf.slice(weights, [row, column], [rows, columns]))
            own += tf.stack([tf.stack(adjoint.weights), tf.stack(adjoint.biases)])
            places = row // rows, column // columns
            found = map(_joined, blocks, adjoint.statistics)
            sums = tuple(
                tf.tensor_scatter_nd_add(total, [[place]], part[None])
                for total, place, part in zip(sums, places, found, strict=True)
            )
            return own, *sums

        dtype = weights.dtype
        zeros = [tf.zeros([2, len(program.layers), columns], dtype)]
        zeros += [tf.zeros([side // n, length, n], dtype) for n in tile]
        own, *sums = over_tiles(tiles, step, zeros)
        above, beside = (tf.reshape(tf.transpose(k, [1, 0, 2]), [length, side]) for k in sums)
        return tf.reduce_sum(own, -1), above, beside

    def _by_images(
        self, images: list[Tensor], upstream: Tensor, on_diagonal: Tensor, variances: Variances
    ) -> Tensor:
        """Derivatives by weights and biases, [2, layers], through the statistics of images.

        upstream: derivatives by all statistics, [P, S]; on_diagonal: by the variances, [S]
        """
        sources = [*variances[0], *variances[1]]
        with differentiable(), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            (diagonal, *_), _, statistics = self._program.statistics(images, *variances)
        parts = [t for _, _, t in _parts(statistics)]
        sizes = [math.prod(t.shape[:-1]) for t in parts]
        factors = [
            tf.reshape(factor, t.shape)
            for factor, t in zip(tf.split(upstream, sizes), parts, strict=True)
        ]
        found = tape.gradient(
            [diagonal, *parts], sources, [on_diagonal, *factors], unconnected_gradients="zero"
        )
        return tf.reshape(tf.stack(found), [2, len(variances[0])])


def _parts(statistics: Statistics) -> Iterator[tuple[str, int, Tensor]]:
    """All statistics of a block in one order: node, place and tensor."""
    for key in sorted(statistics, key=int):
        for place, tensor in enumerate(statistics[key]):
            yield key, place, tensor


def _joined(block: ImageBlock, found: Statistics) -> Tensor:
    """The derivatives by all statistics, [P, B]; 0 by those that no covariance reads."""
    parts = []
    for key, place, tensor in _parts(block.statistics):
        size = math.prod(tensor.shape[1:-1])
        if key in found:
            parts.append(tf.reshape(found[key][place], [size, block.count]))
        else:
            parts.append(tf.zeros([size, block.count], tensor.dtype))
    dtype = block.images[0].dtype
    return tf.concat(parts, 0) if parts else tf.zeros([0, block.count], dtype)


def block_weights(weights: Array, row: int, column: int, side: int) -> tuple[Array, Array]:
    """Weights of a block's pairs, (i, j) and (j, i) together above the diagonal, and on it."""
    pairs, on_diagonal = np.zeros((side, side)), np.zeros(side)
    cut = weights[row : row + side, column : column + side]
    pairs[: cut.shape[0], : cut.shape[1]] = 2.0 * cut
    if row == column:
        on_diagonal[: len(cut)] = np.diagonal(cut)
        pairs = np.triu(pairs, 1)
    return pairs, on_diagonal


def innermost_of(images: Sequence[Array], start: int, side: int) -> list[Tensor]:
    """Images of one side in float64, [*spatial, C, S]; a ragged end repeats the first image."""
    parts = []
    for array in images:
        part = array[start : start + side].astype(np.float64)
        part = np.concatenate([part, np.repeat(part[:1], side - len(part), axis=0)])
        parts.append(tf.constant(np.moveaxis(part, 0, -1)))
    return parts


def _floor_power(n: int) -> int:
    """The largest power of two within n; 1 for less."""
    return 1 << max(n.bit_length() - 1, 0)
