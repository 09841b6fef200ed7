"""From the scores of all variants to findings: paired differences, tested together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from keras2gp._util.arrays import Vector
from keras2gp.xrays.comparisons import Difference, Sample, differences
from keras2gp.xrays.findings import Evidence, Finding, Summary
from keras2gp.xrays.scores import Scores
from keras2gp.xrays.variants import Variant

__all__ = ["findings_of", "measures_of", "sample_of"]


def measures_of(*, tested: bool) -> tuple[str, ...]:
    """The losses that are compared: of rows left out, and of test rows if there are any."""
    return ("error", "nats", "test_error") if tested else ("error", "nats")


def findings_of(
    variants: Sequence[Variant],
    scores: Mapping[str, Scores],
    base: Scores,
    files: Mapping[str, str],
    reasons: Mapping[str, str],
) -> list[Finding]:
    """The findings of all variants, in their order.

    Args:
        variants: without the model as it is.
        scores: of those that were computed, by name.
        base: of the model as it is.
        files: names of the saved models, by name.
        reasons: why a kernel that was to be computed was not, by name.
    """
    names = [v.name for v in variants if v.name in scores]
    measures = measures_of(tested=bool(base.test_error))
    families = [[sample_of(scores[n], base, measure) for n in names] for measure in measures]
    tested = differences(families)
    by_name = {
        name: dict(zip(measures, found, strict=True))
        for name, found in zip(names, zip(*tested, strict=True), strict=True)
    }
    return [
        _compared(_listed(v, files, reasons), by_name[v.name], scores[v.name], base)
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


def sample_of(scores: Scores, base: Scores, measure: str) -> Sample:
    """The paired losses of a variant less those of the model."""
    rows = np.array(getattr(scores, measure)) - np.array(getattr(base, measure))
    return Sample(rows, _parts(scores, base, measure), apart=measure == "test_error")
