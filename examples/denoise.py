"""Images to images: a U-Net as a Gaussian process that takes noise away from small digits.

python examples/denoise.py        # writes denoise.png
"""

from __future__ import annotations

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras2gp
from keras2gp.plots.style import new_figure, save

TRAINING, TEST, NOISE = 40, 100, 0.3


def u_net() -> keras.Model:
    """Down once and up again, with a bridge; the output is a map of 8 x 8 positions."""
    layers, he = keras.layers, {"padding": "same", "kernel_initializer": "he_normal"}
    x = keras.Input((8, 8, 1))
    fine = layers.Conv2D(16, 3, activation="relu", **he)(x)
    coarse = layers.Conv2D(32, 3, strides=2, activation="relu", **he)(fine)
    h = layers.Conv2DTranspose(16, 3, strides=2, activation="relu", **he)(coarse)
    h = layers.Conv2D(16, 3, activation="relu", **he)(layers.Concatenate()([fine, h]))
    return keras.Model(x, layers.Conv2D(1, 1, activation="sigmoid", **he)(h))


def main(picture: str | None = None) -> float:
    """Denoise digits; returns the error left, relative to that of the noisy images."""
    clean = load_digits().images[: TRAINING + TEST] / 16.0
    noisy = clean + NOISE * np.random.default_rng(0).normal(size=clean.shape)

    kernel = keras2gp.convert(u_net())
    print(f"{kernel.report.model}: output of {kernel.positions} positions")
    estimator = keras2gp.GPRegressor(kernel, noise_variance=1e-2, normalize_y=True)
    estimator.fit(noisy[:TRAINING, ..., None], clean[:TRAINING])
    mean, std = estimator.predict(noisy[TRAINING:, ..., None], return_std=True)

    before, after = (
        float(np.sqrt(np.mean((images - clean[TRAINING:]) ** 2)))
        for images in (noisy[TRAINING:], mean)
    )
    print(f"{len(estimator.targets_)} rows: {TRAINING} images at 64 positions")
    print(f"error of the noisy images {before:.3f}, of the predictions {after:.3f}")
    if picture is not None:
        draw(picture, [noisy[TRAINING:], mean, std, clean[TRAINING:]])
    return after / before


def draw(path: str, rows: list[np.ndarray]) -> None:
    """The first eight images: noisy, denoised, the standard deviation, and clean."""
    names = ("noisy", "mean", "std", "clean")
    figure = new_figure(8.0, 4.4)
    for r, (name, images) in enumerate(zip(names, rows, strict=True)):
        largest = float(rows[2].max()) if name == "std" else 1.0
        for c in range(8):
            axes = figure.add_subplot(4, 8, 8 * r + c + 1)
            axes.imshow(images[c], cmap="gray", vmin=0.0, vmax=largest)
            axes.set_xticks([])
            axes.set_yticks([])
            if c == 0:
                axes.set_ylabel(name)
    save(figure, path)


if __name__ == "__main__":
    main("denoise.png")
