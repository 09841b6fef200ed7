"""Time, memory and disk of an X-ray, stated before it starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.files import free_disk
from keras2gp._util.memory import available_memory
from keras2gp._util.text import duration_text, size_text
from keras2gp.errors import StoreError
from keras2gp.gp.noise_pilot import ROWS, noise_memory
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.api import estimate
from keras2gp.matrices.speed import speed_of, tried_images
from keras2gp.xrays.arguments import Inputs, taken
from keras2gp.xrays.flow import seconds_of
from keras2gp.xrays.scores import Task, rounds_of, scored
from keras2gp.xrays.sharing import Share
from keras2gp.xrays.signals import PAIRS

__all__ = ["Cost", "Plan", "cost_of"]

_PILOT = 64
"""Rows of the kernel whose time is measured, at most."""
_FEWEST = 20
"""Rows of the smallest fit whose time is measured."""
_FITS = 3
"""Fits whose mean time is taken, after a first one: a single one may take many times as long."""
_OF_TEST = 0.3
"""Compilation of the kernel of test rows and rows, in that of the rows': statistics are shared."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The work of an X-ray.

    Attributes:
        base: the kernel of the model as it is.
        shares: how the matrix of every variant is computed.
        there: for each of them whether its scores are there already.
        x: the rows.
        rows, test: numbers of rows and of test rows.
        subsets: fits of each kernel beside that of all rows.
        signal_rows: rows that show how signal flows; 0 for none, or if that is there already.
    """

    base: Kernel
    shares: Sequence[Share]
    there: Sequence[bool]
    x: Inputs
    rows: int
    test: int
    subsets: int
    signal_rows: int


@dataclass(frozen=True)
class Cost:
    """The cost of an X-ray.

    Attributes:
        kernels: kernels of the X-ray.
        there: those of them whose scores are in the directory already.
        pairs: entries of all of them.
        work: their time relative to that of the model's kernel, in all; layers that several
            variants share count once.
        memory: bytes at the peak, of what is left.
        memory_available: bytes; None where the system does not say.
        disk: bytes of the stores of what is left; 0 without a directory.
        disk_available: bytes free there.
        seconds: of what is left, signal flow included, measured on a few rows and scaled; None if
            not measured.
        parts: of these seconds those of each kernel, 0 for one that is there, and those of the
            signal flow; empty if not measured.
    """

    kernels: int
    there: int
    pairs: int
    work: float
    memory: int
    memory_available: int | None
    disk: int
    disk_available: int | None
    seconds: float | None
    parts: tuple[float, ...] = ()

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

    def progress(self, done: int) -> tuple[int, int]:
        """Milliseconds that so many kernels take, and those of all of the work."""
        return round(1000 * sum(self.parts[:done])), round(1000 * sum(self.parts))

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
        if self.there:
            lines.append(f"{self.there} of {self.kernels} kernels are there already")
        if self.seconds is not None:
            lines.append(f"time: about {duration_text(self.seconds)}")
        return "\n".join(lines)


def cost_of(plan: Plan, out: Path | None, *, measure: bool) -> Cost:
    """The cost of an X-ray.

    Args:
        plan: of it.
        out: the directory.
        measure: whether the time is measured.
    """
    count, test = plan.rows, plan.test
    pairs = memory = disk = 0
    work = 0.0
    for share, there in zip(plan.shares, plan.there, strict=True):
        rows = share.rows
        pairs += share.pairs(test)
        work += share.work * (rows / count) ** 2
        if there or share.place:  # the first variant of a program has its store
            continue
        stores = [estimate(share.kernel, rows, out=_place(out, "a"))]
        if test:
            stores.append(estimate(share.kernel, test, rows, out=_place(out, "b")))
        disk += sum(store.disk for store in stores)
        memory = max(memory, *(store.memory for store in stores))
    parts = _parts(plan) if measure else ()
    fits = noise_memory(count, 16) + 8 * 4 * count * (count + test)
    return Cost(
        kernels=len(plan.shares),
        there=sum(plan.there),
        pairs=pairs,
        work=work,
        memory=max(memory, fits),
        memory_available=available_memory(),
        disk=disk,
        disk_available=None if out is None else free_disk(out),
        seconds=sum(parts) if measure else None,
        parts=parts,
    )


def _place(out: Path | None, name: str) -> Path | None:
    return None if out is None else out / "kernels" / name


def _parts(plan: Plan) -> tuple[float, ...]:
    """The time of each variant, and of the signal flow."""
    parts, count = [0.0] * len(plan.shares), plan.signal_rows
    if not all(plan.there):
        few = taken(plan.x, slice(0, tried_images(plan.base, _PILOT)))
        speed = speed_of(plan.base, few, whole=plan.rows)
        compiling = speed.compilation * (1.0 + _OF_TEST * (plan.test > 0))
        fits = {rows: _fit_seconds(rows) for rows in {share.rows for share in plan.shares}}
        for number, share in enumerate(plan.shares):
            if plan.there[number]:
                continue
            rows = share.rows
            # The model is fitted to fewer rows too.
            parts[number] = (1 + rounds_of(plan.subsets, rows)) * fits[rows]
            parts[number] *= 2 if rows < plan.rows else 1
            if not share.place:
                nodes = len(share.kernel.graph.nodes) / len(plan.base.graph.nodes)
                matrices = share.work * share.pairs(plan.test) / speed.rate
                parts[number] += compiling * nodes + matrices
    flow = 0.0
    if count:
        flow, layers = seconds_of(plan.base, taken(plan.x, slice(0, count)), count + PAIRS)
        flow += layers * _fit_seconds(count)
    return (*parts, flow)


def _fit_seconds(rows: int) -> float:
    """The time of a fit, measured on as many rows as one tridiagonalisation has at most.

    Fewer would not do: overheads that do not grow would be scaled too.
    """
    size = min(max(rows, _FEWEST), ROWS)
    points = np.random.default_rng(0).normal(size=(size, size))
    labels = np.arange(size) % 10
    matrix, task = points @ points.T / size + np.eye(size), Task(labels, None, regression=False)
    scored(matrix, task)
    began = time.perf_counter()
    for _ in range(_FITS):
        scored(matrix, task)
    fit = (time.perf_counter() - began) / _FITS
    return fit * (1.0 + 4.0 * max(rows / ROWS - 1.0, 0.0) ** 3)
