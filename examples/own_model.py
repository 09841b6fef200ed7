"""From a Keras model of your own to a Gaussian process, and what it is sure of.

python examples/own_model.py
"""

from __future__ import annotations

import keras
import numpy as np

import keras2gp
from keras2gp import data

layers = keras.layers


def residual_network() -> keras.Model:
    """A small ResNet v2: activations before the layers of a branch, so that its kernel is exact."""
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(16, 5, strides=2, padding="same", kernel_initializer="he_normal")(image)
    for _ in range(2):
        branch = layers.ReLU()(x)
        branch = layers.Conv2D(16, 3, padding="same", kernel_initializer="he_normal")(branch)
        x = layers.Add()([x, branch])
    x = layers.Flatten()(layers.ReLU()(x))
    return keras.Model(image, layers.Dense(10)(x))


def main() -> float:
    """Fit 500 digits, print the error and the least certain predictions; returns the error."""
    kernel = keras2gp.convert(residual_network())
    print(kernel.report)

    digits = data.load("sample").split(500, 300)
    x_train = digits.x_train.reshape(-1, 28, 28, 1).astype("float32") / 255
    x_test = digits.x_test.reshape(-1, 28, 28, 1).astype("float32") / 255
    classifier = keras2gp.GPClassifier(kernel).fit(x_train, digits.y_train)
    probabilities = classifier.predict_proba(x_test)
    predicted = classifier.classes_[probabilities.argmax(1)]
    error = float(np.mean(predicted != digits.y_test))
    print(f"error {error:.1%} after {len(x_train)} digits")
    for i in probabilities.max(1).argsort()[:3]:
        print(
            f"digit {digits.y_test[i]}, taken for {predicted[i]}, p = {probabilities[i].max():.2f}"
        )
    return error


if __name__ == "__main__":
    main()
