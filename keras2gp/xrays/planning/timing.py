"""The time of an X-ray: measured on a few rows, scaled, and what fits into so many minutes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from keras2gp.gp.noise.pilot import ROWS
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.speed import speed_of, tried_images
from keras2gp.xrays import KINDS
from keras2gp.xrays.measuring.flow import seconds_of
from keras2gp.xrays.measuring.scores import rounds_of, score_kernel
from keras2gp.xrays.measuring.signals import PAIRS
from keras2gp.xrays.planning.sharing import Share
from keras2gp.xrays.rows import Inputs, ScoredTargets, take_rows
from keras2gp.xrays.variants.subject import OWN, Variant

__all__ = ["Plan", "TimingSample", "choose_fitting", "measure_times", "order_by_information"]

_TRIED = 64
"""Rows of the kernel whose time is measured, at most."""
_SMALLEST = 20
"""Rows of the smallest fit whose time is measured."""
_FITS = 3
"""Fits whose mean time is taken, after a first one: a single one may take many times as long."""
_OF_TEST = 0.3
"""Compilation of the kernel of test rows and rows, in that of the rows': statistics are shared."""
_OF_FLOW = 0.25
"""Share of the time that the signal flow may take before it comes behind all variants."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The work of an X-ray.

    Attributes:
        base: the kernel of the model as it is.
        shares: how the matrix of every variant is computed.
        there: for each of them whether its scores are there already.
        x: the rows.
        rows, test: numbers of rows and of test rows.
        subsets: halvings, of which each kernel has two fits beside that of all rows.
        signal_rows: rows that show how signal flows; 0 for none.
        signals_there: whether that is there already.
    """

    base: Kernel
    shares: Sequence[Share]
    there: Sequence[bool]
    x: Inputs
    rows: int
    test: int
    subsets: int
    signal_rows: int
    signals_there: bool

    def of_variants(self, numbers: Sequence[int], *, signals: bool) -> Plan:
        """The work of some of the variants, with the signal flow or without it."""
        return replace(
            self,
            shares=[self.shares[i] for i in numbers],
            there=[self.there[i] for i in numbers],
            signal_rows=self.signal_rows if signals else 0,
        )


