"""Fitted estimators as tf.Modules that predict with TensorFlow alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp._util.text import quoted_text
from keras2gp.errors import InputError
from keras2gp.gp.classification.classifier import GPClassifier
from keras2gp.gp.probabilities.softmax import DEVIATIONS, LEFT, RIGHT, STEP, WIDEST, quadrature
from keras2gp.gp.regression.regressor import GPRegressor
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.precision import rounding_bound
from keras2gp.kernel.kernel import Kernel
from keras2gp.kernel.saving import ExportedKernel

__all__ = ["Factor", "expected_softmax", "largest", "predictor_of"]


class Factor(tf.Module):  # type: ignore[misc]
    """A packed Cholesky factor: one tf.Variable for each panel, [N - start, width]."""

    def __init__(self, factor: CholeskyFactor) -> None:
        super().__init__()
        # triangular_solve ignores the entries above the diagonal, which need not be zero.
        self._panels = [tf.Variable(panel) for panel in factor.panels()]

    def half_solve(self, b: Tensor) -> Tensor:
        """L^-1 b, [N, M], panel by panel (PackedPanels.solve_lower)."""
        solved = []
        for panel in self._panels:
            width = panel.shape[1]
            top = tf.linalg.triangular_solve(panel[:width], b[:width], lower=True)
            b = b[width:] - panel[width:] @ top
            solved.append(top)
        return tf.concat(solved, 0)

    def back_solve(self, b: Tensor) -> Tensor:
        """L^-T b, [N, M] (PackedPanels.solve_lower_transposed)."""
        solved = b[:0]
        for panel in reversed(self._panels):
            width = panel.shape[1]
            stop = b.shape[0] - solved.shape[0]
            top = b[stop - width : stop] - tf.matmul(panel[width:], solved, transpose_a=True)
            top = tf.linalg.triangular_solve(panel[:width], top, lower=True, adjoint=True)
            solved = tf.concat([top, solved], 0)
        return solved


def largest(mean: Tensor, deviation: Tensor) -> Tensor:
    """`gp.largest_probabilities` in TensorFlow: means [M, C], deviations [M] -> [M, C]."""
    grid, weights = (tf.constant(a) for a in quadrature())
    certain = deviation <= 0.0
    spread = tf.where(certain, tf.ones_like(deviation), deviation)[:, None]
    gap = (tf.reduce_max(mean, 1, keepdims=True) - mean) / spread
    z = gap[:, :, None] + grid
    # z is at least -9: the distribution function is far above the smallest double.
    log_below = tf.math.log(0.5 * tf.math.erfc(-z / np.sqrt(2.0)))
    log_integrand = tf.reduce_sum(log_below, 1, keepdims=True) - log_below - 0.5 * z**2
    mass = tf.linalg.matvec(tf.exp(log_integrand), weights)
    best = tf.one_hot(tf.argmax(mean, 1), tf.shape(mean)[1], dtype=mean.dtype)
    return tf.where(certain[:, None], best, mass / tf.reduce_sum(mass, 1, keepdims=True))


def expected_softmax(mean: Tensor, variance: Tensor) -> Tensor:
    """`gp.expected_softmax` in TensorFlow: means and variances [M, C] -> [M, C], row by row."""

    def row(moments: tuple[Tensor, Tensor]) -> Tensor:
        center, deviation = moments
        low = tf.reduce_max(center - DEVIATIONS * deviation) - LEFT
        high = tf.reduce_max(center + DEVIATIONS * deviation) + RIGHT
        u = tf.linspace(low, high, 1 + _ceil((high - low) / STEP))
        width = tf.minimum(STEP / tf.maximum(tf.reduce_max(deviation), 1e-9), WIDEST)
        z = tf.linspace(-tf.ones_like(low), 1.0, 1 + _ceil(2.0 * DEVIATIONS / width)) * DEVIATIONS
        weights = tf.nn.softmax(-0.5 * z**2)
        x = center[:, None] + deviation[:, None] * z
        w = tf.exp(tf.minimum(x[:, None, :] - u[:, None], 60.0))
        below = tf.exp(-w)
        log_below = tf.math.log(tf.maximum(tf.linalg.matvec(below, weights), 1e-300))
        others = tf.exp(tf.reduce_sum(log_below, 0, keepdims=True) - log_below)
        mass = tf.reduce_sum(tf.linalg.matvec(w * below, weights) * others, 1)
        return mass / tf.reduce_sum(mass)

    signature = tf.TensorSpec([mean.shape[1]], mean.dtype)
    return tf.map_fn(row, (mean, tf.sqrt(variance)), fn_output_signature=signature)


def _ceil(value: Tensor) -> Tensor:
    return tf.cast(tf.math.ceil(value), tf.int32)


def predictor_of(estimator: GPClassifier | GPRegressor, *, variance: bool) -> Any:
    """The module whose method `predict` is the serving signature; see `export`."""
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
        self._intercept = getattr(estimator, "intercept_", 0.0)
        self._range = estimator.input_range_
        self._train = [tf.Variable(np.moveaxis(x, 0, -1)) for x in images]
        self._alpha = tf.Variable(self._weights(estimator))
        self._factor = _factor_of(estimator) if variance else None
        if variance:
            size = len(estimator.targets_)
            dtype, report = estimator.kernel_dtype_, estimator.jitter_report_
            self._bound = float(rounding_bound(np.ones(1), size, dtype, report)[0])
        (given,) = kernel.inputs
        dtype = given.dtype or self._kernel.dtype
        spec = tf.TensorSpec([None, *given.shape], dtype, name="images")
        self.predict = tf.function(self._predict, input_signature=[spec], autograph=False)

    @staticmethod
    def _weights(estimator: Any) -> Any:
        return estimator.weights_

    def _predict(self, images: Tensor) -> dict[str, Tensor]:
        finite = images
        if images.dtype.is_floating:
            finite = tf.debugging.assert_all_finite(images, "images are not finite")
        cross, prior = self._kernel.cross(
            self._kernel.images([finite]), self._kernel.side(self._train)[1]
        )
        moments = (tf.cast(part, tf.float64) + self._intercept for part in (cross, prior))
        outputs = self._posterior(*moments)
        if self._range is not None and images.dtype.is_floating:
            outputs["outside"] = self._outside(images)
        return outputs

    def _outside(self, images: Tensor) -> Tensor:
        """`InputRange.outside` in TensorFlow, [M]."""
        values = tf.cast(tf.reshape(images, [tf.shape(images)[0], -1]), tf.float64)
        beyond = tf.maximum(self._range.low - values, values - self._range.high) / self._range.width
        return tf.maximum(tf.reduce_max(beyond, 1), 0.0)

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
    """Labels, and probabilities by a softmax or as the largest of Gaussian latent values."""

    def __init__(self, estimator: GPClassifier, *, variance: bool) -> None:
        self._scale = estimator.scale_
        self._temperature, linear = estimator.temperature_, estimator.linear_map_
        self._linear = None
        if linear is not None:
            self._linear = tf.constant(linear.matrix), tf.constant(linear.offset)
        self._labels_by_logits = estimator.labels == "probabilities"
        if self._temperature is None and linear is None and not variance:
            raise InputError(
                f"probabilities={estimator.probabilities!r} are computed from the variance, which "
                "is not exported. Try: probabilities='linear'"
            )
        self._classes = _labels(estimator)
        super().__init__(estimator, variance=variance)

    def _outputs(self, mean: Tensor, variance: Tensor | None) -> dict[str, Tensor]:
        logits = None
        if self._linear is not None:
            matrix, offset = self._linear
            logits = tf.linalg.matmul(mean, matrix, transpose_b=True) + offset
        elif self._temperature is not None:
            logits = mean / self._temperature
        scores = logits if self._labels_by_logits else mean
        outputs = {"label": tf.gather(self._classes, tf.argmax(scores, 1)), "mean": mean}
        if variance is not None:
            outputs["variance"] = self._scale * variance
        if logits is not None:
            outputs["probability"] = tf.nn.softmax(logits)
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
                "Try: probabilities='linear'"
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
        mean = estimator.kernel.mean  # a constant
        self._shift = tf.constant(estimator.y_shift_ + (0.0 if mean is None else mean.constant))
        self._scale = tf.constant(estimator.y_scale_)
        self._deviation = tf.constant(estimator.deviation_)
        self._single = estimator.single_output_
        super().__init__(estimator, variance=variance)

    def _outputs(self, mean: Tensor, variance: Tensor | None) -> dict[str, Tensor]:
        outputs = {"mean": mean * self._scale + self._shift}
        if variance is not None:
            outputs["std"] = tf.sqrt(variance)[:, None] * self._deviation
        return {k: v[:, 0] for k, v in outputs.items()} if self._single else outputs


def _labels(estimator: GPClassifier) -> Tensor:
    classes = estimator.classes_
    try:
        return tf.constant(classes if classes.dtype.kind in "biuf" else list(classes))
    except (TypeError, ValueError) as error:
        raise InputError(f"TensorFlow cannot hold the labels: {quoted_text(error)}") from error


def _factor_of(estimator: Any) -> Factor:
    factor = getattr(estimator, "factor_", None)
    gaps = getattr(estimator, "observed_targets_", None) is not None
    if gaps or np.ndim(estimator.noise_variance_):
        cause = "lacks targets in rows" if gaps else "has a noise"
        raise InputError(
            f"each output {cause} of its own, and an export holds the factor of one. Try: "
            "variance=False, or a fit for each column of y"
        )
    if factor is None:
        raise InputError(
            "this fit has no Cholesky factor, which variances need. Try: variance=False"
        )
    return Factor(factor)
