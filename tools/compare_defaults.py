"""The estimators' defaults beside those of 0.1.0 and beside a scaled RBF whose noise is learned.

    python tools/compare_defaults.py             # a minute
    python tools/compare_defaults.py --folds 10

Inputs are raw, as scikit-learn loads them. The network has two hidden layers of ReLUs; the length
scale, the scale and the noise of the RBF are scikit-learn's, by the evidence. Each figure is a mean
over folds, with its standard error. Regressions: R2, mean negative log density of the observations,
and the share of them in their intervals of 95%. Classifications: error rate and NLL.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from sklearn import datasets
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, StratifiedKFold

import keras2gp
from keras2gp.gp import error_rate, negative_log_likelihood

REGRESSIONS = ("diabetes", "friedman1", "wine", "breast cancer")
CLASSIFICATIONS = ("wine", "breast cancer", "digits")


def data_of(name: str) -> tuple[Any, Any]:
    """Inputs and targets; of a classification its labels."""
    if name == "friedman1":
        x, y = datasets.make_friedman1(300, noise=1.0, random_state=0)
        return x, y
    loaders = {
        "diabetes": datasets.load_diabetes,
        "wine": datasets.load_wine,
        "breast cancer": datasets.load_breast_cancer,
        "digits": datasets.load_digits,
    }
    x, y = loaders[name](return_X_y=True)
    return x, y


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
    settings: dict[str, Any] = {"noise_variance": 0.0} if how == "0.1.0" else {}
    if how == "RBF":
        signs = 2.0 * (y[:, None] == np.unique(y)) - 1.0
        part = slice(0, 500)  # to search its length is the slow part
        peer = GaussianProcessRegressor(scaled_rbf(x), alpha=1e-10).fit(x[part], signs[part])
        kernel = peer.kernel_.k1
        settings = {"noise_variance": peer.kernel_.k2.noise_level}
    ours = keras2gp.GPClassifier(kernel, **settings).fit(x, y)
    nll = negative_log_likelihood(truth, ours.predict_proba(test), ours.classes_)
    return error_rate(truth, ours.predict(test)), nll


def row(name: str, folds: Any, measured: Callable[..., tuple[float, ...]]) -> str:
    """A row of the table: for each way the measures, mean and standard error over folds."""
    x, y = data_of(name)
    cells = [name]
    for how in ("0.1.0", "now", "RBF"):
        values = np.array([measured(how, x[a], y[a], x[b], y[b]) for a, b in folds.split(x, y)])
        errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        pairs = zip(values.mean(axis=0), errors, strict=True)
        cells.append(", ".join(f"{mean:.3f} ± {error:.3f}" for mean, error in pairs))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    parts: list[tuple[str, Any, Any, Any]] = [
        ("R2, NLL, coverage", REGRESSIONS, KFold, measured_regression),
        ("error, NLL", CLASSIFICATIONS, StratifiedKFold, measured_classification),
    ]
    for title, names, splitter, measured in parts:
        folds = splitter(options.folds, shuffle=True, random_state=0)
        print(f"| {title} | defaults of 0.1.0 | defaults | scaled RBF |\n|---|---|---|---|")
        for name in names:
            print(row(name, folds, measured), flush=True)
        print()


if __name__ == "__main__":
    main()
