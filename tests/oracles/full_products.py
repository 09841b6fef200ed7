"""Products, broadcast branches and slices of channels in the full oracle."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np

from oracles.full_maps import Group, Map, Source, mapped


def multiplied(sources):
    """The product of independent branches: one source of the products of their moments."""
    sources = same_positions(sources)
    ends = sorted({int(e) for s in sources for e in np.cumsum([g.channels for g in s.groups])})
    groups = []
    for begin, end in zip([0, *ends], ends, strict=False):
        factors = [next(iter(channels(s, begin, end).groups)) for s in sources]
        keys = [set(factor.terms) for factor in factors]
        assert not set.intersection(*keys), "the branches share a source"
        second = reduce(np.multiply, [f.second for f in factors])
        mean = reduce(np.multiply, [f.mean for f in factors])
        made = Source(second, mean, positive=all(f.positive for f in factors))
        groups.append(Group(end - begin, {(made, 0): np.eye(second.shape[-1])}))
    return Map(sources[0].spatial, groups)


def same_positions(sources):
    """Maps of one shape: the one position along an axis is read at all of them."""
    rank = max(len(s.spatial) for s in sources)
    sizes = [(1,) * (rank - len(s.spatial)) + tuple(s.spatial) for s in sources]
    whole = tuple(max(along) for along in zip(*sizes, strict=True))
    result = []
    for source, size in zip(sources, sizes, strict=True):
        places = np.broadcast_to(np.arange(math.prod(size)).reshape(size), whole).ravel()
        result.append(mapped(source, np.eye(math.prod(size))[places], whole))
    return result


def channels(source, begin, end):
    """Channels [begin, end): groups that begin at another channel of their sources."""
    groups, first = [], 0
    for group in source.groups:
        low, high = max(begin, first), min(end, first + group.channels)
        if low < high:
            moved = {(s, n + low - first): m for (s, n), m in group.terms.items()}
            groups.append(Group(high - low, moved))
        first += group.channels
    return Map(source.spatial, groups)
