"""The pictures of the page as SVG: intervals, the graph with its signals, correlation curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from statistics import median

from keras2gp.errors import one_line
from keras2gp.xrays.measuring.comparisons import Difference
from keras2gp.xrays.measuring.signals import LayerSignal
from keras2gp.xrays.variants.subject import GraphRow

__all__ = ["axis_ends", "curves", "flow", "interval", "is_beyond", "spectra", "ticks"]

_WIDTH, _HEIGHT = 165, 22
_FAR = 10.0
"""Times the median reach of all intervals that an axis goes to at most."""
_INSET = 8.0
"""Of a marker beyond the axis, from its end."""
_ROW = 24
_COLUMN = 158
_NAMES = 190
_ARCS = 90
_CURVES = 6
_CLASSES = "corr.: ● same ○ other"
_COLOURS = ("#5b8fd6", "#3aa0a0", "#5aa64a", "#b59a2a", "#d9822b", "#c4553b")
"""From the first layer to the last; readable on light and on dark ground."""


def axis_ends(found: Iterable[Difference | None], factor: float) -> tuple[float, float]:
    """The ends of an axis that shows all intervals, but those far beyond the others."""
    known = [(factor * d.low, factor * d.high) for d in found if d is not None]
    far = _FAR * median(max(-low, high) for low, high in known) if known else 0.0
    ends = [min(max(v, -far), far) for pair in known for v in pair]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _at(value: float, ends: tuple[float, float]) -> float:
    share = (value - ends[0]) / (ends[1] - ends[0])
    return round(_WIDTH * min(max(share, 0.0), 1.0), 1)


def ticks(ends: tuple[float, float]) -> str:
    """The axis above a column of intervals."""
    step = _step((ends[1] - ends[0]) / 4.0)
    first = math.ceil(ends[0] / step)
    parts = [f'<svg width="{_WIDTH}" height="18" aria-hidden="true">']
    for n in range(first, math.floor(ends[1] / step) + 1):
        x, text = _at(n * step, ends), f"{n * step:g}"
        if 3.5 * len(text) <= x <= _WIDTH - 3.5 * len(text):
            parts.append(_label(x, 13, text, "middle"))
    return "".join(parts) + "</svg>"


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * n for n in (1.0, 2.0, 5.0, 10.0) if power * n >= rough)


def interval(difference: Difference, factor: float, ends: tuple[float, float]) -> str:
    """A difference with its two intervals."""
    low, high, least, most, mean = (
        _at(factor * v, ends)
        for v in (
            *(difference.low, difference.high),
            *(difference.low_of_all, difference.high_of_all, difference.mean),
        )
    )
    zero, middle = _at(0.0, ends), _HEIGHT / 2
    text = f"{factor * difference.mean:+.3g}, 95% interval {factor * difference.low:.3g} to "
    text += f"{factor * difference.high:.3g}: {difference.verdict}"
    lines = _line("mark", least, middle, most, middle, width=1)
    lines += _line("mark", low, middle, high, middle, width=4)
    if is_beyond(factor * difference.mean, ends):
        mean = min(max(mean, _INSET), _WIDTH - _INSET)
        lines = _broken(zero, mean)
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{escape(text)}">'
        f"<title>{escape(text)}</title>{_line('zero', zero, 0, zero, _HEIGHT)}"
        f"{lines}{_marker(difference.verdict, mean, middle)}</svg>"
    )


def is_beyond(mean: float, ends: tuple[float, float]) -> bool:
    """Whether a mean is far beyond the ends of the axis."""
    return not ends[0] <= mean <= ends[1]


def _broken(zero: float, end: float) -> str:
    """A line with a gap, from 0 to a marker of a mean beyond the axis."""
    near, middle = zero + 0.8 * (end - zero), _HEIGHT / 2
    left, right = sorted((zero, end))
    lines = _line("zero", left, middle, round(near - 2.5, 1), middle)
    lines += _line("zero", round(near + 2.5, 1), middle, right, middle)
    for x in (near - 1.0, near + 4.0):
        lines += _line("zero", round(x, 1), middle - 5, round(x - 3.0, 1), middle + 5)
    return lines


def _line(kind: str, x1: float, y1: float, x2: float, y2: float, *, width: int = 0) -> str:
    thick = f' stroke-width="{width}"' if width else ""
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"{thick}/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="soft" {where}>{escape(text)}</text>'


def _marker(verdict: str, x: float, y: float) -> str:
    """A shape for each verdict, so that colour is not all that tells them."""
    if verdict == "no difference":
        return f'<circle class="mark" cx="{x}" cy="{y}" r="4.5"/>'
    tip = 7.0 if verdict == "worse" else -7.0
    return f'<path class="mark" d="M{x + tip:.1f} {y}L{x - tip:.1f} {y - 6}V{y + 6}Z"/>'


def flow(graph: Sequence[GraphRow], signals: Sequence[LayerSignal]) -> str:
    """The graph, a layer a row, with arcs for connections, and the signals behind the layers."""
    rows = list(_rows(graph, signals))
    height = _ROW * (len(rows) + 1) + 8
    columns = _columns(signals)
    width = _ARCS + _NAMES + _COLUMN * len(columns)
    label = f"{len(graph)} layers with variance, correlations, dimension, alignment and error"
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [f'<svg {size} role="img" aria-label="{label}">']
    place = {path: n for n, (path, _, _, _) in enumerate(rows)}
    for n, (path, layer, sources, signal) in enumerate(rows):
        y = _ROW * (n + 1.5)
        parts.append(_layer(path, layer, y))
        parts += [_arc(place[source], n) for source in sources if source in place]
        if signal is not None:
            for c, (_, draw) in enumerate(columns):
                parts.append(draw(signal, _ARCS + _NAMES + c * _COLUMN, y))
    for c, (head, _) in enumerate(columns):
        x = _ARCS + _NAMES + c * _COLUMN
        parts.append(f'<text class="soft" x="{x}" y="16">{head}</text>')
    return "".join(parts) + "</svg>"


_Row = tuple[str, str, tuple[str, ...], LayerSignal | None]


def _rows(graph: Sequence[GraphRow], signals: Sequence[LayerSignal]) -> Iterator[_Row]:
    """Path, class, sources and signal of every row: inputs, layers, and layers of nested models."""
    left = {signal.path: signal for signal in signals}
    inputs = [path for path in left if path == "input" or path.startswith("input ")]
    if "input" not in left:
        yield "input", "", (), None
    for path in inputs:
        yield path, "", (), left.pop(path)
    for row in graph:
        sources = tuple(graph[i].path if i >= 0 else "input" for i in row.sources)
        for path in [path for path in left if path.startswith(f"{row.path}/")]:
            yield path, left[path].layer, (), left.pop(path)
        yield row.path, row.layer, sources, left.pop(row.path, None)


def _layer(path: str, layer: str, y: float) -> str:
    name = one_line(path)
    short = name if len(name) <= 24 else f"{name[:23]}…"
    whole = f"{name} ({layer})" if layer else name
    return (
        f"<g><title>{escape(whole)}</title>"
        f'<circle class="dot" cx="{_ARCS - 8}" cy="{y}" r="4"/>'
        f'<text x="{_ARCS + 4}" y="{y + 4}">{escape(short)}</text></g>'
    )


def _arc(start: int, end: int) -> str:
    x, y1, y2 = _ARCS - 8, _ROW * (start + 1.5), _ROW * (end + 1.5)
    if end - start == 1:
        return _line("arc", x, y1, x, y2)
    reach = min(14.0 + 7.0 * math.log2(abs(end - start)) * 1.6, _ARCS - 14.0)
    return f'<path class="arc" d="M{x} {y1}C{x - reach:.1f} {y1} {x - reach:.1f} {y2} {x} {y2}"/>'


_Draw = Callable[[LayerSignal, float, float], str]


def _columns(signals: Sequence[LayerSignal]) -> list[tuple[str, _Draw]]:
    """The heads and drawings of the columns, each on a scale of its own."""
    size = _COLUMN - 72.0
    logs = [math.log10(s.variance) for s in signals if s.variance > 0.0]
    low, high = min(logs, default=0.0) - 0.1, max(logs, default=1.0) + 0.1
    widest = max((s.dimension for s in signals), default=1.0) or 1.0
    errors = [s.error for s in signals if s.error is not None]
    worst = max(errors, default=1.0) or 1.0
    classes = any(s.same is not None or s.other is not None for s in signals)

    def variance(s: LayerSignal, x: float, y: float) -> str:
        share = (math.log10(s.variance) - low) / (high - low) if s.variance > 0.0 else 0.0
        return _bar(x, y, share * size, f"{s.variance:.3g}")

    def correlation(s: LayerSignal, x: float, y: float) -> str:
        parts = [_line("axis", x, y, x + size, y)]
        of_classes = ((s.other, "dot2"), (s.same, "dot"))
        for value, kind in of_classes if classes else ((s.correlation, "dot"),):
            if value is not None:
                at = x + size * min(max(value, 0.0), 1.0)
                parts.append(f'<circle class="{kind}" cx="{at:.1f}" cy="{y}" r="4"/>')
        return "".join(parts) + _number(x + size + 8, y, f"{s.correlation:.2f}")

    def dimension(s: LayerSignal, x: float, y: float) -> str:
        return _bar(x, y, s.dimension / widest * size, f"{s.dimension:.1f}")

    def alignment(s: LayerSignal, x: float, y: float) -> str:
        return _bar(x, y, max(s.alignment, 0.0) * size, f"{s.alignment:.2f}")

    def error(s: LayerSignal, x: float, y: float) -> str:
        if s.error is None:
            return ""
        arrow = {"lost": " ▲", "gained": " ▼"}.get(s.change, "")
        return _bar(x, y, s.error / worst * size, f"{100 * s.error:.1f}%{arrow}", s.change)

    both = _CLASSES if classes else "correlation"
    named = [("variance", variance), (both, correlation), ("dimension", dimension)]
    return [*named, ("alignment", alignment), ("error", error)]


def _bar(x: float, y: float, width: float, text: str, kind: str = "") -> str:
    bar = (
        f'<rect class="bar {kind}" x="{x}" y="{y - 6}" width="{max(width, 1.0):.1f}" height="12"/>'
    )
    return bar + _number(x + width + 5, y, text)


def _number(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y + 4}">{escape(text)}</text>'


_SIDE, _LEFT, _TOP = 300.0, 46.0, 10.0
"""Side of the square of a figure of curves, and where it begins."""


def curves(signals: Sequence[LayerSignal]) -> str:
    """Correlations of two inputs in the data and behind some of the layers."""
    known = _some([s for s in signals if s.curve and not s.path.startswith("input")])
    low = min([0.0, *(v for s in known for p in s.curve for v in p)])

    def at(c: float) -> float:
        return _SIDE * (min(max(c, low), 1.0) - low) / (1.0 - low)

    diagonal = f"M{_LEFT} {_TOP + _SIDE}L{_LEFT + _SIDE} {_TOP}"
    parts = [f'<path class="arc" stroke-dasharray="4 4" d="{diagonal}"/>']
    for value in sorted({low, 0.0, 0.5, 1.0}):
        if value == low or value - low > _APART:
            parts.append(_label(_LEFT + at(value), _TOP + _SIDE + 16, f"{value:.2g}", "middle"))
            parts.append(_label(_LEFT - 6, _TOP + _SIDE - at(value) + 4, f"{value:.2g}", "end"))
    drawn = [(s.path, [(at(a), at(b)) for a, b in s.curve]) for s in known]
    return _figure("correlations behind layers against those in the data", parts, drawn)


def spectra(signals: Sequence[LayerSignal]) -> str:
    """Eigenvalues of the data's kernel and of some of the layers', by rank; both axes in powers."""
    known = _some([s for s in signals if s.spectrum])
    points = [p for s in known for p in s.spectrum]
    most = max([2, *(n for n, _ in points)])
    least = min([0.1, *(share for _, share in points)])

    def x(rank: float) -> float:
        return _SIDE * math.log(rank) / math.log(most)

    def y(share: float) -> float:
        return _SIDE * (1.0 - math.log(share) / math.log(least))

    lowest = math.floor(-math.log10(least))
    parts = [
        *(
            _label(_LEFT + x(10**n), _TOP + _SIDE + 16, f"{10**n}", "middle")
            for n in range(math.floor(math.log10(most)) + 1)
        ),
        *(
            _label(_LEFT - 6, _TOP + _SIDE - y(0.1**n) + 4, _power(n), "end")
            for n in range(0, lowest + 1, max(1, -(-lowest // _MOST_TICKS)))
        ),
    ]
    drawn = [(s.path, [(x(n), y(share)) for n, share in s.spectrum]) for s in known]
    return _figure("shares of eigenvalues by their rank", parts, drawn)


def _power(n: int) -> str:
    """0.1^n in few enough letters for the margin."""
    return f"{0.1**n:g}" if n < _MOST_ZEROS else f"1e-{n}"


_MOST_TICKS, _MOST_ZEROS = 6, 4
_APART = 0.1
"""Distance on the axis below which two numbers would touch."""


def _some(known: Sequence[LayerSignal]) -> list[LayerSignal]:
    """A few layers, from the first to the last."""
    step = max(len(known) - 1, 1) / max(min(_CURVES, len(known)) - 1, 1)
    return [known[round(i * step)] for i in range(min(_CURVES, len(known)))]


def _figure(
    label: str, axes: Sequence[str], drawn: Sequence[tuple[str, Sequence[tuple[float, float]]]]
) -> str:
    """A square with named curves, points from its lower left, and a legend below it."""
    box = f"0 0 {_LEFT + _SIDE + 10} {_TOP + _SIDE + 34 + 18 * len(drawn)}"
    parts = [
        f'<svg viewBox="{box}" role="img" aria-label="{label}">',
        f'<rect class="arc" x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}"/>',
        *axes,
    ]
    for n, (name, points) in enumerate(drawn):
        colour = _COLOURS[round(n * (len(_COLOURS) - 1) / max(len(drawn) - 1, 1))]
        path = " ".join(f"{_LEFT + a:.1f},{_TOP + _SIDE - b:.1f}" for a, b in points)
        y = _TOP + _SIDE + 38 + 18 * n
        line = f'fill="none" stroke="{colour}" stroke-width="2.2"'
        parts.append(f'<polyline points="{path}" {line}/>')
        parts.append(f'<path d="M{_LEFT} {y - 4}h24" {line}/>')
        parts.append(f'<text x="{_LEFT + 32}" y="{y}">{escape(one_line(name)[:36])}</text>')
    return "".join(parts) + "</svg>"
