"""Random networks of growing width beside the kernel that is their limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.plots.style import ACCENT, COLOURS, GREY, clean, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["convergence"]


def convergence(report: Mapping[str, Any]) -> Figure:
    """Draw a report of `verify`: variances against 1 / width, and all second moments.

    Left: the networks' mean output variance relative to the kernel's, with one standard error,
    and the extrapolation to infinite width. Right: |C - K| / |K| (Frobenius) of all second moments
    of the outputs, and the value that their standard errors alone would give.

    Args:
        report: the document that `keras2gp verify --json` prints: {"model", "verdict", "kernel"
            [N][N], "levels": [{"width", "variance", "error", "covariance" [N][N], "errors"
            [N][N]}], "variance", "error"}.

    Returns:
        A figure of two panels.

    Raises:
        InputError: the report is not of that form.
    """
    try:
        levels = sorted(report["levels"], key=lambda level: level["width"])
        width = np.array([level["width"] for level in levels], float)
        variance = np.array([level["variance"] for level in levels], float)
        error = np.array([level["error"] for level in levels], float)
        kernel = np.array(report["kernel"], float)
        scale = np.linalg.norm(kernel)
        moments = np.array([level["covariance"] for level in levels], float) - kernel
        noise = np.array([level["errors"] for level in levels], float)
        limit = float(report["variance"]), float(report["error"])
        title = plain(f"{report['model']}: {report['verdict']}")
    except (KeyError, TypeError, ValueError, ArithmeticError) as problem:
        raise InputError(
            f"no document of keras2gp verify --json: {received_text(problem, 200)}"
        ) from problem
    if not len(width) or moments.ndim != 3 or noise.shape != moments.shape or not scale > 0.0:
        raise InputError("no document of keras2gp verify --json: no matrices of one shape")
    if not (
        (width > 0.0).all() and (error >= 0.0).all() and np.isfinite([*limit, *variance]).all()
    ):
        raise InputError("no document of keras2gp verify --json: its numbers are impossible")

    figure = new_figure(8.0, 3.6)
    left, right = figure.subplots(1, 2)
    left.axhline(1.0, color=GREY, linewidth=1, linestyle="--", label="the kernel")
    left.errorbar(
        1 / width, variance, error, color=COLOURS[0], marker="o", markersize=5, linestyle="",
        elinewidth=0.9, capsize=2, label="networks",
    )  # fmt: skip
    left.errorbar(
        0.0, limit[0], limit[1], color=ACCENT, marker="D", markersize=6, capsize=3, linestyle="",
        label="their limit",
    )  # fmt: skip
    left.set_xlim(-0.06 / width.min(), None)
    left.set_xticks([0.0, *1 / width], ["1/∞", *(f"1/{w:g}" for w in width)], rotation=45)
    clean(left, title, "1 / width", "variance / kernel's")
    left.legend(fontsize=8, frameon=False)

    right.plot(
        width, np.linalg.norm(moments, axis=(1, 2)) / scale, "o-", color=COLOURS[0], markersize=5,
        label="deviation from the kernel",
    )  # fmt: skip
    right.plot(
        width, np.linalg.norm(noise, axis=(1, 2)) / scale, "s--", color=GREY, markersize=4,
        label="from the number of draws alone",
    )  # fmt: skip
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xticks(width, [f"{w:g}" for w in width])
    clean(right, "second moments of all pairs", "width", "relative deviation")
    right.legend(fontsize=8, frameon=False)
    return figure
