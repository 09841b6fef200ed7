"""Paths as people write them: read as a shell does, or refused where no system takes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from keras2gp._util.text import received_text
from keras2gp.errors import InputError, Keras2GPError

__all__ = ["as_path", "expanded", "no_path", "real_path"]

_DEEPEST = 200
"""Folders inside one another; Python walks through folders by recursion."""


def expanded(text: str) -> Path:
    """A path as a shell would read it; Path.expanduser() raises where there is no such user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


def real_path(path: Path) -> Path:
    """A path without links; Path.resolve() raises where links go in a circle."""
    return Path(os.path.realpath(path))


def no_path(text: str) -> str:
    """Why a text is refused as a path, in words; "" for a path."""
    if "\0" in text:
        return "it holds a null character, as no path may"
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
