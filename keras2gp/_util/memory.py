"""Memory and disk: compares what a computation needs with what it can get, beforehand."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

try:
    import resource
except ImportError:  # not POSIX: there is nothing that says it
    resource = None  # type: ignore[assignment]

from keras2gp._util.text import size_text
from keras2gp.errors import InputError, Keras2GPError, StoreError

__all__ = [
    "NEGLIGIBLE",
    "available_memory",
    "free_disk",
    "peak_memory",
    "require_disk",
    "require_memory",
    "resident_memory",
]

NEGLIGIBLE = 2**24
"""Bytes that are taken without a comparison. A comparison reads files for a quarter of 1 ms, and a
whole fit of 50 rows takes 1 ms."""

_PROC = "/proc"
_GROUPS = "/sys/fs/cgroup"
_NO_LIMIT = 2**60
_GROUP_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By version of control groups: limit, use, and the entry of memory.stat that is reclaimable."""


def available_memory() -> int | None:
    """Bytes that this process can allocate without swapping; None where the system does not say.

    The smallest of three amounts: the machine's free memory, what the limits of the control
    groups (containers) leave, and what the limits of the process (ulimit -v, -d) leave.
    """
    amounts = [*_of_machine(), *_of_groups(), *_of_process()]
    return max(min(amounts), 0) if amounts else None


def peak_memory() -> int | None:
    """The largest resident memory of this process so far, in bytes; None if it is not known."""
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_memory() -> int | None:
    """The resident memory of this process at present, in bytes; None if it is not known."""
    try:
        return _entry(f"{_PROC}/self/status", "VmRSS:") * 1024
    except (OSError, ValueError):
        return None


def require_memory(
    needed: int, purpose: str, hint: str, error: type[Keras2GPError] = InputError
) -> None:
    """Refuse a computation that the available memory cannot hold.

    Args:
        needed: bytes; up to NEGLIGIBLE they are not compared.
        purpose: what needs them, the subject of the message's first sentence.
        hint: what to try instead.
        error: class of the error.

    Raises:
        Keras2GPError: of the class `error`, with both figures, if less is available.
    """
    if needed <= NEGLIGIBLE:
        return
    available = available_memory()
    if available is not None and needed > available:
        raise error(
            f"{purpose} needs {size_text(needed)} of memory and {size_text(available)} is "
            f"available. Try: {hint}"
        )


def _of_machine() -> Iterator[int]:
    """Memory that the machine can give without swapping."""
    try:
        yield _entry(f"{_PROC}/meminfo", "MemAvailable:") * 1024
    except (OSError, ValueError):
        try:
            yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return


def _of_groups() -> Iterator[int]:
    """Memory left by the limit of each control group above this process."""
    try:
        lines = _text(f"{_PROC}/self/cgroup").splitlines()
    except (OSError, ValueError):
        lines = []
    places = {(2, _GROUPS), (1, f"{_GROUPS}/memory")}
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        version, root = (1, f"{_GROUPS}/memory") if controllers else (2, _GROUPS)
        names = [name for name in path.split("/") if name]
        if ".." not in names:  # a group outside of the container's view
            counts = range(len(names) + 1)
            places |= {(version, "/".join((root, *names[:count]))) for count in counts}
    for version, directory in places:
        limit, use, reclaimable = _GROUP_FILES[version]
        try:
            most = int(_text(f"{directory}/{limit}"))
            if most < _NO_LIMIT:
                yield (
                    most
                    - int(_text(f"{directory}/{use}"))
                    + _entry(f"{directory}/memory.stat", reclaimable)
                )
        except (OSError, ValueError):  # no such group, or no limit: "max"
            continue


def _of_process() -> Iterator[int]:
    """Address space and data that the limits of the process leave."""
    if resource is None:
        return
    for limit, entry in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            try:
                yield soft - _entry(f"{_PROC}/self/status", entry) * 1024
            except (OSError, ValueError):
                yield soft


def _entry(path: str, name: str) -> int:
    """The number after a name in a file of names and numbers. Raises: ValueError without it."""
    _, present, rest = f"\n{_text(path)}".partition(f"\n{name}")
    if not present:
        raise ValueError(f"{path} has no entry {name}")
    return int(rest.split(maxsplit=1)[0])


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (ten a call: speed)
        return file.read()


def require_disk(path: Path, needed: int, purpose: str, hint: str = "another disk") -> None:
    """Refuse a computation whose result the disk of `path` cannot hold.

    Args:
        path: where the result will be written; it need not exist yet.
        needed: bytes.
        purpose: what needs them, the subject of the message's first sentence.
        hint: what to try instead.

    Raises:
        StoreError: with both figures, if less is free.
    """
    free = free_disk(path)
    if free is not None and needed > free:
        raise StoreError(
            f"{purpose} needs {size_text(needed)} on the disk of {path}, and {size_text(free)} is "
            f"free. Try: {hint}"
        )


def free_disk(path: Path) -> int | None:
    """Bytes free where `path` is or will be; None where the system does not say."""
    path = path.absolute()
    try:
        return shutil.disk_usage(next(p for p in (path, *path.parents) if p.is_dir())).free
    except (OSError, StopIteration):
        return None
