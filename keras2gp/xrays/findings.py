"""The findings of an X-ray: each variant's worth, and the signals, as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras2gp.xrays.comparisons import Difference
from keras2gp.xrays.scores import Scores
from keras2gp.xrays.signals import LayerSignal
from keras2gp.xrays.variants import GraphRow

__all__ = ["Evidence", "Finding", "Findings", "Summary", "ordered"]


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
class Evidence:
    """Evidence of a variant less that of the model, in nats for each row, with a jackknife error.

    It is no mean over rows, and is not among the tested differences.
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
    summary: Summary | None = None
    error: Difference | None = None
    nats: Difference | None = None
    test_error: Difference | None = None
    evidence: Evidence | None = None
    same_as: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Findings:
    """All that an X-ray has found.

    Attributes:
        model: its name.
        regression: whether the targets are real numbers.
        rows, test_rows: numbers of images.
        classes: number of classes; 0 of a regression.
        subsets, seed: of the jackknife.
        kind: of all kernels, "nngp" or "ntk".
        comparisons: differences that are tested together.
        base: the model as it is.
        findings: every variant; the computed ones by their difference of the log likelihood.
        signals: every layer of the model.
        signal_rows: images behind these.
        graph: the calls of the model.
    """

    model: str
    regression: bool
    rows: int
    test_rows: int
    classes: int
    subsets: int
    seed: int
    kind: str
    comparisons: int
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
