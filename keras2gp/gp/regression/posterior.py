"""The posterior of a regression in the units of its targets: its moments."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, InputsLike, Matrix, Noise, Tensor, Vector, VectorLike
from keras2gp._util.checks import truth
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import check_unused_variances
from keras2gp.gp.process.fitted_noise import noise_of_observations
from keras2gp.gp.process.prior_mean import has_mean, mean_of_rows
from keras2gp.gp.process.student import Student
from keras2gp.gp.process.tensors import mean_and_variance
from keras2gp.gp.process.updates import UpdatedGaussianProcess
from keras2gp.gp.regression.targets import Units

__all__ = ["RegressionPosterior"]


class RegressionPosterior(UpdatedGaussianProcess):
    """Moments of a fit to real targets; see GPRegressor."""

    _labels = False
    y_shift_: Vector
    y_scale_: Vector
    single_output_: bool
    degrees_of_freedom_: float | Vector

    def predict(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        return_std: bool = False,
        return_cov: bool = False,
        diag: VectorLike = None,
        observations: bool = False,
    ) -> Any:
        """Posterior mean at X, and the standard deviation or covariance there.

        They are those of the latent function; with observations=True those of new observations,
        which have the noise besides. Where the noise is stated the distribution is Gaussian. Where
        it is chosen the scale is learned too, and the distribution is Student's t with
        `degrees_of_freedom_`, whose standard deviation this is: it is wider for few rows, and
        `predict_interval` has its quantiles.

        Args:
            X: inputs.
            return_std: return mean and standard deviation.
            return_cov: return mean and covariance.
            diag: the prior variances k(x, x), [M]; for return_std with a precomputed kernel.
            observations: of new observations, with noise, and not of the function.

        Shapes:
            X [M, features] or [M, *shape]; mean [M] or [M, C]; std the same; covariance [M, M] or
            [M, M, C]. With positions [M, *positions] stands for [M].

        Returns:
            The mean; with return_std or return_cov a pair of the mean and the other.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs, or the memory does not suffice.
            NumericalError: a variance lies further below zero than rounding explains
                (precision.rounding_bound).

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", noise_variance=1.0).fit(3.0 * np.eye(2), [4.0, 8.0])
        >>> mean, std = gp.predict([[2.0, 0.0]], return_std=True, diag=[2.0])
        >>> mean, std
        (array([2.]), array([1.]))
        >>> gp.predict([[2.0, 0.0]], return_std=True, diag=[2.0], observations=True)[1].round(3)
        array([1.414])
        """
        if all([truth("return_std", return_std), truth("return_cov", return_cov)]):
            raise InputError("return_std and return_cov: at most one of the two can be asked for")
        with_noise = truth("observations", observations)
        x, noise = self._test_inputs(X), self._noise_of_observations() if with_noise else 0.0
        units = self._units
        if return_cov:
            check_unused_variances(self._covariance, x, diag)
            mean, covariance = self._mean_and_covariance(x)
            covariance[np.diag_indices(len(covariance))] += noise
            squares = self._by_position(units.variances(covariance), pairs=True)
            return self._by_position(units.mean(mean, self._prior_mean(x))), squares
        if return_std:
            return self._mean_and_deviation(x, noise, diag)
        check_unused_variances(self._covariance, x, diag)
        return self._by_position(units.mean(self._mean(x), self._prior_mean(x)))

    def predict_tensors(self, X: InputsLike) -> tuple[Tensor, Tensor]:  # noqa: N803
        """Posterior mean and variance of the function at X, as tensors.

        The values are those of `predict`. A tf.GradientTape that watches X has their derivatives by
        it, those of the first order; `docs/guide/gradients.md` draws a map of sensitivity with it.

        Args:
            X: inputs, a tensor.

        Shapes:
            X [M, features] or [M, *shape]; mean and variance [M], or [M, C] for several outputs.

        Returns:
            Mean and variance, in the units of the targets, and of those squared.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs; or the kernel is precomputed, has
                positions or a mean; or the solver does not apply the inverse of the kernel matrix.

        >>> import keras, keras2gp, tensorflow as tf
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> kernel = keras2gp.convert(model, overrides={"*": (2.0, 0.0)}, dtype="float64")
        >>> x = tf.constant([[1.0, 0.0], [0.0, 1.0]], tf.float64)
        >>> gp = keras2gp.GPRegressor(kernel, noise_variance=1.0, normalize_y=False)
        >>> gp = gp.fit(x.numpy(), [2.0, 4.0])  # k(x, z) = x . z, so that the mean is [1, 2] . x
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(x)
        ...     mean, variance = gp.predict_tensors(x)
        >>> tape.gradient(mean, x).numpy().round(6).tolist()
        [[1.0, 2.0], [1.0, 2.0]]
        """
        x = self._test_inputs(X)
        if self._by_output:
            raise InputError(
                "derivatives by the inputs: each output has a noise of its own or lacks targets, "
                "and so has a variance of its own. Try: a fit for each column of y"
            )
        if self.precomputed or self._positions or has_mean(self.kernel):
            raise InputError(
                "derivatives by the inputs: the kernel is precomputed, has positions or a mean. "
                "Try: a kernel of keras2gp.convert, kernel.at(position), kernel.without_mean()"
            )
        values = self._mean_and_variance(x, None)
        mean, variance = mean_and_variance(
            self.kernel, X, (self.basis_, self.weights_), self.system_, values
        )
        mean = mean * self.y_scale_ + self.y_shift_
        variance = variance[:, None] * self.deviation_**2
        return (mean[:, 0], variance[:, 0]) if self.single_output_ else (mean, variance)

    def prior_variance(self, X: InputsLike) -> Array:  # noqa: N803 (scikit-learn's name)
        """Variance of the function before the data, in the units of the targets squared.

        Args:
            X: inputs, [M, features] or [M, *shape].

        Returns:
            Variances, [M] or [M, C]; with positions [M, *positions] stands for [M].

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs, or the kernel is precomputed.

        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPRegressor
        >>> GPRegressor(RBF(1.0), 0.1).fit([[0.0], [1.0]], [0.0, 4.0]).prior_variance([[9.0]])
        array([1.])
        """
        prior = self._prior(self._test_inputs(X), None)
        if self._by_output:
            prior = np.tile(prior[:, None], len(self.y_scale_))
        return self._by_position(self._units.variances(prior))

    @property
    def scale_(self) -> Vector:
        """The factor on kernel and noise of each output, [C]: 1 where the noise is stated.

        The scale of a network's kernel is that of its last layer's weights, which has no relation
        to the targets. With noise_variance="auto" the prior of output c is scale_c times the
        kernel, with scale_c times noise_variance_: the means do not depend on it, and the evidence
        is largest at y_c^T A^-1 y_c / N. Predictions do not take it for certain: see `deviation_`.

        References:
            Rasmussen and Williams, equation 5.8, solved for a factor on K.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> x = 4.0 * np.eye(4)
        >>> GPRegressor("precomputed").fit(x, [1.0, -1.0, 1.0, -1.0]).scale_
        array([0.25])
        >>> GPRegressor("precomputed", noise_variance=1.0).fit(x, [1.0, -1.0, 1.0, -1.0]).scale_
        array([1.])
        """
        factors = self._factors
        return np.ones(self.targets_.shape[1]) if factors is None else factors

    @property
    def noise_std_(self) -> Any:
        """Standard deviation of the noise in the units of the targets: a number, or [C].

        Where it is chosen, the root of the mean of its variance under what the targets say of the
        scale.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> GPRegressor("precomputed", noise_variance=4.0).fit(np.eye(2), [4.0, 8.0]).noise_std_
        2.0
        """
        std = self._units.deviations(np.sqrt(np.array(self._noise_of_observations())))
        return float(std) if self.single_output_ else std

    def _mean_and_deviation(
        self, x: InputsLike, noise: Noise, diag: VectorLike
    ) -> tuple[Array, Array]:
        """Means and deviations of rows, with a variance `noise` besides, in the targets' units."""
        mean, variance = self._mean_and_variance(x, diag)
        std = self._units.deviations(np.sqrt(variance + noise))
        mean = self._units.mean(mean, self._prior_mean(x))
        return self._by_position(mean), self._by_position(std)

    def _noise_of_observations(self) -> float | Vector:
        """The noise variance of a new observation; InputError if every training row had its own."""
        return noise_of_observations(self.noise_variance, self.noise_variance_)

    def _prior_mean(self, rows: Any) -> Matrix | float:
        """The prior mean of rows, [M, C] or [M, 1], in the units of the targets."""
        return mean_of_rows(self.kernel, rows, self.targets_.shape[1])

    @property
    def deviation_(self) -> Vector:
        """Factors of a prediction's standard deviation in the units of the targets, [C].

        Math: y_scale_, where the noise is chosen times (scale_ N / (R - 2))^(1/2) for R
            degrees_of_freedom_: the deviation of Student's t

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", normalize_y=False)
        >>> gp = gp.fit(np.eye(4), [1.0, -1.0, 1.0, -1.0])
        >>> gp.degrees_of_freedom_, gp.deviation_
        (4.0, array([1.41421356]))
        """
        deviation: Vector = self.y_scale_
        if self.noise_curve_ is not None:
            ratio = self._counts / self._student.divisor
            deviation = deviation * np.sqrt(self.scale_ * ratio)
        return deviation

    @property
    def _student(self) -> Student:
        return Student(self.degrees_of_freedom_)

    @property
    def _units(self) -> Units:
        scales = self.y_shift_, self.y_scale_, self.deviation_
        return Units(*scales, single=self.single_output_, by_output=self._by_output)
