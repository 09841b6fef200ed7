"""An X-ray within so many minutes: the part of the work that is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keras2gp._util.text import duration_text
from keras2gp.errors import InputError
from keras2gp.xrays.planning.timing import Plan, TimingSample, choose_fitting, order_by_information
from keras2gp.xrays.variants.subject import Variant

__all__ = ["Choice", "choose_within"]

_ENOUGH = 3
"""Variants that are worth fewer rows, where they do not fit on all."""
_FEWER = 0.7
"""Factor from one number of rows to the next that is tried."""


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


def choose_within(
    minutes: float,
    variants: Sequence[Variant],
    rows: int,
    fewest: int,
    planned: Callable[[int], tuple[Plan, TimingSample]],
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
        order = order_by_information(variants, plan.shares)
        found = choose_fitting(plan, pilot, order, 60.0 * minutes)
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
