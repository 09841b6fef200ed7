"""Class probabilities of Gaussian posteriors: tempered softmax, largest value, expected softmax."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, softmax

from keras2gp._util.arrays import Array, Indices, Matrix, Vector
from keras2gp._util.checks import is_number
from keras2gp._util.memory import require_memory
from keras2gp._util.text import received_text
from keras2gp.errors import InputError

__all__ = [
    "DEVIATIONS",
    "LEFT",
    "RIGHT",
    "STEP",
    "WIDEST",
    "calibration_rows",
    "expected_softmax",
    "fit_temperature",
    "largest_probabilities",
    "quadrature",
    "tempered_at",
    "tempered_softmax",
]

# The inverse temperature is searched where the largest difference of two means is between a
# thousandth and a million times the temperature.
_LOWEST, _HIGHEST = math.log(1e-3), math.log(1e6)

# Gauss-Legendre on 9 standard deviations about the largest mean: the mass outside is 1e-19, and 128
# nodes leave errors below 1e-12 for up to 100 classes.
_HALF_WIDTH = 9.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)
_GRID = _HALF_WIDTH * _NODES
_BATCH_BYTES = 32 * 2**20

# Range of the trapezoidal rule of the expected softmax: six standard deviations of a Gaussian, and
# the points where the tails of the Gumbel distribution are as small, 2e-9.
DEVIATIONS, LEFT, RIGHT = 6.0, 4.0, 20.0
# Largest step over a Gaussian, in its standard deviations; step over the largest value.
WIDEST, STEP = 0.75, 0.5
# A batch of rows of the expected softmax fits in the cache of a processor.
_SOFTMAX_BATCH_BYTES = 2**20


def tempered_softmax(mean: Matrix, temperature: float) -> Matrix:
    """Softmax of posterior means at a temperature; rows sum to 1.

    Math: p_c = exp(m_c / T) / sum over c' of exp(m_c' / T)

    Args:
        mean: posterior means m.
        temperature: T, in the units of the means.

    Shapes:
        mean [M, C]; result [M, C].

    Returns:
        Probabilities, [M, C].

    Raises:
        InputError: the temperature is not positive, or a mean is not finite.

    >>> from keras2gp.gp import tempered_softmax
    >>> import numpy as np
    >>> tempered_softmax(np.array([[1.0, 1.0], [0.0, np.log(3.0)]]), 1.0)
    array([[0.5 , 0.5 ],
           [0.25, 0.75]])
    """
    if not is_number(temperature) or not 0.0 < temperature < math.inf:
        raise InputError(
            f"temperature is {received_text(temperature)}: expected a positive, finite number"
        )
    mean = _moments(mean, "mean", 2)
    with np.errstate(over="ignore"):
        exponents = mean / temperature
        if not np.isfinite(exponents).all():
            exponents = (mean - mean.max(axis=1, keepdims=True)) / temperature
    probabilities: Matrix = softmax(exponents, axis=1)
    return probabilities


def fit_temperature(mean: Matrix, columns: Indices) -> float:
    """The temperature T under which the labels are most probable, in the units of the means.

    Math: minimise over b = 1 / T the mean over n of log sum_c exp(b m_nc) - b t_n,
        t_n = (1 - e) m_n,y_n + e mean_c m_nc,  e = 1 / (N + 1),
      which is convex in b; the one zero of its increasing derivative is searched.

    A label counts as a uniformly random one with probability e, as if one random label had been
    seen besides the N. Without e, T would be 0 where no prediction is wrong, which N predictions
    do not show. The leave-one-out prediction of the only member of a class has never seen that
    class, and says nothing of predictions with all members: such rows are left out. Where no row
    is left, T is 1. Where the labels are no more probable than by chance, T is 1000 times the
    largest difference of two means.

    Args:
        mean: leave-one-out means.
        columns: the column of each label.

    Shapes:
        mean [N, C], columns [N].

    Returns:
        T, a positive number.

    Raises:
        InputError: the means are not finite numbers [N, C], or a column is none of theirs.

    References:
        Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks; Platt
        (1999), Probabilistic Outputs for Support Vector Machines, section 2.2.

    >>> from keras2gp.gp import fit_temperature
    >>> import numpy as np
    >>> mean = np.array([[1.0, 0.0], [0.9, 0.0], [0.0, 1.0], [0.8, 0.7]])
    >>> sure = fit_temperature(mean, np.array([0, 0, 1, 1]))
    >>> unsure = fit_temperature(mean, np.array([0, 1, 1, 0]))
    >>> sure < unsure
    True
    """
    mean, columns = _moments(mean, "mean", 2), np.asarray(columns)
    whole = columns.dtype.kind in "iu" and columns.shape == mean.shape[:1]
    if not whole or columns.min() < 0 or columns.max() >= mean.shape[1]:
        raise InputError(
            f"columns: expected {len(mean)} whole numbers from 0 to {mean.shape[1] - 1}, received "
            f"{received_text(columns)}"
        )
    return tempered_at(*calibration_rows(mean, columns))


def tempered_at(mean: Matrix, columns: Indices, *, precision: float = 1e-10) -> float:
    """The temperature of `fit_temperature`, of rows whose classes have two members.

    Args:
        mean: leave-one-out means, [N, C].
        columns: the column of each label, [N], each in range.
        precision: of its logarithm.

    Raises:
        InputError: the means are not finite.
    """
    # Softmax depends on differences between classes alone.
    m = mean - mean.max(axis=1, keepdims=True)
    largest = float(-m.min(initial=0.0))
    if largest == 0.0:
        return 1.0
    if not math.isfinite(largest):
        raise InputError("a mean that is left out is not finite")
    m /= largest
    once = 1.0 / (len(m) + 1)
    label = m[np.arange(len(m)), columns]
    target = float(((1.0 - once) * label + once * m.mean(axis=1)).mean())
    by_class = np.ascontiguousarray(m.T)  # sums over classes are sums of vectors

    def slope(log_inverse: float) -> float:
        p = np.exp(math.exp(log_inverse) * by_class)  # the largest of each row is 1
        expected = np.einsum("cn,cn->n", p, by_class) / p.sum(axis=0)
        return float(expected.sum()) / len(m) - target

    if slope(_LOWEST) >= 0.0:
        return largest * math.exp(-_LOWEST)
    if slope(_HIGHEST) <= 0.0:
        return largest * math.exp(-_HIGHEST)
    return largest * math.exp(-float(brentq(slope, _LOWEST, _HIGHEST, xtol=precision)))


def calibration_rows(mean: Matrix, columns: Indices) -> tuple[Matrix, Indices]:
    """The rows from which probabilities are learned: the only member of a class is left out."""
    has_others = np.bincount(columns, minlength=mean.shape[1])[columns] > 1
    return mean[has_others], columns[has_others]


def largest_probabilities(mean: Matrix, deviation: Vector) -> Matrix:
    """P(f_c is the largest) for independent f_c ~ N(mean_c, s^2) with a common s.

    Math: P_c = integral over u of phi((u - m_c) / s) / s * prod over c' != c of
        Phi((u - m_c') / s) du
      by quadrature over u = max_c m_c + s z, z in [-9, 9]; phi and Phi are the standard normal
      density and distribution function. The product over all classes is computed once. As s -> 0
      this becomes 1 for the largest mean, which is also the value for s = 0.

    Shapes:
        mean [M, C], deviation s [M]; result [M, C], rows sum to 1.

    Args:
        mean: means of the Gaussians.
        deviation: their common standard deviation s.

    Returns:
        Probabilities, [M, C].

    Raises:
        InputError: a value is not finite, or a deviation is negative.

    >>> from keras2gp.gp import largest_probabilities
    >>> import numpy as np
    >>> largest_probabilities(np.zeros((1, 4)), np.ones(1)).round(9)
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    mean, deviation = _moments(mean, "mean", 2), _moments(deviation, "deviation", 1, least=0.0)
    best = mean.argmax(axis=1)
    result = np.zeros_like(mean)
    result[np.arange(len(mean)), best] = 1.0
    for rows in _row_batches(np.flatnonzero(deviation > 0.0), mean.shape[1]):
        # Gaps beyond the range of a double, for the smallest s, are as good as infinite.
        with np.errstate(over="ignore"):
            gap = (mean[rows].max(axis=1, keepdims=True) - mean[rows]) / deviation[rows, None]
        z = gap[:, :, None] + _GRID
        log_below = log_ndtr(z)
        log_integrand = log_below.sum(axis=1, keepdims=True) - log_below - 0.5 * z**2
        mass = np.exp(log_integrand) @ _WEIGHTS
        result[rows] = mass / mass.sum(axis=1, keepdims=True)
    return result


def quadrature() -> tuple[Vector, Vector]:
    """Nodes and weights of the integral over z in `largest_probabilities`, [Q] each."""
    return _GRID, _WEIGHTS


def expected_softmax(mean: Matrix, variance: Matrix, step: float = STEP) -> Matrix:
    """E[exp(f_c) / sum over c' of exp(f_c')] for independent f_c ~ N(mean_c, variance_c).

    A softmax is the probability that f_c + g_c is the largest, with g standard Gumbel noise. This
    leaves one integral over the largest value and one over each Gaussian.

    Math: P_c = integral over u of F'_c(u) * prod over c' != c of F_c'(u) du,
        F_c(u) = integral over z of phi(z) exp(-exp(-(u - m_c - s_c z))) dz
      both by the trapezoidal rule: its error falls as exp(-pi^2 / step), 3e-9 for 0.5, 5e-5 for 1.

    Args:
        mean: m.
        variance: s^2.
        step: step of the trapezoidal rule.

    Shapes:
        mean [M, C], variance [M, C]; result [M, C], rows sum to 1.

    Returns:
        Probabilities, [M, C].

    Raises:
        InputError: a value is not finite, a variance is negative, or the memory does not suffice.

    >>> from keras2gp.gp import expected_softmax
    >>> import numpy as np
    >>> expected_softmax(np.array([[0.0, 5.0]]), np.array([[0.0, 0.0]])).round(6)
    array([[0.006693, 0.993307]])
    >>> expected_softmax(np.array([[0.0, 5.0]]), np.array([[9.0, 9.0]])).round(2)
    array([[0.14, 0.86]])
    """
    mean, variance = _moments(mean, "mean", 2), _moments(variance, "variance", 2, least=0.0)
    deviation = np.sqrt(variance)
    low = (mean - DEVIATIONS * deviation).max(axis=1) - LEFT
    high = (mean + DEVIATIONS * deviation).max(axis=1) + RIGHT
    width = min(WIDEST, step / max(float(deviation.max()), 1e-9))
    points = math.ceil(2.0 * DEVIATIONS / width), math.ceil(float((high - low).max()) / step)
    require_memory(
        32 * mean.shape[1] * points[0] * points[1],
        f"the expected softmax of deviations up to {deviation.max():.3g}",
        "a smaller variance, or a larger step",
    )
    z = np.linspace(-DEVIATIONS, DEVIATIONS, 1 + points[0])
    weights = np.exp(-0.5 * z**2)
    weights /= weights.sum()
    nodes = np.linspace(0.0, 1.0, 1 + points[1])
    result = np.empty_like(mean)
    rows = max(1, _SOFTMAX_BATCH_BYTES // (8 * mean.shape[1] * len(nodes) * len(z)))
    for start in range(0, len(mean), rows):
        part = slice(start, start + rows)
        u = low[part, None] + (high - low)[part, None] * nodes
        center = mean[part, :, None] + deviation[part, :, None] * z
        # Beyond exp(60) the distribution function is 0; larger arguments might overflow.
        w = np.exp(np.minimum(center[:, :, None, :] - u[:, None, :, None], 60.0))
        below = np.exp(-w)
        log_below = np.log(np.maximum(below @ weights, 1e-300))
        density = (w * below) @ weights
        others = np.exp(log_below.sum(axis=1, keepdims=True) - log_below)
        mass = (density * others).sum(axis=2)
        result[part] = mass / mass.sum(axis=1, keepdims=True)
    return result


def _moments(values: Array, name: str, axes: int, least: float = -math.inf) -> Array:
    """Means or variances as finite numbers of `axes` axes, not below `least`; else InputError."""
    array = np.asarray(values)
    if array.ndim != axes or not array.size or array.dtype.kind not in "fiub":
        raise InputError(f"{name} is {received_text(values)}: expected numbers in {axes} axes")
    if not np.isfinite(array).all() or (array < least).any():
        raise InputError(f"{name} holds values that are not finite, or negative")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _row_batches(rows: Indices, classes: int) -> Iterator[Indices]:
    step = max(1, _BATCH_BYTES // (8 * classes * _GRID.size))
    return (rows[start : start + step] for start in range(0, len(rows), step))
