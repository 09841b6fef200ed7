"""The estimators' defaults beside those of 0.1.0 and beside a scaled RBF whose noise is learned.

    python tools/compare_defaults.py             # a few minutes
    python tools/compare_defaults.py --folds 10 --sets diabetes moons
    python tools/compare_defaults.py --rows 10 20 40 100     # regressions of few rows, half an hour

Inputs are raw, as scikit-learn loads them. The network has two hidden layers of ReLUs; the length
scale, the scale and the noise of the RBF are scikit-learn's, by the evidence. Each figure is a mean
over folds, with its standard error. Regressions: R2, mean negative log density of the observations,
and the share of them in their intervals of 95%. Classifications: error rate and NLL; those of 0.1.0
are at no noise, by temperature. The defaults were chosen on the sets in italics, the first of each
table (CHOSEN_ON), and the others were not looked at.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from scipy.stats import norm
from sklearn import datasets
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, StratifiedKFold

import keras2gp
from keras2gp.data import load
from keras2gp.gp import error_rate, negative_log_likelihood

Data = tuple[Any, Any]


def part(data: Data, rows: int) -> Data:
    """Some rows, drawn at random."""
    chosen = np.random.default_rng(0).permutation(len(data[0]))[:rows]
    return data[0][chosen], data[1][chosen]


def linnerud(column: int) -> Data:
    """Twenty rows: what exercises say of one physiological measure."""
    x, y = datasets.load_linnerud(return_X_y=True)
    return x, y[:, column]


def uneven(rows: int = 300) -> Data:
    """A sine whose noise grows tenfold over the range of the input."""
    random = np.random.default_rng(0)
    x = random.uniform(0.0, 6.0, (rows, 2))
    deviation = 0.05 * 10.0 ** (x[:, 0] / 6.0)
    return x, np.sin(x[:, 0]) + x[:, 1] / 6.0 + deviation * random.standard_normal(rows)


def rare(shares: tuple[float, ...], rows: int = 400) -> Data:
    """A classification of 10 features whose classes have these shares."""
    x, y = datasets.make_classification(
        rows,
        n_features=10,
        n_informative=6,
        n_classes=len(shares),
        n_clusters_per_class=1,
        weights=list(shares),
        random_state=0,
    )
    return x, y


def many_classes() -> Data:
    """Digits in five parts each, by where their ink is: 50 classes of about 36 images."""
    x, y = datasets.load_digits(return_X_y=True)
    across = (x.reshape(-1, 8, 8) * np.arange(8)).sum(axis=(1, 2)) / x.sum(axis=1)
    labels = np.empty(len(y), dtype=int)
    for digit in range(10):
        rows = np.flatnonzero(y == digit)
        ranks = across[rows].argsort().argsort()
        labels[rows] = 5 * digit + 5 * ranks // len(rows)
    return x, labels


def mnist(rows: int) -> Data:
    """Images of MNIST as vectors, 0 to 1."""
    data = load("tfds:mnist")
    return part((data.x_train.reshape(len(data.x_train), -1) / 255.0, data.y_train), rows)


REGRESSIONS: dict[str, Callable[[], Data]] = {
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    "friedman1": lambda: datasets.make_friedman1(300, noise=1.0, random_state=0),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "breast cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "friedman2": lambda: datasets.make_friedman2(300, noise=50.0, random_state=0),
    "friedman3": lambda: datasets.make_friedman3(300, noise=0.2, random_state=0),
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "digits, 300 rows": lambda: part(datasets.load_digits(return_X_y=True), 300),
    "linnerud, weight": lambda: linnerud(0),
    "linnerud, waist": lambda: linnerud(1),
    "diabetes, 50 rows": lambda: part(datasets.load_diabetes(return_X_y=True), 50),
    "noise that grows": uneven,
    "no noise": lambda: datasets.make_friedman1(200, noise=0.0, random_state=1),
    "nothing but noise": lambda: datasets.make_regression(
        200, 5, n_informative=0, noise=1.0, random_state=0
    ),
}
CLASSIFICATIONS: dict[str, Callable[[], Data]] = {
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "breast cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "moons": lambda: datasets.make_moons(300, noise=0.3, random_state=0),
    "circles": lambda: datasets.make_circles(300, noise=0.15, factor=0.5, random_state=0),
    "one of 20 is rare": lambda: rare((0.95, 0.05)),
    "two rare classes": lambda: rare((0.5, 0.4, 0.06, 0.04)),
    "wine, 30 rows": lambda: part(datasets.load_wine(return_X_y=True), 30),
    "iris, 20 rows": lambda: part(datasets.load_iris(return_X_y=True), 20),
    "50 classes": many_classes,
    "MNIST, 200 rows": lambda: mnist(200),
    "MNIST, 2000 rows": lambda: mnist(2000),
}
CHOSEN_ON = 4, 3
"""How many of the first regressions and classifications the defaults were chosen on."""


def network(features: int, kind: str = "float64") -> Any:
    """The kernel of a network of two hidden layers, with biases of variance 1."""
    biases = keras.initializers.RandomNormal(stddev=1.0)
    dense = {"activation": "relu", "kernel_initializer": "he_normal", "bias_initializer": biases}
    layers = [
        keras.Input((features,)),
        keras.layers.Dense(64, **dense),
        keras.layers.Dense(64, **dense),
        keras.layers.Dense(1),
    ]
    return keras2gp.convert(keras.Sequential(layers), dtype=kind)


def scaled_rbf(x: Any) -> Any:
    """An RBF whose length is searched from the spread of the inputs."""
    length = float(np.median(np.linalg.norm(x[:100, None] - x[None, :100], axis=2)) + 1e-9)
    rbf = RBF(length, (1e-2 * length, 1e2 * length))
    return ConstantKernel(1.0, (1e-3, 1e5)) * rbf + WhiteKernel(0.1, (1e-6, 10.0))


def regression(how: str, x: Any, y: Any, test: Any) -> tuple[Any, Any]:
    """Mean and standard deviation of observations at `test`."""
    if how == "RBF":
        peer = GaussianProcessRegressor(scaled_rbf(x), normalize_y=True, alpha=1e-10).fit(x, y)
        return peer.predict(test, return_std=True)  # type: ignore[no-any-return]
    old = {"noise_variance": 0.0, "normalize_y": False} if how == "0.1.0" else {}
    ours = keras2gp.GPRegressor(network(x.shape[1]), **old).fit(x, y)
    return ours.predict(test, return_std=True, observations=True)  # type: ignore[no-any-return]


def measured_regression(how: str, x: Any, y: Any, test: Any, truth: Any) -> tuple[float, ...]:
    """R2, mean negative log density, coverage."""
    mean, std = regression(how, x, y, test)
    std = np.maximum(std, 1e-6 * np.std(y))
    density = 0.5 * np.log(2.0 * np.pi * std**2) + 0.5 * ((truth - mean) / std) ** 2
    return (
        float(r2_score(truth, mean)),
        float(density.mean()),
        float((np.abs(truth - mean) <= 1.96 * std).mean()),
    )


def measured_classification(how: str, x: Any, y: Any, test: Any, truth: Any) -> tuple[float, ...]:
    """Error rate and NLL."""
    kernel: Any = network(x.shape[1], "float32")
    old = {"noise_variance": 0.0, "probabilities": "temperature"}
    settings: dict[str, Any] = old if how == "0.1.0" else {}
    if how == "RBF":
        signs = 2.0 * (y[:, None] == np.unique(y)) - 1.0
        some = slice(0, 500)  # to search its length is the slow part
        peer = GaussianProcessRegressor(scaled_rbf(x), alpha=1e-10).fit(x[some], signs[some])
        kernel = peer.kernel_.k1
        settings = {"noise_variance": peer.kernel_.k2.noise_level}
    ours = keras2gp.GPClassifier(kernel, **settings).fit(x, y)
    nll = negative_log_likelihood(truth, ours.predict_proba(test), ours.classes_)
    return error_rate(truth, ours.predict(test)), nll


def row(name: str, data: Data, folds: Any, measured: Callable[..., tuple[float, ...]]) -> str:
    """A row of the table: for each way the measures, mean and standard error over folds."""
    x, y = data
    cells = [name]
    for how in ("0.1.0", "now", "RBF"):
        values = np.array([measured(how, x[a], y[a], x[b], y[b]) for a, b in folds.split(x, y)])
        errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        pairs = zip(values.mean(axis=0), errors, strict=True)
        cells.append(", ".join(f"{mean:.3f} ± {error:.3f}" for mean, error in pairs))
    return f"| {' | '.join(cells)} |"


def few_rows(data: Data, rows: int, draws: int) -> str:
    """Coverage and negative log density of a Gaussian of certain scale, and of Student's t."""
    x, y = data
    random, values = np.random.default_rng(rows), []
    kernel = network(x.shape[1])
    for _ in range(draws):
        order = random.permutation(len(y))
        train, test = order[:rows], order[rows : rows + 200]
        gp = keras2gp.GPRegressor(kernel).fit(x[train], y[train])
        mean, std = gp.predict(x[test], return_std=True, observations=True)
        scale = std * np.sqrt((gp.degrees_of_freedom_ - 2.0) / rows)
        # At a training input without noise it is 0: the density of any other target is 0, too.
        certain = norm(mean, np.maximum(scale, np.finfo(np.float64).tiny))
        for low, high, density in (
            (*certain.interval(0.95), certain.logpdf(y[test])),
            (*gp.predict_interval(x[test]), gp.log_density(x[test], y[test])),
        ):
            inside = (low <= y[test]) & (y[test] <= high)
            values.append((100.0 * inside.mean(), -density.mean()))
    first, second = np.array(values).reshape(draws, 2, 2).mean(axis=0)
    return f"{first[0]:.0f} to {second[0]:.0f}%, {first[1]:.2f} to {second[1]:.2f}"


