"""The base class of regressor and classifier: one exact Gaussian process fit for all outputs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np

from keras2gp._util.arrays import (
    Array,
    GramLike,
    InputsLike,
    Matrix,
    Noise,
    NoiseLike,
    Targets,
    TargetsLike,
    Vector,
    VectorLike,
)
from keras2gp._util.checks import finite_number
from keras2gp._util.progress import Advance, Progress, bars_inside
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.arguments.inputs import feature_names
from keras2gp.gp.arguments.kernel_function import KernelLike, check_kernel
from keras2gp.gp.arguments.noise import check_noise
from keras2gp.gp.arguments.rows import (
    RowNoise,
    UsedRows,
)
from keras2gp.gp.noise.curve import Curves
from keras2gp.gp.noise.noise_warnings import NoiseWarning
from keras2gp.gp.process.evidence import log_evidence, output_factors, target_counts
from keras2gp.gp.process.fitted_noise import diagonal_shift, fitted_noise, warning_of_fit
from keras2gp.gp.process.intercept import shifted_training
from keras2gp.gp.process.posterior import Posterior
from keras2gp.gp.process.prior_mean import has_mean
from keras2gp.gp.process.saved_state import (
    fit_state,
    restored_basis,
    restored_intercept,
    restored_noise,
    restored_observed,
    restored_rows,
    restored_system,
    settings_from_state,
    settings_state,
)
from keras2gp.gp.process.solving import FitProblem, Solution, jitter_message, solved
from keras2gp.gp.process.training_inputs import training_of_images, used_rows
from keras2gp.gp.solvers.by_pattern import PatternFactors
from keras2gp.gp.solvers.jitter import check_jitter
from keras2gp.gp.solvers.report import CholeskyReport, SolverReport
from keras2gp.gp.solvers.system import PROBE, SolverLike
from keras2gp.gp.solvers.training import Training

__all__ = ["GaussianProcess", "JitterWarning"]


class JitterWarning(UserWarning):
    """The kernel matrix was singular, and jitter was added to its diagonal."""


class GaussianProcess(Posterior):
    """Exact inference under a zero-mean Gaussian process with independent outputs of one kernel.

    Targets of a prior with a mean come here less that mean (prior_mean.py).

    Math: A = K + (noise_variance + jitter) I;  alpha = A^-1 Y
        mean = K* alpha;  variance = diag K** - diag K* A^-1 K*^T  (of the latent function)

    With solvers Nystroem() and ProjectedProcess(), A is another matrix and the basis of predictions
    is smaller: see there.

    Args:
        kernel: a kernel, or "precomputed".
        noise_variance: variance of the noise on the targets, or that of each; "auto" for the one
            under which they are most probable. A regression may have one for each output.
        jitter: "auto", or a number relative to the mean of the kernel's diagonal.
        solver: "auto", a name, or a solver with settings.

    References:
        Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1.
    """

    missing: str = "refuse"
    _labels: ClassVar[bool] = True
    """Whether the targets are those of a classification: then `scale_` is one for all."""

    def __init__(
        self,
        kernel: KernelLike,
        noise_variance: NoiseLike = "auto",
        jitter: float | str = "auto",
        solver: SolverLike = "auto",
    ) -> None:
        self.kernel = kernel
        self.noise_variance = noise_variance
        self.jitter = jitter
        self.solver = solver

    def _training(self, x: InputsLike, gram: GramLike) -> Training:
        """The training inputs or the precomputed matrix, and `gram` if it is given.

        Raises:
            InputError: the arguments do not fit each other.
        """
        check_kernel(self.kernel)
        images = self._inputs_beside(x, gram)
        return training_of_images(self.kernel, images, gram, self._positions, self.solver)

    def _observed(
        self, training: Training, y: TargetsLike, weights: VectorLike, *, outputs: bool
    ) -> tuple[Training, Any, UsedRows]:
        """See `used_rows`, of the settings."""
        return used_rows(
            training,
            y,
            weights,
            self.noise_variance,
            self._positions,
            missing=self.missing,
            outputs=outputs,
        )

    def _fit_targets(
        self,
        training: Training,
        inputs: Any,
        targets: Targets,
        progress: Progress | None,
        rows: UsedRows,
    ) -> None:
        """Solve for targets [N, C] of the used rows; `inputs` is X as `fit` received it.

        Raises:
            InputError: settings or memory do not fit; the estimator is unchanged then.
            NumericalError: the matrix is not positive definite; the estimator is unchanged then.
        """
        names, images = feature_names(inputs), rows.images
        with bars_inside(progress) as advance:
            problem = self._problem(training, targets, rows.noise, rows.seen)
            solution, intercept = self._solution(problem, advance)
        fit, report, curve = solution
        scaled = curve is not None and not self._labels
        counts = target_counts(rows.seen, len(targets))
        factors = output_factors(targets, fit.alpha, counts) if scaled else None
        evidence = log_evidence(targets, fit, factors, counts)
        self.x_train_ = None if images is None else np.array(images)
        self.targets_, self.alpha_, self.weights_ = targets, fit.alpha, fit.weights
        self.system_, self.solver_report_, self.jitter_report_ = fit.system, report, fit.report
        self.inducing_ = None if fit.inducing is None else np.array(fit.inducing, dtype=np.intp)
        self.kernel_dtype_ = fit.dtype
        self._set_input_shape((rows.count,) if images is None else images.shape[1:])
        self.observed_, self.observed_targets_ = rows.numbers, rows.seen
        self._set_feature_names(names)
        self.log_marginal_likelihood_value_, self._intercept = evidence, intercept
        self._set_noise(rows.noise, curve)
        if fit.report.jitter and check_jitter(self.jitter) is None and fit.inducing is None:
            warnings.warn(jitter_message(fit, self._positions), JitterWarning, stacklevel=3)
        if sentences := self.noise_warning():
            warnings.warn(sentences, NoiseWarning, stacklevel=3)

    def _solution(self, problem: FitProblem, advance: Advance | None) -> tuple[Solution, float]:
        """The outcome of the solver, and the variance of the intercept that is in the matrix."""
        return solved(problem, advance), 0.0

    def _set_noise(self, noise: RowNoise, curve: Curves) -> None:
        self.noise_curve_, self.relative_noise_ = curve, noise.relative
        self.noise_variance_ = fitted_noise(noise, curve)

    def noise_warning(self) -> str:
        """Sentences on a chosen noise that takes nearly all of the targets' variance, or on copies.

        Returns:
            The warning of `fit`; "" where the noise is stated, or leaves something to predict and
            few rows are copies of others.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> GPRegressor("precomputed").fit(np.eye(3), [1.0, 2.0, 4.0]).noise_warning()
        ''
        """
        self._require_fitted()
        if self.noise_curve_ is None:
            return ""
        return warning_of_fit(
            self.targets_,
            self.alpha_,
            self._shift(),
            self.noise_curve_,
            observed=self.observed_targets_,
            images=None if self._positions else self._train_rows,
            labels=self._labels,
            dtype=self.kernel_dtype_,
            prior=has_mean(self.kernel),
        )

    def _reason_for_no_noise(self) -> str:
        """The reason why "auto" stands for no noise, in words; empty where it is chosen."""
        return ""

    def _problem(
        self, training: Training, targets: Targets, noise: RowNoise, seen: Array | None = None
    ) -> FitProblem:
        return FitProblem(
            training,
            targets,
            noise,
            self.jitter,
            self.solver,
            self._labels,
            self._reason_for_no_noise(),
            seen,
        )

    def log_marginal_likelihood(
        self, noise_variance: float | None = None, gram: GramLike = None
    ) -> float:
        """Log probability density of the targets as fitted, summed over outputs (natural log).

        With solvers Nystroem() and ProjectedProcess() it is the density under the approximate
        model. With ConjugateGradients(probes=P) it is an estimate with the standard error
        solver_report_.evidence_error.

        Math: -(tr Y^T A^-1 Y + C log det A + C N log 2 pi) / 2

        Args:
            noise_variance: None for the value of the fit. Any other value, in the same units,
                solves again, and leaves the estimator as it is.
            gram: the matrix of the training inputs, if it exists already; needed to solve again
                with a precomputed kernel.

        Returns:
            The logarithm, in nats.

        Raises:
            NotFittedError: the estimator is not fitted.
            NumericalError: conjugate gradients without probes do not compute the determinant.
            InputError: an argument does not fit.

        References:
            Rasmussen and Williams, equation 2.30.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", noise_variance=1.0).fit(np.zeros((1, 1)), [0.0])
        >>> round(gp.log_marginal_likelihood(), 4)
        -0.9189
        """
        self._require_fitted()
        value: float = self.log_marginal_likelihood_value_
        if noise_variance is None and gram is not None:
            raise InputError(
                "gram is of use with noise_variance alone: the density at the noise of the fit is "
                "known. Try: without gram"
            )
        if noise_variance is not None:
            noise = check_noise(noise_variance)
            training = self._saved_training(gram)
            rows = RowNoise(noise, self.relative_noise_)
            problem = self._problem(training, self.targets_, rows, self.observed_targets_)
            fit = solved(problem)[0]
            value = log_evidence(self.targets_, fit, self._factors, self._counts)
        if math.isnan(value):
            raise NumericalError(
                "the log marginal likelihood needs the determinant, which conjugate gradients do "
                "not give. Try: solver='cholesky', ConjugateGradients(probes=16) for an estimate, "
                "or solver='nystroem' for an approximate model"
            )
        return value

    def _saved_training(self, gram: GramLike) -> Training:
        """The training covariance of the fit, to be computed again or read from `gram`."""
        if gram is None:
            return Training(self._covariance, self._train_rows, None, len(self.targets_))
        whole = training_of_images(self.kernel, self.x_train_, gram, self._positions, self.solver)
        whole = whole.of_rows(self.observed_)
        return shifted_training(whole, self._intercept) if self._intercept else whole

    @property
    def _factors(self) -> Vector | None:
        """Factors on kernel and noise of each output, [C]; None for 1."""
        if self._labels or self.noise_curve_ is None:
            return None
        return output_factors(self.targets_, self.alpha_, self._counts)

    def _shift(self) -> Noise:
        """The sum of noise and jitter on the diagonal of A.

        Where each output has a matrix of its own, that of every one, [1, C] or [N, C].
        """
        if self._by_output:
            system: Any = self.system_
            added: Matrix = system.added
            return added
        common = cast("float", self.noise_variance_)
        return diagonal_shift(common, self.relative_noise_, self.jitter_report_.added)

    def settings_state(self) -> dict[str, Any]:
        """See FittedInputs.settings_state."""
        return settings_state(self.get_params(deep=False))

    @classmethod
    def settings_from_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """See FittedInputs.settings_from_state."""
        return settings_from_state(state)

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See FittedInputs.fit_state."""
        facts, arrays = fit_state(self)
        facts |= self._names_state()
        if self._positions:
            facts["positions"] = list(self._positions)
        return facts, arrays

    def restore_fit(
        self, facts: Mapping[str, Any], arrays: Mapping[str, Array], gram: GramLike
    ) -> None:
        """See FittedInputs.restore_fit."""
        self._intercept = restored_intercept(facts)
        rows = restored_rows(facts, arrays, self._positions, precomputed=self.precomputed)
        self.x_train_, self.observed_ = rows.x, rows.observed
        self.targets_, self.alpha_ = rows.targets, rows.alpha
        self._set_input_shape(rows.shape)
        self._restore_names(facts, rows.shape[0])
        self.kernel_dtype_ = str(np.finfo(facts["kernel_dtype"]).dtype)
        value = facts["log_marginal_likelihood"]
        self.log_marginal_likelihood_value_ = math.nan if value is None else finite_number(value)
        self.solver_report_ = SolverReport.from_state(facts["solver_report"])
        self.jitter_report_ = CholeskyReport.from_state(facts["jitter_report"])
        self.observed_targets_ = restored_observed(facts, arrays, rows, labels=self._labels)
        self.noise_variance, noise, curve = restored_noise(
            self.noise_variance, facts, arrays, rows.targets, labels=self._labels
        )
        self._set_noise(noise, curve)
        self.system_ = restored_system(
            arrays,
            self._saved_training(gram),
            self.solver,
            used=self.solver_report_.solver,
            added=None if self._by_output else self._shift(),
            outputs=rows.targets.shape[1],
        )
        count = self.system_.basis
        self.inducing_, self.weights_ = restored_basis(facts, arrays, rows.alpha, count)

    def probe(self) -> tuple[Any, Matrix]:
        """The kernel's values between a few inputs of the basis, and those that the fit had."""
        corner = self.system_.kernel_corner(PROBE, self._shift())
        rows: Any = slice(len(corner))
        if isinstance(self.system_, PatternFactors):
            rows = self.system_.corner_rows(len(corner))
        return self._covariance(self._basis[rows]), corner
