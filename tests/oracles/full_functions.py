"""Activations in the full oracle, and functions of one Gaussian tensor that several steps make."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from oracles import naive as oracle
from oracles import quadrature
from oracles.activations import CASES
from oracles.full_calls import is_selection, whole
from oracles.full_maps import Group, Map, Source, UnknownError, origins

MEANS = {
    "relu": lambda constant, q: np.sqrt(q / (2 * np.pi)),
    "leaky_relu": lambda constant, q: (1 - constant) * np.sqrt(q / (2 * np.pi)),
    "erf": lambda constant, q: 0 * q,
    "gelu": lambda constant, q: q / np.sqrt(2 * np.pi * (1 + q)),
    "sin": lambda constant, q: 0 * q,
}
"""E[phi(u)] for Var(u) = q."""

SIGNS = ("relu", "leaky_relu", "erf", "tanh")
"""Functions that change sign at 0 alone."""

HOMOGENEOUS = ("relu", "leaky_relu", "abs", "absolute")

SMOOTH = ("erf", "sin", "cos", "tanh", "gelu")

MOST_PAIRS = 300
"""Pairs of images and positions that are integrated in two dimensions."""

_MADE = {}
"""Sources of activations by function and argument, of one evaluation."""


def forget():
    """Begin an evaluation."""
    _MADE.clear()


@dataclass
class Function:
    """A group as a function of a Gaussian one, channel by channel and position by position.

    name, value: the function, of an array;  turns: whether it changes sign at 0 alone
    degree:      n where f(c u) = c^n f(u) for c > 0; None for others
    base:        the Gaussian group, whose first channel of all sources has the number 0
    first:       the channel of the base that is channel 0
    taken:       the matrix that takes positions of the base
    """

    name: str
    value: object
    turns: bool
    degree: int | None
    base: Group
    first: int
    taken: np.ndarray

    @property
    def argument(self):
        """What the base is, to be compared."""
        return frozenset((*key, m.shape, m.tobytes()) for key, m in self.base.terms.items())

    def moment(self, c, q1, q2):
        """E[f(u) f(v)] of each pair, for a degree: the integral over the radius is a factorial."""
        n = self.degree
        factor = 2**n * math.factorial(n) / (2 * np.pi) * (q1 * q2) ** (n / 2)
        one = np.ones(1)
        return factor * _polar(self.value, c / np.sqrt(q1 * q2), 1 + 0 * c, 1 + 0 * c, 24, one, one)


def activated(layer, value):
    """A function of a tensor."""
    name, constant = oracle._activation(layer)
    if name == "linear":
        return value
    return Map(value.spatial, [_activated(name, constant, part) for part in value.groups])


def _activated(name, constant, part):
    negative = {"relu": 0.0, "leaky_relu": constant, "abs": -1.0, "absolute": -1.0}.get(name)
    if negative is not None and part.positive:  # the identity from 0
        return part
    gains = [source.gain for source, _ in part.terms if source.gain is not None]
    if any(source.function for source, _ in part.terms):
        return _of_function(name, constant, part)
    if gains and (negative is None or len(part.terms) > 1):
        raise UnknownError(f"{name} of a tensor times random numbers")
    argument = _gaussian(part)
    key = name, repr(constant), argument.argument
    if key not in _MADE:
        gain = gains[0] if gains else 1.0
        positive = negative is not None and negative <= 0.0
        made = _of_gaussian(name, constant, argument, gain, positive)
        _MADE[key] = made
    return Group(part.channels, {(_MADE[key], argument.first): argument.taken})


def _gaussian(part):
    """A Gaussian group as the identity of all positions of a source, or of its own."""
    # Of a source's positions, those of other calls included, a function acts on all.
    base = whole(part) or part
    (taken,) = part.terms.values() if whole(part) else (np.eye(part.mean.shape[1]),)
    # Two calls of a function on one tensor are one source.
    first = min(number for _, number in base.terms)
    terms = {(source, number - first): m for (source, number), m in base.terms.items()}
    return Function("u", lambda u: u, True, 1, Group(part.channels, terms), first, taken)


def _of_gaussian(name, constant, argument, gain, positive):
    base = argument.base
    k, start = base.second, base.mean[0, 0]
    if np.ptp(base.mean) > 1e-12:
        raise UnknownError(f"{name} about values that differ")
    held = origins(base.terms)
    if abs(start) > 1e-12:
        second, mean = _about(name, constant, start, k - start**2)
        return Source(second, mean, positive, True, ((held, False),))
    q = np.einsum("iipp->ip", k)
    q1, q2 = np.broadcast_arrays(q[:, None, :, None], q[None, :, None, :])
    if any(_function(name, constant)[1]):  # corners apart from 0
        second, mean = _about(name, constant, 0.0, k)
    else:
        second, mean = oracle.dual_activation(name, constant, k, q1, q2), mean_of(name, constant, q)
    of = None
    if gain == 1.0:
        phi, corners = _function(name, constant)
        degree = 1 if name in HOMOGENEOUS else None
        places = np.eye(q.shape[1])
        named = Function(f"{name} {constant}", phi, name in SIGNS, degree, base, 0, places)
        of = named if set(corners) <= {0.0} else None
    return Source(second, gain * mean, positive, True, ((held, not mean.any()),), None, of)


def mean_of(name, constant, q):
    """E[phi(u)] for Var(u) = q."""
    if name in MEANS:
        return MEANS[name](constant, q)
    f, corners = _function(name, constant)
    return np.vectorize(lambda v: quadrature.one(f, corners, v))(q)


def _function(name, constant):
    """A function and its corners."""
    constants = {"negative_slope": constant} if name == "leaky_relu" else constant or {}
    f, _, corners = CASES[name].functions(constants)
    return f, corners


def _about(name, constant, start, k):
    """Moments of phi(u + start) for covariances k of u, by quadrature."""
    f, corners = _function(name, constant)
    moved, ends = (lambda u: f(u + start)), [t - start for t in (0.0, *corners)]
    q = np.einsum("iipp->ip", k)

    def integrated(c, q1, q2):
        return np.array([quadrature.pair(moved, ends, *v) for v in zip(c, q1, q2, strict=True)])

    return _each_pair(integrated, k), np.vectorize(lambda v: quadrature.one(moved, ends, v))(q)


def _of_function(name, constant, part):
    """A function of a function."""
    inner = _expression(part)
    phi, corners = _function(name, constant)
    if inner is None or not set(corners) <= {0.0} or not (inner.turns or name in SMOOTH):
        raise UnknownError(f"{name} of a function")
    inner.name = f"{name} {constant} of ({inner.name})"
    value, inner.turns = inner.value, inner.turns and name in SIGNS
    inner.value = lambda u: phi(value(u))
    inner.degree = inner.degree if name in HOMOGENEOUS else None
    return _made(inner, part.channels, positive=name in ("relu", "abs", "absolute"))


def product_of(groups):
    """The product of functions of one Gaussian tensor."""
    read = [_expression(group) for group in groups]
    if None in read or any(
        f.argument != read[0].argument
        or f.first != read[0].first
        or not np.array_equal(f.taken, read[0].taken)
        for f in read
    ):
        raise UnknownError("a product of branches that share a source")
    first = read[0]
    values = [f.value for f in read]
    made = Function(
        " times ".join(f"({f.name})" for f in read),
        lambda u: reduce(np.multiply, [value(u) for value in values]),
        all(f.turns for f in read),
        None if None in [f.degree for f in read] else sum(f.degree for f in read),
        first.base, first.first, first.taken,
    )  # fmt: skip
    positive = all(group.positive for group in groups)
    return _made(made, groups[0].channels, positive=positive)


def _expression(part):
    """A group as a function of a Gaussian one; None if it is not known as one."""
    sources = [source for source, _ in part.terms]
    if any(source.gain is not None for source in sources):
        return None
    if not any(source.function for source in sources):
        return None if part.mean.any() else _gaussian(part)
    if len(sources) > 1 or sources[0].of is None:
        return None
    (((source, first), matrix),) = part.terms.items()
    factor = matrix.max()
    if factor <= 0.0 or not is_selection(matrix / factor):
        return None
    of = source.of
    name = of.name if factor == 1.0 else f"{factor} times ({of.name})"
    value = lambda u: factor * of.value(u)  # noqa: E731
    return Function(name, value, of.turns, of.degree, of.base, first, matrix / factor)


def _made(f, channels, *, positive):
    """A group that is a function of a Gaussian one, smooth but at 0, by quadrature."""
    key = f.name, f.argument
    if key not in _MADE:
        moment = (lambda *v: _moment(f.value, *v)) if f.degree is None else f.moment
        most = MOST_PAIRS if f.degree is None else math.inf
        second = _each_pair(moment, f.base.second, most)
        q = np.einsum("iipp->ip", f.base.second)
        mean = np.vectorize(lambda v: quadrature.one(f.value, (0.0,), v))(q)
        of = Function(f.name, f.value, f.turns, f.degree, f.base, 0, np.eye(q.shape[1]))
        held = ((origins(f.base.terms), False),)
        _MADE[key] = Source(second, mean, positive, True, held, None, of)
    return Group(channels, {(_MADE[key], f.first): f.taken})


def _each_pair(integrated, k, most=MOST_PAIRS):
    """A function of covariances and variances of all pairs of images and positions, [N, N, P, P].

    Raises: UnknownError if they are too many
    """
    count, _, places, _ = k.shape
    size = count * places
    flat = k.transpose(0, 2, 1, 3).reshape(size, size)
    rows, columns = np.triu_indices(size)
    if len(rows) > most:
        raise UnknownError("integrals for so many pairs")
    q = np.maximum(flat.diagonal(), 1e-30)
    q1, q2 = q[rows], q[columns]
    limit = np.sqrt(q1 * q2)
    values = np.zeros((size, size))
    values[rows, columns] = integrated(np.clip(flat[rows, columns], -limit, limit), q1, q2)
    values[columns, rows] = values[rows, columns]
    return values.reshape(count, places, count, places).transpose(0, 2, 1, 3)


def _moment(f, c, q1, q2):
    """E[f(u) f(v)] of each pair, for an f that is smooth but at 0: in polar coordinates.

    u and v have their signs in four sectors each, in which the integrand is smooth.

    Raises: UnknownError if more points change the integral
    """
    values = [_polar(f, c, q1, q2, across, *_radii(n)) for across, n in ((20, 5), (28, 7))]
    wrong = np.abs(values[1] - values[0]) > 1e-11 * np.abs(values[1]).max()
    if wrong.any():
        again = [v[wrong] for v in (c, q1, q2)]
        better = [_polar(f, *again, across, *_radii(n)) for across, n in ((48, 12), (64, 16))]
        if np.abs(better[1] - better[0]).max() > 1e-11 * np.abs(values[1]).max():
            raise UnknownError("an integral that does not converge")
        values[1][wrong] = better[1]
    return values[1]


def _radii(points):
    """Radii up to what a Gaussian reaches, and their weights."""
    r, w = np.polynomial.legendre.leggauss(points)
    r = (np.arange(12)[:, None] + (r + 1) / 2).ravel()
    return r, np.tile(w / 2, 12) * r * np.exp(-r * r / 2) / (2 * np.pi)


def _polar(f, c, q1, q2, across, r, wr):
    """The integral over angles, and over radii with their weights."""
    t, wt = np.polynomial.legendre.leggauss(across)
    s1, s2 = np.sqrt(q1), np.sqrt(q2)
    angles = np.arccos(np.clip(c / (s1 * s2), -1.0, 1.0))
    result = np.empty(len(c))
    for begin in range(0, len(c), 64):
        at = slice(begin, begin + 64)
        a = angles[at, None]
        cuts = np.concatenate([a - np.pi / 2, 0 * a + np.pi / 2, a + np.pi / 2, 0 * a + 1.5 * np.pi,
                               a + 1.5 * np.pi], 1)  # fmt: skip
        half = np.diff(cuts, axis=1)[:, :, None] / 2
        angle = (cuts[:, :-1, None] + half * (1 + t)).reshape(len(a), -1)
        w = (half * wt).reshape(len(a), -1)
        u = f(s1[at, None, None] * np.cos(angle)[:, :, None] * r)
        v = f(s2[at, None, None] * np.cos(angle - a)[:, :, None] * r)
        result[at] = np.einsum("bt,btr,btr,r->b", w, u, v, wr, optimize=True)
    return result
