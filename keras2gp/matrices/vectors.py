"""The width of the CPU's vector registers, which XLA does not use in full on its own."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import tensorflow as tf

__all__ = ["use_wide_vectors"]

_VARIABLE = "XLA_FLAGS"
_OPTION = "--xla_cpu_prefer_vector_width"
_TRIED = ("2.21.",)
"""Releases of TensorFlow that know the option: XLA ends the process over one that it does not."""
_SIGN = "avx512_bf16"
"""Of CPUs that run 512-bit instructions without lowering their clock; earlier ones gain nothing."""
_CPU = Path("/proc/cpuinfo")


@cache
def use_wide_vectors() -> bool:
    """Let XLA compile for 512-bit vectors where the CPU has them; whether that was asked for.

    Loops over pairs are then 15 to 35% faster. XLA reads its options from the environment, once,
    when a process first compiles; the variable is as it was when this returns, since children of
    this process may have another XLA. An option that the user has set is left alone.
    """
    before = os.environ.get(_VARIABLE)
    known = tf.version.VERSION.startswith(_TRIED)
    if not known or _OPTION in (before or "") or not _has(_SIGN):
        return False
    os.environ[_VARIABLE] = f"{before or ''} {_OPTION}=512".strip()
    try:
        tf.function(tf.identity, jit_compile=True, autograph=False)(tf.zeros([]))
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
    return True


def _has(feature: str) -> bool:
    try:
        return feature in _CPU.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
