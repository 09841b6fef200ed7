"""The warning of a fit whose chosen noise leaves nothing to predict, or is that of copied rows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from keras2gp._util.arrays import Array, Images, Matrix, Noise, Targets, Vector
from keras2gp.gp.noise.curve import NoiseCurve
from keras2gp.gp.noise.pilot import GAIN
from keras2gp.gp.solvers.precision import precision_hint

__all__ = ["NoiseWarning", "all_noise_warning", "copied_rows_warning"]

_FLAT = 0.1
"""Predictions of the training rows that vary by less than this part of what targets do are flat:
at most a hundredth of the variance is left to them."""
_TRY = (
    "inputs of one scale (each feature less its mean, over its deviation); another "
    "architecture, larger weight variances or keras2gp.optimize_variances, where targets change "
    "faster than the kernel does; or a noise_variance, if the noise is known to be smaller"
)


_COPIED = 0.05
"""Share of rows from which on copies are warned of: 30% of them raised the error of labels of which
a tenth were wrong from 16% to 23%, and 10% of them to 17%."""
_AGREE = 0.9
"""Share of repeated inputs whose targets agree from which on they are copies: repeated observations
of targets with noise differ."""


class NoiseWarning(UserWarning):
    """The noise that was chosen takes nearly all of the targets' variance, or is that of copies."""


def all_noise_warning(
    targets: Targets,
    alpha: Matrix,
    shift: Noise,
    curve: NoiseCurve | tuple[NoiseCurve, ...],
    *,
    labels: bool,
    dtype: npt.DTypeLike,
    prior: bool = False,
) -> str:
    """A sentence on a chosen noise under which the predictions are the mean; "" for others.

    Math: predictions of the training rows Y - D alpha, D the noise and jitter on the diagonal

    Targets of a regression: their predictions vary by less than a tenth of what they do. Labels
    can be told apart by small differences of their means, so that they must not be more probable
    from the inputs than from the frequencies of the classes, besides.

    Args:
        targets: as fitted, [N, C], NaN where one is missing; of a classification -1 and 1.
        alpha: A^-1 targets, [N, C].
        shift: the sum of noise and jitter on the diagonal of A, or that of each row; of outputs
            with a noise of their own [1, C] or [N, C].
        curve: the choice of the noise, or that of each output.
        labels: whether the targets are those of a classification.
        dtype: type of the kernel's entries.
        prior: whether the targets are less a mean of the kernel.
    """
    deviation = np.nanstd if np.isnan(targets).any() else np.std
    spread = deviation(targets, axis=0)
    curves = curve if isinstance(curve, tuple) else (curve,)
    noisy = np.array([one.chosen > 0.0 for one in curves])
    varied = (spread > 0.0) & noisy
    if not varied.any():
        return ""
    columns = shift if np.ndim(shift) == 2 else np.reshape(shift, (-1, 1))
    predicted = deviation(targets - columns * alpha, axis=0)
    part = predicted[varied] / spread[varied]
    flat = part < _FLAT
    if labels:
        if not flat.all() or _gain_over_frequencies(targets, curves[0]) > GAIN:
            return ""
        return (
            "noise_variance='auto' takes nearly all of the labels for noise: under this kernel the "
            "means of the classes hardly depend on the inputs, and labels that are left out are no "
            "more probable from them than from the frequencies of the classes. "
            f"{_remedies(curves[0], dtype)}"
        )
    if not flat.any():
        return ""
    count = int((spread > 0.0).sum())
    some = "" if count == 1 else f" of {int(flat.sum())} of {count} outputs"
    mean = "the kernel's mean and a constant" if prior else "their mean"
    return (
        f"noise_variance='auto' takes nearly all of the variance of the targets{some} for noise, "
        f"and the predictions are nearly {mean}: from that they differ, at the training inputs, by "
        f"{_share(part[flat])} of what the targets do. Under this kernel the targets hardly depend "
        f"on the inputs. {_remedies(curves[0], dtype)}"
    )


def copied_rows_warning(x: Images, targets: Targets) -> str:
    """A sentence on rows that are copies of others, if there are many; "" for others.

    A copy is predicted from its original when it is left out, and tells that observations repeat
    without noise. Inputs that come again with other targets are observations of their own.

    Args:
        x: inputs, [N, *shape].
        targets: [N, C].
    """
    first: dict[bytes, int] = {}
    copies = repeated = 0
    for number, row in enumerate(np.ascontiguousarray(x)):
        earlier = first.setdefault(row.tobytes(), number)
        if earlier != number:
            repeated += 1
            copies += bool((targets[earlier] == targets[number]).all())
    if copies < max(_COPIED * len(x), 2.0) or copies < _AGREE * repeated:
        return ""
    return (
        f"{copies} of {len(x)} rows are copies of earlier ones, inputs and targets alike. Each "
        "counts as an observation of its own, which says that the noise is small: if they are "
        "copies, the noise and all uncertainties are too small. Try: the rows without copies "
        "(numpy.unique, drop_duplicates of pandas), or a noise_variance"
    )


def _remedies(curve: NoiseCurve, dtype: npt.DTypeLike) -> str:
    """The noises that the entries were not precise enough for, if there are any, and remedies."""
    singular = (n for n, v in zip(curve.candidates, curve.values, strict=True) if v is None)
    largest, (low, _) = max(singular, default=0.0), precision_hint(dtype)
    if not (low and largest):
        return f"Try: {_TRY}"
    return (
        f"Noises up to {largest:.3g} could not be tried: with them the matrix is not positive "
        f'definite.{low} Try: dtype="float64" in the kernel\'s convert or load, under which '
        f"smaller noises are tried too; {_TRY}"
    )


def _share(parts: Vector) -> str:
    largest = float(parts.max())
    return f"{largest:.1%}" if largest >= 0.001 else "less than 0.1%"


def _gain_over_frequencies(targets: Targets, curve: NoiseCurve) -> float:
    """The gain of the labels by the inputs over the frequencies of their classes, in nats.

    Math: sum_n log p(y_n | all others) - sum_n log((N_{y_n} - 1) / (N - 1))

    As for the curve, the only member of a class does not count; of the rows of a curve that are
    fewer, the frequencies are those of all.
    """
    counts: Array = (targets > 0.0).sum(axis=0)
    counts = counts[counts > 1]
    rows = len(targets)
    known = [value for value in curve.values if value is not None]
    if not len(counts) or not known:
        return math.inf
    frequencies = float((counts * np.log((counts - 1.0) / (rows - 1.0))).sum())
    return max(known) - frequencies * curve.rows / rows
