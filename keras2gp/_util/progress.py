"""Progress of a long step: a bar on a terminal's stderr, or calls of the user's function."""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol, TextIO

from keras2gp._util.text import console_for, duration_text, received_text
from keras2gp.errors import InputError

__all__ = [
    "Advance",
    "Progress",
    "bars_inside",
    "check_advance",
    "check_progress",
    "counted",
    "showing_bars",
    "stage",
]

_SHOWN: ContextVar[bool] = ContextVar("_SHOWN", default=False)
"""Whether matrices that are computed now have a bar; each thread starts without."""
_PATIENCE = 2.0
_REFRESH = 0.1


class Advance(Protocol):
    """Tells how far a step is."""

    def __call__(self, done: int, total: int, /) -> None:
        """`done` of `total` units are done."""


Progress = bool | Advance
"""True for a bar on a terminal, False for nothing, or a function of (done, total)."""


def check_progress(progress: Progress) -> None:
    """Refuse what is neither True, False nor a function.

    Raises:
        InputError: with what was received.
    """
    if not isinstance(progress, bool) and not callable(progress):
        raise InputError(f"progress={received_text(progress)}: expected True, False or a function")


def check_advance(progress: Advance, arguments: str) -> None:
    """Refuse a setting that takes a function alone, such as `progress=True` where no bar is shown.

    Args:
        progress: the setting.
        arguments: the arguments with which the function is called, for the message.

    Raises:
        InputError: with what was received.
    """
    if not callable(progress):
        raise InputError(f"progress={received_text(progress)}: expected a function of {arguments}")


@contextmanager
def stage(title: str) -> Iterator[Advance]:
    """A long step: shows nothing for two seconds, then a bar that is gone at the end.

    Without calls of the function that it yields the bar only says that time passes. Where stderr
    is no terminal, nothing is ever shown.
    """
    with _bar(title) as bar:
        yield bar.advance if bar else _ignore


@contextmanager
def bars_inside(progress: Progress | None) -> Iterator[Advance | None]:
    """A step whose matrices are computed by others, which do not know what the user asks for.

    Args:
        progress: True for a bar for each matrix of it; False or None for none; or a function, which
            is told of the other steps alone.

    Yields:
        The function; None for the others.

    Raises:
        InputError: it is none of these.
    """
    if progress is not None:
        check_progress(progress)
    token = _SHOWN.set(progress is True and _is_alone())
    try:
        yield progress if callable(progress) else None
    finally:
        _SHOWN.reset(token)


def _is_alone() -> bool:
    """Whether nothing beside this draws on the terminal: other threads and workers may."""
    main = threading.current_thread() is threading.main_thread()
    return main and multiprocessing.current_process().name == "MainProcess"


def showing_bars() -> bool:
    """Whether a matrix that is computed now is to have a bar: see `bars_inside`."""
    return _SHOWN.get()


@contextmanager
def counted(
    progress: Progress, title: str, sizes: Sequence[int], done: Sequence[int]
) -> Iterator[Callable[[int], None]]:
    """Progress over blocks of pairs: `progress` is told at the start and after every block.

    Args:
        progress: what the user asks for.
        title: what the blocks are for.
        sizes: pairs of every block.
        done: pairs of each block that an earlier run has left.

    Yields:
        A function that takes the pairs of a finished block.
    """
    total, blocks, pairs = sum(sizes), len(done), sum(done)
    with _bar(title, "pairs") if progress is True else nullcontext() as bar:

        def tell() -> None:
            if callable(progress):
                progress(pairs, total)
            elif bar:
                bar.advance(pairs, total, f"{blocks:,}/{len(sizes):,} blocks  ")

        def finished(size: int) -> None:
            nonlocal blocks, pairs
            blocks, pairs = blocks + 1, pairs + size
            tell()

        tell()
        yield finished


def _ignore(done: int, total: int, /) -> None:
    """Tell nobody."""


@contextmanager
def _bar(title: str, unit: str = "") -> Iterator[_Bar | None]:
    """A bar on stderr; None where it is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(title, unit)
    bar.start()
    try:
        yield bar
    finally:
        bar.stop()


class _Bar(threading.Thread):
    """Draws from a thread of its own, since the step itself is inside TensorFlow or LAPACK.

    The rate counts from the second call of `advance` on, where there is one: the first unit of
    work compiles.

    unit: what is counted, for a rate beside the times; empty for none
    """

    def __init__(self, title: str, unit: str) -> None:
        super().__init__(daemon=True)
        self._title, self._unit = title, unit
        self._ended = threading.Event()
        self._began = time.perf_counter()
        self._marks: list[tuple[float, int]] = []
        self._state: tuple[float, int, int, str] | None = None
        self._terminal: TextIO = sys.stderr
        try:  # a copy of the descriptor: the real one is redirected while TensorFlow is imported
            copy = os.dup(sys.stderr.fileno())
            self._terminal = os.fdopen(copy, "w", encoding=sys.stderr.encoding)
        except (OSError, io.UnsupportedOperation):
            pass

    def advance(self, done: int, total: int, /, note: str = "") -> None:
        """Tell how far the step is; a note is shown before the figures."""
        now = time.perf_counter() - self._began
        self._marks = [*self._marks, (now, done)][:2]
        self._state = (now, done, total, note)

    def stop(self) -> None:
        """Remove the bar."""
        self._ended.set()
        self.join()
        if self._terminal is not sys.stderr:
            self._terminal.close()

    def run(self) -> None:
        """Draw until the step ends."""
        if self._ended.wait(_PATIENCE):
            return
        from rich import progress  # noqa: PLC0415 (only for what takes long)

        bar = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=30),
            progress.TextColumn("{task.fields[figures]}", markup=False),
            console=console_for(self._terminal),
            transient=True,
        )
        with bar:
            task = bar.add_task(self._title, total=None, figures=self._figures())
            while not self._ended.wait(_REFRESH):
                _, done, total, _ = self._state or (0.0, 0, None, "")
                bar.update(task, completed=done, total=total, figures=self._figures())

    def _figures(self) -> str:
        elapsed = time.perf_counter() - self._began
        if self._state is None:
            return duration_text(elapsed)
        now, done, total, note = self._state
        text = f"{note}{100 * done // max(total, 1)}%  "
        then, before = next((mark for mark in reversed(self._marks) if mark[1] < done), (0.0, 0))
        if done == before or now == then or (self._unit and len(self._marks) < 2):
            return text + duration_text(elapsed)
        rate = (done - before) / (now - then)
        left = max((total - done) / rate - (elapsed - now), 0.0)
        speed = f"{rate:,.0f} {self._unit}/s  " if self._unit else ""
        return f"{text}{speed}{duration_text(elapsed)}, {duration_text(left)} left"
