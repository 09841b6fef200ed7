"""Real targets: shifted and scaled before a fit, and predictions in their units after it."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Matrix, Targets, Vector
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.process.posterior import require_finite

__all__ = ["Units", "normalizes", "standardized", "standardized_by_output"]


def normalizes(normalize_y: Any, *, learned: bool) -> bool:
    """Whether targets are standardised: the setting, or for "auto" whether the noise is learned.

    Raises:
        InputError: it is neither "auto" nor True nor False.
    """
    if isinstance(normalize_y, str) and normalize_y == "auto":
        return learned
    if not isinstance(normalize_y, bool | np.bool_):
        raise InputError(
            f'normalize_y is {received_text(normalize_y)}: expected "auto", True or False'
        )
    return bool(normalize_y)


def standardized(columns: Targets) -> tuple[Targets, Vector, Vector]:
    """Targets of mean 0 and variance 1, and their shift and scale: y = shift + scale result.

    Shapes:
        columns [N, C]; shift and scale [C].
    """
    # A power of two keeps every digit, and squares away from overflow and underflow.
    unit = np.ldexp(1.0, np.frexp(np.abs(columns).max(axis=0))[1] - 1)
    columns = columns / unit
    shift, scale = columns.mean(axis=0), columns.std(axis=0)
    # A target that is constant up to rounding has no scale.
    flat = scale <= 10.0 * np.finfo(np.float64).eps * np.abs(shift)
    scale[flat] = 1.0 / unit[flat]
    columns = np.where(flat, 0.0, (columns - shift) / scale)
    return columns, shift * unit, scale * unit


def standardized_by_output(columns: Targets, seen: Array) -> tuple[Targets, Vector, Vector]:
    """As `standardized`, of the targets that each output has; 0 where one is missing.

    Shapes:
        columns and seen [N, C]; shift and scale [C].
    """
    result, shift, scale = np.zeros_like(columns), *np.empty((2, columns.shape[1]))
    for output, there in enumerate(seen.T):
        own = standardized(columns[there, output : output + 1])
        result[there, output], shift[output], scale[output] = own[0][:, 0], own[1][0], own[2][0]
    return result, shift, scale


class Units:
    """The units of the targets: y = prior mean + shift + scale f, f the targets as fitted.

    Args:
        shift: subtracted from the targets.
        scale: divisor of the targets.
        deviation: factor of standard deviations, with the square root of that on the kernel.
        single: whether the targets had no axis of outputs.
        by_output: whether each output has variances of its own, [..., C].

    Shapes:
        shift, scale and deviation [C]; results [..., C], or [...] if single.
    """

    def __init__(
        self, shift: Vector, scale: Vector, deviation: Vector, *, single: bool, by_output: bool
    ) -> None:
        self._shift, self._scale, self._deviation = shift, scale, deviation
        self._single, self._by_output = single, by_output

    def mean(self, mean: Matrix, prior: Matrix | float) -> Array:
        """Means [M, C] in the units of the targets, the prior's [M, C] or [M, 1] added."""
        with np.errstate(over="ignore"):
            result = mean * self._scale + self._shift + prior
        require_finite(result, "a mean")
        return result[:, 0] if self._single else result

    def deviations(self, std: Array) -> Array:
        """Standard deviations, common to all outputs unless by_output, in the units of each."""
        return self._spread(std, self._deviation)

    def variances(self, values: Array) -> Array:
        """Variances in the units of each output squared; NumericalError beyond float64."""
        with np.errstate(over="ignore", under="ignore"):
            squares = self._deviation**2
            result = self._spread(values, squares)
        if not np.isfinite(result).all() or (squares < np.finfo(np.float64).tiny).any():
            raise NumericalError(
                "the variances are beyond float64 in the units of the targets squared: the scale "
                f"of the targets is {float(self._scale.max()):.3g}. Try: return_std=True, or "
                "targets in another unit"
            )
        return result

    def draws(self, draws: Array, prior: Matrix | float) -> Array:
        """Samples [M, C, count] in the units of the targets, the mean of the prior added."""
        added = np.asarray(prior)[..., None]
        with np.errstate(over="ignore"):
            result: Array = draws * self._scale[:, None] + self._shift[:, None] + added
        require_finite(result, "a sample")
        return result[:, 0] if self._single else result

    def _spread(self, values: Array, scale: Vector) -> Array:
        if self._single:
            return np.asarray(values * scale[0])
        return np.asarray((values if self._by_output else values[..., None]) * scale)
