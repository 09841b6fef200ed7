"""Random layers: k' = b2 + w2 k, and the averages over what the weights sum over."""

from __future__ import annotations

import tensorflow as tf

from keras2gp.graph.ops import Affine, Input, Mixture, Positions
from keras2gp.rules.covariance import Pairs, Tensor
from keras2gp.rules.registry import rule

__all__ = ["affine", "data", "mixture", "positions"]


@rule(Input)
def data(op: Input, maps: tuple[Tensor, ...], pairs: Pairs) -> Tensor:
    """k = mean over channels of x1 x2 (equation 10)."""
    del maps
    return pairs.data(op)


@rule(Affine)
def affine(op: Affine, maps: tuple[Tensor, ...], pairs: Pairs) -> Tensor:
    """k' = b2 + w2 k (equations 10 and 11)."""
    (k,) = maps
    w2, b2 = pairs.parameters.of(op.layer)
    return b2 + w2 * k


@rule(Positions)
def positions(op: Positions, maps: tuple[Tensor, ...], pairs: Pairs) -> Tensor:
    """k' = mean over all positions of k: weights of different positions are independent."""
    del pairs
    (k,) = maps
    return tf.reduce_mean(k, axis=list(range(op.rank)))


@rule(Mixture)
def mixture(op: Mixture, maps: tuple[Tensor, ...], pairs: Pairs) -> Tensor:
    """k' = sum of C_i / C k_i over channel groups i."""
    del pairs
    return sum(weight * k for weight, k in zip(op.weights, maps, strict=True))
