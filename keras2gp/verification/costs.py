"""The cost of random copies of a model: weights, multiplications and memory of each width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from keras2gp._util.memory import require_memory

__all__ = ["Cost", "Scale", "Work", "cost_of"]

_ITEM = 4

_REST = 2**28
"""Bytes beyond weights and activations: buffers of convolutions, TensorFlow's graph."""


@dataclass(frozen=True)
class Scale:
    """The sizes of a widened copy.

    Attributes:
        factor: Channels of every hidden layer, relative to those of the model.
        width: Channels of the copy's narrowest hidden layer; of its output, if no layer is hidden.
        units: Units of the output.
        outputs: Layers whose units are the output's alone, by identity: they have `units`.
    """

    factor: Fraction
    width: int
    units: int
    outputs: frozenset[int]


@dataclass(frozen=True)
class Work:
    """The work of one call of the model for one image.

    Attributes:
        outputs: Elements of the result, whose channels grow.
        origins: The layers whose units the result's channels are, by identity.
        weights: Elements of the layer's weights.
        positions: Positions at which the weights are applied.
        joins: Whether the weights join each output to channels that grow.
        units: Channels of a layer that states them, else 0.
    """

    outputs: int
    origins: frozenset[int]
    weights: int = 0
    positions: int = 0
    joins: bool = False
    units: int = 0


@dataclass(frozen=True)
class Cost:
    """The cost of networks of one width.

    Attributes:
        weights: Elements that are drawn for one network.
        multiplications: Multiplications, with additions, of one network on all images.
        memory: Bytes at the peak, as if all activations were kept.
    """

    weights: int
    multiplications: int
    memory: int

    def require(self, width: int) -> None:
        """Raise InputError, with both figures, if the available memory is too little."""
        require_memory(
            self.memory, f"a network of width {width}", "smaller widths, or fewer images"
        )

    def __str__(self) -> str:
        return f"{self.weights:.1e} weights, {self.multiplications:.1e} multiplications a network"


def cost_of(work: Sequence[Work], scale: Scale, images: int) -> Cost:
    """The cost of one copy of a model, from the work that a survey noted."""
    weights = multiplications = activations = 0
    for call in work:
        free = call.units and call.origins <= scale.outputs
        growth = Fraction(scale.units, call.units) if free else scale.factor
        activations += math.ceil(call.outputs * growth)
        drawn = math.ceil(call.weights * growth * (scale.factor if call.joins else 1))
        weights += drawn
        multiplications += drawn * call.positions
    # The copy's variables, and the values drawn in their place; three copies of all activations.
    memory = _ITEM * (2 * weights + 3 * images * activations) + _REST
    return Cost(weights, images * multiplications, memory)
