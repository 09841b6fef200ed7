"""Filling a store: from nothing, or from what an interrupted run has left."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from keras2gp._util.files import sweep
from keras2gp._util.progress import Progress, counted
from keras2gp.matrices.estimate import estimate_of
from keras2gp.matrices.executor import Executor, Work
from keras2gp.matrices.fingerprint import fingerprint_of
from keras2gp.matrices.local import diagonal_of
from keras2gp.matrices.store import GramStore

__all__ = ["fill"]


def fill(path: Path, work: Work, executor: Executor, progress: Progress) -> GramStore:
    """The store at `path`, complete: made if it is not there, otherwise what is missing computed.

    Blocks that read back with a right checksum are kept. Several processes may fill one store at
    once: a block is the same bytes whoever writes it, and appears whole or not at all.

    Raises: StoreError if there is something else at `path`, if the space is too small, or if the
            disk takes no more; NumericalError if an entry is not finite.
    """
    fingerprint = fingerprint_of(work)
    if path.exists() and any(path.iterdir() if path.is_dir() else [path]):
        GramStore(path).require(fingerprint)
    estimate = estimate_of(
        work.program.graph,
        work.program.dtype,
        work.size[0],
        None if work.symmetric else work.size[1],
        out=path,
        shape=work.shape,
    )
    estimate.require()
    GramStore.create(path, fingerprint)
    sweep(path)
    store = GramStore(path, writable=True)
    store.require(fingerprint)  # another process may have made it a moment ago
    if work.symmetric and not store.holds_diagonal():
        store.write_diagonal(diagonal_of(work.program, work.parameters, work.first))
    missing, every = store.missing(), store.blocks()
    done = [block.pairs for block in set(every).difference(missing)]
    with (
        counted(progress, "kernel matrix", [b.pairs for b in every], done) as finished,
        closing(executor.run(work, missing, store)) as run,
    ):
        for block in run:
            finished(block.pairs)
    sweep(path)  # a worker that was killed during this run may have left something
    return GramStore(path)
