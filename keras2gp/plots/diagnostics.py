"""Pictures of a fit: predictions with intervals, their calibration, residuals, confusions."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from keras2gp._util.arrays import Array, LabelsLike, Matrix, Vector, VectorLike
from keras2gp.errors import InputError
from keras2gp.plots.style import ACCENT, COLOURS, GREY, clean, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["calibration_curve", "confusion_matrix", "intervals", "residuals"]

_WIDTH = NormalDist().inv_cdf(0.975)
"""Standard deviations on either side of the mean of an interval of 95%."""
_SHARES = np.linspace(0.05, 0.95, 19)
_MOST_CELLS = 20
"""Classes up to which each cell of a confusion matrix has its number written in it."""


def intervals(
    x: VectorLike,
    mean: VectorLike,
    std: VectorLike,
    *,
    wider: Any = None,
    data: VectorLike = None,
    title: str = "",
) -> Figure:
    """Draw predictions of one input with their intervals of 95%.

    Args:
        x: inputs, [M] or [M, 1], in any order.
        mean: predictions, [M].
        std: their standard deviations, [M].
        wider: standard deviations of new observations, [M], for a second band.
        data: a pair of the training inputs and targets, drawn as points.
        title: text above the picture.

    Returns:
        A figure of one panel.

    Raises:
        InputError: the shapes do not fit, or a value is not finite.

    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp import GPRegressor, plots
    >>> x = np.linspace(0.0, 6.0, 20)[:, None]
    >>> gp = GPRegressor(RBF(1.0), 0.01).fit(x, np.sin(x[:, 0]))
    >>> figure = plots.intervals(x, *gp.predict(x, return_std=True), data=(x, np.sin(x[:, 0])))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['prediction']
    """
    place, mean, std = _line(x, "x"), _line(mean, "mean"), _line(std, "std")
    bands = [(std, 0.35, "function, 95%")]
    if wider is not None:
        bands.insert(0, (_line(wider, "wider"), 0.15, "observations, 95%"))
    _require_alike(x=place, mean=mean, **{label: band for band, _, label in bands})
    order = np.argsort(place, kind="stable")
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    for band, alpha, label in bands:
        ends = [(mean + sign * _WIDTH * band)[order] for sign in (-1.0, 1.0)]
        axes.fill_between(
            place[order], *ends, color=COLOURS[0], alpha=alpha, linewidth=0, label=label
        )
    axes.plot(place[order], mean[order], color=COLOURS[0], linewidth=1.5, label="mean")
    if data is not None:
        points = [_line(values, "data") for values in data]
        _require_alike(inputs=points[0], targets=points[1])
        axes.plot(*points, "o", color=ACCENT, markersize=3.5, label="data")
    clean(axes, plain(title), "input", "prediction")
    axes.legend(fontsize=8, frameon=False)
    return figure


def calibration_curve(
    targets: VectorLike, mean: VectorLike, std: VectorLike, title: str = ""
) -> Figure:
    """Draw the share of targets that lie in their central intervals, against the stated share.

    Of a classifier, `reliability` is the like.

    Args:
        targets: what was observed, [M].
        mean: predictions, [M].
        std: standard deviations of new observations, [M].
        title: text above the picture.

    Returns:
        A figure of one panel, with one standard error of the shares.

    Raises:
        InputError: the shapes do not fit, a value is not finite, or a deviation is not positive.

    >>> import numpy as np
    >>> from keras2gp import plots
    >>> y = np.random.default_rng(0).standard_normal(200)
    >>> figure = plots.calibration_curve(y, np.zeros(200), np.ones(200))
    >>> figure.axes[0].get_title(loc="left")
    '96.5% of 200 targets in their intervals of 95%'
    """
    scores = _scores(targets, mean, std)
    widths = np.array([NormalDist().inv_cdf(0.5 + share / 2.0) for share in _SHARES])
    found = (np.abs(scores)[:, None] <= widths).mean(axis=0)
    spread = np.sqrt(_SHARES * (1.0 - _SHARES) / len(scores))
    figure = new_figure(4.6, 4.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="calibrated")
    axes.fill_between(
        _SHARES, _SHARES - spread, _SHARES + spread, color=GREY, alpha=0.2, linewidth=0,
        label="one standard error",
    )  # fmt: skip
    axes.plot(_SHARES, found, "o-", color=COLOURS[0], markersize=4, label="this model")
    inside = f"{found[-1]:.1%} of {len(scores)} targets in their intervals of 95%"
    clean(axes, f"{plain(title)}\n{inside}".strip(), "stated share", "share of the targets")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def residuals(targets: VectorLike, mean: VectorLike, std: VectorLike, title: str = "") -> Figure:
    """Draw residuals over their standard deviations, against the predictions.

    Of the leave-one-out predictions, which `leave_one_out` of an estimator gives, they show targets
    that the others do not expect; of a good fit 95% lie between the lines.

    Args:
        targets: what was observed, [M].
        mean: predictions of them, [M].
        std: standard deviations of these predictions, noise included, [M].
        title: text above the picture.

    Returns:
        A figure of two panels: the residuals, and how many there are of each size beside the normal
        law.

    Raises:
        InputError: the shapes do not fit, a value is not finite, or a deviation is not positive.

    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp import GPRegressor, plots
    >>> x = np.linspace(0.0, 6.0, 20)[:, None]
    >>> y = np.sin(x[:, 0])
    >>> mean, variance = GPRegressor(RBF(1.0), 0.01).fit(x, y).leave_one_out()
    >>> len(plots.residuals(y, mean, np.sqrt(variance)).axes)
    2
    """
    scores, mean = _scores(targets, mean, std), _line(mean, "mean")
    figure = new_figure(7.0, 3.8)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    for axes in (left, right):
        axes.axhline(0.0, color=GREY, linewidth=1)
        for line in (-_WIDTH, _WIDTH):
            axes.axhline(line, color=GREY, linewidth=1, linestyle="--")
    far = np.abs(scores) > _WIDTH
    left.plot(mean[~far], scores[~far], "o", color=COLOURS[0], markersize=4)
    left.plot(mean[far], scores[far], "D", color=ACCENT, markersize=5)
    outside = f"{int(far.sum())} of {len(scores)} outside 95%"
    clean(left, f"{plain(title)}\n{outside}".strip(), "prediction", "residual / its deviation")
    reach = max(4.0, float(np.abs(scores).max()))
    grid = np.linspace(-reach, reach, 201)
    right.hist(
        scores, bins=np.linspace(-reach, reach, 21), density=True, orientation="horizontal",
        color=COLOURS[0], edgecolor="w",
    )  # fmt: skip
    right.plot(np.exp(-0.5 * grid**2) / np.sqrt(2.0 * np.pi), grid, color=ACCENT, linewidth=1.2)
    clean(right, "", "density", "")
    return figure


def confusion_matrix(
    labels: LabelsLike, predicted: LabelsLike, classes: LabelsLike = None, title: str = ""
) -> Figure:
    """Draw how often each class is taken for each other: rows are the true classes.

    The colour is the share of a row, and the number in a cell the count.

    Args:
        labels: the true classes, [M].
        predicted: the classes that were predicted, [M].
        classes: the classes in their order, [C]; None for all that occur, sorted.
        title: text above the picture.

    Returns:
        A figure of one panel.

    Raises:
        InputError: the shapes do not fit, or a label is none of the classes.

    >>> from keras2gp import plots
    >>> figure = plots.confusion_matrix(["cat", "dog", "dog"], ["cat", "dog", "cat"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '0', '1', '1']
    """
    truth, guess = np.asarray(labels), np.asarray(predicted)
    if truth.ndim != 1 or truth.shape != guess.shape or not len(truth):
        raise InputError(
            f"labels of shape {truth.shape} and predictions of shape {guess.shape}: expected [M] "
            "each, with M at least 1"
        )
    names = np.unique(np.concatenate([truth, guess])) if classes is None else np.asarray(classes)
    place = {name: i for i, name in enumerate(names.tolist())}
    if foreign := sorted({str(v) for v in [*truth.tolist(), *guess.tolist()] if v not in place}):
        raise InputError(f"labels that are none of the classes: {', '.join(map(plain, foreign))}")
    count = len(names)
    counts = np.zeros((count, count), dtype=int)
    np.add.at(counts, ([place[v] for v in truth.tolist()], [place[v] for v in guess.tolist()]), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(3.2, 0.5 * count + 1.6), 9.0)
    figure = new_figure(side, side)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    texts = [plain(name, 20) for name in names]
    longest = max(map(len, texts))
    axes.set_xticks(np.arange(count), texts, fontsize=8, rotation=90 if longest > 3 else 0)
    axes.set_yticks(np.arange(count), texts, fontsize=8)
    axes.tick_params(length=0)
    if count <= _MOST_CELLS:
        for row, column in np.ndindex(counts.shape):
            axes.text(
                column, row, str(counts[row, column]), ha="center", va="center", fontsize=8,
                color="white" if share[row, column] > 0.5 else "black",
            )  # fmt: skip
    right = float(np.diagonal(counts).sum() / counts.sum())
    axes.set_title(
        f"{plain(title)}\n{right:.1%} of {len(truth)} are right".strip(), fontsize=10, loc="left"
    )
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("true class", fontsize=9)
    return figure


def _scores(targets: VectorLike, mean: VectorLike, std: VectorLike) -> Vector:
    """Residuals over their deviations. Raises: InputError."""
    y, m, s = _line(targets, "targets"), _line(mean, "mean"), _line(std, "std")
    _require_alike(targets=y, mean=m, std=s)
    if not (s > 0.0).all():
        raise InputError(f"std {int(np.argmin(s > 0.0))} is not positive: no interval to draw")
    return np.asarray((y - m) / s)


def _line(values: Any, name: str) -> Vector:
    """Finite numbers, [M], of an array [M] or [M, 1]. Raises: InputError."""
    try:
        array: Array | Matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is no array of numbers: {error}") from error
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not array.size:
        raise InputError(
            f"{name} has shape {array.shape}: expected [M] or [M, 1]. Try: one output, or one "
            "feature, at a time"
        )
    if not np.isfinite(array).all():
        at = int(np.argmin(np.isfinite(array)))
        raise InputError(f"{name} is not finite: entry {at} (counted from 0)")
    return array


def _require_alike(**lines: Vector) -> None:
    """Refuse arrays of different lengths with an InputError."""
    if len({len(line) for line in lines.values()}) > 1:
        sizes = ", ".join(f"{name} {len(line)}" for name, line in lines.items())
        raise InputError(f"arrays of different lengths: {sizes}")
