"""Gaussian processes under any likelihood: the mode of the latent values, Laplace variances."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import ClassifierTags, RegressorTags
from sklearn.utils.metaestimators import available_if

from keras2gp._util.arrays import Array, GramLike, InputsLike, Matrix, TargetsLike, VectorLike
from keras2gp._util.checks import truth
from keras2gp._util.progress import Progress, bars_inside
from keras2gp.errors import InputError
from keras2gp.gp.arguments.inputs import check_length, feature_names
from keras2gp.gp.arguments.kernel_function import (
    KernelLike,
    check_kernel,
    check_unused_variances,
    check_variances,
)
from keras2gp.gp.arguments.positions import positions_of, score_of_rows
from keras2gp.gp.laplace.mode import find_mode
from keras2gp.gp.laplace.saved_state import SavedLaplace, likelihood_of
from keras2gp.gp.process.posterior import require_finite
from keras2gp.gp.solvers.products import TiledProduct
from keras2gp.gp.solvers.system import PROBE
from keras2gp.gp.solvers.training_of import training_of

__all__ = ["GPLaplace"]


def _has_classes(estimator: GPLaplace) -> bool:
    """True of an estimator of labels.

    Raises:
        InputError: it is one of numbers, which scikit-learn turns into an AttributeError.
    """
    likelihood = likelihood_of(estimator.likelihood)
    if not likelihood.classifies:
        raise InputError(f'likelihood "{likelihood.name}" has no classes. Try: predict, or latent')
    return True


class GPLaplace(SavedLaplace):
    """Counts, classes, ordered classes, outliers and censored targets under a Gaussian process.

    The latent values f have the prior of the kernel, and the observations a likelihood p(y | f).
    The most probable f is found by Newton's method, and the posterior taken as the Gaussian with
    that mean and the curvature there (the Laplace approximation). The mode is exact to the
    tolerance; the variance is an approximation.

    Only products with the kernel matrix are taken, so that it may lie in a store on disk or be any
    MatrixProduct. A fit takes some tens to hundreds of them, and a variance as many for each batch
    of inputs: means are cheap.

    Math: f = argmax sum_n log p(y_n | f_n) - (f - m)^T K^-1 (f - m) / 2;  a = K^-1 (f - m)
        mean = m + K* a;  variance = diag K** - diag K* (K + W^-1)^-1 K*^T
        W minus the second derivative of log p(y | f)

    Args:
        kernel: kernel(x1, x2) -> [N1, N2] with kernel.diag(x) -> [N], such as keras2gp.convert
            gives; or "precomputed".
        likelihood: "bernoulli", "softmax", "poisson", "student", "tobit", "ordinal", or an object
            such as StudentT(df=4.0, scale=0.1), which has their parameters.
        prior_mean: m, of every latent value.
        tolerance: bound on the largest entry of the gradient, relative to that of log p, or to 1;
            and on the relative residual of a variance's solve.
        max_iterations: bound on the Newton steps; a variance may take 50 times as many products.

    Attributes:
        x_train_: training inputs; None for a precomputed kernel.
        targets_: the observations as numbers, [N]; of labels the numbers of their classes.
        likelihood_: with what it took from the data.
        classes_: labels, sorted; None where observations are numbers.
        alpha_: a, [N, C].
        latent_: f at the training inputs, [N, C].
        mode_: the course of the search: steps, products, residual (laplace.mode.Mode).
        n_features_in_: number of features, if X has two axes.

    References:
        Rasmussen and Williams, sections 3.4 and 3.5.

    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp.gp import GPLaplace
    >>> x = np.linspace(0.0, 3.0, 30)[:, None]
    >>> counts = np.random.default_rng(0).poisson(np.exp(1.0 + np.sin(2.0 * x[:, 0])))
    >>> gp = GPLaplace(RBF(1.0), "poisson", prior_mean=1.0).fit(x, counts)
    >>> rates = gp.predict([[0.8], [2.4]])
    >>> bool(rates[0] > 4.0 > 2.0 > rates[1])
    True
    """

    def __init__(
        self,
        kernel: KernelLike,
        likelihood: Any = "softmax",
        prior_mean: float = 0.0,
        tolerance: float = 1e-9,
        max_iterations: int = 100,
    ) -> None:
        self.kernel = kernel
        self.likelihood = likelihood
        self.prior_mean = prior_mean
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        likelihood = likelihood_of(self.likelihood)
        classifies, many = likelihood.classifies, likelihood.many_classes
        tags.estimator_type = "classifier" if classifies else "regressor"
        tags.classifier_tags = ClassifierTags(multi_class=many) if classifies else None
        tags.regressor_tags = None if classifies else RegressorTags()
        tags.target_tags.required = True
        return tags

    def fit(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        y: TargetsLike,
        gram: GramLike = None,
        progress: Progress | None = True,
    ) -> GPLaplace:
        """Find the most probable latent values.

        Args:
            X: inputs.
            y: counts, numbers or labels, as the likelihood has them.
            gram: the kernel matrix of X, if it exists already: an array, a store on disk, or a
                MatrixProduct. With kernel="precomputed" it may replace X, which is None then.
            progress: True for a bar on a terminal's stderr while the kernel matrix is computed,
                from the third second on; False; or a function that is called with (Newton steps
                done, bound on them).

        Shapes:
            X [N, features] or [N, *shape]; y [N]; gram [N, N].

        Returns:
            The estimator itself.

        Raises:
            InputError: arguments do not fit; observations that the likelihood does not have.
            NumericalError: the mode is not found to the tolerance.
        """
        check_kernel(self.kernel)
        likelihood = likelihood_of(self.likelihood)
        self._check_settings()
        positions = () if self.precomputed else positions_of(self.kernel)
        if positions:
            raise InputError(
                f"the kernel's output has positions {positions}, and each latent value here is one "
                "of an input. Try: kernel.at(position), with the observations there"
            )
        training = training_of(self.kernel, self._inputs_beside(X, gram), gram)
        names, images = feature_names(X), training.x
        prior = check_variances(training.diagonal(), len(training), "the diagonal of the kernel")
        likelihood, observed, classes = likelihood.observed(y, float(prior.mean()))
        check_length(training, observed, "labels" if classes is not None else "targets")
        latents = likelihood.latents(classes)
        held = TiledProduct.memory(len(training)) + 8 * len(training) * 8 * latents
        training.require(held, "Newton's method", "fewer training inputs, or a gram on disk")
        with bars_inside(progress) as advance:
            product = training.product()
        mode = find_mode(
            product.product,
            likelihood,
            observed,
            latents,
            prior_mean=float(self.prior_mean),
            tolerance=float(self.tolerance),
            max_steps=self.max_iterations,
            progress=advance,
        )
        self.x_train_ = None if images is None else np.array(images)
        self.likelihood_, self.classes_, self.mode_ = likelihood, classes, mode
        self.alpha_, self.latent_ = mode.weights, mode.latent + float(self.prior_mean)
        self._matrix: Any = product
        self.targets_ = observed
        self._corner = product.corner(range(min(PROBE, len(training))))
        self._set_input_shape((len(training),) if images is None else images.shape[1:])
        self._set_feature_names(names)
        return self

    def predict(self, X: InputsLike) -> Array:  # noqa: N803 (scikit-learn's name)
        """The prediction at the mean of the latent values, [M].

        The most probable class; of counts the rate exp(f), which is the median of its posterior;
        of other numbers f itself.

        Args:
            X: inputs.

        Returns:
            Labels or numbers.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs.

        >>> import numpy as np
        >>> from keras2gp.gp import GPLaplace
        >>> gp = GPLaplace("precomputed").fit(4.0 * np.eye(3), ["a", "b", "b"])
        >>> gp.predict(4.0 * np.eye(3)).tolist()
        ['a', 'b', 'b']
        """
        mean = self._mean(self._new_inputs(X))
        response = self.likelihood_.response(mean)
        if self.classes_ is None:
            return require_finite(response, "a prediction")
        labels: Array = self.classes_[response.argmax(axis=1)]
        return labels

    def score(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        y: TargetsLike,
        sample_weight: VectorLike = None,
    ) -> float:
        """The share of labels that are predicted, or of numbers R^2, 1 for perfect predictions.

        Args:
            X: inputs.
            y: labels or numbers, as for `fit`.
            sample_weight: a weight for each input.

        Returns:
            The accuracy, or the coefficient of determination.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: an argument does not fit.

        >>> import numpy as np
        >>> from keras2gp.gp import GPLaplace
        >>> gp = GPLaplace("precomputed").fit(4.0 * np.eye(3), ["a", "b", "b"])
        >>> gp.score(4.0 * np.eye(3), ["a", "b", "a"]) == 2 / 3
        True
        """
        predicted = self.predict(X)
        metric = r2_score if self.classes_ is None else accuracy_score
        return score_of_rows(metric, y, predicted, sample_weight, (), outputs=False)

    @available_if(_has_classes)  # type: ignore[untyped-decorator]
    def predict_proba(
        self,
        X: InputsLike,  # noqa: N803
        averaged: bool = False,
        diag: VectorLike = None,
    ) -> Matrix:
        """Probability of each class, [M, R]; rows sum to 1.

        Args:
            X: inputs.
            averaged: the mean over the posterior of the latent value, in place of the value at its
                mean; for one latent value (bernoulli, ordinal). Averages are less certain.
            diag: the prior variances k(x, x), [M], for averages with a precomputed kernel.

        Returns:
            Probabilities, in the order of `classes_`.

        Raises:
            NotFittedError: the estimator is not fitted.
            AttributeError: the likelihood has no classes: there is no such method.
            InputError: the likelihood has several latent values to average over.
            NumericalError: as `latent`.

        >>> import numpy as np
        >>> from keras2gp.gp import GPLaplace
        >>> gp = GPLaplace("precomputed", "bernoulli").fit(4.0 * np.eye(2), ["a", "b"])
        >>> gp.predict_proba([[0.0, 0.0]])
        array([[0.5, 0.5]])
        """
        x = self._new_inputs(X)
        if not truth("averaged", averaged):
            check_unused_variances(self.kernel, x, diag)
            return self.likelihood_.response(self._mean(x))
        if self.alpha_.shape[1] > 1:
            raise InputError(
                "the latent values of several classes depend on each other, and averages over them "
                "have no closed form here. Try: averaged=False, or draws of latent(return_std=True)"
            )
        mean, std = self.latent(X, return_std=True, diag=diag)
        nodes, weights = np.polynomial.hermite_e.hermegauss(100)
        values = mean[:, None] + std[:, None] * nodes
        responses = self.likelihood_.response(values.reshape(-1, 1))
        shares = weights / weights.sum()
        averages: Matrix = np.einsum("mqr,q->mr", responses.reshape(*values.shape, -1), shares)
        return averages

    def probe(self) -> tuple[Any, Matrix]:
        """The kernel's values between a few training inputs, and those that the fit had."""
        images: Any = self.x_train_
        return self.kernel(images[: len(self._corner)]), self._corner
