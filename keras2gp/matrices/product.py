"""ClusterProduct: products of a stored matrix with vectors, computed by Dask workers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.memory import require_memory
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.matrices.blocks import Block
from keras2gp.matrices.executors import dask_workers
from keras2gp.matrices.store import GramStore

__all__ = ["ClusterProduct"]


# Tasks of each worker: enough that all end at about the same time.
_SHARES = 4


class ClusterProduct:
    """A symmetric store whose products the workers of a Dask scheduler compute from its blocks.

    Each worker reads blocks from the store, whose path must be the same directory on all machines;
    only vectors are sent. A worker that dies costs the task it was at.

        with keras2gp.ClusterProduct("K.zarr", "tcp://host:8786") as K:
            classifier = keras2gp.GPClassifier(kernel, solver="cg").fit(x, y, gram=K)

    Args:
        store: a store of keras2gp.gram, or its path.
        address: address of a Dask scheduler, such as "tcp://host:8786"; None for a cluster on this
            machine.

    Attributes:
        shape: N and N.
        dtype: type of the stored entries.

    Raises:
        StoreError: there is no store; from each product, a block is missing or damaged, or workers
            are lost.
        InputError: the matrix is not of one set of images, or there is no scheduler.
    """

    def __init__(self, store: GramStore | str | Path, address: str | None = None) -> None:
        self._store = store if isinstance(store, GramStore) else GramStore(store)
        if not self._store.symmetric:
            raise InputError(f"{self._store.path} holds the matrix of two sets of images, not one")
        if self._store.ndim != 2:
            raise InputError(
                f"{self._store.path} holds covariances at equal positions, one matrix for each "
                "position. Try: the matrix between positions, or that of one position"
            )
        self.shape = self._store.shape
        self.dtype = self._store.dtype
        self._address = address
        self._open = ExitStack()
        self._dask: Any = None
        self._client: Any = None

    def __enter__(self) -> ClusterProduct:
        blocks = len(self._store.blocks())
        self._dask = dask_workers("ClusterProduct")
        self._client = self._open.enter_context(self._dask.client_of(self._address, blocks))
        return self

    def __exit__(self, *error: object) -> None:
        self._client = None
        self._open.close()

    def diagonal(self) -> Array:
        """The diagonal of the matrix.

        Returns:
            An array [N] in float64.
        """
        return self._store.diagonal().astype(np.float64)

    def columns(self, indices: Sequence[int]) -> Array:
        """Some columns of the matrix.

        Args:
            indices: their numbers.

        Returns:
            An array [N, len(indices)] in float64.
        """
        return self._summed(_columns, np.asarray(indices, dtype=np.intp), len(indices))

    def corner(self, indices: Sequence[int]) -> Array:
        """The entries between some rows and the same columns.

        Args:
            indices: their numbers.

        Returns:
            An array [len(indices), len(indices)] in float64.
        """
        return self.columns(indices)[np.asarray(indices, dtype=np.intp)]

    def product(self, b: Array) -> Array:
        """The matrix times b; the same to the last bit each time.

        Args:
            b: array [N, C].

        Returns:
            An array [N, C] in float64.

        Raises:
            InputError: b has another shape, or is not finite.
        """
        b = np.asarray(b, dtype=np.float64)
        if b.ndim != 2 or len(b) != self.shape[0] or not np.isfinite(b).all():
            expected = f"[{self.shape[0]}, C] of finite numbers"
            raise InputError(f"b={received_text(b)}: expected an array {expected}")
        return self._summed(_product, b, b.shape[1])

    def _summed(self, function: Any, common: Array, columns: int) -> Array:
        """The sum over all tasks of their contributions, in the order of the tasks."""
        if self._client is None:
            raise InputError("a ClusterProduct is used outside of its `with` block")
        needed = 3 * 8 * self.shape[0] * columns  # the vectors, their product, a task's part of it
        require_memory(needed, f"a product with {columns} vectors", "fewer vectors at a time")
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
                total += self._dask.result_of(future)
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
    """In a worker: the contribution of these blocks and their mirror images to the product."""
    total = np.zeros_like(b)
    for block in blocks:
        upper, above, rows, columns = _pieces(_store(path), block)
        total[rows] += upper @ b[columns]
        total[columns] += above.T @ b[rows]
    return total


def _columns(path: str, blocks: list[Block], indices: Array) -> Array:
    """In a worker: the entries of some columns in these blocks and their mirror images."""
    store = _store(path)
    total = np.zeros((store.shape[0], len(indices)))
    for block in blocks:
        upper, above, rows, columns = _pieces(store, block)
        direct = np.flatnonzero((indices >= columns.start) & (indices < columns.stop))
        total[rows, direct] += upper[:, indices[direct] - columns.start]
        mirror = np.flatnonzero((indices >= rows.start) & (indices < rows.stop))
        total[columns, mirror] += above[indices[mirror] - rows.start].T
    return total


def _pieces(store: GramStore, block: Block) -> tuple[Array, Array, slice, slice]:
    """A block in float64, the same without the matrix's diagonal, and its place."""
    upper = store.read(block).astype(np.float64)
    above = upper
    if block.meets_diagonal:
        above = np.triu(upper, block.row - block.column + 1)
    return upper, above, *block.slices
