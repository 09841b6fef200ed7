"""Activations, sums and factors: pointwise on the maps."""

from __future__ import annotations

from keras2gp.graph.ops import Scale, Sum
from keras2gp.rules.covariance import Pairs, Tensor
from keras2gp.rules.registry import rule

__all__ = ["scale", "weighted_sum"]


@rule(Sum)
def weighted_sum(op: Sum, maps: tuple[Tensor, ...], pairs: Pairs) -> Tensor:
    """k' = sum of c_i^2 k_i over independent terms (equation 16)."""
    del pairs
    terms = zip(op.coefficients, maps, strict=True)
    return sum(k if c * c == 1.0 else c * c * k for c, k in terms)


@rule(Scale)
def scale(op: Scale, maps: tuple[Tensor, ...], pairs: Pairs) -> Tensor:
    """k' = factor^2 k."""
    del pairs
    return op.factor**2 * maps[0]
