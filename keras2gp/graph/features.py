"""Ops of features: tensors whose second moments are known over channels, Gaussian or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras2gp.graph.ops import Op

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

    inputs:   all channel groups that are normalised together
    group:    which of them this node is about
    weights:  C_i / sum C of the groups
    axes:     for each spatial axis, whether the statistics are taken over it too
    centered: whether the mean over channels (and axes) is taken away first
    """

    group: int
    weights: tuple[float, ...]
    axes: tuple[bool, ...]
    centered: bool
    epsilon: float

    @property
    def keeps_zeros(self) -> bool:
        """A factor for either image."""
        return True
