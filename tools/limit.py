"""Pairs per second of ResNet-32 by hand-written AVX-512, and the share that keras2gp reaches.

python tools/limit.py [--images N] [--rounds R] [--json]

limit.c is compiled by the system's compiler (CC, else cc) into a temporary folder; the package
never uses it. Both compute the same matrix, of N images beside N others, in turn and each on all
cores, which share caches and memory; their values are compared. A rate is per second of processor
time, which other work on the machine changes less than the wall time; the best of all rounds
counts.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking.networks import images, model

import keras2gp

SIDE, LANES, BLOCKS = 28, 16, 5
SOURCE = Path(__file__).with_name("limit.c")


class MissingError(Exception):
    """There is no compiler, or no AVX-512."""


def compiled() -> Any:
    """The functions of limit.c. Raises: MissingError."""
    compiler = os.environ.get("CC") or "cc"
    if shutil.which(compiler) is None:
        raise MissingError(f"there is no compiler {compiler!r}. Try: CC=gcc")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "limit.so")
        flags = "-O3", "-march=native", "-shared", "-fPIC"
        made = subprocess.run(
            [compiler, *flags, "-o", library, SOURCE], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise MissingError(f"{compiler} does not compile it: {made.stderr.strip()[-300:]}")
        return ctypes.CDLL(str(library))


def window_mean(k: Any, stride: int = 1) -> Any:
    """The mean of maps over 3x3 windows with padding "same", [N, H, W]."""
    before = 1 if stride == 1 else 0
    wide = np.pad(k, [(0, 0), (before, 2), (before, 2)])
    height, width = k.shape[1:]
    shifts = [
        wide[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)
    ]
    return sum(shifts) / 9


def roots(images: Any) -> Any:
    """Roots of the variances at all ReLUs, and their inverses, [N, positions, 2]."""
    x, found = window_mean(images.astype(np.float64) ** 2), []
    for stage in range(3):
        for block in range(BLOCKS):
            stride = 2 if block == 0 and stage > 0 else 1
            found.append(x)
            y = window_mean(x / 2, stride)
            found.append(y)
            skipped = x[:, ::stride, ::stride] / 2 if block == 0 else x
            x = skipped + window_mean(y / 2)
    found.append(x)
    root = np.sqrt(np.concatenate([q.reshape(len(q), -1) for q in found], 1))
    inverse = np.divide(1, root, out=np.zeros_like(root), where=root > 0)
    return np.stack([root, inverse], 2).astype(np.float32)


class Loop:
    """The hand-written loop for images beside others, [N, 28, 28] each."""

    def __init__(self, library: Any, first: Any, second: Any) -> None:
        self._kernels = library.kernels
        self._first = _aligned(first), _aligned(roots(first))
        if self._first[1].shape[1] != library.positions():
            raise AssertionError("limit.c has other positions")
        sides = second, roots(second)
        self._second = [
            tuple(_aligned(np.moveaxis(a[j : j + LANES], 0, -1)) for a in sides)
            for j in range(0, len(second), LANES)
        ]

    def matrix(self) -> Any:
        """[N, N], by a thread for each core."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.concatenate(list(pool.map(self._columns, self._second)), 1)

    def _columns(self, second: Any) -> Any:
        """[N, LANES]"""
        count = len(self._first[0])
        out = _aligned(np.empty((count, LANES), np.float32))
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (*self._first, *second, out)]
        self._kernels(*pointers, ctypes.c_long(count))
        return out


def _aligned(values: Any) -> Any:
    """A copy that starts at a multiple of 64 bytes."""
    memory = np.empty(values.size + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    copy = memory[start : start + values.size].reshape(values.shape)
    copy[...] = values
    return copy


def rate(matrix: Callable[[], Any]) -> float:
    """Pairs per second of processor time."""
    began = time.process_time()
    size: int = matrix().size
    return size / (time.process_time() - began)


def measured(count: int, rounds: int) -> dict[str, float]:
    """Pairs per second of a core of either, and the largest relative difference of their values."""
    x = images(2 * count)
    first, second = x[:count], x[count:]
    loop = Loop(compiled(), first[..., 0], second[..., 0])
    kernel = keras2gp.convert(model("resnet32"))
    # These calls compile.
    difference = np.abs(loop.matrix() / kernel.matrix(first, second) - 1).max()
    pairs = [(rate(loop.matrix), rate(lambda: kernel.matrix(first, second))) for _ in range(rounds)]
    limit, reached = (max(column) for column in zip(*pairs, strict=True))
    return {
        "limit": limit,
        "keras2gp": reached,
        "share": reached / limit,
        "difference": float(difference),
    }


def main(argv: list[str] | None = None) -> int:
    """Print both rates."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--images", type=int, default=1024, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="R")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.images % LANES:
        parser.error(f"--images {options.images}: expected a multiple of {LANES}")
    try:
        found = measured(options.images, options.rounds)
    except MissingError as missing:
        print(f"limit.py: {missing}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"by hand:  {found['limit']:10,.0f} pairs/s of a core")
    print(f"keras2gp: {found['keras2gp']:10,.0f} pairs/s of a core, {found['share']:.2f} of it")
    print(f"largest relative difference of values: {found['difference']:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
