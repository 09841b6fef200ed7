"""The words of a report: verdicts, units, and how its numbers are meant."""

from __future__ import annotations

from keras2gp.xrays.comparisons import ALPHA
from keras2gp.xrays.findings import Finding, Findings

__all__ = ["notes_on", "percent", "rounded", "verdict_text"]


def percent(xray: Findings) -> tuple[float, str]:
    """Factor and unit of errors: percent of labels, or of the targets' variance."""
    return 100.0, "% of variance" if xray.regression else "%"


def rounded(count: int) -> int:
    """A number in two digits, upwards."""
    unit = 10 ** max(len(str(count)) - 2, 0)
    return int(-(-count // unit) * unit)


def verdict_text(xray: Findings, finding: Finding) -> tuple[str, str]:
    """The verdict of the rows on a variant, and how many would say more; "" for neither."""
    error, nats = finding.error, finding.nats
    if error is None or nats is None:
        return "", ""
    tested = [d for d in (error, nats, finding.test_error) if d is not None]
    found = list(dict.fromkeys(d.verdict for d in tested if d.verdict != "no difference"))
    if len(found) == 1:
        return f"{found[0]} than the model", ""
    if found:
        return "better in one measure, worse in another", ""
    needed = [d.needed for d in (error, nats) if d.needed is not None]
    more = f"about {rounded(min(needed)):,} would show one of this size" if needed else ""
    return f"no difference that {xray.rows:,} images could show", more


def notes_on(xray: Findings) -> tuple[str, ...]:
    """How the numbers are meant, a paragraph each."""
    loss = (
        "The error is the squared error of the mean, relative to the variance of the targets"
        if xray.regression
        else "The error is the share of wrong labels"
    )
    errors = (
        "Errors are standard errors of paired differences. They take in that images differ, and, "
        f"by a jackknife over {xray.subsets} random groups of images, that other images would "
        "have given another fit. A verdict is corrected for the number of comparisons (Holm): the "
        f"probability of any wrong one is {ALPHA:.0%} at most."
    )
    needed = (
        "Numbers of images that would be needed take the difference for the true one, and show it "
        "in four cases of five, as long as errors fall with the square root of their number."
    )
    network = (
        "network before training, as a Gaussian process"
        if xray.kind == "nngp"
        else "network after gradient descent without end: a Gaussian process with its tangent "
        "kernel has the same mean, and its likelihoods take that kernel for a covariance. The "
        "signal flow is that before training"
    )
    limit = f"All of this is the infinitely wide {network}. Finite, trained networks can differ."
    left_out = (
        f"{loss}; nats are minus the log probability of what was left out. Both are leave-one-out: "
        "each image is predicted from all others, in closed form. Every variant has a noise and a "
        "scale of its own, chosen as a fit chooses them."
    )
    return left_out, errors, needed, limit
