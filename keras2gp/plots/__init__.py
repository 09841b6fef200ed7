"""Pictures of results as matplotlib figures; nothing is computed for them.

They need the extra `plot` (matplotlib), which is imported when the first figure is made.
"""

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
