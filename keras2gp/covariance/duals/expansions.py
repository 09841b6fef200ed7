"""Dual activations of smooth functions without closed form, expanded in Hermite polynomials.

Each class is its phi; hermite.py says how it is expanded and how exact that is.
"""

from __future__ import annotations

import math

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.duals.hermite import Hermite
from keras2gp.covariance.registry import dual

__all__ = [
    "Arctan",
    "Celu",
    "Elu",
    "GeluTanh",
    "LogSigmoid",
    "Mish",
    "Selu",
    "Sigmoid",
    "Silu",
    "Softplus",
    "Softsign",
    "Squareplus",
    "Tanh",
    "TanhShrink",
]

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


class _Named(Hermite):
    """A function of Keras, whose sums are compared with quadrature up to the largest variance."""

    everywhere = True


@dual("tanh")
class Tanh(_Named):
    """tanh(u), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return tf.tanh(u)


@dual("sigmoid")
class Sigmoid(_Named):
    """1 / (1 + exp(-u)), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return tf.sigmoid(u)


@dual("arctan")
class Arctan(_Named):
    """arctan(u), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return tf.atan(u)


@dual("softsign")
class Softsign(_Named):
    """u / (1 + |u|), expanded."""

    kinks = (0.0,)

    def phi(self, u: Tensor) -> Tensor:
        return u / (1 + tf.abs(u))


@dual("silu")
class Silu(_Named):
    """u sigmoid(u), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return u * tf.sigmoid(u)


dual("swish")(Silu)


@dual("mish")
class Mish(_Named):
    """u tanh(softplus(u)), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return u * tf.tanh(tf.math.softplus(u))


@dual("gelu_tanh")
class GeluTanh(_Named):
    """u (1 + tanh(sqrt(2 / pi) (u + 0.044715 u^3))) / 2, expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return u * tf.sigmoid(math.sqrt(8 / math.pi) * (u + 0.044715 * u * u * u))


@dual("tanh_shrink")
class TanhShrink(_Named):
    """u - tanh(u), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return u - tf.tanh(u)


@dual("elu")
class Elu(_Named):
    """u if u > 0 else alpha (exp(u) - 1), expanded."""

    constants = ("alpha",)
    kinks = (0.0,)

    def __init__(self, alpha: float = 1.0, degree: float | None = None) -> None:
        super().__init__(degree)
        self.alpha = alpha

    @property
    def kappa(self) -> float:
        return (1 - self.alpha) / 2

    def phi(self, u: Tensor) -> Tensor:
        return tf.maximum(u, 0) + self.alpha * tf.math.expm1(tf.minimum(u, 0))


@dual("selu")
class Selu(_Named):
    """1.0507 elu(u) with alpha = 1.6733, expanded."""

    kinks = (0.0,)
    kappa = _SELU_SCALE * (1 - _SELU_ALPHA) / 2

    def phi(self, u: Tensor) -> Tensor:
        below = _SELU_ALPHA * tf.math.expm1(tf.minimum(u, 0))
        return _SELU_SCALE * (tf.maximum(u, 0) + below)


@dual("celu")
class Celu(_Named):
    """u if u > 0 else alpha (exp(u / alpha) - 1), expanded."""

    constants = ("alpha",)
    kinks = (0.0,)

    def __init__(self, alpha: float = 1.0, degree: float | None = None) -> None:
        super().__init__(degree)
        self.alpha = alpha

    def phi(self, u: Tensor) -> Tensor:
        return tf.maximum(u, 0) + self.alpha * tf.math.expm1(tf.minimum(u, 0) / self.alpha)


@dual("softplus")
class Softplus(_Named):
    """log(1 + exp(u)), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return tf.math.softplus(u)


@dual("log_sigmoid")
class LogSigmoid(_Named):
    """-log(1 + exp(-u)), expanded."""

    def phi(self, u: Tensor) -> Tensor:
        return -tf.math.softplus(-u)


@dual("squareplus")
class Squareplus(_Named):
    """(u + sqrt(u^2 + b)) / 2, expanded."""

    constants = ("b",)

    def __init__(self, b: float = 4.0, degree: float | None = None) -> None:
        super().__init__(degree)
        self.b = b

    @property
    def kappa(self) -> float:
        return 0.5 if self.b == 0 else 0.0

    def phi(self, u: Tensor) -> Tensor:
        return (u + tf.sqrt(u * u + self.b)) / 2
