"""A folder of compiled programs for each user, so that a process need not compile what another did.

    FOLDER/                    the user's own, closed to others
        key                    32 random bytes, for the user alone
        COMPILER/              one for each compiler: a hash of TensorFlow's build, CPU and options
            HMAC.NAME          a program, by the keyed digest of its file and name
            run-RANDOM/        what one process sees: links to whole programs, and its new ones
                lock           held by that process as long as it lives

A compiled program is code, and TensorFlow, which reads and writes the files, checks neither who
wrote one nor whether it is whole: a damaged one fails the computation, or the process. So only
programs whose digest holds are linked into the folder that TensorFlow is told, and new ones get a
second name outside of it, each in one piece, when the process ends. The digest is an HMAC-SHA256:
whoever has not the key of this folder cannot make one, not by chance and not for programs from
another place.
"""

from __future__ import annotations

import atexit
import errno
import hmac
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: no cache, since owners and locks cannot be told
    fcntl = None  # type: ignore[assignment]

__all__ = ["LIMIT", "VARIABLE", "ProgramCache", "user_folder"]

VARIABLE = "KERAS2GP_CACHE"
"""Environment variable: "off", or a folder to use in place of the user's cache folder. A folder of
its own is made in it, so that nothing of the user's is swept or counted."""
LIMIT = 2**28
"""Bytes of all programs of a user; the oldest are removed."""
_OFF = ("0", "false", "no", "none", "off")
_LEAST_FREE = 2**30
"""Bytes free on the disk, below which nothing is kept: a full one would fail the computation."""
_KEY = "key"
_KEY_BYTES = 32
_RUN = "run-"
_YOUNG = 60.0
"""Seconds in which a folder may not be locked yet, and a new program still be read."""
_PROGRAM = re.compile(r"[0-9a-f]{64}\.[^/]+\.pb")


class ProgramCache:
    """The programs of one compiler, as one process sees them. See `open`.

    compiler:  name of the compiler
    directory: the folder of this process, which TensorFlow reads and writes
    """

    def __init__(self, folder: Path, directory: Path, lock: int, key: bytes) -> None:
        self.compiler = folder.name
        self.directory = directory
        self._folder = folder
        self._lock = lock
        self._key = key
        self._process = os.getpid()
        self._shared = False
        self._known: set[str] = set()
        atexit.register(self.close)

    @classmethod
    def open(cls, compiler: str) -> ProgramCache | None:
        """The cache of a compiler; None where it is switched off, or nothing can be kept.

        Warns where a folder is not the user's own, or can be written to by others.

        Args:
            compiler: name of a folder; equal compilers give equal programs that run here.
        """
        root = user_folder()
        if root is None or fcntl is None:
            return None
        try:
            root = Path(os.path.realpath(root))
            folder = root / compiler
            if reason := _make(root) or _make(folder):
                warnings.warn(
                    f"compiled programs are not kept: {reason}. Try: {VARIABLE}=off, or the path "
                    "of a folder of your own",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return None
            if shutil.disk_usage(folder).free < _LEAST_FREE:
                return None
            _sweep(root)
            key = _key(root)
            directory = Path(tempfile.mkdtemp(prefix=_RUN, dir=folder))
            lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            return cls(folder, directory, lock, key)
        except OSError:  # a home that cannot be written to, or without locks
            return None

    def publish(self) -> None:
        """Hand the new programs of this process to others, and keep all within LIMIT."""
        # A fork ends before its parent.
        if not self._shared or os.getpid() != self._process:
            return
        with suppress(OSError):
            for path in sorted(self.directory.glob("*.pb")):
                if path.name in self._known:
                    continue
                self._known.add(path.name)
                if path.stat().st_size <= LIMIT // 4:
                    path.chmod(0o600)
                    digest = _digest(path, path.name, self._key)
                    _link(path, self._folder / f"{digest}.{path.name}")
            _bound(self._folder.parent)

    def bound(self) -> None:
        """Keep the folder of this process within LIMIT, however many programs it compiles."""
        if _bytes(self.directory.glob("*.pb")) <= LIMIT:
            return
        self.publish()
        for path in self.directory.glob("*.pb"):
            with suppress(OSError):
                if not _is_young(path):
                    path.unlink()

    @property
    def used(self) -> bool:
        """Whether the compiler has written here."""
        return any(self.directory.glob("*.pb"))

    def is_behind(self, error: Exception) -> bool:
        """Whether an error of TensorFlow's is of a file that this process could not write."""
        return str(self.directory) in str(error) and not any(
            name in str(error) for name in self._known
        )

    def share(self) -> None:
        """From now on read the programs of other processes, and hand on new ones.

        Programs that were compiled before this are dropped.
        """
        self.clear()
        with suppress(OSError):
            links = _links(self._folder, self.directory, self._key)
            self._known = {path.name for path in links}
        self._shared = True

    def clear(self) -> None:
        """Remove the programs that this process sees, which makes room on a full disk."""
        for path in self.directory.glob("*.pb"):
            path.unlink(missing_ok=True)
        self._known.clear()

    def drop(self, names: str) -> None:
        """Remove programs for all processes, and warn: they are damaged, though the digest holds.

        Args:
            names: of files, as a pattern.
        """
        warnings.warn(
            f"compiled programs in {self._folder} are damaged; they are removed, and compiled "
            "again",
            RuntimeWarning,
            stacklevel=2,
        )
        for path in (*self.directory.glob(names), *self._folder.glob(f"*.{names}")):
            self._known.discard(path.name)
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Publish, and remove the folder of this process."""
        if os.getpid() != self._process or self._lock < 0:
            return
        atexit.unregister(self.close)
        self.publish()
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1


def user_folder() -> Path | None:
    """The folder of the user's programs, whether it exists or not; None if it is switched off."""
    stated = os.environ.get(VARIABLE, "").strip()
    if stated.lower() in _OFF:
        return None
    try:
        if stated:
            return Path(stated).expanduser().absolute() / "keras2gp" / "programs"
        caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if caches.is_absolute():  # the specification says to ignore any other
            return caches / "keras2gp" / "programs"
        home = Path.home()
    except RuntimeError:  # no home
        return None
    own = Path("Library", "Caches") if sys.platform == "darwin" else Path(".cache")
    return home / own / "keras2gp" / "programs"


def _make(folder: Path) -> str:
    """Make a folder that only this user can write to; Returns why it is none, or "".

    Raises: OSError if it cannot be made.
    """
    folder = Path(os.path.realpath(folder))
    user = os.geteuid()
    place = folder if folder.exists() else next(p for p in folder.parents if p.exists())
    if place != folder and not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, "not writable", str(place))
    for path in (place, *place.parents):
        status = path.stat()
        if status.st_uid not in (user, 0):
            return f"{path} belongs to another user"
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            return f"{path} can be written to by others"
    if place.stat().st_uid != user and not place.stat().st_mode & stat.S_ISVTX:
        return f"{place} belongs to another user"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is no folder"
    if status.st_uid != user:
        return f"{folder} belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{folder} can be written to by others"
    return ""


