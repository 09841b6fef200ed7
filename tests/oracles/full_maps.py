"""Tensors of the full oracle: sums of matrices times independent sources, over all positions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import keras
import numpy as np


@dataclass(eq=False)
class Source:
    """Second moments E[A A'] [N, N, P, P] of images and positions, means [N, P].

    positive: whether A is never below 0;  function: whether A is an activation's result
    """

    second: np.ndarray
    mean: np.ndarray
    positive: bool = False
    function: bool = False

    @property
    def centered(self):
        return self.second - np.einsum("ip,jq->ijpq", self.mean, self.mean)


@dataclass
class Group:
    """Channels that are alike: matrices [P, P of the source] by source and its first channel.

    The channels of a source are independent: those from two of them on are two sources.
    """

    channels: int
    terms: dict = field(default_factory=dict)

    @property
    def mean(self):
        return sum(np.einsum("pa,ia->ip", m, s.mean) for (s, _), m in self.terms.items())

    @property
    def second(self):
        total = np.einsum("ip,jq->ijpq", self.mean, self.mean)
        for (source, _), m in self.terms.items():
            total = total + m @ source.centered @ m.T
        return total

    @property
    def positive(self):
        return all(s.positive and (m >= 0).all() for (s, _), m in self.terms.items())

    def map(self, matrix):
        return Group(self.channels, {s: matrix @ m for s, m in self.terms.items()})


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
        return Map(tuple(spatial), [Group(channels, {(source, 0): np.eye(x.shape[1])})])


def mapped(source, matrix, spatial=None):
    spatial = source.spatial if spatial is None else spatial
    return Map(spatial, [group.map(matrix) for group in source.groups])


def precise(layer, **changes):
    """The layer in float64; TensorFlow has no pooling in three dimensions in it on a CPU."""
    if not isinstance(layer, keras.Layer):
        return layer
    dtype = "float32" if isinstance(layer, keras.layers.AveragePooling3D) else "float64"
    return type(layer).from_config({**layer.get_config(), "dtype": dtype, **changes})


def matrix_of(function, spatial, first=False):
    """The matrix [P', P] of a linear map of one channel, and the spatial shape of P'."""
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
            number = int(np.searchsorted(bounds, begin, side="right"))
            group = source.groups[number]
            inside = begin - int(bounds[number]) + group.channels
            for (s, first), m in group.terms.items():
                key = s, first + inside
                terms[key] = terms.get(key, 0.0) + coefficient * m
        groups.append(Group(end - begin, terms))
    return Map(sources[0].spatial, groups)


def normalized(source, everywhere, centered, deviation, epsilon):
    """Every group minus the mean over channels, over the root of their mean square or variance.

    everywhere: the statistics are taken over all positions too
    """
    total = sum(g.channels for g in source.groups)
    mean = sum(g.channels / total * g.mean for g in source.groups)
    square = sum(g.channels / total * np.einsum("iipp->ip", g.second) for g in source.groups)
    if everywhere:
        mean, square = (np.broadcast_to(a.mean(1)[:, None], a.shape) for a in (mean, square))
    r = 1 / np.sqrt(square - (mean**2 if deviation else 0) + epsilon)
    mean = mean if centered else 0 * mean
    groups = []
    for g in source.groups:
        m = g.mean
        k = g.second - np.einsum("ip,jq->ijpq", m, mean)
        k = (k - np.einsum("ip,jq->ijpq", mean, m - mean)) * np.einsum("ip,jq->ijpq", r, r)
        made = Source(k, (m - mean) * r, positive=g.positive and not centered)
        groups.append(Group(g.channels, {(made, 0): np.eye(k.shape[-1])}))
    return Map(source.spatial, groups)


def side_by_side(sources, axis):
    """Maps joined along a spatial axis: matrices below one another, in the order of positions."""
    sizes = [s.spatial[axis] for s in sources]
    spatial = list(sources[0].spatial)
    spatial[axis] = sum(sizes)
    places = np.split(np.arange(math.prod(spatial)).reshape(spatial), np.cumsum(sizes)[:-1], axis)
    padded = []
    for source, place in zip(sources, places, strict=True):
        matrix = np.eye(math.prod(spatial))[:, place.ravel()]
        padded.append(mapped(source, matrix, tuple(spatial)))
    return added(padded, [1.0] * len(padded))


def spread(source, target):
    """Units of a vector over positions: of different units only the means meet."""
    (group,) = source.groups
    count = math.prod(target[:-1])
    second = np.einsum("ip,jq->ijpq", *(np.repeat(group.mean, count, 1),) * 2)
    for g in range(count):
        second[:, :, g, g] = group.second[:, :, 0, 0]
    made = Source(second, np.repeat(group.mean, count, 1))
    return Map(tuple(target[:-1]), [Group(target[-1], {(made, 0): np.eye(count)})])
