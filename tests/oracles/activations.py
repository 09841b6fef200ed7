"""The case table of activations: one row for each dual, over which every test of duals runs.

A new activation is one class in keras2gp/covariance/duals and one row here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from scipy import special


@dataclass(frozen=True)
class Case:
    """One activation.

    numpy:     phi, its derivative (None if phi jumps) and the corners of phi apart from 0,
               in numpy, for constants by name
    keras:     phi in Keras, for a tensor and constants by name
    constants: the constants that are tested
    bound:     error of the covariance in float64, relative to the root of both second moments
    single:    the same in float32
    reason:    why a bound is wider than 1e-9 and 2e-5
    largest:   the largest variance at which float64 holds the dual
    exact:     E[phi(u) phi(v)] of (c, q1, q2), where quadrature cannot resolve phi
    expanded:  the dual is a series that states its own bounds
    slow:      tested by quadrature with -m slow only: a row of its kind is tested by default
    """

    numpy: Callable[..., tuple[Any, Any, tuple[float, ...]]]
    keras: Callable[..., Any]
    constants: dict[str, float] = field(default_factory=dict)
    bound: float = 1e-9
    single: float = 2e-5
    reason: str = ""
    largest: float = 1e12
    exact: Callable[..., Any] | None = None
    expanded: bool = False
    slow: bool = False

    def functions(self, constants=None):
        """phi, phi' and corners for constants by name; None: those that are tested."""
        return self.numpy(**(self.constants if constants is None else constants))


def plain(phi, slope):
    """A function without corners and constants."""
    return lambda: (phi, slope, ())


class Polynomials:
    """Polynomials of degree 2 at most between corners, rows of `coefficients`, constant first."""

    def __init__(self, corners, coefficients):
        self.corners = np.array(corners)
        self.coefficients = np.array([[*row, 0.0, 0.0][:3] for row in coefficients])

    def __call__(self, u):
        a, b, c = self.coefficients[np.searchsorted(self.corners, u)].T
        u = np.asarray(u, float)
        return (a.T + b.T * u) + c.T * u * u

    def slope(self):
        """The derivative between the corners."""
        return Polynomials(self.corners, self.coefficients[:, 1:] * [1.0, 2.0])

    def continuous(self):
        left, right = self.coefficients[:-1].T, self.coefficients[1:].T
        jump = (right - left)[0] + (right - left)[1] * self.corners
        return np.allclose(jump + (right - left)[2] * self.corners**2, 0)

    def mean(self, m, s):
        """E[phi(m + s z)] for every m, z standard normal and s > 0."""
        ends = (np.concatenate([[-40.0], self.corners, [40.0]])[:, None] - m) / s
        ends[0], ends[-1] = -40.0, 40.0
        ends = np.clip(ends, -40.0, 40.0)
        total = np.zeros_like(m)
        for low, high, (a, b, c) in zip(ends, ends[1:], self.coefficients, strict=False):
            upper = low + high > 0  # the nearer tail, which keeps its digits
            inside = special.ndtr(np.where(upper, -low, high))
            inside = inside - special.ndtr(np.where(upper, -high, low))
            bells = (np.exp(-z * z / 2) / math.sqrt(2 * math.pi) for z in (low, high))
            at_low, at_high = bells
            first = at_low - at_high
            second = inside + low * at_low - high * at_high
            total += a * inside + b * (m * inside + s * first)
            total += c * (m * m * inside + 2 * m * s * first + s * s * second)
        return total


def polynomials(corners, coefficients):
    """phi, phi' and corners of polynomials between corners."""
    phi = Polynomials(corners, coefficients)
    slope = phi.slope() if phi.continuous() else None
    return phi, slope, tuple(t for t in corners if t)


def pieces(corners, coefficients):
    """`polynomials` without constants."""
    return lambda: polynomials(corners, coefficients)


def clipped_relu(max_value=None, threshold=0.0, negative_slope=0.0):
    below = [-negative_slope * threshold, negative_slope]
    if max_value is None:
        return polynomials((threshold,), [below, [0.0, 1.0]])
    return polynomials((threshold, max_value), [below, [0.0, 1.0], [max_value]])


