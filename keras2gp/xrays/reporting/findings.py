"""The findings of an X-ray, as plain data, and how the scores of all variants become findings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras2gp._util.arrays import Vector
from keras2gp.xrays.measuring.comparisons import Difference, Sample, differences
from keras2gp.xrays.measuring.scores import Scores
from keras2gp.xrays.measuring.signals import LayerSignal
from keras2gp.xrays.variants.subject import GraphRow, Variant

__all__ = [
    "EvidenceDifference",
    "Finding",
    "Findings",
    "Summary",
    "findings_of",
    "measures_of",
    "ordered",
    "sample_of",
]


@dataclass(frozen=True)
class Summary:
    """The means of a kernel's scores; see Scores."""

    error: float
    nats: float
    test_error: float | None
    evidence: float
    calibration: float
    calibration_by_chance: float
    noise: float
    jitter: float

    @classmethod
    def of(cls, scores: Scores) -> Summary:
        """The means of scores."""
        test = float(np.mean(scores.test_error)) if scores.test_error else None
        return cls(
            float(np.mean(scores.error)),
            float(np.mean(scores.nats)),
            test,
            scores.evidence,
            scores.calibration,
            scores.calibration_by_chance,
            scores.noise,
            scores.jitter,
        )


@dataclass(frozen=True)
class EvidenceDifference:
    """The evidence of a variant less that of the model, in nats for each row.

    It is no mean over rows, and is not among the tested differences.

    Attributes:
        mean: the difference.
        error: its standard error, by halves of the rows.
    """

    mean: float
    error: float


@dataclass(frozen=True)
class Finding:
    """The worth of one variant.

    Attributes:
        kind, name, text: of the ablation.
        file: its model in the directory; "" for none.
        work: of a kernel entry, relative to the model as it is.
        rows: images that it was compared on, with the model as it is on the same ones; 0 for none.
        summary: its scores; None where it is not computed.
        error, nats, test_error: differences of mean losses; above 0 the variant is worse.
        evidence: difference of the evidence.
        same_as: an earlier variant with the same kernel, or "the model".
        reason: why it is not computed.
    """

    kind: str
    name: str
    text: str
    file: str
    work: float
    rows: int = 0
    summary: Summary | None = None
    error: Difference | None = None
    nats: Difference | None = None
    test_error: Difference | None = None
    evidence: EvidenceDifference | None = None
    same_as: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Findings:
    """All that an X-ray has found.

    Attributes:
        model: its name.
        unit: "images" or "rows": what the model is given.
        regression: whether the targets are real numbers.
        rows, test_rows: numbers of images.
        classes: number of classes; 0 of a regression.
        subsets, seed: of the halvings.
        kind: of all kernels, "nngp" or "ntk".
        comparisons: differences that are tested together.
        minutes: what the X-ray was to be done in; None for any.
        notes: what was left out for that, and what the targets are taken for, a sentence each.
        base: the model as it is.
        findings: every variant; the computed ones by their difference of the log likelihood.
        signals: every layer of the model.
        signal_rows: images behind these.
        graph: the calls of the model.
    """

    model: str
    unit: str
    regression: bool
    rows: int
    test_rows: int
    classes: int
    subsets: int
    seed: int
    kind: str
    comparisons: int
    minutes: float | None
    notes: tuple[str, ...]
    base: Summary
    findings: tuple[Finding, ...]
    signals: tuple[LayerSignal, ...]
    signal_rows: int
    graph: tuple[GraphRow, ...]

    @property
    def computed(self) -> tuple[Finding, ...]:
        """The findings that have numbers."""
        return tuple(f for f in self.findings if f.summary is not None)

    def finding(self, name: str) -> Finding:
        """The finding of a variant.

        Args:
            name: of the variant.

        Returns:
            The finding.

        Raises:
            KeyError: there is none.
        """
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Computed findings first, the most harmful ablation at the top; then the others."""

    def loss(finding: Finding) -> float:
        return -math.inf if finding.nats is None else finding.nats.mean

    computed = [f for f in findings if f.summary is not None]
    rest = [f for f in findings if f.summary is None]
    return (*sorted(computed, key=lambda f: (-loss(f), f.name)), *rest)


def measures_of(*, tested: bool) -> tuple[str, ...]:
    """The losses that are compared: of rows left out, and of test rows if there are any."""
    return ("error", "nats", "test_error") if tested else ("error", "nats")


def findings_of(
    variants: Sequence[Variant],
    scores: Mapping[str, Scores],
    bases: Mapping[int, Scores],
    files: Mapping[str, str],
    reasons: Mapping[str, str],
) -> list[Finding]:
    """The findings of all variants, in their order.

    Args:
        variants: without the model as it is.
        scores: of those that were computed, by name.
        bases: of the model as it is, by the number of rows that they are of.
        files: names of the saved models, by name.
        reasons: why a kernel that was to be computed was not, by name.
    """
    names = [v.name for v in variants if v.name in scores]
    measures = measures_of(tested=any(base.test_error for base in bases.values()))
    pairs = {n: (scores[n], bases[len(scores[n].error)]) for n in names}
    families = [[sample_of(*pairs[n], measure) for n in names] for measure in measures]
    tested = differences(families)
    by_name = {
        name: dict(zip(measures, found, strict=True))
        for name, found in zip(names, zip(*tested, strict=True), strict=True)
    }
    return [
        _compared(_listed(v, files, reasons), by_name[v.name], *pairs[v.name])
        if v.name in scores
        else _listed(v, files, reasons)
        for v in variants
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
    error = Sample(np.zeros(2), _parts(scores, base, "evidence")).half_error
    gained = EvidenceDifference(scores.evidence - base.evidence, error)
    return replace(
        finding,
        rows=len(scores.error),
        summary=Summary.of(scores),
        evidence=gained,
        error=found["error"],
        nats=found["nats"],
        test_error=found.get("test_error"),
    )


def _parts(scores: Scores, base: Scores, measure: str) -> Vector:
    pairs = zip(scores.parts, base.parts, strict=True)
    return np.array([getattr(a, measure) - getattr(b, measure) for a, b in pairs])


def sample_of(scores: Scores, base: Scores, measure: str) -> Sample:
    """The paired losses of a variant less those of the model."""
    rows = np.array(getattr(scores, measure)) - np.array(getattr(base, measure))
    within = _within(scores, base) if measure == "nats" else 0.0
    return Sample(rows, _parts(scores, base, measure), within, apart=measure == "test_error")


def _within(scores: Scores, base: Scores) -> float:
    """The variance of the differences of nats within halves; 0.0 where they are not kept."""
    pairs = zip(scores.parts, base.parts, strict=True)
    halves = [np.subtract(a.rows, b.rows).var(ddof=1) for a, b in pairs if a.rows and b.rows]
    return float(np.mean(halves)) if halves else 0.0
