"""Pictures of a classifier: its reliability diagram, and its most and least certain images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp.errors import InputError
from keras2gp.plots.style import ACCENT, COLOURS, GREY, clean, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Bin", "images", "reliability"]


class Bin(Protocol):
    """Predictions whose confidence is in (lower, upper]: see keras2gp.gp.reliability."""

    @property
    def lower(self) -> float:
        """Lower end of the confidences, excluded."""
        ...

    @property
    def upper(self) -> float:
        """Upper end of the confidences, included."""
        ...

    @property
    def count(self) -> int:
        """The number of predictions."""
        ...

    @property
    def confidence(self) -> float:
        """The mean confidence of the predictions."""
        ...

    @property
    def accuracy(self) -> float:
        """The fraction of the predictions that is right."""
        ...


def reliability(bins: Sequence[Bin], title: str = "") -> Figure:
    """Draw a reliability diagram: accuracy against confidence, and the number of images, in bins.

    The confidence is the largest probability. Bars are one standard error of the accuracy.

    Args:
        bins: the bins that hold an image, as keras2gp.gp.reliability returns them.
        title: text above the diagram.

    Returns:
        A figure of two panels.

    Raises:
        InputError: bins are none, or there is no bin, or one without an image.

    References:
        Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks.

    >>> from keras2gp import gp, plots
    >>> bins = gp.reliability([0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], [0, 1])
    >>> len(plots.reliability(bins).axes)
    2
    """
    bins = list(bins)
    if not all(hasattr(b, "confidence") for b in bins):
        raise InputError(
            "bins holds other things than bins. Try: "
            "plots.reliability(gp.reliability(labels, probabilities, classes))"
        )
    if not bins or not all(b.count > 0 for b in bins):
        raise InputError(f"{len(bins)} bins: expected those that hold an image, one or more")
    counts, mean, accuracy = (
        np.array([getattr(b, name) for b in bins]) for name in ("count", "confidence", "accuracy")
    )
    error = float(np.sum(counts * np.abs(accuracy - mean)) / counts.sum())

    figure = new_figure(4.6, 5.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="calibrated")
    spread = np.sqrt(accuracy * (1 - accuracy) / counts)
    upper.errorbar(
        mean, accuracy, spread, color=COLOURS[0], marker="o", markersize=5, linewidth=1.2,
        elinewidth=0.8, label="this model",
    )  # fmt: skip
    clean(upper, f"{plain(title)}\ncalibration error {error:.2%}".strip(), "", "accuracy")
    upper.set_ylim(-0.02, 1.05)
    upper.legend(fontsize=8, frameon=False, loc="upper left")
    left, width = [b.lower for b in bins], [b.upper - b.lower for b in bins]
    lower.bar(left, counts, width=width, align="edge", color=COLOURS[0], edgecolor="w")
    lower.set_yscale("symlog", linthresh=1)
    lower.set_ylim(0, None)
    lower.set_xlim(0, 1.02)
    clean(lower, "", "confidence", "images")
    return figure


def images(
    pictures: Array, probabilities: Array, labels: Array, classes: Array, count: int = 6
) -> Figure:
    """Draw the most certain images above, the least certain below, with their probabilities.

    The bar of the true class is of another colour, and hatched.

    Args:
        pictures: images, [M, H, W] or [M, H, W, channels].
        probabilities: probability of each class, [M, C].
        labels: the true classes, [M].
        classes: the names of the classes, [C].
        count: images above, and images below.

    Returns:
        A figure of four rows of panels.

    Raises:
        InputError: the shapes do not fit.

    >>> import numpy as np
    >>> from keras2gp import plots
    >>> probabilities, labels = np.array([[0.9, 0.1], [0.4, 0.6]]), np.array(["cat", "cat"])
    >>> figure = plots.images(np.zeros((2, 8, 8)), probabilities, labels, np.array(["cat", "dog"]))
    >>> len(figure.axes)  # two images above and two below, with their probabilities
    8
    """
    pictures, probabilities = np.asarray(pictures), np.asarray(probabilities)
    labels, classes = np.asarray(labels), np.asarray(classes)
    _check(probabilities, labels, classes)
    if pictures.ndim == 4 and pictures.shape[-1] not in (1, 3):
        pictures = pictures.mean(axis=-1)
    if pictures.ndim not in (3, 4) or len(pictures) != len(labels):
        raise InputError(f"pictures of shape {pictures.shape} cannot be drawn: expected [M, H, W]")
    order = np.argsort(probabilities.max(axis=1), kind="stable")
    count = min(count, len(labels))
    figure = new_figure(1.45 * count, 5.2)
    axes = figure.subplots(4, count, squeeze=False, height_ratios=[2, 1, 2, 1])
    for row, (word, chosen) in enumerate((("most", order[::-1]), ("least", order))):
        for column, number in enumerate(chosen[:count]):
            upper, lower = axes[2 * row, column], axes[2 * row + 1, column]
            upper.imshow(pictures[number], cmap="gray_r")
            upper.set_axis_off()
            guess = classes[probabilities[number].argmax()]
            caption = (
                f"{guess}" if guess == labels[number] else f"{guess}, in truth {labels[number]}"
            )
            colour = "black" if guess == labels[number] else ACCENT
            upper.set_title(plain(caption, 40), fontsize=9, color=colour)
            _bars(lower, probabilities[number], classes, labels[number])
        side = axes[2 * row, 0]
        side.text(
            -0.12, 0.5, f"{word} certain", rotation=90, va="center", ha="right", fontsize=9,
            transform=side.transAxes,
        )  # fmt: skip
    return figure


def _bars(axes: Any, probability: Array, classes: Array, label: Any) -> None:
    """Draw the probabilities of one image."""
    true = np.flatnonzero(classes == label)
    bars = axes.bar(np.arange(len(classes)), probability, color=COLOURS[0])
    for index in true:
        bars[index].set(facecolor=ACCENT, hatch="///")
    axes.set_ylim(0, 1)
    axes.set_xticks(np.arange(len(classes)), _short(classes), fontsize=6)
    axes.set_yticks([0, 1])
    axes.tick_params(axis="y", labelsize=6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(classes: Array) -> Sequence[str]:
    return [plain(str(name)[:4]) for name in classes]


def _check(probabilities: Array, labels: Array, classes: Array) -> None:
    if probabilities.shape != (len(labels), len(classes)) or not len(labels):
        raise InputError(
            f"probabilities of shape {probabilities.shape}, {len(labels)} labels and "
            f"{len(classes)} classes: expected [M, C], [M] and [C]"
        )
