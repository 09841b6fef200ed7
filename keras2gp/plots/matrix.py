"""A kernel matrix, its images sorted by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras2gp._util.arrays import ArrayLike, LabelsLike
from keras2gp.errors import InputError
from keras2gp.plots.style import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["kernel_matrix"]


def kernel_matrix(matrix: ArrayLike, labels: LabelsLike, title: str = "") -> Figure:
    """Draw correlations K_ij / sqrt(K_ii K_jj) of images sorted by class.

    The colours span the entries off the diagonal, without the lowest and highest percent of them.

    Args:
        matrix: a kernel matrix, [N, N].
        labels: the class of each image, [N].
        title: text above the picture.

    Returns:
        A figure of one panel, with lines between the classes.

    Raises:
        InputError: the shapes do not fit, or a variance is not positive.

    >>> import numpy as np
    >>> from keras2gp import plots
    >>> matrix = np.array([[2.0, 0.5, 1.0], [0.5, 2.0, 0.2], [1.0, 0.2, 2.0]])
    >>> figure = plots.kernel_matrix(matrix, np.array(["cat", "dog", "cat"]), "three images")
    >>> figure.axes[0].get_title(loc="left")
    'three images'
    """
    matrix, labels = np.asarray(matrix), np.asarray(labels)  # kernels give tensors
    count = len(labels)
    if matrix.shape != (count, count) or count < 2:
        maps = ". Try: one position of it, as matrix[:, :, 0, 0]" if matrix.ndim > 2 else ""
        raise InputError(
            f"a matrix of shape {matrix.shape} with {count} labels: expected [N, N]{maps}"
        )
    root = np.sqrt(np.diagonal(matrix).astype(np.float64))
    if not (root > 0.0).all():
        at = int(np.argmin(root > 0.0))
        raise InputError(f"row {at} (counted from 0) of the matrix has no variance")
    order = np.argsort(labels, kind="stable")
    correlation = (matrix / root / root[:, None])[np.ix_(order, order)]
    low, high = np.percentile(correlation[~np.eye(count, dtype=bool)], [1, 99])
    classes, sizes = np.unique(labels, return_counts=True)
    ends = np.cumsum(sizes)

    figure = new_figure(5.6, 4.8)
    axes = figure.subplots()
    shown = axes.imshow(correlation, cmap="cividis", vmin=low, vmax=high, interpolation="nearest")
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color="white", linewidth=0.5)
        axes.axvline(end - 0.5, color="white", linewidth=0.5)
    middles = ends - (sizes + 1) / 2
    names = [plain(name, 40) for name in classes]
    axes.set_xticks(middles, names, fontsize=8, rotation=90 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(middles, names, fontsize=8)
    axes.tick_params(length=0)
    axes.set_title(plain(title), fontsize=10, loc="left")
    bar = figure.colorbar(shown, ax=axes, extend="both", shrink=0.85)
    bar.set_label("correlation under the prior", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure
