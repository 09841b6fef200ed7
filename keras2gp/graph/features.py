"""Ops of features: tensors whose second moments are known over channels, Gaussian or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras2gp.errors import GraphError
from keras2gp.graph.ops import Op, Spatial

__all__ = ["Depthwise", "Normalize"]


@dataclass(frozen=True)
class Depthwise(Op):
    """A weight of its own for each channel and tap: k' = b2 + w2 k after Patches.

    It sums over no channels, so its result is not Gaussian: features, of zero mean.
    `layer` names the entry in the kernel's parameters, `call` counts the layer's calls.
    """

    layer: str
    call: int = 0
    random: ClassVar[bool] = True


@dataclass(frozen=True)
class Normalize(Op):
    """One group of channels over the root mean square (or deviation) of all: A / sqrt(v + epsilon).

    inputs:    all channel groups that are normalised together
    group:     which of them this node is about
    weights:   C_i / sum C of the groups
    axes:      for each spatial axis, whether the statistics are taken over it too
    centered:  whether the mean over channels (and axes) is taken away from A first
    deviation: whether it is taken away in v, which then is the variance, not the mean square
    epsilon:   added to v; where both are 0 the result is 0

    Raises: GraphError from `spatial`, if the fields do not fit the inputs.
    """

    group: int
    weights: tuple[float, ...]
    axes: tuple[bool, ...]
    centered: bool
    deviation: bool
    epsilon: float

    def spatial(self, inputs: tuple[Spatial, ...]) -> Spatial:
        """That of every input."""
        if len(set(inputs)) != 1 or len(inputs) != len(self.weights):
            raise GraphError(f"a normalisation of {len(self.weights)} groups of shapes {inputs}")
        if not 0 <= self.group < len(inputs) or len(self.axes) != len(inputs[0]):
            raise GraphError(f"group {self.group} and axes {self.axes} of the shapes {inputs}")
        if self.centered and not self.deviation:
            raise GraphError("a normalisation that is centered divides by the deviation")
        return inputs[0]

    @property
    def keeps_zeros(self) -> bool:
        """A factor for either image."""
        return True
