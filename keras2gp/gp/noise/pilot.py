"""Noise variances tried on some rows: one decomposition, and every noise is cheap."""

from __future__ import annotations

import math
from copy import copy
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from keras2gp._util.arrays import Indices, Targets, Vector
from keras2gp.gp.arguments.positions import Positioned
from keras2gp.gp.noise.spectra import Eigenvectors, EvidenceSpectrum, LabelSpectrum
from keras2gp.gp.solvers.jitter import check_range
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.training import Training
from keras2gp.gp.solvers.tridiagonal import Tridiagonal

__all__ = [
    "GAIN",
    "ROWS",
    "WITHIN",
    "NoisePilot",
    "as_probable",
    "drawn_rows",
    "gains",
    "noise_memory",
]

ROWS = 1000
"""Rows of one tridiagonalisation. Its cost is that of eight factorisations, at this size half a
Cholesky factorisation of 4000 rows; larger matrices are factorised, a handful of times."""

_GRID = tuple(10.0 ** (0.5 * k) for k in range(-16, 7))
"""Noise variances relative to the mean variance of the kernel."""

GAIN = 2.0
"""Nats by which a noise must raise the evidence. Without any noise it gains more in one of 40 data
sets: twice the gain is then half of a chi-square variable of one degree of freedom."""

WITHIN = 0.5
"""Standard errors of a difference within which labels are as probable as at their best.

Over 70 tasks of up to 1000 rows the least such noise had 4% less NLL and 0.3 points fewer errors
than the best one where it gains two standard errors, and 0 elsewhere (a geometric and an arithmetic
mean). A quarter had the same NLL, 1 gained 3%, and 1.5 less than 1%.
"""

_DOWN = 10.0**0.25
"""Ratio of the noises that are tried below the best."""


def noise_memory(count: int, outputs: int) -> int:
    """Bytes that `choose_noise` takes for N rows, beyond the kernel matrix and factorisations."""
    rows = min(count, ROWS)
    kinds = (Tridiagonal, Eigenvectors)
    return 8 * rows * rows + max(kind.memory(rows, outputs) for kind in kinds)


def as_probable(some: Vector, best: Vector) -> bool:
    """Whether labels are as probable as at their best: within WITHIN standard errors of the loss.

    Shapes:
        some and best [n], what each label adds to the likelihood.
    """
    loss = best - some
    return float(loss.sum()) <= WITHIN * _deviation_of_sum(loss)


def gains(some: Vector, none: Vector) -> bool:
    """Whether a noise gains enough over none: GAIN, and what labels gain WITHIN standard errors.

    Shapes:
        some and none [n], what each label adds to the likelihood; of an evidence [1].
    """
    gain = some - none
    return float(gain.sum()) > max(GAIN, WITHIN * _deviation_of_sum(gain))


def _deviation_of_sum(parts: Vector) -> float:
    """The standard error of a sum over labels; 0 of none, where no class has two members."""
    return math.sqrt(len(parts)) * float(parts.std()) if len(parts) else 0.0


def drawn_rows(training: Training, most: int) -> Indices:
    """Rows that stand for all, sorted: all, or `most` of them; whole images, if they are computed.

    A kernel with positions computes all positions of an image together.
    """
    count, x = len(training), training.x
    if count <= most:
        return np.arange(count)
    random = np.random.default_rng(0)
    if training.given is None and isinstance(x, Positioned):
        images = np.sort(random.permutation(count // x.count)[: max(most // x.count, 1)])
        rows: Indices = (images[:, None] * x.count + np.arange(x.count)).reshape(-1)
        return rows[:most]
    return np.sort(random.permutation(count)[:most])


class NoisePilot:
    """The curve of some rows at any noise.

    Attributes:
        rows: how many they are.
        values: the curve by noise, of all that were tried.
        foreign: whether the matrix has an eigenvalue below zero that no rounding explains; then no
            noise is learned, and the solver says what is wrong with it.
        positive: the noise above 0 of the largest value.
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
        rows = drawn_rows(training, ROWS)
        self.rows, self._labels = len(rows), labels
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
            kind = LabelSpectrum if labels else EvidenceSpectrum
            scaled = targets[rows] * roots[:, None]
            self.spectrum: Any = kind(np.ascontiguousarray(corner) / self._unit, scaled, roots)
            self.foreign = self.spectrum.smallest < -len(rows) * self._error

    def of_output(self, column: int) -> NoisePilot:
        """The curve of one output of a regression, from the same decomposition."""
        one = copy(self)
        one.values = {}
        if not self.foreign:
            one.spectrum = self.spectrum.of_output(column)
        return one

    @property
    def unit(self) -> float:
        """The mean variance of the kernel, in which the noises of the grid are."""
        return self._unit

    def parts_of(self, noise: float) -> Vector | None:
        """The part of each label at a noise, or the evidence, [1]; None where A is singular."""
        return self._parts(noise / self._unit)

    def best(self) -> float:
        """The noise of the largest value, of labels the least as good; 0 unless it `gains`."""
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
        if some is not None and none is not None and not gains(some, none):
            return 0.0
        return self._least(some) if self._labels and some is not None else self.positive

    def _least(self, best: Vector) -> float:
        """The smallest noise down to which labels are as probable as at their best."""
        noise = self.positive / self._unit
        while noise / _DOWN >= _GRID[0]:
            parts = self._tried(noise / _DOWN)
            if parts is None or not as_probable(parts, best):
                break
            noise /= _DOWN
        return noise * self._unit

    def gain_by(self, intercept: float) -> float:
        """The gain of labels by a constant in the kernel, in nats, each at a grid's best noise.

        0.0 of a matrix with which no noise is learned.
        """
        if self.foreign:
            return 0.0
        none, some = (self._best_with(c) for c in (0.0, intercept / self._unit))
        return some - none if some > -math.inf else 0.0

    def _best_with(self, intercept: float) -> float:
        """The largest value over the grid; minus infinity where A is singular throughout."""
        tried = (self._parts(noise, intercept) for noise in (0.0, *_GRID))
        return max((float(parts.sum()) for parts in tried if parts is not None), default=-math.inf)

    def _value(self, relative: float) -> float:
        """The value of a noise relative to the unit; minus infinity where A is singular."""
        parts = self._tried(relative)
        return -math.inf if parts is None else float(parts.sum())

    def _tried(self, relative: float) -> Vector | None:
        """The parts of a noise, whose value is kept for the curve."""
        parts = self._parts(relative)
        self.values[relative * self._unit] = None if parts is None else float(parts.sum())
        return parts

    def _parts(self, relative: float, *intercept: float) -> Vector | None:
        """The part of each label in the value, or the evidence, [1]; None where A is singular."""
        shift = relative + self._jitter
        # As for a factorisation: a pivot below rounding error is no information.
        regular = self.spectrum.smallest + shift > self._error
        return self.spectrum.parts(shift, *intercept) if regular else None
