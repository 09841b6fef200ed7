"""Late starts: names that are imported when used, and TensorFlow without its messages."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from typing import Any

from keras2gp._util.progress import stage

__all__ = ["import_tensorflow", "importer", "silent_stderr", "start_tensorflow"]

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def start_tensorflow() -> None:
    """Import TensorFlow and Keras quietly, with a bar on a terminal if it takes long."""
    imported = "tensorflow" in sys.modules and "keras" in sys.modules
    with nullcontext() if imported else stage("starting TensorFlow"):
        import_tensorflow()


def import_tensorflow() -> None:
    """Import TensorFlow and Keras; only a failure of theirs is shown.

    Their messages are shown where TF_CPP_MIN_LOG_LEVEL is set to 0, 1 or 2.
    """
    os.environ.setdefault(_LEVEL, "3")
    # keras2gp speaks TensorFlow, whatever Keras's own settings say.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    silent = os.environ[_LEVEL] not in ("0", "1", "2")
    if "tensorflow" not in sys.modules or "keras" not in sys.modules:
        with silent_stderr() if silent else nullcontext():
            import_module("tensorflow")
            import_module("keras")
    if silent:
        for name in ("tensorflow", "absl"):
            logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Keep all output to descriptor 2, C++'s too, and show it only if the block fails."""
    saved = os.dup(2)
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        text = b""
        try:
            yield
        except Exception:
            sys.stderr.flush()
            kept.seek(0)
            text = kept.read()
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            with suppress(OSError):  # a full device is no reason to fail
                sys.stderr.write(text.decode(errors="replace"))


def importer(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    package: its name
    homes:   the module within the package that each name stands in
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return get
