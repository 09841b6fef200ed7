"""The function of posterior means that gives class probabilities, fitted when it is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras2gp._util.arrays import Indices
from keras2gp.gp.probabilities.linear_map import LinearMap, fit_linear_map
from keras2gp.gp.probabilities.softmax import fit_temperature
from keras2gp.gp.process.updates import UpdatedGaussianProcess

__all__ = ["CalibratedClasses", "Calibration"]

# Training inputs that set the temperature, one number: among 1024, an error rate of 2% is known to
# half a percent.
_CALIBRATED = 1024


@dataclass
class Calibration:
    """The function of means that gives probabilities; it is fitted when it is first read.

    Attributes:
        kind: of the probabilities, as the estimator was set in `fit`.
        known: whether the others have their values.
        temperature: of a softmax; None where it is another function.
        linear_map: to logits; None where it is another function.
    """

    kind: str
    known: bool
    temperature: float | None = None
    linear_map: LinearMap | None = None


class CalibratedClasses(UpdatedGaussianProcess):
    """A classification whose probabilities are a function of means; see GPClassifier."""

    _calibration: Calibration

    @property
    def temperature_(self) -> float | None:
        """The temperature of the softmax; None unless it is used.

        Raises:
            NotFittedError: the estimator is not fitted.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> GPClassifier("precomputed").fit(np.eye(4), [0, 1, 0, 1]).temperature_ is None
        True
        """
        return self._calibrated.temperature

    @property
    def linear_map_(self) -> LinearMap | None:
        """The map from means to logits; None unless it is used.

        Raises:
            NotFittedError: the estimator is not fitted.

        >>> import numpy as np
        >>> from keras2gp import GPClassifier
        >>> gp = GPClassifier("precomputed", noise_variance=1.0).fit(np.eye(4), [0, 1, 0, 1])
        >>> gp.linear_map_.reason
        'fewer than two classes have 5 members'
        """
        return self._calibrated.linear_map

    @property
    def _calibrated(self) -> Calibration:
        """The function of means, fitted to leave-one-out predictions unless that has been done.

        Labels alone need none of it, and it takes longer than the fit where rows are few.
        """
        self._require_fitted()
        found = self._calibration
        if not found.known:
            rows = self._calibration_rows()
            left_out = self._leave_one_out(rows)[0]
            columns = self.targets_[rows].argmax(axis=1)
            if found.kind == "linear":
                found.linear_map = fit_linear_map(left_out, columns)
            else:
                found.temperature = fit_temperature(left_out, columns)
            found.known = True
        return found

    def _calibration_rows(self) -> Indices:
        """Training inputs whose leave-one-out predictions set the temperature: all, if cheap."""
        count = len(self.targets_)
        if self.system_.closed_form or count <= _CALIBRATED:
            return np.arange(count)
        return np.sort(np.random.default_rng(0).permutation(count)[:_CALIBRATED])
