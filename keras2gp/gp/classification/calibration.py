"""The function of posterior means that gives class probabilities, fitted when it is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras2gp._util.arrays import Indices, Matrix
from keras2gp.gp.probabilities.linear_map import LinearMap, fit_linear_map
from keras2gp.gp.probabilities.softmax import fit_temperature

__all__ = ["Calibration", "calibration_rows"]

_CALIBRATED = 1024
"""Training inputs that set the temperature, one number, where predictions of all are expensive:
among 1024, an error rate of 2% is known to half a percent."""


@dataclass
class Calibration:
    """The function of means that gives probabilities; it is fitted when it is first read.

    Attributes:
        kind: the estimator's setting `probabilities` at its fit.
        known: whether temperature and linear_map have their values.
        temperature: of a softmax; None where it is another function.
        linear_map: to logits; None where it is another function.
    """

    kind: str
    known: bool
    temperature: float | None = None
    linear_map: LinearMap | None = None

    def fit(self, left_out: Matrix, columns: Indices) -> None:
        """Fit the function to leave-one-out predictions of labels.

        Args:
            left_out: means of rows, each predicted from all others, [N, C].
            columns: the column of each row's label, [N].
        """
        if self.kind == "linear":
            self.linear_map = fit_linear_map(left_out, columns)
        else:
            self.temperature = fit_temperature(left_out, columns)
        self.known = True


def calibration_rows(count: int, *, closed_form: bool) -> Indices:
    """Training inputs whose leave-one-out predictions set the temperature: all, if cheap.

    Args:
        count: the number of training inputs.
        closed_form: whether the solver has all leave-one-out predictions in closed form.
    """
    if closed_form or count <= _CALIBRATED:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:_CALIBRATED])
