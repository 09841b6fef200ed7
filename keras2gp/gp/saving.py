"""Fitted estimators on disk: plain arrays and a readable JSON file, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from keras2gp._util.array_files import read_array
from keras2gp._util.arrays import Array, GramLike
from keras2gp._util.digest import check_digest
from keras2gp._util.paths import as_path, read_if_regular
from keras2gp.errors import (
    InputError,
    Keras2GPError,
    ModelFileError,
    NotFittedError,
    NumericalError,
    StoreError,
)
from keras2gp.fit_record import HEAD
from keras2gp.gp.arguments.kernel_function import KernelLike, check_kernel, kernel_values
from keras2gp.gp.classification.classifier import GPClassifier
from keras2gp.gp.classification.dirichlet import DirichletPosterior
from keras2gp.gp.ensemble.estimator import TrainedEnsemble
from keras2gp.gp.laplace.estimator import GPLaplace
from keras2gp.gp.probabilities.linear_map import LinearMap
from keras2gp.gp.process.fit_files import FORMAT, described, version_of, write_head
from keras2gp.gp.regression.regressor import GPRegressor
from keras2gp.gp.solvers.by_output import OutputFactors, OutputSpectrum
from keras2gp.gp.solvers.by_pattern import PatternFactors
from keras2gp.gp.solvers.choice import SOLVERS
from keras2gp.gp.solvers.factor import CholeskyFactor

__all__ = ["Head", "load_head", "save_head"]

Head = GPClassifier | GPRegressor | TrainedEnsemble | GPLaplace
"""An estimator that can be saved."""

_CLASSES: dict[str, type[Head]] = {kind.__name__: kind for kind in get_args(Head)}
_INPUTS = "x_train.npy"
_FILES = {
    *(_INPUTS, "y.npy", "alpha.npy", "weights.npy", "latent.npy"),
    *("noise.npy", "relative_noise.npy", "observed.npy"),
    *(name for solver in SOLVERS.values() for name in solver.system.files),
    *DirichletPosterior.files,
    *TrainedEnsemble.files,
    *LinearMap.files,
    *OutputFactors.files,
    *OutputSpectrum.files,
    *PatternFactors.files,
}
"""Every array file that a fit may have."""

# The largest relative difference between the kernel's matrix of a few training inputs and the
# matrix of the fit. The same kernel on another machine, or in another precision, differs by less.
_PROBE_TOLERANCE = 1e-3
# Bytes of head.json: a hundred thousand inducing inputs or classes take a few MiB.
_LARGEST_HEAD = 2**28


def save_head(estimator: Head, directory: str | Path) -> None:
    """Write a fitted estimator, without its kernel; `estimator.save` writes both.

    Files: x_train.npy (unless the kernel is precomputed), y.npy (targets as fitted, [N, C]),
    alpha.npy [N, C], the arrays of the solver (factor.npy, the packed Cholesky factor; single.npy
    and unit.npy of one in float32; or weights.npy, lower.npy, inner.npy and diagonal.npy of an
    inducing-point fit), and head.json with all other facts, a checksum of each array, and its own
    digest. A TrainedEnsemble has rates.npy, vectors.npy and prior.npy, a GPLaplace
    latent.npy and prior.npy, the matrix of its first few inputs. A killed save leaves no
    file half written.

    A fit by conjugate gradients or in mixed precision, or a GPLaplace, keeps no matrix: the means
    of a loaded fit need none, and for variances it is computed again.

    Args:
        estimator: a fitted GPClassifier, GPRegressor, GPLaplace or TrainedEnsemble.
        directory: created if it does not exist.

    Raises:
        NotFittedError: the estimator is not fitted.
        InputError: labels that JSON cannot hold (anything but strings, numbers and booleans), or a
            likelihood of a class of the user's own.
        ModelFileError: the directory cannot be written.

    >>> import tempfile
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp import GPRegressor
    >>> from keras2gp.gp import load_head, save_head
    >>> gp = GPRegressor(RBF(1.0), noise_variance=0.1).fit([[0.0], [1.0]], [0.0, 1.0])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save_head(gp, directory)
    ...     again = load_head(directory, RBF(1.0))
    >>> bool(again.predict([[0.5]]) == gp.predict([[0.5]]))
    True
    """
    if type(estimator) not in _CLASSES.values() or not hasattr(estimator, "input_shape_"):
        raise NotFittedError(f"{type(estimator).__name__} is not fitted: nothing to save")
    write_head(estimator, as_path("directory", directory))


def load_head(directory: str | Path, kernel: KernelLike, gram: GramLike = None) -> Head:
    """Read a fit that `save_head` wrote; its predictions are the same as before.

    Args:
        directory: the directory of the fit.
        kernel: the kernel of the fit, or "precomputed" if that was it. It is tried on the first
            few training inputs: another kernel gives another matrix, and is refused.
        gram: the kernel matrix of the training inputs, for a fit by conjugate gradients or a
            GPLaplace; without it the matrix is computed when a variance is asked for.

    Returns:
        The fitted estimator.

    Raises:
        InputError: `kernel` is no kernel, or a gram is given that the fit does not use.
        ModelFileError: a file is missing, damaged or of another format; the arrays do not fit
            each other; the kernel is not that of the fit.
        StoreError: the disk is full, so that no compiled program can be written.
        NumericalError: the kernel of the first training inputs cannot be computed.

    >>> import tempfile
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp import GPRegressor
    >>> from keras2gp.gp import load_head, save_head
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save_head(GPRegressor(RBF(1.0), 0.1).fit([[0.0], [1.0]], [0.0, 1.0]), directory)
    ...     load_head(directory, RBF(1.0)).x_train_.tolist()
    [[0.0], [1.0]]
    """
    check_kernel(kernel)
    directory = as_path("directory", directory)
    head = _read_head(directory / HEAD)
    try:
        estimator = _unfitted(head, kernel)
        estimator.restore_fit(head, _read_arrays(head["arrays"], directory), gram)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, Keras2GPError) as error:
        kind = "" if isinstance(error, Keras2GPError) else f"{type(error).__name__}: "
        raise ModelFileError(f"{directory / HEAD} is damaged: {kind}{error}") from error
    system = getattr(estimator, "system_", None)
    if gram is not None and isinstance(system or estimator, CholeskyFactor | TrainedEnsemble):
        raise InputError(
            f"{directory} is a fit that holds what it needs of the kernel matrix, and gram is not "
            "used. Try: without gram"
        )
    _check_kernel_fits(estimator, directory)
    return estimator


def _unfitted(head: Mapping[str, Any], kernel: KernelLike) -> Head:
    """An estimator with the settings of the head; KeyError and the like where it is malformed.

    Raises:
        ModelFileError: the kernel is not of the kind of the fit.
        InputError: a setting is out of range.
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
    kind = _CLASSES[head["class"]]
    return kind(kernel, **kind.settings_from_state(parameters))


