"""An activation of your own: one class, under the name of the Keras function.

python examples/own_activation.py
"""

from __future__ import annotations

import keras
import numpy as np

import keras2gp
from keras2gp.rules.duals.base import Dual


@keras2gp.dual("square")
class Square(Dual):
    """u^2: q1 q2 + 2 c^2, since the fourth moments of a Gaussian are sums over pairings."""

    def covariance(self, c, s1, s2):
        """E[u^2 v^2]."""
        return s1[0] * s2[0] + 2 * c * c


def main() -> float:
    """Convert a network with the new activation; returns the largest deviation from the sum."""
    x = keras.Input((3,))
    hidden = keras.ops.square(keras.layers.Dense(8, kernel_initializer="lecun_normal")(x))
    out = keras.layers.Dense(1, kernel_initializer="lecun_normal")(hidden)
    kernel = keras2gp.convert(keras.Model(x, out), dtype="float64")

    points = np.random.default_rng(0).normal(size=(4, 3))
    c = points @ points.T / 3
    expected = np.outer(np.diag(c), np.diag(c)) + 2 * c**2
    deviation = float(np.abs(kernel(points).numpy() - expected).max())
    print(f"largest deviation from q1 q2 + 2 c^2: {deviation:.1e}")
    return deviation


if __name__ == "__main__":
    main()
