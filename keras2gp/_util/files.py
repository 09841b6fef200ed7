"""Files and directories that are written in one piece."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from keras2gp.errors import Keras2GPError, StoreError

try:
    import fcntl
except ImportError:  # not POSIX: no locks, and no process is told of another
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "DISK_ERRORS",
    "Content",
    "Writer",
    "flush",
    "foreign_files",
    "held",
    "made_folders",
    "require_writable",
    "staged_directory",
    "staged_file",
    "sweep",
    "temporary_name",
    "write_file",
    "write_files",
    "write_new_file",
]

Writer = Callable[[BinaryIO], object]
"""Writes a file's content into a binary stream."""

Content = Writer | str | bytes | bytearray | memoryview
"""The content of a file: text (as UTF-8), bytes, or a function that writes it."""

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Numbers of the errors of a disk that takes no more."""

_SUFFIX = ".partial"
_OURS = re.compile(rf"\..*\.[0-9a-f]{{32}}{re.escape(_SUFFIX)}(\.\w+)?", re.DOTALL)
_ATTEMPTS = 10
_ABANDONED = 3600.0


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other writer uses, and that `sweep` knows."""
    # A file system takes 255 bytes: a long name is cut.
    return path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}{_SUFFIX}")


def write_file(path: Path, content: Content, error: type[Keras2GPError] = StoreError) -> None:
    """Write one file in one piece. See `write_files`."""
    write_files([(path, content)], error)


def write_new_file(path: Path, text: str) -> None:
    """Write a file that is not there yet, and the folders that it lies in; see `write_files`.

    Raises:
        StoreError: there is something already, or nothing can be written.
    """
    with made_folders(path.parent):
        if os.path.lexists(path):
            raise StoreError(f"{path} exists by now, and is not replaced. Try: another name")
        write_file(path, text)


@contextmanager
def made_folders(*paths: Path) -> Iterator[None]:
    """Folders, made where they are missing; those that are still empty when the block fails go.

    Raises:
        StoreError: one cannot be made.
    """
    new: list[Path] = []
    try:
        for path in paths:
            new += reversed([part for part in (path, *path.parents) if not part.exists()])
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{path} cannot be made: {error.strerror or error}") from error
        yield
    except BaseException:
        for folder in reversed(new):
            with suppress(OSError):  # it holds something
                folder.rmdir()
        raise


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """A directory that grows, in which one process is at work at a time.

    The lock goes with the process, however it ends. Where the file system has none, nothing is
    refused.

    Raises:
        StoreError: another process, or another thread, holds it.
    """
    descriptor = -1
    try:
        if fcntl is not None:
            with suppress(OSError):
                descriptor = os.open(directory, os.O_RDONLY)
        if descriptor >= 0:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreError(
                    f"another process is at work in {directory}. Try: another directory, or the "
                    "same again when it has ended, which goes on from there"
                ) from error
            except OSError:  # a file system without locks
                pass
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def write_files(
    files: Sequence[tuple[Path, Content]], error: type[Keras2GPError] = StoreError
) -> None:
    """Write several files that belong together, each in one piece.

    All are written under temporary names beside their own, and are on the disk, before the first
    takes its name, in the order given. A process that is killed leaves no file half written, and
    an earlier file stays as long as anything can still fail. A file is flushed to the disk before
    it is renamed: some file systems report a full or broken disk only then.

    Args:
        files: pairs of a path, in a directory that exists, and its content.
        error: class of the error.

    Raises:
        Keras2GPError: of the class `error`, if a target is something else than a regular file, or
            cannot be written; no target is changed then.
    """
    for target, _ in files:
        require_writable(target, error)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _write_all(files)
        except OSError as fault:
            # Another process that has just started may have swept a temporary file.
            if not isinstance(fault, FileNotFoundError) or attempt == _ATTEMPTS:
                names = ", ".join(str(path) for path, _ in files)
                raise error(_unwritable(names, fault)) from fault
        else:
            return


def _write_all(files: Sequence[tuple[Path, Content]]) -> None:
    staged: list[tuple[Path, Path]] = []
    try:
        for path, content in files:
            partial = temporary_name(path)
            staged.append((partial, path))
            with partial.open("xb") as stream:
                _write(stream, content)
                stream.flush()
                os.fsync(stream.fileno())
        for partial, path in staged:
            partial.replace(path)
    finally:
        for partial, _ in staged:
            partial.unlink(missing_ok=True)


