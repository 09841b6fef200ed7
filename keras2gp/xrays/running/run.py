"""One X-ray: its variants, its cost, its run, and how it goes on."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from keras2gp._util.arrays import InputsLike, TargetsLike
from keras2gp._util.checks import whole_number
from keras2gp._util.files import held, made_folders
from keras2gp._util.keras_objects import KerasModel
from keras2gp.errors import NumericalError
from keras2gp.matrices.work import ExecutorLike
from keras2gp.xrays.arguments import XRaySettings
from keras2gp.xrays.files import PILOT
from keras2gp.xrays.measuring.scores import Scores
from keras2gp.xrays.measuring.signals import LayerSignal, signals_of
from keras2gp.xrays.planning.budget import Choice, choose_within
from keras2gp.xrays.planning.cost import XRayCost, cost_of
from keras2gp.xrays.planning.sharing import FEWEST
from keras2gp.xrays.planning.timing import Plan, TimingSample, measure_times
from keras2gp.xrays.reporting.findings import Summary, findings_of, measures_of, ordered
from keras2gp.xrays.reporting.report import XRay
from keras2gp.xrays.rows import arrays_of, check_rows, take_rows
from keras2gp.xrays.running.clock import Clock
from keras2gp.xrays.running.directory import (
    Directory,
    data_facts,
    identity_of,
    read_record,
    require_same,
)
from keras2gp.xrays.running.prefetching import Prefetcher
from keras2gp.xrays.running.scoring import Scoring
from keras2gp.xrays.variants.subject import Subject, Variant, VariantConversion

__all__ = ["XRayRun"]


class XRayRun:
    """One X-ray, from its checks to its report; errors are those of `keras2gp.xray`.

    Args:
        model: a Keras model, or the path of its file.
        x: images, as for `keras2gp.xray`.
        y: their targets.
        settings: the settings.
        test: images and targets that no fit sees; None for none.

    Attributes:
        x: the images, checked.
        targets: the targets of the images and of the test images.
        test: the test images; None for none.
        variants: the model as it is, and all variants.
    """

    def __init__(
        self,
        model: KerasModel,
        x: InputsLike,
        y: TargetsLike,
        settings: XRaySettings,
        *,
        test: tuple[InputsLike, TargetsLike] | None = None,
    ) -> None:
        self._began = time.perf_counter()
        self._settings = settings
        self.x, self.targets, self.test = check_rows(x, y, test)
        self._rows = len(self.targets.y)
        whole_number("subsets", settings.subsets, 2, self._rows // 2)
        self._signal_rows = min(settings.signal_rows, self._rows)
        halving = settings.subsets, settings.seed
        self._scoring = Scoring(self.x, self.targets, self.test, *halving)
        facts = data_facts(self.x, self.targets, self.test, *halving)
        if self._out is not None:
            require_same(self._out, facts)
        conversion = VariantConversion(
            settings.overrides,
            settings.dtype,
            {**settings.conversion, "kind": settings.kind},
            settings.position,
        )
        self._subject = Subject(model, conversion, self.x, self.test)
        base = self._subject.base
        self._identity = identity_of(facts, self._subject.kernel, base.key)
        if self._out is not None:  # before the variants are built
            require_same(self._out, self._identity)
        changed = self._subject.variants(settings.kinds, settings.variants, settings.most_work)
        self.variants: list[Variant] = [base, *changed]
        self._scoring.plan(self.computed, settings.full_work)
        self._times: TimingSample | None = None
        self._choice: Choice | None = None

    @property
    def computed(self) -> list[Variant]:
        """The variants that have kernels of their own, the model as it is first."""
        return [v for v in self.variants if v.kernel is not None]

    @property
    def _out(self) -> Path | None:
        return self._settings.directory

    @property
    def _test_rows(self) -> int:
        return 0 if self.targets.test is None else len(self.targets.test)

    @property
    def _signals_file(self) -> str:
        return f"signals-{self._signal_rows}.json"

    def cost(self, *, measure: bool = True) -> XRayCost:
        """Time, memory and disk that it will take, less what `out` holds already.

        Args:
            measure: whether the time is measured, on a few rows; it always is with `minutes`.

        Raises:
            InputError: not even the model as it is fits into `minutes`.
        """
        choice = self._choose()
        plan = self._plan(choice.variants, signals=choice.signals)
        if measure and self._times is None:
            self._times = measure_times(plan, self._earlier_times())
        minutes, notes = self._settings.minutes, (*self.targets.notes(), *choice.notes)
        return cost_of(plan, self._out, self._times, minutes=minutes, notes=notes)

    def left_out(self, variant: Variant) -> str:
        """Why a variant is not computed; "" if it is. Errors are those of `cost`."""
        if variant.same_as:
            return f"same as {variant.same_as}"
        return self._choose().reasons.get(variant.name, variant.reason)

    def _plan(self, variants: list[Variant], *, signals: bool = True) -> Plan:
        """The work of some variants."""
        scoring, out = self._scoring, self._out

        def is_there(name: str) -> bool:
            return out is not None and (out / name).is_file()

        return Plan(
            base=self._subject.kernel,
            shares=[scoring.shares[v.key] for v in variants],
            there=[is_there(scoring.file(v)) for v in variants],
            x=self.x,
            rows=scoring.shares[variants[0].key].rows,
            test=self._test_rows,
            subsets=self._settings.subsets,
            signal_rows=self._signal_rows if signals else 0,
            signals_there=is_there(self._signals_file),
        )

    def _earlier_times(self) -> TimingSample | None:
        """The times that an earlier run has measured."""
        state = None if self._out is None else read_record(self._out / PILOT)
        return None if state is None else TimingSample.from_state(state)

    def _choose(self) -> Choice:
        """The part of the work that is done."""
        if self._choice is not None:
            return self._choice
        if self._settings.minutes is None:
            self._choice = Choice(self.computed, bool(self._signal_rows), self._rows, {})
        else:
            fewest = max(FEWEST, 2 * self._settings.subsets)
            self._choice = choose_within(
                self._settings.minutes, self.computed, self._rows, fewest, self._plan_on
            )
        return self._choice

    def _plan_on(self, rows: int) -> tuple[Plan, TimingSample]:
        """The work on so many rows, and its times. Raises: InputError."""
        self._scoring.plan(self.computed, self._settings.full_work, rows)
        plan = self._plan(self.computed)
        times = measure_times(plan, self._times or self._earlier_times(), left=False)
        if not times.before:
            times = replace(times, before=time.perf_counter() - self._began)
        self._times = times
        return plan, times

    def run(
        self,
        *,
        executor: ExecutorLike = "auto",
        progress: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
    ) -> XRay:
        """Make the X-ray; errors are those of `keras2gp.xray`.

        Args:
            executor: as for `gram`.
            progress: called with (name of a variant, variants done, variants in all).
        """
        if self._out is None:
            with tempfile.TemporaryDirectory() as folder:
                return self._make(Directory(Path(folder), self._identity), executor, progress)
        with made_folders(self._out), held(self._out):
            report = self._make(Directory(self._out, self._identity), executor, progress)
            report.save(self._out)
        return report

    def _make(
        self,
        directory: Directory,
        executor: ExecutorLike,
        progress: Callable[[str, int, int], None],
    ) -> XRay:
        choice = self._choose()
        if self._times is not None and read_record(directory.path / PILOT) is None:
            directory.write(PILOT, self._times.state())
        before = self._times.before if self._times else 0.0
        clock = Clock(choice, self._settings.minutes, before, directory)
        files = {variant.name: directory.save_model(variant) for variant in self.variants}
        scores, reasons = self._score(choice, clock, directory, executor, progress)
        count = len(choice.variants)
        progress("signal flow", count, count)
        signals = self._signals(directory, clock, count) if choice.signals else ()
        base = scores.pop(self._subject.base.name)
        bases = {
            rows: self._scoring.score(self._subject.base, directory, executor, rows)
            for rows in sorted({len(each.error) for each in scores.values()})
        }
        findings = findings_of(
            self.variants[1:], scores, {choice.rows: base, **bases}, files, reasons
        )
        regression = self.targets.regression
        return XRay(
            model=self._subject.name,
            unit="images" if any(a.ndim > 3 for a in arrays_of(self.x)) else "rows",
            regression=regression,
            rows=choice.rows,
            test_rows=self._test_rows,
            classes=0 if regression else len(np.unique(self.targets.y)),
            subsets=self._settings.subsets,
            seed=self._settings.seed,
            kind=self._subject.kernel.kind,
            comparisons=len(scores) * len(measures_of(tested=self.test is not None)),
            minutes=self._settings.minutes,
            notes=(*self.targets.notes(), *choice.notes, *clock.notes()),
            base=Summary.of(base),
            findings=ordered(findings),
            signals=signals,
            signal_rows=self._signal_rows if signals else 0,
            graph=self._subject.graph,
        )

    def _score(
        self,
        choice: Choice,
        clock: Clock,
        directory: Directory,
        executor: ExecutorLike,
        progress: Callable[[str, int, int], None],
    ) -> tuple[dict[str, Scores], dict[str, str]]:
        """The scores of the chosen variants, and the reasons for those without, by name."""
        scores: dict[str, Scores] = {}
        reasons = dict(choice.reasons)
        with Prefetcher(self._scoring, directory, executor) as prefetcher:
            for number, variant in enumerate(choice.variants):
                progress(variant.name, number, len(choice.variants))
                result = self._scoring.stored_scores(variant, directory)
                try:
                    if result is None and clock.allows(number, variant.name):
                        began = time.perf_counter()
                        if self._settings.minutes is None:  # else one after the other, and timed
                            prefetcher.prepare(choice.variants[number:])
                        result = self._scoring.score(variant, directory, executor)
                        clock.count(number, began)
                except NumericalError as error:
                    if variant is self._subject.base:
                        raise
                    reasons[variant.name] = str(error)
                else:
                    if result is None:
                        reasons[variant.name] = "the time was up"
                    else:
                        scores[variant.name] = result
        return scores, reasons

    def _signals(self, directory: Directory, clock: Clock, number: int) -> tuple[LayerSignal, ...]:
        """The signal flow, from the directory or computed; () where the time was up."""
        rows = slice(0, self._signal_rows)
        state = directory.read(self._signals_file)
        if state is not None:
            return tuple(LayerSignal.from_state(entry) for entry in state["signals"])
        if not clock.allows(number, "the signal flow"):
            return ()
        began = time.perf_counter()
        signals = signals_of(
            self._subject.kernel,
            take_rows(self.x, rows),
            self.targets.y[rows],
            regression=self.targets.regression,
            seed=self._settings.seed,
        )
        directory.write(self._signals_file, {"signals": [asdict(s) for s in signals]})
        clock.count(number, began)
        return signals
