"""Files of a store: each is written whole under another name, then renamed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from keras2gp._util.files import write_file

__all__ = ["WholeFiles"]


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
        await asyncio.to_thread(_write, self.root / key, value.as_buffer_like())


def _write(path: Path, data: bytes | bytearray | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data)
