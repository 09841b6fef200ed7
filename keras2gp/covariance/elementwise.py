"""Activations, sums and factors: pointwise on the maps."""

from __future__ import annotations

from itertools import permutations

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Here
from keras2gp.covariance.registry import dual_of, rule
from keras2gp.graph.ops import Activation, Scale, Sum

__all__ = ["activation", "scale", "weighted_sum"]


@rule(Activation)
def activation(op: Activation, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = E[phi(u) phi(v)], by the dual activation."""
    (k,) = maps
    dual = dual_of(op)
    s1, s2 = here.own(lambda: dual.prepare(k))
    return dual.variance(k, s1) if here.alone else dual.covariance(k, s1, s2)


@rule(Sum)
def weighted_sum(op: Sum, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = sum of c_i^2 k_i over independent terms (equation 16), and of their means' products.

    Math: + sum over i != j of c_i c_j m_i(x1) m_j(x2), where terms are features with means m.
    """
    terms = zip(op.coefficients, maps, strict=True)
    total = sum(k if c * c == 1.0 else c * c * k for c, k in terms)
    if here.index not in here.pairs.with_means:
        return total
    count = range(len(maps))
    m1, m2 = here.own(lambda: tuple(here.mean(i) for i in count))
    c = op.coefficients
    return total + sum(c[i] * c[j] * m1[i] * m2[j] for i, j in permutations(count, 2))


@rule(Scale)
def scale(op: Scale, maps: tuple[Tensor, ...], here: Here) -> Tensor:
    """k' = factor^2 k."""
    del here
    return op.factor**2 * maps[0]
