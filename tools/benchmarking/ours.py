"""The process that measures keras2gp, and the naive evaluation by tf.nn.conv2d."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import keras2gp
from benchmarking import naive
from benchmarking.networks import images, model
from benchmarking.serving import serve
from benchmarking.timing import Meter, Rate
from keras2gp._util.arrays import Array
from keras2gp.matrices.blocks import Block, BlockShape
from keras2gp.matrices.plan import block_shape

MANY = 10_000
"""Images of a matrix that is large enough for the plan's largest block."""
METERS: dict[Any, Meter] = {}


@cache
def _kernel(network: str, dtype: str = "float32") -> Any:
    return keras2gp.convert(model(network), dtype=dtype)


@cache
def _images(count: int) -> Array:
    return images(count)


def prepare(inputs: str, count: int) -> None:
    """Write the images that both libraries are given."""
    np.save(Path(inputs), _images(count))


def plan(network: str, side: int | None = None) -> dict[str, int]:
    """Block and tile that the library chooses; `side` bounds the block, for short runs."""
    count = side or MANY
    shape = block_shape(_kernel(network).graph, count, count)
    # A network that compiles long fills blocks of more images than it is asked for.
    return {name: min(getattr(shape, name), count) for name in BlockShape.__dataclass_fields__}


def block(
    network: str,
    seconds: float,
    threads: int,
    side: int | None = None,
    tile: tuple[int, int] | None = None,
) -> Rate:
    """One round of kernel.program.block, each thread a block of its own; warm."""
    key = (network, threads, side, tuple(tile or ()))
    if key not in METERS:
        shape = BlockShape(**plan(network, side))
        if tile:
            shape = replace(shape, tile_rows=tile[0], tile_columns=tile[1])
        METERS[key] = Meter(_block_step(_kernel(network), shape), threads)
        METERS[key].warm()
    return METERS[key].run(seconds)


def _block_step(kernel: Any, shape: BlockShape) -> Any:
    x = kernel.images(_images(shape.rows + shape.columns))
    first, second = [a[: shape.rows] for a in x], [a[shape.rows :] for a in x]
    variances = kernel.program.variances(kernel.parameters)
    whole = Block(0, 0, shape.rows, shape.columns)

    def step() -> int:
        return int(kernel.program.block(first, second, whole, shape, variances).size)

    return step


def matrix(network: str, seconds: float, count: int, get: str = "nngp") -> Rate:
    """One round of kernel.matrix(x), symmetric: N (N + 1) / 2 pairs; warm."""
    key = (network, "matrix", count, get)
    if key not in METERS:
        x, kernel = _images(count), _kernel(network)

        def step() -> int:
            kernel.matrix(x, get=get)
            return count * (count + 1) // 2

        METERS[key] = Meter(step)
        METERS[key].warm()
    return METERS[key].run(seconds)


def pinned(network: str, seconds: float, cores: int, side: int | None = None) -> Rate:
    """Like `block` with as many threads as cores, and the whole process on those cores only."""
    allowed = os.sched_getaffinity(0)
    try:
        _keep_to(set(sorted(allowed)[:cores]))
        return block(network, seconds, cores, side)
    finally:
        _keep_to(allowed)


def _keep_to(cores: set[int]) -> None:
    """Every thread of this process on those cores; new threads take over their parent's."""
    for task in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended since
            os.sched_setaffinity(int(task.name), cores)


def naive_rate(seconds: float, batch: int) -> Rate:
    """One round of the naive ResNet-32 on batch x batch pairs; TensorFlow uses all cores."""
    key = ("naive", batch)
    if key not in METERS:
        compute = tf.function(naive.resnet32)
        x = tf.constant(_images(2 * batch))

        def step() -> int:
            return int(compute(x[:batch], x[batch:]).numpy().size)

        METERS[key] = Meter(step)
        METERS[key].warm()
    return METERS[key].run(seconds)


def values(network: str, inputs: str, count: int, out: str, what: str) -> None:
    """Covariances of the first and last `count` images, to a file; `what`: a dtype or "naive"."""
    x = np.load(inputs)
    first, second = x[:count], x[len(x) - count :]
    if what == "naive":
        result = naive.resnet32(tf.constant(first), tf.constant(second)).numpy()
    else:
        result = _kernel(network, what).matrix(first, second)
    np.save(Path(out), result)


if __name__ == "__main__":
    actions = (prepare, plan, block, matrix, pinned, naive_rate, values)
    serve({action.__name__: action for action in actions})
