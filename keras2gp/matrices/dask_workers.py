"""Executor for several machines: blocks as tasks of Dask workers. Needs the extra `cluster`."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed

from keras2gp._util.arrays import Array
from keras2gp._util.memory import require_memory
from keras2gp._util.text import quoted_text
from keras2gp._util.version import VERSION
from keras2gp.covariance.program import KernelKind
from keras2gp.covariance.registry import OWN
from keras2gp.errors import InputError, StoreError
from keras2gp.graph.ops import Activation
from keras2gp.graph.serial import graph_from_dict, graph_to_dict
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.blocks import Block
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.plan import Partition
from keras2gp.matrices.store import GramStore
from keras2gp.matrices.work import Sink, Work, finish

__all__ = ["DaskWorkers", "client_of", "result_of"]


_dask: Any = distributed  # its functions have no types


class DaskWorkers:
    """Executor: the workers of a Dask scheduler.

    Where the matrix is a store, workers write blocks themselves, so that its path must be the
    same directory on all machines, and tasks return nothing; otherwise blocks come back to this
    process. A worker that dies costs the block it was at. The scheduler's own death ends the run,
    and the next one resumes.

    A worker should have one thread, and one GPU at most: XLA runs one block at a time on either.

    address: of the scheduler, such as "tcp://host:8786"; None for a cluster on this machine, one
             worker to a core, which ends with the run
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address

    def run(self, work: Work, missing: Sequence[Block], sink: Sink) -> Generator[Block, None, None]:
        """See Executor.run."""
        if not missing:
            return
        path = str(sink.path.absolute()) if isinstance(sink, GramStore) else None
        shared = _Common.of(work, path)
        if self.address is None:  # every worker on this machine gets a copy of the data
            copies = _local_workers(len(missing)) + 1
            arrays = (*work.first, *(work.second or ()))
            purpose, hint = f"{copies} copies of the data for workers", "executor='threads'"
            require_memory(copies * sum(a.nbytes for a in arrays), purpose, hint)
        with client_of(self.address, len(missing)) as client:
            common = client.scatter(shared, broadcast=True, hash=False)
            futures = {
                future.key: (future, block)
                for block in missing
                for future in [client.submit(_task, common, block, pure=False)]
            }
            try:
                yield from _collected(futures, sink, returned=path is None)
            finally:
                client.cancel([future for future, _ in futures.values()])


def _collected(
    futures: dict[str, tuple[Any, Block]], sink: Sink, *, returned: bool
) -> Generator[Block, None, None]:
    """Blocks as they end. A future that is kept would be computed again if its worker died."""
    for future in _dask.as_completed([future for future, _ in futures.values()]):
        _, block = futures.pop(future.key)
        values = result_of(future)
        future.release()
        if returned:
            sink.write(block, values)
        yield block


def result_of(future: Any) -> Any:
    """The result of a task, or its error as it was raised in the worker.

    Raises: StoreError if the task took several workers with it, or the scheduler was lost.
    """
    try:
        return future.result()
    except distributed.KilledWorker as error:
        raise StoreError(
            f"a task took several workers with it: {error}. Perhaps they have too little "
            "memory. Finished blocks of a store are kept: the same call goes on with them"
        ) from error
    except CancelledError as error:
        raise StoreError(
            f"the Dask scheduler was lost, or all workers were: {error}. Finished blocks of a "
            "store are kept: the same call goes on with them"
        ) from error


@contextmanager
def client_of(address: str | None, blocks: int) -> Generator[Any, None, None]:
    """A client of the scheduler, or of a cluster on this machine, closed at the end.

    blocks: how many there are to work on
    Raises: InputError if there is no scheduler, or it has no workers.
    """
    if address is not None:
        with _connected(address) as client:
            if not client.scheduler_info()["workers"]:
                raise InputError(f"executor={address!r}: the scheduler has no workers")
            _require_versions(client)
            yield client
        return
    count = _local_workers(blocks)
    cluster = _dask.LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0")
    with cluster, _dask.Client(cluster) as client:
        yield client


def _local_workers(blocks: int) -> int:
    """The number of workers of a cluster on this machine."""
    return min(os.cpu_count() or 1, blocks)


