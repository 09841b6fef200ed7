"""The hyperparameters of a kernel: one pair of variances for each random layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras2gp.errors import PriorError

__all__ = ["LayerVariances"]


@dataclass(frozen=True)
class LayerVariances:
    """Prior variances of one random layer (Dense, convolution).

    Args:
        weight: Fan-in times the variance of one weight, w2: 2 for He initialisation, 1 for LeCun's.
            The fan-in of a convolution is its window size times its input channels.
        bias: The variance of one bias, b2; 0 for a layer without biases.

    Raises:
        PriorError: A variance is no number, negative or not finite.

    >>> import keras2gp
    >>> keras2gp.LayerVariances(2.0)
    LayerVariances(weight=2.0, bias=0.0)
    """

    weight: float
    bias: float = 0.0

    def __post_init__(self) -> None:
        for name in ("weight", "bias"):
            stated = getattr(self, name)
            dtype = getattr(stated, "dtype", None)  # of numpy and TensorFlow
            try:
                if isinstance(stated, bool | str) or getattr(dtype, "name", None) == "bool":
                    raise TypeError(f"{stated!r}")
                value = float(stated)
            except (TypeError, ValueError, OverflowError) as error:
                raise PriorError(f"the {name} variance is no number: {error}") from error
            if not math.isfinite(value) or value < 0.0:
                raise PriorError(
                    f"the {name} variance is {value}: a variance is finite and not negative"
                )
            object.__setattr__(self, name, value)
