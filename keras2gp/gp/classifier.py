"""Gaussian process classification as regression on targets in {-1, 1}, as in the paper."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state

from keras2gp._util.arrays import Array
from keras2gp._util.checks import whole_number
from keras2gp.errors import InputError
from keras2gp.gp.base import GaussianProcess
from keras2gp.gp.calibration import fit_temperature, tempered_softmax
from keras2gp.gp.dirichlet import DirichletPosterior, fit_dirichlet
from keras2gp.gp.inputs import check_labels, check_length
from keras2gp.gp.probability import largest_probabilities
from keras2gp.gp.sampling import draw_classes, draw_jointly
from keras2gp.gp.softmax import expected_softmax
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.matrices import Progress

__all__ = ["PROBABILITIES", "GPClassifier", "Prediction", "check_probabilities"]

# One number is set by them: an error rate of 2% among so many is known to half a percent.
_CALIBRATED = 1024
PROBABILITIES = ("temperature", "largest", "dirichlet")
"""How probabilities are made of the posterior; the first is the default."""


class Prediction(NamedTuple):
    """What is predicted of M inputs: mean [M, C], variance [M], probability [M, C]."""

    mean: Array
    variance: Array
    probability: Array


class GPClassifier(ClassifierMixin, GaussianProcess):  # type: ignore[misc]
    """Classification by exact regression: y_nc = 1 if input n is of class c, and -1 otherwise.

    The label is the class of largest posterior mean. Reference: the paper, section 4.

    kernel:         kernel(x1, x2) -> [N1, N2] with kernel.diag(x) -> [N], such as
                    keras2gp.convert gives; or "precomputed": X is then the matrix itself, [N, N]
                    in fit and [M, N] in predict
    noise_variance: variance of the noise on the targets
    jitter:         "auto": 0, and more only if the matrix is singular, with a JitterWarning; or
                    a number, relative to the mean of the kernel's diagonal
    probabilities:  "temperature": softmax of the posterior mean, at the temperature under which
                    leave-one-out predictions make the labels most probable, so that no data is
                    held out (calibration.fit_temperature);
                    "largest": the probability that a class's latent value is the largest, under
                    the posterior with the kernel scaled by `scale_`;
                    "dirichlet": another regression for each class, on the logarithms of Dirichlet
                    variables (dirichlet.Transformation), and the softmax of its latent values,
                    averaged; labels and decision values are then those of this regression
    solver:         "auto" for an exact one that fits the machine, "cholesky", "tensorflow", "cg",
                    "nystroem", or one of keras2gp.gp's solvers with settings

    Attributes after fit: classes_ [C], sorted; temperature_ and dirichlet_ (None unless they are
    used; evidence, leave-one-out and `posterior` are of the regression on -1 and 1); x_train_,
    targets_ [N, C], alpha_ [N, C], solver_report_, basis_ and weights_ (mean = k(x, basis_)
    weights_), factor_ of the direct solvers, jitter_report_, log_marginal_likelihood_value_,
    n_features_in_ if X has two axes.
    """

    classes_: npt.NDArray[Any]
    temperature_: float | None
    dirichlet_: DirichletPosterior | None

    def __init__(
        self,
        kernel: Any,
        noise_variance: float = 0.0,
        jitter: float | str = "auto",
        probabilities: str = "temperature",
        solver: Any = "auto",
    ) -> None:
        super().__init__(kernel, noise_variance, jitter, solver)
        self.probabilities = probabilities

    def fit(
        self,
        X: Any,  # noqa: N803 (scikit-learn's name)
        y: Any,
        gram: Any = None,
        progress: Progress | None = None,
    ) -> GPClassifier:
        """Fit to inputs X, [N, features] or [N, *shape], and labels y, [N], of any type.

        gram:     the kernel matrix of X, if it is there already: an array, a store on disk
                  (read block by block), or a MatrixProduct. With kernel="precomputed" in the
                  place of X, which is None then
        progress: called with (steps done, steps in all) of the solver

        Raises:
            InputError: arrays that are empty, not finite or of different lengths; uint8 pixels;
                labels of a single class, or that are continuous; a matrix that does not fit.
            NumericalError: the kernel matrix is not positive definite.
        """
        check_probabilities(self.probabilities)
        training = self._training(X, gram)
        labels = check_labels(y)
        check_length(training, labels, "labels")
        classes, index = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InputError(
                f"y holds one class, {classes[0]!r}: a classifier needs at least two classes"
            )
        targets = np.full((len(labels), len(classes)), -1.0)
        targets[np.arange(len(labels)), index] = 1.0
        self._fit_targets(training, targets, progress)
        self.classes_ = classes
        self.temperature_ = None
        if self.probabilities == "temperature":
            rows = self._calibration_rows()
            self.temperature_ = fit_temperature(self._leave_one_out(rows)[0], index[rows])
        self.dirichlet_ = None
        if self.probabilities == "dirichlet":
            self.dirichlet_ = fit_dirichlet(self._direct_factor(), index, len(classes))
        return self

    def _direct_factor(self) -> CholeskyFactor:
        if not isinstance(self.system_, CholeskyFactor):
            raise InputError(
                'probabilities="dirichlet" takes a Cholesky factor of the kernel matrix, which '
                f'solver "{self.solver_report_.solver}" has not got. Try: solver="cholesky"'
            )
        return self.system_

    def _calibration_rows(self) -> npt.NDArray[np.intp]:
        """Training inputs whose leave-one-out predictions set the temperature: all, if cheap."""
        count = len(self.targets_)
        if self.system_.closed_form or count <= _CALIBRATED:
            return np.arange(count)
        return np.sort(np.random.default_rng(0).permutation(count)[:_CALIBRATED])

    def decision_function(self, X: Any) -> Array:  # noqa: N803 (scikit-learn's name)
        """Posterior mean of each class's latent value, [M, C], for two classes as well.

        Raises: InputError, NotFittedError
        """
        x = self._test_inputs(X)
        if self.dirichlet_ is None:
            return self._mean(x)
        parts = [self.dirichlet_.mean(self._cross(x[rows])) for rows in self._batches(len(x))]
        return np.concatenate(parts)

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803 (scikit-learn's name)
        """The class of largest posterior mean, [M].

        Raises: InputError, NotFittedError
        """
        columns = self.decision_function(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[columns]
        return labels

    @property
    def scale_(self) -> float:
        """The factor on kernel and noise under which the targets are most probable.

        The scale of a network's kernel is that of its last layer's weights, which says nothing of
        targets in {-1, 1}; it leaves the means alone, and the variances are in proportion to it.
        The evidence is largest at trace(Y^T K^-1 Y) / (N C).

        Reference: Rasmussen and Williams, equation 5.8, solved for a factor on K.
        """
        targets: Array = self.targets_
        return float(np.einsum("nc,nc->", targets, self.alpha_) / targets.size)

    def posterior(self, X: Any, diag: Any = None) -> tuple[Array, Array]:  # noqa: N803
        """Mean [M, C] and variance [M] of the latent values, the kernel scaled by `scale_`.

        The classes are independent and share the variance. diag: the prior variances k(x, x),
        [M], for a precomputed kernel.

        Raises: InputError, NotFittedError; NumericalError if a variance lies further below zero
            than rounding explains (precision.rounding_bound).
        """
        mean, variance = self._mean_and_variance(self._test_inputs(X), diag)
        return mean, self.scale_ * variance

    def predict_proba(self, X: Any, diag: Any = None) -> Array:  # noqa: N803
        """Probability of each class, [M, C]; rows sum to 1.

        Math: "temperature": softmax(mean / temperature_)
              "largest": P(f_c > f_c' for all c' != c), f ~ `posterior`, exactly
                (`largest_probabilities` has the integral); 1 for the class of largest mean where
                the variance is 0
              "dirichlet": E[softmax(f)], f ~ `dirichlet_` (`expected_softmax` has the integral);
                the most probable class can be another than that of the largest mean

        diag: the prior variances k(x, x), [M], for a precomputed kernel; not for "temperature".

        Raises: as `posterior`.
        """
        x = self._test_inputs(X)
        if self.temperature_ is not None:
            return tempered_softmax(self._mean(x), self.temperature_)
        return self.predictive(x, diag).probability

    def predictive(self, X: Any, diag: Any = None) -> Prediction:  # noqa: N803
        """Mean, variance and probabilities, with the kernel evaluated once.

        "dirichlet": mean and variance of `dirichlet_`, the variance averaged over classes.

        Raises: as `posterior`.
        """
        x = self._test_inputs(X)
        if self.dirichlet_ is not None:
            return self._dirichlet_predictive(self.dirichlet_, x, diag)
        mean, variance = self.posterior(x, diag)
        if self.temperature_ is not None:
            return Prediction(mean, variance, tempered_softmax(mean, self.temperature_))
        return Prediction(mean, variance, largest_probabilities(mean, np.sqrt(variance)))

    def _dirichlet_predictive(
        self, dirichlet: DirichletPosterior, x: npt.NDArray[Any], diag: Any
    ) -> Prediction:
        prior = self._prior(x, diag)
        means, variances = [], []
        for rows in self._batches(len(x)):
            cross = self._cross(x[rows])
            means.append(dirichlet.mean(cross))
            variances.append(dirichlet.variance(cross, prior[rows]))
        mean, variance = np.concatenate(means), np.concatenate(variances)
        return Prediction(mean, variance.mean(axis=1), expected_softmax(mean, variance))

    def sample_latent(
        self,
        X: Any,  # noqa: N803 (scikit-learn's name)
        n_samples: int = 1,
        random_state: Any = 0,
    ) -> Array:
        """Draws from the joint posterior of the latent values at X, [M, C, n_samples].

        They are of `posterior`, the kernel scaled by `scale_`; "dirichlet": of `dirichlet_`.

        random_state: an integer, None, or a numpy RandomState, as in scikit-learn

        Raises: InputError, NotFittedError; NumericalError if the posterior covariance has an
            eigenvalue further below zero than rounding explains.
        """
        x = self._test_inputs(X)
        if self.dirichlet_ is None:
            return self._samples(x, n_samples, random_state, self.scale_)
        whole_number("n_samples", n_samples, 1)
        random = check_random_state(random_state)
        prior = self._prior_covariance(x)
        cross, bound = self._cross(x), self._bound(np.diagonal(prior))
        mean, dirichlet = self.dirichlet_.mean(cross), self.dirichlet_
        bound *= dirichlet.transformation.scale
        draws = np.empty((len(x), mean.shape[1], n_samples))
        for c, covariance in enumerate(dirichlet.covariances(cross, prior)):
            part = draw_jointly(mean[:, c : c + 1], covariance, n_samples, bound, random)
            draws[:, c] = part[:, 0]
        return draws

    def sample_y(
        self,
        X: Any,  # noqa: N803 (scikit-learn's name)
        n_samples: int = 1,
        random_state: Any = 0,
    ) -> npt.NDArray[Any]:
        """Draws of the labels at X, [M, n_samples]; each label as often as `predict_proba` says.

        Math: "temperature": y ~ softmax(mean / temperature_), each input on its own
              "largest": y = argmax f, f ~ `sample_latent`, jointly at all inputs
              "dirichlet": y ~ softmax(f), f ~ `sample_latent`, jointly at all inputs

        Raises: as `sample_latent`; for "temperature" as `predict_proba`.
        """
        self._require_fitted()
        whole_number("n_samples", n_samples, 1)
        random = check_random_state(random_state)
        if self.temperature_ is not None:
            scores = self.decision_function(X) / self.temperature_
            columns = draw_classes(np.repeat(scores[:, :, None], n_samples, axis=2), random)
        else:
            latent = self.sample_latent(X, n_samples, random)
            exact = self.dirichlet_ is None
            columns = latent.argmax(axis=1) if exact else draw_classes(latent, random)
        labels: npt.NDArray[Any] = self.classes_[columns]
        return labels

    def leave_one_out(self) -> tuple[Array, Array]:
        """Decision values [N, C] for each training input given all the others, and variance [N].

        In closed form; the variance is that of a target, noise (and jitter) included.

        Raises: NotFittedError

        Reference: Rasmussen and Williams, equations 5.10 to 5.12.
        """
        return self._leave_one_out()


def check_probabilities(probabilities: Any) -> None:
    """Refuse what is not one of PROBABILITIES.

    Raises: InputError
    """
    if probabilities not in PROBABILITIES:
        names = ", ".join(f'"{name}"' for name in PROBABILITIES)
        raise InputError(f"probabilities is {probabilities!r}: expected one of {names}")
