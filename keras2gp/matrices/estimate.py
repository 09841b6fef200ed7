"""Estimate of the memory and disk that a matrix takes, beside the amounts that are free."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util import memory
from keras2gp._util.memory import free_disk
from keras2gp._util.text import size_text
from keras2gp.errors import StoreError
from keras2gp.matrices.layout import CHUNK_EXTRA
from keras2gp.matrices.plan import Partition
from keras2gp.matrices.room import room_of
from keras2gp.matrices.work import BlockProgram

__all__ = ["Estimate", "estimate_of"]


@dataclass(frozen=True)
class Estimate:
    """Size and cost of one kernel matrix.

    Attributes:
        n1, n2: rows and columns.
        symmetric: whether only one triangle is computed and stored.
        dtype: type of the entries.
        pairs: kernel entries to compute.
        blocks: pieces in which they are computed and stored.
        memory: bytes at the peak without the data; the maps within a block are a guess.
        memory_available: bytes, None where the system does not say.
        out: path of the store, None for a matrix in memory.
        positions: positions of the output, of which each entry is a map; () for single numbers.
        disk: bytes that are still to be written.
        disk_available: bytes free where the store is, None in memory.
        threads: blocks at work at a time, which `memory` includes; fewer than cores where memory
            holds no more.
        block_memory: bytes of each.
        block_demands: what it needs them for, where not even one fits, however few the images;
            else empty.
        hint: what would need less then.
    """

    n1: int
    n2: int
    symmetric: bool
    dtype: str
    pairs: int
    blocks: int
    memory: int
    memory_available: int | None
    out: str | None = None
    disk: int = 0
    disk_available: int | None = None
    positions: tuple[int, ...] = ()
    threads: int = 1
    block_memory: int = 0
    block_demands: str = ""
    hint: str = ""

    @property
    def fits_memory(self) -> bool:
        """Whether the memory that is free now is enough, as far as the system says."""
        return self.memory_available is None or self.memory <= self.memory_available

    @property
    def fits_disk(self) -> bool:
        """Whether the free disk space is enough."""
        return self.disk_available is None or self.disk <= self.disk_available

    @property
    def fits(self) -> bool:
        """Whether both are enough."""
        return self.fits_memory and self.fits_disk

    def require(self) -> None:
        """Refuse a matrix that does not fit.

        Raises:
            StoreError: with the amounts that are needed and available.
        """
        if not self.fits:
            raise StoreError(f"{self.shortage}. Try{self.remedy}")

    @property
    def remedy(self) -> str:
        """The advice for a matrix that does not fit; empty if it does."""
        if self.block_demands:
            return f": {self.hint}"
        if not self.fits_memory:
            by_block = self.out or self.block_memory > (self.memory_available or 0)
            return " fewer images" if by_block else " out='K.zarr', a matrix on disk"
        return "" if self.fits_disk else " another disk, or fewer images"

    @property
    def shortage(self) -> str:
        """A sentence on the memory or disk that is too small; empty if both are enough."""
        if self.block_demands:
            return (
                f"{self.block_demands} needs {size_text(self.block_memory)} of memory, and "
                f"{size_text(self.memory_available)} is available, however few the images"
            )
        if not self.fits_memory:
            return (
                f"a {self._matrix} needs {size_text(self.memory)} of memory, and "
                f"{size_text(self.memory_available)} is available"
            )
        if not self.fits_disk:
            return (
                f"a {self._matrix} needs {size_text(self.disk)} more on the disk of {self.out}, "
                f"and {size_text(self.disk_available)} is free"
            )
        return ""

    def to_dict(self) -> dict[str, Any]:
        """The fields, and whether it fits, as plain values."""
        return {**asdict(self), "fits": self.fits}

    def __str__(self) -> str:
        lines = [
            f"{self._matrix}: {self.pairs:,} pairs in {self.blocks:,} blocks",
            f"memory: {size_text(self.memory)} of {size_text(self.memory_available)} available",
        ]
        if self.out is not None:
            free = size_text(self.disk_available)
            lines.append(f"disk: {size_text(self.disk)} of {free} free ({self.out})")
        return "\n".join(lines)

    @property
    def _matrix(self) -> str:
        kind = "symmetric " if self.symmetric else ""
        size = " x ".join(map(str, (self.n1, self.n2, *self.positions)))
        return f"{kind}{size} matrix in {self.dtype}"


def estimate_of(program: BlockProgram, partition: Partition, out: Path | None = None) -> Estimate:
    """Estimate for the matrix of a partition.

    out: where it would be stored; chunks that are there already take no more space
    """
    dtype, shape, count = program.dtype, partition.shape, partition.count
    disk, free = 0, None
    entry = math.prod(partition.positions) * np.dtype(dtype).itemsize
    result = partition.n1 * partition.n2 * entry if out is None else 0
    room = room_of(program, shape, count, result)
    if out is not None:
        chunk = shape.rows * shape.columns * entry + CHUNK_EXTRA
        disk = max(count * chunk - _used(out / "matrix"), 0)
        disk += partition.n2 * entry if partition.symmetric else 0
        free = free_disk(out)
    return Estimate(
        n1=partition.n1,
        n2=partition.n2,
        symmetric=partition.symmetric,
        dtype=dtype,
        pairs=partition.pairs,
        blocks=count,
        memory=room.threads * room.block + result,
        memory_available=memory.available_memory(),
        out=None if out is None else str(out),
        disk=disk,
        disk_available=free,
        positions=partition.positions,
        threads=room.threads,
        block_memory=room.block,
        block_demands=room.demands,
        hint=room.hint,
    )


def _used(directory: Path) -> int:
    files = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    return sum(size + CHUNK_EXTRA for size in files)
