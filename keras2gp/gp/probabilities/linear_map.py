"""Class probabilities by a linear map of the means to logits, shrunk to a single temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from keras2gp._util.arrays import Array, Indices, Matrix, Targets, Vector
from keras2gp._util.checks import finite_number
from keras2gp.errors import ModelFileError
from keras2gp.gp.probabilities.softmax import (
    calibration_rows,
    fit_temperature,
    tempered_at,
    tempered_softmax,
)

__all__ = ["LinearMap", "fit_linear_map"]

_RIDGES = (1e2, 1e1, 1.0, 1e-1)
"""Ridges that are tried, from the temperature to a map that is nearly free."""
_FOLDS = 5
_JUDGES = 2048
"""Folds, and rows among which the ridge is chosen."""
_ROUGH, _FINE = 1e-4, 1e-12
"""Relative decrease of the loss at which a fit is finished: of a fold, and of the map itself."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """Logits as a linear function of posterior means: z = matrix m + offset.

    Attributes:
        matrix: [C, C].
        offset: [C].
        temperature: T of the softmax of m / T that the map is shrunk to.
        ridge: the weight of its distance from that; infinite where it is that.
        gain: nats a label by which it beats the temperature in cross-validation; 0 where not.
        reason: how the ridge was chosen, in words.

    >>> import numpy as np
    >>> from keras2gp.gp import LinearMap
    >>> linear = LinearMap(2.0 * np.eye(2), np.array([0.0, 1.0]), 0.5, 1.0, 0.0, "")
    >>> linear.logits(np.array([[1.0, 0.0]]))
    array([[2., 1.]])
    """

    matrix: Matrix
    offset: Vector
    temperature: float
    ridge: float
    gain: float
    reason: str

    files = ("linear_map.npy",)
    """Names of the arrays of `state`."""

    def logits(self, mean: Matrix) -> Matrix:
        """The logits of posterior means, [M, C].

        Args:
            mean: posterior means, [M, C].

        Returns:
            Logits, [M, C].
        """
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
            logits: Matrix = mean @ self.matrix.T + self.offset
        return logits

    def probabilities(self, mean: Matrix) -> Matrix:
        """The softmax of the logits of posterior means, [M, C]; rows sum to 1.

        Args:
            mean: posterior means, [M, C].

        Returns:
            Probabilities, [M, C].
        """
        return tempered_softmax(self.logits(mean), 1.0)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The map as data for JSON, and its array by the name in `files`."""
        facts = {
            "temperature": self.temperature,
            "ridge": None if math.isinf(self.ridge) else self.ridge,
            "gain": self.gain,
            "reason": self.reason,
        }
        return facts, {self.files[0]: np.column_stack([self.matrix, self.offset])}

    @classmethod
    def from_state(
        cls, facts: Mapping[str, Any], arrays: Mapping[str, Array], classes: int
    ) -> LinearMap:
        """The map of a `state`; KeyError, TypeError and the like where it is malformed.

        Args:
            facts: the first part of a state.
            arrays: the second part, D and the offset beside it, [C, C + 1].
            classes: C.

        Returns:
            The map.

        Raises:
            ModelFileError: the parts do not fit each other.
        """
        whole, ridge = arrays[cls.files[0]], facts["ridge"]
        temperature, gain = finite_number(facts["temperature"]), finite_number(facts["gain"])
        ridge = math.inf if ridge is None else finite_number(ridge)
        if whole.shape != (classes, classes + 1) or not np.isfinite(whole).all():
            raise ModelFileError(f"{cls.files[0]} is no map of {classes} classes")
        if not temperature > 0.0 or not ridge > 0.0 or not isinstance(facts["reason"], str):
            raise ModelFileError(f"temperature {temperature}, ridge {ridge} of a map to logits")
        return cls(whole[:, :-1], whole[:, -1], temperature, ridge, gain, facts["reason"])


