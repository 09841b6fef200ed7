"""Blocks and tiles: what is computed at once, what stays in the cache, what a matrix needs.

A matrix is cut into blocks, each one call of the executable and one piece of finished work; a
block is cut into tiles, whose maps are small enough for the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from keras2gp.graph.graph import Graph

__all__ = ["Block", "BlockShape", "block_count", "block_shape", "blocks"]

_LARGEST = 2048
_BLOCK = 512
_TILE_MAP = 4 * 64 * 784
"""Entries of a tile's largest map: 800 KB in float32, within the cache of one core."""


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


def block_shape(graph: Graph, n1: int, n2: int) -> BlockShape:
    """Tiles whose largest map stays in the cache, blocks no larger than the matrix asks for.

    Sizes are powers of two, so that small matrices of many sizes share a few executables; the
    columns, which are contiguous, are long, and a multiple of 16.
    """
    positions = max(math.prod(node.spatial) for node in graph.nodes)
    if positions == 1:
        side = min(_LARGEST, _power(max(n1, n2), 16))
        return BlockShape(side, side, side, side)
    pairs = min(max(2 ** round(math.log2(_TILE_MAP / positions)), 64), _LARGEST**2)
    tile_rows = min(max(pairs // 64, 2), 16)
    tile_columns = min(max(pairs // tile_rows, 32), _BLOCK)
    side = min(_BLOCK, _power(max(n1, n2), 16))  # equal sides share the executable of statistics
    return BlockShape(side, side, min(tile_rows, side), min(tile_columns, side))


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
