"""Tells TensorFlow, before it reads its options, where this process finds compiled programs.

TensorFlow reads the options of TF_XLA_FLAGS once, when it first lists devices or runs an operation.
So they are set as soon as it is imported, whoever imports it, and the variable is as it was then:
children of this process may have another TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from keras2gp._util.cpu import cpu_facts
from keras2gp._util.program_cache import ProgramCache
from keras2gp._util.starting import quiet_from_now

__all__ = ["XLA_FLAGS", "keep_programs", "programs"]

XLA_FLAGS = "XLA_FLAGS"
_FLAGS = "TF_XLA_FLAGS"
_DIRECTORY = "--tf_xla_persistent_cache_directory"
_DEVICES = "--tf_xla_persistent_cache_device_types=CPU"
_MARKS = "\"' \t\n"
"""Characters that end a value in TF_XLA_FLAGS."""

_opened: ProgramCache | None = None


def keep_programs() -> None:
    """Have TensorFlow keep compiled programs from its import on, or at once if it is imported.

    Then it is too late if TensorFlow has listed devices or run an operation: nothing is kept.
    """
    if "tensorflow" in sys.modules:
        _connect(sys.modules["tensorflow"])
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def programs() -> ProgramCache | None:
    """The cache that TensorFlow was told of; None if there is none.

    Until XLA has compiled the user may still change its options: then the cache is of others.
    """
    changed = _opened is not None and _opened.compiler != _compiler(sys.modules["tensorflow"])
    return None if changed else _opened


class _AfterImport:
    """A finder that finds nothing, and runs `_connect` when TensorFlow is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        loader: Any = None if spec is None else spec.loader
        if hasattr(loader, "exec_module"):
            loader.exec_module = partial(_executed, loader.exec_module)
        return spec


def _executed(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    with quiet_from_now():
        execute(module)
    _connect(module)


def _connect(tensorflow: ModuleType) -> None:
    """Open the cache of this TensorFlow, and make it read the options."""
    global _opened  # noqa: PLW0603 (one TensorFlow in a process)
    before = os.environ.get(_FLAGS)
    if _opened is not None or _DIRECTORY in (before or "") or not hasattr(tensorflow, "version"):
        return
    cache = ProgramCache.open(_compiler(tensorflow))
    if cache is None:
        return
    if any(mark in str(cache.directory) for mark in _MARKS):
        cache.close()
        return
    _opened = cache
    os.environ[_FLAGS] = f"{before or ''} {_DIRECTORY}={cache.directory} {_DEVICES}".strip()
    with suppress(ImportError, AttributeError):  # in another release the variable stays
        session: Any = import_module("tensorflow.python.client.pywrap_tf_session")
        session.TF_GetXlaConstantFoldingDisabled()  # reads all of TF_XLA_FLAGS
        if before is None:
            del os.environ[_FLAGS]
        else:
            os.environ[_FLAGS] = before


def _compiler(tensorflow: Any) -> str:
    """A name for all that a program depends on beside its source: builds, options and the CPU."""
    version = tensorflow.version
    parts = [
        *(version.VERSION, version.GIT_VERSION, version.COMPILER_VERSION),
        *(os.environ.get(_FLAGS, ""), os.environ.get(XLA_FLAGS, "")),
        *_cpu(),
    ]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"tensorflow-{version.VERSION}-{digest[:16]}"


def _cpu() -> list[str]:
    """Instructions and model of the CPU; of another system its host, whose CPU stays."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if facts := cpu_facts():
        names = ("vendor_id", "model name", "flags", "Features", "CPU part")
        return [f"{count}", *(facts.get(name, "") for name in names)]
    return [f"{count}", platform.node(), platform.machine(), platform.processor()]
