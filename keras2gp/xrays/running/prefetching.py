"""The matrices of the next variants, computed while the fits of another one take their time.

Compilation takes one core, and fits take little more: side by side they take both cores.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from keras2gp.errors import Keras2GPError
from keras2gp.matrices.work import ExecutorLike
from keras2gp.xrays.running.directory import Directory
from keras2gp.xrays.running.scoring import Scoring
from keras2gp.xrays.variants.subject import Variant

__all__ = ["Prefetcher"]


class _HaltedError(Keras2GPError):
    """The matrix is not wanted any more."""


class Prefetcher:
    """A thread that is one program ahead of the fits; it ends with the `with` that it is used in.

    Its errors are dropped: the scores of a variant compute again what is missing, and raise them.

    Args:
        scoring: computes the matrices.
        directory: the directory, in which scores find them.
        executor: as for `gram`.
    """

    def __init__(self, scoring: Scoring, directory: Directory, executor: ExecutorLike) -> None:
        self._scoring, self._directory, self._executor = scoring, directory, executor
        self._pool, self._halt = ThreadPoolExecutor(1), threading.Event()
        self._begun: dict[str, Future[None] | None] = {}
        self._last: Future[None] | None = None

    def prepare(self, variants: Sequence[Variant]) -> None:
        """See that the matrices of the first variant are there, and begin those of a later one.

        Args:
            variants: the variants that are to be fitted, in order.

        Raises:
            NumericalError: the first one's kernel overflows.
        """
        first = self._key(variants[0])
        if first not in self._begun:
            self._begun[first] = None
            self._fill(variants[0])
        elif future := self._begun[first]:
            future.exception()  # waits
        if self._last is not None and not self._last.done():
            return
        for variant in variants[1:]:
            key = self._key(variant)
            if key in self._begun or self._scoring.stored_scores(variant, self._directory):
                continue
            self._begun[key] = self._last = self._pool.submit(self._fill, variant)
            return

    def _key(self, variant: Variant) -> str:
        return self._scoring.shares[variant.key].key

    def _fill(self, variant: Variant) -> None:
        self._scoring.fill(variant, self._directory, self._executor, self._goes_on)

    def _goes_on(self, _done: int, _total: int) -> None:
        if self._halt.is_set():
            raise _HaltedError("the X-ray has ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._halt.set()
        self._pool.shutdown()
