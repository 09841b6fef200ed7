"""What random copies of a model will take, before any is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from keras2gp._util.memory import require_memory
from keras2gp.verification.survey import Scale, Work

__all__ = ["Cost", "cost_of"]

_ITEM = 4
_REST = 2**28
"""Bytes beyond weights and activations: buffers of convolutions, TensorFlow's graph."""


@dataclass(frozen=True)
class Cost:
    """What networks of one width take.

    weights:         of one network, to be drawn
    multiplications: with additions, of one network on all images
    memory:          bytes at the peak: as if all activations were kept
    """

    weights: int
    multiplications: int
    memory: int

    def require(self, width: int) -> None:
        """Raises InputError, with both figures, if the machine's free memory is too little."""
        require_memory(
            self.memory, f"a network of width {width}", "smaller widths, or fewer images"
        )

    def __str__(self) -> str:
        return f"{self.weights:.1e} weights, {self.multiplications:.1e} multiplications a network"


def cost_of(work: Sequence[Work], scale: Scale, images: int) -> Cost:
    """The cost of one copy of a model, of which a survey noted the work."""
    weights = multiplications = activations = 0
    for call in work:
        free = call.units and call.origins <= scale.outputs
        growth = Fraction(scale.units, call.units) if free else scale.factor
        activations += math.ceil(call.outputs * growth)
        drawn = math.ceil(call.weights * growth * (scale.factor if call.joins else 1))
        weights += drawn
        multiplications += drawn * call.positions
    # The copy's own variables, and the values that are drawn in their place; activations, with what
    # the controls make of them.
    memory = _ITEM * (2 * weights + 3 * images * activations) + _REST
    return Cost(weights, images * multiplications, memory)
