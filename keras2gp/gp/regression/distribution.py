"""The predictive distribution of a regression: intervals, densities, and left-out rows."""

from __future__ import annotations

import numpy as np

from keras2gp._util.arrays import Array, InputsLike, Matrix, TargetsLike, VectorLike
from keras2gp._util.checks import truth
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.arguments.inputs import check_targets
from keras2gp.gp.process.student import Student
from keras2gp.gp.regression.posterior import RegressionPosterior
from keras2gp.gp.regression.targets import Units

__all__ = ["RegressionDistribution"]

_ROUNDING = float(np.finfo(np.float64).eps)


class RegressionDistribution(RegressionPosterior):
    """Intervals, densities and leave-one-out predictions of a fit to real targets; see GPRegressor.

    It is Gaussian where the noise is stated, and Student's t where the scale is learned.
    """

    def predict_interval(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        level: float = 0.95,
        *,
        observations: bool = True,
        diag: VectorLike = None,
    ) -> tuple[Array, Array]:
        """The central interval at X that holds a new observation with probability `level`.

        Its ends are quantiles of Student's t with `degrees_of_freedom_` where the scale is learned,
        and of a Gaussian where the noise is stated. That the noise is learned too is not part of
        it.

        Args:
            X: inputs.
            level: the probability, between 0 and 1.
            observations: of new observations, with noise; or of the function.
            diag: the prior variances k(x, x), [M], with a precomputed kernel.

        Shapes:
            X [M, features] or [M, *shape]; low and high [M] or [M, C]. With positions
            [M, *positions] stands for [M].

        Returns:
            The lower ends, and the upper ends.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs, or `level` is out of range.

        References:
            O'Hagan and Forster, Kendall's Advanced Theory of Statistics 2B, section 11.3.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", noise_variance=1.0).fit(3.0 * np.eye(2), [4.0, 8.0])
        >>> low, high = gp.predict_interval([[2.0, 0.0]], diag=[2.0])
        >>> low.round(3), high.round(3)
        (array([-0.772]), array([4.772]))
        """
        if not isinstance(level, float | np.floating) or not 0.0 < level < 1.0:
            raise InputError(f"level is {received_text(level)}: expected one between 0 and 1")
        with_noise = truth("observations", observations)
        x, noise = self._test_inputs(X), self._noise_of_observations() if with_noise else 0.0
        mean, std = self._mean_and_deviation(x, noise, diag)
        half = self._student.width(float(level)) * std
        return mean - half, mean + half

    def log_density(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        y: TargetsLike,
        diag: VectorLike = None,
    ) -> Array:
        """Log predictive density of new observations, each by itself, in nats and their units.

        It is that of Student's t where the scale is learned, and of a Gaussian where the noise is
        stated; noise included.

        Args:
            X: inputs.
            y: what was observed there.
            diag: the prior variances k(x, x), [M], with a precomputed kernel.

        Shapes:
            X [M, features] or [M, *shape]; y and the densities [M] or [M, C]. With positions
            [M, *positions] stands for [M].

        Returns:
            The logarithms: infinite for a function that is known without error.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: an argument does not fit.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", noise_variance=1.0).fit(3.0 * np.eye(2), [4.0, 8.0])
        >>> gp.log_density([[2.0, 0.0]], [2.0], diag=[2.0]).round(3)
        array([-1.266])
        """
        x, noise = self._test_inputs(X), self._noise_of_observations()
        mean, std = self._mean_and_deviation(x, noise, diag)
        targets = check_targets(y, "the rows without it")
        if targets.shape != mean.shape:
            raise InputError(f"y has shape {targets.shape}, and the predictions have {mean.shape}")
        return self._student.log_density(targets - mean, std)

    def leave_one_out(self) -> tuple[Array, Array]:
        """Mean and variance of each training target given all the others, in closed form.

        The variance is that of the target, with noise and jitter, and with a chosen noise at the
        scale that the others suggest; the distribution has one degree of freedom less than
        `degrees_of_freedom_`. With normalize_y, shift and scale are those of all targets. With
        positions the others are those of other images, and of the other positions of the same
        image. Where a target is missing both are NaN.

        Shapes:
            mean [N] or [N, C]; variance the same. With positions [N, *positions] stands for [N].

        Raises:
            NotFittedError: the estimator is not fitted.

        References:
            Rasmussen and Williams, equations 5.10 to 5.12.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", noise_variance=1.0).fit(3.0 * np.eye(2), [4.0, 8.0])
        >>> gp.leave_one_out()
        (array([0., 0.]), array([4., 4.]))
        """
        mean, variance, _ = self._left_out()
        units = Units(*(3 * (self.y_scale_,)), single=False, by_output=True)
        missing = np.isnan(variance)
        squares = units.variances(np.where(missing, 1.0, variance))
        means = self._units.mean(np.where(missing, 0.0, mean), self._prior_mean(self._train_rows))
        if missing.any():
            squares[missing] = means[missing] = np.nan
        squares = self._of_all_rows(squares)
        squares = self._by_position(squares[:, 0] if self.single_output_ else squares)
        return self._by_position(self._of_all_rows(means)), squares

    def leave_one_out_log_density(self) -> Array:
        """Log predictive density of each training target given all the others, in its units.

        The sum is the pseudo-likelihood of leave-one-out cross-validation.

        Shapes:
            [N] or [N, C].

        Raises:
            NotFittedError: the estimator is not fitted.

        References:
            Rasmussen and Williams, equations 5.10 and 5.11, of a Gaussian.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", noise_variance=1.0).fit(3.0 * np.eye(2), [0.0, 4.0])
        >>> gp.leave_one_out_log_density().round(3)
        array([-1.612, -3.612])
        """
        self._require_fitted()
        mean, variance, student = self._left_out()
        values = student.log_density(self.targets_ - mean, np.sqrt(variance))
        values = np.where(np.isnan(variance), np.nan, values)
        density = self._of_all_rows(values - np.log(self.y_scale_))
        return self._by_position(density[:, 0] if self.single_output_ else density)

    def _left_out(self) -> tuple[Matrix, Matrix, Student]:
        """Means and variances [N, C] of targets as fitted, given all others, and distribution.

        Math: the others' y^T A^-1 y is y^T A^-1 y - alpha_i^2 / (A^-1)_ii
        """
        mean, variance = self._leave_one_out()
        variance = np.broadcast_to(variance.reshape(len(mean), -1), mean.shape)
        if self._factors is None:
            return mean, variance, self._student
        student = self._student.left_out
        whole = self._factors * self._counts
        own = (self.alpha_ * np.sqrt(variance) / np.sqrt(whole)) ** 2
        rest = np.maximum(1.0 - own, _ROUNDING)
        return mean, variance * whole * rest / student.divisor, student
