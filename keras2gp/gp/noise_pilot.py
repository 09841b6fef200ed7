"""Noise variances tried on some rows: one decomposition, and every noise is cheap."""

from __future__ import annotations

import math
from copy import copy
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from keras2gp._util.arrays import Indices, Matrix, Targets, Vector
from keras2gp.gp.positions import Positioned
from keras2gp.gp.probabilities import calibration_rows, fit_temperature
from keras2gp.gp.solvers.jitter import check_range
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.training import Training
from keras2gp.gp.solvers.tridiagonal import Tridiagonal

__all__ = ["GAIN", "ROWS", "Eigenvectors", "Pilot", "gains", "label_likelihoods", "noise_memory"]

ROWS = 1000
"""Rows of one tridiagonalisation. Its cost is that of eight factorisations, at this size half a
Cholesky factorisation of 4000 rows; larger matrices are factorised, a handful of times."""

_GRID = tuple(10.0 ** (0.5 * k) for k in range(-16, 7))
"""Noise variances relative to the mean variance of the kernel."""

GAIN = 2.0
"""Nats by which a noise must raise the evidence. Without any noise it gains more in one of 40 data
sets: twice the gain is then half of a chi-square variable of one degree of freedom."""


def noise_memory(count: int, outputs: int) -> int:
    """Bytes that `choose_noise` takes for N rows, beyond the kernel matrix and factorisations."""
    rows = min(count, ROWS)
    kinds = (Tridiagonal, Eigenvectors)
    return 8 * rows * rows + max(kind.memory(rows, outputs) for kind in kinds)


def label_likelihoods(left_out: Matrix, columns: Indices) -> Vector:
    """Log probabilities of labels, each predicted from all others, in nats.

    Math: log softmax(m_n / T)_{y_n}, T that of fit_temperature

    The only member of a class is predicted by inputs that have never seen it, and does not count.

    Shapes:
        left_out m [N, C], columns y [N]; the result is one number for each label that counts.
    """
    temperature = fit_temperature(left_out, columns)
    left_out, columns = calibration_rows(left_out, columns)
    log_p: Matrix = log_softmax(left_out / temperature, axis=1)
    result: Vector = log_p[np.arange(len(columns)), columns]
    return result


def gains(some: Vector, none: Vector) -> bool:
    """Whether a noise gains enough over none: GAIN, and two standard errors of what labels gain.

    Shapes:
        some and none [n], what each label adds to the likelihood; of an evidence [1].
    """
    gain = some - none
    if not len(gain):  # no class has two members
        return False
    return float(gain.sum()) > max(GAIN, 2.0 * math.sqrt(len(gain)) * float(gain.std()))


