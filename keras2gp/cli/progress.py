"""Progress on a terminal's stderr, for what takes longer than two seconds."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from keras2gp.cli.output import console_for, seconds_text

__all__ = ["Advance", "stage"]

_PATIENCE = 2.0
_REFRESH = 0.1


class Advance(Protocol):
    """Tells how far a stage is."""

    def __call__(self, done: int, total: int, /) -> None:
        """`done` of `total` steps."""


@contextmanager
def stage(title: str) -> Iterator[Advance]:
    """A long step: shows nothing for two seconds, then a bar that is gone at the end.

    Without calls of what it yields the bar only says that time passes. Where stderr is no
    terminal, nothing is ever shown.
    """
    if not sys.stderr.isatty():
        yield _ignore
        return
    display = _Display(title)
    display.start()
    try:
        yield display.advance
    finally:
        display.stop()


def _ignore(done: int, total: int, /) -> None:
    """What `stage` yields where nobody looks."""


class _Display(threading.Thread):
    """Draws from a thread of its own, since the step itself is inside TensorFlow or LAPACK."""

    def __init__(self, title: str) -> None:
        super().__init__(daemon=True)
        self._title = title
        self._ended = threading.Event()
        self._state: tuple[int, int, float] | None = None
        self._began = time.perf_counter()
        # A copy of the descriptor: the real one is redirected while TensorFlow is imported.
        self._terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding)

    def advance(self, done: int, total: int, /) -> None:
        self._state = (done, total, time.perf_counter() - self._began)

    def stop(self) -> None:
        self._ended.set()
        self.join()
        self._terminal.close()

    def run(self) -> None:
        if self._ended.wait(_PATIENCE):
            return
        from rich import progress  # noqa: PLC0415 (only for what takes long)

        bar = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=30),
            progress.TextColumn("{task.fields[times]}", markup=False),
            console=console_for(self._terminal),
            transient=True,
        )
        with bar:
            task = bar.add_task(self._title, total=None, times=self._times())
            while not self._ended.wait(_REFRESH):
                done, total, _ = self._state or (0, None, 0.0)
                bar.update(task, completed=done, total=total, times=self._times())

    def _times(self) -> str:
        elapsed = time.perf_counter() - self._began
        if self._state is None:
            return seconds_text(elapsed)
        done, total, then = self._state
        left = max(then * total / max(done, 1) - elapsed, 0.0)
        return f"{100 * done // total}%  {seconds_text(elapsed)}, {seconds_text(left)} left"
