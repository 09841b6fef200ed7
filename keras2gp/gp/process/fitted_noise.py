"""The noise of a fit: its variance, its part of the matrix, and the warning about it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from keras2gp._util.arrays import Array, Images, Matrix, Noise, NoiseLike, Targets, Vector
from keras2gp.errors import InputError
from keras2gp.gp.arguments.rows import RowNoise
from keras2gp.gp.noise.curve import Curves, NoiseCurve
from keras2gp.gp.noise.noise_warnings import all_noise_warning, copied_rows_warning

__all__ = ["diagonal_shift", "fitted_noise", "noise_of_observations", "warning_of_fit"]


def fitted_noise(noise: RowNoise, curve: Curves) -> float | Vector:
    """The noise variance of a fit, or that of each output, [C].

    Args:
        noise: the noise that was stated for the rows.
        curve: the choice of the noise; None where it is stated.
    """
    if isinstance(curve, tuple):
        return np.array([one.chosen for one in curve])
    if curve is not None:
        return curve.chosen
    return np.array(noise.common) if noise.by_output else float(noise.common or 0.0)


def diagonal_shift(variance: float, relative: Vector | None, jitter: float) -> Noise:
    """The sum of noise and jitter on the diagonal of A, or that of each row, [N].

    Args:
        variance: the noise variance of a row of relative noise 1.
        relative: the noise of each row over `variance`, [N]; None for 1.
        jitter: the number that was added to the diagonal besides.
    """
    return RowNoise(variance, relative).times(variance) + jitter


def noise_of_observations(setting: NoiseLike, variance: float | Vector) -> float | Vector:
    """The noise variance of a new observation, or that of each output, [C].

    Args:
        setting: the estimator's `noise_variance`.
        variance: the noise variance of the fit.

    Raises:
        InputError: every training row had its own.
    """
    if np.ndim(setting) and not isinstance(variance, np.ndarray):
        raise InputError(
            "the noise of new observations is not known: noise_variance has one for each "
            "training row. Try: the deviation of the function, and their noise added to its "
            "square"
        )
    return variance


def warning_of_fit(
    targets: Targets,
    alpha: Matrix,
    shift: Noise,
    curve: NoiseCurve | tuple[NoiseCurve, ...],
    *,
    observed: Array | None,
    images: Images | None,
    labels: bool,
    dtype: npt.DTypeLike,
    prior: bool,
) -> str:
    """Sentences on a chosen noise that takes nearly all of the targets, and on copied rows.

    Args:
        targets: Y as fitted, [N, C].
        alpha: A^-1 Y, [N, C].
        shift: see `all_noise_warning`.
        curve: the choice of the noise; of every output where they have their own.
        observed: whether a row has a target of an output, [N, C]; None where all have.
        images: inputs of the rows of the fit; None where they are not known row by row.
        labels: whether the targets are those of a classification.
        dtype: type of the kernel's entries.
        prior: whether the targets are less a mean of the kernel.

    Returns:
        The sentences; "" where there is nothing to warn of.
    """
    known = targets if observed is None else np.where(observed, targets, np.nan)
    sentences = (
        all_noise_warning(known, alpha, shift, curve, labels=labels, dtype=dtype, prior=prior),
        "" if images is None else copied_rows_warning(images, targets),
    )
    return ". ".join(sentence for sentence in sentences if sentence)
