"""The labels of a classification: predicted and drawn, and draws of the latent values."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, InputsLike, Matrix, Vector
from keras2gp._util.checks import whole_number
from keras2gp._util.memory import require_memory
from keras2gp.gp.classification.posterior import ClassPosterior
from keras2gp.gp.process.posterior import require_finite
from keras2gp.gp.process.sampling import draw_classes, draw_jointly, random_generator

__all__ = ["ClassLabels"]


class ClassLabels(ClassPosterior):
    """Labels by the posterior of their latent values, and draws of both; see GPClassifier."""

    def labels_of(self, mean: Matrix) -> Vector:
        """The labels of posterior means [..., C], as `predict` gives them, [...].

        Args:
            mean: posterior means.

        Returns:
            Labels.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier("precomputed").fit(np.eye(4), ["a", "a", "b", "b"])
        >>> gp.labels_of(np.array([[0.1, 0.2], [0.4, 0.3]])).tolist()
        ['b', 'a']
        """
        labels: Vector = self.classes_[self._scores(mean).argmax(axis=-1)]
        return labels

    def _scores(self, mean: Matrix) -> Matrix:
        """Means, or with labels="probabilities" logits: the label is that of the largest."""
        linear = None if self.labels == "means" else self.linear_map_
        return mean if linear is None else require_finite(linear.logits(mean), "a logit")

    def decision_function(self, X: InputsLike) -> Array:  # noqa: N803 (scikit-learn's name)
        """Posterior means of the latent values: of each class, or of the second of two.

        With labels="probabilities" they are logits in place of means.

        For two classes it is positive where the second, `classes_[1]`, is predicted, as
        scikit-learn expects. `posterior` has the means of both.

        Args:
            X: inputs, [M, features] or [M, *shape].

        Returns:
            Decision values, [M, C]; the label is the class of the largest. For two classes [M]:
            half the difference of their means, which is the mean of the second.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier("precomputed", noise_variance=1.0).fit(np.eye(3), [1, 2, 3])
        >>> gp.decision_function([[1.0, 0.0, 0.0]])
        array([[ 0.5, -0.5, -0.5]])
        """
        means = self._scores(self._class_means(self._test_inputs(X)))
        values = means if len(self.classes_) > 2 else (means[:, 1] - means[:, 0]) / 2.0
        return self._by_position(values)

    def predict(self, X: InputsLike) -> Vector:  # noqa: N803 (scikit-learn's name)
        """The class of the largest posterior mean, or the most probable one (labels=), [M].

        Args:
            X: inputs, [M, features] or [M, *shape].

        Returns:
            Labels, [M].

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier("precomputed", noise_variance=1.0).fit(np.eye(3), [1, 2, 3])
        >>> gp.predict([[0.0, 1.0, 0.5]]).tolist()
        [2]
        """
        return self._by_position(self.labels_of(self._class_means(self._test_inputs(X))))

    def sample_latent(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        n_samples: int = 1,
        random_state: Any = 0,
    ) -> Array:
        """Draws from the joint posterior of the latent values at X, [M, C, n_samples].

        The distribution is that of `posterior`, with the kernel scaled by `scale_`, or with
        probabilities="dirichlet" that of `dirichlet_`.

        Args:
            X: inputs, [M, features] or [M, *shape].
            n_samples: number of draws.
            random_state: an integer, None, or a numpy RandomState, as in scikit-learn.

        Returns:
            Draws, [M, C, n_samples].

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs, or the memory does not suffice.
            NumericalError: the posterior covariance has an eigenvalue further below zero than
                rounding explains.

        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier(RBF(1.0)).fit([[0.0], [1.0], [2.0]], ["a", "b", "c"])
        >>> gp.sample_latent([[0.5], [3.0]], n_samples=5).shape
        (2, 3, 5)
        """
        return self._by_position(self._latent(self._test_inputs(X), n_samples, random_state))

    def _latent(self, x: InputsLike, n_samples: int, random_state: Any) -> Array:
        """Draws of the latent values of rows, [M, C, n_samples]."""
        if self.dirichlet_ is None:
            return self._samples(x, n_samples, random_state, self.scale_)
        n_samples, random = whole_number("n_samples", n_samples, 1), random_generator(random_state)
        prior = self._prior_covariance(x, n_samples)
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
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        n_samples: int = 1,
        random_state: Any = 0,
    ) -> Array:
        """Draws of the labels at X, [M, n_samples], with the probabilities of `predict_proba`.

        Math: "temperature" and "linear": y ~ softmax of `predict_proba`, each input on its own
              "largest": y = argmax f, f ~ `sample_latent`, jointly at all inputs
              "dirichlet": y ~ softmax(f), f ~ `sample_latent`, jointly at all inputs

        Args:
            X: inputs, [M, features] or [M, *shape].
            n_samples: number of draws.
            random_state: an integer, None, or a numpy RandomState, as in scikit-learn.

        Returns:
            Labels, [M, n_samples].

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: as `sample_latent`.
            NumericalError: as `sample_latent`.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier("precomputed").fit(np.eye(4), ["a", "a", "b", "b"])
        >>> gp.sample_y(np.eye(4)[:2], n_samples=3).shape
        (2, 3)
        """
        self._require_fitted()
        n_samples, random = whole_number("n_samples", n_samples, 1), random_generator(random_state)
        if self.temperature_ is not None or self.linear_map_ is not None:
            mean = self._class_means(self._test_inputs(X))
            linear, temperature = self.linear_map_, self.temperature_
            scores = mean / temperature if linear is None else linear.logits(mean)
            require_memory(
                32 * scores.size * n_samples, f"{n_samples} samples", "fewer samples at a time"
            )
            columns = draw_classes(np.repeat(scores[:, :, None], n_samples, axis=2), random)
        else:
            latent = self._latent(self._test_inputs(X), n_samples, random)
            exact = self.dirichlet_ is None
            columns = latent.argmax(axis=1) if exact else draw_classes(latent, random)
        return self._by_position(self.classes_[columns])
