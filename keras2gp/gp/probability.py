"""The probability that one of several independent Gaussians is the largest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import log_ndtr

from keras2gp._util.arrays import Array

__all__ = ["largest_probabilities", "quadrature"]

# Gauss-Legendre on 9 standard deviations about the largest mean: what lies outside is 1e-19, and
# 128 nodes leave errors below 1e-12 for up to 100 classes.
_HALF_WIDTH = 9.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)
_GRID = _HALF_WIDTH * _NODES
_BATCH_BYTES = 32 * 2**20


def largest_probabilities(mean: Array, deviation: Array) -> Array:
    """P(f_c is the largest) for independent f_c ~ N(mean_c, s^2) with a common s.

    Math: P_c = integral over u of phi((u - m_c) / s) / s * prod over c' != c of
        Phi((u - m_c') / s) du
      by quadrature over u = max_c m_c + s z, z in [-9, 9]; phi and Phi are the standard normal
      density and distribution function. The product over all classes is computed once.
      As s -> 0 this is 1 for the largest mean, and so it is where s = 0.

    Shapes: mean [M, C], deviation [M]; result [M, C], rows summing to 1.
    """
    best = mean.argmax(axis=1)
    result = np.zeros_like(mean)
    result[np.arange(len(mean)), best] = 1.0
    for rows in _row_batches(np.flatnonzero(deviation > 0.0), mean.shape[1]):
        # Gaps beyond the range of a double, for the smallest of s, are as good as infinite.
        with np.errstate(over="ignore"):
            gap = (mean[rows].max(axis=1, keepdims=True) - mean[rows]) / deviation[rows, None]
        z = gap[:, :, None] + _GRID
        log_below = log_ndtr(z)
        log_integrand = log_below.sum(axis=1, keepdims=True) - log_below - 0.5 * z**2
        mass = np.exp(log_integrand) @ _WEIGHTS
        result[rows] = mass / mass.sum(axis=1, keepdims=True)
    return result


def quadrature() -> tuple[Array, Array]:
    """Nodes and weights of the integral over z, [Q] each."""
    return _GRID, _WEIGHTS


def _row_batches(
    rows: np.ndarray[tuple[int], np.dtype[np.intp]], classes: int
) -> Iterator[np.ndarray[tuple[int], np.dtype[np.intp]]]:
    step = max(1, _BATCH_BYTES // (8 * classes * _GRID.size))
    return (rows[start : start + step] for start in range(0, len(rows), step))
