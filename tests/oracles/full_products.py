"""Products, broadcast branches and slices of channels in the full oracle."""

from __future__ import annotations

import math
from functools import reduce
from itertools import combinations

import numpy as np
from scipy.special import erf, ndtr

from oracles.full_functions import product_of
from oracles.full_maps import (
    Group,
    Map,
    Source,
    UnknownError,
    added,
    made_of,
    mapped,
    may_depend,
    normalized,
    origins,
)
from oracles.naive import dual_activation


def multiplied(sources):
    """The product of independent branches: one source of the products of their moments.

    Dependent ones are functions of one Gaussian tensor, or unknown.
    """
    sources = same_positions(sources)
    ends = sorted({int(e) for s in sources for e in np.cumsum([g.channels for g in s.groups])})
    groups = []
    for begin, end in zip([0, *ends], ends, strict=False):
        factors = [next(iter(channels(s, begin, end).groups)) for s in sources]
        held = [origins(factor.terms) for factor in factors]
        if any(may_depend(*pair) for pair in combinations(held, 2)):
            groups.append(product_of(factors))
            continue
        second = reduce(np.multiply, [f.second for f in factors])
        mean = reduce(np.multiply, [f.mean for f in factors])
        parts = tuple((h, not f.mean.any()) for h, f in zip(held, factors, strict=True))
        positive = all(f.positive for f in factors)
        made = Source(second, mean, positive=positive, function=True, factors=parts)
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


def interleaved(source, groups):
    """The first channel of each group, then the second of each, and so on."""
    count = sum(g.channels for g in source.groups)
    size = count // groups
    order = [a * size + b for b in range(size) for a in range(groups)]
    return Map(source.spatial, [channels(source, c, c + 1).groups[0] for c in order])


def highway(sources):
    """t h + (1 - t) x, by the moments of t and of 1 - t."""
    (t, t2), (h, h2), (x, x2) = ((g.mean, g.second) for g in map(_only, same_positions(sources)))
    one, other = (np.einsum("ip,jq->ijpq", *pair) for pair in ((h, x), (x, h)))
    first, second = t[:, None, :, None] - t2, t[None, :, None, :] - t2
    k = t2 * h2 + (1 - t2 - first - second) * x2 + first * one + second * other
    return _source(sources, k, t * h + (1 - t) * x)


def scaled_by_one_and(sources):
    """h (1 + g)."""
    (h, h2), (g, g2) = ((s.mean, s.second) for s in map(_only, same_positions(sources)))
    k = h2 * (1 + g[:, None, :, None] + g[None, :, None, :] + g2)
    return _source(sources, k, h * (1 + g))


def total(source, power):
    """The sum over channels of mean 0, or with the power -1 their mean."""
    count = sum(g.channels for g in source.groups)
    if any(np.abs(g.mean).max() > 1e-12 for g in source.groups):
        raise UnknownError("a sum over channels whose mean is not 0")
    k = sum(g.channels * g.second for g in source.groups)
    k = k * (count**-2.0 if power < 0 else 1.0)
    return Map(
        source.spatial, [Group(1, {(Source(k, 0 * source.groups[0].mean), 0): np.eye(k.shape[-1])})]
    )


def _only(source):
    (group,) = source.groups
    return group


def _source(sources, second, mean):
    largest = max(sources, key=lambda s: math.prod(s.spatial))
    made = made_of([_only(s) for s in sources], second, mean, function=True)
    channels = _only(largest).channels
    return Map(largest.spatial, [Group(channels, {(made, 0): np.eye(second.shape[-1])})])


def beside_its_norm(source, epsilon, skip, factor):
    """skip A + factor (A - M) r."""
    return added([source, normalized(source, False, True, True, epsilon)], [skip, factor])


def beside_its_size(source, epsilon, slope, skip, factor):
    """skip A + factor phi(A r), phi of the slopes 1 and `slope`, of a Gaussian A of mean 0.

    Math: of A > 0 it is p A, of A < 0 n A; E[A+ B+] by the covariance, E[A+ B-] by that of A and -B
    """
    (group,) = source.groups
    k = group.second
    q = np.einsum("iipp->ip", k)
    p, n = (skip + factor * a / np.sqrt(q + epsilon) for a in (1.0, slope))
    q1, q2 = np.broadcast_arrays(q[:, None, :, None], q[None, :, None, :])
    alike, unlike = (dual_activation("relu", None, s * k, q1, q2) for s in (1.0, -1.0))
    pp, nn, pn, np_ = (np.einsum("ip,jq->ijpq", *ab) for ab in ((p, p), (n, n), (p, n), (n, p)))
    made = made_of(
        [group],
        (pp + nn) * alike - (pn + np_) * unlike,
        (p - n) * np.sqrt(q / (2 * np.pi)),
        function=True,
    )
    return Map(source.spatial, [Group(group.channels, {(made, 0): np.eye(q.shape[1])})])


