"""What regression and classification share: one exact Gaussian process fit for all outputs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn.exceptions
from sklearn.base import BaseEstimator, clone

from keras2gp.errors import InputError, NotFittedError
from keras2gp.gp.cholesky import check_jitter, check_noise, factorize
from keras2gp.gp.factor import CholeskyFactor, CholeskyReport
from keras2gp.gp.inputs import check_inputs, check_kernel, check_variances, kernel_values
from keras2gp.gp.memory import require_memory
from keras2gp.gp.panels import Array, PackedPanels
from keras2gp.gp.precision import clipped_variance, rounding_bound

__all__ = ["GaussianProcess", "JitterWarning"]

# Covariances of one batch of predictions with the training inputs, in float64.
_BATCH_BYTES = 64 * 2**20


class JitterWarning(UserWarning):
    """The kernel matrix was singular, and something was added to its diagonal to solve it."""


class UnfittedError(NotFittedError, sklearn.exceptions.NotFittedError):  # type: ignore[misc]
    """Predictions were asked of an estimator before `fit`; scikit-learn's error too."""


class GaussianProcess(BaseEstimator):  # type: ignore[misc]
    """Exact inference under a zero-mean Gaussian process, with independent, alike outputs.

    Math: A = K + (noise_variance + jitter) I = L L^T;  alpha = A^-1 Y
        mean = K* alpha;  variance = diag K** - |L^-1 K*^T|^2  (of the latent function)

    Reference: Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1.
    """

    x_train_: npt.NDArray[Any] | None
    targets_: Array
    alpha_: Array
    factor_: CholeskyFactor
    jitter_report_: CholeskyReport
    kernel_dtype_: str
    input_shape_: tuple[int, ...]
    log_marginal_likelihood_value_: float

    def __init__(
        self, kernel: Any, noise_variance: float = 0.0, jitter: float | str = "auto"
    ) -> None:
        self.kernel = kernel
        self.noise_variance = noise_variance
        self.jitter = jitter

    @property
    def precomputed(self) -> bool:
        """Whether X is a kernel matrix, and not inputs."""
        return isinstance(self.kernel, str)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.precomputed
        tags.input_tags.three_d_array = not self.precomputed
        return tags

    def __sklearn_clone__(self) -> Any:
        # A kernel is a function: shared, and not copied (compiled ones cannot be), unless it is
        # one of scikit-learn's, which are estimators themselves.
        settings = self.get_params(deep=False)
        if hasattr(self.kernel, "get_params"):
            settings["kernel"] = clone(self.kernel)
        return type(self)(**settings)

    def _checked_inputs(self, x: Any) -> npt.NDArray[Any]:
        check_kernel(self.kernel)
        return check_inputs(x, precomputed=self.precomputed)

    def _fit_targets(self, x: npt.NDArray[Any], targets: Array) -> None:
        """Factorise the kernel matrix of x, and solve for targets [N, C].

        Raises: InputError, NumericalError; the estimator is as it was before then.
        """
        noise = check_noise(self.noise_variance)
        check_jitter(self.jitter)
        matrix = self._train_matrix(x)
        factor = factorize(matrix, noise, self.jitter)
        dtype = str(matrix.dtype)
        del matrix
        alpha = factor.solve(targets)
        self.x_train_ = None if self.precomputed else np.array(x)
        self.targets_, self.alpha_, self.factor_ = targets, alpha, factor
        self.kernel_dtype_ = dtype
        self.jitter_report_ = factor.report
        self.input_shape_ = x.shape[1:]
        if x.ndim == 2:
            self.n_features_in_ = x.shape[1]
        count, outputs = targets.shape
        self.log_marginal_likelihood_value_ = -0.5 * (
            float(np.einsum("nc,nc->", targets, alpha))
            + outputs * (factor.log_determinant + count * math.log(2.0 * math.pi))
        )
        if factor.report.jitter and check_jitter(self.jitter) is None:
            warnings.warn(_jitter_message(factor.report), JitterWarning, stacklevel=3)

    def _train_matrix(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        count = len(x)
        if self.precomputed:
            if x.shape != (count, count):
                raise InputError(
                    f"X has shape {x.shape}: with kernel='precomputed' fit expects the square "
                    "matrix [N, N] of the training inputs"
                )
            return x
        require_memory(
            4 * count * count + 8 * PackedPanels.length(count, 512),
            f"the kernel matrix of {count} inputs and its factor",
            "fewer training images",
        )
        return kernel_values(self.kernel(x), (count, count), "the kernel matrix")

    def _test_inputs(self, x: Any) -> npt.NDArray[Any]:
        if not hasattr(self, "alpha_"):
            raise UnfittedError(f"this {type(self).__name__} is not fitted: call fit first")
        array = self._checked_inputs(x)
        if array.shape[1:] != self.input_shape_:
            raise InputError(
                f"X has {array.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.input_shape_[0]} features as input"
                if array.ndim == 2 and len(self.input_shape_) == 1
                else f"X has shape {array.shape}; fitted to [N, *{list(self.input_shape_)}]"
            )
        return array

    def _batches(self, count: int) -> Iterator[slice]:
        rows = max(1, _BATCH_BYTES // (8 * self.factor_.size))
        return (slice(start, min(start + rows, count)) for start in range(0, count, rows))

    def _cross(self, x: npt.NDArray[Any]) -> Array:
        if self.precomputed:
            return x.astype(np.float64)
        shape = (len(x), self.factor_.size)
        values = kernel_values(self.kernel(x, self.x_train_), shape, "the kernel matrix")
        return values.astype(np.float64)

    def _prior(self, x: npt.NDArray[Any], diag: Any) -> Array:
        if not self.precomputed:
            return check_variances(self.kernel.diag(x), len(x), "the diagonal of the kernel")
        if diag is None:
            raise InputError(
                "variances of a precomputed kernel need diag=, the prior variance k(x, x) of "
                "each input, [M]"
            )
        return check_variances(diag, len(x), "diag")

    def _mean(self, x: npt.NDArray[Any]) -> Array:
        """Posterior mean, [M, C]."""
        parts = [self._cross(x[rows]) @ self.alpha_ for rows in self._batches(len(x))]
        return np.concatenate(parts)

    def _mean_and_variance(self, x: npt.NDArray[Any], diag: Any) -> tuple[Array, Array]:
        """Posterior mean [M, C] and latent variance [M]."""
        prior = self._prior(x, diag)
        mean = np.empty((len(x), self.alpha_.shape[1]))
        variance = np.empty(len(x))
        for rows in self._batches(len(x)):
            cross = self._cross(x[rows])
            mean[rows] = cross @ self.alpha_
            half = self.factor_.half_solve(cross.T)
            left = prior[rows] - np.einsum("nm,nm->m", half, half)
            variance[rows] = clipped_variance(
                left, prior[rows], self._bound(prior[rows]), rows.start
            )
        return mean, variance

    def _mean_and_covariance(self, x: npt.NDArray[Any]) -> tuple[Array, Array]:
        """Posterior mean [M, C] and latent covariance [M, M]."""
        if self.precomputed:
            raise InputError(
                "return_cov needs the kernel between the inputs themselves, which a precomputed "
                "matrix does not hold. Try: return_std=True with diag="
            )
        count = len(x)
        require_memory(
            8 * count * (3 * self.factor_.size + 2 * count),
            f"the covariance of {count} predictions",
            "fewer inputs at a time, or return_std=True",
        )
        cross = self._cross(x)
        half = self.factor_.half_solve(cross.T)
        prior = kernel_values(self.kernel(x), (count, count), "the kernel matrix")
        covariance = prior.astype(np.float64)
        before = np.diagonal(covariance).copy()
        covariance -= half.T @ half
        diagonal = clipped_variance(np.diagonal(covariance), before, self._bound(before), 0)
        np.fill_diagonal(covariance, diagonal)
        return cross @ self.alpha_, (covariance + covariance.T) / 2.0

    def _bound(self, prior: Array) -> Array:
        return rounding_bound(prior, self.factor_.size, self.kernel_dtype_, self.jitter_report_)

    def _leave_one_out(self) -> tuple[Array, Array]:
        """Mean [N, C] and variance [N] of each target given all others, noise included.

        Math: variance_i = 1 / (A^-1)_ii;  mean_i = y_i - alpha_i / (A^-1)_ii

        Reference: Rasmussen and Williams, equations 5.10 to 5.12.
        """
        if not hasattr(self, "alpha_"):
            raise UnfittedError(f"this {type(self).__name__} is not fitted: call fit first")
        variance = 1.0 / self.factor_.inverse_diagonal()
        return self.targets_ - self.alpha_ * variance[:, None], variance


def _jitter_message(report: CholeskyReport) -> str:
    message = (
        f"the kernel matrix is singular (smallest pivot {report.steps[0].smallest_pivot:.3g}, at "
        f"row {report.steps[0].index}); solved with jitter {report.jitter:g} of its mean "
        f"diagonal, {report.added:.3g}."
    )
    if report.duplicate is not None:
        first, second = report.duplicate
        message += f" Rows {first} and {second} agree to five digits: the same input twice?"
    return message + " A noise_variance makes it regular"
