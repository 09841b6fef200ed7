"""Test error against the number of training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras2gp.errors import InputError
from keras2gp.plots.style import COLOURS, GREY, MARKERS, clean, matplotlib_module, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["learning_curve"]


def learning_curve(table: Mapping[str, Any]) -> Figure:
    """Draw the errors of examples/table1.py, its power laws, and the errors that the paper reports.

    Bars are one standard error of a count. Both axes are logarithmic: a power law is a line, and
    a point without errors is left out.

    Args:
        table: {"settings": {"test": M, ...}, "rows": {name: {"points": {N: {"test_error": e}},
            "extrapolation": {"train", "error", "low", "high", "factor", "exponent", "fitted_to"}
            or None, "title": text, "paper_test_error": e}}}.

    Returns:
        A figure of one panel.

    Raises:
        InputError: the table is not of that form, or holds no point.

    >>> from keras2gp import plots
    >>> points = {"100": {"test_error": 0.2}, "200": {"test_error": 0.12}}
    >>> row = {"points": points, "extrapolation": None, "title": "A", "paper_test_error": 0.01}
    >>> table = {"settings": {"test": 500, "data": "sample"}, "rows": {"convnet": row}}
    >>> plots.learning_curve(table).axes[0].get_xscale()
    'log'
    """
    try:
        settings, rows = table["settings"], table["rows"]
        points = {name: _points(row) for name, row in rows.items()}
        tests = int(settings["test"])
        if tests < 1:
            raise ValueError(f"{tests} test images")
        source = plain(f"{settings['data']}, {tests} test images")
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise InputError(f"no learning curve, as examples/table1.py writes it: {error}") from error
    if not any(len(pairs) for pairs in points.values()):
        raise InputError("the learning curve holds no point with an error above 0")
    figure = new_figure(6.4, 4.4)
    ticker = matplotlib_module("matplotlib.ticker")
    axes = figure.subplots()
    for number, (name, row) in enumerate(rows.items()):
        if not len(points[name]):
            continue
        n, e = points[name].T
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        spread = np.sqrt(e * (1 - e) / tests)
        axes.errorbar(
            n, e, spread, label=plain(row.get("title", name)), linestyle="", markersize=5,
            elinewidth=0.8, color=colour, marker=marker,
        )  # fmt: skip
        if fit := row.get("extrapolation"):
            _draw_fit(axes, fit, colour, 1.06**number)
        if paper := row.get("paper_test_error"):
            axes.plot(
                50_000, paper, marker="*", markersize=11, markerfacecolor="none",
                markeredgecolor=colour, linestyle="",
            )  # fmt: skip
    axes.plot([], [], color=GREY, linestyle="--", label="power law, and its standard error")
    if any(row.get("paper_test_error") for row in rows.values()):
        axes.plot(
            [], [], marker="*", markersize=11, markerfacecolor="none", markeredgecolor=GREY,
            linestyle="", label="the paper, MNIST",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace(",", " "))
    clean(axes, f"Learning curve: {source}", "training images", "test error")
    axes.legend(fontsize=8, frameon=False)
    return figure


def _points(row: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Numbers of images and errors, [points, 2], without errors of 0.

    Raises: KeyError, TypeError and the like if the row is malformed.
    """
    pairs = [(int(n), float(point["test_error"])) for n, point in row["points"].items()]
    if not all(n > 0 and 0.0 <= error <= 1.0 for n, error in pairs):
        raise ValueError("a point without images, or an error that is no fraction")
    return np.array(sorted(pair for pair in pairs if pair[1] > 0.0), float).reshape(-1, 2)


def _draw_fit(axes: Any, fit: Mapping[str, Any], colour: str, aside: float) -> None:
    """Draw a power law; the bar at its end is a factor aside, so that bars stay apart."""
    ends = np.array([min(fit["fitted_to"]), fit["train"]], float)
    law = fit["factor"] * ends ** -fit["exponent"]
    axes.plot(ends, law, color=colour, linestyle="--", linewidth=1)
    reach = [[fit["error"] - fit["low"]], [fit["high"] - fit["error"]]]
    axes.errorbar(fit["train"] * aside, fit["error"], reach, color=colour, capsize=4, linewidth=1)
