"""The base class of regressor and classifier: one exact Gaussian process fit for all outputs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone

from keras2gp._util.arrays import Array, Matrix, Targets, Vector
from keras2gp.errors import InputError, ModelFileError, NumericalError
from keras2gp.gp.inputs import check_kernel, feature_names, kernel_values
from keras2gp.gp.noise import NoiseCurve, check_noise_setting
from keras2gp.gp.positions import Positioned, require_room
from keras2gp.gp.posterior import Posterior
from keras2gp.gp.solvers.choice import (
    SOLVERS,
    inducing_rows,
    solver_from_dict,
    solver_to_dict,
)
from keras2gp.gp.solvers.jitter import check_jitter, check_noise
from keras2gp.gp.solvers.matrices import Progress
from keras2gp.gp.solvers.report import CholeskyReport, SolverReport, finite_number
from keras2gp.gp.solvers.system import PROBE, Origin
from keras2gp.gp.solvers.training import Training, training_of
from keras2gp.gp.solving import Task, jitter_message, log_evidence, output_factors, solved

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
        noise_variance: variance of the noise on the targets; "auto" for the one under which they
            are most probable.
        jitter: "auto", or a number relative to the mean of the kernel's diagonal.
        solver: "auto", a name, or a solver with settings.

    References:
        Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1.
    """

    noise_variance_: float
    noise_curve_: NoiseCurve | None
    _labels: ClassVar[bool] = True
    """Whether the targets are those of a classification: then `scale_` is one for all."""

    def __init__(
        self,
        kernel: Any,
        noise_variance: float | str = "auto",
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
        # A kernel is a function: a clone shares it, unless it is one of scikit-learn's kernels,
        # which are estimators themselves. Compiled kernels are expensive to copy.
        settings = self.get_params(deep=False)
        if hasattr(self.kernel, "get_params"):
            settings["kernel"] = clone(self.kernel)
        return type(self)(**settings)

    def _training(self, x: Any, gram: Any) -> Training:
        """The training inputs or the precomputed matrix, and `gram` if it is given.

        Raises:
            InputError: the arguments do not fit each other.
        """
        check_kernel(self.kernel)
        if self.precomputed and gram is not None:
            if x is not None:
                raise InputError("with kernel='precomputed' the matrix is either X or gram: one")
            return training_of(self.kernel, None, gram)
        images = self._checked_inputs(x)
        if self._positions:
            gram = self._square(gram, len(images))
        return self._training_of(self._rows(images), gram)

    def _training_of(self, rows: Any, gram: Any) -> Training:
        """The training covariance of rows, and `gram` if it is given, square or not."""
        given = gram is not None and rows is not None
        inducing = inducing_rows(self.solver, len(rows)) if given else None
        return training_of(self._covariance, rows, gram, inducing)

    def _square(self, gram: Any, images: int) -> Any:
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

    def _fit_targets(
        self, training: Training, inputs: Any, targets: Targets, progress: Progress | None
    ) -> None:
        """Solve for targets [N, C]; `inputs` is X as `fit` received it.

        Raises:
            InputError: settings or memory do not fit; the estimator is unchanged then.
            NumericalError: the matrix is not positive definite; the estimator is unchanged then.
        """
        noise, names = check_noise_setting(self.noise_variance), feature_names(inputs)
        fit, report, curve = solved(self._task(training, targets, noise), progress)
        scaled = curve is not None and not self._labels
        factors = output_factors(targets, fit.alpha) if scaled else None
        evidence, x = log_evidence(targets, fit, factors), training.x
        images = x.images if isinstance(x, Positioned) else x
        self.x_train_ = None if images is None else np.array(images)
        self.targets_, self.alpha_, self.weights_ = targets, fit.alpha, fit.weights
        self.system_, self.solver_report_, self.jitter_report_ = fit.system, report, fit.report
        self.inducing_ = None if fit.inducing is None else np.array(fit.inducing, dtype=np.intp)
        self.kernel_dtype_ = fit.dtype
        self._set_input_shape((len(training),) if images is None else images.shape[1:])
        self._set_feature_names(names)
        self.log_marginal_likelihood_value_ = evidence
        self._set_noise(noise, curve)
        if fit.report.jitter and check_jitter(self.jitter) is None and fit.inducing is None:
            warnings.warn(jitter_message(fit, self._positions), JitterWarning, stacklevel=3)

    def _set_noise(self, stated: float | None, curve: NoiseCurve | None) -> None:
        self.noise_curve_ = curve
        self.noise_variance_ = curve.chosen if curve is not None else float(stated or 0.0)

    def _noiseless(self) -> str:
        """The reason why "auto" stands for no noise, in words; empty where it is chosen."""
        return ""

    def _task(self, training: Training, targets: Targets, noise: float | None) -> Task:
        return Task(
            training,
            targets,
            noise,
            self.jitter,
            self.solver,
            self._labels,
            self._noiseless(),
        )

    def log_marginal_likelihood(
        self, noise_variance: float | None = None, gram: Any = None
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
        if noise_variance is not None:
            noise = check_noise(noise_variance)
            training = self._saved_training(gram)
            fit = solved(self._task(training, self.targets_, noise))[0]
            value = log_evidence(self.targets_, fit, self._factors)
        if math.isnan(value):
            raise NumericalError(
                "the log marginal likelihood needs the determinant, which conjugate gradients do "
                "not give. Try: solver='cholesky', ConjugateGradients(probes=16) for an estimate, "
                "or solver='nystroem' for an approximate model"
            )
        return value

    def _saved_training(self, gram: Any) -> Training:
        """The training covariance of the fit, to be computed again or read from `gram`."""
        if gram is None:
            return Training(self._covariance, self._rows(self.x_train_), None, len(self.targets_))
        if self._positions and self.x_train_ is not None:
            gram = self._square(gram, len(self.x_train_))
        return self._training_of(self._rows(self.x_train_), gram)

    def settings_state(self) -> dict[str, Any]:
        """See FittedInputs.settings_state."""
        settings = self.get_params(deep=False)
        del settings["kernel"]
        settings["solver"] = solver_to_dict(self.solver)
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in settings.items()}

    @classmethod
    def settings_from_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a `settings_state`; KeyError and the like where it is malformed.

        Args:
            state: what `settings_state` gave.

        Returns:
            Arguments of the class.

        Raises:
            InputError: a setting is out of range.
        """
        check_noise_setting(state["noise_variance"])
        check_jitter(state["jitter"])
        return {**state, "solver": solver_from_dict(state["solver"])}

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The facts of a fit as data for JSON, and its arrays by file name; `save` uses it."""
        value = self.log_marginal_likelihood_value_
        facts = {
            "input_shape": list(self.input_shape_),
            "kernel_dtype": self.kernel_dtype_,
            "log_marginal_likelihood": None if math.isnan(value) else value,
            "solver_report": self.solver_report_.state(),
            "jitter_report": self.jitter_report_.state(),
        }
        arrays = {"y.npy": self.targets_, "alpha.npy": self.alpha_, **self.system_.state()}
        if self.inducing_ is not None:
            facts["inducing"] = self.inducing_.tolist()
            arrays["weights.npy"] = self.weights_
        if self.x_train_ is not None:
            arrays["x_train.npy"] = self.x_train_
        if hasattr(self, "feature_names_in_"):
            facts["feature_names"] = self.feature_names_in_.tolist()
        if self._positions:
            facts["positions"] = list(self._positions)
        if self.noise_curve_ is not None:
            facts["noise_curve"] = self.noise_curve_.state()
        return facts, arrays

    def restore_fit(self, facts: Mapping[str, Any], arrays: Mapping[str, Array], gram: Any) -> None:
        """Set the attributes of a fit from its `fit_state`; `load_head` uses it.

        Malformed facts raise KeyError, TypeError, ValueError and the like.

        Args:
            facts: the first part of a fit_state.
            arrays: the second part.
            gram: the matrix of the training inputs, if it exists already.

        Raises:
            ModelFileError: the arrays do not fit each other.
        """
        targets, alpha = arrays["y.npy"], arrays["alpha.npy"]
        shape, x = tuple(int(n) for n in facts["input_shape"]), arrays.get("x_train.npy")
        positions = tuple(facts.get("positions", ()))
        if positions != self._positions:
            raise ModelFileError(
                f"the kernel has positions {self._positions}, and that of the fit had {positions}"
            )
        if self.precomputed:
            fits = x is None and shape == (len(targets),)
        else:
            images, rest = divmod(len(targets), math.prod(positions))
            fits = x is not None and x.shape == (images, *shape) and not rest
        _require(fits and targets.ndim == 2 and alpha.shape == targets.shape)
        self.x_train_, self.targets_, self.alpha_ = x, targets, alpha
        self._set_input_shape(shape)
        names = facts.get("feature_names")
        _require(names is None or len(names) == shape[0])
        _require(names is None or all(isinstance(name, str) for name in names))
        self._set_feature_names(None if names is None else np.array(names, dtype=object))
        self.kernel_dtype_ = str(np.finfo(facts["kernel_dtype"]).dtype)
        value = facts["log_marginal_likelihood"]
        self.log_marginal_likelihood_value_ = math.nan if value is None else finite_number(value)
        self.solver_report_ = SolverReport.from_state(facts["solver_report"])
        self.jitter_report_ = CholeskyReport.from_state(facts["jitter_report"])
        stated, curve = check_noise_setting(self.noise_variance), facts.get("noise_curve")
        _require((stated is None) == (curve is not None))
        self._set_noise(stated, None if curve is None else NoiseCurve.from_state(curve))
        origin = Origin(self._saved_training(gram), self.solver, self._shift())
        system = SOLVERS[self.solver_report_.solver].system
        self.system_ = system.from_state(arrays, origin)
        rows, count = facts.get("inducing"), self.system_.basis
        self.inducing_, self.weights_ = None, alpha
        _require(("weights.npy" in arrays) == (rows is not None))
        if rows is not None:
            _require(isinstance(rows, list) and len(rows) == count == len(set(rows)))
            _require(all(type(row) is int and 0 <= row < len(targets) for row in rows))
            _require(arrays["weights.npy"].shape == (count, targets.shape[1]))
            self.inducing_ = np.array(rows, dtype=np.intp)
            self.weights_ = arrays["weights.npy"]
        _require(count == len(self.weights_))

    def probe(self) -> tuple[Any, Matrix]:
        """The kernel's values between a few inputs of the basis, and those that the fit had."""
        corner = self.system_.kernel_corner(PROBE, self._shift())
        return self._covariance(self._basis[: len(corner)]), corner

    @property
    def _factors(self) -> Vector | None:
        """Factors on kernel and noise of each output, [C]; None for 1."""
        if self._labels or self.noise_curve_ is None:
            return None
        return output_factors(self.targets_, self.alpha_)

    def _shift(self) -> float:
        """The sum of noise and jitter on the diagonal of A."""
        return self.noise_variance_ + self.jitter_report_.added


def _require(condition: bool) -> None:
    if not condition:
        raise ModelFileError("the arrays do not fit each other")
