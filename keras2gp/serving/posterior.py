"""Posteriors in TensorFlow: solves with a packed Cholesky factor, and class probabilities."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.gp.probabilities import (
    DEVIATIONS,
    LEFT,
    RIGHT,
    STEP,
    WIDEST,
    quadrature,
)
from keras2gp.gp.solvers.factor import CholeskyFactor

__all__ = ["Factor", "expected_softmax", "largest"]


class Factor(tf.Module):  # type: ignore[misc]
    """A packed Cholesky factor: one tf.Variable for each panel, [N - start, width]."""

    def __init__(self, factor: CholeskyFactor) -> None:
        super().__init__()
        # triangular_solve ignores the entries above the diagonal, which need not be zero.
        self._panels = [tf.Variable(panel) for panel in factor.panels()]

    def half_solve(self, b: Tensor) -> Tensor:
        """L^-1 b, [N, M], panel by panel (PackedPanels.solve_lower)."""
        solved = []
        for panel in self._panels:
            width = panel.shape[1]
            top = tf.linalg.triangular_solve(panel[:width], b[:width], lower=True)
            b = b[width:] - panel[width:] @ top
            solved.append(top)
        return tf.concat(solved, 0)

    def back_solve(self, b: Tensor) -> Tensor:
        """L^-T b, [N, M] (PackedPanels.solve_lower_transposed)."""
        solved = b[:0]
        for panel in reversed(self._panels):
            width = panel.shape[1]
            stop = b.shape[0] - solved.shape[0]
            top = b[stop - width : stop] - tf.matmul(panel[width:], solved, transpose_a=True)
            top = tf.linalg.triangular_solve(panel[:width], top, lower=True, adjoint=True)
            solved = tf.concat([top, solved], 0)
        return solved


def largest(mean: Tensor, deviation: Tensor) -> Tensor:
    """`gp.largest_probabilities` in TensorFlow: means [M, C], deviations [M] -> [M, C]."""
    grid, weights = (tf.constant(a) for a in quadrature())
    certain = deviation <= 0.0
    spread = tf.where(certain, tf.ones_like(deviation), deviation)[:, None]
    gap = (tf.reduce_max(mean, 1, keepdims=True) - mean) / spread
    z = gap[:, :, None] + grid
    # z is at least -9: the distribution function is far above the smallest double.
    log_below = tf.math.log(0.5 * tf.math.erfc(-z / np.sqrt(2.0)))
    log_integrand = tf.reduce_sum(log_below, 1, keepdims=True) - log_below - 0.5 * z**2
    mass = tf.linalg.matvec(tf.exp(log_integrand), weights)
    best = tf.one_hot(tf.argmax(mean, 1), tf.shape(mean)[1], dtype=mean.dtype)
    return tf.where(certain[:, None], best, mass / tf.reduce_sum(mass, 1, keepdims=True))


def expected_softmax(mean: Tensor, variance: Tensor) -> Tensor:
    """`gp.expected_softmax` in TensorFlow: means and variances [M, C] -> [M, C], row by row."""

    def row(moments: tuple[Tensor, Tensor]) -> Tensor:
        center, deviation = moments
        low = tf.reduce_max(center - DEVIATIONS * deviation) - LEFT
        high = tf.reduce_max(center + DEVIATIONS * deviation) + RIGHT
        u = tf.linspace(low, high, 1 + _ceil((high - low) / STEP))
        width = tf.minimum(STEP / tf.maximum(tf.reduce_max(deviation), 1e-9), WIDEST)
        z = tf.linspace(-tf.ones_like(low), 1.0, 1 + _ceil(2.0 * DEVIATIONS / width)) * DEVIATIONS
        weights = tf.nn.softmax(-0.5 * z**2)
        x = center[:, None] + deviation[:, None] * z
        w = tf.exp(tf.minimum(x[:, None, :] - u[:, None], 60.0))
        below = tf.exp(-w)
        log_below = tf.math.log(tf.maximum(tf.linalg.matvec(below, weights), 1e-300))
        others = tf.exp(tf.reduce_sum(log_below, 0, keepdims=True) - log_below)
        mass = tf.reduce_sum(tf.linalg.matvec(w * below, weights) * others, 1)
        return mass / tf.reduce_sum(mass)

    signature = tf.TensorSpec([mean.shape[1]], mean.dtype)
    return tf.map_fn(row, (mean, tf.sqrt(variance)), fn_output_signature=signature)


def _ceil(value: Tensor) -> Tensor:
    return tf.cast(tf.math.ceil(value), tf.int32)
