"""Scores of strange inputs: how far an input is from those of the fit, and what a score detects.

No score suffices alone. A network of ReLUs without biases is homogeneous: its variance follows the
squared norm of an input, so that a dimmed or blank image has a small one.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from keras2gp._util.arrays import Array, Images, InputsLike, Vector, VectorLike
from keras2gp.errors import InputError

__all__ = [
    "SCORES",
    "InputRange",
    "RangeWarning",
    "ood_scores",
    "out_of_distribution_auroc",
    "scores_of",
]

SCORES = {
    "variance": "posterior variance",
    "relative_variance": "posterior variance / prior variance",
    "uncertainty": "1 - largest probability",
    "norm": "distance of the input's norm from those of the training inputs",
    "outside": "distance from the range of the training inputs",
}
"""Every score, and what it is. Of each, larger is stranger."""

_FAR, _FAR_IN_A_TABLE = 1.0, 10.0
"""Distances from the range, in units of it, above which an input is warned of: predictions between
and somewhat beyond the rows of a table are usual."""
_FAINT = 0.1
"""A norm below this part of the smallest training norm is warned of."""
_FEW = 2
"""Numbers of an input up to which it is no sign of anything to be faint: inputs fill a line or a
plane up to 0, and of D numbers one in 10^D is as faint by chance. There the range decides."""


class RangeWarning(UserWarning):
    """Inputs of a prediction lie far outside the range of the training inputs."""


@dataclass(frozen=True, eq=False)
class InputRange:
    """The range of training inputs and of their norms.

    Attributes:
        low: the smallest values: of each feature of a table, and otherwise one for all pixels.
        high: the largest values.
        width: the width of the range; of a feature that is constant, the largest of all.
        norm: mean, standard deviation and smallest of the inputs' Euclidean norms.
    """

    low: Vector
    high: Vector
    width: Vector
    norm: tuple[float, float, float]

    @classmethod
    def of(cls, x: InputsLike) -> InputRange | None:
        """The range of inputs; None for text, and where there are no inputs.

        Args:
            x: training inputs, [N, features] or [N, *shape], or None.

        Returns:
            The range.
        """
        if x is None or x.dtype.kind != "f":
            return None
        axes = 0 if x.ndim == 2 else None
        low, high = np.atleast_1d(x.min(axis=axes)), np.atleast_1d(x.max(axis=axes))
        low, high = low.astype(np.float64), high.astype(np.float64)
        width = high - low
        scale = max(float(width.max()), float(np.abs(high).max()) * 1e-6) or 1.0
        norms = _norms(x)
        return cls(
            low,
            high,
            np.where(width > 0.0, width, scale),
            (float(norms.mean()), float(norms.std()), float(norms.min())),
        )

    def outside(self, x: Images) -> Vector:
        """The largest distance of an input's values from the range, in units of its width, [M].

        Args:
            x: inputs, [M, *shape].

        Returns:
            Distances, 0 within the range.
        """
        values = x.reshape(len(x), -1).astype(np.float64)
        beyond = np.maximum(self.low - values, values - self.high) / self.width
        result: Vector = np.maximum(beyond.max(axis=1), 0.0)
        return result

    def far_norm(self, x: Images) -> Vector:
        """|norm - mean| / standard deviation, with the norms of the training inputs, [M].

        Args:
            x: inputs, [M, *shape].

        Returns:
            Distances of the norms.
        """
        mean, deviation, _ = self.norm
        result: Vector = np.abs(_norms(x) - mean) / (max(deviation, 1e-3 * mean) or 1.0)
        return result

    def _leaves(self, x: Images) -> bool:
        """Whether any value is far outside, found out without an array of the size of x."""
        axes = 0 if x.ndim == 2 else None
        below, above = self.low - x.min(axis=axes), x.max(axis=axes) - self.high
        return bool((np.maximum(below, above) > _far(x) * self.width).any())

    def _numbers(self, x: Images) -> int:
        """How many numbers of an input vary: the features of a table, or all pixels."""
        varied = np.count_nonzero(self.high > self.low)
        return int(varied) if x.ndim == 2 else math.prod(x.shape[1:])

    def warning(self, x: Images) -> str:
        """A sentence on the inputs that lie far outside the range, or are far fainter; or "".

        Args:
            x: inputs, [M, *shape].

        Returns:
            The sentence.
        """
        if x.dtype.kind != "f":
            return ""
        faint = np.zeros(len(x), dtype=bool)
        if self._numbers(x) > _FEW:
            faint = _norms(x) < _FAINT * self.norm[2]
        far = np.zeros(len(x), dtype=bool)
        if self._leaves(x):
            far = self.outside(x) > _far(x)
        strange = int((far | faint).sum())
        if not strange:
            return ""
        about = "are far outside the range" if far.any() else "are ten times fainter than any"
        return (
            f"{strange} of {len(x)} inputs {about} of the training inputs: their values are from "
            f"{float(x.min()):g} to {float(x.max()):g}, and those of the training inputs from "
            f"{float(self.low.min()):g} to {float(self.high.max()):g}. Try: the scaling of the "
            "training inputs, if it is another one"
        )


def ood_scores(estimator: Any, X: InputsLike) -> dict[str, Vector]:  # noqa: N803 (scikit-learn's name)
    """Scores of how strange inputs are to a fit; of each, larger is stranger.

    - variance: posterior variance of the prediction.
    - relative_variance: the same divided by the prior variance, 0 to 1: it does not follow the size
      of the input.
    - uncertainty: 1 - the largest probability, of a classification.
    - norm: |norm - mean| / standard deviation, of the Euclidean norms of the training inputs.
    - outside: how far values lie outside the range of the training inputs, in units of its width.

    Use several: each overlooks some inputs. A dimmed image has a small variance and a strange norm;
    an image of another kind has a usual norm and a large relative variance.

    Args:
        estimator: a fitted GPClassifier, GPRegressor or TrainedEnsemble, not of a precomputed
            kernel.
        X: inputs, [M, features] or [M, *shape].

    Returns:
        The scores by name, [M] each; averaged over outputs and positions. Text has no norm and no
        range.

    Raises:
        NotFittedError: the estimator is not fitted.
        InputError: X does not fit the training inputs.

    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp.gp import GPRegressor, ood_scores
    >>> gp = GPRegressor(RBF(1.0), noise_variance=0.1).fit([[0.0], [1.0]], [0.0, 1.0])
    >>> scores = ood_scores(gp, [[0.5], [9.0]])
    >>> scores["relative_variance"].round(2).tolist(), scores["outside"].tolist()
    ([0.09, 1.0], [0.0, 8.0])
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RangeWarning)  # the scores say it
        if hasattr(estimator, "predictive"):
            prediction = estimator.predictive(X)
            return scores_of(estimator, X, prediction.variance, prediction.probability)
        variance = estimator.predict(X, return_std=True)[1] ** 2
        return scores_of(estimator, X, variance, None)


