"""Exact Gaussian process regression with the interface of scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from keras2gp._util.arrays import (
    Array,
    GramLike,
    InputsLike,
    Matrix,
    NoiseLike,
    Targets,
    TargetsLike,
    Vector,
    VectorLike,
)
from keras2gp._util.checks import finite_number
from keras2gp._util.progress import Progress
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp.arguments.inputs import NOT_ADDED, check_length, check_targets
from keras2gp.gp.arguments.kernel_function import KernelLike
from keras2gp.gp.arguments.positions import score_of_rows
from keras2gp.gp.process.posterior import require_finite
from keras2gp.gp.process.prior_mean import has_mean, mean_of_rows
from keras2gp.gp.process.student import Student
from keras2gp.gp.regression.draws import RegressionDraws
from keras2gp.gp.regression.targets import normalizes, standardized, standardized_by_output
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.system import PROBE, SolverLike

__all__ = ["GPRegressor"]

_MEAN_TOLERANCE = 1e-5
"""Relative difference of the means of one kernel in different precisions, at most."""


class GPRegressor(RegressorMixin, RegressionDraws):  # type: ignore[misc]
    """Regression with a Gaussian process prior; several outputs share one kernel.

    Math: mean = m* + K* A^-1 (y - m);  variance = diag K** - diag K* A^-1 K*^T;
        A = K + (noise_variance + jitter) I

    With a stated noise this is a Gaussian. With a chosen one the scale of the prior is learned, and
    the predictive distribution is Student's t: `return_std` is its standard deviation,
    `predict_interval` has its quantiles, `log_density` its density.

    The prior mean m is 0 unless the kernel has one: `kernel.mean`, a function m(x) -> [N, outputs]
    as a converted model has it whose output adds a constant or its input. It is in the units of the
    targets, with normalize_y too: what is shifted and scaled then is y - m.

    Args:
        kernel: kernel(x1, x2) -> [N1, N2] with kernel.diag(x) -> [N], such as keras2gp.convert
            gives; or "precomputed": X is then the matrix itself, [N, N] in fit and [M, N] in
            predict. Where the kernel has positions (images to images, sequences to sequences) the
            process is over images at positions: a fit takes a matrix of N P rows, for P of them.
        noise_variance: "auto" for the noise of the largest evidence, and 0 unless a noise raises it
            by more than 2 nats (noise.choose_noise); the scale of the prior is then that of the
            largest evidence too, one factor on kernel and noise for each output (`scale_`).
            "auto-per-output" for such a noise of each output, where some are noisier than others.
            Or the variance of the noise on the targets as fitted, in their units squared: relative
            to their variance with normalize_y=True; or those of all targets, [N] or
            [N, *positions]; or one for each output, [C] or [1, C]. The kernel is then taken as it
            is.
        jitter: "auto" for 0, and more only if the matrix is singular, with a JitterWarning; or a
            number, relative to the mean of the kernel's diagonal.
        normalize_y: subtract the mean of the targets (less the prior's) and divide by their
            standard deviation; "auto" where the noise is chosen, and not where it is stated, in
            the targets' units.
        solver: "auto" for an exact one that fits the machine, "cholesky", "mixed", "tensorflow",
            "cg", "nystroem", "projected", or one of keras2gp.gp's solvers with settings.
        missing: "refuse", or "ignore" for targets that are NaN: rows of which every output is NaN
            are left out, and an output that lacks other targets has a matrix of the rows that it
            has. Outputs that lack the same rows share a factor.

    Attributes:
        x_train_: training inputs; None for a precomputed kernel.
        targets_: targets as fitted (less the prior mean, normalised), [N, C]; 0 where one is
            missing, as is alpha_.
        alpha_: A^-1 targets_, [N, C].
        basis_: inputs [B, ...] of the posterior mean k(x, basis_) weights_.
        weights_: weights of the basis, [B, C].
        factor_: Cholesky factor, of the direct solvers.
        noise_variance_: variance of the noise on the targets as fitted, before the factor scale_:
            that of weight 1, or the mean of those of all targets. [C] with one for each output.
        relative_noise_: the noise of each target over noise_variance_, [N]; None for 1.
        observed_: the rows that have a target and a weight; None for all. All arrays of the fit are
            of these.
        observed_targets_: whether a row of the fit has a target of an output, [N, C]; None where
            all have.
        noise_curve_: the noise variances that were tried, and the evidence of each
            (noise.NoiseCurve); None where the noise is stated. One for each output, a tuple, with
            "auto-per-output".
        solver_report_: solver, reason, memory and time.
        jitter_report_: jitter and pivots.
        log_marginal_likelihood_value_: natural logarithm, summed over outputs, of the targets as
            fitted, under the prior with its factors scale_.
        degrees_of_freedom_: of the predictive distribution: N, or N - 1 where the targets' mean was
            subtracted, and 3 at least; infinite, a Gaussian's, where the noise is stated. Those of
            each output, [C], where targets are missing.
        y_shift_: subtracted from the targets, [C].
        y_scale_: divisor of the targets, [C].
        n_features_in_: number of features, if X has two axes.

    References:
        Rasmussen and Williams, Gaussian Processes for Machine Learning, chapter 2.

    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp import GPRegressor
    >>> x = np.linspace(0.0, 6.0, 20)[:, None]
    >>> gp = GPRegressor(RBF(1.0), noise_variance=1e-6).fit(x, np.sin(x[:, 0]))
    >>> mean, std = gp.predict([[1.5]], return_std=True)
    >>> bool(abs(mean[0] - np.sin(1.5)) < 1e-3), bool(std[0] < 1e-2)
    (True, True)
    """

    def __init__(
        self,
        kernel: KernelLike,
        noise_variance: NoiseLike = "auto",
        jitter: float | str = "auto",
        normalize_y: bool | str = "auto",
        solver: SolverLike = "auto",
        *,
        missing: str = "refuse",
    ) -> None:
        super().__init__(kernel, noise_variance, jitter, solver)
        self.normalize_y = normalize_y
        self.missing = missing

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        y: TargetsLike,
        gram: GramLike = None,
        progress: Progress | None = True,
        *,
        sample_weight: VectorLike = None,
    ) -> GPRegressor:
        """Fit to inputs and targets.

        Args:
            X: inputs.
            y: targets.
            gram: the kernel matrix of X, if it exists already: an array, a store on disk (read
                block by block), or a MatrixProduct. With kernel="precomputed" it may replace X,
                which is None then. With solver="projected" also the covariances with its inducing
                inputs, of shape [N, M], whose rows solver.rows(N) gives.
            progress: True for a bar on a terminal's stderr while the kernel matrix is computed,
                from the third second on; False; or a function that is called with (steps done,
                steps in all) of the solver.
            sample_weight: the noise of a target is divided by its weight; one of weight 0 is left
                out. With a stated noise a weight of 2 is that target twice.

        Shapes:
            X [N, features] or [N, *shape]; y [N] or [N, C]; gram [N, N]; sample_weight [N]. With
            positions: y [N, *positions] or [N, *positions, C], sample_weight [N] or
            [N, *positions], and gram between all positions.

        Returns:
            The estimator itself.

        Raises:
            InputError: arrays that are empty, not finite, of different lengths or of the wrong
                type; a matrix or machine that does not fit; an output without any target.
            NumericalError: the kernel matrix is not positive definite.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", noise_variance=1.0)
        >>> gp.fit(3.0 * np.eye(2), [4.0, 8.0]).alpha_.ravel()
        array([1., 2.])
        """
        training = self._training(X, gram)
        training, y, rows = self._observed(training, y, sample_weight, outputs=True)
        seen = rows.seen
        targets = check_targets(y if seen is None else np.where(seen, np.asarray(y), 0.0))
        check_length(training, targets, "targets")
        columns = self._without_prior(targets, training.x)
        columns, shift, scale = self._standard(columns, rows.noise.common is None, seen)
        self._fit_targets(training, X, columns, progress, rows)
        self._set_units(shift, scale)
        self.single_output_ = targets.ndim == 1
        return self

    def _without_prior(self, targets: Targets, rows: Any) -> Matrix:
        """Targets less the kernel's mean, [N, C]."""
        columns = targets.reshape(len(targets), -1)
        prior = mean_of_rows(self.kernel, rows, columns.shape[1])
        less: Matrix = require_finite(columns - prior, "a target less the kernel's mean")
        return less

    def _standard(
        self, columns: Matrix, learned: bool, seen: Array | None = None
    ) -> tuple[Matrix, Vector, Vector]:
        """Targets as they are fitted, 0 where one is missing, and their shift and scale."""
        if normalizes(self.normalize_y, learned=learned):
            if seen is not None:
                return standardized_by_output(columns, seen)
            return standardized(columns)
        columns = columns if seen is None else np.where(seen, columns, 0.0)
        return columns, np.zeros(columns.shape[1]), np.ones(columns.shape[1])

    @property
    def _values(self) -> Matrix:
        return self.targets_ * self.y_scale_ + self.y_shift_

    def _new_values(self, y: TargetsLike, rows: Any) -> Matrix:
        targets = check_targets(y, NOT_ADDED)
        columns = self._without_prior(targets, rows)
        if targets.ndim != 2 - self.single_output_ or columns.shape[1] != len(self.y_scale_):
            raise InputError(
                f"y has shape {targets.shape}; the targets of the fit have {len(self.y_scale_)} "
                f"outputs in {2 - self.single_output_} axes"
            )
        return columns

    def _set_values(self, values: Matrix, factor: CholeskyFactor, state: Any) -> None:
        learned = self.noise_curve_ is not None
        columns, shift, scale = self._standard(values, learned)
        self._set_solution(columns, factor, state)
        self._set_units(shift, scale)

    def _set_units(self, shift: Vector, scale: Vector) -> None:
        """Set the units of the targets, and the degrees of freedom of predictions in them."""
        self.y_shift_, self.y_scale_ = shift, scale
        self.degrees_of_freedom_ = self._degrees()

    def _degrees(self) -> float | Vector:
        """The degrees of freedom that the number of targets of the fit and the settings give."""
        if self.noise_curve_ is None:
            return math.inf
        shifted = normalizes(self.normalize_y, learned=True)
        return Student.of_rows(self._counts, shifted=shifted).degrees

    def score(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        y: TargetsLike,
        sample_weight: VectorLike = None,
    ) -> float:
        """The coefficient of determination of the predictions, 1 for perfect ones.

        Args:
            X: inputs.
            y: targets, as for `fit`.
            sample_weight: a weight for each input.

        Returns:
            R^2, with positions that of all positions together.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: an argument does not fit.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> GPRegressor("precomputed").fit(np.eye(2), [4.0, 8.0]).score(np.eye(2), [4.0, 8.0])
        1.0
        """
        return score_of_rows(
            r2_score, y, self.predict(X), sample_weight, self._positions, outputs=True
        )

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See FittedInputs.fit_state."""
        facts, arrays = super().fit_state()
        facts["single_output"] = self.single_output_
        facts["y_shift"], facts["y_scale"] = self.y_shift_.tolist(), self.y_scale_.tolist()
        if np.isfinite(self.degrees_of_freedom_).all():
            facts["degrees_of_freedom"] = np.asarray(self.degrees_of_freedom_).tolist()
        if has_mean(self.kernel):
            facts["prior_mean"] = self._probed_mean().tolist()
        return facts, arrays

    def restore_fit(
        self, facts: Mapping[str, Any], arrays: Mapping[str, Array], gram: GramLike
    ) -> None:
        """See FittedInputs.restore_fit."""
        super().restore_fit(facts, arrays, gram)
        self.single_output_ = bool(facts["single_output"])
        values = [[finite_number(v) for v in facts[name]] for name in ("y_shift", "y_scale")]
        self.y_shift_, self.y_scale_ = (np.array(v) for v in values)
        if not self.y_shift_.shape == self.y_scale_.shape == (self.targets_.shape[1],):
            raise ModelFileError(f"{len(values[0])} shifts, {len(values[1])} scales of the targets")
        self.degrees_of_freedom_ = self._degrees()  # earlier fits do not state it
        stated = facts.get("degrees_of_freedom", self.degrees_of_freedom_)
        if not np.array_equal(stated, self.degrees_of_freedom_):
            raise ModelFileError(
                f"{stated!r} degrees of freedom, and the targets have {self.degrees_of_freedom_}"
            )
        fitted = np.asarray(facts.get("prior_mean", 0.0), dtype=np.float64)
        if has_mean(self.kernel) or "prior_mean" in facts:
            mean = self._probed_mean()
            bound = _MEAN_TOLERANCE * max(np.abs(fitted).max(), np.abs(mean).max())
            if fitted.shape not in ((), mean.shape) or not np.abs(mean - fitted).max() <= bound:
                raise ModelFileError("the kernel has another mean function than that of the fit")

    def _probed_mean(self) -> Matrix:
        """The prior mean of a few training inputs, [M, C], by which a kernel is told from others.

        Raises: InputError if it is of another number of outputs.
        """
        rows = self._rows(self.x_train_)[np.arange(min(PROBE, len(self.targets_)))]
        shape = (len(rows), self.targets_.shape[1])
        return np.broadcast_to(self._prior_mean(rows), shape)
