"""Layers that are called several times, in the full oracle: the positions of all calls together.

The calls of a layer are one source, whose positions are those of the first call, of the second and
so on. An argument's covariance with another's follows from the sources that they share; data are
one source for all calls.
"""

from __future__ import annotations

import math

import numpy as np

from oracles.full_maps import Group, Map, Source, UnknownError, mapped
from oracles.full_weights import _bias, _taps, source_of, variance


def called(layer, arguments):
    """The results of all calls of a convolution, or of a Dense layer on vectors."""
    count, second = len(arguments), _together(arguments)
    kernel = layer.kernel.shape
    w2 = math.prod(kernel[:-1]) * variance(layer.kernel_initializer, kernel)
    data = arguments[0].data
    spatial = arguments[0].spatial if data is None else data.shape[1:-1]
    if type(layer).__name__ == "Dense":
        n, size = len(second), second.shape[-1] // count
        apart = second.reshape(n, n, count, size, count, size)
        second, spatial = np.einsum("ijapbp->ijab", apart) / size, ()
    else:
        taps = _taps(layer, spatial)
        spatial = taps[0][1]
        moved = [np.kron(np.eye(count), matrix) for matrix, _ in taps]
        second = sum(m @ second @ m.T for m in moved) / len(taps)
    group = source_of(_bias(layer) + w2 * second, kernel[-1])
    size = second.shape[-1] // count
    every = np.eye(count * size)
    return [
        mapped(Map(spatial, [group]), every[c * size : (c + 1) * size], spatial)
        for c in range(count)
    ]


def _together(arguments):
    """Second moments [N, N, P, P] of the positions of all arguments, of one channel group each."""
    if all(a.data is not None for a in arguments):
        first = arguments[0].data
        x = np.concatenate([a.data.reshape(len(first), -1, first.shape[-1]) for a in arguments], 1)
        return np.einsum("ipc,jqc->ijpq", x, x) / first.shape[-1]
    groups = [group for a in arguments for group in a.groups]
    if len(groups) != len(arguments):
        raise UnknownError("calls on several groups of channels")
    sources = {key for group in groups for key in group.terms}
    size = groups[0].mean.shape[1]
    terms = {
        key: _below([g.terms.get(key, np.zeros((size, key[0].second.shape[-1]))) for g in groups])
        for key in sources
    }
    return Group(groups[0].channels, terms).second


def _below(matrices):
    """Matrices below one another, of each image where any of them is."""
    images = np.broadcast_shapes(*(m.shape[:-2] for m in matrices))
    return np.concatenate([np.broadcast_to(m, (*images, *m.shape[-2:])) for m in matrices], -2)


def is_selection(matrix):
    """Whether every row of a matrix takes one position."""
    return matrix.ndim == 2 and np.isin(matrix, (0.0, 1.0)).all() and (matrix.sum(1) == 1.0).all()


def whole(group):
    """The one source that a group takes positions of, as a group; None if it is none such."""
    if len(group.terms) != 1:
        return None
    (((source, first), matrix),) = group.terms.items()
    if not is_selection(matrix) or not isinstance(source, Source):
        return None
    return Group(group.channels, {(source, first): np.eye(source.second.shape[-1])})
