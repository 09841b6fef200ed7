"""What a loaded fit says of images, in batches with progress. Imports TensorFlow."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from sklearn.metrics import r2_score, root_mean_squared_error

import keras2gp
from keras2gp._util.arrays import Array
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.progress import stage
from keras2gp.gp.classifier import GPClassifier
from keras2gp.gp.metrics import (
    brier_score,
    calibration_error_by_chance,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    out_of_distribution_auroc,
    reliability,
)
from keras2gp.gp.regressor import GPRegressor
from keras2gp.gp.saving import load_head

__all__ = ["evaluation", "load_fit", "measured", "outsiders", "predictions", "repeated"]

Head = GPClassifier | GPRegressor
_BATCH = 512


def load_fit(directory: Path, gram: Path | None = None) -> Head:
    """The estimator of a fitted model, with its kernel.

    gram: the store of its kernel matrix, for a fit by conjugate gradients; what it lacks is
        computed into it

    Raises: ModelFileError; StoreError if the store is of another kernel or other images;
        UsageError if the fit needs no matrix.
    """
    with stage("loading"):
        kernel = keras2gp.load(directory / "kernel")
        estimator = load_head(directory / "head", kernel)
    if gram is None:
        return estimator
    if estimator.solver_report_.solver != "cg":
        raise UsageError(
            f"--gram {gram}: {directory} was fitted by {estimator.solver_report_.solver}, which "
            "keeps what predictions need. Try: without --gram"
        )
    with stage(f"kernel, {len(estimator.targets_)} images") as advance:
        store = keras2gp.gram(kernel, estimator.x_train_, out=gram, progress=advance)
    return load_head(directory / "head", kernel, gram=store)


def predictions(estimator: Head, x: Array) -> dict[str, Array]:
    """Columns by name: for a regression mean and std, otherwise those of a classification.

    Shapes: mean, std [M]; or label [M], probability [M, C], classes [C], mean [M, C], variance [M]
    Raises: InputError, NumericalError.
    """
    parts = []
    with stage(f"predicting {len(x)} images") as advance:
        for start in range(0, len(x), _BATCH):
            batch = x[start : start + _BATCH]
            parts.append(_posterior(estimator, batch))
            advance(start + len(batch), len(x))
    columns = [np.concatenate(values) for values in zip(*parts, strict=True)]
    if isinstance(estimator, GPRegressor):
        return dict(zip(("mean", "std"), columns, strict=True))
    mean, variance, probability = columns
    return {
        "label": estimator.classes_[mean.argmax(axis=1)],
        "probability": probability,
        "classes": estimator.classes_,
        "mean": mean,
        "variance": variance,
    }


def evaluation(estimator: Head, x: Array, y: Array) -> dict[str, float]:
    """Measures of predictions against the truth. Raises: InputError for unknown labels."""
    return measured(predictions(estimator, x), y)[0]


def measured(
    found: dict[str, Array], y: Array
) -> tuple[dict[str, float], list[dict[str, float]] | None]:
    """Measures of predictions, and the bins of a classification's reliability diagram.

    Raises: InputError for unknown labels.
    """
    if "label" not in found:
        return {
            "root_mean_squared_error": float(root_mean_squared_error(y, found["mean"])),
            "r2": float(r2_score(y, found["mean"])) if len(y) > 1 else float("nan"),
            "mean_std": float(found["std"].mean()),
        }, None
    by_class = (y, found["probability"], found["classes"])
    return {
        "error_rate": error_rate(y, found["label"]),
        "negative_log_likelihood": negative_log_likelihood(*by_class),
        "brier_score": brier_score(*by_class),
        "expected_calibration_error": expected_calibration_error(*by_class),
        "calibration_error_by_chance": calibration_error_by_chance(found["probability"]),
    }, [asdict(b) for b in reliability(*by_class)]


def outsiders(estimator: Head, found: dict[str, Array], x: Array) -> dict[str, float]:
    """How the variance of predictions tells images from elsewhere. Raises: InputError."""
    name = "std" if isinstance(estimator, GPRegressor) else "variance"
    inside, outside = found[name], predictions(estimator, x)[name]
    return {
        "auroc": out_of_distribution_auroc(inside, outside),
        f"mean_{name}": float(outside.mean()),
        f"mean_{name}_of_the_test_rows": float(inside.mean()),
    }


def repeated(estimator: Head, x: Array) -> int:
    """How many of the images are, to the last bit, among those of the fit."""
    if estimator.x_train_ is None:
        return 0
    known = {row.tobytes() for row in estimator.x_train_}
    return sum(row.tobytes() in known for row in x.astype(estimator.x_train_.dtype))


def _posterior(estimator: Head, x: Array) -> tuple[Array, ...]:
    """Mean, variance and probability; of a regression mean and standard deviation."""
    if isinstance(estimator, GPRegressor):
        mean, std = estimator.predict(x, return_std=True)
        return mean, std
    return estimator.predictive(x)
