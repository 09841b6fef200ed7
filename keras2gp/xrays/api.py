"""keras2gp.xray: what every part of an architecture is worth on given rows, without training."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Indices, Vector
from keras2gp._util.checks import as_path, one_of, whole_number
from keras2gp._util.text import received_text
from keras2gp.conversion.overrides import check_overrides
from keras2gp.errors import InputError, NumericalError, StoreError
from keras2gp.xrays.arguments import (
    checked_conversion,
    checked_names,
    checked_rows,
    without_mean,
)
from keras2gp.xrays.comparisons import Difference, Sample, differences
from keras2gp.xrays.cost import Cost, Plan, cost_of
from keras2gp.xrays.directory import Directory, scores_file
from keras2gp.xrays.findings import Evidence, Finding, Summary, ordered
from keras2gp.xrays.fixed_points import FixedPoint
from keras2gp.xrays.images import arrays_of, taken
from keras2gp.xrays.report import XRay
from keras2gp.xrays.scores import Scores, scored, subsets_of
from keras2gp.xrays.signals import LayerSignal, signals_of
from keras2gp.xrays.variants import Settings, Subject, Variant

__all__ = ["Examination", "xray"]

_FORMAT = 1


def xray(
    model: Any,
    x: Any,
    y: Any,
    *,
    test: tuple[Any, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    variants: Mapping[str, Any] | None = None,
    kinds: Collection[str] | None = None,
    most_work: float = 20.0,
    subsets: int = 10,
    signal_rows: int = 200,
    seed: int = 0,
    position: Any = None,
    overrides: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    executor: Any = "auto",
    told: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
    **conversion: Any,
) -> XRay:
    """Measure what each part of an architecture is worth on given rows, without training it.

    Every ablation of the model is a Keras model with a kernel of its own. Each is fitted to the
    same rows, with a noise and a scale of its own, and its leave-one-out predictions are compared
    with those of the model as it is, row by row.

    Args:
        model: a Keras model, or the path of its file.
        x: images, [N, *shape], floating-point; for a model with several inputs a list of such
            arrays, or a dict by input name.
        y: their labels, [N]; or real targets, [N] or [N, C], if their type is floating-point.
        test: images and targets that no fit sees, for test errors.
        out: directory of the report (report.html, report.json, report.txt), of the variants as
            .keras files, and of kernel matrices and scores, with which the same call goes on after
            an interruption; None for none of them.
        variants: models of your own by name: Keras models, or paths of their files.
        kinds: of ablations: some of "skip", "normalization", "pooling", "stride", "padding",
            "window", "receptive field", "depth", "activation" and "bias"; None for all.
        most_work: a variant whose kernel takes more than so many times the time of the model's is
            left out, and listed.
        subsets: random groups of rows, each of which is left out once, for standard errors.
        signal_rows: the first so many rows show how signal flows; 0 for none.
        seed: of the groups.
        position: of an output with positions the one that the targets are of, as for `Kernel.at`.
        overrides: variances by layer, as for `convert`; a variant without such a layer is as it is.
        dtype: of the kernels' entries, "float32" or "float64".
        executor: as for `gram`.
        told: called with (name of a variant, variants done, variants in all).
        **conversion: output, max_pooling, tolerance, activations, layers or input_shape, as for
            `convert`.

    Returns:
        The report.

    Raises:
        UnsupportedModelError: the model as it is has no exact kernel.
        InputError: an argument does not fit.
        NumericalError: the kernel of the model as it is is singular or overflows.
        StoreError: `out` is of another X-ray, or cannot be written.

    >>> import keras, keras2gp, numpy
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, "relu", kernel_initializer="he_normal", name="hidden"),
    ...     keras.layers.Dense(2, name="out"),
    ... ])
    >>> x = numpy.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    >>> y = (x[:, 0] * x[:, 1] > 0).astype(int)
    >>> report = keras2gp.xray(model, x, y, kinds=["activation"], subsets=4, signal_rows=0)
    >>> report.finding("linear").nats.verdict  # a linear network cannot know a product
    'worse'
    """
    examination = Examination(
        model,
        x,
        y,
        test=test,
        variants=variants,
        kinds=kinds,
        most_work=most_work,
        subsets=subsets,
        signal_rows=signal_rows,
        seed=seed,
        position=position,
        overrides=overrides,
        dtype=dtype,
        conversion=conversion,
    )
    return examination.run(out, executor=executor, told=told)


class Examination:
    """An X-ray that is to be made; arguments and errors are those of `xray`.

    Attributes:
        variants: the model as it is, and all variants.
    """

    def __init__(
        self,
        model: Any,
        x: Any,
        y: Any,
        *,
        test: tuple[Any, Any] | None = None,
        variants: Mapping[str, Any] | None = None,
        kinds: Collection[str] | None = None,
        most_work: float = 20.0,
        subsets: int = 10,
        signal_rows: int = 200,
        seed: int = 0,
        position: Any = None,
        overrides: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        conversion: Mapping[str, Any] | None = None,
    ) -> None:
        self.x, self.task, self.test = checked_rows(x, y, test)
        one_of("dtype", dtype, ("float32", "float64"))
        self._rows = len(self.task.y)
        self._groups = whole_number("subsets", subsets, 2, self._rows // 2)
        self._seed = whole_number("seed", seed, 0, 2**32 - 1)
        self._signal_rows = min(whole_number("signal_rows", signal_rows, 0), self._rows)
        if self._signal_rows == 1:
            raise InputError("signal_rows=1: pairs of images show how signal flows. Try: 2 or more")
        if not isinstance(most_work, int | float) or not most_work >= 1.0:
            raise InputError(f"most_work={received_text(most_work)}: expected a number from 1")
        own = checked_names(variants)
        others = checked_conversion(conversion or {})
        settings = Settings(check_overrides(overrides), dtype, others, position)
        self._subject = Subject(model, settings, self.x)
        found = self._subject.variants(kinds, own, most_work)
        self.variants: list[Variant] = [self._subject.base, *found]

    @property
    def computed(self) -> list[Variant]:
        """The variants whose kernels are computed, the model as it is first."""
        return [v for v in self.variants if v.kernel is not None]

    @property
    def _test_rows(self) -> int:
        return 0 if self.task.test is None else len(self.task.test)

    @property
    def _signals_file(self) -> str:
        return f"signals-{self._signal_rows}.json"

    def cost(self, out: str | os.PathLike[str] | None = None, *, measure: bool = True) -> Cost:
        """Time, memory and disk that it will take, less what `out` holds already.

        Args:
            out: the directory; None for matrices in memory.
            measure: whether the time is measured, on a few rows.
        """
        folder = None if out is None else as_path("out", out, StoreError)

        def there(name: str) -> bool:
            return folder is not None and (folder / name).is_file()

        works = [(v, (v.kernel, v.work)) for v in self.computed if v.kernel is not None]
        signals = bool(self._signal_rows) and not there(self._signals_file)
        plan = Plan(
            base=self._subject.kernel,
            kernels=[work for _, work in works],
            left=[work for v, work in works if not there(scores_file(v.key))],
            x=self.x,
            rows=self._rows,
            test=self._test_rows,
            subsets=self._groups,
            signal_rows=self._signal_rows if signals else 0,
        )
        return cost_of(plan, folder, measure=measure)

    def run(
        self,
        out: str | os.PathLike[str] | None = None,
        *,
        executor: Any = "auto",
        told: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
    ) -> XRay:
        """Make the X-ray; errors are those of `xray`.

        Args:
            out: the directory; None for none.
            executor: as for `gram`.
            told: called with (name of a variant, variants done, variants in all).
        """
        with ExitStack() as stack:
            if out is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            else:
                folder = as_path("out", out, StoreError)
            work = Directory(folder, self._identity())
            report = self._made(work, executor, told)
            if out is not None:
                report.save(folder)
        return report

    def _identity(self) -> dict[str, Any]:
        """The facts that tell the directory of one X-ray from that of another."""
        digest = hashlib.sha256()
        arrays = [*arrays_of(self.x), self.task.y]
        if self.test is not None and self.task.test is not None:
            arrays += [*arrays_of(self.test), self.task.test]
        for array in arrays:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(
                repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
            )
        return {
            "format": _FORMAT,
            "xray": self._subject.base.key,
            "data_sha256": digest.hexdigest(),
            "subsets": self._groups,
            "seed": self._seed,
        }

    def _made(self, work: Directory, executor: Any, told: Callable[[str, int, int], None]) -> XRay:
        subsets = subsets_of(self._rows, self._groups, self._seed)
        scores: dict[str, Scores] = {}
        reasons: dict[str, str] = {}
        files = {variant.name: work.keep(variant) for variant in self.variants}
        for number, variant in enumerate(self.computed):
            told(variant.name, number, len(self.computed))
            try:
                scores[variant.name] = self._scores(variant, subsets, work, executor)
            except NumericalError as error:
                if variant is self._subject.base:
                    raise
                reasons[variant.name] = str(error)
        told("signal flow", len(self.computed), len(self.computed))
        signals: tuple[LayerSignal, ...] = ()
        if self._signal_rows:
            signals = self._signals(work)
        labels = self.task.y
        return XRay(
            model=self._subject.name,
            regression=self.task.regression,
            rows=self._rows,
            test_rows=self._test_rows,
            classes=0 if self.task.regression else len(np.unique(labels)),
            subsets=self._groups,
            seed=self._seed,
            comparisons=(len(scores) - 1) * (2 + (self.test is not None)),
            base=Summary.of(scores[self._subject.base.name]),
            findings=ordered(self._findings(scores, reasons, files)),
            signals=signals,
            signal_rows=self._signal_rows if signals else 0,
            graph=self._subject.graph,
        )

    def _scores(
        self, variant: Variant, subsets: Sequence[Indices], work: Directory, executor: Any
    ) -> Scores:
        kernel, earlier = variant.kernel, work.scores(variant.key)
        if earlier is not None or kernel is None:
            return earlier  # type: ignore[return-value]
        task = self.task
        if task.regression:
            task = without_mean(task, kernel, self.x, self.test)
        matrix = work.matrix(kernel, f"{variant.key}.zarr", self.x, executor=executor)
        cross = None
        if self.test is not None:
            name = f"{variant.key}.cross.zarr"
            cross = work.matrix(kernel, name, self.test, self.x, executor=executor)
        found = scored(matrix, task, subsets, cross)
        work.write(scores_file(variant.key), found.state())
        return found

    def _signals(self, work: Directory) -> tuple[LayerSignal, ...]:
        rows = slice(0, self._signal_rows)
        state = work.read(self._signals_file)
        if state is None:
            found = signals_of(
                self._subject.kernel,
                taken(self.x, rows),
                self.task.y[rows],
                regression=self.task.regression,
                seed=self._seed,
            )
            work.write(self._signals_file, {"signals": [asdict(s) for s in found]})
            return found
        return tuple(_signal_from(entry) for entry in state["signals"])

    def _findings(
        self, scores: Mapping[str, Scores], reasons: Mapping[str, str], files: Mapping[str, str]
    ) -> list[Finding]:
        base = scores[self._subject.base.name]
        names = [v.name for v in self.variants[1:] if v.name in scores]
        measures = ["error", "nats", *(["test_error"] if self.test is not None else [])]
        families = [[_sample(scores[n], base, measure) for n in names] for measure in measures]
        tested = differences(families)
        by_name = {
            name: dict(zip(measures, found, strict=True))
            for name, found in zip(names, zip(*tested, strict=True), strict=True)
        }
        return [
            _compared(_listed(v, files, reasons), by_name[v.name], scores[v.name], base)
            if v.name in scores
            else _listed(v, files, reasons)
            for v in self.variants[1:]
        ]


def _listed(variant: Variant, files: Mapping[str, str], reasons: Mapping[str, str]) -> Finding:
    """A variant without numbers."""
    name = variant.name
    return Finding(
        kind=variant.kind,
        name=name,
        text=variant.text,
        file=files[name],
        work=variant.work,
        same_as=variant.same_as,
        reason=reasons.get(name, variant.reason),
    )


def _compared(
    finding: Finding, found: Mapping[str, Difference], scores: Scores, base: Scores
) -> Finding:
    """A variant with its scores, beside those of the model."""
    error = Sample(np.zeros(2), _parts(scores, base, "evidence")).group_error
    gained = Evidence(scores.evidence - base.evidence, error)
    return replace(
        finding,
        summary=Summary.of(scores),
        evidence=gained,
        error=found["error"],
        nats=found["nats"],
        test_error=found.get("test_error"),
    )


def _parts(scores: Scores, base: Scores, measure: str) -> Vector:
    pairs = zip(scores.parts, base.parts, strict=True)
    return np.array([getattr(a, measure) - getattr(b, measure) for a, b in pairs])


def _sample(scores: Scores, base: Scores, measure: str) -> Sample:
    """The paired losses of a variant less those of the model."""
    rows = np.array(getattr(scores, measure)) - np.array(getattr(base, measure))
    return Sample(rows, _parts(scores, base, measure), apart=measure == "test_error")


def _signal_from(entry: Mapping[str, Any]) -> LayerSignal:
    fixed = entry["fixed"]
    curve = tuple((float(a), float(b)) for a, b in entry["curve"])
    point = None if fixed is None else FixedPoint(**fixed)
    return LayerSignal(**{**entry, "curve": curve, "fixed": point})
