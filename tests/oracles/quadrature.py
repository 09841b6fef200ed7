"""E[f(u) f(v)] of a Gaussian pair by quadrature in two dimensions, for any function.

Gauss-Legendre in float64 on panels: v given u inside, u outside, both cut at the corners of f and
where it bends. The functions are Keras's own, run by TensorFlow in float64; so are their slopes.
"""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_FAR = 12.0

FUNCTIONS = {
    "arctan": (keras.ops.arctan, {}, ()),
    "celu": (keras.activations.celu, {"alpha": 0.7}, ()),
    "clipped_relu": (
        lambda u, **constants: keras.layers.ReLU(**constants, dtype="float64")(u),
        {"max_value": 2.0, "negative_slope": 0.3, "threshold": 0.0},
        (0.0, 2.0),
    ),
    "elu": (keras.activations.elu, {"alpha": 0.4}, ()),
    "gelu_tanh": (lambda u: keras.activations.gelu(u, approximate=True), {}, ()),
    "hard_shrink": (keras.activations.hard_shrink, {"threshold": 0.8}, (-0.8, 0.8)),
    "hard_sigmoid": (keras.activations.hard_sigmoid, {}, (-3.0, 3.0)),
    "hard_silu": (keras.activations.hard_silu, {}, (-3.0, 3.0)),
    "hard_swish": (keras.activations.hard_silu, {}, (-3.0, 3.0)),
    "hard_tanh": (keras.activations.hard_tanh, {}, (-1.0, 1.0)),
    "log_sigmoid": (keras.activations.log_sigmoid, {}, ()),
    "mish": (keras.activations.mish, {}, ()),
    "relu6": (keras.activations.relu6, {}, (0.0, 6.0)),
    "selu": (keras.activations.selu, {}, ()),
    "sigmoid": (keras.activations.sigmoid, {}, ()),
    "silu": (keras.activations.silu, {}, ()),
    "soft_shrink": (keras.activations.soft_shrink, {"threshold": 0.3}, (-0.3, 0.3)),
    "softplus": (keras.activations.softplus, {}, ()),
    "softsign": (keras.activations.softsign, {}, ()),
    "sparse_plus": (keras.activations.sparse_plus, {}, (-1.0, 1.0)),
    "sparse_sigmoid": (keras.activations.sparse_sigmoid, {}, (-1.0, 1.0)),
    "square": (keras.ops.square, {}, ()),
    "squareplus": (keras.activations.squareplus, {"b": 1.5}, ()),
    "swish": (keras.activations.silu, {}, ()),
    "tanh": (keras.activations.tanh, {}, ()),
    "tanh_shrink": (keras.activations.tanh_shrink, {}, ()),
    "threshold": (
        keras.activations.threshold, {"threshold": 0.6, "default_value": -0.2}, (0.6,),
    ),
}  # fmt: skip
"""By the name of the dual: a Keras function, its constants, and its corners away from 0."""


def function(name, constants=None):
    """(f, f', corners): numpy functions of arrays in float64.

    constants: those of the function, in the place of its entry's
    """
    phi, stated, corners = FUNCTIONS[name]
    constants = stated if constants is None else constants

    def value(u):
        return np.asarray(phi(tf.constant(u, tf.float64), **constants))

    def slope(u):
        x = tf.constant(u, tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = phi(x, **constants)
        return np.asarray(tape.gradient(y, x))

    return value, slope, corners


def pair(f, corners, c, q1, q2):
    """E[f(u) f(v)] for variances q1, q2 > 0 and covariance c."""
    s1, slope = math.sqrt(q1), c / q1
    rest = math.sqrt(max(q2 - slope * c, 0.0))
    bends = _bends(corners)
    cuts = [*np.arange(-_FAR, _FAR + 1), *(bends / s1)]
    if slope:  # where the mean of v passes a corner, as wide as its deviation
        width = max(rest / abs(slope) / s1, 1e-12)
        cuts += [t / slope / s1 + width * w for t in (0.0, *corners) for w in _around()]
    z, w = _panels(np.array(cuts)[None])
    z, w = z[0], w[0]
    inner = _conditional(f, bends, slope * s1 * z, rest)
    return float(w @ (f(s1 * z) * inner * _density(z)))


def dual(name, constants, c, q1, q2, *, derivative=False):
    """E[f(u) f(v)], or of f', elementwise over arrays of one shape; for variances from 0."""
    f, slope, corners = function(name, constants)
    f = slope if derivative else f
    out = np.empty(np.shape(c))
    for place in np.ndindex(out.shape):
        variances = max(q1[place], 1e-30), max(q2[place], 1e-30)
        limit = math.sqrt(variances[0] * variances[1])
        out[place] = pair(f, corners, min(max(c[place], -limit), limit), *variances)
    return out


def one(f, corners, q):
    """E[f(u)] for a variance q > 0."""
    return float(_conditional(f, _bends(corners), np.zeros(1), math.sqrt(q))[0])


def _conditional(f, bends, mean, rest):
    """E[f(mean + rest z)] for every mean."""
    if rest == 0.0:
        return f(mean)
    whole = np.broadcast_to(np.arange(-_FAR, _FAR + 1), (len(mean), int(2 * _FAR) + 1))
    z, w = _panels(np.concatenate([whole, (bends - mean[:, None]) / rest], 1))
    return (w * f(mean[:, None] + rest * z) * _density(z)).sum(1)


def _bends(corners):
    signs = np.array([-1.0, 1.0])[:, None] * _SCALES
    return np.unique(np.concatenate([[0.0], corners, signs.ravel()]))


def _around():
    return [0.0, *(sign * 2.0**j for sign in (-1, 1) for j in range(-1, 5))]


def _panels(cuts):
    """Points and weights on panels between the cuts of each row, within what a Gaussian reaches."""
    ends = np.sort(np.clip(cuts, -_FAR, _FAR), 1)
    low, high = ends[:, :-1, None], ends[:, 1:, None]
    z = (low + high) / 2 + (high - low) / 2 * _POINTS
    return z.reshape(len(cuts), -1), ((high - low) / 2 * _WEIGHTS).reshape(len(cuts), -1)


def _density(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
