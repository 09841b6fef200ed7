"""The words of an X-ray: verdicts, units and notes, and the report as text of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np

from keras2gp._util.text import printable, shortened
from keras2gp.errors import one_line
from keras2gp.xrays.files import TITLE
from keras2gp.xrays.measuring.comparisons import ALPHA
from keras2gp.xrays.reporting.findings import Finding, Findings

__all__ = [
    "NO_VARIANCE",
    "PHASES",
    "columns_text",
    "notes_on",
    "percent",
    "rounded",
    "text_of",
    "verdict_text",
]


def percent(xray: Findings) -> tuple[float, str]:
    """Factor and unit of errors: percent of labels, or of the targets' variance."""
    return 100.0, "% of variance" if xray.regression else "%"


def rounded(count: int) -> int:
    """A number in two digits, upwards."""
    unit = 10 ** max(len(str(count)) - 2, 0)
    return int(-(-count // unit) * unit)


def verdict_text(finding: Finding, unit: str) -> tuple[str, str]:
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
    least = _at_least(finding)
    more = "" if least is None else f"fewer than about {rounded(least):,} would not show one either"
    return f"no difference that {finding.rows:,} {unit} could show", more


def _at_least(finding: Finding) -> int | None:
    """The rows below which neither difference would be shown.

    None where that is not known, or says nothing, as there are as many.
    """
    found = (finding.error, finding.nats)
    least = [d.needed_at_least for d in found if d is not None and d.needed_at_least is not None]
    return min(least) if least and min(least) > finding.rows else None


def notes_on(xray: Findings) -> tuple[str, ...]:
    """How the numbers are meant, a paragraph each."""
    loss = (
        "The error is the squared error of the mean, relative to the variance of the targets"
        if xray.regression
        else "The error is the share of wrong labels"
    )
    unit = xray.unit
    errors = (
        f"Errors are standard errors of paired differences. They take in that {unit} differ, and, "
        f"by {xray.subsets} random halvings of them, each half fitted anew, that other {unit} "
        "would have given another fit. A verdict is corrected for the number of comparisons "
        f"(Holm): the probability of any wrong one is {ALPHA:.0%} at most."
    )
    needed = (
        f"Fewer {unit} than a stated number show the difference in less than four cases of five, "
        "even if it is the largest one of an interval of 80%. How many would show it, these "
        f"{unit} do not say: the difference may be smaller, or none, and with more {unit} most "
        "differences shrink, as both models learn the same."
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
        f"each {unit[:-1]} is predicted from all others, in closed form. Every variant has a noise "
        "and a scale of its own, chosen as a fit chooses them. A variant that takes much longer "
        f"than the model is compared with it on fewer {unit}, random ones of these."
    )
    batches = batches_text(xray)
    return left_out, errors, needed, *((batches,) if batches else ()), limit


def batches_text(xray: Findings) -> str:
    """The note on BatchNormalizations that are left out; "" where there is none."""
    removed = any(finding.kind == "normalization" for finding in xray.computed)
    if not removed or all(row.layer != "BatchNormalization" for row in xray.graph):
        return ""
    return (
        "A BatchNormalization counts at its initial statistics, mean 0 and variance 1, which "
        "divide variances by 1 + epsilon: to leave it out changes next to nothing. What it does "
        "for training, no kernel shows."
    )


def columns_text(xray: Findings) -> str:
    """The meaning of the columns of the signal flow."""
    each, targets = xray.unit, "the targets" if xray.regression else "the labels"
    return (
        "Every row is of a wide readout of one layer, of all of its positions. Variance is the "
        f"mean over the {each}, and corr. the mean correlation of two of them. Growth is how far "
        f"{each} that are nearly equal part, relative to the data: above 1 the layers so far drive "
        "them apart, below 1 together. Dim. is the effective dimension of the centred kernel, the "
        "squared sum of its eigenvalues over the sum of their squares; align. is its alignment "
        f"with {targets}. Information is gained or lost where the leave-one-out error differs from "
        f"that of the layers in front by more than chance, and blank where these {each} show no "
        "difference."
    )


PHASES = "below slope 1 all {each} become alike (order), above it near ones part (chaos)"
"""The meaning of the phases of fixed points."""
NO_VARIANCE = (
    "variance none: it grows or falls without end, and slope and correlation are those far on "
    "the way, or a normalisation sets it, and they are those at the data's"
)
"""Why a fixed point has no variance."""
_WIDTH = 80
_NAME, _LAYER = 28, 19
_CUT = "…"


def text_of(xray: Findings) -> str:
    """The text."""
    return printable("\n".join(_text(xray))) + "\n"


def _text(xray: Findings) -> Iterator[str]:
    (factor, unit), each = percent(xray), xray.unit
    base = xray.base
    yield f"{TITLE}{one_line(xray.model)[:60]}"
    test = f", {xray.test_rows} test {each}" if xray.test_rows else ""
    yield f"{xray.rows} {each}{test}; errors paired over {each}, and {xray.subsets} halvings"
    if xray.kind == "ntk":
        yield "tangent kernels: the means of infinitely wide networks that were trained"
    yield f"claims hold together with {1 - ALPHA:.0%} ({xray.comparisons} comparisons, Holm)"
    for note in xray.notes:
        yield from textwrap.wrap(f"note: {note}", _WIDTH, subsequent_indent="  ")
    yield ""
    kind = "leave-one-out squared error" if xray.regression else "leave-one-out error"
    yield f"as it is: {kind} {factor * base.error:.2f}{unit}, {base.nats:.4f} nats,"
    calibration = "outside of 95% intervals" if xray.regression else "calibration error"
    tested = ""
    if base.test_error is not None:
        tested = f", test error {factor * base.test_error:.2f}{unit}"
    evidence = f"evidence {base.evidence:.4f} nats/{each[:-1]}"
    yield f"  {evidence}, {calibration} {base.calibration:.1%}{tested}"
    yield ""
    if xray.computed:
        yield "variants, less the model as it is, ± a standard error (above 0: it is worse)"
        yield f"  {'':<{_NAME}}  {'error, ' + '%':>14}  {'nats/' + each[:-1]:>17}  verdict"
    else:
        yield "no variant was computed"
    for finding in xray.computed:
        yield from _row(finding, xray.rows)
    if xray.test_rows and xray.computed:
        yield from _tests(xray)
    yield from _notes(xray)
    if xray.signals:
        yield ""
        yield from _signals(xray)


def _row(finding: Finding, rows: int) -> Iterator[str]:
    error, nats = finding.error, finding.nats
    if error is None or nats is None:
        return
    measures = (("error", error), ("nats", nats))
    found = [(d.verdict, name) for name, d in measures if d.verdict != "no difference"]
    verdicts = {v for v, _ in found} if len(found) == 2 else {f"{v}, {name}" for v, name in found}
    errors = f"{100 * error.mean:+6.2f} ± {100 * error.error:<5.2f}"
    likelihoods = f"{nats.mean:+8.4f} ± {nats.error:<6.4f}"
    verdict = " / ".join(sorted(verdicts)) or _needed(finding)
    yield f"  {_named(finding, rows)}  {errors}  {likelihoods}  {verdict}"


def _named(finding: Finding, rows: int) -> str:
    """The name of a variant in its column, with a star if it is on fewer rows."""
    if finding.rows < rows:
        return f"{shortened(finding.name, _NAME - 2, _CUT) + ' *':<{_NAME}}"
    return f"{shortened(finding.name, _NAME, _CUT):<{_NAME}}"


def _tests(xray: Findings) -> Iterator[str]:
    yield ""
    yield f"the same on {xray.test_rows} test {xray.unit}, which no fit saw"
    yield f"  {'':<{_NAME}}  {'error, ' + '%':>14}  verdict"
    for finding in xray.computed:
        tested = finding.test_error
        if tested is None:
            continue
        errors = f"{100 * tested.mean:+6.2f} ± {100 * tested.error:<5.2f}"
        verdict = "-" if tested.verdict == "no difference" else tested.verdict
        yield f"  {_named(finding, xray.rows)}  {errors}  {verdict}"


def _is_unclear(finding: Finding) -> bool:
    found = (finding.error, finding.nats)
    return all(d is not None and d.verdict == "no difference" for d in found)


def _needed(finding: Finding) -> str:
    """The images below which no difference would be shown; "-" where that is not known."""
    least = _at_least(finding)
    return "-" if least is None else f"- {rounded(least):,}+"


def _notes(xray: Findings) -> Iterator[str]:
    yield ""
    each = xray.unit
    unclear = [f for f in xray.computed if _is_unclear(f)]
    if unclear:
        shown = [100.0 * f.error.detectable for f in unclear if f.error and f.error.error]
        text = (
            f"-: no difference that {xray.rows} {each} could show. Fewer {each} than the number "
            "behind it show one in less than four cases of five, even if it is the largest one of "
            f"an interval of 80%. More may be needed: most differences shrink as {each} are added."
        )
        if shown:
            least = float(np.median(shown))
            text += (
                f" {xray.rows} {each} show differences of the error from about {least:.1f}% on, "
                "the median over these variants."
            )
        yield from textwrap.wrap(text, _WIDTH)
    yield from textwrap.wrap(batches_text(xray), _WIDTH)
    if xray.computed:
        yield ""
        yield "the variants"
    for finding in xray.computed:
        text = f"{one_line(finding.name)}: {one_line(finding.text)}"
        yield from textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")
    fewer = [f for f in xray.computed if f.rows < xray.rows]
    if fewer:
        yield f"*: on fewer {each}, with the model as it is on the same ones:"
        listed = ", ".join(f"{one_line(f.name)} on {f.rows}" for f in fewer)
        yield from textwrap.wrap(listed, _WIDTH, initial_indent="   ", subsequent_indent="   ")
    others = [f for f in xray.findings if f.summary is None]
    if others:
        yield ""
        yield "not computed"
    for finding in others:
        why = f"the same kernel as {finding.same_as}" if finding.same_as else finding.reason
        text = f"{one_line(finding.name)}: {one_line(why)}"
        yield from textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _signals(xray: Findings) -> Iterator[str]:
    yield f"signal flow, on {xray.signal_rows} {xray.unit}"
    head = f"{'variance':>9} {'corr.':>6} {'growth':>7} {'dim.':>6} {'align.':>6} {'error':>6}"
    yield f"  {'layer':<{_LAYER}} {head}  information"
    for s in xray.signals:
        growth = "" if s.growth is None else f"{s.growth:7.3g}"
        error = "" if s.error is None else f"{100 * s.error:5.1f}%"
        yield (
            f"  {shortened(s.path, _LAYER, _CUT):<{_LAYER}} {s.variance:9.3g} {s.correlation:6.3f}"
            f" {growth:>7} {s.dimension:6.1f} {s.alignment:6.3f} {error:>6}  {s.change}"
        ).rstrip()
    yield from textwrap.wrap(columns_text(xray), _WIDTH)
    phases = [s for s in xray.signals if s.fixed is not None]
    if phases:
        yield ""
        yield "activations with the weights behind them, repeated for ever"
    for s in phases:
        if s.fixed is None:
            continue
        q = "none" if s.fixed.variance is None else f"{s.fixed.variance:.3g}"
        slope, correlation = f"slope {s.fixed.slope:.3f}", f"{s.fixed.correlation:.3f}"
        line = f"{s.fixed.phase:<6} {slope}, correlation to {correlation}, variance {q}"
        yield f"  {shortened(s.path, _LAYER, _CUT):<{_LAYER}} {line}"
    if phases:
        yield from textwrap.wrap(PHASES.format(each=xray.unit), _WIDTH)
    if any(s.fixed is not None and s.fixed.variance is None for s in phases):
        yield from textwrap.wrap(f"{NO_VARIANCE}.", _WIDTH)
