"""An independent implementation that carries the covariance of all positions with one another.

Every tensor is a sum of matrices times independent sources, a source being what a layer with
weights or an activation gives: moments of all images at all positions. The matrices of linear
layers are found by running Keras itself on images with a single one, so that its arithmetic of
padding and strides is not repeated here. Numbers are float64, the matrices exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import keras
import numpy as np
import oracle


@dataclass(eq=False)
class Source:
    """second: E[A A'] [N, N, P, P] of images and positions; mean: E[A], [N, P]."""

    second: np.ndarray
    mean: np.ndarray

    @property
    def centered(self):
        return self.second - np.einsum("ip,jq->ijpq", self.mean, self.mean)


@dataclass
class Group:
    """Channels that are alike: matrices [P, P of the source] by source."""

    channels: int
    terms: dict = field(default_factory=dict)

    @property
    def mean(self):
        return sum(np.einsum("pa,ia->ip", m, s.mean) for s, m in self.terms.items())

    @property
    def second(self):
        total = np.einsum("ip,jq->ijpq", self.mean, self.mean)
        for source, m in self.terms.items():
            total = total + np.einsum("pa,ijab,qb->ijpq", m, source.centered, m)
        return total

    def map(self, matrix, channels=None):
        terms = {s: matrix @ m for s, m in self.terms.items()}
        return Group(channels or self.channels, terms)


@dataclass
class Map:
    """A tensor: channel groups over positions of this shape; data: [N, *shape], channels last."""

    spatial: tuple = ()
    groups: list = field(default_factory=list)
    data: np.ndarray | None = None

    def random(self):
        """With the data as a group; its mean is not alike for channels, and not asked for."""
        if self.data is None:
            return self
        count, *spatial, channels = self.data.shape
        x = self.data.reshape(count, -1, channels)
        second = np.einsum("ipc,jqc->ijpq", x, x) / channels
        source = Source(second, np.zeros(second.shape[1:3]))
        return Map(tuple(spatial), [Group(channels, {source: np.eye(x.shape[1])})])


def full_kernel(model, x1, x2):
    """Kernel matrix [N1, N2]; the output is one position of one channel group."""
    arrays = zip(*(x if isinstance(x, list) else [x] for x in (x1, x2)), strict=True)
    images = [Map(data=np.concatenate(pair).astype(float)) for pair in arrays]
    count = len(x1[0] if isinstance(x1, list) else x1)
    (output,) = evaluate(model, images)
    (group,) = output.groups
    return group.second[:count, count:, 0, 0]


def evaluate(model, inputs):
    functional = model._functional if isinstance(model, keras.Sequential) else model
    known = {id(t): value for t, value in zip(functional.inputs, inputs, strict=True)}

    def value(tensor):
        if id(tensor) not in known:
            operation, index, _ = tensor._keras_history
            node = operation._inbound_nodes[index]
            sources = [value(t) for t in node.input_tensors]
            known[id(node.outputs[0])] = apply(operation, sources, node)
        return known[id(tensor)]

    return [value(t) for t in functional.outputs]


def apply(layer, sources, node):
    kind = type(layer).__name__
    source = sources[0]
    if all(s.data is not None for s in sources) and kind not in WEIGHTED:
        arrays = [s.data for s in sources]
        made = layer(arrays if len(arrays) > 1 else arrays[0])
        return Map(data=np.asarray(made, "float64"))
    first = getattr(layer, "data_format", None) == "channels_first"
    if source.data is not None and first:
        source = Map(data=np.moveaxis(source.data, 1, -1))
    sources = [s.random() for s in (source, *sources[1:])]
    source = sources[0]
    if kind in WEIGHTED:
        return activated(layer, WEIGHTED[kind](layer, source))
    if kind in ("Concatenate",):
        return Map(source.spatial, [group for s in sources for group in s.groups])
    if kind in COEFFICIENTS:
        return added(sources, COEFFICIENTS[kind](layer, len(sources)))
    if kind in ("Activation", "ReLU", "LeakyReLU", "Erf", "Sin", "Abs"):
        return activated(layer, source)
    if kind in ("Flatten", "Permute", "Dropout", "Identity"):
        return source
    if kind == "Reshape" and not source.spatial and len(layer.target_shape) > 1:
        return spread(source, layer.target_shape)
    if kind == "BatchNormalization":
        return mapped(source, np.eye(math.prod(source.spatial)) / math.sqrt(1 + layer.epsilon))
    return linear(layer, source, first)


def mapped(source, matrix, spatial=None):
    spatial = source.spatial if spatial is None else spatial
    return Map(spatial, [group.map(matrix) for group in source.groups])


def linear(layer, source, first):
    """A layer that maps positions: run on one channel and one position at a time."""
    config = layer.get_config() if isinstance(layer, keras.Layer) else {}
    if type(layer).__name__ == "Reshape" and config:
        config["target_shape"] = (*config["target_shape"][:-1], 1)
    run = type(layer).from_config({**config, "dtype": "float64"}) if config else layer
    return mapped(source, *matrix_of(run, source.spatial, first))


def matrix_of(function, spatial, first=False):
    """The matrix [P', P] of a linear map of images with one channel, and the spatial shape of P'."""
    count = math.prod(spatial)
    basis = np.eye(count).reshape(count, *spatial, 1)
    made = function(np.moveaxis(basis, -1, 1) if first else basis)
    made = np.asarray(made, "float64")
    if made.ndim > 2 and first:
        made = np.moveaxis(made, 1, -1)
    return made.reshape(count, -1).T, made.shape[1:-1]


def added(sources, coefficients):
    """The sum, channel group by channel group, cut where any of the tensors changes groups."""
    ends = sorted({int(e) for s in sources for e in np.cumsum([g.channels for g in s.groups])})
    groups = []
    for begin, end in zip([0, *ends], ends, strict=False):
        terms = {}
        for source, coefficient in zip(sources, coefficients, strict=True):
            bounds = np.cumsum([g.channels for g in source.groups])
            group = source.groups[int(np.searchsorted(bounds, begin, side="right"))]
            for s, m in group.terms.items():
                terms[s] = terms.get(s, 0.0) + coefficient * m
        groups.append(Group(end - begin, terms))
    return Map(sources[0].spatial, groups)


COEFFICIENTS = {
    "Add": lambda layer, count: [1.0] * count,
    "Subtract": lambda layer, count: [1.0, -1.0],
    "Average": lambda layer, count: [1.0 / count] * count,
    "CustomScaleLayer": lambda layer, count: [1.0, layer.scale],
}


def spread(source, target):
    """Units of a vector over positions: of different units only the means meet."""
    (group,) = source.groups
    count = math.prod(target[:-1])
    second = np.einsum("ip,jq->ijpq", *(np.repeat(group.mean, count, 1),) * 2)
    for g in range(count):
        second[:, :, g, g] = group.second[:, :, 0, 0]
    made = Source(second, np.repeat(group.mean, count, 1))
    return Map(tuple(target[:-1]), [Group(target[-1], {made: np.eye(count)})])


def variance(initializer, shape):
    """Var(w) of a Keras initialiser; the fans as Keras counts them, [*window, in, out]."""
    kind = type(initializer).__name__
    if kind == "RandomNormal":
        return initializer.stddev**2
    if kind == "Zeros":
        return 0.0
    window = math.prod(shape[:-2])
    fans = {"fan_in": window * shape[-2], "fan_out": window * shape[-1]}
    fans["fan_avg"] = sum(fans.values()) / 2
    return initializer.scale / fans[initializer.mode]


def _bias(layer):
    return variance(layer.bias_initializer, (1,)) if layer.use_bias else 0.0


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
    for place in np.ndindex(*layer.kernel_size):
        kernel = np.zeros(bare.kernel.shape)
        kernel[(*place, 0, 0)] = 1.0
        bare.kernel.assign(kernel)
        taps.append(matrix_of(bare, spatial))
    return taps


def _over_taps(second, taps):
    return sum(np.einsum("pa,ijab,qb->ijpq", m, second, m) for m, _ in taps) / len(taps)


def _source(second, channels):
    """A group of mean 0, all its own source."""
    made = Source(second, np.zeros(second.shape[1:3]))
    return Group(channels, {made: np.eye(second.shape[-1])})


def _mixed(seconds, groups):
    weights = np.array([g.channels for g in groups]) / sum(g.channels for g in groups)
    return sum(w * second for w, second in zip(weights, seconds, strict=True))


def _convolution(layer, source):
    if getattr(layer, "groups", 1) == sum(g.channels for g in source.groups) > 1:
        return _depthwise(layer, source)
    taps = _taps(layer, source.spatial)
    k = _mixed([_over_taps(g.second, taps) for g in source.groups], source.groups)
    w2 = math.prod(layer.kernel.shape[:-1]) * variance(layer.kernel_initializer, layer.kernel.shape)
    return Map(taps[0][1], [_source(_bias(layer) + w2 * k, layer.filters)])


def _transposed(layer, source):
    taps = _taps(layer, source.spatial)
    k = _mixed([_over_taps(g.second, taps) for g in source.groups], source.groups)
    fan_in = len(taps) * layer.kernel.shape[-1]
    w2 = fan_in * variance(layer.kernel_initializer, layer.kernel.shape)
    return Map(taps[0][1], [_source(_bias(layer) + w2 * k, layer.filters)])


def _depthwise(layer, source):
    taps = _taps(layer, source.spatial)
    initializer = getattr(layer, "depthwise_initializer", None) or layer.kernel_initializer
    kernel = getattr(layer, "depthwise_kernel", None)
    kernel = layer.kernel if kernel is None else kernel
    w2 = len(taps) * variance(initializer, kernel.shape)
    b2 = 0.0 if "Separable" in type(layer).__name__ else _bias(layer)
    per = kernel.shape[-1] if "Depthwise" in type(layer).__name__ else 1
    made = [_source(b2 + w2 * _over_taps(g.second, taps), g.channels * per) for g in source.groups]
    return Map(taps[0][1], made)


def _separable(layer, source):
    features = _depthwise(layer, source)
    shape = layer.pointwise_kernel.shape
    w2 = math.prod(shape[:-1]) * variance(layer.pointwise_initializer, shape)
    k = _mixed([g.second for g in features.groups], features.groups)
    return Map(features.spatial, [_source(_bias(layer) + w2 * k, layer.filters)])


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
    return Map(spatial, [_source(_bias(layer) + w2 * k, layer.units)])


WEIGHTED = {
    "Dense": _dense,
    **{f"Conv{rank}D": _convolution for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": _transposed for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _depthwise for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _separable for rank in (1, 2)},
}

MEANS = {
    "relu": lambda constant, q: np.sqrt(q / (2 * np.pi)),
    "leaky_relu": lambda constant, q: (1 - constant) * np.sqrt(q / (2 * np.pi)),
    "erf": lambda constant, q: 0 * q,
    "sin": lambda constant, q: 0 * q,
}
"""E[phi(u)] for Var(u) = q."""


def activated(layer, value):
    name, constant = oracle._activation(layer)
    if name == "linear":
        return value
    groups = []
    for group in value.groups:
        k = group.second
        q = np.einsum("iipp->ip", k)
        q1, q2 = np.broadcast_arrays(q[:, None, :, None], q[None, :, None, :])
        second = oracle.dual_activation(name, constant, k, q1, q2)
        source = Source(second, MEANS[name](constant, q))
        groups.append(Group(group.channels, {source: np.eye(k.shape[-1])}))
    return Map(value.spatial, groups)