def _drawn(training: Training) -> Indices:
    """The rows of the pilot, sorted: all, or ROWS of them; whole images, where those are computed.

    A kernel with positions computes all positions of an image together.
    """
    count, x = len(training), training.x
    if count <= ROWS:
        return np.arange(count)
    random = np.random.default_rng(0)
    if training.given is None and isinstance(x, Positioned):
        images = np.sort(random.permutation(count // x.count)[: max(ROWS // x.count, 1)])
        rows: Indices = (images[:, None] * x.count + np.arange(x.count)).reshape(-1)
        return rows[:ROWS]
    return np.sort(random.permutation(count)[:ROWS])


class Pilot:
    """The curve of some rows at any noise.

    Attributes:
        rows: how many they are.
        values: the curve by noise, of all that were tried.
        foreign: whether the matrix has an eigenvalue below zero that no rounding explains; then no
            noise is learned, and the solver says what is wrong with it.
        positive: the best noise above 0.
    """

    def __init__(
        self,
        training: Training,
        targets: Targets,
        *,
        labels: bool,
        jitter: float | None,
        relative: Vector | None,
    ) -> None:
        rows = _drawn(training)
        self.rows = len(rows)
        corner = training.corner(rows.tolist())
        # A = K + s R with R of noises is R^1/2 (R^-1/2 K R^-1/2 + s I) R^1/2.
        roots = np.ones(len(rows)) if relative is None else 1.0 / np.sqrt(relative[rows])
        if relative is not None:
            corner[np.diag_indices(len(rows))] += (jitter or 0.0) * np.diagonal(corner).mean()
            corner, jitter = corner * roots[:, None] * roots, None
        self._unit = check_range(np.diagonal(corner), 0.0, jitter)
        self._jitter = jitter or 0.0
        self._error = relative_error(training.dtype, len(rows))
        self.values: dict[float, float | None] = {}
        self.positive = math.nan
        self.foreign = not self._unit > 0.0
        if not self.foreign:
            kind = _LeftOut if labels else _Evidence
            scaled = targets[rows] * roots[:, None]
            self.spectrum: Any = kind(np.ascontiguousarray(corner) / self._unit, scaled, roots)
            self.foreign = self.spectrum.smallest < -len(rows) * self._error

    def of_output(self, column: int) -> Pilot:
        """The curve of one output of a regression, from the same decomposition."""
        one = copy(self)
        one.values = {}
        if not self.foreign:
            one.spectrum = self.spectrum.of_output(column)
        return one

    def best(self) -> float:
        """The noise of the largest value; 0 unless another gains more than GAIN."""
        self._value(0.0)
        grid = [self._value(noise) for noise in _GRID]
        at = int(np.argmax(grid))
        low = _GRID[at - 1] if at and grid[at - 1] > -math.inf else _GRID[at]
        high = _GRID[min(at + 1, len(_GRID) - 1)]
        minimize_scalar(
            lambda log_noise: -self._value(math.exp(log_noise)),
            bounds=(math.log(low), math.log(high)),
            method="bounded",
            options={"xatol": 0.01, "maxiter": 20},
        )
        known = {noise: v for noise, v in self.values.items() if noise and v is not None}
        self.positive = max(known, key=lambda noise: known[noise])
        some, none = self._parts(self.positive / self._unit), self._parts(0.0)
        return (
            0.0
            if some is not None and none is not None and not gains(some, none)
            else (self.positive)
        )

    def _value(self, relative: float) -> float:
        """The value of a noise relative to the unit; minus infinity where A is singular."""
        parts = self._parts(relative)
        value = None if parts is None else float(parts.sum())
        self.values[relative * self._unit] = value
        return -math.inf if value is None else value

    def _parts(self, relative: float) -> Vector | None:
        """The part of each label in the value, or the evidence, [1]; None where A is singular."""
        shift = relative + self._jitter
        # As for a factorisation: a pivot below rounding error is no information.
        regular = self.spectrum.smallest + shift > self._error
        return self.spectrum.parts(shift) if regular else None


class Eigenvectors:
    """K = U diag(t) U^T.

    Math: alpha = U (U^T Y / (t + r));  (A^-1)_ii = sum_k U_ik^2 / (t_k + r), A = K + r I

    Args:
        matrix: K, symmetric.
        targets: Y.

    Shapes:
        matrix [N, N]; targets [N, C].

    References:
        Rasmussen and Williams, equations 5.10 to 5.12, in the basis of the eigenvectors.
    """

    def __init__(self, matrix: Matrix, targets: Targets) -> None:
        self._eigenvalues, self._vectors = np.linalg.eigh(matrix)
        self._squares = self._vectors**2
        self._targets, self._rotated = targets, self._vectors.T @ targets

    @staticmethod
    def memory(size: int, outputs: int) -> int:
        """Bytes beyond the matrix: vectors, their squares, and LAPACK's work space."""
        return 8 * size * (5 * size + 6 * outputs)

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue of K."""
        return float(self._eigenvalues[0])

    def left_out(self, shift: float) -> Matrix:
        """The mean of each target given all others, [N, C], for noise and jitter `shift`."""
        inverse = 1.0 / (self._eigenvalues + shift)
        alpha = self._vectors @ (inverse[:, None] * self._rotated)
        result: Matrix = self._targets - alpha / (self._squares @ inverse)[:, None]
        return result


class _LeftOut(Eigenvectors):
    """The likelihood of labels that are left out, at any noise."""

    def __init__(self, matrix: Matrix, targets: Targets, roots: Vector) -> None:
        super().__init__(matrix, targets)
        self._columns, self._roots = targets.argmax(axis=1), roots[:, None]

    def parts(self, shift: float) -> Vector:
        """The part of each label in the likelihood at this noise and jitter, in nats."""
        return label_likelihoods(self.left_out(shift) / self._roots, self._columns)


class _Evidence(Tridiagonal):
    """The evidence at any noise."""

    def __init__(self, matrix: Matrix, targets: Targets, roots: Vector) -> None:
        super().__init__(matrix, targets)
        self._logs = float(np.log(roots).sum())

    def parts(self, shift: float) -> Vector | None:
        """The evidence at this noise and jitter, [1], in nats; None where A is singular."""
        value = self.value(shift)
        return None if value is None else np.array([value + self.outputs * self._logs])
