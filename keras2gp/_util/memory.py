"""Memory: what a computation needs against what the machine has, before anything is allocated."""

from __future__ import annotations

import os
from pathlib import Path

from keras2gp.errors import InputError

__all__ = ["available_memory", "readable", "require_memory"]

_MEMINFO = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping; None where the system does not say."""
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def require_memory(needed: int, purpose: str, hint: str) -> None:
    """Refuse a computation that the machine's free memory cannot hold.

    needed: bytes

    Raises: InputError, with both figures, if fewer than `needed` bytes are available.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise InputError(
            f"{purpose} needs {readable(needed)} of memory and {readable(available)} is "
            f"available. Try: {hint}"
        )


def readable(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
