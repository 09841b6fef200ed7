"""The ways to compute class probabilities beside each other, over data sets and seeds.

    python tools/compare_probabilities.py            # half an hour, most of it for dirichlet
    python tools/compare_probabilities.py --ways temperature linear largest
    python tools/compare_probabilities.py --seeds 5 --sets iris wine

The first group of sets is that on which the linear map's ridges were chosen, the second is not.
Each figure is a mean over seeds: negative log likelihood in nats, expected calibration error, Brier
score. The last rows are geometric means of the NLL relative to the temperature's.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from compare_defaults import many_classes, network
from sklearn import datasets
from sklearn.gaussian_process.kernels import RBF

import keras2gp
from keras2gp.data import load
from keras2gp.gp import brier_score, expected_calibration_error, negative_log_likelihood

MEASURES = (negative_log_likelihood, expected_calibration_error, brier_score)
WAYS = ("temperature", "linear", "largest", "dirichlet")
Data = tuple[Any, Any]


def scaled(data: Data) -> Data:
    """Features of mean 0 and variance 1."""
    x, y = data
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9), y


def drawn(classes: int, count: int, seed: int, shares: Any = None) -> Data:
    """A synthetic classification of 20 features."""
    x, y = datasets.make_classification(
        count,
        n_features=20,
        n_informative=10,
        n_classes=classes,
        class_sep=1.3,
        weights=None if shares is None else list(shares),
        flip_y=0.02,
        random_state=seed,
    )
    return x, y


def digits(change: Callable[[Any], Any]) -> Data:
    """MNIST, its images [N, 28, 28] changed."""
    data = load("tfds:mnist")
    x = data.x_train[:8000, :, :, 0] / 255.0
    return change(x).reshape(len(x), -1), data.y_train[:8000]


def noisy(x: Any) -> Any:
    """Half a unit of noise on every pixel."""
    return np.clip(x + 0.5 * np.random.default_rng(0).standard_normal(x.shape), 0.0, 1.0)


def parts(data: Data, count: int) -> Data:
    """A regression as a classification: which of so many equal parts of the rows a target is in."""
    x, y = data
    return scaled((x, y.argsort().argsort() * count // len(y)))


CHOSEN_ON: dict[str, tuple[Callable[[], Data], int]] = {
    "iris": (lambda: scaled(datasets.load_iris(return_X_y=True)), 75),
    "wine": (lambda: scaled(datasets.load_wine(return_X_y=True)), 89),
    "breast cancer": (lambda: scaled(datasets.load_breast_cancer(return_X_y=True)), 284),
    "digits": (lambda: scaled(datasets.load_digits(return_X_y=True)), 400),
    "MNIST": (lambda: digits(lambda x: x), 400),
    "digits, few": (lambda: datasets.load_digits(return_X_y=True), 100),
}
FRESH: dict[str, tuple[Callable[[], Data], int]] = {
    "MNIST, noisy": (lambda: digits(noisy), 400),
    "MNIST, left half": (lambda: digits(lambda x: x[:, :, :14]), 400),
    "MNIST, 7 x 7": (lambda: digits(lambda x: x[:, ::4, ::4]), 300),
    "5 classes, 2 rare": (lambda: drawn(5, 2500, 11, (0.5, 0.3, 0.16, 0.02, 0.02)), 500),
    "12 classes": (lambda: drawn(12, 2500, 12), 400),
    "quantiles": (lambda: datasets.make_gaussian_quantiles(
        n_samples=2000, n_features=5, n_classes=4, random_state=0), 400),
    "Hastie": (lambda: datasets.make_hastie_10_2(2000, random_state=0), 400),
    "moons": (lambda: datasets.make_moons(2000, noise=0.3, random_state=0), 200),
    "circles": (
        lambda: datasets.make_circles(2000, noise=0.2, factor=0.5, random_state=0), 200),
    "diabetes in thirds": (lambda: parts(datasets.load_diabetes(return_X_y=True), 3), 250),
    "friedman1 in quarters": (
        lambda: parts(datasets.make_friedman1(2000, noise=1.0, random_state=0), 4), 400),
    "wine, few": (lambda: scaled(datasets.load_wine(return_X_y=True)), 20),
    "50 classes": (many_classes, 900),
}  # fmt: skip


def measured(data: Data, rows: int, seed: int, options: argparse.Namespace) -> np.ndarray[Any, Any]:
    """NLL, calibration error and Brier score of every way, [ways, 3]."""
    x, y = data
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[:rows], order[rows : rows + 1000]
    kernel: Any = network(x.shape[1], "float32")
    if options.rbf:
        kernel = RBF(float(np.median(np.linalg.norm(x[:100, None] - x[None, :100], axis=2))))
    matrix, cross = np.asarray(kernel(x[train])), np.asarray(kernel(x[test], x[train]))
    diag, values = np.asarray(kernel.diag(x[test])), []
    for way in options.ways:
        ours = keras2gp.GPClassifier("precomputed", probabilities=way).fit(matrix, y[train])
        given = y[test], ours.predict_proba(cross, diag=diag), ours.classes_
        values.append([measure(*given) for measure in MEASURES])
    return np.array(values)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", help="names of sets; all unless some are given")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--rbf", action="store_true", help="an RBF in place of the network")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    for title, sets in (("chosen on", CHOSEN_ON), ("fresh", FRESH)):
        print(f"| {title}: NLL, ECE, Brier | {' | '.join(options.ways)} |")
        print("|---" * (1 + len(options.ways)) + "|")
        ratios = []
        for name, (data_of, rows) in sets.items():
            if options.sets and name not in options.sets:
                continue
            data = data_of()
            runs = [measured(data, rows, seed, options) for seed in range(options.seeds)]
            mean = np.mean(runs, axis=0)
            ratios.append(mean[:, 0] / mean[0, 0])
            cells = (", ".join(f"{value:.3f}" for value in row) for row in mean)
            print(f"| {name}, {rows} rows | {' | '.join(cells)} |", flush=True)
        if ratios:
            values = np.exp(np.log(ratios).mean(axis=0))
            print(f"| NLL, relative | {' | '.join(f'{value:.3f}' for value in values)} |\n")


if __name__ == "__main__":
    main()
