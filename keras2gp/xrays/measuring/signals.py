"""The signal behind each layer by its kernel: variance, correlations, spectrum, leave-one-out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from keras2gp._util.arrays import Array, Indices, Matrix, Targets, Vector
from keras2gp.errors import Keras2GPError
from keras2gp.kernel.kernel import Kernel
from keras2gp.xrays.measuring.comparisons import ALPHA, holm
from keras2gp.xrays.measuring.fixed_points import FixedPoint, fixed_points
from keras2gp.xrays.measuring.flow import LayerKernel, layer_kernels
from keras2gp.xrays.measuring.scores import score_kernel
from keras2gp.xrays.rows import Inputs, ScoredTargets, of_each

__all__ = ["PAIRS", "LayerSignal", "signals_of"]

_NEAR = 0.05
"""Length of the steps from images to near ones, relative to the images."""
PAIRS = 16
"""Images that have a near one."""
_BINS = 24
_ROUNDING = 1e-12
"""Share of an eigenvalue that says nothing."""


@dataclass(frozen=True)
class LayerSignal:
    """The signal behind one layer.

    Attributes:
        path: of the layer; "input" for the data.
        layer: its class in Keras.
        variance: mean over images and positions.
        spread: standard deviation of the images' variances, relative to that.
        correlation: mean correlation of two images.
        same, other: the same of images of one class, and of different classes; None for real
            targets.
        curve: points (correlation of two images in the data, mean correlation here).
        growth: 1 - correlation of an image and a near one, relative to that in the data.
        dimension: effective dimension of the centred kernel, (sum t)^2 / sum t^2 of eigenvalues t.
        top: share of the largest eigenvalue in their sum.
        spectrum: points (rank of an eigenvalue, its share in their sum), largest first.
        alignment: correlation of the centred kernel with that of the labels.
        error: leave-one-out error of a wide readout of this layer; None where it has none.
        change: "gained" or "lost": what that error says of label information, against the best
            layer that it reads; "" where the images show no difference.
        fixed: the fixed point of its activation, if it has one.
    """

    path: str
    layer: str
    variance: float
    spread: float
    correlation: float
    same: float | None
    other: float | None
    curve: tuple[tuple[float, float], ...]
    growth: float | None
    dimension: float
    top: float
    spectrum: tuple[tuple[int, float], ...]
    alignment: float
    error: float | None
    change: str
    fixed: FixedPoint | None

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LayerSignal:
        """The signal of what `dataclasses.asdict` gave, after JSON."""
        fixed = state["fixed"]
        curve = tuple((float(a), float(b)) for a, b in state["curve"])
        spectrum = tuple((int(n), float(share)) for n, share in state["spectrum"])
        point = None if fixed is None else FixedPoint(**fixed)
        return cls(**{**state, "curve": curve, "spectrum": spectrum, "fixed": point})


def signals_of(
    kernel: Kernel, x: Inputs, y: Targets, *, regression: bool, seed: int = 0
) -> tuple[LayerSignal, ...]:
    """The signal behind every layer.

    Args:
        kernel: of the network.
        x: images.
        y: their labels, or real targets.
        regression: whether they are real.
        seed: of the near images.
    """
    # A stream of its own, which made no data.
    random = np.random.default_rng((seed, 0x5817))
    images = of_each(x, lambda array: np.concatenate([array, _near(array, random)]))
    layers, in_front = layer_kernels(kernel, images)
    count = len(y)
    names = {row.path: row.layer for row in kernel.report.rows}
    variances = {node: float(values[:count].mean()) for node, values in in_front.items()}
    fixed = fixed_points(kernel, variances)
    errors = {k.path: _errors(k.matrix[:count, :count], y, regression=regression) for k in layers}
    changes = _changes(layers, errors)
    data = _correlations(_of_data(layers))
    result = []
    for each in layers:
        error = errors[each.path]
        result.append(
            _signal(
                each,
                data,
                y,
                regression=regression,
                layer=names.get(each.path, ""),
                error=None if error is None else float(error.mean()),
                change=changes.get(each.path, ""),
                fixed=fixed.get(each.path),
            )
        )
    return tuple(result)


def _of_data(layers: list[LayerKernel]) -> Matrix:
    """The covariances of the data; several inputs count the same."""
    matrices = [layer.matrix for layer in layers if layer.is_data]
    if len(matrices) == 1:
        return matrices[0]
    variances = [float(np.diagonal(matrix).mean()) or 1.0 for matrix in matrices]
    total: Matrix = np.sum([m / v for m, v in zip(matrices, variances, strict=True)], axis=0)
    return total


def _near(x: Array, random: np.random.Generator) -> Array:
    """Images near to the first ones, at a distance of _NEAR times their length.

    Numbers of words and text have no distances, and stay as they are.
    """
    some = x[:PAIRS]
    if x.dtype.kind != "f":
        return some
    step = random.normal(size=some.shape)
    axes = tuple(range(1, x.ndim))
    lengths = [
        np.sqrt((v.astype(np.float64) ** 2).sum(axis=axes, keepdims=True)) for v in (some, step)
    ]
    near: Array = (some + _NEAR * lengths[0] / lengths[1] * step).astype(x.dtype)
    return near


def _errors(matrix: Matrix, y: Targets, *, regression: bool) -> Vector | None:
    try:
        return np.array(score_kernel(matrix, ScoredTargets(y, None, regression)).error)
    except Keras2GPError:  # a layer that is constant, or whose kernel is no covariance
        return None


def _changes(layers: list[LayerKernel], errors: dict[str, Vector | None]) -> dict[str, str]:
    """Whether a layer's error differs from that of the best layer that it reads, corrected."""
    compared: list[tuple[str, float, float]] = []
    for layer in layers:
        here = errors[layer.path]
        found = (errors.get(source) for source in layer.sources)
        before = [error for error in found if error is not None]
        if here is None or not before:
            continue
        best = min(before, key=lambda e: float(np.mean(e)))
        difference = here - best
        error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
        mean = float(difference.mean())
        p = 1.0 if not error else float(2.0 * stats.t.sf(abs(mean) / error, len(here) - 1))
        compared.append((layer.path, mean, p))
    corrected = holm([p for _, _, p in compared])
    return {
        path: "lost" if mean > 0.0 else "gained"
        for (path, mean, _), p in zip(compared, corrected, strict=True)
        if p <= ALPHA
    }


