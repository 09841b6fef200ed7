"""The facts of the processor, as Linux states them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["cpu_facts"]

_FILE = Path("/proc/cpuinfo")


def cpu_facts() -> dict[str, str]:
    """The facts of the last processor by name, such as its "flags"; none on another system."""
    try:
        lines = _FILE.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {key.strip(): value for key, _, value in (line.partition(":") for line in lines)}
