"""The loop over the tiles of a block, in one compiled program for the tiles of any block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.matrices.blocks import BlockShape

__all__ = ["over_tiles", "places_of"]


def places_of(shape: BlockShape, tiles: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """The first row and column of each tile, [shape.most_tiles, 2], and the number of tiles."""
    places = np.zeros((shape.most_tiles, 2), np.int32)
    places[: len(tiles)] = tiles
    return tf.constant(places), tf.constant(len(tiles))


def over_tiles(
    places: tuple[Tensor, Tensor],
    step: Callable[..., Sequence[Any]],
    values: Sequence[Any],
) -> list[Any]:
    """Values after a step for each tile.

    TensorFlow takes the begin of a slice for a constant of the program, and compiles another one
    for every value that it has, unless it changes from turn to turn. So the place of a tile is
    carried through the loop, and not read from the places where it is needed.

    Args:
        places: of `places_of`.
        step: of the number of a tile, its first row and column, and the values.
        values: before the first tile.
    """
    starts, count = places
    last = starts.shape[0] - 1

    def turn(t: Tensor, place: Tensor, *now: Any) -> tuple[Any, ...]:
        following = starts[tf.minimum(t + 1, last)]
        return t + 1, following, *step(t, place[0], place[1], *now)

    after: list[Any]
    _, _, *after = tf.while_loop(
        lambda t, *_: t < count,
        turn,
        (tf.constant(0), starts[0], *values),
        parallel_iterations=1,
    )
    return after
