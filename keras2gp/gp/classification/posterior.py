"""The latent values of a classification, after and before the data, and its probabilities."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras2gp._util.arrays import Images, InputsLike, Matrix, Tensor, Vector, VectorLike
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import check_unused_variances
from keras2gp.gp.classification.calibration import Calibration, calibration_rows
from keras2gp.gp.classification.dirichlet import DirichletPosterior
from keras2gp.gp.probabilities.linear_map import LinearMap
from keras2gp.gp.probabilities.softmax import (
    expected_softmax,
    largest_probabilities,
    tempered_softmax,
)
from keras2gp.gp.process.posterior import require_finite
from keras2gp.gp.process.tensors import class_probabilities, mean_and_variance
from keras2gp.gp.process.updates import UpdatedGaussianProcess

__all__ = ["ClassPosterior", "Prediction"]


class Prediction(NamedTuple):
    """Predictions for M inputs.

    Attributes:
        mean: posterior means, [M, C].
        variance: posterior variances, [M].
        probability: class probabilities, [M, C].

    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp import GPClassifier
    >>> gp = GPClassifier(RBF(1.0), noise_variance=0.1).fit([[0.0], [2.0]], ["a", "b"])
    >>> mean, variance, probability = gp.predictive([[0.1], [1.0], [9.0]])
    >>> probability.shape, bool(variance[2] > variance[0])
    ((3, 2), True)
    """

    mean: Matrix
    variance: Vector
    probability: Matrix


class ClassPosterior(UpdatedGaussianProcess):
    """Moments and probabilities of a fit to targets in {-1, 1}; see GPClassifier."""

    classes_: Vector
    labels: str
    dirichlet_: DirichletPosterior | None
    _calibration: Calibration

    @property
    def temperature_(self) -> float | None:
        """The temperature of the softmax; None unless it is used.

        Raises:
            NotFittedError: the estimator is not fitted.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> GPClassifier("precomputed").fit(np.eye(4), [0, 1, 0, 1]).temperature_ is None
        True
        """
        return self._calibrated.temperature

    @property
    def linear_map_(self) -> LinearMap | None:
        """The map from means to logits; None unless it is used.

        Raises:
            NotFittedError: the estimator is not fitted.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier("precomputed", noise_variance=1.0).fit(np.eye(4), [0, 1, 0, 1])
        >>> gp.linear_map_.reason
        'fewer than two classes have 5 members'
        """
        return self._calibrated.linear_map

    @property
    def _calibrated(self) -> Calibration:
        """The function of means, fitted to leave-one-out predictions unless that has been done.

        Labels alone need none of it, and it takes longer than the fit where rows are few.
        """
        self._require_fitted()
        if not self._calibration.known:
            closed_form = self.system_.closed_form
            rows = calibration_rows(len(self.targets_), closed_form=closed_form)
            left_out = self._leave_one_out(rows)[0]
            self._calibration.fit(left_out, self.targets_[rows].argmax(axis=1))
        return self._calibration

    def _class_means(self, x: Images) -> Matrix:
        """Posterior mean of each class's latent value, [M, C], of checked inputs."""
        if self.dirichlet_ is None:
            return self._mean(x)
        parts = [self.dirichlet_.mean(self._cross(x[rows])) for rows in self._batches(len(x))]
        return require_finite(np.concatenate(parts), "a mean")

    def _softmax(self, mean: Matrix) -> Matrix | None:
        """Probabilities as a function of the means alone; None where they take variances."""
        if self.linear_map_ is not None:
            return self.linear_map_.probabilities(mean)
        if self.temperature_ is not None:
            return tempered_softmax(mean, self.temperature_)
        return None

    @property
    def scale_(self) -> float:
        """The factor on kernel and noise under which the targets are most probable.

        The scale of a network's kernel is that of its last layer's weights, which has no relation
        to targets in {-1, 1}. The means do not depend on it, and the variances are proportional to
        it. The evidence is largest at trace(Y^T A^-1 Y) / (N C).

        References:
            Rasmussen and Williams, equation 5.8, solved for a factor on K.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> GPClassifier("precomputed").fit(4.0 * np.eye(4), [0, 1, 0, 1]).scale_
        0.25
        """
        targets = self.targets_
        return float(np.einsum("nc,nc->", targets, self.alpha_) / targets.size)

    def posterior(self, X: InputsLike, diag: VectorLike = None) -> tuple[Matrix, Vector]:  # noqa: N803
        """Mean [M, C] and variance [M] of the latent values, with the kernel scaled by `scale_`.

        The classes are independent and share the variance.

        Args:
            X: inputs, [M, features] or [M, *shape].
            diag: the prior variances k(x, x), [M], for a precomputed kernel.

        Returns:
            Mean [M, C] and variance [M].

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: an argument does not fit the training inputs.
            NumericalError: a variance lies further below zero than rounding explains
                (precision.rounding_bound).

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier("precomputed", noise_variance=1.0).fit(np.eye(3), [1, 2, 3])
        >>> mean, variance = gp.posterior([[1.0, 0.0, 0.0]], diag=[1.0])
        >>> mean, variance
        (array([[ 0.5, -0.5, -0.5]]), array([0.25]))
        """
        mean, variance = self._scaled_posterior(self._test_inputs(X), diag)
        return self._by_position(mean), self._by_position(variance)

    def _scaled_posterior(self, x: Images, diag: VectorLike) -> tuple[Matrix, Vector]:
        mean, variance = self._mean_and_variance(x, diag)
        return mean, self.scale_ * variance

    def predict_tensors(self, X: InputsLike) -> tuple[Tensor, Tensor, Tensor]:  # noqa: N803
        """Mean and variance of the latent values at X, and the class probabilities, as tensors.

        The values are those of `predictive`. A tf.GradientTape that watches X has their derivatives
        by it, those of the first order; `docs/guide/gradients.md` has an example.

        Args:
            X: inputs, a tensor.

        Shapes:
            X [M, features] or [M, *shape]; mean [M, C], variance [M], probability [M, C].

        Returns:
            Mean, variance and probability, the classes in the order of `classes_`.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs; or the kernel is precomputed or has
                positions; or the probabilities are no function of the means alone; or the solver
                does not apply the inverse of the kernel matrix.

        >>> import keras, keras2gp, tensorflow as tf
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> kernel = keras2gp.convert(model, overrides={"*": (2.0, 0.0)}, dtype="float64")
        >>> x = tf.constant([[1.0, 0.0], [0.0, 1.0]], tf.float64)
        >>> gp = keras2gp.GPClassifier(kernel, noise_variance=1.0)
        >>> gp = gp.fit(x.numpy(), ["a", "b"])  # k(x, z) = x . z: the mean of b is [-1, 1] . x / 2
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(x)
        ...     mean, variance, probability = gp.predict_tensors(x)
        ...     of_b = mean[:, 1]
        >>> tape.gradient(of_b, x).numpy().round(6).tolist()
        [[-0.5, 0.5], [-0.5, 0.5]]
        """
        x = self._test_inputs(X)
        if self.precomputed or self._positions:
            raise InputError(
                "derivatives by the inputs: the kernel is precomputed or has positions. Try: a "
                "kernel of keras2gp.convert, kernel.at(position)"
            )
        if self.linear_map_ is None and self.temperature_ is None:
            raise InputError(
                "derivatives by the inputs: the probabilities of this fit are averages over the "
                "posterior, no function of the means alone, and their derivatives are not known "
                'here. Try: probabilities="linear" or "temperature"'
            )
        values = self._mean_and_variance(x, None)
        mean, variance = mean_and_variance(
            self._covariance, X, (self.basis_, self.weights_), self.system_, values
        )
        linear, temperature = self.linear_map_, self.temperature_
        known = class_probabilities(mean, linear, temperature, self._softmax(values[0]))
        return mean, self.scale_ * variance, known

    def prior_variance(self, X: InputsLike) -> Vector:  # noqa: N803
        """Variance of the latent values before the data, in the units of `predictive`.

        Args:
            X: inputs, [M, features] or [M, *shape].

        Returns:
            Variances, [M].

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs, or the kernel is precomputed.

        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier(RBF(1.0), 0.1).fit([[0.0], [1.0]], ["a", "b"])
        >>> bool(gp.prior_variance([[9.0]]) == gp.scale_)
        True
        """
        prior = self._prior(self._test_inputs(X), None)
        dirichlet = self.dirichlet_
        factor = self.scale_ if dirichlet is None else dirichlet.transformation.scale
        return self._by_position(factor * prior)

    def predict_proba(self, X: InputsLike, diag: VectorLike = None) -> Matrix:  # noqa: N803
        """Probability of each class, [M, C]; rows sum to 1.

        Math: "temperature": softmax(mean / temperature_)
              "linear": softmax(linear_map_.matrix mean + linear_map_.offset)
              "largest": P(f_c > f_c' for all c' != c), f ~ `posterior`, exactly
                (`largest_probabilities` has the integral); 1 for the class of largest mean where
                the variance is 0
              "dirichlet": E[softmax(f)], f ~ `dirichlet_` (`expected_softmax` has the integral);
                the most probable class can differ from the class of the largest mean

        Args:
            X: inputs, [M, features] or [M, *shape].
            diag: the prior variances k(x, x), [M], for a precomputed kernel; "temperature" and
                "linear" need none.

        Returns:
            Probabilities, [M, C], in the order of `classes_`.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: an argument does not fit the training inputs.
            NumericalError: as `posterior`.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier("precomputed", noise_variance=1.0).fit(np.eye(3), [1, 2, 3])
        >>> gp.predict_proba([[0.0, 0.0, 0.0]]).round(3)
        array([[0.333, 0.333, 0.333]])
        """
        x = self._test_inputs(X)
        by_means = self.temperature_ is not None or self.linear_map_ is not None
        check_unused_variances(self._covariance, x, diag)
        probability = self._softmax(self._mean(x)) if by_means else None
        if probability is None:
            probability = self._predictive(x, diag).probability
        return self._by_position(require_finite(probability, "a probability"))

    def predictive(self, X: InputsLike, diag: VectorLike = None) -> Prediction:  # noqa: N803
        """Mean, variance and probabilities, with the kernel evaluated once.

        With probabilities="dirichlet", mean and variance are those of `dirichlet_`, and the
        variance is averaged over classes.

        Args:
            X: inputs, [M, features] or [M, *shape].
            diag: the prior variances k(x, x), [M], for a precomputed kernel.

        Returns:
            Mean [M, C], variance [M] and probability [M, C].

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: an argument does not fit the training inputs.
            NumericalError: as `posterior`.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier("precomputed", noise_variance=1.0).fit(np.eye(3), [1, 2, 3])
        >>> gp.predictive([[1.0, 0.0, 0.0]], diag=[1.0]).variance
        array([0.25])
        """
        prediction = self._predictive(self._test_inputs(X), diag)
        return Prediction(*(self._by_position(values) for values in prediction))

    def _predictive(self, x: Images, diag: VectorLike) -> Prediction:
        if self.dirichlet_ is not None:
            return self._dirichlet_predictive(self.dirichlet_, x, diag)
        mean, variance = self._scaled_posterior(x, diag)
        probability = self._softmax(mean)
        if probability is None:
            probability = largest_probabilities(mean, np.sqrt(variance))
        return Prediction(mean, variance, require_finite(probability, "a probability"))

    def _dirichlet_predictive(
        self, dirichlet: DirichletPosterior, x: Images, diag: VectorLike
    ) -> Prediction:
        prior = self._prior(x, diag)
        means, variances = [], []
        for rows in self._batches(len(x)):
            cross = self._cross(x[rows])
            means.append(dirichlet.mean(cross))
            variances.append(dirichlet.variance(cross, prior[rows]))
        mean, variance = np.concatenate(means), np.concatenate(variances)
        probability = require_finite(expected_softmax(mean, variance), "a probability")
        return Prediction(mean, variance.mean(axis=1), probability)
