"""The posterior of a fitted Gaussian process, computed in batches of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras2gp._util.arrays import (
    Array,
    Images,
    Indices,
    InputsLike,
    Matrix,
    NoiseLike,
    Targets,
    Vector,
    VectorLike,
)
from keras2gp._util.checks import whole_number
from keras2gp._util.memory import require_memory
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.arguments.kernel_function import kernel_values, prior_variances
from keras2gp.gp.arguments.positions import AtPositions, Positioned, positions_of
from keras2gp.gp.noise.curve import Curves
from keras2gp.gp.process.evidence import target_counts
from keras2gp.gp.process.fitted import FittedInputs, rows_of_batch
from keras2gp.gp.process.intercept import ShiftedKernel
from keras2gp.gp.process.sampling import draw_jointly, random_generator
from keras2gp.gp.process.student import Student
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.precision import clipped_variance, rounding_bound
from keras2gp.gp.solvers.report import CholeskyReport, SolverReport
from keras2gp.gp.solvers.system import LinearSystem

__all__ = ["Posterior", "require_finite"]

_GAUSSIAN = Student()


class Posterior(FittedInputs):
    """Mean, variance, covariance, samples and leave-one-out predictions of a fit.

    Math: mean = K* weights;  variance = diag K** - explained variance (LinearSystem)
    """

    x_train_: Images | None
    targets_: Targets
    alpha_: Matrix
    weights_: Matrix
    system_: LinearSystem
    inducing_: Indices | None
    observed_: Indices | None
    jitter_report_: CholeskyReport
    observed_targets_: Array | None = None
    """Whether a row of the fit has a target of an output, [N, C]; None where all have."""
    noise_variance: NoiseLike
    noise_variance_: float | Vector
    relative_noise_: Vector | None
    noise_curve_: Curves
    solver_report_: SolverReport
    kernel_dtype_: str
    _intercept: float = 0.0
    """The variance of an intercept, which is added to the kernel of the fit."""
    log_marginal_likelihood_value_: float

    @property
    def factor_(self) -> CholeskyFactor:
        """The Cholesky factor of a fit by solver "cholesky" or "tensorflow".

        Raises:
            AttributeError: another solver has no factor.
        """
        system = getattr(self, "system_", None)
        if not isinstance(system, CholeskyFactor):
            # hasattr and scikit-learn expect an AttributeError for a missing attribute.
            raise AttributeError(  # noqa: TRY004
                f"this {type(self).__name__} has no Cholesky factor"
            )
        return system

    @property
    def basis_(self) -> Images | None:
        """The inputs [B, ...] of the posterior mean k(x, basis_) weights_.

        These are all training inputs, or the inducing ones; None for a precomputed kernel. With
        positions, the images of the rows.
        """
        chosen = self._basis_rows
        if self.x_train_ is None or chosen is None:
            return self.x_train_
        basis: Images = self.x_train_[chosen // math.prod(self._positions)]
        return basis

    @property
    def _by_output(self) -> bool:
        """Whether each output has a matrix of its own: another noise, or other missing targets."""
        return self.observed_targets_ is not None or isinstance(self.noise_variance_, np.ndarray)

    @property
    def _counts(self) -> int | Vector:
        """The number of targets of the fit; that of each output, [C], where they may differ."""
        return target_counts(self.observed_targets_, len(self.targets_))

    @property
    def _positions(self) -> tuple[int, ...]:
        """Sizes of the axes of positions of the kernel's output."""
        return () if self.precomputed else positions_of(self.kernel)

    @property
    def _stated_covariance(self) -> Any:
        """The kernel of rows, inputs or images at positions, as it was handed over."""
        return AtPositions(self.kernel) if self._positions else self.kernel

    @property
    def _covariance(self) -> Any:
        """The kernel of rows, with the intercept of the fit."""
        stated = self._stated_covariance
        if self.precomputed or not self._intercept:
            return stated
        return ShiftedKernel(stated, self._intercept)

    @property
    def _basis(self) -> Any:
        """The rows of the posterior mean k(x, basis) weights_."""
        rows, chosen = self._rows(self.x_train_), self._basis_rows
        return rows if rows is None or chosen is None else rows[chosen]

    @property
    def _train_rows(self) -> Any:
        """The rows of the fit: those that have a target."""
        rows = self._rows(self.x_train_)
        return rows if rows is None or self.observed_ is None else rows[self.observed_]

    @property
    def _basis_rows(self) -> Indices | None:
        """Numbers of the rows of the basis among all that `fit` received; None for all of them."""
        if self.inducing_ is None or self.observed_ is None:
            return self.observed_ if self.inducing_ is None else self.inducing_
        rows: Indices = self.observed_[self.inducing_]
        return rows

    def _of_all_rows(self, values: Array) -> Array:
        """Values of the rows of the fit as those of all that it received, NaN for the others."""
        if self.observed_ is None:
            return values
        positions = math.prod(self._positions)
        count = self.input_shape_[0] if self.x_train_ is None else len(self.x_train_) * positions
        result = np.full((count, *values.shape[1:]), np.nan)
        result[self.observed_] = values
        return result

    def _rows(self, x: InputsLike) -> Any:
        """Inputs as rows of the matrix: images at all positions, if there are any."""
        if x is None or not self._positions:
            return x
        return Positioned(x, math.prod(self._positions))

    def _by_position(self, values: Array, *, pairs: bool = False) -> Array:
        """Values of rows, [M P, ...], as [M, *positions, ...]; pairs: of two axes of rows."""
        positions = self._positions
        if not positions:
            return values
        images, rest = len(values) // math.prod(positions), values.shape[1 + pairs :]
        sides = (images, *positions) * (1 + pairs)
        return values.reshape(*sides, *rest)

    def _test_inputs(self, x: InputsLike) -> Any:
        """Rows of inputs of the shape of the training inputs; InputError for any others."""
        return self._rows(self._new_inputs(x))

    def _batches(self, count: int) -> Iterator[slice]:
        rows = rows_of_batch(self.system_.basis)
        positions = math.prod(self._positions)  # of an image all are computed together
        rows = max(rows // positions, 1) * positions
        return (slice(start, min(start + rows, count)) for start in range(0, count, rows))

    def _cross(self, x: Images) -> Matrix:
        """Covariances with the basis, [M, B]."""
        if self.precomputed:
            chosen = self._basis_rows
            return self._shifted(x if chosen is None else x[:, chosen]).astype(np.float64)
        shape = (len(x), self.system_.basis)
        values = kernel_values(self._covariance(x, self._basis), shape, "the kernel matrix")
        return values.astype(np.float64)

    def _prior(self, x: Images, diag: VectorLike) -> Vector:
        """Prior variances, [M]; `diag` gives them for a precomputed kernel."""
        variances = prior_variances(self._covariance, x, diag)
        return self._shifted(variances) if self.precomputed else variances

    def _shifted(self, stated: Array) -> Array:
        """Covariances that were handed over, with the intercept of the fit."""
        return stated + self._intercept if self._intercept else stated

    def _mean(self, x: Images) -> Matrix:
        """Posterior mean, [M, C]."""
        parts = [self._cross(x[rows]) @ self.weights_ for rows in self._batches(len(x))]
        return require_finite(np.concatenate(parts), "a mean")

    def _mean_and_variance(self, x: Images, diag: VectorLike) -> tuple[Matrix, Array]:
        """Posterior mean [M, C] and latent variance [M]; [M, C] with a noise for each output."""
        prior = self._prior(x, diag)
        mean = np.empty((len(x), self.alpha_.shape[1]))
        variances = []
        for rows in self._batches(len(x)):
            cross = self._cross(x[rows])
            mean[rows] = cross @ self.weights_
            before, explained = prior[rows], self.system_.explained(cross)
            bound = self._bound(before)
            columns = [
                clipped_variance(before - column, before, bound, rows.start)
                for column in explained.reshape(len(cross), -1).T
            ]
            variances.append(np.stack(columns, axis=-1).reshape(explained.shape))
        variance = np.concatenate(variances)
        return require_finite(mean, "a mean"), require_finite(variance, "a variance")

    def _mean_and_covariance(self, x: Images, draws: int = 0) -> tuple[Matrix, Array]:
        """Posterior mean [M, C] and latent covariance [M, M], from which `draws` are drawn.

        With a noise for each output the covariance is [M, M, C].
        """
        prior = self._prior_covariance(x, draws)
        cross = self._cross(x)
        before = np.diagonal(prior).copy()
        explained = self.system_.explained_covariance(cross)
        parts = []
        spare = prior if explained.ndim == 2 else None
        for part in np.moveaxis(explained.reshape(*prior.shape, -1), -1, 0):
            covariance = np.subtract(prior, part, out=spare)
            diagonal = clipped_variance(np.diagonal(covariance), before, self._bound(before), 0)
            np.fill_diagonal(covariance, diagonal)
            parts.append(require_finite((covariance + covariance.T) / 2.0, "a covariance"))
        mean = require_finite(cross @ self.weights_, "a mean")
        return mean, parts[0] if explained.ndim == 2 else np.stack(parts, axis=-1)

    def _prior_covariance(self, x: Images, draws: int = 0) -> Matrix:
        """Prior covariance of the latent values, [M, M].

        Raises:
            InputError: the kernel is precomputed, or the memory does not suffice for the posterior
                covariance, which takes more.
        """
        if self.precomputed:
            raise InputError(
                "return_cov and samples need the kernel between the inputs themselves, which a "
                "precomputed matrix does not hold. Try: variances, with diag="
            )
        count = len(x)
        # Draws take eigenvectors and their products, and three arrays of their own size.
        matrices = 3 * self.alpha_.shape[1] if self._by_output else 1
        numbers = 3 * self.system_.basis + (5 if draws else 2) * count * matrices
        require_memory(
            8 * count * (numbers + 3 * draws * self.alpha_.shape[1]),
            f"the covariance of {count} predictions" + (f" and {draws} samples" if draws else ""),
            "fewer inputs at a time, fewer samples, or return_std=True",
        )
        prior = kernel_values(self._covariance(x), (count, count), "the kernel matrix")
        covariance: Matrix = prior.astype(np.float64)
        return covariance

    def _bound(self, prior: Vector) -> Vector:
        return rounding_bound(prior, len(self.targets_), self.kernel_dtype_, self.jitter_report_)

    def _samples(
        self,
        x: Images,
        count: int,
        random_state: Any,
        scale: float = 1.0,
        *,
        factors: Vector | None = None,
        student: Student = _GAUSSIAN,
        noise: float | Vector = 0.0,
    ) -> Array:
        """Draws from the joint posterior of the latent values, [M, C, count].

        Args:
            x: inputs.
            count: number of draws.
            random_state: an integer, None, or a numpy RandomState.
            scale: a factor on kernel and noise, and so on the covariance.
            factors: such a factor for each output, [C]; None for 1.
            student: the distribution of a prediction, where these factors were learned.
            noise: a variance added to that of every input, for draws of observations; that of each
                output where they have their own, [C].
        """
        count, random = whole_number("n_samples", count, 1), random_generator(random_state)
        mean, covariance = self._mean_and_covariance(x, count)
        covariance[np.diag_indices(len(mean))] += noise
        bound = scale * self._bound(self._prior(x, None))
        if covariance.ndim == 2:
            draws = draw_jointly(np.zeros_like(mean), scale * covariance, count, bound, random)
        else:
            zero = np.zeros((len(mean), 1))
            each = (scale * covariance[..., c] for c in range(mean.shape[1]))
            parts = [draw_jointly(zero, one, count, bound, random) for one in each]
            draws = np.concatenate(parts, axis=1)
        if factors is not None:
            draws *= np.sqrt(student.factors(factors, self._counts, count, random))
        draws += mean[:, :, None]
        return draws

    def _leave_one_out(self, rows: Indices | None = None) -> tuple[Matrix, Array]:
        """Mean [N, C] and variance [N] of each target given all others, noise included.

        With a matrix for each output the variance is [N, C], and NaN where a target is missing, as
        is the mean.

        Math: variance_i = 1 / (A^-1)_ii;  mean_i = y_i - alpha_i / (A^-1)_ii

        Args:
            rows: the targets to predict; None for all N.

        References:
            Rasmussen and Williams, equations 5.10 to 5.12.
        """
        self._require_fitted()
        rows = np.arange(len(self.targets_)) if rows is None else rows
        variance = 1.0 / self.system_.inverse_diagonal(rows)
        spread = variance.reshape(len(rows), -1)
        return self.targets_[rows] - self.alpha_[rows] * spread, variance


def require_finite(values: Array, what: str) -> Array:
    """The values of a prediction, or a NumericalError where one of them is not finite."""
    if not np.isfinite(values).all():
        raise NumericalError(
            f"{what} of the prediction is not finite: it is beyond float64. Try: targets in "
            "another unit, or a kernel whose variances are near 1"
        )
    return values
