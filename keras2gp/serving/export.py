"""export(): fitted estimators as TensorFlow SavedModels that predict without keras2gp.

DIR/saved_model.pb, variables/, ...   serving signature: images -> predictions
DIR/predictor.json                    inputs and outputs, described for people; digests

`check_export` compares an export with its digests. TensorFlow itself compares checksums of the
variables (weights, factor) when it loads them; labels, temperature and linear map
stand in saved_model.pb.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.checks import truth
from keras2gp._util.digest import check_digest, file_digest, with_digest
from keras2gp._util.files import staged_directory
from keras2gp._util.paths import as_path, read_if_regular
from keras2gp.errors import InputError, ModelFileError, NotFittedError, StoreError, one_line
from keras2gp.gp.classification.classifier import GPClassifier
from keras2gp.gp.regression.regressor import GPRegressor
from keras2gp.kernel.kernel import Kernel
from keras2gp.kernel.saving import save_module
from keras2gp.serving.predictors import predictor_of

__all__ = ["MARKER", "check_export", "export"]

MARKER = "predictor.json"
_LARGEST_JSON = 64 * 2**20
_OURS = (MARKER, "saved_model.pb", "fingerprint.pb", "variables/*")
"""Files of an export, as patterns."""


def export(
    estimator: GPClassifier | GPRegressor, directory: str | Path, *, variance: bool = True
) -> None:
    """Write a fitted estimator as a SavedModel that predicts, for TensorFlow alone.

    The serving signature takes `images` in the kernel's dtype, as the kernel takes them. It returns
    float64: label, probability, mean and variance for a classification; mean and std for a
    regression; and outside, how far each image lies outside the range of the training images, in
    units of it (above 1 suggests another scaling). A call fails, as in keras2gp, for images that
    are not finite, and where a variance lies further below zero than rounding explains.

    Args:
        estimator: a fitted GPClassifier or GPRegressor.
        directory: where to; an export that was written there before is replaced.
        variance: whether the variance (std) is among the outputs. It needs the Cholesky factor,
            N^2 / 2 doubles, and N^2 operations for each image; means, and probabilities by a
            temperature or a linear map, do not.

    Raises:
        NotFittedError: the estimator is not fitted.
        InputError: the kernel does not come from keras2gp.convert; there is no variance (no
            Cholesky factor) to export; the probabilities need one; TensorFlow cannot hold the
            labels.
        ModelFileError: the directory holds something else, or cannot be written.

    Shapes:
        images [M, *shape]; label [M], probability and mean [M, C], variance [M]; for a regression
        mean and std [M] or [M, C]; outside [M].

    >>> import keras, keras2gp, numpy, tempfile
    >>> import tensorflow as tf
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.0)}, dtype="float64")
    >>> x, y = numpy.array([[1.0], [2.0]]), numpy.array([-1.0, 1.0])
    >>> regressor = keras2gp.GPRegressor(kernel, noise_variance=1.0).fit(x, y)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     keras2gp.export(regressor, directory)
    ...     served = tf.saved_model.load(directory).signatures["serving_default"]
    ...     outputs = served(images=tf.constant(x))
    >>> sorted(outputs)
    ['mean', 'outside', 'std']
    >>> numpy.allclose(outputs["mean"], regressor.predict(x))
    True
    """
    target, variance = as_path("directory", directory), truth("variance", variance)
    _require_replaceable(target)
    if not isinstance(estimator, GPClassifier | GPRegressor):
        raise InputError(
            f"{type(estimator).__name__} cannot be exported: expected GPClassifier or GPRegressor. "
            "Try: estimator.save, which keras2gp.load reads"
        )
    if not hasattr(estimator, "alpha_"):
        raise NotFittedError(f"{type(estimator).__name__} is not fitted: nothing to export")
    if not isinstance(estimator.kernel, Kernel):
        raise InputError(
            f"the kernel is {estimator.kernel!r}: only one that keras2gp.convert or keras2gp.load "
            "gave is known to TensorFlow"
        )
    if len(estimator.kernel.inputs) > 1:
        names = ", ".join(spec.name for spec in estimator.kernel.inputs)
        raise InputError(
            f"the model has the inputs {names}, and an export serves one array. Try: Kernel.save, "
            "which serves the kernel of several"
        )
    if estimator.kernel.positions:
        raise InputError(
            f"the fit is over the output's positions {estimator.kernel.positions}, and an export "
            "serves one prediction for each image. Try: a fit at one position, with the kernel "
            "kernel.at(position); Kernel.save, which saves the kernel of all positions"
        )
    mean = estimator.kernel.mean
    if isinstance(estimator, GPRegressor) and mean is not None and mean.depends_on_input:
        raise InputError(
            "the kernel's mean depends on the input, and an export adds constants alone. Try: "
            "kernel.without_mean(), fitted to targets less kernel.mean(X), which the predictions "
            "then lack"
        )
    module = predictor_of(estimator, variance=variance)
    try:
        with staged_directory(target, _OURS) as staged:
            save_module(module, staged, module.predict)
            files = {
                path.relative_to(staged).as_posix(): file_digest(path)
                for path in sorted(staged.rglob("*"))
                if path.is_file()
            }
            data = with_digest({**_described(estimator, module.predict), "files": files})
            (staged / MARKER).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except StoreError as error:
        raise ModelFileError(str(error)) from error
    except OSError as error:
        raise ModelFileError(f"{target} cannot be written: {error}") from error


def check_export(directory: str | Path) -> None:
    """Refuse an exported fit any of whose files is not the file that was written.

    Args:
        directory: where `export` wrote it.

    Raises:
        ModelFileError: it is no exported fit, or a file was changed, is missing or was added.

    >>> import keras, keras2gp, numpy, pathlib, tempfile
    >>> from keras2gp.serving.export import check_export
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.0)})
    >>> x, y = numpy.array([[1.0], [2.0]]), numpy.array([-1.0, 1.0])
    >>> regressor = keras2gp.GPRegressor(kernel, noise_variance=1.0).fit(x, y)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     keras2gp.export(regressor, directory)
    ...     check_export(directory)
    ...     with (pathlib.Path(directory) / "saved_model.pb").open("ab") as file:
    ...         _ = file.write(b"!")
    ...     check_export(directory)
    Traceback (most recent call last):
    keras2gp.errors.ModelFileError: ...saved_model.pb is not the file that was written...
    """
    root = as_path("directory", directory, ModelFileError)
    data = _read_marker(root)
    if data is None:
        raise ModelFileError(f"{root} is no exported fit: it has no {MARKER} of keras2gp's")
    check_digest(data, str(root / MARKER))
    if "files" not in data:
        raise ModelFileError(f"{root}: keras2gp 0.1 exported it, without digests. Try: export anew")
    paths = {p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir()} - {MARKER}
    for name in sorted(paths | set(data["files"])):
        if name not in data["files"] or file_digest(root / name) != data["files"][name]:
            raise ModelFileError(
                f"{root / name} is not the file that was written. Try: an unchanged copy, or "
                "export the fit anew"
            )


def _require_replaceable(target: Path) -> None:
    try:
        empty = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    except (OSError, ValueError) as error:  # a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(f"{one_line(str(target)[:300])}: {reason}") from error
    if not empty and _read_marker(target) is None:
        raise ModelFileError(f"{target} exists and is no exported fit: choose another")


def _read_marker(root: Path) -> dict[str, Any] | None:
    """The description of an exported fit; None if there is none of keras2gp's."""
    try:
        content = read_if_regular(root / MARKER, _LARGEST_JSON)
        data = json.loads(content or b"null")
    except (OSError, ValueError, RecursionError):
        return None
    is_ours = isinstance(data, dict) and {"keras2gp", "class", "outputs"} <= set(data)
    return data if is_ours else None


def _described(estimator: Any, predict: Any) -> dict[str, Any]:
    outputs = predict.get_concrete_function().structured_outputs
    description = {
        "class": type(estimator).__name__,
        "model": estimator.kernel.report.model,
        "training_inputs": len(estimator.targets_),
        "images": {
            "shape": [None, *estimator.kernel.inputs[0].shape],
            "dtype": estimator.kernel.inputs[0].dtype or estimator.kernel.dtype,
        },
        "outputs": {
            name: {"shape": value.shape.as_list(), "dtype": value.dtype.name}
            for name, value in outputs.items()
        },
    }
    if isinstance(estimator, GPRegressor) and np.isfinite(estimator.degrees_of_freedom_).all():
        description["degrees_of_freedom"] = np.asarray(estimator.degrees_of_freedom_).tolist()
    if isinstance(estimator, GPClassifier):
        description["classes"] = estimator.classes_.tolist()
        description["probabilities"] = estimator.probabilities
    return description
