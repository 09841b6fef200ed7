"""Progress of a long step: a bar on a terminal or in a notebook, or calls of a function."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from keras2gp._util.progress_bar import bar_of
from keras2gp._util.text import received_text
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


class Advance(Protocol):
    """Tells how far a step is."""

    def __call__(self, done: int, total: int, /) -> None:
        """`done` of `total` units are done."""


Progress = bool | Advance
"""True for a bar on a terminal or in a notebook, False for none, or a function of (done, total)."""


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

    Without calls of the function that it yields the bar only says that time passes. Where there is
    neither a terminal nor a notebook, nothing is ever shown.
    """
    with bar_of(title) as bar:
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
    with bar_of(title, "pairs") if progress is True else nullcontext() as bar:

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
