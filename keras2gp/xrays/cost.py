"""Time, memory and disk of an X-ray, stated before it starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.files import free_disk
from keras2gp._util.memory import available_memory
from keras2gp._util.text import duration_text, size_text
from keras2gp.errors import StoreError
from keras2gp.gp.noise import ROWS, noise_memory
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.api import estimate, speed_of
from keras2gp.xrays.scores import Task, scored

__all__ = ["Cost", "cost_of"]

_PILOT = 64
"""Rows of the kernel whose time is measured."""
_FITS = 300
"""Rows of the fit whose time is measured."""
_COMPILES = 1.5
"""Programs of the first run of a kernel, in those of its first block: statistics and tiles."""


@dataclass(frozen=True)
class Cost:
    """The cost of an X-ray.

    Attributes:
        kernels: kernels that are computed.
        pairs: entries of all of them.
        work: their time relative to that of the model's kernel, in all.
        memory: bytes at the peak.
        memory_available: bytes; None where the system does not say.
        disk: bytes of all stores; 0 without a directory.
        disk_available: bytes free there.
        seconds: measured on a few rows and scaled; None if not measured.
    """

    kernels: int
    pairs: int
    work: float
    memory: int
    memory_available: int | None
    disk: int
    disk_available: int | None
    seconds: float | None

    def require(self) -> None:
        """Refuse an X-ray that does not fit.

        Raises:
            StoreError: with the amounts that are needed and available.
        """
        for what, needed, there in (
            ("memory", self.memory, self.memory_available),
            ("disk", self.disk, self.disk_available),
        ):
            if there is not None and needed > there:
                raise StoreError(
                    f"an X-ray of {self.kernels} kernels needs {size_text(needed)} of {what}, and "
                    f"{size_text(there)} is available. Try: fewer rows, or fewer kinds of ablations"
                )

    def to_dict(self) -> dict[str, Any]:
        """The numbers as data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.kernels} kernels, {self.pairs:,} entries, {self.work:.1f} times the model's",
            f"memory: {size_text(self.memory)} of {size_text(self.memory_available)} available",
        ]
        if self.disk:
            lines.append(f"disk: {size_text(self.disk)} of {size_text(self.disk_available)} free")
        if self.seconds is not None:
            lines.append(f"time: about {duration_text(self.seconds)}, without what is there")
        return "\n".join(lines)


def cost_of(
    kernels: Sequence[tuple[Kernel, float]],
    x: Array,
    test: int,
    subsets: int,
    out: Path | None,
    *,
    measure: bool,
) -> Cost:
    """The cost of kernels, whose works are relative to the first.

    Args:
        kernels: with their works.
        x: the rows.
        test: number of test rows.
        subsets: fits of each kernel beside that of all rows.
        out: the directory.
        measure: whether the time is measured.
    """
    count = len(x)
    pairs = memory = disk = 0
    for kernel, _ in kernels:
        stores = [estimate(kernel, count, out=_place(out, "a"))]
        if test:
            stores.append(estimate(kernel, test, count, out=_place(out, "b")))
        pairs += sum(store.pairs for store in stores)
        disk += sum(store.disk for store in stores)
        memory = max(memory, *(store.memory for store in stores))
    work = sum(each for _, each in kernels)
    fits = noise_memory(count, 16) + 8 * 4 * count * (count + test)
    each = pairs / len(kernels)
    return Cost(
        kernels=len(kernels),
        pairs=pairs,
        work=work,
        memory=max(memory, fits),
        memory_available=available_memory(),
        disk=disk,
        disk_available=None if out is None else free_disk(out),
        seconds=_seconds(kernels, work * each, x, subsets) if measure else None,
    )


def _place(out: Path | None, name: str) -> Path | None:
    return None if out is None else out / "kernels" / name


def _seconds(
    kernels: Sequence[tuple[Kernel, float]], pairs: float, x: Array, subsets: int
) -> float:
    """The time of so many entries of the first kernel, of the programs, and of the fits."""
    compilation, rate = speed_of(kernels[0][0], x[:_PILOT])
    compiling = _COMPILES * compilation * len(kernels)
    size = min(len(x), _FITS)
    random = np.random.default_rng(0)
    points = random.normal(size=(size, size))
    labels = np.arange(size) % 10
    began = time.perf_counter()
    scored(points @ points.T / size + np.eye(size), Task(labels, None, regression=False))
    fit = time.perf_counter() - began
    larger = (min(len(x), ROWS) / size) ** 3 + 4.0 * max(len(x) / ROWS - 1.0, 0.0) ** 3
    return compiling + pairs / rate + fit * larger * (subsets + 1) * len(kernels)
