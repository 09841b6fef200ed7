"""Random layers: k' = b2 + w2 k, and the averages over what the weights sum over."""

from __future__ import annotations

import math

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Here, materialised
from keras2gp.covariance.joint import scaled, total
from keras2gp.covariance.registry import rule
from keras2gp.graph.features import Depthwise
from keras2gp.graph.ops import Affine, Input, Mixture, Positions

__all__ = ["affine", "data", "depthwise", "mixture", "positions"]


@rule(Input)
def data(op: Input, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k = mean over channels of x1 x2 (equation 10)."""
    del maps
    return here.pairs.data(here.index, op, here.place)


@rule(Affine)
def affine(op: Affine, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = b2 + w2 k (equations 10 and 11)."""
    (k,) = maps
    w2, b2 = here.parameters.of(op.layer)
    return b2 + w2 * k


@rule(Depthwise)
def depthwise(op: Depthwise, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = b2 + w2 k: as for weights over channels, but the result is not Gaussian."""
    (k,) = maps
    w2, b2 = here.parameters.of(op.layer)
    return b2 + w2 * k


@rule(Positions)
def positions(op: Positions, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = mean over all positions of k: weights of different positions are independent."""
    # Within the sum, XLA would compute what it sums over entry by entry, across the whole map.
    k = materialised(maps[0], here.parameters)
    count = math.prod(k.shape[: op.rank])
    return scaled(total(k, op.rank, lambda k: materialised(k, here.parameters)), 1 / count)


@rule(Mixture)
def mixture(op: Mixture, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = sum of C_i / C k_i over channel groups i."""
    del here
    return sum(weight * k for weight, k in zip(op.weights, maps, strict=True))
