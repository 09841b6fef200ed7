"""Directories that are written as a whole: under another name, and then in their place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["staged_directory"]


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """A new directory that becomes `target` when the block ends well, and vanishes otherwise.

    What `target` held is there until then, and gone after.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}-"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as temporary:
        staged, old = Path(temporary) / "new", Path(temporary) / "old"
        staged.mkdir()
        yield staged
        if target.exists():
            target.rename(old)
        try:
            staged.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
