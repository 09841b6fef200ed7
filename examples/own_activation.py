"""An activation of your own: one class, under the name of the Keras function.

python examples/own_activation.py
"""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

import keras2gp


@keras2gp.dual("sign")
class Sign(keras2gp.Dual):
    """The sign of u: (2/pi) arcsin(rho), Sheppard's formula for the quadrants of a Gaussian."""

    differentiable = False  # its derivative is no function: no tangent kernel

    def covariance(self, c, s1, s2):
        """E[sign(u) sign(v)]."""
        rho = c * tf.math.rsqrt(s1[0] * s2[0])
        return (2 / math.pi) * tf.asin(tf.clip_by_value(rho, -1, 1))

    def second_moment(self, q):
        """E[sign(u)^2]: where arcsin is steep, at rho = 1, rounding would show."""
        return tf.ones_like(q)

    def mean(self, q):
        """E[sign(u)]."""
        return tf.zeros_like(q)


def main() -> float:
    """Convert a network with the new activation; returns the largest deviation from the sum."""
    x = keras.Input((3,))
    normal = {"kernel_initializer": keras.initializers.RandomNormal(stddev=3**-0.5)}
    hidden = keras.ops.sign(keras.layers.Dense(8, **normal)(x))
    out = keras.layers.Dense(1, kernel_initializer="lecun_normal")(hidden)
    kernel = keras2gp.convert(keras.Model(x, out), dtype="float64")

    points = np.random.default_rng(0).normal(size=(4, 3))
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    expected = (2 / np.pi) * np.arcsin(np.clip(unit @ unit.T, -1, 1))
    np.fill_diagonal(expected, 1)
    deviation = float(np.abs(kernel(points).numpy() - expected).max())
    print(f"largest deviation from (2/pi) arcsin(rho): {deviation:.1e}")
    return deviation


if __name__ == "__main__":
    main()