def exponential_unit(alpha=1.0, width=1.0, scale=1.0):
    """scale (u if u > 0 else alpha (exp(u / width) - 1))."""

    def phi(u):
        return scale * (np.maximum(u, 0) + alpha * np.expm1(np.minimum(u, 0) / width))

    def slope(u):
        return scale * np.where(u > 0, 1.0, alpha / width * np.exp(np.minimum(u, 0) / width))

    return phi, slope, ()


def hard_shrink(threshold=0.5):
    return polynomials((-threshold, threshold), [[0.0, 1.0], [0.0], [0.0, 1.0]])


def soft_shrink(threshold=0.5):
    outside = [[threshold, 1.0], [-threshold, 1.0]]
    return polynomials((-threshold, threshold), [outside[0], [0.0], outside[1]])


def gelu(u):
    return u * special.ndtr(u)


def slope_of_gelu(u):
    return special.ndtr(u) + u * np.exp(-u * u / 2) / math.sqrt(2 * math.pi)


def gelu_tanh(u):
    return u * special.expit(math.sqrt(8 / math.pi) * (u + 0.044715 * u**3))


def slope_of_gelu_tanh(u):
    a, b = math.sqrt(8 / math.pi), 0.044715
    s = special.expit(a * (u + b * u**3))
    return s + u * s * (1 - s) * a * (1 + 3 * b * u * u)


def mish(u):
    return u * np.tanh(np.logaddexp(0, u))


def slope_of_mish(u):
    t = np.tanh(np.logaddexp(0, u))
    return t + u * (1 - t * t) * special.expit(u)


def silu(u):
    return u * special.expit(u)


def slope_of_silu(u):
    s = special.expit(u)
    return s + u * s * (1 - s)


def slope_of_tanh(u):
    return 1 / np.cosh(np.clip(u, -300, 300)) ** 2


def tanh_shrink(u):
    """u - tanh(u), near 0 by its series, since the difference has no digits there."""
    z = u * u
    small = u * z * (1 / 3 - z * (2 / 15 - z * (17 / 315 - z * 62 / 2835)))
    return np.where(z < 1e-3, small, u - np.tanh(u))


def slope_of_erf(u):
    return 2 / math.sqrt(math.pi) * np.exp(-u * u)


def slope_of_sigmoid(u):
    return special.expit(u) * special.expit(-u)


def squareplus(b=4.0):
    return (
        lambda u: (u + np.sqrt(u * u + b)) / 2,
        lambda u: (1 + u / np.sqrt(u * u + b)) / 2,
        (),
    )


def sin_dual(c, q1, q2):
    return np.sign(c) * np.exp(abs(c) - (q1 + q2) / 2) * -np.expm1(-2 * abs(c)) / 2


def cos_dual(c, q1, q2):
    return np.exp(c - (q1 + q2) / 2) / 2 + np.exp(-c - (q1 + q2) / 2) / 2


def exp_dual(c, q1, q2):
    return np.exp((q1 + q2) / 2 + c)


EDGE = "arcsin has a vertical tangent at 1: a rounded covariance determines no more digits"
JUMP = "the density of a pair at a jump is steep next to |rho| = 1"
SELU = 1.6732632423543772, 1.0, 1.0507009873554805
acts, ops = keras.activations, keras.ops

