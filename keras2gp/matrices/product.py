"""A stored matrix multiplied on Dask workers: for solvers that need no more than its products."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp.errors import InputError
from keras2gp.matrices.dask_workers import client_of, result_of
from keras2gp.matrices.plan import Block
from keras2gp.matrices.store import GramStore

__all__ = ["ClusterProduct"]


# Tasks of each worker: enough that all end at about the same time.
_SHARES = 4


class ClusterProduct:
    """A symmetric store whose products the workers of a Dask scheduler compute from its blocks.

    Each worker reads blocks from the store, whose path must be the same directory on all machines;
    what travels are the vectors. A worker that dies costs the task it was at.

        with ClusterProduct("K.zarr", "tcp://host:8786") as K:
            classifier = GPClassifier(kernel, solver="cg").fit(x, y, gram=K)

    address: as of keras2gp.matrices.dask_workers.DaskWorkers

    Raises: StoreError, InputError if there is no store, or if it is not of one set of images; from
        each product StoreError where a block is missing or damaged, or workers are lost.
    """

    def __init__(self, store: GramStore | str | Path, address: str | None = None) -> None:
        self._store = store if isinstance(store, GramStore) else GramStore(store)
        if not self._store.symmetric:
            raise InputError(f"{self._store.path} holds the matrix of two sets of images, not one")
        self.shape = self._store.shape
        self.dtype = self._store.dtype
        self._address = address
        self._open = ExitStack()
        self._client: Any = None

    def __enter__(self) -> ClusterProduct:
        self._client = self._open.enter_context(client_of(self._address, len(self._store.blocks())))
        return self

    def __exit__(self, *error: object) -> None:
        self._client = None
        self._open.close()

    def diagonal(self) -> Array:
        """[N]."""
        return self._store.diagonal().astype(np.float64)

    def columns(self, indices: Sequence[int]) -> Array:
        """Columns by their indices, [N, count], in float64."""
        return self._summed(_columns, np.asarray(indices, dtype=np.intp), len(indices))

    def corner(self, indices: Sequence[int]) -> Array:
        """The entries between these rows and the same columns, in float64."""
        return self.columns(indices)[np.asarray(indices, dtype=np.intp)]

    def product(self, b: Array) -> Array:
        """The matrix times b, [N, C], in float64; the same to the last bit each time."""
        return self._summed(_product, np.asarray(b, dtype=np.float64), b.shape[1])

    def _summed(self, function: Any, common: Array, columns: int) -> Array:
        """The sum over all tasks of what each makes of its blocks, in the order of the tasks."""
        if self._client is None:
            raise InputError("a ClusterProduct is used outside of its `with` block")
        path = str(self._store.path.absolute())
        workers = len(self._client.scheduler_info()["workers"])
        # A task and not scattered data, which would be lost with the worker that holds them.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            sent = self._client.submit(_same, common, pure=False)
        futures = [
            self._client.submit(function, path, share, sent, pure=False)
            for share in _shares(self._store.blocks(), _SHARES * max(workers, 1))
        ]
        try:
            total = np.zeros((self.shape[0], columns))
            for future in futures:
                total += result_of(future)
                future.release()
        finally:
            self._client.cancel([*futures, sent])
        return total


def _shares(blocks: list[Block], count: int) -> list[list[Block]]:
    """Blocks in runs of about the same length."""
    bounds = np.linspace(0, len(blocks), min(count, len(blocks)) + 1).astype(int)
    return [blocks[i:j] for i, j in pairwise(bounds)]


# The store that this worker read last: its metadata are read once, not in every task.
_opened: dict[str, GramStore] = {}


def _store(path: str) -> GramStore:
    if path not in _opened:
        _opened.clear()
        _opened[path] = GramStore(Path(path))
    return _opened[path]


def _same(common: Array) -> Array:
    """In a worker: the vectors, as the others fetch them."""
    return common


def _product(path: str, blocks: list[Block], b: Array) -> Array:
    """In a worker: what these blocks and their mirror images contribute to the product."""
    total = np.zeros_like(b)
    for block in blocks:
        upper, above, rows, columns = _pieces(_store(path), block)
        total[rows] += upper @ b[columns]
        total[columns] += above.T @ b[rows]
    return total


def _columns(path: str, blocks: list[Block], wanted: Array) -> Array:
    """In a worker: what these blocks and their mirror images hold of the wanted columns."""
    store = _store(path)
    total = np.zeros((store.shape[0], len(wanted)))
    for block in blocks:
        upper, above, rows, columns = _pieces(store, block)
        direct = np.flatnonzero((wanted >= columns.start) & (wanted < columns.stop))
        total[rows, direct] += upper[:, wanted[direct] - columns.start]
        mirror = np.flatnonzero((wanted >= rows.start) & (wanted < rows.stop))
        total[columns, mirror] += above[wanted[mirror] - rows.start].T
    return total


def _pieces(store: GramStore, block: Block) -> tuple[Array, Array, slice, slice]:
    """A block in float64, the same without the matrix's diagonal, and its place."""
    upper = store.read(block).astype(np.float64)
    above = upper
    if block.column < block.row + block.rows:
        above = np.triu(upper, block.row - block.column + 1)
    rows = slice(block.row, block.row + block.rows)
    return upper, above, rows, slice(block.column, block.column + block.columns)