def _key(root: Path) -> bytes:
    """The key of a user's folder, made where there is none.

    Raises: OSError if it cannot be read or made.
    """
    path = root / _KEY
    with suppress(FileNotFoundError):
        if _is_own_file(path) and len(key := path.read_bytes()) == _KEY_BYTES:
            return key
        path.unlink()
    draft = root / f"{_RUN}{os.urandom(8).hex()}"
    try:
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_bytes(os.urandom(_KEY_BYTES))
        _link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path.read_bytes()  # of another process, if that was the first


def _links(folder: Path, directory: Path, key: bytes) -> Iterator[Path]:
    """Link the whole programs of a folder into a directory, and remove all that is damaged."""
    for path in sorted(folder.iterdir()):
        if not _PROGRAM.fullmatch(path.name):
            continue
        digest, _, name = path.name.partition(".")
        link = directory / name
        with suppress(OSError):
            whole = _is_own_file(path) and _digest(path, name, key) == digest
            if whole and not link.exists():
                _link(path, link)
                yield link
            else:
                path.unlink(missing_ok=True)


def _is_own_file(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _digest(path: Path, name: str, key: bytes) -> str:
    """Of a program and its name: under the name of another it would compute something else."""
    keyed = hmac.new(key, digestmod="sha256")
    with path.open("rb") as stream:
        while part := stream.read(2**20):
            keyed.update(part)
    keyed.update(name.encode())
    return keyed.hexdigest()


def _link(path: Path, link: Path) -> None:
    """A second name of a file, or a copy on a file system without links; never half of one."""
    try:
        os.link(path, link)
    except FileExistsError:
        pass
    except OSError:
        copy = link.with_name(f"{_RUN}{os.urandom(8).hex()}")
        shutil.copy(path, copy)
        copy.replace(link)


def _sweep(root: Path) -> None:
    """Remove what processes left that were killed: folders that nobody holds."""
    for directory in root.glob(f"*/{_RUN}*"):
        with suppress(OSError):
            if _is_young(directory):
                continue
            if not directory.is_dir():
                directory.unlink()
                continue
            lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(lock)


def _is_young(path: Path) -> bool:
    """Whether a path is new; one of the future is not, of a clock that was wrong.

    Raises: OSError.
    """
    return abs(time.time() - path.stat().st_mtime) < _YOUNG


def _bound(root: Path) -> None:
    """Remove the oldest programs of all compilers, until the others are within LIMIT."""
    found = []
    for path in root.glob("*/*.pb"):
        with suppress(OSError):
            status = path.lstat()
            found.append((status.st_mtime, status.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > LIMIT:
            path.unlink(missing_ok=True)
    for folder in root.iterdir():
        with suppress(OSError):  # it holds something
            folder.rmdir()


def _bytes(paths: Iterator[Path]) -> int:
    total = 0
    for path in paths:
        with suppress(OSError):
            total += path.stat().st_size
    return total
