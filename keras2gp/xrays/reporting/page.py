"""The HTML page of an X-ray: one file without scripts, links to elsewhere, or anything to load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from keras2gp.errors import one_line
from keras2gp.xrays.files import TITLE
from keras2gp.xrays.reporting.findings import Finding, Findings
from keras2gp.xrays.reporting.styles import STYLE
from keras2gp.xrays.reporting.svg import (
    axis_ends,
    curves,
    flow,
    interval,
    is_beyond,
    spectra,
    ticks,
)
from keras2gp.xrays.reporting.text import (
    NO_VARIANCE,
    PHASES,
    columns_text,
    notes_on,
    percent,
    verdict_text,
)

__all__ = ["page"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Whatever a name holds, the page loads nothing and runs nothing."""


def page(xray: Findings) -> str:
    """The page.

    Args:
        xray: the report.
    """
    title = f"{TITLE}{_text(xray.model)}"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            '<a class="skip" href="#variants">To the variants</a>',
            "<header>",
            f"<h1>{title}</h1>",
            *_summary(xray),
            '<nav aria-label="Sections">',
            '<a href="#variants">Variants</a> <a href="#flow">Signal flow</a>',
            '<a href="#rest">Not computed</a> <a href="#method">How to read this</a>',
            "</nav>",
            "</header>",
            "<main>",
            *_variants(xray),
            *_flow(xray),
            *_rest(xray),
            *_method(xray),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _text(value: Any) -> str:
    return escape(one_line(str(value)))


def _summary(xray: Findings) -> Iterator[str]:
    (factor, unit), each = percent(xray), xray.unit
    base = xray.base
    facts = [
        (each, f"{xray.rows:,}"),
        ("leave-one-out error", f"{factor * base.error:.2f}{unit}"),
        ("minus log likelihood", f"{base.nats:.4f} nats/{each[:-1]}"),
        ("evidence", f"{base.evidence:.4f} nats/{each[:-1]}"),
    ]
    if xray.regression:
        facts.append(("outside of 95% intervals", f"{base.calibration:.1%}"))
    else:
        chance = f" (perfect: {base.calibration_by_chance:.1%})"
        facts.append(("calibration error", f"{base.calibration:.1%}{chance}"))
    if base.test_error is not None:
        name = f"error on {xray.test_rows:,} test {each}"
        facts.insert(2, (name, f"{factor * base.test_error:.2f}{unit}"))
    yield '<dl class="facts">'
    yield from (f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in facts)
    yield "</dl>"


def _variants(xray: Findings) -> Iterator[str]:
    each = xray.unit
    yield '<section id="variants" aria-labelledby="variants-title">'
    yield '<h2 id="variants-title">What each part is worth</h2>'
    measures = [("error", 100.0, "error, points of %"), ("nats", 1.0, f"nats per {each[:-1]}")]
    if xray.test_rows:
        measures.append(("test_error", 100.0, "test error, points of %"))
    computed = xray.computed
    scales = {m: axis_ends([getattr(f, m) for f in computed], factor) for m, factor, _ in measures}
    far = any(
        is_beyond(factor * getattr(f, m).mean, scales[m])
        for f in computed
        for m, factor, _ in measures
    )
    yield (
        "<p>Every line is the model with one change, fitted anew to the same "
        f"{xray.rows:,} {each} (or, where it says so, to fewer of them), less the model as it is. "
        "To the right of the line the variant is worse: the part that was changed is worth "
        "something. Behind ± is the standard error. Thick lines are 95% intervals; thin ones hold "
        f"together for all {xray.comparisons} comparisons."
        + (" A line with a gap ends beyond the axis." if far else "")
        + "</p>"
    )
    yield from (f'<p class="note">{_text(note[0].upper() + note[1:])}.</p>' for note in xray.notes)
    if not computed:
        yield "<p>No variant was computed.</p></section>"
        return
    yield '<div class="scroll" tabindex="0" role="region" aria-labelledby="variants-title">'
    yield '<table class="forest"><thead><tr><th scope="col">variant</th>'
    for measure, _, label in measures:
        yield f'<th scope="col">{label}{ticks(scales[measure])}</th>'
    yield f'<th scope="col">what the {each} say</th></tr></thead><tbody>'
    for finding in computed:
        yield from _row(finding, xray, measures, scales)
    yield "</tbody></table></div></section>"


def _row(
    finding: Finding,
    xray: Findings,
    measures: Sequence[tuple[str, float, str]],
    scales: dict[str, tuple[float, float]],
) -> Iterator[str]:
    file = f"<br><code>{_text(finding.file)}</code>" if finding.file else ""
    yield (
        f'<tr><th scope="row"><strong>{_text(finding.name)}</strong>'
        f'<span class="kind">{_text(finding.kind)}</span>'
        f'<span class="text">{_text(finding.text)}{file}</span></th>'
    )
    for measure, factor, label in measures:
        difference = getattr(finding, measure)
        digits = 2 if factor > 1.0 else 4
        number = f"{factor * difference.mean:+.{digits}f} ± {factor * difference.error:.{digits}f}"
        kind = difference.verdict.replace(" ", "-")
        picture = interval(difference, factor, scales[measure])
        number = f'<span class="number">{number}</span>'
        yield f'<td class="{kind}" data-label="{label}">{picture}{number}</td>'
    verdict, needed = verdict_text(finding, xray.unit)
    fewer = f"on {finding.rows:,} of the {xray.unit}" if finding.rows < xray.rows else ""
    more = "".join(f"<span>{_text(words)}</span>" for words in (needed, fewer) if words)
    yield f'<td class="verdict">{_text(verdict)}{more}</td></tr>'