def fit_linear_map(mean: Matrix, columns: Indices) -> LinearMap:
    """The linear map from means to logits under which the labels are most probable.

    Math: z_n = a m_n + D f_n + b,  f_n = (m_n - mean m) / s,  s the deviation of all m;
        minimise over a, D and b the sum over n of log sum_c exp(z_nc) - t_n . z_n
        + r / 2 (|D|^2 + |b|^2),  t_n the label, uniformly random once in N + 1 (fit_temperature)

    With r infinite this is the softmax of m / T at the temperature of `fit_temperature`. The ridge
    is that of the smallest loss in cross-validation over the rows: infinite if none is better, and
    where there are fewer than two rows for an entry of D. A class of fewer than five members has no
    correction of its own, and those of the others have the sum 0, so that none is disfavoured for
    being rare.

    Args:
        mean: leave-one-out means.
        columns: the column of each label.

    Shapes:
        mean [N, C], columns [N].

    Returns:
        The map.

    Raises:
        InputError: the means are not finite numbers [N, C], or a column is none of theirs.

    References:
        Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, section 4
        (matrix scaling); Kull et al. (2019), Beyond temperature scaling, for the ridge.

    >>> import numpy as np
    >>> from keras2gp.gp import fit_linear_map
    >>> mean = np.random.default_rng(0).standard_normal((500, 3))
    >>> drawn = 2.0 * mean + np.array([0.0, 0.0, 1.0])  # the third class is the likeliest
    >>> labels = (drawn + np.random.default_rng(1).gumbel(size=drawn.shape)).argmax(axis=1)
    >>> linear = fit_linear_map(mean, labels)
    >>> (linear.offset - linear.offset[0]).round() + 0.0
    array([0., 0., 1.])
    """
    temperature = fit_temperature(mean, columns)  # which checks both
    mean, columns = calibration_rows(np.asarray(mean, dtype=np.float64), np.asarray(columns))
    classes = mean.shape[1]
    members = np.bincount(columns, minlength=classes)
    known = members >= _FOLDS
    bare = LinearMap(
        np.eye(classes) / temperature, np.zeros(classes), temperature, math.inf, 0.0, ""
    )
    few = _too_few(mean, int(known.sum()))
    if few:
        return _because(bare, few)
    ridge, gains = _cross_validated(mean, columns, known)
    gain, judges = float(gains.mean()), len(gains)
    if not gain > 0.0:
        return _because(bare, f"no map is better for {judges} labels left out")
    problem = _Problem(mean, columns, known, temperature)
    matrix, offset = problem.map_of(problem.solved(ridge, None, _FINE))
    how = f"{gain:.2g} nats a label better than one number, of {judges} labels left out"
    return LinearMap(matrix, offset, temperature, ridge, gain, how)


def _because(bare: LinearMap, reason: str) -> LinearMap:
    return LinearMap(bare.matrix, bare.offset, bare.temperature, bare.ridge, 0.0, reason)


def _too_few(mean: Matrix, known: int) -> str:
    """The reason why no map can be learned, in words; empty where one can."""
    rows, classes = mean.shape
    if known < 2:
        return f"fewer than two classes have {_FOLDS} members"
    if rows < 2 * classes**2:
        return f"{rows} rows for the {classes**2} entries of a map"
    return "" if np.ptp(mean) > 0.0 else "all means are the same"


def _cross_validated(mean: Matrix, columns: Indices, known: Array) -> tuple[float, Vector]:
    """The best ridge, and by how much each label that is left out is then more probable, in nats.

    The ridge falls until the labels are no more probable: the loss has one valley.
    """
    order = np.random.default_rng(0).permutation(len(columns))[:_JUDGES]
    order = order[np.argsort(columns[order], kind="stable")]
    fold = np.arange(len(order)) % _FOLDS  # of each class about as many in every fold
    mean, columns = mean[order], columns[order]
    parts = [
        (fold == number, _Problem(mean[fold != number], columns[fold != number], known))
        for number in range(_FOLDS)
    ]
    starts: list[Vector | None] = [None] * _FOLDS
    ridge, gains, before = math.inf, np.zeros(len(order)), np.empty(len(order))
    for out, problem in parts:
        before[out] = _losses(mean[out] / problem.temperature, columns[out])
    for smaller in _RIDGES:
        trial = np.empty(len(order))
        for number, (out, problem) in enumerate(parts):
            starts[number] = start = problem.solved(smaller, starts[number], _ROUGH)
            matrix, offset = problem.map_of(start)
            trial[out] = before[out] - _losses(mean[out] @ matrix.T + offset, columns[out])
        if ridge < math.inf and trial.mean() < gains.mean():
            break
        ridge, gains = smaller, trial
    return ridge, gains


