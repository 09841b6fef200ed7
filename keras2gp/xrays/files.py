"""The files that an X-ray writes, and those at their names that keras2gp did not write.

The command line reads them: nothing heavy is imported here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from keras2gp._util.files import foreign_files
from keras2gp._util.paths import read_if_regular
from keras2gp.errors import StoreError

__all__ = [
    "FILES",
    "FOLDERS",
    "MARKER",
    "PILOT",
    "TITLE",
    "not_ours",
    "require_ours",
    "require_reports",
]

MARKER = "xray.json"
"""The record of an X-ray in its directory; it is written before any other file."""
PILOT = "pilot.json"
FOLDERS = ("kernels", "scores", "variants")
FILES = ("report.html", "report.json", "report.txt")
"""The files of a report."""
TITLE = "X-ray of "
"""The start of a report's title."""
_KEYS = {"keras2gp", "alpha", "findings"}
_LARGEST = 2**30
_SHOWN = 3


def _is_page(content: bytes) -> bool:
    return content.startswith(b"<!DOCTYPE html>") and f"<title>{TITLE}".encode() in content


def _is_document(content: bytes) -> bool:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and set(data) >= _KEYS


def _is_text(content: bytes) -> bool:
    first, _, rest = content.partition(b"\n")
    return first.startswith(TITLE.encode()) and b"; errors paired over " in rest.partition(b"\n")[0]


_IS_OURS: dict[str, Callable[[bytes], bool]] = dict(
    zip(FILES, (_is_page, _is_document, _is_text), strict=True)
)


def not_ours(directory: Path) -> list[str]:
    """Names of files in a directory that an X-ray would replace, and keras2gp did not write.

    A report is known by its content. Everything else is an X-ray's if its record is there.
    """
    return [*_reports(directory), *([] if _exists(directory / MARKER) else _others(directory))]


def _reports(directory: Path) -> Iterator[str]:
    for name, is_ours in _IS_OURS.items():
        path = directory / name
        if not _exists(path):
            continue
        try:
            content = None if path.is_symlink() else read_if_regular(path, _LARGEST)
        except OSError:
            content = None
        if content is None or not is_ours(content):
            yield name


def _others(directory: Path) -> Iterator[str]:
    for path in sorted([directory / PILOT, *directory.glob("signals-*.json")]):
        if _exists(path):
            yield path.name
    for folder in FOLDERS:
        path = directory / folder
        if path.is_dir() and not path.is_symlink():
            yield from (f"{folder}/{name}" for name in foreign_files(path, ()))
        elif _exists(path):
            yield folder


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def require_ours(directory: Path) -> None:
    """Refuse a directory with files that an X-ray would replace, and keras2gp did not write.

    Raises:
        StoreError: with their names; nothing is made or written.
    """
    _refuse(directory, not_ours(directory))


def require_reports(directory: Path) -> None:
    """The same of the files of a report alone. Raises: StoreError."""
    _refuse(directory, list(_reports(directory)))


def _refuse(directory: Path, names: list[str]) -> None:
    if names:
        more = ", ..." if len(names) > _SHOWN else ""
        raise StoreError(
            f"{directory} holds files where an X-ray writes its own, which keras2gp did not write, "
            f"or which were changed: {', '.join(names[:_SHOWN])}{more}. Try: another directory, or "
            "move them away"
        )