def _flow(xray: Findings) -> Iterator[str]:
    each = xray.unit
    yield '<section id="flow" aria-labelledby="flow-title">'
    yield '<h2 id="flow-title">How signal flows</h2>'
    if not xray.signals:
        why = "It was left out, see above." if xray.minutes is not None else "It was not asked for."
        yield f"<p>{why}</p></section>"
        return
    yield (
        f"<p>The model as it is, layer by layer, on {xray.signal_rows:,} {each}. Arcs are "
        "connections that pass other layers by. The error is that of a wide readout of the layer "
        f"alone, each {each[:-1]} predicted from all others: where it falls, label information "
        "appears; where it rises, it is lost.</p>"
    )
    yield '<div class="scroll" tabindex="0" role="region" aria-labelledby="flow-title">'
    yield flow(xray.graph, xray.signals)
    yield "</div>"
    yield '<div class="pair">'
    yield f"<figure>{curves(xray.signals)}<figcaption>Correlation of two {each} in the data, and "
    yield f"behind each layer. A curve that ends above the diagonal makes {each} alike."
    yield f"</figcaption></figure><figure>{spectra(xray.signals)}<figcaption>Eigenvalues of each "
    yield "layer's centred kernel, largest first, as shares of their sum: a steep curve is a layer "
    yield "of few dimensions.</figcaption></figure>"
    yield from _phases(xray)
    yield "</div>"
    yield from _signal_table(xray)
    yield "</section>"


def _phases(xray: Findings) -> Iterator[str]:
    phases = [(s.path, s.fixed) for s in xray.signals if s.fixed is not None]
    if not phases:
        return
    yield '<figure><div class="scroll" tabindex="0" role="region" aria-label="Fixed points"><table>'
    yield "<thead><tr>"
    heads = ("layer", "phase", "slope", "correlation", "variance")
    yield "".join(f'<th scope="col">{head}</th>' for head in heads) + "</tr></thead><tbody>"
    for path, point in phases:
        variance = "none" if point.variance is None else f"{point.variance:.3g}"
        yield (
            f'<tr><th scope="row">{_text(path)}</th><td>{point.phase}</td>'
            f"<td>{point.slope:.3f}</td><td>{point.correlation:.3f}</td><td>{variance}</td></tr>"
        )
    yield "</tbody></table></div><figcaption>Activations with the weights behind them, repeated "
    yield f"for ever: {PHASES.format(each=xray.unit)}."
    if any(point.variance is None for _, point in phases):
        yield f" {NO_VARIANCE[0].upper()}{NO_VARIANCE[1:]}."
    yield "</figcaption></figure>"


def _signal_table(xray: Findings) -> Iterator[str]:
    yield "<details><summary>The same as a table</summary>"
    yield '<div class="scroll" tabindex="0" role="region" aria-label="Signal flow as a table">'
    yield "<table><thead><tr>"
    heads = (
        *("layer", "class", "variance", "correlation", "same class", "other class", "growth"),
        *("dimension", "largest", "alignment", "error", "information"),
    )
    yield "".join(f'<th scope="col">{head}</th>' for head in heads) + "</tr></thead><tbody>"
    for s in xray.signals:
        cells = [
            _text(s.layer),
            f"{s.variance:.3g}",
            f"{s.correlation:.3f}",
            _number(s.same, ".3f"),
            _number(s.other, ".3f"),
            _number(s.growth, ".3g"),
            f"{s.dimension:.1f}",
            f"{s.top:.1%}",
            f"{s.alignment:.3f}",
            _number(s.error, ".1%"),
            s.change,
        ]
        data = "".join(f"<td>{cell}</td>" for cell in cells)
        yield f'<tr><th scope="row">{_text(s.path)}</th>{data}</tr>'
    yield f"</tbody></table></div><p>{_text(columns_text(xray))}</p></details>"


def _number(value: float | None, text: str) -> str:
    return "" if value is None else format(value, text)


def _rest(xray: Findings) -> Iterator[str]:
    yield '<section id="rest" aria-labelledby="rest-title">'
    yield '<h2 id="rest-title">Not computed</h2>'
    others = [f for f in xray.findings if f.summary is None]
    if not others:
        yield "<p>Every variant was computed.</p></section>"
        return
    yield "<ul>"
    for finding in others:
        why = f"the same kernel as {finding.same_as}" if finding.same_as else finding.reason
        yield f"<li><strong>{_text(finding.name)}</strong>: {_text(why)}</li>"
    yield "</ul></section>"


def _method(xray: Findings) -> Iterator[str]:
    yield '<section id="method" aria-labelledby="method-title">'
    yield '<h2 id="method-title">How to read this</h2>'
    yield from (f"<p>{_text(note)}</p>" for note in notes_on(xray))
    yield "</section>"
