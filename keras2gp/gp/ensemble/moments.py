"""Mean and covariance of networks trained by gradient descent, at any time of the training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Images, InputsLike, Matrix, Vector
from keras2gp._util.checks import is_number, truth
from keras2gp._util.memory import require_memory
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.arguments.kernel_function import kernel_values
from keras2gp.gp.process.fitted import FittedInputs, rows_of_batch
from keras2gp.gp.process.posterior import require_finite
from keras2gp.gp.process.prior_mean import mean_of_rows
from keras2gp.gp.solvers.precision import precision_hint

__all__ = ["EnsembleMoments", "amount"]


class EnsembleMoments(FittedInputs):
    """The moments of trained networks, from the eigenvectors of a fit; see TrainedEnsemble."""

    time: float
    x_train_: Images
    targets_: Matrix
    rates_: Vector
    _vectors: Matrix
    _prior: Matrix
    _components: Matrix
    _single: bool
    _error: float
    _dtype: str

    def predict(
        self,
        X: InputsLike,  # noqa: N803
        return_std: bool = False,
        return_cov: bool = False,
        time: float | None = None,
    ) -> Any:
        """Mean over the trained networks at X, and their standard deviation or covariance.

        Args:
            X: inputs.
            return_std: return mean and standard deviation.
            return_cov: return mean and covariance.
            time: training time; None for the estimator's. One fit serves every time.

        Shapes:
            X [M, features] or [M, *shape]; mean [M] or [M, C]; std [M], covariance [M, M], those of
            each output.

        Returns:
            The mean; with return_std or return_cov a pair of the mean and the other.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs, or the memory does not suffice.
            NumericalError: the tangent kernel is singular and the time infinite, or a variance lies
                further below zero than rounding explains.
        """
        if all([truth("return_std", return_std), truth("return_cov", return_cov)]):
            raise InputError("return_std and return_cov: at most one of the two can be asked for")
        x = self._new_inputs(X)
        steps = self._steps(amount("time", self.time if time is None else time, infinite=True))
        if return_cov:
            mean, covariance = self._mean_and_covariance(x, steps)
            return self._outputs(x, mean), covariance
        mean = np.empty((len(x), self.targets_.shape[1]))
        variance = np.empty(len(x))
        size = rows_of_batch(4 * len(self.targets_))
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            if return_std:
                cross, tangent = self._cross(x[rows])
                weights = tangent * steps
                terms = self._terms(x[rows])
                variance[rows] = self._variance(terms, weights, cross, start)
            else:
                weights = self._tangent(x[rows]) * steps
            mean[rows] = weights @ self._components
        mean = self._outputs(x, mean)
        return (mean, np.sqrt(variance)) if return_std else mean

    def prior_variance(self, X: InputsLike) -> Vector:  # noqa: N803 (scikit-learn's name)
        """Variances of the untrained networks.

        Args:
            X: inputs, [M, features] or [M, *shape].

        Returns:
            Variances, [M].

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs.
        """
        return self._terms(self._new_inputs(X))

    def _steps(self, time: float) -> Vector:
        """(1 - exp(-rate time)) / rate for each rate, [N]; the time itself where the rate is 0."""
        rates: Vector = self.rates_
        if math.isinf(time):
            # Rows of equal inputs leave eigenvalues of the size of the entries' own errors.
            scale = rates.mean()
            if rates[0] <= 4.0 * self._error * scale:
                low, remedy = precision_hint(self._dtype)
                raise NumericalError(
                    f"the tangent kernel is singular (smallest eigenvalue {rates[0]:.3g}, mean "
                    f"{scale:.3g}): the training has no end.{low} Try: {remedy}a finite time, a "
                    "regularization, or each input once"
                )
            whole: Vector = 1.0 / rates
            return whole
        small = rates * time < np.finfo(np.float64).tiny
        part: Vector = -np.expm1(-rates * time) / np.where(small, 1.0, rates)
        return np.where(small, time, part)

    def _tangent(self, x: Images) -> Matrix:
        """Tangent kernel with the training inputs, in the basis of eigenvectors, [M, N]."""
        shape = (len(x), len(self.targets_))
        values = self.kernel(x, self.x_train_, get="ntk")
        tangent = kernel_values(values, shape, "the tangent kernel").astype(np.float64)
        rotated: Matrix = tangent @ self._vectors
        return rotated

    def _cross(self, x: Images) -> tuple[Matrix, Matrix]:
        """Both kernels with the training inputs, in the basis of eigenvectors, [M, N] each."""
        shape = (2, len(x), len(self.targets_))
        values = kernel_values(
            self.kernel(x, self.x_train_, get="both"), shape, "the pair of kernels"
        )
        nngp, tangent = values.astype(np.float64) @ self._vectors
        return nngp, tangent

    def _terms(self, x: Images) -> Vector:
        """Variances of the untrained networks, [M]."""
        values = self.kernel.diag(x, get="nngp")
        return kernel_values(values, (len(x),), "the diagonal of the kernel").astype(np.float64)

    def _variance(self, prior: Vector, weights: Matrix, cross: Matrix, first: int) -> Vector:
        """Variances of the trained networks, [M], from those of the untrained ones."""
        trained = np.einsum("mn,mn->m", weights @ self._prior, weights)
        joint = np.einsum("mn,mn->m", weights, cross)
        variance: Vector = prior + trained - 2.0 * joint
        # Entries err by `error` of themselves, and by |w|_1 times that in sums with the weights.
        interpolation = np.abs(weights @ self._vectors.T).sum(axis=1)
        bound = 4.0 * self._error * prior.max() * (1.0 + interpolation) ** 2
        wrong = variance < -bound
        if wrong.any():
            row = int(wrong.argmax())
            low, remedy = precision_hint(self._dtype)
            raise NumericalError(
                f"the variance of input {first + row} (counted from 0) is {variance[row]:.3g}, "
                f"further below 0 than rounding explains.{low} Try: {remedy}a shorter time, or "
                "a regularization"
            )
        return require_finite(np.maximum(variance, 0.0), "a variance")

    def _mean_and_covariance(self, x: Images, steps: Vector) -> tuple[Matrix, Matrix]:
        """Mean [M, C] and covariance [M, M] of the trained networks."""
        count, basis = len(x), len(self.targets_)
        require_memory(
            8 * count * (3 * count + 4 * basis),
            f"the covariance of {count} predictions",
            "fewer inputs at a time, or return_std=True",
        )
        prior = kernel_values(self.kernel(x, get="nngp"), (count, count), "the kernel matrix")
        cross, tangent = self._cross(x)
        weights = tangent * steps
        joint = weights @ cross.T
        covariance = prior.astype(np.float64) + weights @ self._prior @ weights.T - joint - joint.T
        diagonal = self._variance(np.diagonal(prior).astype(np.float64), weights, cross, 0)
        np.fill_diagonal(covariance, diagonal)
        mean = weights @ self._components
        return mean, require_finite((covariance + covariance.T) / 2.0, "a covariance")

    def _less_the_mean(self, x: Images, columns: Matrix) -> Matrix:
        left: Matrix = columns - mean_of_rows(self.kernel, x, columns.shape[1])
        return require_finite(left, "a target less the kernel's mean")

    def _outputs(self, x: Images, mean: Matrix) -> Array:
        """Means of the trained networks, [M] or [M, C], from what the training adds."""
        mean = mean + mean_of_rows(self.kernel, x, mean.shape[1])
        require_finite(mean, "a mean")
        return mean[:, 0] if self._single else mean


def amount(name: str, value: Any, *, infinite: bool = False) -> float:
    """A setting that is a number from 0 on; InputError for anything else."""
    if not is_number(value) or not value >= 0 or (math.isinf(value) > infinite):
        expected = "a number from 0 on" + (", or math.inf" if infinite else "")
        raise InputError(f"{name} is {received_text(value)}: expected {expected}")
    return float(value)
