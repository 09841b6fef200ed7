"""The dual activation of a function that somebody else wrote, expanded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor
from keras2gp.covariance.duals.hermite import Hermite
from keras2gp.covariance.duals.quadrature import Sampled, sampled
from keras2gp.errors import InputError

__all__ = ["Expanded"]

_PROBES = np.array([-3.1, -0.7, 0.0, 0.2, 1.3, 4.0])
_GRID = np.arange(-1024, 1025) / 64
"""Where corners and jumps are looked for."""
_HALVINGS = 40
_JUMP, _KINK = 1e-8, 1e-6
"""Of the largest value, and of the largest slope: what is more, over 1e-14, is no slope."""


class Expanded(Hermite):
    """phi(u) of any continuous function of one number, expanded.

    function: of a float64 tensor, elementwise, of TensorFlow or keras.ops operations
    kinks:    where a derivative of it jumps. Jumps of the first between -16 and 16 are found
    Raises: InputError if it is not such a function.
    """

    constants = ("function", "kinks")

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        kinks: Sequence[float] = (),
        degree: float | None = None,
    ) -> None:
        super().__init__(degree)
        self.function = function
        run = _checked(function)
        if jumps := _jumps(lambda u: run(u)[0], _JUMP):
            raise InputError(
                f"it jumps at {jumps[0]:.6g}. Try: a continuous function, or a Dual of your own"
            )
        found = _jumps(lambda u: run(u)[1], _KINK)
        self._kinks = tuple(sorted({*map(float, kinks), *found}))
        right, left = run(np.array([1e-9, -1e-9]))[1]
        self._kappa = float(right - left) / 2 if 0.0 in found else 0.0

    @property
    def kinks(self) -> tuple[float, ...]:
        return self._kinks

    @property
    def kappa(self) -> float:
        return self._kappa

    def phi(self, u: Tensor) -> Tensor:
        return self.function(u)


def _checked(function: Callable[[Tensor], Tensor]) -> Sampled:
    """The function, evaluated in float64. Raises: InputError for the reason why it cannot be."""
    try:
        run = sampled(function)
        values, _ = run(_PROBES)
        some = tf.constant(_PROBES[4:0:-1].reshape(2, 2))
        block, again = np.asarray(function(some)), np.asarray(function(some))
    except Exception as error:  # whatever a stranger's function does
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise InputError(
            f"it cannot be run on a float64 tensor: {type(error).__name__}: {reason}. Try: "
            "operations of TensorFlow or keras.ops, which keep the dtype"
        ) from error
    if not np.array_equal(block, again, equal_nan=True):
        raise InputError("it gives something else at every call. Try: one without randomness")
    alone = values[4:0:-1].reshape(2, 2)
    if block.shape != (2, 2) or not np.allclose(block, alone, equal_nan=True):
        raise InputError("it does not act on each number by itself: it mixes them")
    if not np.isfinite(values).all():
        u = _PROBES[~np.isfinite(values)][0]
        raise InputError(f"it is not finite at {u:g}. Try: a function of all real numbers")
    return run


def _jumps(values: Callable[[Array], Array], size: float) -> list[float]:
    """Where a function jumps: all intervals of the grid are halved towards their largest step."""
    low, high = _GRID[:-1].copy(), _GRID[1:].copy()
    at_low, at_high = values(low), values(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        at_middle = values(middle)
        left = np.abs(at_middle - at_low) > np.abs(at_high - at_middle)
        low, at_low = np.where(left, low, middle), np.where(left, at_low, at_middle)
        high, at_high = np.where(left, middle, high), np.where(left, at_middle, at_high)
    scale = np.abs(values(_GRID)).max()
    found = np.abs(at_high - at_low) > size * max(scale, 1e-300)
    return sorted({float(np.round(u, 9)) + 0.0 for u in (low + high)[found] / 2})
