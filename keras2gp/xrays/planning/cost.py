"""Time, memory and disk of an X-ray, stated before it starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras2gp._util.memory import available_memory, free_disk, resident_memory
from keras2gp._util.text import duration_text, size_text
from keras2gp.errors import StoreError
from keras2gp.gp.noise.pilot import noise_memory
from keras2gp.matrices.api import estimate
from keras2gp.matrices.footprint import footprint_of
from keras2gp.xrays.measuring.scores import rounds_of
from keras2gp.xrays.planning.timing import Plan, TimingSample

__all__ = ["XRayCost", "cost_of"]

_ENTRY, _COPIES = 8, 4
"""Bytes of an entry of a fit, and copies of its matrix."""
_PROGRAM, _LOOPS = 24 * 2**20, 64 * 2**20
"""Bytes that a compiled kernel keeps, and its compiler: without loops over offsets, and with."""
_NODE = 2**19
"""Bytes of these for each node of its graph besides."""


@dataclass(frozen=True)
class XRayCost:
    """The cost of an X-ray.

    Attributes:
        kernels: kernels of the X-ray.
        there: those of them whose scores are in the directory already.
        pairs: entries of all of them.
        work: their time relative to that of the model's kernel, in all; layers that several
            variants share count once.
        memory: bytes at the peak, of what is left, beside those that the process holds.
        memory_available: bytes that the process can take besides; None where the system does not
            say.
        disk: bytes of the stores of what is left; 0 without a directory.
        disk_available: bytes free there.
        seconds: of what is left, signal flow included, measured on a few rows and scaled; None if
            not measured.
        minutes: what the X-ray is to be done in; None for any.
        notes: what is left out for that, a sentence each.
        parts: of these seconds those of each kernel, 0 for one that is there, and those of the
            signal flow; empty if not measured.
        held: bytes that the process holds already, TensorFlow and the variants among them; None
            where the system does not say.
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
    minutes: float | None = None
    notes: tuple[str, ...] = ()
    parts: tuple[float, ...] = ()
    held: int | None = None

    @property
    def peak(self) -> int:
        """Bytes of the process at the peak."""
        return self.memory + (self.held or 0)

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
        room = f"{size_text(self.memory_available)} available"
        if self.held is not None:
            room += f"; {size_text(self.peak)} in all of this process"
        lines = [
            f"{self.kernels} kernels, {self.pairs:,} entries, {self.work:.1f} times the model's",
            f"memory: {size_text(self.memory)} of {room}",
        ]
        if self.disk:
            lines.append(f"disk: {size_text(self.disk)} of {size_text(self.disk_available)} free")
        if self.there:
            lines.append(f"{self.there} of {self.kernels} kernels are there already")
        if self.seconds is not None:
            lines.append(f"time: about {duration_text(self.seconds)}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def cost_of(
    plan: Plan,
    out: Path | None,
    pilot: TimingSample | None,
    *,
    minutes: float | None = None,
    notes: tuple[str, ...] = (),
) -> XRayCost:
    """The cost of an X-ray.

    Args:
        plan: of it.
        out: the directory.
        pilot: measured times; None for none.
        minutes: see XRayCost.
        notes: see XRayCost.
    """
    count, test = plan.rows, plan.test
    pairs = memory = disk = 0
    programs = 0
    work, begun, stored = 0.0, set[str](), set[str]()
    for share, there in zip(plan.shares, plan.there, strict=True):
        rows = share.rows
        pairs += share.pairs(test)
        if share.key not in begun:
            begun.add(share.key)
            work += share.work * (rows / count) ** 2
        if there:
            continue
        if share.key in stored:
            continue
        stored.add(share.key)
        footprint = footprint_of(share.kernel.program.graph)
        programs += _NODE * footprint.nodes + (_LOOPS if footprint.mixes else _PROGRAM)
        stores = [estimate(share.kernel, rows, out=_place(out, "a"))]
        if test:
            stores.append(estimate(share.kernel, test, rows, out=_place(out, "b")))
        disk += sum(store.disk for store in stores)
        memory = max(memory, *(store.memory for store in stores))
    parts = () if pilot is None else pilot.parts(plan)
    fits = _of_fits(count, test, plan.subsets) if stored else 0
    return XRayCost(
        kernels=len(plan.shares),
        there=sum(plan.there),
        pairs=pairs,
        work=work,
        memory=memory + fits + programs,  # the next matrix is computed during the fits
        memory_available=available_memory(),
        disk=disk,
        disk_available=None if out is None else free_disk(out),
        seconds=None if pilot is None else sum(parts),
        minutes=minutes,
        notes=notes,
        parts=parts,
        held=resident_memory(),
    )


def _of_fits(rows: int, test: int, subsets: int) -> int:
    """Bytes of the matrices, and of the fit of all rows or those of halves, side by side."""

    def of_one(count: int) -> int:
        return noise_memory(count, 16) + _ENTRY * _COPIES * count * (count + test)

    half = -(-rows // 2)
    at_once = -(-2 * subsets // rounds_of(2 * subsets, half))
    return _ENTRY * rows * (rows + test) + max(of_one(rows), at_once * of_one(half))


def _place(out: Path | None, name: str) -> Path | None:
    return None if out is None else out / "kernels" / name
