"""The noise of outputs that lack targets in different rows, each judged by the rows that it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from keras2gp._util.arrays import Array, Targets, Vector
from keras2gp.gp.noise.choice import (
    Climb,
    Trial,
    choose_noises,
    chosen_curve,
    no_noise,
    scaled_targets,
)
from keras2gp.gp.noise.curve import NoiseCurve
from keras2gp.gp.noise.pilot import ROWS, NoisePilot
from keras2gp.gp.solvers.by_pattern import distinct_patterns
from keras2gp.gp.solvers.system import Fit
from keras2gp.gp.solvers.training import Training
from keras2gp.gp.solvers.tridiagonal import profiled_evidence

__all__ = ["PatternTrial", "choose_pattern_noise", "choose_pattern_noises"]

PatternTrial = Callable[[float, Targets, Array], Fit]
"""As Trial, of targets that are there where the third argument says so."""

_FEWEST = 3
"""Targets of an output, at least, that say anything of the noise."""


def choose_pattern_noise(
    training: Training,
    targets: Targets,
    seen: Array,
    *,
    jitter: float | None,
    relative: Vector | None,
    trial: PatternTrial,
) -> NoiseCurve:
    """The one noise of all outputs under which their targets are most probable.

    As `choose_noise`: the value is the sum of the outputs' evidences, each of its own rows. Outputs
    of fewer than three targets do not count.

    Args:
        training: the covariance of the training inputs.
        targets: Y, [N, C]; 0 where a target is missing.
        seen: whether a row has a target of an output, [N, C].
        jitter: a number relative to the mean variance, part of A; None for "auto".
        relative: the noise of each row relative to what is chosen, [N]; None for 1.
        trial: solves with the matrices of all outputs.

    Raises:
        InputError: the memory does not suffice.
        NumericalError: the variances are beyond the range of float64.
    """
    count, counts = len(training), seen.sum(axis=0)
    enough = counts >= _FEWEST
    some = np.flatnonzero(enough & (np.abs(targets).max(axis=0) > 0.0))
    if not len(some):
        few = "every output has fewer than three targets"
        return no_noise(count, "every target is the same" if enough.any() else few)
    targets, seen, counts = targets[:, some], seen[:, some], counts[some]
    targets, size = scaled_targets(targets, count)
    pilots = []
    first, of = distinct_patterns(seen)
    for number, output in enumerate(first):
        rows = np.flatnonzero(seen[:, output])
        own = None if relative is None else relative[rows]
        part = targets[np.ix_(rows, np.flatnonzero(of == number))]
        pilots.append(
            NoisePilot(training.of_rows(rows), part, labels=False, jitter=jitter, relative=own)
        )
    whole = count if counts.max() <= ROWS else 0
    joint = _JointPilot(pilots, whole)
    climb = _PatternClimb(trial, targets, seen)
    unit = float(np.log(size) @ counts) / count
    return chosen_curve(joint, climb, count, unit=unit, labels=False, why_not="")


def choose_pattern_noises(
    training: Training,
    targets: Targets,
    seen: Array,
    *,
    jitter: float | None,
    relative: Vector | None,
    trial: Callable[[Training, Vector | None], Trial],
) -> tuple[NoiseCurve, ...]:
    """The noise of each output under which its targets are most probable, as `choose_noises`.

    Args:
        training: the covariance of the training inputs.
        targets: as for `choose_pattern_noise`.
        seen: as for `choose_pattern_noise`.
        jitter: as for `choose_pattern_noise`.
        relative: as for `choose_pattern_noise`.
        trial: of the covariance of some rows and their relative noise, what solves with their A.

    Raises:
        InputError: the memory does not suffice.
        NumericalError: the variances are beyond the range of float64.
    """
    curves: dict[int, NoiseCurve] = {}
    first, of = distinct_patterns(seen)
    for number, output in enumerate(first):
        rows, columns = np.flatnonzero(seen[:, output]), np.flatnonzero(of == number)
        part, own = training.of_rows(rows), None if relative is None else relative[rows]
        found = choose_noises(
            part,
            targets[np.ix_(rows, columns)],
            jitter=jitter,
            relative=own,
            trial=trial(part, own),
        )
        curves |= dict(zip(columns.tolist(), found, strict=True))
    return tuple(curves[column] for column in range(targets.shape[1]))


class _JointPilot(NoisePilot):
    """The curves of several patterns, summed at every noise.

    Args:
        pilots: one for each pattern.
        rows: N where they have all rows of their patterns, and 0 where they have some.
    """

    def __init__(self, pilots: Sequence[NoisePilot], rows: int) -> None:
        self.rows, self._pilots, self._labels = rows, pilots, False
        self.foreign = any(pilot.foreign for pilot in pilots)
        self._unit = float(np.mean([pilot.unit for pilot in pilots]))
        self.values: dict[float, float | None] = {}
        self.positive = math.nan

    def _parts(self, relative: float, *_: float) -> Vector | None:
        """The sum of the evidences, [1]; None where a matrix is singular."""
        total = np.zeros(1)
        for pilot in self._pilots:
            parts = pilot.parts_of(relative * self._unit)
            if parts is None:
                return None
            total += parts.sum()
        return total


class _PatternClimb(Climb):
    """The curve of all rows, the factorisations of all patterns for each noise."""

    def __init__(self, trial: PatternTrial, targets: Targets, seen: Array) -> None:
        def solved(noise: float, targets: Targets) -> Fit:
            return trial(noise, targets, seen)

        super().__init__(solved, targets, labels=False)
        self._counts = seen.sum(axis=0).tolist()

    def _of(self, fit: Fit) -> Vector:
        quadratic = np.einsum("nc,nc->c", self._targets, fit.alpha)
        system = fit.system
        logs = system.log_determinants  # type: ignore[attr-defined]
        parts = zip(quadratic[:, None], logs.tolist(), self._counts, strict=True)
        return np.array([sum(profiled_evidence(*part) for part in parts)])