@contextmanager
def staged_file(target: Path, error: type[Keras2GPError] = StoreError) -> Iterator[Path]:
    """A path whose file becomes `target` when the block ends well, and vanishes otherwise.

    It is for libraries that write a file by its name alone, and has the suffix of `target`.

    Yields:
        The path, at which there is nothing yet.

    Raises:
        Keras2GPError: of the class `error`, if `target` is something else than a regular file, or
            cannot be written.
    """
    require_writable(target, error)
    partial = temporary_name(target)
    partial = partial.with_name(partial.name + target.suffix)
    try:
        yield partial
        _flushed(partial)
        partial.replace(target)
    except OSError as fault:
        if isinstance(fault, Keras2GPError):
            raise
        raise error(_unwritable(str(target), fault)) from fault
    finally:
        partial.unlink(missing_ok=True)


def _write(stream: BinaryIO, content: Content) -> None:
    if callable(content):
        content(stream)
    else:
        stream.write(content.encode() if isinstance(content, str) else content)


def require_writable(path: Path, error: type[Keras2GPError] = StoreError) -> None:
    """Refuse a place that is something else than a regular file, so that no link is followed.

    Raises:
        Keras2GPError: of the class `error`, if `path` is a link, a directory, a pipe or a device.
    """
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        raise error(
            f"{path} is {_kind(mode)}: no file is written there. Try: another name, or move it away"
        )


@contextmanager
def staged_directory(target: Path, ours: Sequence[str] | None = None) -> Iterator[Path]:
    """A new directory that becomes `target` when the block ends well, and vanishes otherwise.

    The earlier directory stays until the new one is complete and on the disk.

    Args:
        target: the directory to make or to replace.
        ours: patterns of the files that may be replaced (see `foreign_files`); None for all.

    Yields:
        An empty directory to write into.

    Raises:
        StoreError: `target` is a link or no directory, holds a file that matches no pattern, or
            cannot be written.
    """
    target = target.absolute()
    _require_replaceable(target, ours)
    sweep(target)
    staged = temporary_name(target)
    old = staged.with_suffix(".earlier")  # never swept: a kill between two renames leaves it
    try:
        with made_folders(target.parent):
            staged.mkdir()
            try:
                yield staged
                flush(staged)
                _require_replaceable(target, ours)
                if target.exists():
                    target.rename(old)
                try:
                    staged.rename(target)
                except OSError:
                    if old.exists():
                        old.rename(target)
                    raise
            finally:
                shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(_unwritable(str(target), error)) from error
    finally:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def _require_replaceable(target: Path, ours: Sequence[str] | None) -> None:
    mode = _mode(target)
    if mode is None:
        return
    if not stat.S_ISDIR(mode):
        raise StoreError(f"{target} is {_kind(mode)}, not a directory. Try: another name")
    if ours is not None and (foreign := foreign_files(target, ours)):
        raise StoreError(
            f"{target} holds files that keras2gp did not write: {', '.join(foreign[:3])}. "
            "Try: another directory, or move them away"
        )


def foreign_files(directory: Path, ours: Sequence[str]) -> list[str]:
    """Paths within a directory that match none of the patterns, such as "kernel/*.json".

    A link is foreign whatever its name; a directory counts by the files in it.
    """
    return [
        name
        for path in sorted(directory.rglob("*"))
        if path.is_symlink() or not path.is_dir()
        for name in [path.relative_to(directory).as_posix()]
        if path.is_symlink() or not any(fnmatch(name, pattern) for pattern in ours)
    ]


def flush(directory: Path) -> None:
    """Wait until a directory, and all files in it, are on the disk."""
    for path in (*directory.rglob("*"), directory):
        _flushed(path)


def _flushed(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(target: Path) -> None:
    """Remove what killed runs left of `target`: temporary files in it, and temporaries beside it.

    Another run may be at work on the same directory: it writes a file again if its temporary file
    is swept, but could not make a directory again, so that only old ones beside it are removed.
    """
    for partial in list(target.rglob(f".*{_SUFFIX}*")):
        if _OURS.fullmatch(partial.name) and partial.is_file():
            partial.unlink(missing_ok=True)
    start = f".{target.name[:40]}."
    try:
        siblings = list(target.absolute().parent.iterdir())
    except OSError:
        return
    for partial in siblings:
        if not (partial.name.startswith(start) and _OURS.fullmatch(partial.name)):
            continue
        try:
            abandoned = time.time() - partial.stat().st_mtime > _ABANDONED
        except OSError:
            continue
        if abandoned and partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        elif abandoned:
            partial.unlink(missing_ok=True)


def _mode(path: Path) -> int | None:
    """The mode of a path itself, links not followed; None where there is nothing."""
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(_unwritable(str(path), error)) from error


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a directory", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "a pipe, socket or device")


def _unwritable(what: str, error: OSError) -> str:
    return f"{what} cannot be written: {error.strerror or error}"
