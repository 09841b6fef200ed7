"""An independent implementation in numpy: slow, plain loops, nothing of keras2gp.

Follows a Keras graph back from its output and carries the covariance [*spatial, N, N] of all
images with one another at every position; variances are its diagonal. Sums are of independent
branches: models where that matters are tested against numbers instead.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import keras
import numpy as np

from oracles import quadrature
from oracles.activations import CASES


@dataclass
class Map:
    """k: [*spatial, N, N], or data: [N, ...] for a deterministic tensor."""

    k: np.ndarray | None = None
    data: np.ndarray | None = None

    def covariance(self, *, first=False):
        if self.k is not None:
            return self.k
        x = np.moveaxis(self.data, 1, -1) if first else self.data
        count, *spatial, channels = x.shape
        k = np.zeros((*spatial, count, count))
        for g in np.ndindex(*spatial):
            at = x[(slice(None), *g)]
            k[g] = at @ at.T / channels
        return k


def reference_kernel(model, x1, x2=None):
    """Kernel matrix [N1, N2] of a Keras model's initialisers; lists of arrays for several inputs.

    Inputs are float64 [N, *shape]; the model has one output.
    """
    x2 = x1 if x2 is None else x2
    arrays1, arrays2 = ([x] if isinstance(x, np.ndarray) else list(x) for x in (x1, x2))
    images = [np.concatenate(pair).astype(float) for pair in zip(arrays1, arrays2, strict=True)]
    (output,) = _evaluate(model, [Map(data=x) for x in images])
    count = len(arrays1[0])
    k = output.covariance()
    return k.reshape(*k.shape[-2:])[:count, count:]


def _evaluate(model, inputs):
    functional = model._functional if isinstance(model, keras.Sequential) else model
    known = {id(t): value for t, value in zip(functional.inputs, inputs, strict=True)}

    def value(tensor):
        if id(tensor) not in known:
            operation, index, _ = tensor._keras_history
            node = operation._inbound_nodes[index]
            sources = [value(t) for t in node.input_tensors]
            if isinstance(operation, keras.Model):
                results = _evaluate(operation, sources)
            else:
                results = [_apply(operation, sources)]
            known.update((id(t), r) for t, r in zip(node.outputs, results, strict=True))
        return known[id(tensor)]

    return [value(t) for t in functional.outputs]


def _apply(layer, sources):  # noqa: C901 (a table of cases)
    kind = type(layer).__name__
    source = sources[0]
    if kind in ("Dropout", "GaussianNoise", "Identity", "SpatialDropout2D"):
        return source
    if kind == "Dense":
        return _activated(layer, _affine(layer, source.covariance()))
    if kind in ("Conv1D", "Conv2D", "Conv3D"):
        first = layer.data_format == "channels_first"
        k = window_mean(
            source.covariance(first=first),
            layer.kernel_size,
            layer.strides,
            layer.dilation_rate,
            layer.padding,
        )
        return _activated(layer, _affine(layer, k))
    if kind == "Flatten":
        k = source.covariance()
        return Map(k.mean(axis=tuple(range(k.ndim - 2))))
    if kind in ("Add", "Subtract"):
        return Map(sum(s.covariance() for s in sources))
    if kind == "Average":
        return Map(sum(s.covariance() for s in sources) / len(sources) ** 2)
    if kind == "BatchNormalization":
        return Map(source.covariance() / (1.0 + layer.epsilon))
    if kind in ("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"):
        pads = _pairs(layer.padding)
        return Map(np.pad(source.covariance(), [*pads, (0, 0), (0, 0)]))
    if kind in ("Cropping1D", "Cropping2D", "Cropping3D"):
        k = source.covariance()
        cut = zip(_pairs(layer.cropping), k.shape, strict=False)
        return Map(k[tuple(slice(a, n - b) for (a, b), n in cut)])
    if kind == "Reshape":
        k = source.covariance()
        return Map(k.reshape(*layer.target_shape[:-1], *k.shape[-2:]))
    return _activated(layer, source)


def _pairs(values):
    return [tuple(values)] if isinstance(values[0], int) else [tuple(v) for v in values]


def _affine(layer, k):
    fan_in, fan_out = math.prod(layer.kernel.shape[:-1]), layer.kernel.shape[-1]
    w2 = fan_in * _variance(layer.kernel_initializer, fan_in, fan_out)
    b2 = _variance(layer.bias_initializer, 1, 1) if layer.use_bias else 0.0
    return Map(b2 + w2 * k)


def _variance(initializer, fan_in, fan_out):
    kind = type(initializer).__name__
    if kind == "Zeros":
        return 0.0
    if kind == "RandomNormal":
        return initializer.stddev**2
    if kind in ("GlorotUniform", "GlorotNormal"):
        return 2.0 / (fan_in + fan_out)
    assert initializer.mode == "fan_in"
    return initializer.scale / fan_in


def window_mean(k, window, strides, dilation, padding):
    """Mean over the taps of a convolution's window, zero outside, by loops over everything."""
    spatial = k.shape[: len(window)]
    sizes, before = [], []
    for n, w, s, r in zip(spatial, window, strides, dilation, strict=True):
        reach = (w - 1) * r + 1
        if padding == "same":
            size = -(-n // s)
            before.append(max((size - 1) * s + reach - n, 0) // 2)
        elif padding == "causal":
            size = -(-n // s)
            before.append(reach - 1)
        else:
            size = (n - reach) // s + 1
            before.append(0)
        sizes.append(size)
    out = np.zeros((*sizes, *k.shape[len(window) :]))
    for g in np.ndindex(*sizes):
        for tap in itertools.product(*(range(w) for w in window)):
            place = tuple(
                i * s + t * r - b
                for i, s, t, r, b in zip(g, strides, tap, dilation, before, strict=True)
            )
            if all(0 <= p < n for p, n in zip(place, spatial, strict=True)):
                out[g] += k[place]
    return out / math.prod(window)


def _activated(layer, value):
    name, constant = _activation(layer)
    if name == "linear":
        return value
    k = value.covariance()
    q = np.diagonal(k, axis1=-2, axis2=-1)
    q1, q2 = np.broadcast_arrays(q[..., :, None], q[..., None, :])
    return Map(dual_activation(name, constant, k, q1, q2))


def _activation(layer):
    kind = type(layer).__name__
    if kind == "LeakyReLU":
        return "leaky_relu", layer.negative_slope
    if kind == "ReLU" and layer.max_value is not None:
        names = ("max_value", "negative_slope", "threshold")
        return "clipped_relu", {name: getattr(layer, name) for name in names}
    if kind == "ELU":
        return "elu", {"alpha": layer.alpha}
    if kind == "ReLU":
        return "leaky_relu", layer.negative_slope
    if kind == "PReLU":
        return "leaky_relu", getattr(layer.alpha_initializer, "value", 0.0)
    if hasattr(layer, "activation"):
        name = layer.activation.__name__
        return name, 0.2 if name == "leaky_relu" else None
    if kind == "LeakyRelu":
        return "leaky_relu", layer.negative_slope
    return kind.lower(), None


def relu_dual(c, q1, q2):
    """Cho and Saul's arc-cosine kernel of order 1, halved twice: E[relu(u) relu(v)]."""
    size = np.sqrt(q1 * q2)
    rho = np.clip(np.divide(c, size, out=np.zeros_like(size), where=size > 0), -1.0, 1.0)
    angle = np.arccos(rho)
    return size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)


def dual_activation(name, constant, c, q1, q2):
    """E[phi(u) phi(v)], elementwise over arrays of one shape."""
    if name == "relu":
        return relu_dual(c, q1, q2)
    if name in ("leaky_relu", "abs", "absolute"):
        a = constant if name == "leaky_relu" else -1.0
        return (1 + a * a) * relu_dual(c, q1, q2) - 2 * a * relu_dual(-c, q1, q2)
    if name == "erf":
        return (2 / np.pi) * np.arcsin(2 * c / np.sqrt((1 + 2 * q1) * (1 + 2 * q2)))
    if name == "gelu":
        return quadrature.hermite(CASES[name].functions()[0], c, q1, q2)
    if CASES[name].exact:
        return CASES[name].exact(c, q1, q2)
    return quadrature.dual(name, constant or {}, c, q1, q2)
