"""Blocks and tiles: what is computed at once, what stays in the cache, what a matrix needs.

A matrix is cut into blocks, each one call of the executable and one piece of finished work; a
block is cut into tiles, whose maps are small enough for the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from keras2gp.covariance.registry import dual_of
from keras2gp.graph.graph import Graph
from keras2gp.graph.offsets import demand, reach, stretches
from keras2gp.graph.ops import Activation, Op

__all__ = [
    "Block",
    "BlockShape",
    "Footprint",
    "block_count",
    "block_shape",
    "blocks",
    "footprint_of",
]

_LARGEST = 2048
_BLOCK = 512
_TILE_MAP = 8 * 32 * 784
"""Entries of a tile's largest map: 800 KB in float32, read and written once for each op.

Eight rows share what is read of an image of the columns: 8 x 32 is 10% faster than 4 x 64 on a core
with a cache of 2 MB, and 5% to 20% faster than 16 x 32, whose maps leave that cache.
"""
_WIDE_COLUMNS = 12
_WIDE_TILE_MAP = 64 * 64 * 784
"""Of an expanded activation a tile reads as much of its images as of its pairs: more pairs halve
the time of each (tanh: 10.0 ns of an entry in tiles of 16 x 32, 5.3 ns of 64 x 64)."""
_SMALL = 256
"""Images of a matrix that is done before short rows, which compile half as long again, pay off."""
_MIXING_BLOCK = 128
_KEPT, _WIDE_KEPT = 2**23, 2**26
"""Entries that the loops of a tile leave behind: 32 MB in float32, 256 MB of wide tiles."""
_IMAGES = 2**27
"""Entries of the statistics of one side of a block: 512 MB in float32."""


@dataclass(frozen=True)
class Block:
    """One block of a matrix: its first row and column, and how many of either are wanted."""

    row: int
    column: int
    rows: int
    columns: int
    symmetric: bool = False
    """Whether only what touches the upper triangle of the matrix is wanted."""

    @property
    def pairs(self) -> int:
        """Entries that are wanted: of a symmetric matrix those on or above the diagonal."""
        above = self.column - self.row - self.rows + 1
        if not self.symmetric or above >= 0:
            return self.rows * self.columns
        last = self.column + self.columns
        rows = range(self.row, min(self.row + self.rows, last))
        return sum(last - max(self.column, row) for row in rows)


@dataclass(frozen=True)
class BlockShape:
    """Images of either side of a block, and of a tile; tiles divide the block evenly."""

    rows: int
    columns: int
    tile_rows: int
    tile_columns: int

    @property
    def most_tiles(self) -> int:
        """Tiles of a full block."""
        return self.rows // self.tile_rows * (self.columns // self.tile_columns)

    def tiles(self, block: Block) -> Iterator[tuple[int, int]]:
        """First row and column, within the block, of every tile that is wanted.

        Column by column: the statistics of the columns, which are the larger, stay in the cache.
        """
        for j in range(0, block.columns, self.tile_columns):
            for i in range(0, block.rows, self.tile_rows):
                below = block.column + j + self.tile_columns <= block.row + i
                if not (block.symmetric and below):
                    yield i, j


@dataclass(frozen=True)
class Footprint:
    """What a graph's program keeps, in entries of its dtype.

    largest: positions of the largest map, of one pair
    kept:    maps that loops over offsets leave behind, of one pair
    image:   what the rules need of one image, with margins
    columns: the most numbers that a rule needs of each position of an image
    turns:   turns of all loops
    """

    largest: int
    kept: int
    image: int
    columns: int
    turns: int

    @property
    def mixes(self) -> bool:
        """Whether offsets are mixed: a block then costs many times what its statistics do."""
        return self.kept > 0


@lru_cache(maxsize=64)
def footprint_of(graph: Graph) -> Footprint:
    """The footprint of a graph."""
    walks = stretches(graph)
    margins = reach(graph, walks)
    offsets = demand(graph)
    sizes = [node.spatial for node in graph.nodes]
    columns = {index: _columns(graph.nodes[index].op) for index in margins}
    image = sum(
        columns[index] * math.prod(n + 2 * m for n, m in zip(sizes[index], margin, strict=True))
        for index, margin in margins.items()
    )
    results = [stretch.result for stretch in walks[:-1]]
    return Footprint(
        largest=max(map(math.prod, sizes)),
        kept=sum(len(offsets[result]) * math.prod(sizes[result]) for result in results),
        image=image,
        columns=max(columns.values()),
        turns=sum(len(stretch.offsets) for stretch in walks[:-1]),
    )


def _columns(op: Op) -> int:
    return dual_of(op).columns if isinstance(op, Activation) else 2


def block_shape(graph: Graph, n1: int, n2: int) -> BlockShape:
    """Tiles whose largest map stays in the cache, blocks no larger than the matrix asks for.

    Sizes are powers of two, so that small matrices of many sizes share a few executables; the
    columns, which are contiguous, are long, and a multiple of 16.
    """
    found = footprint_of(graph)
    if found.largest == 1:
        side = min(_LARGEST, _power(max(n1, n2), 16))
        return BlockShape(side, side, side, side)
    wide = found.columns >= _WIDE_COLUMNS
    entries = _WIDE_TILE_MAP if wide else _TILE_MAP
    pairs = min(max(2 ** round(math.log2(entries / found.largest)), 64), _LARGEST**2)
    if found.kept:
        most = _WIDE_KEPT if wide else _KEPT
        pairs = min(pairs, max(_floor_power(most // found.kept), 16))
    if wide:  # what is read of the images is least of a square
        tile_rows = min(max(_floor_power(math.isqrt(pairs)), 2), 64)
    else:
        tile_rows = min(max(pairs // (64 if max(n1, n2) <= _SMALL else 32), 2), 16)
    tile_columns = min(max(pairs // tile_rows, 16), _BLOCK)
    largest = max(_MIXING_BLOCK, tile_columns) if found.mixes else _BLOCK
    largest = max(min(largest, _floor_power(_IMAGES // found.image)), 16)
    side = min(largest, _power(max(n1, n2), 16))  # equal sides share the executable of statistics
    return BlockShape(side, side, min(tile_rows, side), min(tile_columns, side))


def _floor_power(n: int) -> int:
    """The largest power of two within n; 1 for less."""
    return 1 << max(n.bit_length() - 1, 0)


def _power(n: int, least: int) -> int:
    """The least power of two that holds n, but no less than `least`."""
    return max(1 << (n - 1).bit_length(), least)


def blocks(shape: BlockShape, n1: int, n2: int, *, symmetric: bool) -> Iterator[Block]:
    """Blocks of an [n1, n2] matrix; of a symmetric one those that touch the upper triangle."""
    for row in range(0, n1, shape.rows):
        rows = min(shape.rows, n1 - row)
        for column in range(_first_column(shape, row, symmetric), n2, shape.columns):
            yield Block(row, column, rows, min(shape.columns, n2 - column), symmetric)


def block_count(shape: BlockShape, n1: int, n2: int, *, symmetric: bool) -> int:
    """How many blocks `blocks` gives."""
    rows = range(0, n1, shape.rows)
    firsts = (_first_column(shape, row, symmetric) for row in rows)
    return sum(len(range(first, n2, shape.columns)) for first in firsts)


def _first_column(shape: BlockShape, row: int, symmetric: bool) -> int:
    return row // shape.columns * shape.columns if symmetric else 0