def _read_arrays(stated: Mapping[str, Any], directory: Path) -> dict[str, Array]:
    """The arrays of a fit, each compared with its description in the head."""
    if not _FILES.issuperset(stated):
        raise ModelFileError(f"unknown arrays {sorted(set(stated) - _FILES)}")
    arrays = {}
    for name, expected in stated.items():
        path = directory / name
        text = name == _INPUTS
        arrays[name] = read_array(path, dimensions=len(expected["shape"]), text=text)
        if described(arrays[name]) != expected:
            raise ModelFileError(
                f"{path} is damaged, or of another save: it holds {described(arrays[name])}, and "
                f"{HEAD} says {expected}"
            )
    return arrays


def _check_kernel_fits(estimator: Head, directory: Path) -> None:
    """Compare the kernel of a few training inputs with the kernel matrix of the fit."""
    if estimator.precomputed:
        return
    try:
        values, expected = estimator.probe()
        values = kernel_values(values, expected.shape, "the kernel matrix")
    except StoreError:  # a full disk, on which no program can be kept, tells nothing of the kernel
        raise
    except NumericalError as error:
        raise NumericalError(
            f"{directory}: the kernel of the first training inputs cannot be computed, so that it "
            f"is not known whether it is the one of the fit: {error}"
        ) from error
    except (Keras2GPError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{directory}: the kernel is not the one of the fit: {error}"
        ) from error
    gap = float(np.abs(values.astype(np.float64) - expected).max())
    scale = float(np.abs(expected).max())
    if gap > _PROBE_TOLERANCE * scale:
        raise ModelFileError(
            f"{directory}: the kernel is not the one of the fit: on the first {len(expected.T)} "
            f"training inputs its matrix differs by {gap:.3g}, of {scale:.3g}"
        )


def _read_head(path: Path) -> dict[str, Any]:
    """The contents of head.json; ModelFileError if it is missing, damaged or of another format."""
    try:
        content = read_if_regular(path, _LARGEST_HEAD)
        if content is None:
            raise ModelFileError(f"{path} is missing, or no file: no saved estimator here")
        head = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    if not isinstance(head, dict):
        raise ModelFileError(f"{path} is damaged: it holds {type(head).__name__}, not an object")
    if head.get("format") != FORMAT or head.get("version") != version_of(head):
        raise ModelFileError(
            f"{path} has format {head.get('format')!r}, version {head.get('version')!r}; this "
            f"release reads {FORMAT!r}, version {version_of(head)}"
        )
    check_digest(head, str(path))
    return head
