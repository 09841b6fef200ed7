"""The devices of one machine: a block for each replica of a tf.distribute strategy."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import tensorflow as tf

from keras2gp.errors import InputError
from keras2gp.matrices.executor import Sink, Work, finish
from keras2gp.matrices.plan import Block
from keras2gp.matrices.threads import finished

__all__ = ["Mirrored"]

_OTHER_MACHINES = (
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.ParameterServerStrategy,
)


class Mirrored:
    """Executor: threads for every replica, each computing blocks of its own on its device.

    Blocks share nothing, so replicas do not wait for each other, as they would in strategy.run:
    the strategy says which devices there are, and each takes the next block when it is ready.

    strategy: any strategy of one machine; None for all its GPUs, as MirroredStrategy takes them
    threads:  for each replica; with two the device works while the other's result is copied

    Raises: InputError where there is no GPU to take, and for a strategy of several machines,
            which would do all the work on each of them, and hang when one is lost.
    """

    def __init__(self, strategy: Any = None, threads: int = 2) -> None:
        if isinstance(strategy, _OTHER_MACHINES):
            raise InputError(
                f"executor={type(strategy).__name__}: a strategy of several machines. Try "
                "executor='dask', or a MirroredStrategy on each machine with the same out="
            )
        self.devices: tuple[str, ...]
        if strategy is not None:
            self.devices = tuple(strategy.extended.worker_devices)
        else:
            self.devices = tuple(d.name for d in tf.config.list_logical_devices("GPU"))
        if not self.devices:
            raise InputError("executor='gpus': TensorFlow finds no GPU. Try executor='threads'")
        self.threads = threads

    def run(self, work: Work, wanted: Sequence[Block], sink: Sink) -> Generator[Block, None, None]:
        """See Executor.run."""
        first = min(len(wanted), len(self.devices))
        # A block on each device compiles for it; several threads would compile the same twice.
        yield from self._run(work, wanted[:first], sink, 1)
        yield from self._run(work, wanted[first:], sink, self.threads)

    def _run(
        self, work: Work, wanted: Sequence[Block], sink: Sink, threads: int
    ) -> Generator[Block, None, None]:
        free: SimpleQueue[str] = SimpleQueue()
        for device in self.devices * threads:
            free.put(device)
        own = threading.local()

        def begin() -> None:
            own.device = free.get()

        def compute(block: Block) -> None:
            with tf.device(own.device):
                finish(work, block, sink)

        pool = ThreadPoolExecutor(len(self.devices) * threads, initializer=begin)
        yield from finished(pool, {pool.submit(compute, block): block for block in wanted})
