"""head.json of a saved estimator: all of it but the arrays, in words and numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp.classifier import GPClassifier, check_probabilities
from keras2gp.gp.regressor import GPRegressor
from keras2gp.gp.solvers.choice import solver_from_dict, solver_to_dict
from keras2gp.gp.solvers.cholesky import check_jitter, check_noise

__all__ = ["FORMAT_VERSION", "HEAD", "described", "read_head", "set_facts", "unfitted"]

FORMAT_VERSION = 1
HEAD = "head.json"
_FORMAT = "keras2gp.gp"
_CLASSES: dict[str, type[GPClassifier] | type[GPRegressor]] = {
    "GPClassifier": GPClassifier,
    "GPRegressor": GPRegressor,
}


def described(estimator: GPClassifier | GPRegressor) -> dict[str, Any]:
    """What is written of a fitted estimator. Raises: InputError for labels JSON cannot hold."""
    report = estimator.jitter_report_
    parameters = {
        "noise_variance": float(estimator.noise_variance),
        "jitter": "auto" if estimator.jitter == "auto" else float(estimator.jitter),
        "precomputed": estimator.precomputed,
        "solver": solver_to_dict(estimator.solver),
    }
    head: dict[str, Any] = {
        "format": _FORMAT,
        "version": FORMAT_VERSION,
        "class": type(estimator).__name__,
        "parameters": parameters,
        "input_shape": list(estimator.input_shape_),
        "kernel_dtype": estimator.kernel_dtype_,
        "log_marginal_likelihood": _or_null(estimator.log_marginal_likelihood_value_),
        "solver_report": vars(estimator.solver_report_),
        "jitter_report": {
            "jitter": report.jitter,
            "mean_diagonal": report.mean_diagonal,
            "smallest_pivot": report.smallest_pivot,
            "smallest_pivot_index": report.smallest_pivot_index,
            "duplicate": report.duplicate,
            "seconds": report.seconds,
            "steps": [vars(step) for step in report.steps],
        },
    }
    if estimator.inducing_ is not None:
        head["inducing"] = estimator.inducing_.tolist()
    if isinstance(estimator, GPRegressor):
        parameters["normalize_y"] = bool(estimator.normalize_y)
        head["single_output"] = estimator.single_output_
        head["y_shift"] = estimator.y_shift_.tolist()
        head["y_scale"] = estimator.y_scale_.tolist()
    else:
        parameters["probabilities"] = estimator.probabilities
        head["classes"] = _classes_described(estimator.classes_)
        head["temperature"] = estimator.temperature_
        dirichlet = estimator.dirichlet_
        head["dirichlet"] = None if dirichlet is None else vars(dirichlet.transformation)
    return head


def _classes_described(classes: npt.NDArray[Any]) -> dict[str, Any]:
    values = classes.tolist()
    if not all(isinstance(value, str | int | float) for value in values):
        raise InputError(
            f"labels of type {classes.dtype} cannot be saved. Try: strings or whole numbers"
        )
    return {"dtype": classes.dtype.str, "values": values}


def read_head(path: Path) -> dict[str, Any]:
    """The document that `described` made.

    Raises: ModelFileError if it is missing, damaged or of another format.
    """
    head = _read_json(path)
    if head.get("format") != _FORMAT or head.get("version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format {head.get('format')!r}, version {head.get('version')!r}; this "
            f"release reads {_FORMAT!r}, version {FORMAT_VERSION}"
        )
    return head


def unfitted(head: Mapping[str, Any], kernel: Any) -> GPClassifier | GPRegressor:
    """An estimator with the settings of the head; KeyError and the like where it is malformed.

    Raises: ModelFileError, InputError.
    """
    parameters = dict(head["parameters"])
    if parameters.pop("precomputed") is not isinstance(kernel, str):
        raise ModelFileError(
            "the estimator was fitted with "
            + (
                "a kernel, and kernel='precomputed' was"
                if isinstance(kernel, str)
                else "kernel='precomputed', and a kernel was"
            )
            + " given to load it"
        )
    check_noise(parameters["noise_variance"])
    check_jitter(parameters["jitter"])
    parameters["solver"] = solver_from_dict(parameters["solver"])
    kind: type[GPClassifier | GPRegressor] = _CLASSES[head["class"]]
    return kind(kernel, **parameters)


def set_facts(estimator: GPClassifier | GPRegressor, head: Mapping[str, Any]) -> None:
    """Set what a fit leaves besides its arrays; errors as of `unfitted`.

    The estimator has its targets already.
    """
    outputs = estimator.targets_.shape[1]
    shape = tuple(int(n) for n in head["input_shape"])
    estimator.input_shape_ = shape
    if len(shape) == 1:
        estimator.n_features_in_ = shape[0]
    estimator.kernel_dtype_ = str(np.finfo(head["kernel_dtype"]).dtype)
    evidence = head["log_marginal_likelihood"]
    estimator.log_marginal_likelihood_value_ = math.nan if evidence is None else _finite(evidence)
    if isinstance(estimator, GPRegressor):
        estimator.single_output_ = bool(head["single_output"])
        estimator.y_shift_ = _vector(head["y_shift"], outputs)
        estimator.y_scale_ = _vector(head["y_scale"], outputs)
    else:
        check_probabilities(estimator.probabilities)
        estimator.classes_ = _classes_restored(head["classes"], outputs)
        estimator.temperature_ = _temperature(head["temperature"], estimator.probabilities)


def _classes_restored(described: Mapping[str, Any], count: int) -> npt.NDArray[Any]:
    values, dtype = described["values"], np.dtype(described["dtype"])
    kinds: dict[str, type | tuple[type, ...]] = {
        "U": str, "O": (str, int, float), "b": bool, "i": int, "u": int, "f": float
    }  # fmt: skip
    if not isinstance(values, list) or not all(isinstance(v, kinds[dtype.kind]) for v in values):
        raise ModelFileError(f"classes of type {dtype} are {values!r}")
    # Strings take the length that they have, not the one that the file claims.
    classes = np.array(values, dtype=str if dtype.kind == "U" else dtype)
    if classes.shape != (count,) or len(set(values)) != count:
        raise ModelFileError(f"{len(values)} classes, expected {count} different ones")
    return classes


def _temperature(value: Any, probabilities: str) -> float | None:
    if probabilities != "temperature" and value is None:
        return None
    temperature = _finite(value)
    if temperature <= 0.0 or probabilities != "temperature":
        raise ModelFileError(f"temperature {value!r} of probabilities {probabilities!r}")
    return temperature


def _vector(values: Any, count: int) -> npt.NDArray[np.float64]:
    vector = np.array([_finite(value) for value in values])
    if vector.shape != (count,):
        raise ModelFileError(f"{len(values)} values, expected {count}")
    return vector


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _finite(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelFileError(f"{value!r} where a finite number is expected")
    return float(value)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing: no saved estimator here") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    if not isinstance(head, dict):
        raise ModelFileError(f"{path} is damaged: it holds {type(head).__name__}, not an object")
    return head
