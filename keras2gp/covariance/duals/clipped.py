"""Dual activations of clipped, shrunk and hard functions: polynomials with corners away from 0.

Each class is its phi; piecewise.py says how it is integrated and how exact that is.
"""

from __future__ import annotations

import math

from keras2gp.covariance.duals.piecewise import Piecewise
from keras2gp.covariance.registry import dual
from keras2gp.errors import InputError

__all__ = [
    "ClippedRelu",
    "HardShrink",
    "HardSigmoid",
    "HardSilu",
    "HardTanh",
    "Relu6",
    "SoftShrink",
    "SparsePlus",
    "SparseSigmoid",
    "Square",
    "Threshold",
]

_ZERO, _IDENTITY = (0.0,), (0.0, 1.0)


@dual("relu6")
class Relu6(Piecewise):
    """min(max(u, 0), 6), integrated over its corners."""

    def __init__(self) -> None:
        super().__init__((0.0, 6.0), (_ZERO, _IDENTITY, (6.0,)))


@dual("clipped_relu")
class ClippedRelu(Piecewise):
    """ReLU with a maximum, a threshold or a slope below it, integrated over its corners."""

    def __init__(
        self, max_value: float = math.inf, threshold: float = 0.0, negative_slope: float = 0.0
    ) -> None:
        if not max_value >= 0:
            raise InputError(f"max_value={max_value:g}: a ReLU's maximum is 0 or more")
        clipped = max_value < math.inf
        corners = {threshold}
        if clipped:  # Keras clips at 0 too, which shows where the threshold is negative
            corners |= {corner for corner in (0.0, max_value) if corner > threshold}
        edges = sorted(corners)
        pieces: list[tuple[float, ...]] = [(-negative_slope * threshold, negative_slope)]
        for edge in edges:
            above = (max_value,) if edge >= max_value else _IDENTITY
            pieces.append(_ZERO if clipped and edge < 0 else above)
        super().__init__(edges, pieces)


@dual("hard_sigmoid")
class HardSigmoid(Piecewise):
    """min(max(u / 6 + 1/2, 0), 1), integrated over its corners."""

    def __init__(self) -> None:
        super().__init__((-3.0, 3.0), (_ZERO, (1 / 2, 1 / 6), (1.0,)))


@dual("hard_tanh")
class HardTanh(Piecewise):
    """min(max(u, -1), 1), integrated over its corners."""

    def __init__(self) -> None:
        super().__init__((-1.0, 1.0), ((-1.0,), _IDENTITY, (1.0,)))


@dual("hard_silu")
class HardSilu(Piecewise):
    """u min(max(u / 6 + 1/2, 0), 1), integrated over its corners."""

    def __init__(self) -> None:
        super().__init__((-3.0, 3.0), (_ZERO, (0.0, 1 / 2, 1 / 6), _IDENTITY))


dual("hard_swish")(HardSilu)


@dual("hard_shrink")
class HardShrink(Piecewise):
    """u if |u| > threshold else 0, integrated over its jumps."""

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__((-threshold, threshold), (_IDENTITY, _ZERO, _IDENTITY))


@dual("soft_shrink")
class SoftShrink(Piecewise):
    """u less threshold in size, or 0, integrated over its corners."""

    def __init__(self, threshold: float = 0.5) -> None:
        below, above = (threshold, 1.0), (-threshold, 1.0)
        super().__init__((-threshold, threshold), (below, _ZERO, above))


@dual("sparse_plus")
class SparsePlus(Piecewise):
    """0 up to -1, (u + 1)^2 / 4, and u from 1 on, integrated over its corners."""

    def __init__(self) -> None:
        super().__init__((-1.0, 1.0), (_ZERO, (1 / 4, 1 / 2, 1 / 4), _IDENTITY))


@dual("sparse_sigmoid")
class SparseSigmoid(Piecewise):
    """min(max((u + 1) / 2, 0), 1), integrated over its corners."""

    def __init__(self) -> None:
        super().__init__((-1.0, 1.0), (_ZERO, (1 / 2, 1 / 2), (1.0,)))


@dual("square")
class Square(Piecewise):
    """u^2: q1 q2 + 2 c^2."""

    def __init__(self) -> None:
        super().__init__((), ((0.0, 0.0, 1.0),))


@dual("threshold")
class Threshold(Piecewise):
    """u if u > threshold else default_value, integrated over its jump."""

    def __init__(self, threshold: float, default_value: float) -> None:
        super().__init__((threshold,), ((default_value,), _IDENTITY))
