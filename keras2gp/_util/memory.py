"""Memory: compares what a computation needs with what this process can get, beforehand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from keras2gp._util.text import size_text
from keras2gp.errors import InputError, Keras2GPError

__all__ = ["available_memory", "require_memory"]

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
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


def require_memory(
    needed: int, purpose: str, hint: str, error: type[Keras2GPError] = InputError
) -> None:
    """Refuse a computation that the available memory cannot hold.

    Args:
        needed: bytes.
        purpose: what needs them, the subject of the message's first sentence.
        hint: what to try instead.
        error: class of the error.

    Raises:
        Keras2GPError: of the class `error`, with both figures, if less is available.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise error(
            f"{purpose} needs {size_text(needed)} of memory and {size_text(available)} is "
            f"available. Try: {hint}"
        )


def _of_machine() -> Iterator[int]:
    """Memory that the machine can give without swapping."""
    try:
        yield _entry(_PROC / "meminfo", "MemAvailable:") * 1024
    except (OSError, ValueError):
        try:
            yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return


def _of_groups() -> Iterator[int]:
    """Memory left by the limit of each control group above this process."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    places = {(2, _GROUPS), (1, _GROUPS / "memory")}
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        version, root = (2, _GROUPS) if not controllers else (1, _GROUPS / "memory")
        group = PurePosixPath(path.lstrip("/"))
        if controllers and "memory" not in controllers.split(","):
            continue
        if ".." not in group.parts:  # a group outside of the container's view
            places |= {(version, root / part) for part in (group, *group.parents)}
    for version, directory in places:
        limit, use, reclaimable = _GROUP_FILES[version]
        try:
            free = int((directory / limit).read_text()) - int((directory / use).read_text())
            yield free + _entry(directory / "memory.stat", reclaimable)
        except (OSError, ValueError):  # no such group, or no limit: "max"
            continue


def _of_process() -> Iterator[int]:
    """Address space and data that the limits of the process leave."""
    try:
        import resource  # noqa: PLC0415 (not on every system)
    except ImportError:
        return
    for limit, entry in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            try:
                yield soft - _entry(_PROC / "self" / "status", entry) * 1024
            except (OSError, ValueError):
                yield soft


def _entry(path: Path, name: str) -> int:
    """The number after a name in a file of names and numbers. Raises: ValueError without it."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name:
            return int(words[1])
    raise ValueError(f"{path} has no entry {name}")