@dataclass(frozen=True)
class TimingSample:
    """Measured times, from which others are scaled.

    Attributes:
        before: seconds that the variants took to be built, and these to be measured.
        compilation: seconds of the model's kernel.
        rate: pairs of the model's kernel in a second.
        fits: seconds of a fit, by its number of rows.
        flows: seconds of the signal flow, and its layers, by its number of rows.
    """

    before: float = 0.0
    compilation: float = 0.0
    rate: float = 0.0
    fits: tuple[tuple[int, float], ...] = ()
    flows: tuple[tuple[int, float, int], ...] = ()

    def state(self) -> dict[str, Any]:
        """The times as data for JSON."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TimingSample | None:
        """The times of a `state`; None where it is malformed."""
        try:
            return cls(
                float(state["before"]),
                float(state["compilation"]),
                float(state["rate"]),
                tuple((int(n), float(t)) for n, t in state["fits"]),
                tuple((int(n), float(t), int(k)) for n, t, k in state["flows"]),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def scoring(self, share: Share, plan: Plan) -> float:
        """Seconds of the fits of a variant; the model is fitted to fewer rows too."""
        fits, half = dict(self.fits), _half(share.rows)
        seconds = fits[share.rows] + rounds_of(2 * plan.subsets, share.rows) * fits[half]
        return (2 if share.rows < plan.rows else 1) * seconds

    def program(self, share: Share, plan: Plan) -> float:
        """Seconds of the matrices of a variant, or of all that share its program."""
        nodes = len(share.kernel.graph.nodes) / len(plan.base.graph.nodes)
        compiling = self.compilation * (1.0 + _OF_TEST * (plan.test > 0))
        return compiling * nodes + share.work * share.pairs(plan.test) / self.rate

    def flow(self, plan: Plan) -> float:
        """Seconds of the signal flow."""
        if not plan.signal_rows:
            return 0.0
        seconds, layers = {n: (t, k) for n, t, k in self.flows}[plan.signal_rows]
        return seconds + layers * dict(self.fits)[plan.signal_rows]

    def parts(self, plan: Plan, *, left: bool = True) -> tuple[float, ...]:
        """Seconds of each variant, and of the signal flow.

        Args:
            plan: the work; a program counts with the first variant of it.
            left: without what is there.
        """
        parts, begun = [], set[str]()
        for share, there in zip(plan.shares, plan.there, strict=True):
            seconds = 0.0
            if not (left and there):
                seconds = self.scoring(share, plan)
                if share.key not in begun:
                    seconds += self.program(share, plan)
                    begun.add(share.key)
            parts.append(seconds)
        return (*parts, 0.0 if left and plan.signals_there else self.flow(plan))


def measure_times(plan: Plan, earlier: TimingSample | None, *, left: bool = True) -> TimingSample:
    """The times of some work; what an earlier run has measured is not measured again.

    Args:
        plan: the work.
        earlier: measured times; None for none.
        left: without what is there.
    """
    pilot = earlier or TimingSample()
    todo = {s.rows for s, t in zip(plan.shares, plan.there, strict=True) if not (left and t)}
    if todo and not pilot.rate:
        few = take_rows(plan.x, slice(0, tried_images(plan.base, _TRIED)))
        speed = speed_of(plan.base, few, whole=plan.rows)
        pilot = replace(pilot, compilation=speed.compilation, rate=speed.rate)
    count = plan.signal_rows if not (left and plan.signals_there) else 0
    if count and count not in {n for n, _, _ in pilot.flows}:
        images = take_rows(plan.x, slice(0, count))
        flow = (count, *seconds_of(plan.base, images, count + PAIRS))
        pilot = replace(pilot, flows=(*pilot.flows, flow))
    wanted = (todo | set(map(_half, todo)) | {count}) - {0} - {n for n, _ in pilot.fits}
    fits = [(rows, _fit_seconds(rows)) for rows in sorted(wanted)]
    return replace(pilot, fits=(*pilot.fits, *fits))


def _half(rows: int) -> int:
    return -(-rows // 2)


def _fit_seconds(rows: int) -> float:
    """The time of a fit, measured on as many rows as one tridiagonalisation has at most.

    Fewer would not do: overheads that do not grow would be scaled too.
    """
    size = min(max(rows, _SMALLEST), ROWS)
    points = np.random.default_rng(0).normal(size=(size, size))
    labels = np.arange(size) % 10
    matrix = points @ points.T / size + np.eye(size)
    targets = ScoredTargets(labels, None, regression=False)
    score_kernel(matrix, targets)
    began = time.perf_counter()
    for _ in range(_FITS):
        score_kernel(matrix, targets)
    fit = (time.perf_counter() - began) / _FITS
    return fit * (1.0 + 4.0 * max(rows / ROWS - 1.0, 0.0) ** 3)


def order_by_information(variants: Sequence[Variant], shares: Sequence[Share]) -> list[int]:
    """The order in which variants are chosen where time is short: what says most comes first.

    The model as it is, the user's own variants, and then one of each kind in turn: of a kind those
    first that change most calls, and of these the cheapest. Variants on fewer rows come last.

    Args:
        variants: the model as it is first.
        shares: of each of them.
    """
    turns: dict[int, int] = {}
    for kind in {v.kind for v in variants}:
        members = [n for n, v in enumerate(variants) if v.kind == kind]
        members.sort(key=lambda n: (-variants[n].changes, variants[n].work))
        turns |= {n: turn for turn, n in enumerate(members)}

    def place(n: int) -> tuple[bool, bool, int, int]:
        kind = variants[n].kind
        fewer = shares[n].rows < shares[0].rows
        return fewer, kind != OWN, turns[n], KINDS.index(kind) if kind in KINDS else -1

    return [0, *sorted(range(1, len(variants)), key=place)]


def choose_fitting(
    plan: Plan, pilot: TimingSample, order: Sequence[int], seconds: float
) -> tuple[list[int], bool] | None:
    """The variants that fit into so many seconds, as if nothing were there.

    Args:
        plan: the work.
        pilot: measured times.
        order: of the variants, the model as it is first.
        seconds: the time.

    Returns:
        Their numbers, in that order, and whether the signal flow fits; None where the model as it
        is does not.
    """
    left = seconds - pilot.before
    begun, chosen = set[str](), list[int]()
    flow, flows = pilot.flow(plan), False
    for n in order:
        share = plan.shares[n]
        cost = pilot.scoring(share, plan)
        cost += 0.0 if share.key in begun else pilot.program(share, plan)
        if cost > left and not chosen:
            return None
        if cost <= left:
            left -= cost
            begun.add(share.key)
            chosen.append(n)
        if len(chosen) == 1 and not flows and flow <= _OF_FLOW * left:
            flows, left = True, left - flow
    return chosen, (flows or flow <= left) and bool(plan.signal_rows)
