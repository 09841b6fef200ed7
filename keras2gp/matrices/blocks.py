"""Blocks of a matrix, and the sizes of blocks and of the tiles in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

__all__ = ["Block", "BlockShape"]


@dataclass(frozen=True)
class Block:
    """One block of a matrix.

    Attributes:
        row, column: its first row and column.
        rows, columns: its size, within the matrix.
        symmetric: whether the matrix is symmetric, so that only its upper triangle is computed.
    """

    row: int
    column: int
    rows: int
    columns: int
    symmetric: bool = False

    def per_image(self, count: int) -> Block:
        """The block in images, of which each has `count` rows and columns."""
        if count == 1:
            return self
        row, column, rows, columns = (
            n // count for n in (self.row, self.column, self.rows, self.columns)
        )
        return Block(row, column, rows, columns, self.symmetric)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns as an index of the matrix."""
        rows = slice(self.row, self.row + self.rows)
        return rows, slice(self.column, self.column + self.columns)

    @property
    def meets_diagonal(self) -> bool:
        """Whether the block has entries on or below the diagonal of the matrix."""
        return self.column < self.row + self.rows

    @property
    def pairs(self) -> int:
        """Entries that are computed: those of a symmetric matrix on or above the diagonal."""
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

    def per_image(self, count: int) -> BlockShape:
        """The shape in images, of which each has `count` rows and columns."""
        return self if count == 1 else BlockShape(*(n // count for n in astuple(self)))

    @property
    def most_tiles(self) -> int:
        """Tiles of a full block."""
        return self.rows // self.tile_rows * (self.columns // self.tile_columns)

    def tiles(self, block: Block) -> Iterator[tuple[int, int]]:
        """First row and column, within the block, of every tile that is computed.

        Column by column, so that the statistics of the columns, the larger ones, stay in the cache.
        """
        for j in range(0, block.columns, self.tile_columns):
            for i in range(0, block.rows, self.tile_rows):
                below = block.column + j + self.tile_columns <= block.row + i
                if not (block.symmetric and below):
                    yield i, j
