"""An X-ray within so many minutes: what of the work is chosen, and the clock while it is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from keras2gp._util.text import duration_text
from keras2gp.errors import InputError
from keras2gp.xrays.directory import Directory
from keras2gp.xrays.timing import Pilot, Plan, by_information, fitting
from keras2gp.xrays.variants import Variant

__all__ = ["Choice", "Clock", "chosen_within"]

_ENOUGH = 3
"""Variants that are worth fewer rows, where they do not fit on all."""
_FEWER = 0.7
"""Factor from one number of rows to the next that is tried."""
_SPENT = "spent.json"


@dataclass(frozen=True, eq=False)
class Choice:
    """The part of the work that is done.

    Attributes:
        variants: those whose kernels are computed, in order; the model as it is first.
        signals: whether the signal flow is computed.
        rows: of the model as it is.
        reasons: why others are not computed, by name.
        notes: what is left out, a sentence each.
        parts: seconds of the variants and of the signal flow, as if nothing were there; empty
            without a limit.
    """

    variants: list[Variant]
    signals: bool
    rows: int
    reasons: dict[str, str]
    notes: tuple[str, ...] = ()
    parts: tuple[float, ...] = ()


def chosen_within(
    minutes: float,
    variants: Sequence[Variant],
    rows: int,
    fewest: int,
    planned: Callable[[int], tuple[Plan, Pilot]],
) -> Choice:
    """The part of the work that fits into so many minutes; what is there is not left out.

    Args:
        minutes: for all of it, as if nothing were there.
        variants: those that have kernels, the model as it is first.
        rows: number of all rows.
        fewest: rows that variants are compared on at least.
        planned: the work on so many rows, and measured times.

    Raises:
        InputError: not even the model as it is fits.
    """
    plan, pilot = planned(rows)
    whole = pilot.before + sum(pilot.parts(plan, left=False))
    best = None
    count = rows
    while True:
        order = by_information(variants, plan.shares)
        found = fitting(plan, pilot, order, 60.0 * minutes)
        size = 0 if found is None else len(found[0])
        if found is not None and (best is None or size > len(best[3])):
            best = count, plan, order, *found
        fewer = max(min(fewest, rows), round(_FEWER * count))
        if size > min(_ENOUGH, len(variants) - 1) or fewer >= count:
            break
        try:
            plan, pilot = planned(fewer)
        except InputError:  # too few of a rare label
            break
        count = fewer
    if best is None:
        raise InputError(
            f"minutes={minutes:g}: the model as it is does not fit into them. Try: "
            f"minutes={_minutes(whole)}, for all of the X-ray, or fewer rows"
        )
    count, plan, order, numbers, flow = best
    plan, pilot = planned(count)
    flow = flow or (plan.signals_there and plan.signal_rows > 0)
    numbers = [n for n in order if n in numbers or plan.there[n]]
    reasons = {
        v.name: f"it does not fit into {minutes:g} minutes"
        for n, v in enumerate(variants)
        if n not in numbers
    }
    notes = []
    if reasons or count < rows or (plan.signal_rows and not flow):
        notes.append(
            f"{len(numbers) - 1} of {len(variants) - 1} variants in {minutes:g} minutes: all, on "
            f"all rows, take about {duration_text(whole)} (minutes={_minutes(whole)})"
        )
    if count < rows:
        notes.append(f"{count:,} of {rows:,} rows, random ones: too few variants fit on all")
    if plan.signal_rows and not flow:
        notes.append(f"no signal flow: it does not fit into {minutes:g} minutes")
    parts = pilot.parts(plan.of_variants(numbers, signals=flow), left=False)
    return Choice([variants[n] for n in numbers], flow, count, reasons, tuple(notes), parts)


def _minutes(seconds: float) -> int:
    return math.ceil(seconds / 60.0)


class Clock:
    """The time that all runs of an X-ray have spent, beside the time that it is to take.

    Args:
        choice: the work, with its parts.
        minutes: None for any.
        before: seconds before the first kernel.
        work: the directory, in which the time is kept.
    """

    def __init__(
        self, choice: Choice, minutes: float | None, before: float, work: Directory
    ) -> None:
        self._parts, self._work = choice.parts, work
        self._limit = None if minutes is None else 60.0 * minutes
        state = work.read(_SPENT) if minutes is not None else None
        self._spent = before if state is None else float(state["seconds"])
        self._expected = self._taken = 0.0
        self.cut: list[str] = []

    def allows(self, number: int, name: str) -> bool:
        """Whether there is time for a part, if it takes as much longer as others have taken.

        The model as it is, the first part, is not left out.
        """
        if self._limit is None or number == 0:
            return True
        slower = max(1.0, self._taken / self._expected) if self._expected else 1.0
        last = len(self._parts) - 1
        ahead = self._parts[number] + (self._parts[last] if number < last else 0.0)
        if self._spent + slower * ahead <= self._limit:
            return True
        self.cut.append(name)
        return False

    def ran(self, number: int, began: float) -> None:
        """Count a part that began at a value of `time.perf_counter`."""
        if self._limit is None:
            return
        seconds = time.perf_counter() - began
        self._taken += seconds
        self._spent += seconds
        self._expected += self._parts[number]
        self._work.write(_SPENT, {"seconds": self._spent})

    def notes(self) -> Collection[str]:
        """The parts that were left out as the time was up, in a sentence or none."""
        if not self.cut:
            return ()
        listed = f"{len(self.cut)} parts" if len(self.cut) > 1 else self.cut[0]
        return (f"the time was up before {listed}: kernels took longer than was measured",)
