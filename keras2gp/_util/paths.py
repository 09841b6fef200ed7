"""Paths as people write them, and files that are read without waiting.

A path is read as a shell does, or refused where no system takes it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Any

from keras2gp._util.text import did_you_mean, received_text, size_text
from keras2gp.errors import InputError, Keras2GPError

__all__ = [
    "as_path",
    "expanded",
    "missing",
    "no_path",
    "read_if_regular",
    "real_path",
    "suffix_of",
]

_MOST = 1000
"""Names of a folder that are compared with one that it lacks."""

_DEEPEST = 200
"""Folders inside one another; Python walks through folders by recursion."""


def expanded(text: str) -> Path:
    """A path as a shell would read it; Path.expanduser() raises where there is no such user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


def real_path(path: Path) -> Path:
    """A path without links; Path.resolve() raises where links go in a circle."""
    return Path(os.path.realpath(path))


def suffix_of(path: Path | str) -> str:
    """The suffix of a path's name in lower case, such as ".csv" of DATA.CSV.

    Formats are told by it alone, so that a name in capitals is one of the same format.
    """
    return Path(path).suffix.lower()


def no_path(text: str) -> str:
    """Why a text is refused as a path, in words; "" for a path."""
    if "\0" in text:
        return "it holds a null character, as no path may"
    if not text:
        return "it is empty, as a shell's variable is that was not set. Try: a path"
    if scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        local = scheme[0].lower() == "file://"
        remedy = f"the path alone, {text[7:][:200]}" if local else "a copy of it on this machine"
        return f"it is an address, and no path. Try: {remedy}"
    count = len(Path(text).parts)
    if count <= _DEEPEST:
        return ""
    return f"{count} folders inside one another. Try: a path of at most {_DEEPEST}"


def as_path(name: str, value: Any, error: type[Keras2GPError] = InputError) -> Path:
    """Return a path that is text or os.PathLike as a shell would read it, or refuse it.

    Raises:
        Keras2GPError: of the class `error`; it is something else, or no system takes it.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise error(f"{name}={received_text(value)}: expected a path, as text or a pathlib.Path")
    if why := no_path(text):
        raise error(f"{name}={received_text(value)}: {why}")
    return expanded(text)


def missing(path: Path, what: str = "no such file") -> str:
    """The message on a path where nothing is, with a name beside it that resembles it.

    Where something else is than what was expected, such as a pipe, the message says that.
    """
    if os.path.lexists(path):
        expected = what.removeprefix("no such ").replace(" or ", " or a ")
        return f"{path}: {_other_kind(path)}; expected a {expected}"
    try:
        names = [
            entry.name for entry, _ in zip(os.scandir(path.parent), range(_MOST), strict=False)
        ]
    except OSError:  # its folder is missing too, or may not be read
        names = []
    return f"{path}: {what}.{did_you_mean(path.name, names)}".removesuffix(".")


def _other_kind(path: Path) -> str:
    """The kind of what is at a path, in words."""
    if not path.exists():
        return "is a link that leads nowhere"
    if path.is_dir():
        return "is a folder"
    return "is a file" if path.is_file() else "is a pipe, a socket or a device"


def read_if_regular(path: Path, largest: int | None = None) -> bytes | None:
    """The bytes of a regular file; None where there is none, or something else.

    A pipe or device is never waited for.

    Raises:
        OSError: the file cannot be read, or has more than `largest` bytes.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        # Not blocking, in case a pipe has taken the file's place since.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that leads to itself
            return None
        raise
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            return None
        if largest is not None and status.st_size > largest:
            raise OSError(errno.EFBIG, f"larger than {size_text(largest)}", str(path))
        return stream.read()
