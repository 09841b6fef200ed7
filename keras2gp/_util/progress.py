"""How far a matrix is: a bar on a terminal, or a call of the user's function."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from keras2gp.matrices.plan import Block

__all__ = ["Progress", "Reporter", "reporter"]

Progress = bool | Callable[[int, int], None]

_PATIENCE = 2.0


class Reporter(Protocol):
    """Is told of every finished block."""

    def __enter__(self) -> Reporter: ...

    def __exit__(self, *error: object) -> None: ...

    def advance(self, block: Block) -> None:
        """One more block is there."""


def reporter(progress: Progress, wanted: list[Block], done: list[Block]) -> Reporter:
    """What `progress` asks for.

    wanted: all blocks of the matrix; done: those that an earlier run has left
    """
    if callable(progress):
        return _Call(progress, wanted, done)
    if progress and sys.stderr.isatty():
        return _Bar(wanted, done)
    return _Call(lambda _done, _total: None, wanted, done)


class _Call:
    """Calls a function with the numbers of pairs, once at the start and after every block."""

    def __init__(
        self, function: Callable[[int, int], None], wanted: list[Block], done: list[Block]
    ) -> None:
        self.function = function
        self.total = sum(block.pairs for block in wanted)
        self.done = sum(block.pairs for block in done)

    def __enter__(self) -> Reporter:
        self.function(self.done, self.total)
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def advance(self, block: Block) -> None:
        self.done += block.pairs
        self.function(self.done, self.total)


class _Bar:
    """Blocks done, pairs per second and time left, from the third second on.

    The rate counts from the end of the first block, which compiles, and blocks of an earlier run
    do not enter it.
    """

    def __init__(self, wanted: list[Block], done: list[Block]) -> None:
        self._blocks, self._total_blocks = len(done), len(wanted)
        self._pairs = sum(block.pairs for block in done)
        self._total = sum(block.pairs for block in wanted)
        self._first: tuple[float, int] | None = None
        self._bar: Any = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(_PATIENCE, self._show)
        self._timer.daemon = True

    def __enter__(self) -> Reporter:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        self._timer.join()
        if self._bar is not None:
            self._bar.stop()

    def advance(self, block: Block) -> None:
        with self._lock:
            self._blocks += 1
            self._pairs += block.pairs
            self._first = self._first or (time.perf_counter(), self._pairs)
            if self._bar is not None:
                self._update()

    def _show(self) -> None:
        from rich import progress  # noqa: PLC0415 (only for what takes long)
        from rich.console import Console  # noqa: PLC0415

        with self._lock:
            self._bar = progress.Progress(
                progress.SpinnerColumn(),
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(bar_width=30),
                progress.TextColumn("{task.fields[figures]}", markup=False),
                progress.TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("kernel matrix", total=self._total, figures="")
            self._update()
            self._bar.start()

    def _update(self) -> None:
        figures = f"{self._blocks:,}/{self._total_blocks:,} blocks  {self._rate()}"
        self._bar.update(self._task, completed=self._pairs, figures=figures)

    def _rate(self) -> str:
        if self._first is None:
            return "compiling"
        then, pairs = self._first
        seconds = time.perf_counter() - then
        if self._pairs == pairs or seconds <= 0.0:
            return ""
        rate = (self._pairs - pairs) / seconds
        return f"{rate:,.0f} pairs/s  {_duration((self._total - self._pairs) / rate)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
