"""Tensors of the full oracle: sums of matrices times uncorrelated sources, over all positions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations

import keras
import numpy as np


class UnknownError(Exception):
    """A model that the oracle has no formula for."""


@dataclass(eq=False)
class Source:
    """Second moments E[A A'] [N, N, P, P] of images and positions, means [N, P].

    positive: whether A is never below 0
    function: whether A is a function of random tensors, and Gaussian no more
    factors:  what A is a product of: for each factor the sources and channels that channel 0 of it
        depends on, None for any channel, and whether its mean is 0; none: A alone
    gain:     E|gamma| over the root of E[gamma^2], where A is gamma times a Gaussian tensor
    of:       the Gaussian tensor that A is a function of, channel by channel and position by
        position, and the function: see full_functions.py
    """

    second: np.ndarray
    mean: np.ndarray
    positive: bool = False
    function: bool = False
    factors: tuple = ()
    gain: float | None = None
    of: tuple | None = None

    def __post_init__(self):
        self.factors = self.factors or ((frozenset([(self, 0)]), not self.mean.any()),)

    @property
    def centered(self):
        return self.second - np.einsum("ip,jq->ijpq", self.mean, self.mean)


def origins(terms):
    """The sources and channels that channel 0 of a sum of terms depends on."""
    return frozenset().union(*(held for key in terms for held, _ in _factors(*key)))


def may_depend(first, second):
    """Whether tensors of these origins may share a channel of a source."""
    return any(s is t and (c == d or None in (c, d)) for s, c in first for t, d in second)


def require_uncorrelated(terms):
    """Raises: UnknownError unless the covariances of the terms are known to add.

    That of two products is 0 where one has a factor of mean 0 that nothing else depends on.
    """
    for one, two in combinations(terms, 2):
        pairs = ((one, two), (two, one))
        free = (
            centred and not may_depend(held, origins([other]))
            for key, other in pairs
            for held, centred in _factors(*key)
        )
        if may_depend(origins([one]), origins([two])) and not any(free):
            raise UnknownError("a sum of tensors that share a source")


def _factors(source, first):
    """The factors of a source whose channel of this number is channel 0."""
    return [
        (frozenset((s, None if c is None else c + first) for s, c in held), centred)
        for held, centred in source.factors
    ]


def any_channel(held):
    """The same origins where channels are moved about."""
    return frozenset((source, None) for source, _ in held)


def made_of(groups, second, mean, *, moved=False, **stated):
    """A source that is made of groups and no weights: not Gaussian, unless all of them are.

    moved: whether channels are other ones
    """
    terms = [key for group in groups for key in group.terms]
    held = origins(terms)
    held = any_channel(held) if moved else held
    stated.setdefault("function", any(source.function for source, _ in terms))
    return Source(second, mean, factors=((held, not np.any(mean)),), **stated)


def still(values):
    """A source that does not vary, of these values [N, P]."""
    second = np.einsum("ip,jq->ijpq", values, values)
    return Source(second, values, factors=((frozenset(), False),))


@dataclass
class Group:
    """Channels that are alike: matrices [P, P of the source] by source and its first channel.

    The channels of a source are independent: those from two of them on are two sources. A matrix
    of each image is [N, P, P of the source].
    """

    channels: int
    terms: dict = field(default_factory=dict)

    @property
    def mean(self):
        return sum((m @ s.mean[:, :, None])[:, :, 0] for (s, _), m in self.terms.items())

    @property
    def second(self):
        total = np.einsum("ip,jq->ijpq", self.mean, self.mean)
        for (source, _), m in self.terms.items():
            left = m[:, None] if m.ndim > 2 else m
            total = total + left @ source.centered @ m.swapaxes(-1, -2)
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
    as_random: Map | None = None

    def random(self):
        """With the data as a group, whose mean is that over its channels."""
        if self.data is None:
            return self
        if self.as_random is not None:
            return self.as_random
        self.as_random = Map(self.data.shape[1:-1], [self._group(self.data)])
        return self.as_random

    def cut(self, ends):
        """With the data as a group for each stretch of channels up to one of these ends."""
        if len(ends) < 2 or self.data.shape[-1] != ends[-1]:
            return self.random()
        stretches = np.split(self.data, ends[:-1], axis=-1)
        return Map(self.data.shape[1:-1], [self._group(stretch) for stretch in stretches])

    @staticmethod
    def _group(data):
        x = data.reshape(len(data), -1, data.shape[-1])
        second = np.einsum("ipc,jqc->ijpq", x, x) / x.shape[-1]
        source = Source(second, x.mean(-1), factors=((frozenset(), False),))
        return Group(x.shape[-1], {(source, 0): np.eye(x.shape[1])})


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
    """The matrix [P', P] of a linear map of one channel, and the spatial shape of P'.

    It is read off unit vectors. What it gives for one other vector shows that the map is linear:
    an op that the oracle does not know fails here.
    """
    count = math.prod(spatial)
    other = np.cos(1.0 + np.arange(count))  # of both signs
    basis = np.concatenate([np.eye(count), [other]]).reshape(count + 1, *spatial, 1)
    made = function(np.moveaxis(basis, -1, 1) if first else basis)
    made = np.asarray(made, "float64")
    if made.ndim > 2 and first:
        made = np.moveaxis(made, 1, -1)
    *columns, last = made.reshape(count + 1, -1)
    matrix = np.stack(columns, axis=1)
    message = f"{function} is not linear, and not in OTHERS of full_covariance.py"
    np.testing.assert_allclose(matrix @ other, last, rtol=1e-5, atol=1e-5, err_msg=message)
    return matrix, made.shape[1:-1]


def ends_of(sources):
    """The channels at which groups of any of the tensors end."""
    return sorted({int(e) for s in sources for e in np.cumsum([g.channels for g in s.groups])})


def cut_alike(sources):
    """Data beside groups of channels as such groups, each of which has a mean of its own."""
    ends = ends_of([s for s in sources if s.data is None])
    return [s if s.data is None else s.cut(ends) for s in sources]


def added(sources, coefficients):
    """The sum, channel group by channel group, cut where any of the tensors changes groups."""
    ends = ends_of(sources)
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
        require_uncorrelated(terms)
        groups.append(Group(end - begin, terms))
    return Map(sources[0].spatial, groups)


def normalized(source, everywhere, centered, deviation, epsilon):
    """Every group minus the mean over channels, over the root of their mean square or variance.

    Over ever more channels both are numbers of each image and position: a linear map of the source.

    everywhere: the statistics are taken over all positions too
    """
    total = sum(g.channels for g in source.groups)
    mean = sum(g.channels / total * g.mean for g in source.groups)
    square = sum(g.channels / total * np.einsum("iipp->ip", g.second) for g in source.groups)
    if everywhere:
        mean, square = (np.broadcast_to(a.mean(1)[:, None], a.shape) for a in (mean, square))
    r = 1 / np.sqrt(square - (mean**2 if deviation else 0) + epsilon)
    result = mapped(source, r[:, :, None] * np.eye(r.shape[1]))
    if centered and mean.any():
        for group in result.groups:
            group.terms[still(-mean * r), 0] = np.eye(r.shape[1])
    return result


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
    made = made_of([group], second, np.repeat(group.mean, count, 1), moved=True)
    return Map(tuple(target[:-1]), [Group(target[-1], {(made, 0): np.eye(count)})])
