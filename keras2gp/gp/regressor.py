"""Exact Gaussian process regression with the interface of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from keras2gp._util.arrays import Array, Matrix, Targets, Vector
from keras2gp._util.checks import whole_number
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp.inputs import check_length, check_targets
from keras2gp.gp.paths import DEFAULT_RANK, Paths, Prior, corrections, prior_of
from keras2gp.gp.positions import scored_rows
from keras2gp.gp.posterior import require_finite
from keras2gp.gp.prior_mean import has_mean, mean_of_rows
from keras2gp.gp.sampling import random_generator
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.fitc import InducingSystem
from keras2gp.gp.solvers.matrices import Progress
from keras2gp.gp.solvers.report import finite_number
from keras2gp.gp.solvers.system import PROBE
from keras2gp.gp.targets import Units, normalizes, standardized
from keras2gp.gp.updates import UpdatedGaussianProcess

__all__ = ["GPRegressor"]

_MEAN_TOLERANCE = 1e-5
"""Relative difference of the means of one kernel in different precisions, at most."""


class GPRegressor(RegressorMixin, UpdatedGaussianProcess):  # type: ignore[misc]
    """Regression with a Gaussian process prior; several outputs share one kernel.

    Math: mean = m* + K* A^-1 (y - m);  variance = diag K** - diag K* A^-1 K*^T;
        A = K + (noise_variance + jitter) I

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
            largest evidence too, one factor on kernel and noise for each output (`scale_`). Or the
            variance of the noise on the targets as fitted, in their units squared: relative to
            their variance with normalize_y=True; or those of all targets, [N] or [N, *positions].
            The kernel is then taken as it is.
        jitter: "auto" for 0, and more only if the matrix is singular, with a JitterWarning; or a
            number, relative to the mean of the kernel's diagonal.
        normalize_y: subtract the mean of the targets (less the prior's) and divide by their
            standard deviation; "auto" where the noise is chosen, and not where it is stated, in
            the targets' units.
        solver: "auto" for an exact one that fits the machine, "cholesky", "mixed", "tensorflow",
            "cg", "nystroem", "projected", or one of keras2gp.gp's solvers with settings.
        missing: "refuse", or "ignore" for targets that are NaN: these rows are left out.

    Attributes:
        x_train_: training inputs; None for a precomputed kernel.
        targets_: targets as fitted (less the prior mean, normalised), [N, C].
        alpha_: A^-1 targets_, [N, C].
        basis_: inputs [B, ...] of the posterior mean k(x, basis_) weights_.
        weights_: weights of the basis, [B, C].
        factor_: Cholesky factor, of the direct solvers.
        noise_variance_: variance of the noise on the targets as fitted, before the factor scale_:
            that of weight 1, or the mean of those of all targets.
        relative_noise_: the noise of each target over noise_variance_, [N]; None for 1.
        observed_: the rows that have a target and a weight; None for all. All arrays of the fit are
            of these.
        noise_curve_: the noise variances that were tried, and the evidence of each
            (noise.NoiseCurve); None where the noise is stated.
        solver_report_: solver, reason, memory and time.
        jitter_report_: jitter and pivots.
        log_marginal_likelihood_value_: natural logarithm, summed over outputs, of the targets as
            fitted, under the prior with its factors scale_.
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

    _labels = False
    y_shift_: Vector
    y_scale_: Vector
    single_output_: bool

    def __init__(
        self,
        kernel: Any,
        noise_variance: Any = "auto",
        jitter: float | str = "auto",
        normalize_y: bool | str = "auto",
        solver: Any = "auto",
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
        X: Any,  # noqa: N803 (scikit-learn's name)
        y: Any,
        gram: Any = None,
        progress: Progress | None = None,
        *,
        sample_weight: Any = None,
    ) -> GPRegressor:
        """Fit to inputs and targets.

        Args:
            X: inputs.
            y: targets.
            gram: the kernel matrix of X, if it exists already: an array, a store on disk (read
                block by block), or a MatrixProduct. With kernel="precomputed" it may replace X,
                which is None then. With solver="projected" also the covariances with its inducing
                inputs, of shape [N, M], whose rows solver.rows(N) gives.
            progress: called with (steps done, steps in all) of the solver.
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
                type; a matrix or machine that does not fit.
            NumericalError: the kernel matrix is not positive definite.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", noise_variance=1.0)
        >>> gp.fit(3.0 * np.eye(2), [4.0, 8.0]).alpha_.ravel()
        array([1., 2.])
        """
        training = self._training(X, gram)
        training, y, rows = self._observed(training, y, sample_weight, outputs=True)
        targets = check_targets(y)
        check_length(training, targets, "targets")
        columns = self._without_prior(targets, training.x)
        columns, shift, scale = self._standard(columns, learned=rows.noise.common is None)
        self._fit_targets(training, X, columns, progress, rows)
        self.y_shift_, self.y_scale_ = shift, scale
        self.single_output_ = targets.ndim == 1
        return self

    def _without_prior(self, targets: Targets, rows: Any) -> Matrix:
        """Targets less the kernel's mean, [N, C]."""
        columns = targets.reshape(len(targets), -1)
        prior = mean_of_rows(self.kernel, rows, columns.shape[1])
        less: Matrix = require_finite(columns - prior, "a target less the kernel's mean")
        return less

    def _standard(self, columns: Matrix, *, learned: bool) -> tuple[Matrix, Vector, Vector]:
        """Targets as they are fitted, and what was subtracted and divided by."""
        if normalizes(self.normalize_y, learned=learned):
            return standardized(columns)
        return columns, np.zeros(columns.shape[1]), np.ones(columns.shape[1])

    @property
    def _values(self) -> Matrix:
        return self.targets_ * self.y_scale_ + self.y_shift_

    def _new_values(self, y: Any, rows: Any) -> Matrix:
        targets = check_targets(y)
        columns = self._without_prior(targets, rows)
        if targets.ndim != 2 - self.single_output_ or columns.shape[1] != len(self.y_scale_):
            raise InputError(
                f"y has shape {targets.shape}; the targets of the fit have {len(self.y_scale_)} "
                f"outputs in {2 - self.single_output_} axes"
            )
        return columns

    def _set_values(self, values: Matrix, factor: CholeskyFactor, state: Any) -> None:
        learned = self.noise_curve_ is not None
        columns, shift, scale = self._standard(values, learned=learned)
        self._set_solution(columns, factor, state)
        self.y_shift_, self.y_scale_ = shift, scale

    def predict(
        self,
        X: Any,  # noqa: N803 (scikit-learn's name)
        return_std: bool = False,
        return_cov: bool = False,
        diag: Any = None,
        observations: bool = False,
    ) -> Any:
        """Posterior mean at X, and the standard deviation or covariance there.

        They are those of the latent function; with observations=True those of new observations,
        which have the noise besides: 95% of them lie within 1.96 standard deviations of the mean,
        if the model is right.

        Args:
            X: inputs.
            return_std: return mean and standard deviation.
            return_cov: return mean and covariance.
            diag: the prior variances k(x, x), [M]; for return_std with a precomputed kernel.
            observations: of new observations, with noise, and not of the function.

        Shapes:
            X [M, features] or [M, *shape]; mean [M] or [M, C]; std the same; covariance [M, M] or
            [M, M, C]. With positions [M, *positions] stands for [M].

        Returns:
            The mean; with return_std or return_cov a pair of the mean and the other.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs, or the memory does not suffice.
            NumericalError: a variance lies further below zero than rounding explains
                (precision.rounding_bound).

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", noise_variance=1.0).fit(3.0 * np.eye(2), [4.0, 8.0])
        >>> mean, std = gp.predict([[2.0, 0.0]], return_std=True, diag=[2.0])
        >>> mean, std
        (array([2.]), array([1.]))
        >>> gp.predict([[2.0, 0.0]], return_std=True, diag=[2.0], observations=True)[1].round(3)
        array([1.414])
        """
        if return_std and return_cov:
            raise InputError("return_std and return_cov: at most one of the two can be asked for")
        x, noise = self._test_inputs(X), self._noise_of_observations() if observations else 0.0
        units = self._units
        if return_cov:
            mean, covariance = self._mean_and_covariance(x)
            covariance[np.diag_indices_from(covariance)] += noise
            squares = self._by_position(units.variances(covariance), pairs=True)
            return self._by_position(units.mean(mean, self._prior_mean(x))), squares
        if return_std:
            mean, variance = self._mean_and_variance(x, diag)
            std = units.deviations(np.sqrt(variance + noise))
            mean = units.mean(mean, self._prior_mean(x))
            return self._by_position(mean), self._by_position(std)
        return self._by_position(units.mean(self._mean(x), self._prior_mean(x)))

    def prior_variance(self, X: Any) -> Array:  # noqa: N803 (scikit-learn's name)
        """Variance of the function before the data, in the units of the targets squared.

        Args:
            X: inputs, [M, features] or [M, *shape].

        Returns:
            Variances, [M] or [M, C]; with positions [M, *positions] stands for [M].

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs, or the kernel is precomputed.

        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPRegressor
        >>> GPRegressor(RBF(1.0), 0.1).fit([[0.0], [1.0]], [0.0, 4.0]).prior_variance([[9.0]])
        array([1.])
        """
        return self._by_position(self._units.variances(self._prior(self._test_inputs(X), None)))

    @property
    def scale_(self) -> Vector:
        """The factor on kernel and noise of each output, [C]: 1 where the noise is stated.

        The scale of a network's kernel is that of its last layer's weights, which has no relation
        to the targets. With noise_variance="auto" the prior of output c is scale_c times the
        kernel, with scale_c times noise_variance_: the means do not depend on it, and the evidence
        is largest at y_c^T A^-1 y_c / N.

        References:
            Rasmussen and Williams, equation 5.8, solved for a factor on K.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> x = 4.0 * np.eye(4)
        >>> GPRegressor("precomputed").fit(x, [1.0, -1.0, 1.0, -1.0]).scale_
        array([0.25])
        >>> GPRegressor("precomputed", noise_variance=1.0).fit(x, [1.0, -1.0, 1.0, -1.0]).scale_
        array([1.])
        """
        factors = self._factors
        return np.ones(self.targets_.shape[1]) if factors is None else factors

    @property
    def noise_std_(self) -> Any:
        """Standard deviation of the noise in the units of the targets: a number, or [C].

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> GPRegressor("precomputed", noise_variance=4.0).fit(np.eye(2), [4.0, 8.0]).noise_std_
        2.0
        """
        std = self._units.deviations(np.sqrt(np.array(self._noise_of_observations())))
        return float(std) if self.single_output_ else std

    def score(
        self,
        X: Any,  # noqa: N803 (scikit-learn's name)
        y: Any,
        sample_weight: Any = None,
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
        y, predicted, sample_weight = scored_rows(
            y, self.predict(X), sample_weight, self._positions, outputs=True
        )
        return float(r2_score(y, predicted, sample_weight=sample_weight))

    def leave_one_out(self) -> tuple[Array, Array]:
        """Mean and variance of each training target given all the others, in closed form.

        The variance is that of the target, with noise and jitter. With normalize_y, shift and
        scale are those of all targets. With positions the others are those of other images, and of
        the other positions of the same image.

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
        mean, variance = self._leave_one_out()
        squares = self._by_position(self._of_all_rows(self._units.variances(variance)))
        prior = self._prior_mean(self._train_rows)
        return self._by_position(self._of_all_rows(self._units.mean(mean, prior))), squares

    def leave_one_out_log_density(self) -> Array:
        """Log predictive density of each training target given all the others, in its units.

        The sum is the pseudo-likelihood of leave-one-out cross-validation.

        Shapes:
            [N] or [N, C].

        Raises:
            NotFittedError: the estimator is not fitted.

        References:
            Rasmussen and Williams, equations 5.10 and 5.11.

        >>> import numpy as np
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor("precomputed", noise_variance=1.0).fit(3.0 * np.eye(2), [0.0, 4.0])
        >>> gp.leave_one_out_log_density().round(3)
        array([-1.612, -3.612])
        """
        self._require_fitted()
        density = self._leave_one_out_density(self._factors) - np.log(self.y_scale_)
        density = self._of_all_rows(density)
        return self._by_position(density[:, 0] if self.single_output_ else density)

    def sample_y(
        self,
        X: Any,  # noqa: N803 (scikit-learn's name)
        n_samples: int = 1,
        random_state: Any = 0,
        *,
        observations: bool = False,
    ) -> Array:
        """Draws from the joint posterior at X, of the latent function or of new observations.

        Args:
            X: inputs.
            n_samples: number of draws.
            random_state: an integer, None, or a numpy RandomState, as in scikit-learn.
            observations: of new observations, with noise, and not of the function.

        Shapes:
            X [M, features] or [M, *shape]; draws [M, n_samples] or [M, C, n_samples]. With
            positions [M, *positions] stands for [M].

        Returns:
            Draws in the units of the targets.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs, or the memory does not suffice.
            NumericalError: the posterior covariance has an eigenvalue further below zero than
                rounding explains.

        >>> import numpy as np
        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor(RBF(1.0), noise_variance=0.1).fit([[0.0], [1.0]], [0.0, 1.0])
        >>> gp.sample_y([[0.5], [3.0]], n_samples=5).shape
        (2, 5)
        """
        x = self._test_inputs(X)
        noise = self._noise_of_observations() if observations else 0.0
        draws = self._samples(x, n_samples, random_state, factors=self._factors, noise=noise)
        return self._by_position(self._units.draws(draws, self._prior_mean(x)))

    def sample_paths(
        self,
        n_samples: int = 1,
        random_state: Any = 0,
        *,
        rank: int = DEFAULT_RANK,
        around: Any = None,
    ) -> Paths:
        """Functions drawn from the posterior, to be computed at any number of inputs.

        `sample_y` draws at M inputs jointly, and takes time with M^3; a path takes one solve for
        each sample, and then time with M N. It is a draw of the prior, through features of the
        kernel at Z, less what the data correct of it. Z are training inputs, and those of `around`.
        The variance of the paths is the posterior's everywhere. Their covariance is the
        posterior's too, but for the part of the prior's that Z leaves, which is drawn
        independently for each input: `left_out` of the paths says how much that is.

        With solvers Nystroem() and ProjectedProcess(), Z are their inducing inputs, and no solve is
        needed.

        Args:
            n_samples: number of paths.
            random_state: an integer, None, or a numpy RandomState, as in scikit-learn.
            rank: the largest number of training inputs in Z.
            around: further inputs in Z: some of those where the paths will be asked for.

        Returns:
            The paths, to be called on inputs.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: the kernel is precomputed, an argument does not fit, or the memory does
                not suffice.
            NumericalError: a solve does not reach its tolerance.

        References:
            Wilson et al. 2020, Efficiently sampling functions from Gaussian process posteriors.

        >>> import numpy as np
        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor(RBF(1.0), noise_variance=0.1).fit([[0.0], [1.0]], [0.0, 1.0])
        >>> gp.sample_paths(5)(np.linspace(0.0, 9.0, 1000)[:, None]).shape
        (1000, 5)
        """
        self._require_fitted()
        count, random = whole_number("n_samples", n_samples, 1), random_generator(random_state)
        whole_number("rank", rank, 1)
        if self.precomputed:
            raise InputError(
                "sample paths need the kernel between new inputs and others, which a precomputed "
                "matrix does not hold. Try: a kernel, or sample_y"
            )
        near = None if around is None else self._test_inputs(around)
        draws, outputs = count * self.targets_.shape[1], self.targets_.shape[1]
        covariance, system = self._covariance, self.system_
        if isinstance(system, InducingSystem):
            if near is not None:
                raise InputError(
                    f"around: the features of solver {self.solver_report_.solver!r} are its "
                    "inducing inputs. Try: without around, or an exact solver"
                )
            weights = system.draws(random.standard_normal((system.basis, draws)))
            seed = int(random.randint(2**31 - 1))
            prior = Prior(covariance, self._basis, system.lower, weights, seed)
            taken: Matrix | None = None
        else:
            training = self._saved_training(None)
            prior = prior_of(training, covariance, near, rank=rank, random=random, draws=draws)
            parts = (training.x[part] for part in self._batches(len(training)))
            at_data = [prior(part)[2] for part in parts]
            taken = corrections(system, np.concatenate(at_data), self._shift(), random)
        root = np.sqrt(self.scale_)[:, None]

        def values(x: Any) -> Array:
            parts = []
            for part in self._batches(len(x)):
                cross = self._cross(x[part])
                drawn = prior(x[part])[2]
                if taken is not None:
                    drawn += cross @ taken
                mean = cross @ self.weights_
                parts.append(mean[:, :, None] + root * drawn.reshape(-1, outputs, count))
            found = np.concatenate(parts)
            return self._by_position(self._units.draws(found, self._prior_mean(x)))

        def left(x: Any) -> Array:
            parts = [prior(x[part])[1] for part in self._batches(len(x))]
            return self._by_position(np.concatenate(parts))

        return Paths(values, left, self._test_inputs, len(prior.lower))

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See GaussianProcess.fit_state."""
        facts, arrays = super().fit_state()
        facts["single_output"] = self.single_output_
        facts["y_shift"], facts["y_scale"] = self.y_shift_.tolist(), self.y_scale_.tolist()
        if has_mean(self.kernel):
            facts["prior_mean"] = self._probed_mean().tolist()
        return facts, arrays

    def restore_fit(self, facts: Mapping[str, Any], arrays: Mapping[str, Array], gram: Any) -> None:
        """See GaussianProcess.restore_fit."""
        super().restore_fit(facts, arrays, gram)
        self.single_output_ = bool(facts["single_output"])
        values = [[finite_number(v) for v in facts[name]] for name in ("y_shift", "y_scale")]
        self.y_shift_, self.y_scale_ = (np.array(v) for v in values)
        if not self.y_shift_.shape == self.y_scale_.shape == (self.targets_.shape[1],):
            raise ModelFileError(f"{len(values[0])} shifts, {len(values[1])} scales of the targets")
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

    def _prior_mean(self, rows: Any) -> Matrix | float:
        """The prior mean of rows, [M, C] or [M, 1], in the units of the targets."""
        return mean_of_rows(self.kernel, rows, self.targets_.shape[1])

    @property
    def _units(self) -> Units:
        deviation = self.y_scale_
        if self.noise_curve_ is not None:
            deviation = deviation * np.sqrt(self.scale_)
        return Units(self.y_shift_, self.y_scale_, deviation, single=self.single_output_)
