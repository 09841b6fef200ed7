"""The base class of regressor and classifier: one exact Gaussian process fit for all outputs."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
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
from keras2gp._util.checks import one_of
from keras2gp._util.progress import Advance, Progress, bars_inside
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.arguments.inputs import check_length, feature_names
from keras2gp.gp.arguments.kernel_function import KernelLike, check_kernel, kernel_values
from keras2gp.gp.arguments.noise import BY_OUTPUT, check_noise
from keras2gp.gp.arguments.positions import Positioned, by_row, require_room
from keras2gp.gp.arguments.rows import (
    RowNoise,
    UsedRows,
    observed_rows,
    row_noise,
    seen_targets,
    weights_of_rows,
)
from keras2gp.gp.noise.all_noise import NoiseWarning, told_of_copies, told_of_noise
from keras2gp.gp.noise.curve import Curves
from keras2gp.gp.process.evidence import log_evidence, output_factors, target_counts
from keras2gp.gp.process.intercept import shifted_training
from keras2gp.gp.process.posterior import Posterior
from keras2gp.gp.process.prior_mean import has_mean
from keras2gp.gp.process.solving import (
    Solution,
    Task,
    jitter_message,
    solved,
)
from keras2gp.gp.solvers.choice import inducing_rows
from keras2gp.gp.solvers.jitter import check_jitter
from keras2gp.gp.solvers.system import SolverLike
from keras2gp.gp.solvers.training import Training, training_of

__all__ = ["GaussianProcess", "JitterWarning"]


class JitterWarning(UserWarning):
    """The kernel matrix was singular, and jitter was added to its diagonal."""


class GaussianProcess(Posterior):
    """Exact inference under a zero-mean Gaussian process with independent, alike outputs.

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

    noise_variance_: float | Vector
    relative_noise_: Vector | None
    missing: str = "refuse"
    noise_curve_: Curves
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
        if images is None:
            return training_of(self.kernel, None, gram)
        if self._positions:
            gram = self._square(gram, len(images))
        return self._training_of(self._rows(images), gram)

    def _training_of(self, rows: Any, gram: GramLike) -> Training:
        """The training covariance of rows, and `gram` if it is given, square or not."""
        given = gram is not None and rows is not None
        inducing = inducing_rows(self.solver, len(rows)) if given else None
        return training_of(self._stated_covariance, rows, gram, inducing)

    def _square(self, gram: GramLike, images: int) -> Any:
        """A matrix between positions as one of rows; it is compared with the memory if not given.

        Raises:
            InputError: it is not given, and does not fit.
        """
        positions = self._positions
        if gram is None:
            size = np.dtype(getattr(self.kernel, "dtype", np.float64)).itemsize
            require_room(images, positions, size)
        elif getattr(gram, "ndim", 2) != 2:
            rows = images * math.prod(positions)
            whole = (images, *positions, images, *positions)
            what = "gram, which between positions is keras2gp.gram(kernel, X, positions='all'),"
            return kernel_values(gram, whole, what).reshape(rows, rows)
        return gram

    def _observed(
        self, training: Training, y: TargetsLike, weights: VectorLike, *, outputs: bool
    ) -> tuple[Training, Any, UsedRows]:
        """The rows that have a target and a weight: covariance, targets, and which they are.

        Args:
            training: the covariance of all rows.
            y: targets or labels, as `fit` received them.
            weights: as `fit` received them.
            outputs: whether there may be an axis of outputs.

        Raises:
            InputError: an argument does not fit.
        """
        one_of("missing", self.missing, ("refuse", "ignore"))
        images = len(training) // math.prod(self._positions)
        y = by_row(y, self._positions, images, outputs=outputs)
        given = weights_of_rows(weights, self._positions, images)
        if y is not None and (given is not None or self.missing != "refuse"):
            check_length(training, np.atleast_1d(np.asarray(y)), "targets" if outputs else "labels")
        noise = self._row_noise(y, given, len(training), outputs=outputs)
        y, rows = observed_rows(y, self.missing, given)
        seen = seen_targets(y) if outputs and self.missing == "ignore" and y is not None else None
        x = training.x.images if isinstance(training.x, Positioned) else training.x
        used = UsedRows(noise.of(rows), rows, x, len(training), seen)
        return training.of_rows(rows), y, used

    def _row_noise(
        self, y: TargetsLike, weights: VectorLike, rows: int, *, outputs: bool
    ) -> RowNoise:
        """The noise of rows, or of outputs where y has an axis of them.

        Raises:
            InputError: it does not fit.
        """
        setting = self.noise_variance
        if not outputs and isinstance(setting, str) and setting == BY_OUTPUT:
            raise InputError(
                f'noise_variance="{BY_OUTPUT}" is of a regression: the classes of a label are told '
                'apart by one noise. Try: noise_variance="auto"'
            )
        shape: tuple[int, ...] = ()
        with suppress(ValueError):  # check_targets says what is wrong with it
            shape = np.asarray(y).shape if outputs else ()
        columns = shape[1] if len(shape) == 2 else None
        return row_noise(setting, weights, rows, columns)

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
            task = self._task(training, targets, rows.noise, rows.seen)
            solution, intercept = self._solution(task, advance)
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
        if told := self.told_of_noise():
            warnings.warn(told, NoiseWarning, stacklevel=3)

    def _solution(self, task: Task, advance: Advance | None) -> tuple[Solution, float]:
        """The outcome of the solver, and the variance of the intercept that is in the matrix."""
        return solved(task, advance), 0.0

    def _set_noise(self, noise: RowNoise, curve: Curves) -> None:
        self.noise_curve_ = curve
        self.relative_noise_ = noise.relative
        if isinstance(curve, tuple):
            self.noise_variance_ = np.array([one.chosen for one in curve])
        elif curve is not None:
            self.noise_variance_ = curve.chosen
        else:
            stated = noise.common
            self.noise_variance_ = np.array(stated) if noise.by_output else float(stated or 0.0)

    def told_of_noise(self) -> str:
        """Sentences on a chosen noise that takes nearly all of the targets' variance, or on copies.

        Returns:
            What `fit` warned of; "" where the noise is stated, or leaves something to predict and
            few rows are copies of others.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> GPRegressor("precomputed").fit(np.eye(3), [1.0, 2.0, 4.0]).told_of_noise()
        ''
        """
        self._require_fitted()
        if self.noise_curve_ is None:
            return ""
        seen = self.observed_targets_
        told = told_of_noise(
            self.targets_ if seen is None else np.where(seen, self.targets_, np.nan),
            self.alpha_,
            self._shift(),
            self.noise_curve_,
            labels=self._labels,
            dtype=self.kernel_dtype_,
            prior=has_mean(self.kernel),
        )
        return ". ".join(sentence for sentence in (told, self._copies()) if sentence)

    def _copies(self) -> str:
        """A sentence on rows that are copies; "" where the inputs are not known row by row."""
        x = self.x_train_
        if x is None or self._positions:
            return ""
        return told_of_copies(x if self.observed_ is None else x[self.observed_], self.targets_)

    def _noiseless(self) -> str:
        """The reason why "auto" stands for no noise, in words; empty where it is chosen."""
        return ""

    def _task(
        self, training: Training, targets: Targets, noise: RowNoise, seen: Array | None = None
    ) -> Task:
        return Task(
            training,
            targets,
            noise,
            self.jitter,
            self.solver,
            self._labels,
            self._noiseless(),
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
            task = self._task(training, self.targets_, rows, self.observed_targets_)
            fit = solved(task)[0]
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
        if self._positions and self.x_train_ is not None:
            gram = self._square(gram, len(self.x_train_))
        whole = self._training_of(self._rows(self.x_train_), gram).of_rows(self.observed_)
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
        noise = RowNoise(common, self.relative_noise_)
        return noise.times(common) + self.jitter_report_.added

    def _noise_of_observations(self) -> float | Vector:
        """The noise variance of a new observation, or that of each output, [C].

        Raises:
            InputError: every training row had its own.
        """
        if np.ndim(self.noise_variance) and not isinstance(self.noise_variance_, np.ndarray):
            raise InputError(
                "the noise of new observations is not known: noise_variance has one for each "
                "training row. Try: the deviation of the function, and their noise added to its "
                "square"
            )
        return self.noise_variance_
