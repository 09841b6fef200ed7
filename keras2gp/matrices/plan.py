"""The plan of a matrix: its blocks and tiles, and the footprint of a graph that decides on them.

A matrix is cut into blocks, each one call of the executable and one piece of finished work; a
block is cut into tiles, whose maps are small enough for the cache.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import Literal

from keras2gp.graph.graph import Graph
from keras2gp.matrices.blocks import Block, BlockShape
from keras2gp.matrices.footprint import Footprint, footprint_of

__all__ = ["Device", "Partition", "block_shape", "images_at_once", "inner_tiles", "working_set"]

Device = Literal["cpu", "gpu"]
"""The kind of device that a program is made for."""

_LARGEST = 2048
_BLOCK = 512
_TILE_MAP = 8 * 32 * 784
"""Entries of a tile's largest map: 800 KB in float32, read and written once for each op.

Eight rows share the statistics of a column's image: 8 x 32 is 10% faster than 4 x 64 on a core with
a cache of 2 MB, and 5% to 20% faster than 16 x 32, whose maps leave that cache.
"""
_WIDE_COLUMNS = 12
_WIDE_TILE_MAP = 64 * 64 * 784
"""The same for expanded activations: a tile reads as many numbers of its images as of its pairs,
so that more pairs halve the time of each (tanh: 10.0 ns an entry in tiles of 16 x 32, 5.3 ns in
64 x 64)."""
_COMPACT_TILE_MAP = 32 * 32 * 784
"""The same for compact forms of expanded activations: in tiles of 8 x 32, 16 x 32, 32 x 32 and
64 x 64 pairs a network with elu took 5.2, 4.7, 3.9 and 4.2 times as long as one with ReLU."""
_VECTORS_TILE = 512
"""Images of either side of a tile where all maps are single numbers."""
_SMALL = 256
"""Up to this many images use 64-column tiles: 32-column ones compile 1.5 times longer."""
_MIXING_BLOCK = 128
_MANY_NODES = 64
"""Nodes of a graph that compiles for seconds."""
_SOON = 2**29
"""Entries that are computed in half a second."""
_KEPT, _WIDE_KEPT = 2**23, 2**26
"""Most entries that the loops of a tile keep: 32 MB in float32, 256 MB in wide tiles."""
_IMAGES_KEPT = 2**26
"""Most entries that the loops keep for the images whose statistics are computed at once: 256 MB in
float32. Fewer images at once take no longer, and no program of another size."""
_MOST_KEPT = 2**30
"""Entries that the loops of a tile may keep where even a tile of 2 x 16 pairs keeps more: 4 GB in
float32."""
_GPU_BLOCK = 1024
_GPU_TILE_MAP = 128 * 128 * 784
"""Entries of a tile's largest map on a GPU: 51 MB in float32, about the second-level cache of an
H100. ResNet-32 there: 11.7, 13.3 and 11.0 million pairs/s in tiles of 64, 128 and 256 squared."""
_GPU_KEPT = 2**28
"""Entries that the loops of a tile leave behind on a GPU: 1 GB in float32."""
_VALUES = 2**24
"""Entries of a block's result, where each pair of images has many: 64 MB in float32."""
_IMAGES = 2**27
"""Most entries of the statistics of one side of a block: 512 MB in float32."""


