"""Gaussian process classification as regression on targets in {-1, 1}, as in the paper."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score

from keras2gp._util.arrays import (
    Array,
    GramLike,
    Indices,
    InputsLike,
    LabelsLike,
    Matrix,
    NoiseLike,
    Vector,
    VectorLike,
)
from keras2gp._util.progress import Advance, Progress
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp.arguments.inputs import NOT_ADDED, check_length
from keras2gp.gp.arguments.kernel_function import KernelLike
from keras2gp.gp.arguments.labels import (
    check_label_setting,
    check_labels,
    check_probabilities,
    class_weights,
    targets_of,
)
from keras2gp.gp.arguments.positions import score_of_rows
from keras2gp.gp.arguments.rows import RowNoise
from keras2gp.gp.classification.calibration import Calibration
from keras2gp.gp.classification.dirichlet import fit_dirichlet
from keras2gp.gp.classification.labels import ClassLabels
from keras2gp.gp.classification.state import (
    class_state,
    class_weight_from_state,
    class_weight_state,
    restored_classes,
)
from keras2gp.gp.process.intercept import check_intercept, shifted_training
from keras2gp.gp.process.prior_mean import MeanWarning, has_mean
from keras2gp.gp.process.solving import FitProblem, Solution, solved, solved_with_intercept
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.system import SolverLike

__all__ = ["UNUSED_MEAN", "GPClassifier"]

_BY_MEANS = ("temperature", "linear")
"""Probabilities that are functions of means alone, and are fitted to labels that are left out."""
UNUSED_MEAN = (
    "the kernel's process has a mean, constants at the model's output, which a classification does "
    "not use: it is in the units of logits, and targets of -1 and 1 are not. Try: "
    "kernel.without_mean(), or GPRegressor, which takes the mean, with targets in its units"
)


class GPClassifier(ClassifierMixin, ClassLabels):  # type: ignore[misc]
    """Classification by exact regression: y_nc = 1 if input n is of class c, and -1 otherwise.

    The label is the class of the largest posterior mean. The prior mean is 0: a mean of the kernel
    (constants at the model's output) is one of logits, in whose units -1 and 1 are not, and it is
    left out with a MeanWarning.

    Args:
        kernel: kernel(x1, x2) -> [N1, N2] with kernel.diag(x) -> [N], such as keras2gp.convert
            gives; or "precomputed": X is then the matrix itself, [N, N] in fit and [M, N] in
            predict. Where the kernel has positions (segmentation, labels of a sequence) the process
            is over images at positions, each with a label: a fit takes a matrix of N P rows.
        noise_variance: "auto" for the least noise under which the labels, each left out, are as
            probable as under the best, within half a standard error, and 0 unless the best gains
            more than that and 2 nats (noise.choose_noise), or with probabilities="dirichlet", which
            has noises of its own; or the variance of the noise on the targets -1 and 1, in the
            units of the kernel: before the factor `scale_`.
        jitter: "auto" for 0, and more only if the matrix is singular, with a JitterWarning; or a
            number, relative to the mean of the kernel's diagonal.
        probabilities: "linear" for the softmax of a linear map of the posterior mean, under which
            leave-one-out predictions make the labels most probable, so that no data is held out;
            it is shrunk to "temperature" where they do not show more (linear_map.fit_linear_map);
            "temperature" for the softmax of the posterior mean at the temperature that suits the
            same predictions (probabilities.fit_temperature);
            "largest" for the probability that a class's latent value is the largest, under the
            posterior with the kernel scaled by `scale_`;
            "dirichlet" for another regression for each class, on the logarithms of Dirichlet
            variables (dirichlet.Transformation), and the expected softmax of its latent values;
            labels and decision values are then those of this regression.
        solver: "auto" for an exact one that fits the machine, "cholesky", "mixed", "tensorflow",
            "cg", "nystroem", "projected", or one of keras2gp.gp's solvers with settings.
        labels: "means" for the class of the largest posterior mean; or "probabilities", with
            probabilities="linear", for the most probable class, which can be another.
        class_weight: weights of the classes, {label: weight}, or "balanced" for the inverse of
            their frequencies, by which sample_weight is multiplied. Probabilities are fitted to the
            labels as they are, without weights.
        missing: "refuse", or "ignore" for labels that are NaN or None: these rows are left out.
        intercept: a variance that is added to the kernel, that of an intercept of each latent
            function; "auto" for the mean variance of the training inputs where labels that are left
            out gain by it (intercept.chosen_intercept), and 0 otherwise. A network of ReLUs without
            biases has none. It is 0 too where the probabilities are "largest" or "dirichlet".

    Attributes:
        classes_: labels, sorted, [C].
        temperature_: of the softmax; None unless it is used. It is fitted when it is first needed,
            by probabilities or a save, as is linear_map_: predicted labels do without.
        linear_map_: from means to logits; None unless it is used.
        dirichlet_: posterior of the Dirichlet regression; None unless it is used. Evidence,
            leave-one-out and `posterior` are of the regression on -1 and 1.
        x_train_: training inputs; None for a precomputed kernel.
        targets_: targets -1 and 1, [N, C].
        alpha_: A^-1 targets_, [N, C].
        basis_: inputs [B, ...] of the posterior mean k(x, basis_) weights_.
        weights_: weights of the basis, [B, C].
        factor_: Cholesky factor, of the direct solvers.
        noise_variance_: variance of the noise on the targets, before the factor scale_.
        noise_curve_: the noise variances that were tried, and the likelihood of each
            (noise.NoiseCurve); None where the noise is stated.
        solver_report_: solver, reason, memory and time.
        jitter_report_: jitter and pivots.
        log_marginal_likelihood_value_: natural logarithm, summed over classes, without the factor
            scale_.
        n_features_in_: number of features, if X has two axes.

    References:
        The paper, section 4; Rasmussen and Williams, section 6.5.

    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp import GPClassifier
    >>> x = np.array([[0.0], [0.2], [0.4], [2.0], [2.2], [2.4]])
    >>> gp = GPClassifier(RBF(1.0), noise_variance=0.1).fit(x, ["a"] * 3 + ["b"] * 3)
    >>> gp.predict([[0.1], [2.1]]).tolist()
    ['a', 'b']
    >>> bool((gp.predict_proba([[0.1], [2.1]]).max(axis=1) > 0.8).all())
    True
    """

    def __init__(
        self,
        kernel: KernelLike,
        noise_variance: NoiseLike = "auto",
        jitter: float | str = "auto",
        probabilities: str = "linear",
        solver: SolverLike = "auto",
        *,
        labels: str = "means",
        class_weight: Any = None,
        missing: str = "refuse",
        intercept: float | str = "auto",
    ) -> None:
        super().__init__(kernel, noise_variance, jitter, solver)
        self.probabilities = probabilities
        self.labels = labels
        self.class_weight = class_weight
        self.missing = missing
        self.intercept = intercept

    def fit(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        y: LabelsLike,
        gram: GramLike = None,
        progress: Progress | None = True,
        *,
        sample_weight: VectorLike = None,
    ) -> GPClassifier:
        """Fit to inputs and labels.

        Args:
            X: inputs.
            y: labels of any type.
            gram: the kernel matrix of X, if it exists already: an array, a store on disk (read
                block by block), or a MatrixProduct. With kernel="precomputed" it may replace X,
                which is None then. With solver="projected" also the covariances with its inducing
                inputs, of shape [N, M], whose rows solver.rows(N) gives.
            progress: True for a bar on a terminal's stderr while the kernel matrix is computed,
                from the third second on; False; or a function that is called with (steps done,
                steps in all) of the solver.
            sample_weight: the noise of a label's targets is divided by its weight; a label of
                weight 0 is left out.

        Shapes:
            X [N, features] or [N, *shape]; y [N]; gram [N, N]; sample_weight [N]. With positions
            y [N, *positions], sample_weight [N] or [N, *positions],
            and gram between all positions; in all predictions [M, *positions] stands for [M].

        Returns:
            The estimator itself.

        Raises:
            InputError: arrays that are empty, not finite or of different lengths; uint8 pixels;
                labels of a single class, or that are continuous; a matrix that does not fit.
            NumericalError: the kernel matrix is not positive definite.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> GPClassifier("precomputed").fit(np.eye(4), ["b", "a", "b", "a"]).classes_.tolist()
        ['a', 'b']
        """
        check_probabilities(self.probabilities)
        check_label_setting(self.labels, self.probabilities)
        check_intercept(self.intercept)
        training = self._training(X, gram)
        if has_mean(self.kernel):
            warnings.warn(UNUSED_MEAN, MeanWarning, stacklevel=2)
        weights = class_weights(self.class_weight, y, sample_weight)
        training, y, rows = self._observed(training, y, weights, outputs=False)
        labels = check_labels(y)
        check_length(training, labels, "labels")
        classes, index, targets = targets_of(labels)
        self._require_alike(rows.noise)
        self._fit_targets(training, X, targets, progress, rows)
        self._calibrate(classes, index)
        return self

    @property
    def intercept_(self) -> float:
        """The variance of the intercept that is added to the kernel; 0 where it has none.

        Raises:
            NotFittedError: the estimator is not fitted.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> GPClassifier("precomputed").fit(np.eye(4), [0, 1, 0, 1]).intercept_
        0.0
        """
        self._require_fitted()
        return self._intercept

    def _solution(self, problem: FitProblem, advance: Advance | None) -> tuple[Solution, float]:
        stated = check_intercept(self.intercept)
        if stated is None and self.probabilities in _BY_MEANS:
            return solved_with_intercept(problem, advance)
        variance = stated or 0.0
        if variance:
            problem = replace(problem, training=shifted_training(problem.training, variance))
        return solved(problem, advance), variance

    def _calibrate(self, classes: Vector, index: Indices) -> None:
        """Set what turns means into probabilities, by the column of each label."""
        self.classes_, kind = classes, self.probabilities
        self._calibration = Calibration(kind, known=kind not in _BY_MEANS)
        self.dirichlet_ = None
        if kind == "dirichlet":
            self.dirichlet_ = fit_dirichlet(self._direct_factor(), index, len(classes))
        if not self.system_.closed_form:
            _ = self._calibrated  # solves for hundreds of rows are work of a fit

    @property
    def _values(self) -> Vector:
        labels: Vector = self.classes_[self.targets_.argmax(axis=1)]
        return labels

    def _new_values(self, y: LabelsLike, rows: Any) -> Vector:
        return check_labels(y, NOT_ADDED)

    def _set_values(self, values: Vector, factor: CholeskyFactor, state: Any) -> None:
        classes, index, targets = targets_of(values)
        self._set_solution(targets, factor, state)
        self._calibrate(classes, index)

    def _require_alike(self, noise: RowNoise) -> None:
        if noise.relative is not None and self.probabilities == "dirichlet":
            raise InputError(
                'probabilities="dirichlet" gives every label a noise of its own, by its class: '
                'noises and weights of rows have no place there. Try: probabilities="linear"'
            )

    def _reason_for_no_noise(self) -> str:
        if self.probabilities == "dirichlet":
            return "a Dirichlet regression has noises of its own"
        return ""

    def _direct_factor(self) -> CholeskyFactor:
        if not isinstance(self.system_, CholeskyFactor):
            raise InputError(
                'probabilities="dirichlet" takes a Cholesky factor of the kernel matrix, which '
                f'solver "{self.solver_report_.solver}" has not got. Try: solver="cholesky"'
            )
        return self.system_

    def leave_one_out(self) -> tuple[Matrix, Vector]:
        """Mean [N, C] and variance [N] of each training target given all the others.

        In closed form; the variance is that of a target, with noise and jitter.

        Raises:
            NotFittedError: the estimator is not fitted.

        References:
            Rasmussen and Williams, equations 5.10 to 5.12.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier("precomputed", noise_variance=1.0)
        >>> gp.fit(3.0 * np.eye(4), [0, 1, 0, 1]).leave_one_out()[1]
        array([4., 4., 4., 4.])
        """
        mean, variance = self._leave_one_out()
        return self._of_all_rows(mean), self._of_all_rows(variance)

    def score(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        y: LabelsLike,
        sample_weight: VectorLike = None,
    ) -> float:
        """The share of labels that are predicted.

        Args:
            X: inputs.
            y: labels, as for `fit`.
            sample_weight: a weight for each input.

        Returns:
            The accuracy, with positions that of all positions together.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: an argument does not fit.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> GPClassifier("precomputed").fit(np.eye(2), ["a", "b"]).score(np.eye(2), ["a", "b"])
        1.0
        """
        return score_of_rows(
            accuracy_score, y, self.predict(X), sample_weight, self._positions, outputs=False
        )

    def settings_state(self) -> dict[str, Any]:
        """See FittedInputs.settings_state."""
        settings = super().settings_state()
        return {**settings, "class_weight": class_weight_state(settings["class_weight"])}

    @classmethod
    def settings_from_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """See FittedInputs.settings_from_state."""
        settings = super().settings_from_state(state)
        if "class_weight" in settings:  # earlier releases have none
            settings["class_weight"] = class_weight_from_state(settings["class_weight"])
        return settings

    def fit_state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See FittedInputs.fit_state."""
        facts, arrays = super().fit_state()
        own_facts, own_arrays = class_state(
            self.classes_, self._intercept, self._calibrated, self.dirichlet_
        )
        return facts | own_facts, arrays | own_arrays

    def restore_fit(
        self, facts: Mapping[str, Any], arrays: Mapping[str, Array], gram: GramLike
    ) -> None:
        """See FittedInputs.restore_fit."""
        check_probabilities(self.probabilities)
        check_label_setting(self.labels, self.probabilities)
        super().restore_fit(facts, arrays, gram)
        if check_intercept(self.intercept) not in (None, self._intercept):
            raise ModelFileError(f"an intercept of {self._intercept}, and {self.intercept} stated")
        self.classes_, self._calibration, self.dirichlet_ = restored_classes(
            facts, arrays, self.probabilities, self.targets_
        )
