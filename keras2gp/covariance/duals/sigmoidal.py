"""Dual activations of bounded functions, and of what is made of them."""

from __future__ import annotations

import math

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.duals.hermite import Hermite
from keras2gp.covariance.registry import dual

__all__ = ["Arctan", "GeluTanh", "Mish", "Sigmoid", "Silu", "Softsign", "Tanh", "TanhShrink"]


@dual("tanh")
class Tanh(Hermite):
    """tanh(u), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return tf.tanh(u)


@dual("sigmoid")
class Sigmoid(Hermite):
    """1 / (1 + exp(-u)), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return tf.sigmoid(u)


@dual("arctan")
class Arctan(Hermite):
    """arctan(u), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return tf.atan(u)


@dual("softsign")
class Softsign(Hermite):
    """u / (1 + |u|), expanded."""

    kinks = (0.0,)

    def phi(self, u: Tensor) -> Tensor:
        return u / (1 + tf.abs(u))


@dual("silu")
class Silu(Hermite):
    """u sigmoid(u), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return u * tf.sigmoid(u)


dual("swish")(Silu)


@dual("mish")
class Mish(Hermite):
    """u tanh(softplus(u)), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return u * tf.tanh(tf.math.softplus(u))


@dual("gelu_tanh")
class GeluTanh(Hermite):
    """u (1 + tanh(sqrt(2 / pi) (u + 0.044715 u^3))) / 2, expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return u * tf.sigmoid(math.sqrt(8 / math.pi) * (u + 0.044715 * u * u * u))


@dual("tanh_shrink")
class TanhShrink(Hermite):
    """u - tanh(u), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return u - tf.tanh(u)
