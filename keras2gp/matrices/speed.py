"""Speed of a kernel: measured by a matrix of a few images, before that of many is computed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace
from typing import Any, Literal

from keras2gp._util.arrays import InputsLike
from keras2gp._util.memory import peak_memory
from keras2gp._util.text import duration_text
from keras2gp.matrices.api import program_of
from keras2gp.matrices.footprint import footprint_of
from keras2gp.matrices.plan import Partition
from keras2gp.matrices.room import room_of

__all__ = ["Speed", "speed_of", "tried_images"]

_ENTRIES = 4 * 10**9
"""Entries of all maps of a pilot's pairs, which take some seconds."""
_MOST = 4096
"""Images of the largest matrix whose blocks are counted: larger ones keep all cores as busy."""
_FEWEST = 16
"""Images of the smallest pilot: the columns of the smallest tile."""


@dataclass(frozen=True)
class Speed:
    """Speed of a kernel on this machine.

    Attributes:
        compilation: seconds that the first matrix takes longer than the second.
        rate: pairs of images, or of images at positions, a second after it.
        peak: the largest memory of the process up to then, in bytes, with TensorFlow and the
            compiled programs; None where the system does not say.
    """

    compilation: float
    rate: float
    peak: int | None = None

    def seconds(self, pairs: int) -> float:
        """The time of so many pairs, compilation included."""
        return self.compilation + pairs / self.rate

    def to_dict(self, pairs: int) -> dict[str, Any]:
        """The numbers for so many pairs as data for JSON."""
        return {
            "compilation_seconds": self.compilation,
            "pairs_per_second": self.rate,
            "kernel_seconds": self.seconds(pairs),
            "process_memory": self.peak,
        }

    def stated(self, pairs: int) -> str:
        """The time of so many pairs in words."""
        rate = f"{self.rate:,.0f}" if self.rate >= 10 else f"{self.rate:.2g}"
        return (
            f"about {duration_text(self.seconds(pairs))}: {pairs} pairs, {rate.replace(',', ' ')} "
            f"a second, and {duration_text(self.compilation)} to compile"
        )


def tried_images(kernel: Any, most: int = 128) -> int:
    """The number of images, up to `most`, whose matrix takes some seconds at most."""
    entries, count = footprint_of(kernel.graph).entries, most
    while count > _FEWEST and count * (count + 1) // 2 * entries > _ENTRIES:
        count = max(count // 2, _FEWEST)
    return count


def speed_of(
    kernel: Any,
    x: InputsLike,
    positions: Literal["equal", "all"] = "all",
    *,
    whole: int | None = None,
) -> Speed:
    """The speed of a kernel, measured by its matrix of a few images, computed twice.

    Few images have few blocks, so that cores stand idle, and their tiles reach far below the
    diagonal. Both are counted, and the rate is that of a matrix of `whole` images.

    Args:
        kernel: as for `gram`.
        x: the images, as for the kernel; `tried_images` says how many.
        positions: as for `gram`.
        whole: the number of images of the matrix that the speed is wanted for; None for x.
    """
    times, count = [], 0
    for _ in range(2):
        began = time.perf_counter()
        matrix: Sequence[Any] = kernel.matrix(x, positions=positions)
        times.append(max(time.perf_counter() - began, 1e-9))
        count = len(matrix)
    program = program_of(kernel, positions)
    images = count if whole is None else min(max(whole, count), _MOST)
    tried, wanted = (program.partition(n, None) for n in (count, images))
    longer = _longest(program, wanted) / _longest(program, tried)
    compilation = max(times[0] - times[1], 0.0)
    return Speed(compilation, wanted.pairs / (times[1] * longer), peak_memory())


def _longest(program: Any, partition: Partition) -> int:
    """The pairs in the tiles of the thread that has most of a symmetric matrix.

    The first block goes before the others, as it compiles; each of these to the first free thread.
    """
    shape = partition.shape
    tile = shape.tile_rows * shape.tile_columns
    first, *others = (tile * sum(1 for _ in shape.tiles(b)) for b in partition.blocks())
    busy = [first] * room_of(program, shape, partition.count, 0).threads
    for pairs in others:
        heapreplace(busy, busy[0] + pairs)
    return max(busy)
