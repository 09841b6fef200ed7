"""Pictures of results as matplotlib figures; nothing is computed for them.

They need the extra `plot` (matplotlib), which is imported when the first figure is made. Names are
imported when they are first used: the command asks for the suffixes of pictures before numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras2gp._util.starting import importer

if TYPE_CHECKING:
    from keras2gp.plots.diagnostics import calibration_curve, confusion_matrix, intervals, residuals
    from keras2gp.plots.learning import learning_curve
    from keras2gp.plots.matrix import kernel_matrix
    from keras2gp.plots.predictions import images, reliability
    from keras2gp.plots.style import save

__all__ = [
    "calibration_curve",
    "confusion_matrix",
    "images",
    "intervals",
    "kernel_matrix",
    "learning_curve",
    "reliability",
    "residuals",
    "save",
]

_HOMES = {
    "calibration_curve": "diagnostics",
    "confusion_matrix": "diagnostics",
    "images": "predictions",
    "intervals": "diagnostics",
    "kernel_matrix": "matrix",
    "learning_curve": "learning",
    "reliability": "predictions",
    "residuals": "diagnostics",
    "save": "style",
}


__getattr__ = importer(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