def print_few_rows(counts: list[int], draws: int, names: list[str] | None) -> None:
    """Print the table of regressions that are fitted to few rows."""
    print("| set |" + "".join(f" {count} rows |" for count in counts))
    print("|---" * (1 + len(counts)) + "|")
    for name, data_of in REGRESSIONS.items():
        data = data_of()
        fitting = [count for count in counts if count + 5 <= len(data[1])]
        if not names or name in names:
            cells = (few_rows(data, count, draws) for count in fitting)
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--sets", nargs="*", help="names of sets; all unless some are given")
    parser.add_argument("--rows", nargs="*", type=int, help="rows of regressions of few rows")
    parser.add_argument("--draws", type=int, default=40, help="draws of these rows")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if options.rows:
        print_few_rows(options.rows, options.draws, options.sets)
        return
    parts: list[tuple[str, Any, Any, Any]] = [
        ("R2, NLL, coverage", REGRESSIONS, KFold, measured_regression),
        ("error, NLL", CLASSIFICATIONS, StratifiedKFold, measured_classification),
    ]
    for (title, sets, splitter, measured), chosen in zip(parts, CHOSEN_ON, strict=True):
        folds = splitter(options.folds, shuffle=True, random_state=0)
        print(f"| {title} | defaults of 0.1.0 | defaults | scaled RBF |\n|---|---|---|---|")
        for number, (name, data_of) in enumerate(sets.items()):
            if options.sets and name not in options.sets:
                continue
            shown = name if number >= chosen else f"*{name}*"
            print(row(shown, data_of(), folds, measured), flush=True)
        print()


if __name__ == "__main__":
    main()
