"""Fitted estimators on disk: plain arrays and a readable JSON, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras2gp._util.files import Content, write_files
from keras2gp.errors import InputError, Keras2GPError, ModelFileError, NotFittedError
from keras2gp.gp.arrays import array_writer, checksum, read_array
from keras2gp.gp.base import GaussianProcess
from keras2gp.gp.classifier import GPClassifier
from keras2gp.gp.dirichlet_saving import DIRICHLET_FILES, dirichlet_arrays, restored_dirichlet
from keras2gp.gp.head_file import FORMAT_VERSION, HEAD, described, read_head, set_facts, unfitted
from keras2gp.gp.inputs import check_kernel, kernel_values
from keras2gp.gp.regressor import GPRegressor
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.saving import probed, restore_system, system_arrays, system_names

__all__ = ["FORMAT_VERSION", "load_head", "save_head"]

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
    if type(estimator) not in (GPClassifier, GPRegressor) or not hasattr(estimator, "alpha_"):
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
    head = described(estimator)
    head["arrays"] = {
        name: {"dtype": a.dtype.str, "shape": list(a.shape), "crc32": checksum(a)}
        for name, a in arrays.items()
    }
    text = json.dumps(head, indent=2, allow_nan=False) + "\n"
    files: list[tuple[Path, Content]] = [
        (directory / name, array_writer(array)) for name, array in arrays.items()
    ]
    files.append((directory / HEAD, text))
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelFileError(f"{directory} cannot be written: {error}") from error
    write_files(files, ModelFileError)


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
    head = read_head(directory / HEAD)
    try:
        estimator = _restored(head, directory, kernel, gram)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, Keras2GPError):
            raise ModelFileError(f"{directory / HEAD} is damaged: {error}") from error
        raise ModelFileError(
            f"{directory / HEAD} is damaged: {type(error).__name__}: {error}"
        ) from error
    _check_kernel_fits(estimator, directory)
    return estimator


def _restored(
    head: Mapping[str, Any], directory: Path, kernel: Any, gram: Any
) -> GPClassifier | GPRegressor:
    """The estimator that the head describes; KeyError and the like where it is malformed."""
    estimator = unfitted(head, kernel)
    arrays = _read_arrays(head["arrays"], system_names(head), directory)
    targets = arrays["y.npy"]
    shape = tuple(int(n) for n in head["input_shape"])
    x_train = arrays.get("x_train.npy")
    fits = arrays["alpha.npy"].shape == targets.shape
    if estimator.precomputed:
        fits = fits and x_train is None and shape == (len(targets),)
    else:
        fits = fits and x_train is not None and x_train.shape == (len(targets), *shape)
    if not fits:
        raise ModelFileError(f"{directory}: the arrays do not fit each other")
    estimator.x_train_, estimator.targets_, estimator.alpha_ = x_train, targets, arrays["alpha.npy"]
    set_facts(estimator, head)
    restore_system(estimator, head, arrays, gram)
    if isinstance(estimator, GPClassifier):
        wanted = estimator.probabilities == "dirichlet"
        estimator.dirichlet_ = restored_dirichlet(
            head["dirichlet"], arrays, targets.argmax(axis=1), targets.shape[1], wanted=wanted
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
                f"{path} is damaged, or of another save: it holds {found}, and {HEAD} says "
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
