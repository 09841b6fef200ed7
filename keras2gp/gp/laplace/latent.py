"""The Laplace posterior of the latent values of a fit: their means, variances and covariances."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Images, InputsLike, Matrix, Vector, VectorLike
from keras2gp._util.checks import truth
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import (
    check_unused_variances,
    kernel_values,
    prior_variances,
)
from keras2gp.gp.laplace.base import Likelihood
from keras2gp.gp.laplace.mode import solved
from keras2gp.gp.process.fitted import FittedInputs, rows_of_batch
from keras2gp.gp.process.posterior import require_finite
from keras2gp.gp.solvers.matrices import MatrixProduct
from keras2gp.gp.solvers.precision import clipped_variance, relative_error
from keras2gp.gp.solvers.products import TiledProduct
from keras2gp.gp.solvers.training import SAME_VARIANCE, Training
from keras2gp.gp.solvers.training_of import training_of

__all__ = ["LatentPosterior"]


class LatentPosterior(FittedInputs):
    """The Gaussian at the mode of the latent values; see GPLaplace.

    Math: mean = m + K* a;  variance = diag K** - diag K* (K + W^-1)^-1 K*^T
    """

    x_train_: Images | None
    targets_: Vector
    classes_: Vector | None
    alpha_: Matrix
    latent_: Matrix
    likelihood_: Likelihood
    prior_mean: float
    tolerance: float
    max_iterations: int
    _matrix: Any
    _corner: Matrix

    def latent(self, X: InputsLike, return_std: bool = False, diag: VectorLike = None) -> Any:  # noqa: N803
        """The latent values at X: their mean, and their standard deviation or covariance.

        Args:
            X: inputs.
            return_std: return the deviation too, or of several latent values (softmax) their
                covariance at each input.
            diag: the prior variances k(x, x), [M], for a precomputed kernel.

        Shapes:
            X [M, features] or [M, *shape]; mean and deviation [M]; of C latent values mean [M, C]
            and covariance [M, C, C].

        Returns:
            The mean; with return_std a pair of it and the other.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: an argument does not fit the training inputs.
            NumericalError: a solve does not reach the tolerance, or there is no Laplace
                approximation (Student's likelihood away from a proper maximum).

        >>> import numpy as np
        >>> from keras2gp.gp import GPLaplace, Tobit
        >>> gp = GPLaplace("precomputed", Tobit(scale=1.0)).fit(3.0 * np.eye(2), [4.0, 8.0])
        >>> mean, std = gp.latent([[2.0, 0.0]], return_std=True, diag=[2.0])
        >>> mean.round(6), std.round(6)
        (array([2.]), array([1.]))
        """
        x = self._new_inputs(X)
        mean = self._mean(x)
        single = self.classes_ is None or mean.shape[1] == 1
        if not truth("return_std", return_std):
            check_unused_variances(self.kernel, x, diag)
            return mean[:, 0] if single else mean
        prior = prior_variances(self.kernel, x, diag)
        parts = [
            self._covariances(self._cross(x[rows]), prior[rows], rows.start)
            for rows in self._batches(len(x), 8 * mean.shape[1] ** 2)
        ]
        covariance = require_finite(np.concatenate(parts), "a variance")
        return (mean[:, 0], np.sqrt(covariance[:, 0, 0])) if single else (mean, covariance)

    @property
    def _product(self) -> MatrixProduct:
        """The matrix, to be multiplied; that of a loaded fit is computed or checked once.

        Raises:
            InputError: it is not given with a precomputed kernel, or is not that of the fit.
        """
        if not isinstance(self._matrix, MatrixProduct):
            if self._matrix is None:
                training = Training(self.kernel, self.x_train_, None, len(self.alpha_))
                held = TiledProduct.memory(len(training))
                training.require(held, "the variances", "gram=, a matrix on disk")
            else:
                training = training_of(self.kernel, self.x_train_, self._matrix)
            product = training.product()
            if len(training) != len(self.alpha_) or not np.allclose(
                product.corner(range(len(self._corner))),
                self._corner,
                rtol=0.0,
                atol=SAME_VARIANCE * float(np.abs(self._corner).max()),
            ):
                raise InputError("gram is not the matrix of the training inputs of the saved fit")
            self._matrix = product
        return self._matrix

    def _batches(self, count: int, columns: int = 1) -> list[slice]:
        rows = rows_of_batch(len(self.alpha_) * columns)
        return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]

    def _cross(self, x: Images) -> Matrix:
        if self.precomputed:
            return x.astype(np.float64)
        shape = (len(x), len(self.alpha_))
        values = kernel_values(self.kernel(x, self.x_train_), shape, "the kernel matrix")
        return values.astype(np.float64)

    def _mean(self, x: Images) -> Matrix:
        parts = [self._cross(x[rows]) @ self.alpha_ for rows in self._batches(len(x))]
        return require_finite(np.concatenate(parts) + float(self.prior_mean), "a mean")

    def _covariances(self, cross: Matrix, prior: Vector, first: int) -> Array:
        """The covariance of the latent values of each input, [M, C, C]."""
        count, latents = len(cross), self.alpha_.shape[1]
        columns = np.zeros((len(self.alpha_), latents, latents, count))
        for c in range(latents):
            columns[:, c, c] = cross.T
        u = solved(
            self._product.product,
            self.likelihood_.curvature(self.latent_, self.targets_),
            columns.reshape(len(self.alpha_), latents, latents * count),
            tolerance=float(self.tolerance),
            max_iterations=50 * self.max_iterations,
        )
        explained = np.einsum("mn,ncdm->mcd", cross, u.reshape(columns.shape))
        covariance: Array = np.eye(latents) * prior[:, None, None] - explained
        covariance = (covariance + np.swapaxes(covariance, 1, 2)) / 2.0
        error = relative_error(self._product.dtype, len(self.alpha_)) + float(self.tolerance)
        for c in range(latents):
            variance = covariance[:, c, c]
            covariance[:, c, c] = clipped_variance(variance, prior, 1e3 * error * prior, first)
        return covariance
