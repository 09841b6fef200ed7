"""Exact Gaussian process regression with the interface of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from keras2gp._util.arrays import Array
from keras2gp.errors import InputError
from keras2gp.gp.base import GaussianProcess
from keras2gp.gp.inputs import check_length, first_place
from keras2gp.gp.solvers.matrices import Progress

__all__ = ["GPRegressor"]


class GPRegressor(RegressorMixin, GaussianProcess):  # type: ignore[misc]
    """Regression with a zero-mean Gaussian process prior; several outputs share one kernel.

    kernel:         kernel(x1, x2) -> [N1, N2] with kernel.diag(x) -> [N], such as
                    keras2gp.convert gives; or "precomputed": X is then the matrix itself, [N, N]
                    in fit and [M, N] in predict
    noise_variance: variance of the noise on the targets, in their units squared (if normalize_y:
                    relative to their variance)
    jitter:         "auto": 0, and more only if the matrix is singular, with a JitterWarning; or
                    a number, relative to the mean of the kernel's diagonal
    normalize_y:    subtract the mean of the targets and divide by their standard deviation
    solver:         "auto" for an exact one that fits the machine, "cholesky", "tensorflow", "cg",
                    "nystroem", or one of keras2gp.gp's solvers with settings

    Attributes after fit: x_train_, targets_ [N, C] (normalised), alpha_ [N, C], solver_report_,
    basis_ and weights_ (mean = k(x, basis_) weights_), factor_ of the direct solvers,
    jitter_report_, log_marginal_likelihood_value_ (natural logarithm, summed over outputs, of the
    targets as fitted), y_shift_ [C], y_scale_ [C], n_features_in_ if X has two axes.
    """

    def __init__(
        self,
        kernel: Any,
        noise_variance: float = 0.0,
        jitter: float | str = "auto",
        normalize_y: bool = False,
        solver: Any = "auto",
    ) -> None:
        super().__init__(kernel, noise_variance, jitter, solver)
        self.normalize_y = normalize_y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: Any,  # noqa: N803 (scikit-learn's name)
        y: Any,
        gram: Any = None,
        progress: Progress | None = None,
    ) -> GPRegressor:
        """Fit to inputs X, [N, features] or [N, *shape], and targets y, [N] or [N, C].

        gram:     the kernel matrix of X, if it is there already: an array, a store on disk
                  (read block by block), or a MatrixProduct. With kernel="precomputed" in the
                  place of X, which is None then
        progress: called with (steps done, steps in all) of the solver

        Raises:
            InputError: arrays that are empty, not finite, of different lengths or of the wrong
                type; a matrix or machine that does not fit.
            NumericalError: the kernel matrix is not positive definite.
        """
        training = self._training(X, gram)
        targets = _check_targets(y)
        check_length(training, targets, "targets")
        columns = targets.reshape(len(targets), -1)
        shift, scale = np.zeros(columns.shape[1]), np.ones(columns.shape[1])
        if self.normalize_y:
            shift, scale = columns.mean(axis=0), columns.std(axis=0)
            # A target that is constant up to rounding has no scale of its own.
            scale[scale <= 10.0 * np.finfo(np.float64).eps * np.abs(shift)] = 1.0
        self._fit_targets(training, (columns - shift) / scale, progress)
        self.y_shift_, self.y_scale_ = shift, scale
        self.single_output_ = targets.ndim == 1
        return self

    def predict(
        self,
        X: Any,  # noqa: N803 (scikit-learn's name)
        return_std: bool = False,
        return_cov: bool = False,
        diag: Any = None,
    ) -> Any:
        """Posterior mean at X, and the latent function's standard deviation or covariance.

        diag: the prior variances k(x, x), [M]; for return_std with a precomputed kernel.

        Shapes: mean [M] or [M, C]; std the same; covariance [M, M] or [M, M, C]. The noise is
            not included: add noise_variance to std^2 for that of a new observation.

        Raises: InputError, NotFittedError; NumericalError if a variance lies further below zero
            than rounding explains (precision.rounding_bound).
        """
        if return_std and return_cov:
            raise InputError("return_std and return_cov: at most one of the two can be asked for")
        x = self._test_inputs(X)
        if return_cov:
            mean, covariance = self._mean_and_covariance(x)
            return self._scaled(mean), self._spread(covariance, self.y_scale_**2)
        if return_std:
            mean, variance = self._mean_and_variance(x, diag)
            return self._scaled(mean), self._spread(np.sqrt(variance), self.y_scale_)
        return self._scaled(self._mean(x))

    def leave_one_out(self) -> tuple[Array, Array]:
        """Mean and variance of each training target given all the others, in closed form.

        The variance is that of the target, noise (and jitter) included. With normalize_y the
        shift and scale are those of all targets.

        Shapes: mean [N] or [N, C]; variance the same.

        Raises: NotFittedError

        Reference: Rasmussen and Williams, equations 5.10 to 5.12.
        """
        mean, variance = self._leave_one_out()
        return self._scaled(mean), self._spread(variance, self.y_scale_**2)

    def leave_one_out_log_density(self) -> Array:
        """Log predictive density of each training target given all the others, in its units.

        Its sum is the pseudo-likelihood of leave-one-out cross-validation.

        Shapes: [N] or [N, C].

        Raises: NotFittedError

        Reference: Rasmussen and Williams, equations 5.10 and 5.11.
        """
        density = self._leave_one_out_density() - np.log(self.y_scale_)
        return density[:, 0] if self.single_output_ else density

    def sample_y(
        self,
        X: Any,  # noqa: N803 (scikit-learn's name)
        n_samples: int = 1,
        random_state: Any = 0,
    ) -> Array:
        """Draws from the joint posterior of the latent function at X; noise is not included.

        random_state: an integer, None, or a numpy RandomState, as in scikit-learn

        Shapes: [M, n_samples] or [M, C, n_samples].

        Raises: InputError, NotFittedError; NumericalError if the posterior covariance has an
            eigenvalue further below zero than rounding explains.
        """
        draws = self._samples(self._test_inputs(X), n_samples, random_state)
        scaled = draws * self.y_scale_[:, None] + self.y_shift_[:, None]
        return scaled[:, 0] if self.single_output_ else scaled

    def _scaled(self, mean: Array) -> Array:
        result = mean * self.y_scale_ + self.y_shift_
        return result[:, 0] if self.single_output_ else result

    def _spread(self, values: Array, scale: Array) -> Array:
        """Values common to all outputs in the units of each."""
        return values * scale[0] if self.single_output_ else values[..., None] * scale


def _check_targets(y: Any) -> Array:
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None")
    try:
        targets = np.asarray(y)
        if targets.dtype.kind not in "fiub":
            targets = targets.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"y is no array of numbers: {error}") from error
    if targets.ndim not in (1, 2) or not targets.size:
        raise InputError(f"y has shape {targets.shape}; expected [N] or [N, C], not empty")
    if not np.isfinite(targets).all():
        place = first_place(~np.isfinite(targets))
        raise InputError(f"y is not finite: entry {place} is {targets[tuple(place)]} (NaN or inf)")
    return targets.astype(np.float64)
