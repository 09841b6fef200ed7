"""The threads of this machine, each driving a block of its own."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from keras2gp.matrices.executor import Sink, Work, finish
from keras2gp.matrices.plan import Block

__all__ = ["Threads", "finished"]


class Threads:
    """Executor: threads of this process, on whatever device TensorFlow chooses.

    count: number of threads; None for one per core
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or os.cpu_count() or 1

    def run(self, work: Work, wanted: Sequence[Block], sink: Sink) -> Generator[Block, None, None]:
        """See Executor.run."""
        if not wanted:
            return
        finish(work, wanted[0], sink)  # compiles; two threads would compile the same twice
        yield wanted[0]
        pool = ThreadPoolExecutor(self.count)
        tasks = {pool.submit(finish, work, block, sink): block for block in wanted[1:]}
        yield from finished(pool, tasks)


def finished(
    pool: ThreadPoolExecutor, tasks: dict[Future[None], Block]
) -> Generator[Block, None, None]:
    """Blocks as their tasks end; on a fault, or when closed, waiting tasks are dropped."""
    try:
        for task in as_completed(tasks):
            task.result()
            yield tasks[task]
    finally:
        pool.shutdown(cancel_futures=True)