CASES = {
    "abs": Case(pieces((0.0,), [[0.0, -1.0], [0.0, 1.0]]), ops.abs),
    "arctan": Case(
        plain(np.arctan, lambda u: 1 / (1 + u * u)), ops.arctan, expanded=True, slow=True
    ),
    "celu": Case(
        lambda alpha=1.0: exponential_unit(alpha, alpha),
        acts.celu,
        {"alpha": 0.7},
        expanded=True,
        slow=True,
    ),
    "clipped_relu": Case(
        clipped_relu,
        lambda u, **constants: keras.layers.ReLU(**constants, dtype="float64")(u),
        {"max_value": 2.0, "negative_slope": 0.3, "threshold": 0.0},
    ),
    "cos": Case(plain(np.cos, lambda u: -np.sin(u)), ops.cos, exact=cos_dual),
    "elu": Case(exponential_unit, acts.elu, {"alpha": 0.4}, expanded=True),
    "erf": Case(plain(special.erf, slope_of_erf), ops.erf),
    "exp": Case(plain(np.exp, np.exp), ops.exp, exact=exp_dual, largest=80.0),
    "gelu": Case(plain(gelu, slope_of_gelu), lambda u: acts.gelu(u, approximate=False)),
    "gelu_tanh": Case(
        plain(gelu_tanh, slope_of_gelu_tanh),
        lambda u: acts.gelu(u, approximate=True),
        expanded=True,
        slow=True,
    ),
    "hard_shrink": Case(hard_shrink, acts.hard_shrink, {"threshold": 0.8}, 1e-6, 2e-4, JUMP),
    "hard_sigmoid": Case(pieces((-3.0, 3.0), [[0.0], [1 / 2, 1 / 6], [1.0]]), acts.hard_sigmoid),
    "hard_silu": Case(
        pieces((-3.0, 3.0), [[0.0], [0.0, 1 / 2, 1 / 6], [0.0, 1.0]]), acts.hard_silu
    ),
    "hard_tanh": Case(pieces((-1.0, 1.0), [[-1.0], [0.0, 1.0], [1.0]]), acts.hard_tanh),
    "heaviside": Case(
        pieces((0.0,), [[0.0], [1.0]]),
        lambda u: ops.heaviside(u, ops.zeros_like(u)),
        bound=3e-8,
        single=4e-4,
        reason=EDGE,
    ),
    "leaky_relu": Case(
        lambda negative_slope=0.2: polynomials((0.0,), [[0.0, negative_slope], [0.0, 1.0]]),
        acts.leaky_relu,
        {"negative_slope": 0.25},
    ),
    "log_sigmoid": Case(
        plain(lambda u: -np.logaddexp(0, -u), lambda u: special.expit(-u)),
        acts.log_sigmoid,
        expanded=True,
        slow=True,
    ),
    "mish": Case(plain(mish, slope_of_mish), acts.mish, expanded=True, slow=True),
    "relu": Case(pieces((0.0,), [[0.0], [0.0, 1.0]]), acts.relu),
    "relu6": Case(pieces((0.0, 6.0), [[0.0], [0.0, 1.0], [6.0]]), acts.relu6),
    "selu": Case(lambda: exponential_unit(*SELU), acts.selu, expanded=True, slow=True),
    "sigmoid": Case(plain(special.expit, slope_of_sigmoid), acts.sigmoid, expanded=True, slow=True),
    "silu": Case(plain(silu, slope_of_silu), acts.silu, expanded=True),
    "sin": Case(plain(np.sin, np.cos), ops.sin, exact=sin_dual),
    "soft_shrink": Case(soft_shrink, acts.soft_shrink, {"threshold": 0.3}),
    "softplus": Case(
        plain(lambda u: np.logaddexp(0, u), special.expit), acts.softplus, expanded=True
    ),
    "softsign": Case(
        plain(lambda u: u / (1 + np.abs(u)), lambda u: 1 / (1 + np.abs(u)) ** 2),
        acts.softsign,
        expanded=True,
        slow=True,
    ),
    "sparse_plus": Case(
        pieces((-1.0, 1.0), [[0.0], [1 / 4, 1 / 2, 1 / 4], [0.0, 1.0]]),
        acts.sparse_plus,
    ),
    "sparse_sigmoid": Case(
        pieces((-1.0, 1.0), [[0.0], [1 / 2, 1 / 2], [1.0]]), acts.sparse_sigmoid
    ),
    "square": Case(pieces((), [[0.0, 0.0, 1.0]]), ops.square),
    "squareplus": Case(squareplus, acts.squareplus, {"b": 1.5}, expanded=True, slow=True),
    "tanh": Case(plain(np.tanh, slope_of_tanh), acts.tanh, expanded=True),
    "tanh_shrink": Case(
        plain(tanh_shrink, lambda u: np.tanh(u) ** 2), acts.tanh_shrink, expanded=True, slow=True
    ),
    "threshold": Case(
        lambda threshold, default_value: polynomials((threshold,), [[default_value], [0.0, 1.0]]),
        acts.threshold,
        {"threshold": 0.6, "default_value": -0.2},
        1e-6,
        2e-4,
        JUMP,
    ),
}
"""By the name of the dual."""

SYNONYMS = {"absolute": "abs", "exponential": "exp", "hard_swish": "hard_silu", "swish": "silu"}
CASES |= {name: replace(CASES[other], slow=True) for name, other in SYNONYMS.items()}