FUNCTIONS = {
    "erf": erf,
    "gelu": lambda u: u * ndtr(u),
    "relu": lambda u: np.maximum(u, 0),
    "sin": np.sin,
    "tanh": np.tanh,
}


def of_its_norm(source, epsilon, phi, skip=1.0, factor=1.0, *, product=False):
    """skip A + factor phi(A r), or skip A + factor A phi(A r), of a Gaussian A of mean 0.

    By quadrature, over each quadrant of (A, B) by angle and radius, where it is smooth.

    Raises: UnknownError if A is not Gaussian of mean 0, or its channels are not alike
    """
    (group, *others) = source.groups
    k = group.second
    if others or group.mean.any() or any(s.function or s.gain is not None for s, _ in group.terms):
        raise UnknownError("a function of the normalisation of what is not Gaussian of mean 0")
    q = np.einsum("iipp->ip", k)
    r = 1 / np.sqrt(q + epsilon)

    def value(a, r):
        phi_a = FUNCTIONS[phi](a * r)
        return skip * a + factor * (a * phi_a if product else phi_a)

    q1, q2, r1, r2 = (
        np.broadcast_to(a[index], k.shape)
        for a in (q, r)
        for index in (np.s_[:, None, :, None], np.s_[None, :, None, :])
    )
    rho = np.clip(k / np.sqrt(q1 * q2), -1, 1)
    second = np.zeros_like(k)
    for z, w, weight in _nodes(rho):
        a, b = np.sqrt(q1) * z, np.sqrt(q2) * w
        second += weight * value(a, r1) * value(b, r2)
    x, weights = _half_line()
    mean = sum(
        weight * value(s * t * np.sqrt(q), r)
        for t, weight in zip(x, weights, strict=True)
        for s in (1.0, -1.0)
    )
    mean = np.where(np.abs(mean) < 1e-13, 0.0, mean)
    made = made_of([group], second, mean, function=True)
    return Map(source.spatial, [Group(group.channels, {(made, 0): np.eye(q.shape[1])})])


def _half_line():
    """Points and weights of the density of a standard Gaussian from 0 on."""
    x, w = np.polynomial.legendre.leggauss(80)
    t = 5.0 * (x + 1)
    return t, 5.0 * w * np.exp(-t * t / 2) / np.sqrt(2 * np.pi)


def _nodes(rho):
    """Pairs (z, w) of correlation rho with weights: polar, between the zeros of z and of w.

    Math: z = s sin(a + t), w = s sin(t), for cos a = rho: both change sign at multiples of pi only.
    """
    a = np.arccos(rho)
    radii, at_radii = np.polynomial.legendre.leggauss(60)
    radii, at_radii = 5.0 * (radii + 1), 5.0 * at_radii
    angles, at_angles = np.polynomial.legendre.leggauss(24)
    for start, length in ((0.0, np.pi - a), (np.pi - a, a)):
        for x, wx in zip(angles, at_angles, strict=True):
            t = start + (x + 1) / 2 * length
            for s, ws in zip(radii, at_radii, strict=True):
                weight = ws * s * np.exp(-s * s / 2) * wx * length / 2 / (2 * np.pi)
                for sign in (1.0, -1.0):
                    yield sign * s * np.sin(a + t), sign * s * np.sin(t), weight


def shuffled(source, size):
    """Blocks of channels as positions."""
    height, width = source.spatial
    y, x = (a.ravel() for a in np.indices((height * size, width * size)))
    place, phase = y // size * width + x // size, y % size * size + x % size
    return _at_places(source, place, phase, (height * size, width * size))


def regrouped(source, target):
    """Groups of channels as positions, one after the other at each place."""
    count = math.prod(target[:-1])
    place, phase = np.divmod(np.arange(count), count // math.prod(source.spatial))
    return _at_places(source, place, phase, tuple(target[:-1]))


def _at_places(source, place, phase, spatial):
    """Channels by number `phase` at places: those of one channel covary as they did."""
    (group,) = source.groups
    m, k = group.mean[:, place], group.second[:, :, place[:, None], place]
    k = np.where(phase[:, None] == phase, k, np.einsum("ip,jq->ijpq", m, m))
    made = made_of([group], k, m, moved=True, positive=group.positive)
    channels = group.channels * math.prod(source.spatial) // len(place)
    return Map(spatial, [Group(channels, {(made, 0): np.eye(len(place))})])
