"""The data of a fit: one name for all paths of a source, and the digest of its rows."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

__all__ = ["data_digest", "expanded", "identity", "real_path"]


def identity(source: str) -> str:
    """One name for all paths of a data source: the resolved path; other sources as they are."""
    if source == "sample" or source.startswith("tfds:"):
        return source
    return str(real_path(expanded(source)))


def expanded(text: str) -> Path:
    """A path as a shell would read it; Path.expanduser() raises where there is no such user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


def real_path(path: Path) -> Path:
    """A path without links; Path.resolve() raises where links go in a circle."""
    return Path(os.path.realpath(path))


def data_digest(*arrays: Any) -> str:
    """SHA-256 of arrays: types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