def _correlations(matrix: Matrix) -> Matrix:
    lengths = np.sqrt(np.maximum(np.diagonal(matrix), np.finfo(np.float64).tiny))
    return np.clip(matrix / np.outer(lengths, lengths), -1.0, 1.0)


def _signal(
    behind: LayerKernel, data: Matrix, y: Targets, *, regression: bool, **facts: Any
) -> LayerSignal:
    count = len(y)
    matrix = behind.matrix[:count, :count]
    variances = np.diagonal(matrix)
    c = _correlations(behind.matrix)
    pairs = np.triu_indices(count, 1)
    same = None if regression else (y[:, None] == y[None, :])[pairs]
    between = c[:count, :count][pairs]
    values = np.maximum(np.linalg.eigvalsh(_centred(matrix)), 0.0)
    total = float(values.sum())
    return LayerSignal(
        path=behind.path,
        variance=float(variances.mean()),
        spread=float(variances.std() / variances.mean()) if variances.any() else 0.0,
        correlation=float(between.mean()),
        same=None if same is None or not same.any() else float(between[same].mean()),
        other=None if same is None or same.all() else float(between[~same].mean()),
        curve=_curve(data[:count, :count][pairs], between),
        growth=_growth(data, c, count),
        dimension=total**2 / float((values**2).sum()) if total > 0.0 else 0.0,
        top=float(values[-1]) / total if total > 0.0 else 0.0,
        spectrum=_spectrum(values[::-1] / total) if total > 0.0 else (),
        alignment=_alignment(matrix, y, regression=regression),
        **facts,
    )


def _centred(matrix: Matrix) -> Matrix:
    mean = matrix.mean(axis=0)
    centred: Matrix = matrix - mean[:, None] - mean[None, :] + mean.mean()
    return centred


def _curve(data: Vector, here: Vector) -> tuple[tuple[float, float], ...]:
    """Mean correlations of as many pairs each, sorted by that in the data."""
    order: Indices = np.argsort(data, kind="stable")
    parts = np.array_split(order, min(_BINS, len(order)))
    return tuple((float(data[p].mean()), float(here[p].mean())) for p in parts)


def _spectrum(shares: Vector) -> tuple[tuple[int, float], ...]:
    """Eigenvalues at ranks that are even on a logarithmic axis, above rounding errors."""
    last = max(int((shares > _ROUNDING).sum()), 1)
    ranks = np.unique(np.geomspace(1, last, min(_BINS, last)).round().astype(int))
    return tuple((int(n), float(shares[n - 1])) for n in ranks)


def _growth(data: Matrix, here: Matrix, count: int) -> float | None:
    """Mean of 1 - correlation over near pairs, relative to that in the data."""
    rows = np.arange(len(data) - count)
    before = 1.0 - data[rows, count + rows]
    behind = 1.0 - here[rows, count + rows]
    known = before > np.finfo(np.float64).eps
    return float(behind[known].mean() / before[known].mean()) if known.any() else None


def _alignment(matrix: Matrix, y: Targets, *, regression: bool) -> float:
    """Centred kernel alignment with the targets.

    References:
        Cortes, Mohri and Rostamizadeh 2012, Algorithms for learning kernels based on centered
        alignment.
    """
    targets = np.asarray(y, np.float64).reshape(len(y), -1) if regression else _one_hot(y)
    one, other = _centred(matrix), _centred(targets @ targets.T)
    sizes = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / sizes if sizes > 0.0 else 0.0


def _one_hot(y: Vector) -> Matrix:
    columns: Matrix = (y[:, None] == np.unique(y)[None, :]).astype(np.float64)
    return columns
