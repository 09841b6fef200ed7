"""The figures of this package: those of matplotlib, which a notebook shows as pictures."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

__all__ = ["NotebookFigure"]


class NotebookFigure(Figure):
    """A figure that a cell shows as its last value, whether or not pyplot was ever imported.

    IPython knows how to show a Figure only after pyplot has told it.
    """

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()
