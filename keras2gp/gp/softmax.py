"""The softmax of independent Gaussians, averaged over them."""

from __future__ import annotations

import math

import numpy as np

from keras2gp._util.arrays import Array

__all__ = ["expected_softmax"]

# Six standard deviations, and where the Gumbel distribution's tails are as small: 2e-9.
DEVIATIONS, LEFT, RIGHT = 6.0, 4.0, 20.0
# Of the Gaussians' grid in their deviations, at most; and of the other one.
WIDEST, STEP = 0.75, 0.5
# What a batch of rows takes: less than a processor's cache.
_BATCH_BYTES = 2**20


def expected_softmax(mean: Array, variance: Array, step: float = STEP) -> Array:
    """E[exp(f_c) / sum over c' of exp(f_c')] for independent f_c ~ N(mean_c, variance_c).

    A softmax is the probability that f_c + g_c is the largest, g standard Gumbel noise, which
    leaves one integral over the largest value and one over each Gaussian.

    Math: P_c = integral over u of F'_c(u) * prod over c' != c of F_c'(u) du,
        F_c(u) = integral over z of phi(z) exp(-exp(-(u - m_c - s_c z))) dz
      both by the trapezoidal rule: its error falls as exp(-pi^2 / step), 3e-9 for 0.5, 5e-5 for 1.

    Shapes: mean [M, C], variance [M, C]; result [M, C], rows summing to 1.
    """
    deviation = np.sqrt(variance)
    low = (mean - DEVIATIONS * deviation).max(axis=1) - LEFT
    high = (mean + DEVIATIONS * deviation).max(axis=1) + RIGHT
    width = min(WIDEST, step / max(float(deviation.max()), 1e-9))
    z = np.linspace(-DEVIATIONS, DEVIATIONS, 1 + math.ceil(2.0 * DEVIATIONS / width))
    weights = np.exp(-0.5 * z**2)
    weights /= weights.sum()
    nodes = np.linspace(0.0, 1.0, 1 + math.ceil(float((high - low).max()) / step))
    result = np.empty_like(mean)
    rows = max(1, _BATCH_BYTES // (8 * mean.shape[1] * len(nodes) * len(z)))
    for start in range(0, len(mean), rows):
        part = slice(start, start + rows)
        u = low[part, None] + (high - low)[part, None] * nodes
        center = mean[part, :, None] + deviation[part, :, None] * z
        # Beyond exp(60) the distribution function is 0, and its argument need not be a number.
        w = np.exp(np.minimum(center[:, :, None, :] - u[:, None, :, None], 60.0))
        below = np.exp(-w)
        log_below = np.log(np.maximum(below @ weights, 1e-300))
        density = (w * below) @ weights
        others = np.exp(log_below.sum(axis=1, keepdims=True) - log_below)
        mass = (density * others).sum(axis=2)
        result[part] = mass / mass.sum(axis=1, keepdims=True)
    return result
