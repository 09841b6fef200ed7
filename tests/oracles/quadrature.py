"""E[f(u) f(v)] of a Gaussian pair by quadrature in two dimensions, for any function.

Gauss-Legendre in float64 on panels: v given u inside, u outside, both cut at the corners of f and
where it bends.
"""

from __future__ import annotations

import math

import numpy as np

from oracles.activations import CASES, Polynomials

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_FAR = 12.0


def pair(f, corners, c, q1, q2):
    """E[f(u) f(v)] for variances q1, q2 > 0 and covariance c."""
    s1, slope = math.sqrt(q1), c / q1
    rest = math.sqrt(max(q2 - slope * c, 0.0))
    bends = _bends(corners)
    cuts = [*np.arange(-_FAR, _FAR + 1), *(bends / s1)]
    if slope:  # where the mean of v passes a corner, as wide as its deviation
        width = max(rest / abs(slope) / s1, 1e-12)
        cuts += [t / slope / s1 + width * w for t in (0.0, *corners) for w in _around()]
        cuts += [*(bends / slope / s1)]
    z, w = _panels(np.array(cuts)[None])
    z, w = z[0], w[0]
    inner = _conditional(f, bends, slope * s1 * z, rest)
    return float(w @ (f(s1 * z) * inner * _density(z)))


def dual(name, constants, c, q1, q2, *, derivative=False):
    """E[f(u) f(v)], or of f', elementwise over arrays of one shape; for variances from 0."""
    phi, slope, corners = CASES[name].functions(constants)
    f = slope if derivative else phi
    out = np.empty(np.shape(c))
    for place in np.ndindex(out.shape):
        variances = max(q1[place], 1e-30), max(q2[place], 1e-30)
        limit = math.sqrt(variances[0] * variances[1])
        out[place] = pair(f, corners, min(max(c[place], -limit), limit), *variances)
    return out


def hermite(phi, c, q1, q2, nodes=120):
    """E[phi(u) phi(v)] by Gauss-Hermite points in two dimensions: for smooth phi."""
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    w = w / w.sum()
    out = np.empty(np.shape(c))
    for place in np.ndindex(out.shape):
        s1, s2 = math.sqrt(q1[place]), math.sqrt(q2[place])
        rho = c[place] / (s1 * s2) if s1 * s2 > 0 else 0.0
        rho = min(max(rho, -1.0), 1.0)
        v = s2 * (rho * z[:, None] + math.sqrt(1 - rho * rho) * z[None, :])
        out[place] = w @ (phi(s1 * z)[:, None] * phi(v)) @ w
    return out


def one(f, corners, q):
    """E[f(u)] for a variance q > 0."""
    return float(_conditional(f, _bends(corners), np.zeros(1), math.sqrt(q))[0])


def _conditional(f, bends, mean, rest):
    """E[f(mean + rest z)] for every mean."""
    if rest == 0.0:
        return f(mean)
    if isinstance(f, Polynomials):
        return f.mean(mean, rest)
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