def scores_of(
    estimator: Any, x: InputsLike, variance: Array, probability: Array | None
) -> dict[str, Vector]:
    """`ood_scores` of inputs whose predictions are known.

    Args:
        estimator: the estimator.
        x: inputs, [M, *shape].
        variance: posterior variances, [M, ...].
        probability: class probabilities, [M, ..., C]; None of a regression.

    Returns:
        The scores by name.
    """
    scores = {
        "variance": _of_inputs(variance),
        "relative_variance": _of_inputs(variance / _positive(estimator.prior_variance(x))),
    }
    if probability is not None:
        scores["uncertainty"] = _of_inputs(1.0 - probability.max(axis=-1))
    if estimator.input_range_ is not None:
        images = np.asarray(x)
        scores["norm"] = estimator.input_range_.far_norm(images)
        scores["outside"] = estimator.input_range_.outside(images)
    return scores


def _positive(prior: Array) -> Array:
    """Prior variances as divisors: where one is 0, so is the posterior's."""
    divisors: Array = np.where(prior > 0.0, prior, 1.0)
    return divisors


def _of_inputs(values: Array) -> Vector:
    """Means over positions and outputs, [M]."""
    means: Vector = values.reshape(len(values), -1).mean(axis=1)
    return means


def _far(x: Images) -> float:
    return _FAR_IN_A_TABLE if x.ndim == 2 else _FAR


def _norms(x: Images) -> Vector:
    flat = x.reshape(len(x), -1)
    norms: Vector = np.sqrt(np.einsum("ij,ij->i", flat, flat).astype(np.float64))
    return norms


def out_of_distribution_auroc(inside: VectorLike, outside: VectorLike) -> float:
    """Area under the ROC curve of a score that detects foreign inputs, 0 to 1.

    It is P(score outside > score inside), where equal scores count half; 0.5 is chance. Posterior
    variances are such scores.

    Args:
        inside: scores of inputs like those of the fit.
        outside: scores of foreign inputs.

    Shapes:
        inside [M], outside [M'].

    Returns:
        The area.

    Raises:
        InputError: an array is empty, or holds values that are not finite.

    >>> from keras2gp.gp import out_of_distribution_auroc
    >>> out_of_distribution_auroc([0.1, 0.2], [0.2, 0.3])
    0.875
    """
    scores = [np.asarray(values, dtype=np.float64) for values in (inside, outside)]
    if any(s.ndim != 1 or not s.size or not np.isfinite(s).all() for s in scores):
        shapes = " and ".join(str(s.shape) for s in scores)
        raise InputError(f"scores have shapes {shapes}; expected [M] and [M'], finite, not empty")
    labels = np.repeat([0, 1], [len(s) for s in scores])
    return float(roc_auc_score(labels, np.concatenate(scores)))
