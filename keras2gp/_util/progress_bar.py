"""The bar of a long step: on a terminal by rich, in a notebook as HTML, nowhere else."""

from __future__ import annotations

import contextvars
import io
import os
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from keras2gp._util import html
from keras2gp._util.text import console_for, duration_text

__all__ = ["Bar", "bar_of"]

_PATIENCE = 2.0
"""Seconds for which nothing is shown."""
_REFRESH = 0.1
"""Seconds between two pictures on a terminal."""
_NOTEBOOK_REFRESH = 0.5
"""Seconds between two pictures in a notebook, each of which is a message to a browser."""


@contextmanager
def bar_of(title: str, unit: str = "") -> Iterator[Bar | None]:
    """A bar on a terminal's stderr or in a notebook; None where there is neither.

    Args:
        title: what takes long.
        unit: what is counted, for a rate beside the times; empty for none.
    """
    bar: Bar
    if sys.stderr.isatty():
        bar = _TerminalBar(title, unit)
    elif (display := _notebook_display()) is not None:
        bar = _NotebookBar(title, unit, display)
    else:
        yield None
        return
    bar.start()
    try:
        yield bar
    finally:
        bar.stop()


def _notebook_display() -> Any | None:
    """IPython's module of displays where a Jupyter kernel runs this; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return sys.modules.get("IPython.display") if hasattr(shell, "kernel") else None


class Bar(threading.Thread):
    """A bar that a thread of its own draws, since the step is inside TensorFlow or LAPACK.

    The rate counts from the second call of `advance` on, where there is one: the first unit of
    work compiles.
    """

    def __init__(self, title: str, unit: str) -> None:
        super().__init__(daemon=True)
        self._title, self._unit = title, unit
        self._ended = threading.Event()
        self._began = time.perf_counter()
        self._marks: list[tuple[float, int]] = []
        self._state: tuple[float, int, int, str] | None = None

    def advance(self, done: int, total: int, /, note: str = "") -> None:
        """Tell how far the step is; a note is shown before the figures."""
        now = time.perf_counter() - self._began
        self._marks = [*self._marks, (now, done)][:2]
        self._state = (now, done, total, note)

    def stop(self) -> None:
        """Remove the bar."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Draw until the step ends, if it takes long."""
        if not self._ended.wait(_PATIENCE):
            self._draw()

    @abstractmethod
    def _draw(self) -> None:
        """Draw again and again until the step ends, and leave nothing behind."""

    def _share(self) -> tuple[int, int | None]:
        """The units that are done, and all of them; None if their number is not known."""
        _, done, total, _ = self._state or (0.0, 0, None, "")
        return done, total

    def _figures(self) -> str:
        """Share, rate, and times that have passed and are left."""
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


class _TerminalBar(Bar):
    """A bar on stderr, gone at the end."""

    def __init__(self, title: str, unit: str) -> None:
        super().__init__(title, unit)
        self._terminal: TextIO = sys.stderr
        try:  # a copy of the descriptor: the real one is redirected while TensorFlow is imported
            copy = os.dup(sys.stderr.fileno())
            self._terminal = os.fdopen(copy, "w", encoding=sys.stderr.encoding)
        except (OSError, io.UnsupportedOperation):
            pass

    def stop(self) -> None:
        super().stop()
        if self._terminal is not sys.stderr:
            self._terminal.close()

    def _draw(self) -> None:
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
                done, total = self._share()
                bar.update(task, completed=done, total=total, figures=self._figures())


class _NotebookBar(Bar):
    """A bar below the running cell, which the browser draws; empty at the end.

    display: IPython's module of displays
    """

    def __init__(self, title: str, unit: str, display: Any) -> None:
        super().__init__(title, unit)
        self._display = display
        self._context = contextvars.copy_context()  # by which a kernel knows the running cell

    def _draw(self) -> None:
        shown = self._context.run(self._display.display, self._picture(), display_id=True)
        while not self._ended.wait(_NOTEBOOK_REFRESH):
            self._context.run(shown.update, self._picture())
        self._context.run(shown.update, self._display.HTML(""))

    def _picture(self) -> Any:
        done, total = self._share()
        return self._display.HTML(html.progress(self._title, done, total, self._figures()))
