"""The hyperparameters of a kernel: one pair of variances for each random layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras2gp.errors import PriorError

__all__ = ["LayerVariances"]


@dataclass(frozen=True)
class LayerVariances:
    """Prior variances of one random layer (Dense, convolution).

    weight: fan-in times the variance of one weight, w2; He initialisation is 2, LeCun 1.
            For a convolution the fan-in is window size times input channels.
    bias:   the variance of one bias, b2; 0 for a layer without biases.

    Raises: PriorError if a variance is negative or not finite.
    """

    weight: float
    bias: float = 0.0

    def __post_init__(self) -> None:
        for name in ("weight", "bias"):
            value = float(getattr(self, name))
            if not math.isfinite(value) or value < 0.0:
                raise PriorError(
                    f"the {name} variance is {value}: a variance is finite and not negative"
                )
            object.__setattr__(self, name, value)
