"""Executors: the threads of this machine, the devices of one machine, and executors by name."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from importlib import import_module
from queue import SimpleQueue
from typing import Any

import tensorflow as tf

from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.matrices.blocks import Block
from keras2gp.matrices.room import room_of
from keras2gp.matrices.work import Executor, ExecutorLike, Sink, Work, finish

__all__ = ["Mirrored", "Threads", "dask_workers", "executor_of"]

_OTHER_MACHINES = (
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.ParameterServerStrategy,
)


def executor_of(choice: ExecutorLike) -> Executor:
    """The executor that the user asks for.

    choice: "auto" for all GPUs if there are any, else threads; "threads"; "gpus"; "dask" for a
            Dask cluster on this machine, or the address of a scheduler; a tf.distribute.Strategy;
            or an executor

    Raises: InputError for anything else, for "gpus" where there are none, and for Dask where it is
            not installed.
    """
    if isinstance(choice, tf.distribute.Strategy):
        return Mirrored(choice)
    if isinstance(choice, str):
        if choice == "auto":
            choice = "gpus" if tf.config.list_physical_devices("GPU") else "threads"
        if choice == "threads":
            return Threads()
        if choice == "gpus":
            return Mirrored()
        if choice == "dask" or "://" in choice:
            address = None if choice == "dask" else choice
            choice = dask_workers(f"executor={choice!r}").DaskWorkers(address)
    if hasattr(choice, "run"):
        executor: Executor = choice
        return executor
    raise InputError(
        f"executor={received_text(choice)}: expected 'auto', 'threads', 'gpus', 'dask', the "
        "address of a Dask scheduler such as 'tcp://host:8786', a tf.distribute.Strategy, or an "
        "executor"
    )


def dask_workers(purpose: str) -> Any:
    """The module of Dask workers, which needs an extra. Raises: InputError without it."""
    try:
        return import_module("keras2gp.matrices.dask_workers")
    except ModuleNotFoundError as error:
        raise InputError(
            f"{purpose}: {error}. Try: python -m pip install 'keras2gp[cluster]'"
        ) from error


class Threads:
    """Executor: threads of this process, each driving a block, on TensorFlow's default device.

    count: number of threads; None for one per core; fewer work where memory holds fewer blocks
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or os.cpu_count() or 1

    def run(self, work: Work, missing: Sequence[Block], sink: Sink) -> Generator[Block, None, None]:
        """See Executor.run."""
        if not missing:
            return
        shape, rest = work.partition.shape, len(missing) - 1
        room = room_of(work.program, shape, rest, sink.memory, self.count)
        finish(work, missing[0], sink)  # compiles; two threads would compile the same twice
        yield missing[0]
        pool = ThreadPoolExecutor(room.threads)
        tasks = {pool.submit(finish, work, block, sink): block for block in missing[1:]}
        yield from _finished(pool, tasks)


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
            raise InputError("executor='gpus': TensorFlow finds no GPU. Try: executor='threads'")
        self.threads = threads

    def run(self, work: Work, missing: Sequence[Block], sink: Sink) -> Generator[Block, None, None]:
        """See Executor.run."""
        first = min(len(missing), len(self.devices))
        # A block on each device compiles for it; several threads would compile the same twice.
        yield from self._run(work, missing[:first], sink, 1)
        yield from self._run(work, missing[first:], sink, self.threads)

    def _run(
        self, work: Work, missing: Sequence[Block], sink: Sink, threads: int
    ) -> Generator[Block, None, None]:
        free: SimpleQueue[str] = SimpleQueue()
        for device in self.devices * threads:
            free.put(device)
        of_thread = threading.local()

        def begin() -> None:
            of_thread.device = free.get()

        def compute(block: Block) -> None:
            with tf.device(of_thread.device):
                finish(work, block, sink)

        pool = ThreadPoolExecutor(len(self.devices) * threads, initializer=begin)
        yield from _finished(pool, {pool.submit(compute, block): block for block in missing})


def _finished(
    pool: ThreadPoolExecutor, tasks: dict[Future[None], Block]
) -> Generator[Block, None, None]:
    """Blocks as their tasks end; on a fault, or when closed, waiting tasks are dropped."""
    try:
        for task in as_completed(tasks):
            task.result()
            yield tasks[task]
    finally:
        pool.shutdown(cancel_futures=True)
