"""The memory of a block of a graph: refusals in words, and how many blocks fit side by side."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from keras2gp._util import memory
from keras2gp._util.text import size_text
from keras2gp.graph.graph import Graph
from keras2gp.graph.ops import Input
from keras2gp.matrices.blocks import BlockShape
from keras2gp.matrices.footprint import footprint_of
from keras2gp.matrices.work import BlockProgram

__all__ = ["Room", "demands_of", "room_of"]

_LEAST_SIDE = 8
"""Positions along an axis of images below which no smaller ones are proposed."""
_ENOUGH = 2**30
"""Bytes that hold the blocks of all networks which keep little for a pair."""
_PAIRS, _IMAGES = 32, 128
"""Pairs of a tile, and images of a block of few, in the networks which keep much for a pair."""


@dataclass(frozen=True)
class Room:
    """The blocks that fit into memory side by side.

    Attributes:
        block: bytes of one block at work.
        threads: blocks at work at a time; 1 also where not even one fits.
        available: bytes; None where they are negligible, or the system does not say.
        demands: what a block needs its memory for, where not even one of few images fits.
        hint: what would need less then.
    """

    block: int
    threads: int
    available: int | None = None
    demands: str = ""
    hint: str = ""


def room_of(
    program: BlockProgram, shape: BlockShape, blocks: int, result: int, most: int | None = None
) -> Room:
    """The room for the blocks of a matrix.

    Args:
        program: computes them.
        shape: of a block.
        blocks: their number.
        result: bytes of what is kept in memory beside them.
        most: threads that there are; None for one per core.
    """
    block = program.working_set(shape, 1) * np.dtype(program.dtype).itemsize
    threads = max(min(most or os.cpu_count() or 1, blocks), 1)
    if block <= memory.NEGLIGIBLE // threads or (available := memory.available_memory()) is None:
        return Room(block, threads)
    if block > available:
        least = program.partition(1, None).shape
        few = program.working_set(least, 1) * np.dtype(program.dtype).itemsize
        demands, hint = program.demands(least, available) if few > available else ("", "")
        return Room(min(block, few) if demands else block, 1, available, demands, hint)
    fitting = (available - result) // block
    return Room(block, max(min(threads, fitting), 1), available)


def demands_of(graph: Graph, shape: BlockShape, itemsize: int, available: int) -> tuple[str, str]:
    """The reason for the memory of a block of a graph, and what would need less.

    itemsize:  bytes of an entry, of all kernels
    available: bytes
    """
    footprint = footprint_of(graph)
    tile = f"a block of {shape.rows} x {shape.columns} images"
    if footprint.kept * shape.tile_rows * shape.tile_columns > shape.columns * footprint.image:
        each = size_text(footprint.kept * itemsize)
        what = (
            f"{tile}, in tiles of {shape.tile_rows} x {shape.tile_columns} pairs, each of which "
            f"keeps {each} of maps, most of them for {footprint.widest}, which reads covariances "
            f"of positions at {footprint.offsets} offsets"
        )
        rest = (
            "strides of convolutions in the place of poolings, or Flatten in the place of a global "
            "pooling"
        )
    else:
        what = f"{tile}, each with {size_text(footprint.image * itemsize)} of variances,"
        rest = "strides in an earlier layer, or less padding and upsampling"
    # Both grow at least as the number of positions.
    share = available / (itemsize * (_PAIRS * footprint.kept + _IMAGES * footprint.image))
    sizes = [node.spatial for node in graph.nodes if isinstance(node.op, Input) and node.spatial]
    smaller = "smaller images"
    if sizes and share < 1 and available >= _ENOUGH:
        side = tuple(math.floor(n * share ** (1 / len(sizes[0]))) for n in sizes[0])
        if min(side) >= _LEAST_SIDE:
            smaller += f" (of {' x '.join(map(str, side))} positions one would fit)"
    return what, f"{smaller}, {rest}"
