"""Fitted estimators on disk: plain arrays and a readable JSON, no pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras2gp.errors import InputError, Keras2GPError, ModelFileError, NotFittedError
from keras2gp.gp.arrays import Writer, array_writer, checksum, read_array, write_files
from keras2gp.gp.base import GaussianProcess
from keras2gp.gp.cholesky import check_jitter, check_noise
from keras2gp.gp.classification import GPClassifier, check_probabilities
from keras2gp.gp.dirichletfiles import DIRICHLET_FILES, dirichlet_arrays, restored_dirichlet
from keras2gp.gp.factor import CholeskyFactor
from keras2gp.gp.inputs import check_kernel, kernel_values
from keras2gp.gp.regression import GPRegressor
from keras2gp.gp.solvers import solver_from_dict, solver_to_dict
from keras2gp.gp.systemfiles import probed, restore_system, system_arrays, system_names

__all__ = ["FORMAT_VERSION", "load_head", "save_head"]

FORMAT_VERSION = 1
_FORMAT = "keras2gp.gp"
_HEAD = "head.json"
_CLASSES: dict[str, type[GPClassifier] | type[GPRegressor]] = {
    "GPClassifier": GPClassifier,
    "GPRegressor": GPRegressor,
}

# A kernel that is not the one of the fit shows in the matrix of a few training inputs; the same
# kernel on another machine, or in another precision, differs by less.
_PROBE_TOLERANCE = 1e-3


def save_head(estimator: GPClassifier | GPRegressor, directory: str | Path) -> None:
    """Write a fitted estimator, without its kernel.

    Files: x_train.npy (unless the kernel is precomputed), y.npy (targets as fitted, [N, C]),
    alpha.npy [N, C], what the solver keeps (factor.npy, the packed Cholesky factor; or weights.npy,
    lower.npy, inner.npy and diagonal.npy of an inducing-point fit), and head.json, which has the
    rest and a checksum of each array. A save that is killed leaves no file half written.

    Conjugate gradients keep nothing: the means of a loaded fit need no matrix, and for variances
    it is computed again.

    Raises:
        NotFittedError: the estimator is not fitted.
        InputError: labels that JSON cannot hold (anything but strings, numbers and booleans).
        ModelFileError: the directory cannot be written.
    """
    if type(estimator).__name__ not in _CLASSES or not hasattr(estimator, "alpha_"):
        raise NotFittedError(f"{type(estimator).__name__} is not fitted: nothing to save")
    directory = Path(directory)
    arrays = {
        "y.npy": estimator.targets_,
        "alpha.npy": estimator.alpha_,
        **system_arrays(estimator),
    }
    if isinstance(estimator, GPClassifier) and estimator.dirichlet_ is not None:
        arrays |= dirichlet_arrays(estimator.dirichlet_)
    if estimator.x_train_ is not None:
        arrays["x_train.npy"] = estimator.x_train_
    head = _described(estimator)
    head["arrays"] = {
        name: {"dtype": a.dtype.str, "shape": list(a.shape), "crc32": checksum(a)}
        for name, a in arrays.items()
    }
    text = json.dumps(head, indent=2, allow_nan=False) + "\n"
    files: list[tuple[Path, Writer]] = [
        (directory / name, array_writer(array)) for name, array in arrays.items()
    ]
    files.append((directory / _HEAD, lambda handle: _write_text(handle, text)))
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelFileError(f"{directory} cannot be written: {error}") from error
    write_files(files)


def load_head(directory: str | Path, kernel: Any, gram: Any = None) -> GPClassifier | GPRegressor:
    """Read what `save_head` wrote; predictions are the same as before.

    kernel: the kernel of the fit, or "precomputed" if that was it. It is tried on the first few
        training inputs: another kernel gives another matrix, and is refused.

    Raises:
        InputError: `kernel` is no kernel.
        ModelFileError: a file is missing, damaged or of another format; the arrays do not fit
            each other; the kernel is not that of the fit.
    """
    check_kernel(kernel)
    directory = Path(directory)
    head = _read_json(directory / _HEAD)
    if head.get("format") != _FORMAT or head.get("version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{directory / _HEAD} has format {head.get('format')!r}, version "
            f"{head.get('version')!r}; this release reads {_FORMAT!r}, version {FORMAT_VERSION}"
        )
    try:
        estimator = _restored(head, directory, kernel, gram)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, Keras2GPError):
            raise ModelFileError(f"{directory / _HEAD} is damaged: {error}") from error
        raise ModelFileError(
            f"{directory / _HEAD} is damaged: {type(error).__name__}: {error}"
        ) from error
    _check_kernel_fits(estimator, directory)
    return estimator


def _described(estimator: GPClassifier | GPRegressor) -> dict[str, Any]:
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


def _restored(
    head: Mapping[str, Any], directory: Path, kernel: Any, gram: Any
) -> GPClassifier | GPRegressor:
    """The estimator that the head describes; KeyError and the like where it is malformed."""
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
    estimator = kind(kernel, **parameters)
    arrays = _read_arrays(head["arrays"], system_names(head), directory)
    targets = arrays["y.npy"]
    shape = tuple(int(n) for n in head["input_shape"])
    count, outputs = targets.shape
    x_train = arrays.get("x_train.npy")
    fits = arrays["alpha.npy"].shape == targets.shape
    if estimator.precomputed:
        fits = fits and x_train is None and shape == (count,)
    else:
        fits = fits and x_train is not None and x_train.shape == (count, *shape)
    if not fits:
        raise ModelFileError(f"{directory}: the arrays do not fit each other")
    estimator.x_train_, estimator.targets_, estimator.alpha_ = x_train, targets, arrays["alpha.npy"]
    estimator.input_shape_ = shape
    estimator.kernel_dtype_ = str(np.finfo(head["kernel_dtype"]).dtype)
    evidence = head["log_marginal_likelihood"]
    estimator.log_marginal_likelihood_value_ = math.nan if evidence is None else _finite(evidence)
    restore_system(estimator, head, arrays, gram)
    if len(shape) == 1:
        estimator.n_features_in_ = shape[0]
    if isinstance(estimator, GPRegressor):
        estimator.single_output_ = bool(head["single_output"])
        estimator.y_shift_ = _vector(head["y_shift"], outputs)
        estimator.y_scale_ = _vector(head["y_scale"], outputs)
    else:
        check_probabilities(estimator.probabilities)
        estimator.classes_ = _classes_restored(head["classes"], outputs)
        estimator.temperature_ = _temperature(head["temperature"], estimator.probabilities)
        wanted = estimator.probabilities == "dirichlet"
        estimator.dirichlet_ = restored_dirichlet(
            head["dirichlet"], arrays, targets.argmax(axis=1), outputs, wanted=wanted
        )
    return estimator


def _read_arrays(
    described: Mapping[str, Any], names: Sequence[str], directory: Path
) -> dict[str, Any]:
    """The arrays as such, a factor as a CholeskyFactor; `names` are those of the solver."""
    result: dict[str, Any] = {}
    for name in ("y.npy", "alpha.npy", "x_train.npy", *names, *DIRICHLET_FILES):
        if name not in described and name in ("x_train.npy", *DIRICHLET_FILES):
            continue
        expected, path = described[name], directory / name
        if name in ("factor.npy", "dirichlet_factor.npy"):
            result[name] = CholeskyFactor.load(path)
            array: npt.NDArray[Any] = result[name].as_vector()
        else:
            array = read_array(path, dimensions=len(expected["shape"]))
            result[name] = array
        found = {"dtype": array.dtype.str, "shape": list(array.shape), "crc32": checksum(array)}
        if found != expected:
            raise ModelFileError(
                f"{path} is damaged, or of another save: it holds {found}, and {_HEAD} says "
                f"{expected}"
            )
    return result


def _check_kernel_fits(estimator: GaussianProcess, directory: Path) -> None:
    """Compare the kernel of a few training inputs with what the fit had."""
    if estimator.x_train_ is None:
        return
    inputs, expected = probed(estimator)
    count = len(inputs)
    try:
        values = estimator.kernel(inputs)
        found = kernel_values(values, (count, count), "the kernel matrix").astype(np.float64)
    except InputError as error:
        raise ModelFileError(
            f"{directory}: the kernel is not the one of the fit: {error}"
        ) from error
    gap = float(np.abs(found - expected).max())
    scale = float(np.abs(expected).max())
    if gap > _PROBE_TOLERANCE * scale:
        raise ModelFileError(
            f"{directory}: the kernel is not the one of the fit: on the first {count} training "
            f"inputs its matrix differs by {gap:.3g}, of {scale:.3g}"
        )


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


def _write_text(handle: Any, text: str) -> None:
    handle.write(text.encode("utf-8"))
