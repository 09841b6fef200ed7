"""Likelihoods of labels: two classes, several, and ordered ones."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, log_expit, log_ndtr, log_softmax, ndtr, ndtri, softmax

from keras2gp._util.arrays import Array, Matrix, TargetsLike, Vector
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.arguments.labels import check_labels
from keras2gp.gp.laplace.base import LOG_ROOT, Likelihood, check_positive, classes_of

__all__ = ["Bernoulli", "Ordinal", "Softmax"]


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Two classes: the second has the probability 1 / (1 + exp(-f)).

    Attributes:
        name: "bernoulli".

    >>> import numpy as np
    >>> from keras2gp.gp import Bernoulli
    >>> Bernoulli().response(np.array([[0.0]]))
    array([[0.5, 0.5]])
    """

    name: ClassVar[str] = "bernoulli"
    classifies: ClassVar[bool] = True
    many_classes: ClassVar[bool] = False

    def observed(self, y: TargetsLike, variance: float) -> tuple[Likelihood, Array, Vector | None]:
        """See Likelihood.observed."""
        classes, index = classes_of(y)
        if len(classes) != 2:
            raise InputError(
                f'y holds {len(classes)} classes, and likelihood="bernoulli" is for two. Try: '
                'likelihood="softmax"'
            )
        return self, index.astype(np.float64), classes

    def value(self, f: Matrix, y: Array) -> Vector:
        """See Likelihood.value."""
        return np.asarray(log_expit((2.0 * y - 1.0) * f[:, 0]))

    def gradient(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.gradient."""
        return np.asarray(y[:, None] - expit(f))

    def weights(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.weights."""
        return np.asarray(expit(f) * expit(-f))

    def response(self, f: Matrix) -> Array:
        """See Likelihood.response."""
        return np.hstack([expit(-f), expit(f)])


@dataclass(frozen=True)
class Softmax(Likelihood):
    """R classes, a latent value for each: p_c = exp(f_c) / sum over c' of exp(f_c').

    Attributes:
        name: "softmax".

    >>> import numpy as np
    >>> from keras2gp.gp import Softmax
    >>> Softmax().response(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    name: ClassVar[str] = "softmax"
    classifies: ClassVar[bool] = True

    def observed(self, y: TargetsLike, variance: float) -> tuple[Likelihood, Array, Vector | None]:
        """See Likelihood.observed."""
        classes, index = classes_of(y)
        return self, index, classes

    def latents(self, classes: Vector | None) -> int:
        """See Likelihood.latents."""
        return 1 if classes is None else len(classes)

    def value(self, f: Matrix, y: Array) -> Vector:
        """See Likelihood.value."""
        result: Vector = log_softmax(f, axis=1)[np.arange(len(y)), y]
        return result

    def gradient(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.gradient."""
        result: Matrix = -softmax(f, axis=1)
        result[np.arange(len(y)), y] += 1.0
        return result

    def curvature(self, f: Matrix, y: Array) -> Callable[[Array], Array]:
        """See Likelihood.curvature: (diag p - p p^T) u of every input."""
        p = softmax(f, axis=1)

        def apply(u: Array) -> Array:
            weighted: Array = p.reshape(*p.shape, *[1] * (u.ndim - 2)) * u
            weighted -= p.reshape(*p.shape, *[1] * (u.ndim - 2)) * weighted.sum(1, keepdims=True)
            return weighted

        return apply

    def response(self, f: Matrix) -> Array:
        """See Likelihood.response."""
        return np.asarray(softmax(f, axis=1))


@dataclass(frozen=True)
class Ordinal(Likelihood):
    """Ordered classes: y is the interval between thresholds in which f + scale e lies.

    Args:
        scale: standard deviation of e, which is normal.
        thresholds: R - 1 numbers, ascending; None for those under which the prior gives every class
            its frequency.
        classes: the classes in their order, the lowest first; None for the order of their values.
            That of texts is the alphabet's, of which a fit warns.

    >>> import numpy as np
    >>> from keras2gp.gp import Ordinal
    >>> Ordinal(thresholds=(-1.0, 1.0)).response(np.zeros((1, 1))).round(3)
    array([[0.159, 0.683, 0.159]])
    """

    scale: float = 1.0
    thresholds: tuple[float, ...] | None = None
    classes: tuple[Any, ...] | None = None
    name: ClassVar[str] = "ordinal"
    classifies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)
        if self.thresholds is not None:
            steps = np.asarray(self.thresholds, dtype=np.float64)
            if steps.ndim != 1 or not np.isfinite(steps).all() or (np.diff(steps) <= 0.0).any():
                raise InputError(
                    f"thresholds is {received_text(self.thresholds)}: expected ascending numbers"
                )
            object.__setattr__(self, "thresholds", tuple(steps.tolist()))
        if self.classes is not None:
            values = check_labels(self.classes).tolist()
            if len(values) < 2 or len(set(values)) < len(values):
                raise InputError(
                    f"classes is {received_text(self.classes)}: expected two or more different "
                    "labels, in their order"
                )
            object.__setattr__(self, "classes", tuple(values))

    def observed(self, y: TargetsLike, variance: float) -> tuple[Likelihood, Array, Vector | None]:
        """See Likelihood.observed; classes are in their order."""
        classes, index = self._ordered(y)
        if self.thresholds is None:
            shares = np.cumsum(np.bincount(index))[:-1] / len(index)
            steps = ndtri(shares) * math.hypot(self.scale, math.sqrt(variance))
            told = replace(self, thresholds=tuple(steps.tolist()), classes=tuple(classes.tolist()))
            return told, index, classes
        if len(self.thresholds) != len(classes) - 1:
            raise InputError(
                f"{len(self.thresholds)} thresholds for {len(classes)} classes in y: expected "
                f"{len(classes) - 1}"
            )
        return replace(self, classes=tuple(classes.tolist())), index, classes

    def _ordered(self, y: TargetsLike) -> tuple[Vector, Array]:
        """The classes in their order, and the number of each label."""
        if self.classes is None:
            classes, index = classes_of(y)
            if isinstance(classes[0], str) and len(classes) > 2:
                order = ", ".join(map(str, classes[:20]))
                warnings.warn(
                    f"the classes are texts, and are taken in the order of the alphabet: {order}. "
                    "Try: numbers, or Ordinal(classes=(...)) with the lowest class first",
                    UserWarning,
                    stacklevel=4,
                )
            return classes, index
        places = {label: place for place, label in enumerate(self.classes)}
        labels = check_labels(y).tolist()
        if unknown := sorted(set(labels) - set(places), key=str):
            raise InputError(
                f"y holds {received_text(unknown[0])}, which is none of the classes "
                f"{received_text(self.classes)} of the likelihood"
            )
        index = np.array([places[label] for label in labels], dtype=np.intp)
        if self.thresholds is None and len(set(labels)) < len(places):
            lacking = next(label for label in self.classes if label not in set(labels))
            raise InputError(
                f"no row of y is of the class {received_text(lacking)}, so that its thresholds are "
                "not known. Try: thresholds, or classes without it"
            )
        return np.asarray(self.classes), index

    def value(self, f: Matrix, y: Array) -> Vector:
        """See Likelihood.value."""
        low, high = self._ends(f[:, 0], y)
        # Of two tails the one in which both are small keeps its digits.
        flip = low > 0.0
        low, high = np.where(flip, -high, low), np.where(flip, -low, high)
        top, bottom = log_ndtr(high), log_ndtr(low)
        with np.errstate(divide="ignore"):
            result: Vector = top + np.log(-np.expm1(bottom - top))
        return result

    def gradient(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.gradient."""
        low, high = (self._density(z, f, y) for z in self._ends(f[:, 0], y))
        result: Matrix = (low - high)[:, None] / self.scale
        return result

    def weights(self, f: Matrix, y: Array) -> Matrix:
        """See Likelihood.weights."""
        ends = self._ends(f[:, 0], y)
        low, high = (self._density(z, f, y) for z in ends)
        with np.errstate(invalid="ignore"):
            bends = [
                np.where(np.isfinite(z), z * d, 0.0) for z, d in zip(ends, (low, high), strict=True)
            ]
        result: Matrix = ((low - high) ** 2 - (bends[0] - bends[1]))[:, None] / self.scale**2
        return result

    def response(self, f: Matrix) -> Array:
        """See Likelihood.response."""
        steps = np.asarray(self.thresholds)
        below = ndtr((steps - f) / self.scale)
        ends = np.zeros((len(f), 1)), np.ones((len(f), 1))
        result: Array = np.diff(np.hstack([ends[0], below, ends[1]]), axis=1)
        return result

    def _ends(self, f: Vector, y: Array) -> tuple[Vector, Vector]:
        steps = np.concatenate([[-np.inf], np.asarray(self.thresholds), [np.inf]])
        return (steps[y] - f) / self.scale, (steps[y + 1] - f) / self.scale

    def _density(self, z: Vector, f: Matrix, y: Array) -> Vector:
        """The normal density at an end over the probability of the class."""
        result: Vector = np.exp(-0.5 * z**2 - LOG_ROOT - self.value(f, y))
        return result
