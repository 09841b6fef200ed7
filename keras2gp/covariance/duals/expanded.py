"""Expanded: the dual of any continuous function of one number, whose corners are searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Tensor, Vector
from keras2gp._util.text import quoted_text, received_text
from keras2gp.covariance.duals.coefficients import ValueAndSlope, compiled
from keras2gp.covariance.duals.hermite import Hermite
from keras2gp.errors import InputError

__all__ = ["Expanded"]

_PROBES = np.array([-3.1, -0.7, 0.0, 0.2, 1.3, 4.0])
_GRID = np.arange(-1024, 1025) / 64
"""Points between which corners and jumps are searched."""
_HALVINGS = 40
_JUMP, _KINK = 1e-8, 1e-6
"""Least jump, relative to the largest value, and to the largest slope: over an interval of 1e-14
no slope gives so much."""


class Expanded(Hermite):
    """The dual of any continuous function of one number, expanded in Hermite polynomials.

    Args:
        function: phi of a float64 tensor, elementwise, of TensorFlow or keras.ops operations.
        kinks: where a derivative of phi jumps. Jumps of the first derivative between -16 and 16
            are found without being stated.
        degree: degree of the expansion; None takes the least that keeps the error below 1e-6.

    Raises:
        InputError: the function cannot be run in float64, jumps, is random, is not finite, or
            does not act on each number by itself; or kinks are not finite numbers.

    Example:
        >>> import keras2gp
        >>> import tensorflow as tf
        >>> dual = keras2gp.Expanded(lambda u: tf.maximum(u, 0.25 * u))
        >>> dual.kinks
        (0.0,)
        >>> print(f"{float(dual.second_moment(tf.constant([2.0], tf.float64))[0]):.6f}")
        1.062500

        `convert(model, activations={"my_activation": dual})` uses it; the function alone in its
        place does the same.
    """

    constants: ClassVar[tuple[str, ...]] = ("function", "kinks")

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        kinks: Sequence[float] = (),
        degree: float | None = None,
    ) -> None:
        super().__init__(degree)
        self.function = function
        evaluate = _checked(function)
        if jumps := _jumps(lambda u: evaluate(u)[0], _JUMP):
            raise InputError(
                f"it jumps at {jumps[0]:.6g}. Try: a continuous function, or a Dual of your own"
            )
        corners = _jumps(lambda u: evaluate(u)[1], _KINK)
        self._kinks = tuple(sorted({*_numbers(kinks), *corners}))
        right, left = evaluate(np.array([1e-9, -1e-9]))[1]
        self._kappa = float(right - left) / 2 if 0.0 in corners else 0.0

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where a derivative of phi jumps: stated, or found."""
        return self._kinks

    @property
    def kappa(self) -> float:
        """Half of the jump of phi' at 0."""
        return self._kappa

    def phi(self, u: Tensor) -> Tensor:
        """The function itself."""
        return self.function(u)


def _checked(function: Callable[[Tensor], Tensor]) -> ValueAndSlope:
    """The function, compiled in float64. Raises: InputError with the reason why it cannot be."""
    try:
        evaluate = compiled(function)
        values, _ = evaluate(_PROBES)
        one_each = values.shape == _PROBES.shape
        some = tf.constant(_PROBES[4:0:-1].reshape(2, 2))
        block, again = np.asarray(function(some)), np.asarray(function(some))
    except Exception as error:  # a stranger's function may raise anything
        raise InputError(
            f"it cannot be run on a float64 tensor: {type(error).__name__}: "
            f"{quoted_text(error, 200)}. Try: operations of TensorFlow or keras.ops, which keep "
            "the dtype"
        ) from error
    if not np.array_equal(block, again, equal_nan=True):
        raise InputError("it gives something else at every call. Try: one without randomness")
    by_itself = values[4:0:-1].reshape(2, 2) if one_each else block
    if not one_each or block.shape != (2, 2) or not np.allclose(block, by_itself, equal_nan=True):
        raise InputError("it does not act on each number by itself: it mixes them")
    if not np.isfinite(values).all():
        u = _PROBES[~np.isfinite(values)][0]
        raise InputError(f"it is not finite at {u:g}. Try: a function of all real numbers")
    return evaluate


def _numbers(kinks: Any) -> list[float]:
    """The stated kinks. Raises: InputError unless they are finite numbers."""
    try:
        numbers = [float(kink) for kink in kinks]
    except (TypeError, ValueError):
        numbers = [np.nan]
    if not np.isfinite(numbers).all():
        raise InputError(f"kinks={received_text(kinks)}: expected a list of finite numbers")
    return numbers


def _jumps(values: Callable[[Vector], Vector], size: float) -> list[float]:
    """Where a function jumps: every interval of the grid is halved towards its largest step."""
    low, high = _GRID[:-1].copy(), _GRID[1:].copy()
    at_low, at_high = values(low), values(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        at_middle = values(middle)
        left = np.abs(at_middle - at_low) > np.abs(at_high - at_middle)
        low, at_low = np.where(left, low, middle), np.where(left, at_low, at_middle)
        high, at_high = np.where(left, middle, high), np.where(left, at_middle, at_high)
    scale = np.abs(values(_GRID)).max()
    jumped = np.abs(at_high - at_low) > size * max(scale, 1e-300)
    return sorted({float(np.round(u, 9)) + 0.0 for u in (low + high)[jumped] / 2})
