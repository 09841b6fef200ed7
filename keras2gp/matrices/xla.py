"""XLA in this process: its options, and the programs that it keeps for other processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

import tensorflow as tf

from keras2gp._util.cpu import cpu_facts
from keras2gp._util.program_cache import VARIABLE, ProgramCache
from keras2gp._util.text import quoted_text
from keras2gp._util.xla_cache import XLA_FLAGS, programs
from keras2gp.errors import StoreError

__all__ = ["Xla", "set_up_xla", "unwritten"]

_OPTION = "--xla_cpu_prefer_vector_width"
_TRIED = ("2.21.",)
"""Releases of TensorFlow that know the option: XLA ends the process over one that it does not."""
_SIGN = "avx512_vnni"
"""The sign of CPUs that keep their clock in 512-bit instructions: Cascade Lake, Zen 4 and later."""


@dataclass(frozen=True)
class Xla:
    """How XLA compiles in this process.

    wide: whether 512-bit vectors were requested
    kept: the programs that processes share, None if they share none
    """

    wide: bool
    kept: ProgramCache | None


@cache
def set_up_xla() -> Xla:
    """Ask XLA for 512-bit vectors where the CPU has them, and share what it compiles.

    Loops over pairs are 5 to 35% faster with them. XLA reads its options from the environment,
    once, when a process first compiles; the variable is as it was when this returns, since children
    of this process may have another XLA. An option that the user has set is left alone.

    Raises:
        StoreError: the first program cannot be written.
    """
    before = os.environ.get(XLA_FLAGS)
    tried = tf.version.VERSION.startswith(_TRIED)
    wide = tried and _OPTION not in (before or "") and _SIGN in cpu_facts().get("flags", "").split()
    kept = programs()
    early = kept is not None and kept.used  # what was compiled then has not these options
    if wide or kept is not None:
        if wide:
            os.environ[XLA_FLAGS] = f"{before or ''} {_OPTION}=512".strip()
        try:
            tf.function(tf.identity, jit_compile=True, autograph=False)(tf.zeros([]))
        except tf.errors.OpError as error:
            if kept is None or not kept.is_behind(error):
                raise
            raise unwritten(error) from error
        finally:
            if before is not None:
                os.environ[XLA_FLAGS] = before
            else:
                os.environ.pop(XLA_FLAGS, None)
    if kept is not None and not kept.used:
        kept.close()  # TensorFlow had read its options before keras2gp was imported
    if kept is None or early or not kept.used:
        return Xla(wide, None)
    kept.share()
    return Xla(wide, kept)


def unwritten(error: Exception) -> StoreError:
    """The error for one by which TensorFlow gives up a computation over a program's file."""
    return StoreError(
        f"TensorFlow cannot write a compiled program: {quoted_text(error)}. Try: {VARIABLE}=off, "
        "or a disk with more room"
    )
