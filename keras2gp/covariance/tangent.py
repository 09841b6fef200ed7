"""The neural tangent kernel, alongside: Theta' of each op, and where both kernels vanish.

In the parameterisation in which every weight and bias contributes its variance. A linear op does
to Theta what it does to the covariance; Theta is None where it is 0, before the first weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Covariance, Here
from keras2gp.covariance.normalization import normalization_statistics
from keras2gp.covariance.registry import dual_of, rule_of
from keras2gp.graph.features import Depthwise, Normalize
from keras2gp.graph.ops import Activation, Affine, Input, Op, Spread, Sum

__all__ = ["tangent", "vanishes"]


def tangent(
    op: Op,
    k: Tensor,
    maps: tuple[Tensor, ...],
    thetas: Sequence[Tensor | None],
    here: Here,
) -> Tensor | None:
    """Theta' of one op.

    k:      its covariance
    maps:   the covariances of its inputs
    thetas: the tangent kernels of its inputs
    """
    if isinstance(op, Affine | Depthwise):  # weights and biases of its own, and those before
        w2, _ = here.parameters.of(op.layer)
        return k if thetas[0] is None else k + w2 * thetas[0]
    if all(theta is None for theta in thetas):
        return None
    known = tuple(
        tf.zeros_like(map_) if theta is None else theta
        for theta, map_ in zip(thetas, maps, strict=True)
    )
    match op:
        case Activation():
            return known[0] * _slope(op, maps[0], here)
        case Sum():
            return sum(c * c * theta for c, theta in zip(op.coefficients, known, strict=True))
        case Normalize():
            (r1, *_), (r2, *_) = here.own(lambda: normalization_statistics(op, maps, here))
            return known[op.group] * r1 * r2
    return rule_of(op)(op, known, here)


def _slope(op: Activation, k: Tensor, here: Here) -> Tensor:
    """E[phi'(u) phi'(v)]."""
    dual = dual_of(op)
    s1, s2 = here.own(lambda: dual.prepare(k))
    return dual.derivative_variance(k, s1) if here.alone else dual.derivative(k, s1, s2)


def vanishes(op: Op, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
    """Whether the covariance, and Theta, are 0 where g + d is beyond the border."""
    if isinstance(op, Input | Spread | Normalize):
        return True, True
    zeros = all(k.zeros for k in inputs)
    ntk_zeros = all(k.ntk is None or k.ntk_zeros for k in inputs)
    if isinstance(op, Activation):
        return dual_of(op).vanishes, ntk_zeros
    return op.keeps_zeros and zeros, op.keeps_zeros and ntk_zeros