def _connected(address: str) -> Any:
    """A client of the scheduler at an address. Raises: InputError if there is none."""
    client = _dask.Client.__new__(_dask.Client)  # at hand where it cannot connect
    try:
        client.__init__(address, timeout=20)
    except Exception as error:
        _abandon(client)
        if address.startswith(("tls:", "wss:")) and isinstance(error, TypeError):
            hint = (
                "its certificates are not known. Try: set distributed.comm.tls in Dask's "
                "configuration, or DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ..__CLIENT__CERT and "
                "..__CLIENT__KEY"
            )
            raise InputError(f"executor={address!r}: {hint}") from error
        reason = quoted_text(error)
        raise InputError(f"executor={address!r}: no Dask scheduler there: {reason}") from error
    return client


def _abandon(client: Any) -> None:
    """Close a client that could not connect, and end its thread.

    Dask leaves both to the collection of garbage, which waits for ever where it comes while another
    client starts: each holds the lock that the other takes.
    """
    with suppress(Exception):
        client.close(timeout=5)
    with suppress(Exception):  # which is left running by a client that closed itself
        client._loop_runner.stop()  # noqa: SLF001


def _require_versions(client: Any) -> None:
    """Refuse workers that cannot compute the same matrix. Raises: StoreError."""
    # A lambda is sent by value: another version need not have a function of this module.
    versions = client.run(lambda: str(__import__("keras2gp").__version__), on_error="return")
    for name, version in versions.items():
        if isinstance(version, Exception):
            raise StoreError(f"the worker {name} cannot import keras2gp: {version}")
        if version != VERSION:
            raise StoreError(
                f"the worker {name} has keras2gp {version}, and this process {VERSION}: the same "
                "version is needed on all machines"
            )


@dataclass(frozen=True)
class _Common:
    """Data that all tasks of a run share, sent to every worker once; no compiled functions."""

    token: str
    version: str
    graph: str
    dtype: str
    kind: KernelKind
    parameters: Mapping[str, LayerVariances]
    first: Sequence[Array]
    second: Sequence[Array] | None
    partition: Partition
    path: str | None

    @classmethod
    def of(cls, work: Work, path: str | None) -> _Common:
        program = work.program
        if not isinstance(program, CompiledProgram):
            raise InputError(
                "executor: the kernel is that of a network of this process, or a sum or product, "
                "which the workers do not have. Try: executor='threads', or 'auto'"
            )
        functions = [node.op.function for node in program.graph.nodes]
        names = [function.name for function in functions if isinstance(function, Activation)]
        if own := [name for name in names if name.endswith(OWN)]:
            raise InputError(
                f"executor: the activation {own[0]} is a function of this process, which "
                "the workers do not have. Try: the default executor, or a Dual class registered "
                "by keras2gp.dual in a module that they import"
            )
        return cls(
            token=os.urandom(8).hex(),
            version=VERSION,
            graph=json.dumps(graph_to_dict(program.graph)),
            dtype=program.dtype,
            kind=program.kind,
            parameters=dict(work.parameters),
            first=list(work.first),
            second=None if work.second is None else list(work.second),
            partition=work.partition,
            path=path,
        )

    def work(self) -> Work:
        graph = graph_from_dict(json.loads(self.graph))
        program = CompiledProgram(graph, self.dtype, kind=self.kind)
        return Work(program, self.parameters, self.first, self.second, self.partition)


# The work of the latest run in this worker process, by its token: compiled once, not per task.
_current: dict[str, tuple[Work, GramStore | None]] = {}


def _task(common: _Common, block: Block) -> Array | None:
    """One block, in a worker: into the store, or returned where there is none."""
    if common.version != VERSION:
        raise StoreError(
            f"a worker has keras2gp {VERSION}, and this process {common.version}: the same "
            "version is needed on all machines"
        )
    if common.token not in _current:
        store = None if common.path is None else GramStore(Path(common.path), writable=True)
        _current.clear()
        _current[common.token] = common.work(), store
    work, store = _current[common.token]
    if store is None:
        return work.compute(block)
    finish(work, block, store)
    return None