def block_shape(graph: Graph, n1: int, n2: int, device: Device = "cpu") -> BlockShape:
    """Tiles whose largest map stays in the cache, blocks no larger than the matrix asks for.

    On a GPU tiles are squares that keep all of its cores busy, and few enough that the launch of
    a step takes no longer than the step.

    Sizes are powers of two, so that small matrices of many sizes share a few executables; the
    columns, which are contiguous, are long, and a multiple of 16.
    """
    footprint = footprint_of(graph)
    if footprint.largest == 1:
        side = min(_LARGEST, _power(max(n1, n2), 16))
        return BlockShape(side, side, side, side)
    if device == "gpu":
        return _gpu_block_shape(footprint, max(n1, n2))
    wide = footprint.columns >= _WIDE_COLUMNS
    entries = _WIDE_TILE_MAP if wide else _TILE_MAP
    pairs = min(max(2 ** round(math.log2(entries / footprint.largest)), 64), _LARGEST**2)
    if footprint.kept:
        most = _WIDE_KEPT if wide else _KEPT
        pairs = min(pairs, max(_floor_power(most // footprint.kept), 16))
    if wide:  # a square reads the fewest images
        tile_rows = min(max(_floor_power(math.isqrt(pairs)), 2), 64)
    else:
        tile_rows = min(max(pairs // (64 if max(n1, n2) <= _SMALL else 32), 2), 16)
    tile_columns = min(max(pairs // tile_rows, 16), _BLOCK)
    while tile_rows * tile_columns > max(_MOST_KEPT // max(footprint.kept, 1), 1):
        tile_rows, tile_columns = (1, tile_columns) if tile_rows > 1 else (1, tile_columns // 2)
    largest = max(_MIXING_BLOCK, tile_columns) if footprint.mixes else _BLOCK
    largest = max(min(largest, _floor_power(_IMAGES // footprint.image)), 16)
    few = 64 + tile_rows * min(tile_columns, 64)  # a block's images with themselves, and a tile
    least = 64 if _compiles_long(footprint, few) else 16
    # Equal sides share the executable of statistics.
    side = min(largest, _power(max(n1, n2), least))
    side = min(side, _most_images(footprint.result))
    return BlockShape(side, side, min(tile_rows, side), min(tile_columns, side))


def inner_tiles(
    graph: Graph, shape: BlockShape, device: Device, *, compact: bool = False
) -> BlockShape:
    """A block's shape in the tiles that are computed, which lie within the given ones.

    The statistics of images are laid out for the given tiles. Compact activations read a dozen
    numbers of an image. Entries of vectors are computed in tiles that waste little on the diagonal.
    """
    footprint = footprint_of(graph)
    if device == "gpu" or not (compact or footprint.largest == 1):
        return shape
    side = _VECTORS_TILE
    if footprint.largest > 1:
        side = _floor_power(math.isqrt(max(_COMPACT_TILE_MAP // footprint.largest, 256)))
    tile = min(side, shape.tile_rows), min(side, shape.tile_columns)
    return BlockShape(shape.rows, shape.columns, *tile)


def working_set(graph: Graph, shape: BlockShape, threads: int) -> int:
    """Entries that threads need, each at a block of its own.

    They are the statistics of the images, the maps that loops keep for a tile, and two copies of
    the block's values.
    """
    footprint = footprint_of(graph)
    if graph.between:
        shape = shape.per_image(math.prod(graph.positions))
    images = (shape.rows + shape.columns) * footprint.image
    # The variances of images go through the loops too, an image for a pair.
    together = images_at_once(graph, shape.columns, shape.tile_columns)
    kept = max(shape.tile_rows * shape.tile_columns, together) * footprint.kept
    return threads * (images + kept + 2 * shape.rows * shape.columns * footprint.result)


def images_at_once(graph: Graph, count: int, run: int) -> int:
    """Images of the `count` of one side of a block whose statistics are computed together.

    All of them, or a part that divides them, where the loops keep much of each.

    run: the images of a tile, a divisor of `count`
    """
    most = _IMAGES_KEPT // max(footprint_of(graph).kept, 1)
    part = run * _floor_power(most // run)
    return part if part < count and count % part == 0 else count


def _compiles_long(footprint: Footprint, pairs: int) -> bool:
    """Whether a graph takes longer to compile than `pairs` pairs of images to compute.

    Then a few images fill the block of 64: the next matrix compiles nothing.
    """
    return footprint.nodes >= _MANY_NODES and pairs * footprint.entries <= _SOON


def _gpu_block_shape(footprint: Footprint, images: int) -> BlockShape:
    """Square tiles of some ten million entries in the largest map, in blocks of many tiles."""
    pairs = min(_GPU_TILE_MAP // footprint.largest, _GPU_KEPT // max(footprint.kept, 1))
    tile = min(max(_floor_power(math.isqrt(max(pairs, 1))), 16), 256)
    side = max(min(_GPU_BLOCK, _floor_power(_IMAGES // footprint.image)), tile)
    side = min(side, _power(images, 16), _most_images(footprint.result))
    tile = min(tile, side)
    return BlockShape(side, side, tile, tile)


def _most_images(result: int) -> int:
    """Images of either side of a block whose pairs have `result` entries each."""
    return _floor_power(math.isqrt(max(_VALUES // result, 1)))


def _floor_power(n: int) -> int:
    """The largest power of two within n; 1 for less."""
    return 1 << max(n.bit_length() - 1, 0)


def _power(n: int, least: int) -> int:
    """The least power of two that holds n, but no less than `least`."""
    return max(1 << (n - 1).bit_length(), least)


@dataclass(frozen=True)
class Partition:
    """A matrix cut into blocks.

    Attributes:
        n1, n2: rows and columns.
        symmetric: whether rows and columns are the same images, so that only the blocks that touch
            the upper triangle are computed and stored.
        shape: sizes of blocks and tiles.
        positions: axes of positions of each entry, the covariances at equal positions.
        per_image: rows and columns of each image: its positions, between positions (Graph.between).
    """

    n1: int
    n2: int
    symmetric: bool
    shape: BlockShape
    positions: tuple[int, ...] = ()
    per_image: int = 1

    @classmethod
    def of(
        cls,
        graph: Graph,
        n1: int,
        n2: int | None = None,
        shape: BlockShape | None = None,
        device: Device = "cpu",
    ) -> Partition:
        """The partition that suits a graph; n2=None for the symmetric matrix of n1 images.

        shape: in images
        """
        columns = n1 if n2 is None else n2
        shape = shape or block_shape(graph, n1, columns, device)
        if not graph.between:
            return cls(n1, columns, n2 is None, shape, graph.positions)
        count = math.prod(graph.positions)
        shape = BlockShape(*(n * count for n in astuple(shape)))
        return cls(n1 * count, columns * count, n2 is None, shape, per_image=count)

    @property
    def size(self) -> tuple[int, int]:
        """N1 and N2."""
        return self.n1, self.n2

    @property
    def pairs(self) -> int:
        """Entries to compute."""
        return self.n1 * (self.n1 + 1) // 2 if self.symmetric else self.n1 * self.n2

    @property
    def count(self) -> int:
        """The number of blocks."""
        rows = range(0, self.n1, self.shape.rows)
        return sum(len(self._columns(row)) for row in rows)

    def blocks(self) -> list[Block]:
        """All blocks, row by row."""
        rows = range(0, self.n1, self.shape.rows)
        return [self._block(row, column) for row in rows for column in self._columns(row)]

    def block(self, i: int, j: int) -> Block | None:
        """The block in a place, counted in blocks; None where a symmetric matrix has none."""
        row, column = i * self.shape.rows, j * self.shape.columns
        return self._block(row, column) if column in self._columns(row) else None

    def place(self, block: Block) -> tuple[int, int]:
        """Row and column of a block, counted in blocks."""
        return block.row // self.shape.rows, block.column // self.shape.columns

    def _block(self, row: int, column: int) -> Block:
        rows = min(self.shape.rows, self.n1 - row)
        columns = min(self.shape.columns, self.n2 - column)
        return Block(row, column, rows, columns, self.symmetric)

    def _columns(self, row: int) -> range:
        """First columns of the blocks that begin at a row."""
        side = self.shape.columns
        return range(row // side * side if self.symmetric else 0, self.n2, side)
