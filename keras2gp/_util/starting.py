"""Late starts: names that are imported when used, and TensorFlow without its messages."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from importlib import import_module
from typing import Any

from keras2gp._util.progress import stage

__all__ = [
    "import_tensorflow",
    "importer",
    "quiet_from_now",
    "silent_stderr",
    "start_tensorflow",
]

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
    # keras2gp speaks TensorFlow, whatever Keras's own settings say.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" not in sys.modules or "keras" not in sys.modules:
        with quiet_from_now():
            import_module("tensorflow")
            import_module("keras")
    if _hidden():
        for name in ("tensorflow", "absl"):
            logging.getLogger(name).setLevel(logging.ERROR)


def _hidden() -> bool:
    return os.environ.get(_LEVEL) not in ("0", "1", "2")


def quiet_from_now() -> AbstractContextManager[None]:
    """`silent_stderr` for the import of TensorFlow, whose later messages are hidden too.

    TensorFlow reads the variable when it is imported. Nothing is hidden that the user asked for.
    """
    os.environ.setdefault(_LEVEL, "3")
    return silent_stderr() if _hidden() else nullcontext()


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Keep all output to descriptor 2, C++'s too, and show it only if the block fails."""
    with ExitStack() as opened:
        try:
            saved = os.dup(2)
            opened.callback(os.close, saved)
            kept = opened.enter_context(tempfile.TemporaryFile())
        except OSError:  # a process without stderr, or no place to keep its text
            yield
            return
        _flush()
        os.dup2(kept.fileno(), 2)
        text = b""
        try:
            yield
        except Exception:
            _flush()
            kept.seek(0)
            text = kept.read()
            raise
        finally:
            os.dup2(saved, 2)
            with suppress(OSError):  # a full device is no reason to fail
                if text and sys.stderr is not None:
                    sys.stderr.write(text.decode(errors="replace"))


def _flush() -> None:
    with suppress(AttributeError, ValueError):  # None, or closed
        sys.stderr.flush()


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
