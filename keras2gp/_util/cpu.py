"""The processor as Linux states it, and OpenBLAS kernels for one that OpenBLAS does not know."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

__all__ = ["cpu_facts", "use_avx512"]

_FILE = Path("/proc/cpuinfo")


def cpu_facts() -> dict[str, str]:
    """The facts of the last processor by name, such as its "flags"; none on another system."""
    try:
        lines = _FILE.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {key.strip(): value for key, _, value in (line.partition(":") for line in lines)}


_SETTING = "OPENBLAS_CORETYPE"
# What OpenBLAS's kernels for AVX-512 take for granted, and the architectures that use them.
_FLAGS = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}
_WITH_AVX512 = {"skylakex", "cooperlake", "sapphirerapids"}
_NAMED_BY = (
    "scipy_openblas_get_corename64_",
    "scipy_openblas_get_corename",
    "openblas_get_corename64_",
    "openblas_get_corename",
)


def use_avx512() -> bool:
    """Have OpenBLAS take its AVX-512 kernels, if the processor has them and it would not.

    OpenBLAS chooses by the model of the processor when it is loaded, and takes AVX2 for a model
    that is newer than itself. A setting OPENBLAS_CORETYPE of the user is kept. Nothing is done once
    numpy is loaded, nor without Linux and a numpy that brings its OpenBLAS.

    Returns:
        Whether OPENBLAS_CORETYPE was set, for this process and its children.
    """
    if _SETTING in os.environ or "numpy" in sys.modules or not _has_avx512():
        return False
    architecture = _architecture()
    if not architecture or architecture.lower() in _WITH_AVX512:
        return False
    os.environ[_SETTING] = "SkylakeX"
    return True


def _has_avx512() -> bool:
    """Whether the processor has the instructions that OpenBLAS's kernels need."""
    return _FLAGS.issubset(cpu_facts().get("flags", "").split())


def _architecture() -> str:
    """The architecture that OpenBLAS takes for this processor, asked in a child; "" if unknown.

    In this process the library would be loaded, and the choice made.
    """
    found = find_spec("numpy")
    if found is None or found.origin is None or threading.active_count() > 1:
        return ""
    folder = Path(found.origin).parent.parent / "numpy.libs"
    libraries = sorted(folder.glob("*openblas*"))
    if not libraries:
        return ""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            os.write(writing, _asked(libraries[0]))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:  # noqa: PTH123 (a descriptor)
        text = answer.read()
    os.waitpid(child, 0)
    return text.decode(errors="replace")


def _asked(library: Path) -> bytes:
    openblas = ctypes.CDLL(str(library))
    for name in _NAMED_BY:
        with suppress(AttributeError):
            ask = getattr(openblas, name)
            ask.restype = ctypes.c_char_p
            answer: bytes = ask()
            return answer
    return b""