def _losses(logits: Matrix, columns: Indices) -> Vector:
    losses: Vector = -log_softmax(logits, axis=1)[np.arange(len(columns)), columns]
    return losses


class _Problem:
    """The loss of a map on given rows, as a function of (a, D, b) in one vector.

    Args:
        mean: leave-one-out means, [N, C].
        columns: the column of each label, [N].
        known: whether a class has a correction of its own, [C].
        temperature: that of the rows; None to fit it.
    """

    def __init__(
        self, mean: Matrix, columns: Indices, known: Array, temperature: float | None = None
    ) -> None:
        rows, classes = mean.shape
        self._center, self._unit = mean.mean(axis=0), float(mean.std())
        # Rows are innermost: sums over a few classes are then sums of vectors.
        self._base = np.ascontiguousarray((mean / self._unit).T)
        features = np.column_stack([(mean - self._center) / self._unit, np.ones(rows)])
        if temperature is None:
            temperature = tempered_at(*calibration_rows(mean, columns))
        self.temperature = temperature
        once = 1.0 / (rows + 1)
        targets: Targets = np.full((rows, classes), once / classes)
        targets[np.arange(rows), columns] += 1.0 - once
        # Corrections of known classes alone, whose sum is 0.
        self._spread = np.diag(known.astype(np.float64)) - np.outer(known, known) / known.sum()
        # In the coordinates in which the features are white the curvature is nearly the same in all
        # directions: a few iterations suffice.
        p = tempered_softmax(mean, self.temperature)
        self._weight = float((p * (1.0 - p)).mean())
        self._values, self._vectors = np.linalg.eigh(features.T @ features)
        features @= self._vectors
        self._features = np.ascontiguousarray(features.T)
        self._width = classes, features.shape[1]
        # sum_n t_n . z_n is linear in the map.
        self._label_base = float(np.vdot(targets.T, self._base))
        self._label_features: Matrix = targets.T @ features

    def solved(self, ridge: float, start: Vector | None, tolerance: float) -> Vector:
        """(a, D and b in the basis of the vectors) of the smallest loss."""
        scale = 1.0 / np.sqrt(self._weight * np.maximum(self._values, 0.0) + ridge)
        root = 1.0 / math.sqrt(self._base.size * max(self._weight, 1e-12))
        units = np.concatenate([[root], np.broadcast_to(scale, self._width).ravel()])
        if start is None:
            start = np.zeros(len(units))
            start[0] = self._unit / self.temperature

        def loss(x: Vector) -> tuple[float, Vector]:
            value, slope = self._loss(x * units, ridge)
            return value, slope * units

        options = {"maxiter": 500, "ftol": tolerance, "gtol": 1e-9 * self._base.shape[1]}
        found = minimize(loss, start / units, jac=True, method="L-BFGS-B", options=options)
        result: Vector = found.x * units
        return result

    def map_of(self, x: Vector) -> tuple[Matrix, Vector]:
        """Matrix and offset of a solution, in the units of the means."""
        weights = self._spread @ x[1:].reshape(self._width) @ self._vectors.T
        matrix = (x[0] * np.eye(self._width[0]) + weights[:, :-1]) / self._unit
        return matrix, weights[:, -1] - weights[:, :-1] @ (self._center / self._unit)

    def _loss(self, x: Vector, ridge: float) -> tuple[float, Vector]:
        weights = x[1:].reshape(self._width)
        spread = self._spread @ weights
        p = spread @ self._features
        p += x[0] * self._base
        top = p.max(axis=0)
        p -= top
        np.exp(p, out=p)
        total = p.sum(axis=0)
        fitted = x[0] * self._label_base + np.vdot(spread, self._label_features)
        value = float(np.log(total).sum() + top.sum() - fitted)
        p /= total
        slope = np.empty_like(x)
        # No BLAS here: it starts threads for so short a sum.
        slope[0] = np.einsum("cn,cn->", p, self._base) - self._label_base
        error = p @ self._features.T - self._label_features
        slope[1:] = (self._spread @ error + ridge * weights).ravel()
        return value + 0.5 * ridge * float(np.vdot(weights, weights)), slope
