"""What regression and classification share: one exact Gaussian process fit for all outputs."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import numpy as np
from sklearn.base import clone

from keras2gp._util.arrays import Array
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.inputs import check_kernel
from keras2gp.gp.posterior import Posterior
from keras2gp.gp.solvers.choice import chosen_solver
from keras2gp.gp.solvers.cholesky import check_jitter, check_noise
from keras2gp.gp.solvers.factor import CholeskyReport
from keras2gp.gp.solvers.matrices import Progress
from keras2gp.gp.solvers.system import Fit, SolverReport
from keras2gp.gp.solvers.training import Training, training_of

__all__ = ["GaussianProcess", "JitterWarning"]


class JitterWarning(UserWarning):
    """The kernel matrix was singular, and something was added to its diagonal to solve it."""


class GaussianProcess(Posterior):
    """Exact inference under a zero-mean Gaussian process, with independent, alike outputs.

    Math: A = K + (noise_variance + jitter) I;  alpha = A^-1 Y
        mean = K* alpha;  variance = diag K** - diag K* A^-1 K*^T  (of the latent function)

    With solver Nystroem() A is another matrix, and the basis of predictions smaller: see there.

    Reference: Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1.
    """

    def __init__(
        self,
        kernel: Any,
        noise_variance: float = 0.0,
        jitter: float | str = "auto",
        solver: Any = "auto",
    ) -> None:
        self.kernel = kernel
        self.noise_variance = noise_variance
        self.jitter = jitter
        self.solver = solver

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

    def _training(self, x: Any, gram: Any) -> Training:
        """The training inputs, or the precomputed matrix, with `gram` if it is there already.

        Raises: InputError
        """
        check_kernel(self.kernel)
        if self.precomputed and gram is not None:
            if x is not None:
                raise InputError("with kernel='precomputed' the matrix is either X or gram: one")
            return training_of(self.kernel, None, gram)
        return training_of(self.kernel, self._checked_inputs(x), gram)

    def _fit_targets(self, training: Training, targets: Array, progress: Progress | None) -> None:
        """Solve for targets [N, C].

        Raises: InputError, NumericalError; the estimator is as it was before then.
        """
        noise = check_noise(self.noise_variance)
        fit, report = self._solved(training, targets, noise, progress)
        x = training.x
        self.x_train_ = None if x is None else np.array(x)
        self.targets_, self.alpha_, self.weights_ = targets, fit.alpha, fit.weights
        self.system_, self.solver_report_, self.jitter_report_ = fit.system, report, fit.report
        self.inducing_ = None if fit.inducing is None else np.array(fit.inducing, dtype=np.intp)
        self.kernel_dtype_ = fit.dtype
        self.input_shape_ = (len(training),) if x is None else x.shape[1:]
        if len(self.input_shape_) == 1:
            self.n_features_in_ = self.input_shape_[0]
        self.log_marginal_likelihood_value_ = _log_evidence(targets, fit)
        if fit.report.jitter and check_jitter(self.jitter) is None and fit.inducing is None:
            warnings.warn(_jitter_message(fit.report), JitterWarning, stacklevel=3)

    def _solved(
        self, training: Training, targets: Array, noise: float, progress: Progress | None = None
    ) -> tuple[Fit, SolverReport]:
        """What the solver makes of targets [N, C], and its report."""
        check_jitter(self.jitter)
        solver, reason = chosen_solver(self.solver, training, targets.shape[1])
        memory = solver.memory(training, targets.shape[1])
        if solver.name != "nystroem":
            memory += training.bytes_to_compute
        started = time.perf_counter()
        fit = solver.fit(training, targets, noise, self.jitter, progress)
        report = SolverReport(
            solver=solver.name,
            reason=reason,
            memory=memory,
            seconds=time.perf_counter() - started,
            iterations=fit.iterations,
            residual=fit.residual,
            rank=fit.rank,
            evidence_error=(
                None
                if fit.determinant_error is None
                else targets.shape[1] * fit.determinant_error / 2.0
            ),
        )
        return fit, report

    def log_marginal_likelihood(
        self, noise_variance: float | None = None, gram: Any = None
    ) -> float:
        """Log probability density of the targets as fitted, summed over outputs (natural log).

        noise_variance: None for that of the fit; another one solves again, with the matrix that
            the kernel gives or with `gram`, and leaves the estimator as it is. In the same units.
        gram: the matrix of the training inputs, if it is there; needed for a precomputed kernel

        Of solver Nystroem() it is that of the approximate model. Of ConjugateGradients(probes=P) it
        is an estimate, with the standard error solver_report_.evidence_error.

        Raises: NotFittedError; NumericalError under conjugate gradients without probes, which do
            not know the determinant; InputError.

        Reference: Rasmussen and Williams, equation 2.30.
        """
        self._require_fitted()
        value: float = self.log_marginal_likelihood_value_
        if noise_variance is not None:
            noise = check_noise(noise_variance)
            training = (
                Training(self.kernel, self.x_train_, None, len(self.targets_))
                if gram is None
                else training_of(self.kernel, self.x_train_, gram)
            )
            value = _log_evidence(self.targets_, self._solved(training, self.targets_, noise)[0])
        if math.isnan(value):
            raise NumericalError(
                "the log marginal likelihood needs the determinant, which conjugate gradients do "
                "not give. Try: solver='cholesky', ConjugateGradients(probes=16) for an estimate, "
                "or solver='nystroem' for an approximate model"
            )
        return value


def _log_evidence(targets: Array, fit: Fit) -> float:
    """log p(Y), summed over outputs; NaN where the determinant is not known.

    Math: -(tr Y^T A^-1 Y + C log det A + C N log 2 pi) / 2
    """
    if fit.log_determinant is None:
        return math.nan
    count, outputs = targets.shape
    explained = float(np.einsum("nc,nc->", targets, fit.alpha))
    value: float = -0.5 * (
        explained + outputs * (fit.log_determinant + count * math.log(2.0 * math.pi))
    )
    return value


def _jitter_message(report: CholeskyReport) -> str:
    first = report.steps[0]
    place = f"smallest pivot {first.smallest_pivot:.3g}, at row {first.index}"
    if first.index < 0:
        place = f"smallest curvature {first.smallest_pivot:.3g}"
    message = (
        f"the kernel matrix is singular ({place}); solved with jitter {report.jitter:g} of its "
        f"mean diagonal, {report.added:.3g}."
    )
    if report.duplicate is not None:
        one, other = report.duplicate
        message += f" Rows {one} and {other} agree to five digits: the same input twice?"
    return message + " A noise_variance makes it regular"
