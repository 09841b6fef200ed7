"""Probabilities from posterior means: a softmax whose temperature leave-one-out predictions set."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import softmax

from keras2gp._util.arrays import Array

__all__ = ["fit_temperature", "tempered_softmax"]

# The inverse temperature is looked for where the largest difference of two means is between a
# thousandth and a million of it.
_LOWEST, _HIGHEST = math.log(1e-3), math.log(1e6)


def tempered_softmax(mean: Array, temperature: float) -> Array:
    """p_c = exp(m_c / T) / sum over c' of exp(m_c' / T), [M, C]; rows sum to 1.

    Shapes: mean [M, C].
    """
    probabilities: Array = softmax(mean / temperature, axis=1)
    return probabilities


def fit_temperature(mean: Array, columns: npt.NDArray[np.intp]) -> float:
    """The temperature T under which the labels are most probable, in the units of the means.

    Math: minimise over b = 1 / T the mean over n of log sum_c exp(b m_nc) - b t_n,
        t_n = (1 - e) m_n,y_n + e mean_c m_nc,  e = 1 / (N + 1),
      which is convex in b: its derivative grows, and its one zero is looked for.

    The label counts as a uniformly random one with probability e, as if one such had been seen
    besides the N: without it T is 0 where no prediction is wrong, which N predictions do not show.
    A class with one member is not known to its leave-one-out prediction, which says nothing
    of predictions with all members: such rows are left out. Where nothing is left, T is 1, and
    where the labels are no more probable than by chance, it is 1000 times the largest difference.

    Shapes: mean [N, C], leave-one-out; columns [N], the column of each label.

    Reference: Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks;
        Platt (1999), Probabilistic Outputs for Support Vector Machines, section 2.2.
    """
    known = np.bincount(columns, minlength=mean.shape[1])[columns] > 1
    # Softmax depends on differences between classes alone.
    m = mean[known] - mean[known].max(axis=1, keepdims=True)
    largest = float(-m.min(initial=0.0))
    if largest == 0.0:
        return 1.0
    m /= largest
    once = 1.0 / (len(m) + 1)
    label = m[np.arange(len(m)), columns[known]]
    target = float(((1.0 - once) * label + once * m.mean(axis=1)).mean())

    def slope(log_inverse: float) -> float:
        p = softmax(math.exp(log_inverse) * m, axis=1)
        return float(np.einsum("nc,nc->", p, m)) / len(m) - target

    if slope(_LOWEST) >= 0.0:
        return largest * math.exp(-_LOWEST)
    if slope(_HIGHEST) <= 0.0:
        return largest * math.exp(-_HIGHEST)
    return largest * math.exp(-float(brentq(slope, _LOWEST, _HIGHEST, xtol=1e-10)))
