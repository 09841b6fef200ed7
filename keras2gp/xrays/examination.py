"""An X-ray that is to be made: its variants, its cost, its run, and how it goes on."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import InputsLike, TargetsLike
from keras2gp._util.checks import is_number, one_of, whole_number
from keras2gp._util.files import held, made_folders
from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.paths import as_path
from keras2gp._util.text import received_text
from keras2gp.conversion.overrides import check_overrides
from keras2gp.errors import InputError, NumericalError, StoreError
from keras2gp.matrices.work import ExecutorLike
from keras2gp.xrays.ablations import check_kinds
from keras2gp.xrays.ahead import Ahead
from keras2gp.xrays.arguments import (
    arrays_of,
    checked_conversion,
    checked_names,
    checked_rows,
    taken,
)
from keras2gp.xrays.budget import Choice, Clock, chosen_within
from keras2gp.xrays.cost import Cost, cost_of
from keras2gp.xrays.directory import Directory, identity_of, kept, of_data, require_same
from keras2gp.xrays.files import PILOT
from keras2gp.xrays.findings import Summary, findings_of, measures_of, ordered
from keras2gp.xrays.report import XRay
from keras2gp.xrays.scores import Scores
from keras2gp.xrays.scoring import Scoring
from keras2gp.xrays.sharing import FEWEST
from keras2gp.xrays.signals import LayerSignal, signals_of
from keras2gp.xrays.timing import Pilot, Plan, measured
from keras2gp.xrays.variants import Settings, Subject, Variant

__all__ = ["Examination"]


class Examination:
    """An X-ray that is to be made; arguments and errors are those of `xray`.

    Attributes:
        variants: the model as it is, and all variants.
    """

    def __init__(
        self,
        model: KerasModel,
        x: InputsLike,
        y: TargetsLike,
        *,
        test: tuple[InputsLike, TargetsLike] | None = None,
        variants: Mapping[str, Any] | None = None,
        kinds: Collection[str] | None = None,
        most_work: float = 20.0,
        full_work: float = 1.5,
        subsets: int = 10,
        signal_rows: int = 200,
        seed: int = 0,
        minutes: float | None = None,
        position: Any = None,
        overrides: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        kind: str = "nngp",
        conversion: Mapping[str, Any] | None = None,
        out: str | os.PathLike[str] | None = None,
    ) -> None:
        self._began = time.perf_counter()
        self.x, self.task, self.test = checked_rows(x, y, test)
        one_of("dtype", dtype, ("float32", "float64"))
        one_of("kind", kind, ("nngp", "ntk"))
        self._rows = len(self.task.y)
        self._halvings = whole_number("subsets", subsets, 2, self._rows // 2)
        self._seed = whole_number("seed", seed, 0, 2**32 - 1)
        self._signal_rows = min(whole_number("signal_rows", signal_rows, 0), self._rows)
        if self._signal_rows == 1:
            raise InputError("signal_rows=1: pairs of images show how signal flows. Try: 2 or more")
        for name, value in (("most_work", most_work), ("full_work", full_work)):
            if not is_number(value) or not value >= 1.0:
                raise InputError(f"{name}={received_text(value)}: expected a number from 1")
        if minutes is not None and not (is_number(minutes) and 0.0 < minutes < 1e9):
            raise InputError(
                f"minutes={received_text(minutes)}: expected a number above 0, or None"
            )
        self._minutes = minutes
        own, chosen = checked_names(variants), check_kinds(kinds)
        self._scoring = Scoring(self.x, self.task, self.test, self._halvings, self._seed)
        others = checked_conversion(conversion or {})
        self._out = None if out is None else as_path("out", out, StoreError)
        facts = of_data(self.x, self.task, self.test, self._halvings, self._seed)
        if self._out is not None:
            require_same(self._out, facts)
        settings = Settings(check_overrides(overrides), dtype, {**others, "kind": kind}, position)
        self._subject = Subject(model, settings, self.x, self.test)
        base = self._subject.base
        self._identity = identity_of(facts, self._subject.kernel, base.key)
        if self._out is not None:  # before the variants are built
            require_same(self._out, self._identity)
        found = self._subject.variants(chosen, own, most_work)
        self.variants: list[Variant] = [base, *found]
        self._full_work = full_work
        self._scoring.plan(self.computed, full_work)
        self._pilot: Pilot | None = None
        self._choice: Choice | None = None

    @property
    def computed(self) -> list[Variant]:
        """The variants that have kernels of their own, the model as it is first."""
        return [v for v in self.variants if v.kernel is not None]

    @property
    def _test_rows(self) -> int:
        return 0 if self.task.test is None else len(self.task.test)

    @property
    def _signals_file(self) -> str:
        return f"signals-{self._signal_rows}.json"

    def cost(self, *, measure: bool = True) -> Cost:
        """Time, memory and disk that it will take, less what `out` holds already.

        Args:
            measure: whether the time is measured, on a few rows; it always is with `minutes`.

        Raises:
            InputError: not even the model as it is fits into `minutes`.
        """
        choice = self._chosen()
        plan = self._plan(choice.variants, signals=choice.signals)
        if measure and self._pilot is None:
            self._pilot = measured(plan, self._earlier())
        pilot, where = self._pilot, self._out
        notes = (*self.task.notes(), *choice.notes)
        return cost_of(plan, where, pilot, minutes=self._minutes, notes=notes)

    def left_out(self, variant: Variant) -> str:
        """Why a variant is not computed; "" if it is. Errors are those of `cost`."""
        if variant.same_as:
            return f"same as {variant.same_as}"
        return self._chosen().reasons.get(variant.name, variant.reason)

    def _plan(self, variants: list[Variant], *, signals: bool = True) -> Plan:
        """The work of some variants."""
        scoring, out = self._scoring, self._out

        def there(name: str) -> bool:
            return out is not None and (out / name).is_file()

        return Plan(
            base=self._subject.kernel,
            shares=[scoring.shares[v.key] for v in variants],
            there=[there(scoring.file(v)) for v in variants],
            x=self.x,
            rows=scoring.shares[variants[0].key].rows,
            test=self._test_rows,
            subsets=self._halvings,
            signal_rows=self._signal_rows if signals else 0,
            signals_there=there(self._signals_file),
        )

    def _earlier(self) -> Pilot | None:
        """The times that an earlier run has left."""
        state = None if self._out is None else kept(self._out / PILOT)
        return None if state is None else Pilot.from_state(state)

    def _chosen(self) -> Choice:
        """The part of the work that is done."""
        if self._choice is not None:
            return self._choice
        if self._minutes is None:
            self._choice = Choice(self.computed, bool(self._signal_rows), self._rows, {})
        else:
            fewest = max(FEWEST, 2 * self._halvings)
            self._choice = chosen_within(
                self._minutes, self.computed, self._rows, fewest, self._planned
            )
        return self._choice

    def _planned(self, rows: int) -> tuple[Plan, Pilot]:
        """The work on so many rows, and its times. Raises: InputError."""
        self._scoring.plan(self.computed, self._full_work, rows)
        plan = self._plan(self.computed)
        pilot = measured(plan, self._pilot or self._earlier(), left=False)
        if not pilot.before:
            pilot = replace(pilot, before=time.perf_counter() - self._began)
        self._pilot = pilot
        return plan, pilot

    def run(
        self,
        *,
        executor: ExecutorLike = "auto",
        told: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
    ) -> XRay:
        """Make the X-ray; errors are those of `xray`.

        Args:
            executor: as for `gram`.
            told: called with (name of a variant, variants done, variants in all).
        """
        if self._out is None:
            with tempfile.TemporaryDirectory() as folder:
                return self._made(Directory(Path(folder), self._identity), executor, told)
        with made_folders(self._out), held(self._out):
            report = self._made(Directory(self._out, self._identity), executor, told)
            report.save(self._out)
        return report

    def _made(
        self, work: Directory, executor: ExecutorLike, told: Callable[[str, int, int], None]
    ) -> XRay:
        choice = self._chosen()
        if self._pilot is not None and kept(work.path / PILOT) is None:
            work.write(PILOT, self._pilot.state())
        clock = Clock(choice, self._minutes, self._pilot.before if self._pilot else 0.0, work)
        scores: dict[str, Scores] = {}
        reasons = dict(choice.reasons)
        files = {variant.name: work.keep(variant) for variant in self.variants}
        count = len(choice.variants)
        with Ahead(self._scoring, work, executor) as ahead:
            for number, variant in enumerate(choice.variants):
                told(variant.name, number, count)
                found = self._scoring.there(variant, work)
                try:
                    if found is None and clock.allows(number, variant.name):
                        began = time.perf_counter()
                        if self._minutes is None:  # else one after the other, and timed
                            ahead.matrices(choice.variants[number:])
                        found = self._scoring.scores(variant, work, executor)
                        clock.ran(number, began)
                except NumericalError as error:
                    if variant is self._subject.base:
                        raise
                    reasons[variant.name] = str(error)
                else:
                    if found is None:
                        reasons[variant.name] = "the time was up"
                    else:
                        scores[variant.name] = found
        told("signal flow", count, count)
        signals = self._signals(work, clock, count) if choice.signals else ()
        labels = self.task.y
        base = scores.pop(self._subject.base.name)
        bases = {
            count: self._scoring.scores(self._subject.base, work, executor, count)
            for count in sorted({len(found.error) for found in scores.values()})
        }
        findings = findings_of(
            self.variants[1:], scores, {choice.rows: base, **bases}, files, reasons
        )
        return XRay(
            model=self._subject.name,
            unit="images" if any(a.ndim > 3 for a in arrays_of(self.x)) else "rows",
            regression=self.task.regression,
            rows=choice.rows,
            test_rows=self._test_rows,
            classes=0 if self.task.regression else len(np.unique(labels)),
            subsets=self._halvings,
            seed=self._seed,
            kind=self._subject.kernel.kind,
            comparisons=len(scores) * len(measures_of(tested=self.test is not None)),
            minutes=self._minutes,
            notes=(*self.task.notes(), *choice.notes, *clock.notes()),
            base=Summary.of(base),
            findings=ordered(findings),
            signals=signals,
            signal_rows=self._signal_rows if signals else 0,
            graph=self._subject.graph,
        )

    def _signals(self, work: Directory, clock: Clock, number: int) -> tuple[LayerSignal, ...]:
        rows = slice(0, self._signal_rows)
        state = work.read(self._signals_file)
        if state is not None:
            return tuple(LayerSignal.from_state(entry) for entry in state["signals"])
        if not clock.allows(number, "the signal flow"):
            return ()
        began = time.perf_counter()
        found = signals_of(
            self._subject.kernel,
            taken(self.x, rows),
            self.task.y[rows],
            regression=self.task.regression,
            seed=self._seed,
        )
        work.write(self._signals_file, {"signals": [asdict(s) for s in found]})
        clock.ran(number, began)
        return found
