"""A classifier's defaults beside each noise that could be stated, with each way of probabilities.

    python tools/compare_settings.py --data tfds:fashion_mnist --rows 300 1000 --out settings
    python tools/compare_settings.py --networks dense convnet --ways dirichlet --out settings

The settings are those that 0.1.0 had, whose default was "temperature" without noise. Each network's
kernel is computed once, kept in --out and cut to random rows; errors and negative log likelihoods
are means over draws of rows, on the same test images. The best setting is that of the smallest mean
on the test images themselves, which nobody who states one can know; the difference of the default's
error from its error has a standard error, over the draws. The last line is of one setting for all
networks and numbers of rows.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras2gp
from keras2gp.data import load, prepare_images
from keras2gp.gp import error_rate, negative_log_likelihood
from keras2gp.zoo import ZOO

NOISES = (0.0, 1e-3, 1e-2, 3e-2, 1e-1)
"""Relative to the mean variance of the kernel."""
WAYS = ("temperature", "largest", "dirichlet")
Settings = dict[str, Any]


def kernel_of(name: str, shape: tuple[int, ...], classes: int) -> Any:
    """The kernel of a network of the zoo, or of two hidden dense layers."""
    if name != "dense":
        return keras2gp.convert(ZOO[name](shape, classes))
    relu = {"activation": "relu", "kernel_initializer": "he_normal"}
    hidden = [keras.layers.Dense(64, **relu) for _ in range(2)]
    layers = [keras.Input(shape), keras.layers.Flatten(), *hidden, keras.layers.Dense(classes)]
    return keras2gp.convert(keras.Sequential(layers))


def measured(matrices: Any, labels: Any, truth: Any, given: Settings) -> tuple[float, float]:
    """Error and NLL of a fit."""
    k, cross, variances = matrices
    classifier = keras2gp.GPClassifier("precomputed", **given).fit(k, labels)
    diag = variances if given.get("probabilities") in WAYS[1:] else None
    probabilities = classifier.predict_proba(cross, diag=diag)
    return (
        error_rate(truth, classifier.predict(cross)),
        negative_log_likelihood(truth, probabilities, classifier.classes_),
    )


def main() -> None:
    """Print a row for each network and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="tfds:mnist")
    parser.add_argument("--networks", nargs="+", choices=["dense", *ZOO], default=["dense", *ZOO])
    parser.add_argument("--rows", nargs="+", type=int, default=[300, 1000])
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--pool", type=int, default=2000, help="rows that are drawn from")
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[:2])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    data = load(options.data).split(options.pool, options.test)
    x = np.concatenate([data.x_train, data.x_test])
    shape = x.shape[1:] if x.ndim == 4 else (*x.shape[1:], 1)
    images, _ = prepare_images(x, model_rescales=False, sample_shape=shape)
    pool, test = images[: options.pool], images[options.pool :]
    stated: list[Settings] = [
        {"probabilities": way, "noise_variance": noise, "intercept": 0}
        for way, noise in itertools.product(options.ways, NOISES)
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    first = f"{options.ways[0]} without noise"
    print(f"| network, rows | default | smallest error | difference | smallest NLL | {first} |")
    print("|---" * 6 + "|")
    of_all = []
    for name in options.networks:
        kernel = kernel_of(name, shape, len(np.unique(data.y_train)))
        whole = keras2gp.gram(kernel, pool, out=options.out / f"{name}-train.zarr")[:, :]
        beside = keras2gp.gram(kernel, test, pool, out=options.out / f"{name}-test.zarr")[:, :]
        unit = float(np.diagonal(whole).mean())
        variances = np.asarray(kernel.diag(test), dtype=np.float64) / unit
        for rows in options.rows:
            values = []
            for draw in range(options.draws):
                chosen = np.random.default_rng(draw).permutation(options.pool)[:rows]
                k = whole[np.ix_(chosen, chosen)].astype(np.float64) / unit
                cross = beside[:, chosen].astype(np.float64) / unit
                labels = data.y_train[chosen], data.y_test
                values.append(
                    [measured((k, cross, variances), *labels, one) for one in [{}, *stated]]
                )
            of_all.append(values)
            print(row(f"{name}, {rows}", np.array(values), stated), flush=True)
    print(row("one for all", np.mean(of_all, axis=0), stated))


def row(title: str, values: Any, stated: list[Settings]) -> str:
    """A row of the table, of errors and NLLs [draws, 1 + settings, 2], the defaults' first."""
    mean = values.mean(axis=0)
    error, nll = (stated[int(column.argmin())] for column in mean[1:].T)
    best, at = mean[1:].min(axis=0), 1 + int(mean[1:, 0].argmin())
    difference = values[:, 0, 0] - values[:, at, 0]
    spread = difference.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    cells = (
        title,
        f"{mean[0, 0]:.2%}, {mean[0, 1]:.3f}",
        f"{best[0]:.2%} ({error['probabilities']}, {error['noise_variance']:g})",
        f"{100 * difference.mean():+.2f} ± {100 * spread:.2f}",
        f"{best[1]:.3f} ({nll['probabilities']}, {nll['noise_variance']:g})",
        f"{mean[1, 0]:.2%}, {mean[1, 1]:.3f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
