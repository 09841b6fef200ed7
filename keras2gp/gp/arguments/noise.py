"""The noise variance as an argument: a number, one for each row, or the wish to have it chosen."""

from __future__ import annotations

import numpy as np

from keras2gp._util.arrays import Noise, NoiseLike, Vector
from keras2gp._util.checks import is_finite_and_not_negative
from keras2gp._util.text import did_you_mean, received_text
from keras2gp.errors import InputError

__all__ = [
    "BY_OUTPUT",
    "check_noise",
    "check_noise_setting",
    "check_noises",
    "column_of",
    "noise_of",
]

BY_OUTPUT = "auto-per-output"
"""The setting `noise_variance` that chooses a noise for each output."""


def check_noise_setting(noise_variance: NoiseLike) -> float | None:
    """The noise variance as a float, or None where it is chosen.

    Raises:
        InputError: it is neither "auto" nor "auto-per-output" nor a finite number, 0 or more.
    """
    if isinstance(noise_variance, str):
        if noise_variance in ("auto", BY_OUTPUT):
            return None
        raise InputError(
            f'noise_variance is {received_text(noise_variance)}: expected "auto", "{BY_OUTPUT}" '
            "(of a regression) or a finite number, 0 or more."
            + did_you_mean(noise_variance, ("auto", BY_OUTPUT))
        )
    return check_noise(noise_variance)


def check_noise(noise_variance: NoiseLike) -> float:
    """The noise variance as a float.

    Raises:
        InputError: it is no finite number, or negative.
    """
    if not is_finite_and_not_negative(noise_variance):
        raise InputError(
            f"noise_variance is {received_text(noise_variance)}: expected a finite number, 0 or "
            "more"
        )
    return float(noise_variance)


def check_noises(noise_variance: Noise, size: int) -> Noise:
    """The noise variance as a float, or those of all rows as an array.

    Raises:
        InputError: they are not finite, or negative, or not as many as the rows.
    """
    if np.ndim(noise_variance) == 0:
        return check_noise(noise_variance)
    noises: Vector = np.asarray(noise_variance, dtype=np.float64)
    if noises.shape != (size,) or not np.isfinite(noises).all() or noises.min() < 0.0:
        raise InputError(
            f"noise_variance is {received_text(noise_variance)}: expected a number, or {size} of "
            "them, one for each row, finite and 0 or more"
        )
    return noises


def noise_of(added: Noise, rows: slice) -> Noise:
    """The part of a diagonal that belongs to some rows."""
    return added[rows] if isinstance(added, np.ndarray) else added


def column_of(added: Noise) -> Noise:
    """A diagonal as a factor of columns: of b [N, C] in added * b."""
    return added[:, None] if isinstance(added, np.ndarray) else added
