"""The style of all pictures, and the way from a figure to a file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras2gp._util.files import write_file
from keras2gp._util.paths import as_path, suffix_of
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, StoreError, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "COLOURS",
    "GREY",
    "MARK",
    "MARKERS",
    "SUFFIXES",
    "clean",
    "matplotlib_module",
    "new_figure",
    "plain",
    "save",
]

# The palette of Okabe and Ito, for all kinds of colour vision; never without a marker.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
ACCENT = COLOURS[1]
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#666666"
SUFFIXES = (".png", ".svg")
MARK = "keras2gp plot"
"""The program that a picture's metadata name, so that it is told from a user's own picture."""

_RESOLUTION = 150


def matplotlib_module(name: str) -> Any:
    """A module of matplotlib, imported at its first use.

    Raises: InputError if matplotlib, which is an extra, cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"pictures need matplotlib, which does not start ({error}). Try: python -m pip install "
            '"keras2gp[plot]"'
        ) from error


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that is no part of pyplot's global state.

    Raises: InputError if matplotlib is not installed.
    """
    matplotlib_module("matplotlib.figure")
    from keras2gp.plots.figure import NotebookFigure  # noqa: PLC0415 (matplotlib is an extra)

    return NotebookFigure(figsize=(width, height), layout="constrained")


def plain(text: Any, length: int = 200) -> str:
    """Text from data for a picture: one line, not too long, and no formula whatever it holds."""
    line = one_line(str(text))
    return (line if len(line) <= length else f"{line[: length - 3]}...").replace("$", "\\$")


def clean(axes: Any, title: str = "", x: str = "", y: str = "") -> None:
    """Labels, a light grid, and no frame above and to the right."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(True, which="major", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def save(figure: Figure, path: str | Path) -> None:
    """Write a .png or .svg file; the same figure gives the same bytes.

    Args:
        figure: what a function of keras2gp.plots returned.
        path: where to; folders that are missing are made.

    Raises:
        InputError: another suffix, or no figure.
        StoreError: it cannot be written.

    >>> import tempfile
    >>> from keras2gp import plots
    >>> figure = plots.confusion_matrix(["cat", "dog"], ["cat", "cat"])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     plots.save(figure, directory + "/confusion.png")
    """
    path = as_path("path", path)
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: pictures are written to {' or '.join(SUFFIXES)} files")
    if not hasattr(figure, "savefig"):
        raise InputError(f"{received_text(figure)} is no figure: expected one of keras2gp.plots")
    metadata = {"Date": None, "Creator": MARK} if suffix == ".svg" else {"Software": MARK}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib_module("matplotlib").rc_context(
            {"svg.hashsalt": "keras2gp", "svg.fonttype": "none"}
        ):
            options: dict[str, Any] = {"format": suffix[1:], "dpi": _RESOLUTION}
            write_file(path, lambda stream: figure.savefig(stream, **options, metadata=metadata))
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
