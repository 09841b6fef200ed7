"""A fit read from disk: its predictions in batches, and their measures."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import r2_score, root_mean_squared_error

from keras2gp._util.arrays import Array, Images, Targets
from keras2gp._util.progress import stage
from keras2gp.cli.covariance_cache import BATCH, CovarianceCache
from keras2gp.cli.exit_codes import UsageError
from keras2gp.cli.rows import Rows
from keras2gp.data.tables import numbers_of
from keras2gp.errors import DataError, InputError, NumericalError
from keras2gp.gp.classification.classifier import GPClassifier
from keras2gp.gp.ensemble.estimator import TrainedEnsemble
from keras2gp.gp.metrics import (
    brier_score,
    calibration_error_by_chance,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from keras2gp.gp.process.out_of_distribution import out_of_distribution_auroc, scores_of
from keras2gp.gp.process.student import Student
from keras2gp.gp.regression.regressor import GPRegressor
from keras2gp.gp.saving import load_head
from keras2gp.kernel.kernel import Kernel
from keras2gp.loading import load
from keras2gp.matrices.api import gram

__all__ = [
    "ENDS",
    "REGRESSION",
    "Estimator",
    "as_classes",
    "load_fit",
    "measures_of",
    "ood_scores",
    "predictions_of",
    "repeated_rows",
    "require_targets",
]

Estimator = GPClassifier | GPRegressor | TrainedEnsemble
REGRESSION = ("mean", "std", "observation_std")
"""Columns of a regression: mean and deviation of the function, deviation of a new target."""
ENDS = ("low", "high")
"""The ends of the intervals of new targets."""
_LEVEL = 0.95
"""The probability of an interval."""


def load_fit(directory: Path, store: Path | None = None) -> Estimator:
    """The estimator of a fitted model, with its kernel.

    store: the directory of its kernel matrix, for a fit whose solver keeps none; what it lacks is
        computed into it

    Raises: ModelFileError; StoreError if the store is of another kernel or other images;
        UsageError if the fit needs no matrix.
    """
    with stage("loading"):
        estimator = load(directory)
    if not isinstance(estimator, Estimator):
        raise UsageError(
            f"{directory} holds a {type(estimator).__name__}, whose likelihood the commands do not "
            "know. Try: keras2gp.load in Python"
        )
    kernel = estimator.kernel
    if estimator.precomputed:
        raise UsageError(
            f"{directory}: the fit is of a precomputed matrix, and the command has no inputs for "
            "one. Try: keras2gp.load in Python"
        )
    if store is None:
        return estimator
    report = getattr(estimator, "solver_report_", None)
    solver = "eigenvectors" if report is None else report.solver
    if solver not in ("cg", "mixed"):
        raise UsageError(
            f"--gram {store}: {directory} was fitted by {solver}, which keeps what predictions "
            "need. Try: without --gram"
        )
    with stage(f"kernel, {len(estimator.targets_)} images") as advance:
        matrix = gram(kernel, estimator.x_train_, out=store, progress=advance, positions="all")
    again: Estimator = load_head(directory / "head", kernel, gram=matrix)
    return again


def predictions_of(
    estimator: Estimator, x: Images, cache: CovarianceCache | None = None
) -> dict[str, Array]:
    """Columns by name: of a regression REGRESSION and ENDS, or those of a classification.

    std is that of the function, observation_std that of a new target, which has the noise besides.
    Both are deviations of Student's t with degrees_of_freedom, infinite for a Gaussian.
    cache: covariances that are read, and perhaps written, beside the fit

    Shapes: mean, std, observation_std, low, high [M], degrees_of_freedom []; or label [M],
        probability [M, C], classes [C], mean [M, C], variance [M]; with positions
        [M, *positions] for [M]
    Raises: InputError; NumericalError, also if a prediction is not finite.
    """
    parts, size = [], BATCH if cache is None else cache.batch(estimator, BATCH)
    with stage(f"predicting {len(x)} images") as advance:
        for start in range(0, len(x), size):
            batch = x[start : start + size]
            predictor = estimator if cache is None else cache.with_covariances(estimator, batch)
            parts.append(_posterior(predictor, batch))
            advance(start + len(batch), len(x))
    columns = [np.concatenate(values) for values in zip(*parts, strict=True)]
    for column in columns:
        finite = np.isfinite(column.reshape(len(column), -1)).all(axis=1)
        if not finite.all():
            raise NumericalError(
                f"the prediction of image {int(finite.argmin())} (counted from 0) is not finite, "
                f"and so are {int((~finite).sum())} of {len(finite)}. Try: fit again, with --dtype "
                "float64"
            )
    if not isinstance(estimator, GPClassifier):
        return _with_intervals(dict(zip(REGRESSION, columns, strict=True)), estimator)
    mean, variance, probability = columns
    return {
        "label": estimator.labels_of(mean),
        "probability": probability,
        "classes": estimator.classes_,
        "mean": mean,
        "variance": variance,
    }


def _posterior(estimator: Estimator, x: Images) -> tuple[Array, ...]:
    """Mean, variance and probability; of a regression mean and standard deviations."""
    if isinstance(estimator, GPClassifier):
        return estimator.predictive(x)
    mean, std = estimator.predict(x, return_std=True)
    # The trained networks of an ensemble have no noise.
    noise = estimator.noise_std_ if isinstance(estimator, GPRegressor) else 0.0
    return mean, std, np.hypot(std, noise)


def _with_intervals(
    columns: dict[str, Array], estimator: GPRegressor | TrainedEnsemble
) -> dict[str, Array]:
    """Columns with the ends of the intervals of new targets, and the degrees of freedom."""
    degrees = getattr(estimator, "degrees_of_freedom_", math.inf)
    half = Student(degrees).width(_LEVEL) * columns["observation_std"]
    ends = dict(zip(ENDS, (columns["mean"] - half, columns["mean"] + half), strict=True))
    return {**columns, **ends, "degrees_of_freedom": np.array(degrees)}


def measures_of(
    columns: dict[str, Array], y: Targets
) -> tuple[dict[str, float], list[dict[str, float]] | None]:
    """Measures of predictions, and the bins of a classification's reliability diagram.

    With positions they are measures of all positions together.

    Raises: InputError for unknown labels, or another shape.
    """
    shape = columns["label" if "label" in columns else "mean"].shape
    if "classes" in columns:
        y = as_classes(y, columns["classes"])
    if y.shape != shape:
        raise InputError(f"y has shape {y.shape}, and the predictions have {shape}")
    if y.ndim > 1:
        flat = {
            name: v.reshape(y.size, *v.shape[y.ndim :])
            for name, v in columns.items()
            if name not in ("classes", "degrees_of_freedom")
        }
        if np.ndim(columns.get("degrees_of_freedom", 0.0)):  # those of each output
            degrees = np.broadcast_to(columns["degrees_of_freedom"], y.shape)
            flat["degrees_of_freedom"] = degrees.reshape(-1)
        columns, y = {**columns, **flat}, y.reshape(-1)
    if "label" not in columns:
        return {
            "root_mean_squared_error": float(root_mean_squared_error(y, columns["mean"])),
            "r2": float(r2_score(y, columns["mean"])) if len(y) > 1 else float("nan"),
            "mean_std": float(columns["std"].mean()),
            "interval_coverage": float(((columns["low"] <= y) & (y <= columns["high"])).mean()),
            **_density(columns, y),
        }, None
    by_class = (y, columns["probability"], columns["classes"])
    return {
        "error_rate": error_rate(y, columns["label"]),
        "negative_log_likelihood": negative_log_likelihood(*by_class),
        "brier_score": brier_score(*by_class),
        "expected_calibration_error": expected_calibration_error(*by_class),
        "calibration_error_by_chance": calibration_error_by_chance(columns["probability"]),
    }, [asdict(b) for b in reliability(*by_class)]


def as_classes(y: Targets, classes: Array) -> Targets:
    """Labels in the type of the classes of a fit.

    A file tells whole numbers from texts by all of its labels: 100 alone is a number, beside 001
    it is a text. A fit knows the labels of its own rows, of which a file of test rows may lack
    those with leading zeros. Fits of earlier versions have them as numbers.
    """
    if classes.dtype.kind == "U" and y.dtype.kind in "iu":
        return y.astype(str)
    if classes.dtype.kind in "iu" and y.dtype.kind == "U":
        with suppress(ValueError, OverflowError):
            return numbers_of(y, np.int64)
    return y


def _density(columns: dict[str, Array], y: Targets) -> dict[str, float]:
    """The mean negative log density of new targets; none where a deviation is 0."""
    std = columns["observation_std"]
    if not std.all():
        return {}
    degrees = columns["degrees_of_freedom"]
    student = Student(degrees if degrees.ndim else float(degrees))
    density = student.log_density(y - columns["mean"], std)
    return {"negative_log_density": -float(density.mean())}


def ood_scores(
    estimator: Estimator,
    pairs: tuple[Images, dict[str, Array]],
    x: Images,
    cache: CovarianceCache | None = None,
) -> dict[str, Any]:
    """How well each score of strange inputs tells images x from others.

    pairs: the other images, and their `predictions_of`

    Raises: InputError.
    """
    columns = predictions_of(estimator, x, cache)
    inside, outside = _scores(estimator, *pairs), _scores(estimator, x, columns)
    scores = {
        name: {
            "auroc": out_of_distribution_auroc(inside[name], values),
            "mean": float(values.mean()),
            "mean_of_the_test_rows": float(inside[name].mean()),
        }
        for name, values in outside.items()
    }
    name = "variance" if isinstance(estimator, GPClassifier) else "std"
    first, second = (of[name] for of in (pairs[1], columns))
    return {
        "auroc": scores["variance"]["auroc"],
        f"mean_{name}": float(second.mean()),
        f"mean_{name}_of_the_test_rows": float(first.mean()),
        "scores": scores,
    }


def _scores(estimator: Estimator, x: Images, columns: dict[str, Array]) -> dict[str, Array]:
    variance = columns["variance"] if "variance" in columns else columns["std"] ** 2
    return scores_of(estimator, x, variance, columns.get("probability"))


def repeated_rows(estimator: Estimator, x: Images) -> int:
    """The number of images that are, to the last bit, among those of the fit."""
    if estimator.x_train_ is None:
        return 0
    trained = {row.tobytes() for row in estimator.x_train_}
    return sum(row.tobytes() in trained for row in x.astype(estimator.x_train_.dtype))


def require_targets(kernel: Kernel, rows: Rows) -> None:
    """Refuse targets with positions for a kernel that has none. Raises: DataError."""
    if rows.y.ndim > 1 and not kernel.positions:
        raise DataError(
            f"{rows.name}: y has shape {rows.y.shape}, expected [N]: one label or target a row. "
            "If it is one-hot, try y.argmax(axis=1)"
        )
