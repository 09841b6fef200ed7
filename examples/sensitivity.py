"""Which pixels tell 3 from 8: squared derivatives of a posterior mean by its images.

python examples/sensitivity.py [FILE.png]
"""

from __future__ import annotations

import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import keras2gp
from keras2gp.data import load
from keras2gp.gp import GPRegressor

DIGITS = (3, 8)
ROWS = 60


def main(path: str = "") -> np.ndarray:
    """Fit the difference of two digits, and map what its prediction depends on; returns the map."""
    sample = load("sample")
    chosen = np.flatnonzero(np.isin(sample.y_train, DIGITS))[:ROWS]
    x = sample.x_train[chosen].astype("float64") / 255
    y = np.where(sample.y_train[chosen] == DIGITS[0], 1.0, -1.0)
    hidden = keras.layers.Dense(64, "relu", kernel_initializer="he_normal")
    end = keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), hidden, end])
    gp = GPRegressor(keras2gp.convert(model, dtype="float64"), noise_variance=0.01).fit(x, y)
    images = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(images)
        mean, _ = gp.predict_tensors(images)
    squares = np.asarray(tape.gradient(mean, images))[..., 0] ** 2
    result: np.ndarray = squares.mean(axis=0)
    share = np.sort(result.ravel())[::-1][:78].sum() / result.sum()
    which = " or ".join(map(str, DIGITS))
    print(f"a tenth of the pixels holds {share:.0%} of the sensitivity to {which}")
    if path:
        plt.imsave(path, result)
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
