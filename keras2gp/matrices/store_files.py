"""Files of a store: each is written whole under another name, then renamed."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

__all__ = ["WholeFiles", "sweep", "temporary_name"]

_SUFFIX = ".partial"
_ATTEMPTS = 10
_ABANDONED = 3600.0


class WholeFiles(LocalStore):
    """Zarr's local store, with files on the disk before they have their names.

    A file is flushed to the disk before it is renamed: some file systems report a full or broken
    disk only then, and a chunk that counts must be one that can be read after a power failure.
    It costs milliseconds, in the thread of a block that took a second. The rename itself need not
    be on the disk: a chunk whose name is lost is computed again.
    """

    async def set(self, key: str, value: Buffer) -> None:
        """Write one file; readers and other writers see it whole or not at all."""
        self._check_writable()
        await asyncio.to_thread(_write_whole, self.root / key, value.as_buffer_like())


def _write_whole(path: Path, data: Any) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        partial = temporary_name(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("xb") as file:
                _write_through(file, data)
            partial.replace(path)
        except FileNotFoundError:  # another process that has just started swept the partial file
            if attempt == _ATTEMPTS:
                raise
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        else:
            return


def _write_through(file: Any, data: Any) -> None:
    """Write, and wait until the disk has it."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def temporary_name(path: Path) -> Path:
    """A name next to `path` that no other writer uses."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{_SUFFIX}")


def sweep(store: Path) -> None:
    """Remove what killed runs left: partial files in the store, half-made stores next to it.

    Another run may be at work on the same store: it writes a chunk again if its partial file is
    swept, but could not make a directory again, so that only old directories are removed.
    """
    for partial in store.rglob(f".*{_SUFFIX}"):
        partial.unlink(missing_ok=True)
    for partial in store.parent.glob(f".{store.name}.*{_SUFFIX}"):
        try:
            abandoned = time.time() - partial.stat().st_mtime > _ABANDONED
        except FileNotFoundError:
            continue
        if abandoned:
            shutil.rmtree(partial, ignore_errors=True)
