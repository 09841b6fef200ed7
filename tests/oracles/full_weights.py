"""Layers with weights in the full oracle: each gives a source of its own."""

from __future__ import annotations

import contextlib
import math

import keras
import numpy as np
import tensorflow as tf

from oracles.full_maps import Group, Map, Source, any_channel, matrix_of, origins


def variance(initializer, shape):
    """Var(w) of a Keras initialiser; the fans as Keras counts them, [*window, in, out]."""
    kind = type(initializer).__name__
    if kind == "RandomNormal":
        return initializer.stddev**2
    if kind == "RandomUniform":
        return (initializer.maxval - initializer.minval) ** 2 / 12
    if kind == "Orthogonal":  # square: its rows are unit vectors
        return initializer.gain**2 / shape[0]
    if kind in ("Constant", "Ones", "Zeros"):  # no variance about the mean
        return 0.0
    window = math.prod(shape[:-2])
    fans = {"fan_in": window * shape[-2], "fan_out": window * shape[-1]}
    fans["fan_avg"] = sum(fans.values()) / 2
    return initializer.scale / fans[initializer.mode]


def _bias(layer):
    has_bias = getattr(layer, "use_bias", getattr(layer, "bias", None) is not None)
    return variance(layer.bias_initializer, (1,)) if has_bias else 0.0


def _bare(layer):
    """The same convolution of one channel, whose taps can be set."""
    name = type(layer).__name__.replace("Separable", "Depthwise")
    settings = {key: getattr(layer, key) for key in ("kernel_size", "strides", "dilation_rate")}
    settings |= {"padding": layer.padding, "use_bias": False, "dtype": "float64"}
    settings["data_format"] = "channels_last"
    if "Depthwise" not in name:
        settings["filters"] = 1
    if "Transpose" in name:
        settings["output_padding"] = layer.output_padding
    return getattr(keras.layers, name)(**settings)


def _taps(layer, spatial):
    """The matrix of each tap alone, by Keras, and the output's spatial shape."""
    bare, taps = _bare(layer), []
    bare.build((None, *spatial, 1))
    # Without XLA, TensorFlow has no dilated transposed convolution on a CPU.
    run = tf.function(bare.call, jit_compile=True) if max(layer.dilation_rate) > 1 else bare
    for place in np.ndindex(*layer.kernel_size):
        kernel = np.zeros(bare.kernel.shape)
        kernel[(*place, 0, 0)] = 1.0
        bare.kernel.assign(kernel)
        taps.append(matrix_of(run, spatial))
    return taps


def _over_taps(second, taps):
    return sum(m @ second @ m.T for m, _ in taps) / len(taps)


_CORRELATION = [1.0]
"""Correlation of every weight for one image with that weight for another: [N, N], or a number."""


@contextlib.contextmanager
def correlated(matrix):
    """Images have networks of their own, whose weights and biases correlate as stated."""
    _CORRELATION.append(matrix[:, :, None, None])
    try:
        yield
    finally:
        _CORRELATION.pop()


def correlation():
    """Correlation of every weight for one image with that weight for another: [N, N, 1, 1]."""
    return _CORRELATION[-1]


def source_of(second, channels):
    """A group of mean 0, all its own source."""
    second = correlation() * second
    made = Source(second, np.zeros(second.shape[1:3]))
    return Group(channels, {(made, 0): np.eye(second.shape[-1])})


def _mixed(seconds, groups):
    weights = np.array([g.channels for g in groups]) / sum(g.channels for g in groups)
    return sum(w * second for w, second in zip(weights, seconds, strict=True))


def _convolution(layer, source):
    if getattr(layer, "groups", 1) == sum(g.channels for g in source.groups) > 1:
        return _depthwise(layer, source)
    taps = _taps(layer, source.spatial)
    k = _mixed([_over_taps(g.second, taps) for g in source.groups], source.groups)
    w2 = math.prod(layer.kernel.shape[:-1]) * variance(layer.kernel_initializer, layer.kernel.shape)
    return Map(taps[0][1], [source_of(_bias(layer) + w2 * k, layer.filters)])


def _transposed(layer, source):
    taps = _taps(layer, source.spatial)
    k = _mixed([_over_taps(g.second, taps) for g in source.groups], source.groups)
    fan_in = len(taps) * layer.kernel.shape[-1]
    w2 = fan_in * variance(layer.kernel_initializer, layer.kernel.shape)
    return Map(taps[0][1], [source_of(_bias(layer) + w2 * k, layer.filters)])


def _depthwise(layer, source):
    taps = _taps(layer, source.spatial)
    initializer = getattr(layer, "depthwise_initializer", None) or layer.kernel_initializer
    kernel = getattr(layer, "depthwise_kernel", None)
    kernel = layer.kernel if kernel is None else kernel
    w2 = len(taps) * variance(initializer, kernel.shape)
    b2 = 0.0 if "Separable" in type(layer).__name__ else _bias(layer)
    per = kernel.shape[-1] if "Depthwise" in type(layer).__name__ else 1
    seconds = [b2 + w2 * _over_taps(g.second, taps) for g in source.groups]
    made = [_channelwise(k, g, per) for k, g in zip(seconds, source.groups, strict=True)]
    return Map(taps[0][1], made)


def _channelwise(second, group, per):
    """A group of weights times single channels of another: of random ones not Gaussian."""
    made = source_of(second, group.channels * per)
    held = any_channel(origins(group.terms))
    if held:
        ((source, _),) = made.terms
        source.function = True
        source.factors += ((held, False),)
    return made


def _separable(layer, source):
    features = _depthwise(layer, source)
    shape = layer.pointwise_kernel.shape
    w2 = math.prod(shape[:-1]) * variance(layer.pointwise_initializer, shape)
    k = _mixed([g.second for g in features.groups], features.groups)
    return Map(features.spatial, [source_of(_bias(layer) + w2 * k, layer.filters)])


def _dense(layer, source):
    w2 = layer.kernel.shape[0] * variance(layer.kernel_initializer, layer.kernel.shape)
    if len(layer.input.shape) > 2:
        k, spatial = _mixed([g.second for g in source.groups], source.groups), source.spatial
    else:
        seconds = [g.second for g in source.groups]
        sizes = [g.channels * k.shape[-1] for g, k in zip(source.groups, seconds, strict=True)]
        means = [np.einsum("ijpp->ij", k) / k.shape[-1] for k in seconds]
        k = sum(n * m for n, m in zip(sizes, means, strict=True)) / sum(sizes)
        k, spatial = k[:, :, None, None], ()
    return Map(spatial, [source_of(_bias(layer) + w2 * k, layer.kernel.shape[-1])])


WEIGHTED = {
    "Dense": _dense,
    "EinsumDense": _dense,
    **{f"Conv{rank}D": _convolution for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": _transposed for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _depthwise for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _separable for rank in (1, 2)},
}
