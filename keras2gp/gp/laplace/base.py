"""Likelihoods of observations given latent values: the interface of all, and checks of data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import column_or_1d

from keras2gp._util.arrays import Array, Matrix, TargetsLike, Vector
from keras2gp._util.checks import is_number
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.arguments.inputs import check_targets
from keras2gp.gp.arguments.labels import check_labels

__all__ = ["LOG_ROOT", "Likelihood", "check_positive", "classes_of", "numbers_of"]

LOG_ROOT = 0.5 * math.log(2.0 * math.pi)


class Likelihood:
    """log p(y | f) of every observation: its value, gradient and curvature in the latent values f.

    A subclass gives `observed`, `value` and `gradient`, and `weights`, or `curvature` where an
    input has several latent values. It gives `response` where the prediction is not f.

    Attributes:
        name: by which an estimator's setting asks for it.
        classifies: whether observations are labels.
        many_classes: whether labels may be of more than two classes.
    """

    name: ClassVar[str]
    classifies: ClassVar[bool] = False
    many_classes: ClassVar[bool] = True

    def observed(self, y: TargetsLike, variance: float) -> tuple[Likelihood, Array, Vector | None]:
        """The likelihood with all that it takes from the data, the observations, and the classes.

        Loading a fit calls it again, on the likelihood of the fit, and expects the same results.

        Args:
            y: targets or labels as `fit` received them.
            variance: the mean prior variance of the latent values.

        Returns:
            The likelihood; the observations as numbers, [N]; the classes [R], or None.

        Raises:
            NotImplementedError: always; subclasses raise an InputError for wrong observations.
        """
        raise NotImplementedError

    def latents(self, classes: Vector | None) -> int:
        """The number of latent values of an input, C.

        Args:
            classes: the classes [R], or None.

        Returns:
            The number.
        """
        return 1

    def value(self, f: Matrix, y: Array) -> Vector:
        """log p(y | f) of every observation.

        Args:
            f: latent values, [N, C].
            y: observations, [N].

        Returns:
            Natural logarithms, [N].

        Raises:
            NotImplementedError: always, here.
        """
        raise NotImplementedError

    def gradient(self, f: Matrix, y: Array) -> Matrix:
        """The derivative of the value in f.

        Args:
            f: latent values, [N, C].
            y: observations, [N].

        Returns:
            Derivatives, [N, C].

        Raises:
            NotImplementedError: always, here.
        """
        raise NotImplementedError

    def weights(self, f: Matrix, y: Array) -> Matrix:
        """Minus the second derivative in f, where there is one latent value.

        Args:
            f: latent values, [N, 1].
            y: observations, [N].

        Returns:
            Curvatures, [N, 1].

        Raises:
            NotImplementedError: always, here.
        """
        raise NotImplementedError

    def curvature(self, f: Matrix, y: Array) -> Callable[[Array], Array]:
        """The product u -> W u, W minus the second derivative of the value.

        Args:
            f: latent values, [N, C].
            y: observations, [N].

        Returns:
            A function of u, [N, C, ...], whose result has the same shape.
        """
        w = self.weights(f, y)
        return lambda u: w.reshape(len(w), *[1] * (u.ndim - 1)) * u

    def response(self, f: Matrix) -> Array:
        """The prediction for inputs with these latent values.

        Args:
            f: latent values, [M, C].

        Returns:
            A number for each, [M], or probabilities of the classes, [M, R].
        """
        return f[:, 0]


def check_positive(name: str, value: Any) -> None:
    """Refuse a setting that is no positive, finite number with an InputError."""
    if not is_number(value) or not 0.0 < value < math.inf:
        raise InputError(f"{name} is {received_text(value)}: expected a positive, finite number")


def numbers_of(y: TargetsLike) -> Vector:
    """Targets as finite numbers, [N]; InputError for any others."""
    targets = check_targets(y)
    if targets.ndim == 2 and targets.shape[1] != 1:
        raise InputError(
            f"y has shape {targets.shape}: expected one target for each input, [N]. Try: a fit for "
            "each column"
        )
    column: Vector = column_or_1d(targets, warn=True)
    return column


def classes_of(y: TargetsLike) -> tuple[Vector, Array]:
    """The classes of labels, sorted, and the number of each label; InputError for one class."""
    classes, index = np.unique(check_labels(y), return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"y holds one class, {received_text(classes[0])}: expected at least two")
    return classes, index
