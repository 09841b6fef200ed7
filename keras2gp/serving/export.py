"""export(): fitted estimators as TensorFlow SavedModels that predict without keras2gp.

DIR/saved_model.pb, variables/, ...   serving signature: images -> predictions
DIR/predictor.json                    inputs and outputs, described for people
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp._util.files import staged_directory
from keras2gp._util.version import VERSION
from keras2gp.errors import InputError, ModelFileError, NotFittedError
from keras2gp.gp.classifier import GPClassifier
from keras2gp.gp.regressor import GPRegressor
from keras2gp.gp.solvers.precision import rounding_bound
from keras2gp.kernel.exported import ExportedKernel
from keras2gp.kernel.kernel import Kernel
from keras2gp.serving.posterior import Factor, expected_softmax, largest

__all__ = ["MARKER", "export"]

MARKER = "predictor.json"


def export(
    estimator: GPClassifier | GPRegressor, directory: str | Path, *, variance: bool = True
) -> None:
    """Write a fitted estimator as a SavedModel that predicts, for TensorFlow alone.

    The serving signature takes `images` in the kernel's dtype, as the kernel takes them. It returns
    float64: label, probability, mean and variance for a classification; mean and std for a
    regression. A call fails, as in keras2gp, for images that are not finite, and where a variance
    lies further below zero than rounding explains.

    Args:
        estimator: a fitted GPClassifier or GPRegressor.
        directory: where to; an export that was written there before is replaced.
        variance: whether the variance (std) is among the outputs. It needs the Cholesky factor,
            N^2 / 2 doubles, and N^2 operations for each image; means, and probabilities by
            temperature, do not.

    Raises:
        NotFittedError: the estimator is not fitted.
        InputError: the kernel does not come from keras2gp.convert; there is no variance (no
            Cholesky factor) to export; the probabilities need one; TensorFlow cannot hold the
            labels.
        ModelFileError: the directory holds something else, or cannot be written.

    Shapes:
        images [M, *shape]; label [M], probability and mean [M, C], variance [M]; for a regression
        mean and std [M] or [M, C].

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
    ['mean', 'std']
    >>> numpy.allclose(outputs["mean"], regressor.predict(x))
    True
    """
    target = Path(directory)
    if target.exists() and not (target / MARKER).is_file():
        empty = target.is_dir() and not any(target.iterdir())
        if not empty:
            raise ModelFileError(f"{target} exists and is no exported fit: choose another")
    if not hasattr(estimator, "alpha_"):
        raise NotFittedError(f"{type(estimator).__name__} is not fitted: nothing to export")
    if not isinstance(estimator.kernel, Kernel):
        raise InputError(
            f"the kernel is {estimator.kernel!r}: only one that keras2gp.convert or keras2gp.load "
            "gave is known to TensorFlow"
        )
    module = _predictor(estimator, variance=variance)
    try:
        with staged_directory(target) as staged:
            tf.saved_model.save(module, str(staged), signatures=module.predict)
            text = json.dumps(_described(estimator, module.predict), indent=1)
            (staged / MARKER).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ModelFileError(f"{target} cannot be written: {error}") from error


def _predictor(estimator: GPClassifier | GPRegressor, *, variance: bool) -> Any:
    if isinstance(estimator, GPRegressor):
        return _Regressor(estimator, variance=variance)
    if estimator.dirichlet_ is not None:
        return _DirichletClassifier(estimator, variance=variance)
    return _Classifier(estimator, variance=variance)


class _Predictor(tf.Module):  # type: ignore[misc]
    """Posterior mean and variance of images; subclasses turn them into outputs."""

    def __init__(self, estimator: Any, *, variance: bool) -> None:
        super().__init__()
        kernel: Kernel = estimator.kernel
        self._kernel = ExportedKernel(kernel.parts)
        images = kernel.images(estimator.basis_)
        self._train = [tf.Variable(np.moveaxis(x, 0, -1)) for x in images]
        self._alpha = tf.Variable(self._weights(estimator))
        self._factor = _factor_of(estimator) if variance else None
        if variance:
            size = len(estimator.targets_)
            dtype, report = estimator.kernel_dtype_, estimator.jitter_report_
            self._bound = float(rounding_bound(np.ones(1), size, dtype, report)[0])
        spec = tf.TensorSpec([None, *kernel.inputs[0].shape], self._kernel.dtype, name="images")
        self.predict = tf.function(self._predict, input_signature=[spec], autograph=False)

    @staticmethod
    def _weights(estimator: Any) -> Any:
        return estimator.weights_

    def _predict(self, images: Tensor) -> dict[str, Tensor]:
        finite = tf.debugging.assert_all_finite(images, "images are not finite")
        cross, prior = self._kernel.cross(
            self._kernel.images([finite]), self._kernel.side(self._train)[1]
        )
        return self._posterior(tf.cast(cross, tf.float64), tf.cast(prior, tf.float64))

    def _posterior(self, cross: Tensor, prior: Tensor) -> dict[str, Tensor]:
        """Outputs by name, of covariances [M, B] and prior variances [M]."""
        mean = cross @ self._alpha
        if self._factor is None:
            return self._outputs(mean, None)
        half = self._factor.half_solve(tf.transpose(cross))
        variance = prior - tf.reduce_sum(half**2, 0)
        message = "a posterior variance lies below zero by more than rounding explains"
        check = tf.debugging.assert_greater_equal(variance, -self._bound * prior, message)
        with tf.control_dependencies([check]):
            return self._outputs(mean, tf.maximum(variance, 0.0))

    def _outputs(self, mean: Tensor, variance: Tensor | None) -> dict[str, Tensor]:
        raise NotImplementedError


class _Classifier(_Predictor):
    """Labels, and probabilities by temperature or as the largest of Gaussian latent values."""

    def __init__(self, estimator: GPClassifier, *, variance: bool) -> None:
        self._scale = estimator.scale_
        self._temperature = estimator.temperature_
        if self._temperature is None and not variance:
            raise InputError(
                f"probabilities={estimator.probabilities!r} are computed from the variance, which "
                "is not exported. Try: probabilities='temperature'"
            )
        self._classes = _labels(estimator)
        super().__init__(estimator, variance=variance)

    def _outputs(self, mean: Tensor, variance: Tensor | None) -> dict[str, Tensor]:
        outputs = {"label": tf.gather(self._classes, tf.argmax(mean, 1)), "mean": mean}
        if variance is not None:
            outputs["variance"] = self._scale * variance
        if self._temperature is not None:
            outputs["probability"] = tf.nn.softmax(mean / self._temperature)
        else:
            outputs["probability"] = largest(mean, tf.sqrt(outputs["variance"]))
        return outputs


class _DirichletClassifier(_Predictor):
    """Outputs of a Dirichlet classification: `gp.DirichletPosterior` in TensorFlow."""

    def __init__(self, estimator: GPClassifier, *, variance: bool) -> None:
        posterior: Any = estimator.dirichlet_
        if not variance:
            raise InputError(
                "probabilities='dirichlet' are computed from the variance, which is not exported. "
                "Try: probabilities='temperature'"
            )
        self._classes = _labels(estimator)
        self._scale = posterior.transformation.scale
        self._members = [tf.constant(rows) for rows in posterior.members]
        self._inner = [tf.Variable(lower) for lower in posterior.inner]
        self._shifted = Factor(posterior.factor)
        # Its variances have a factor of their own.
        super().__init__(estimator, variance=False)

    @staticmethod
    def _weights(estimator: Any) -> Any:
        return estimator.dirichlet_.alpha

    def _posterior(self, cross: Tensor, prior: Tensor) -> dict[str, Tensor]:
        mean = cross @ self._alpha
        half = self._shifted.half_solve(tf.transpose(cross))
        common = prior - tf.reduce_sum(half**2, 0)
        solved = self._shifted.back_solve(half)
        parts = []
        for members, inner in zip(self._members, self._inner, strict=True):
            rows = tf.linalg.triangular_solve(inner, tf.gather(solved, members), lower=True)
            parts.append(common - tf.reduce_sum(rows**2, 0))
        variance = self._scale * tf.maximum(tf.stack(parts, 1), 0.0)
        return {
            "label": tf.gather(self._classes, tf.argmax(mean, 1)),
            "mean": mean,
            "variance": tf.reduce_mean(variance, 1),
            "probability": expected_softmax(mean, variance),
        }


class _Regressor(_Predictor):
    """Mean and standard deviation in the units of the targets."""

    def __init__(self, estimator: GPRegressor, *, variance: bool) -> None:
        self._shift = tf.constant(estimator.y_shift_)
        self._scale = tf.constant(estimator.y_scale_)
        self._single = estimator.single_output_
        super().__init__(estimator, variance=variance)

    def _outputs(self, mean: Tensor, variance: Tensor | None) -> dict[str, Tensor]:
        outputs = {"mean": mean * self._scale + self._shift}
        if variance is not None:
            outputs["std"] = tf.sqrt(variance)[:, None] * self._scale
        return {k: v[:, 0] for k, v in outputs.items()} if self._single else outputs


def _labels(estimator: GPClassifier) -> Tensor:
    classes = estimator.classes_
    try:
        return tf.constant(classes if classes.dtype.kind in "biuf" else list(classes))
    except (TypeError, ValueError) as error:
        raise InputError(f"TensorFlow cannot hold the labels: {error}") from error


def _factor_of(estimator: Any) -> Factor:
    factor = getattr(estimator, "factor_", None)
    if factor is None:
        raise InputError(
            "this fit has no Cholesky factor, which variances need. Try: variance=False"
        )
    return Factor(factor)


def _described(estimator: Any, predict: Any) -> dict[str, Any]:
    outputs = predict.get_concrete_function().structured_outputs
    description = {
        "keras2gp": VERSION,
        "class": type(estimator).__name__,
        "model": estimator.kernel.report.model,
        "training_inputs": len(estimator.targets_),
        "images": {
            "shape": [None, *estimator.kernel.inputs[0].shape],
            "dtype": estimator.kernel.dtype,
        },
        "outputs": {
            name: {"shape": value.shape.as_list(), "dtype": value.dtype.name}
            for name, value in outputs.items()
        },
    }
    if isinstance(estimator, GPClassifier):
        description["classes"] = estimator.classes_.tolist()
        description["probabilities"] = estimator.probabilities
    return description
