"""The noise variance that makes the targets most probable, and the curve it was chosen by.

A regression takes the noise of the largest evidence. A classification takes the least one under
which its labels, each left out, are as probable as under the best, up to what their number can
tell: targets in {-1, 1} are no draw of a Gaussian process, and their evidence asks for far more
noise than labels need.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy

import numpy as np

from keras2gp._util.arrays import Targets, Vector
from keras2gp._util.memory import require_memory
from keras2gp.errors import NumericalError
from keras2gp.gp.noise.curve import NoiseCurve
from keras2gp.gp.noise.pilot import GAIN, ROWS, NoisePilot, as_probable, gains, noise_memory
from keras2gp.gp.noise.spectra import label_likelihoods
from keras2gp.gp.solvers.system import Fit
from keras2gp.gp.solvers.training import Training
from keras2gp.gp.solvers.tridiagonal import profiled_evidence

__all__ = [
    "Climb",
    "Trial",
    "choose_noise",
    "choose_noises",
    "chosen_curve",
    "no_noise",
    "scaled_targets",
]


_STEP = 4.0
_FACTORISATIONS = 7
"""Ratio and largest number of the noises for which the whole matrix is factorised."""

_ALL_THE_SAME = "every target is the same"

Trial = Callable[[float, Targets], Fit]
"""The outcome of a direct solver for a noise and targets; NumericalError where A is singular."""


def choose_noise(
    training: Training,
    targets: Targets,
    *,
    labels: bool,
    jitter: float | None = None,
    relative: Vector | None = None,
    trial: Trial | None = None,
    why_not: str = "",
) -> NoiseCurve:
    """The noise under which the targets are most probable; 0 unless one gains 2 nats or more.

    Labels are as probable under a noise as under the best if they lose less than half a standard
    error over them; the least such noise is chosen, and none where that holds for 0.

    Up to ROWS rows are decomposed, and every noise is cheap. Of more rows as many are drawn, with a
    fixed seed; from the noise that is best for them the curve of all is climbed by a handful of
    factorisations, and its peak is that of a parabola in the logarithm.

    Args:
        training: the covariance of the training inputs.
        targets: Y, [N, C]; of a classification -1 and 1.
        labels: whether they are those of a classification.
        jitter: a number relative to the mean variance, part of A; None for "auto".
        relative: the noise of each row relative to what is chosen, [N]; None for 1.
        trial: solves with A of all rows; None where the solver does not factorise it.
        why_not: the reason for that, in words.

    Raises:
        InputError: the memory does not suffice.
        NumericalError: the variances are beyond the range of float64.
    """
    count = len(training)
    targets = targets[:, np.abs(targets).max(axis=0) > 0.0]
    if count < 3 or not targets.size:
        return no_noise(count, "fewer than three rows" if targets.size else _ALL_THE_SAME)
    targets, size = scaled_targets(targets, count)
    pilot = NoisePilot(training, targets, labels=labels, jitter=jitter, relative=relative)
    climb = None if trial is None else Climb(trial, targets, labels=labels)
    unit = float(np.log(size).sum())
    return chosen_curve(pilot, climb, count, unit=unit, labels=labels, why_not=why_not)


def choose_noises(
    training: Training,
    targets: Targets,
    *,
    jitter: float | None = None,
    relative: Vector | None = None,
    trial: Trial,
) -> tuple[NoiseCurve, ...]:
    """The noise of each output of a regression under which its targets are most probable.

    Each is chosen as `choose_noise` does. The outputs share the decomposition of up to ROWS rows,
    and the factorisations of more: those are at noises of one grid.

    Args:
        training: the covariance of the training inputs.
        targets: Y, [N, C].
        jitter: a number relative to the mean variance, part of A; None for "auto".
        relative: the noise of each row relative to what is chosen, [N]; None for 1.
        trial: solves with A of all rows.

    Raises:
        InputError: the memory does not suffice.
        NumericalError: the variances are beyond the range of float64.
    """
    count = len(training)
    varied = np.flatnonzero(np.abs(targets).max(axis=0) > 0.0)
    same = "fewer than three rows" if count < 3 else _ALL_THE_SAME
    curves = [no_noise(count, same) for _ in range(targets.shape[1])]
    if count < 3 or not len(varied):
        return tuple(curves)
    scaled, size = scaled_targets(targets[:, varied], count)
    pilot = NoisePilot(training, scaled, labels=False, jitter=jitter, relative=relative)
    climb = Climb(trial, scaled, labels=False)
    for column, output in enumerate(varied):
        one, unit = pilot.of_output(column), float(np.log(size[column]))
        own = climb.of_output(column)
        curves[output] = chosen_curve(one, own, count, unit=unit, labels=False, why_not="")
    return tuple(curves)


def scaled_targets(targets: Targets, count: int) -> tuple[Targets, Vector]:
    """Targets up to 1, and what they were divided by, [C]; InputError if the memory is short."""
    require_memory(
        noise_memory(count, targets.shape[1]),
        f"the choice of the noise from {min(count, ROWS)} training inputs",
        "a number as noise_variance",
    )
    # With a factor for each output their sizes do not matter; about 1, squares stay in range.
    size = np.abs(targets).max(axis=0)
    return targets / size, size


def no_noise(count: int, reason: str) -> NoiseCurve:
    """The choice of no noise of so many rows, and its reason."""
    return NoiseCurve((), (), 0.0, count, f"none: {reason}")


def chosen_curve(
    pilot: NoisePilot, climb: Climb | None, count: int, *, unit: float, labels: bool, why_not: str
) -> NoiseCurve:
    """The curve of some rows, or of all where those are more and can be factorised.

    Args:
        pilot: of some rows.
        climb: of all rows; None where the solver does not factorise them.
        count: N.
        unit: the logarithm of what the targets were divided by, summed over outputs.
        labels: whether the value is a leave-one-out likelihood of labels, and not an evidence.
        why_not: the reason why the solver does not factorise.
    """
    if pilot.foreign:
        return no_noise(count, "the matrix is no covariance")
    best, rows = pilot.best(), pilot.rows
    what = "leave-one-out likelihood" if labels else "evidence"
    if rows == count:
        how = f"the largest {what} of {count} rows"
        return _curve(pilot.values, best, count, unit, how, labels=labels)
    if climb is None:
        how = f"the largest {what} of {rows} of {count} rows, drawn at random: {why_not}"
        return _curve(pilot.values, best, rows, unit, how, labels=labels)
    best = climb.top(pilot.positive, needed=best > 0.0)
    how = f"the largest {what} of {count} rows, factorised {len(climb.values)} times"
    # A matrix is no more regular than that of some of its rows.
    singular = {noise: None for noise, value in pilot.values.items() if value is None}
    return _curve({**singular, **climb.values}, best, count, unit, how, labels=labels)


def _curve(
    tried: Mapping[float, float | None],
    chosen: float,
    rows: int,
    unit: float,
    how: str,
    *,
    labels: bool,
) -> NoiseCurve:
    """The curve of targets in their own units, which are larger by exp(unit) in all."""
    values = {n: None if v is None else v - rows * unit for n, v in sorted(tried.items())}
    known = [value for value in values.values() if value is not None]
    if chosen and labels:
        how = f"the least noise within half a standard error of {how}"
    elif not chosen:
        asked = f"{GAIN:g} nats" + (" and half a standard error" if labels else "")
        gain = max(known) - (values[0.0] or 0.0)
        how = (
            f"none: {how} is {gain:.2g} nats above that of no noise, where more than {asked} are "
            "asked for"
        )
    return NoiseCurve(tuple(values), tuple(values.values()), chosen, rows, how)


class Climb:
    """The curve of all rows, one factorisation for each noise."""

    def __init__(self, trial: Trial, targets: Targets, *, labels: bool) -> None:
        self._trial, self._targets, self._labels = trial, targets, labels
        self.parts: dict[float, Vector | None] = {}
        self._of_outputs: dict[float, Vector | None] = {}
        self.output: int | None = None

    @property
    def values(self) -> dict[float, float | None]:
        """The curve by noise, of all that were tried."""
        return {n: None if p is None else float(p.sum()) for n, p in self.parts.items()}

    def of_output(self, column: int) -> Climb:
        """The curve of one output of a regression: what was factorised for another is known."""
        one = copy(self)
        one.parts, one.output = {}, column
        return one

    def top(self, origin: float, *, needed: bool) -> float:
        """The noise of the largest value, near `origin`, and of labels the least as good.

        Args:
            origin: the noise above 0 of the largest value of some rows.
            needed: whether these rows ask for a noise.
        """
        if self.output is not None:  # noises of one grid are shared between outputs
            origin = _on_grid(origin)
        self._value(0.0)
        self._value(origin)
        if not needed and not self._is_worth(origin):
            return 0.0
        known: dict[int, float] = {}
        steps: Sequence[int] = (0, 1, -1)
        while steps:
            for step in steps:
                known[step] = self._value(origin * _STEP**step)
            at = max(known, key=lambda step: known[step])
            outer = [step for step in (at - 1, at + 1) if step not in known]
            steps = outer[: _FACTORISATIONS - len(self.values)]
        if not self._is_worth(origin * _STEP**at):
            return 0.0
        best, below = (self.parts.get(origin * _STEP**step) for step in (at, at - 1))
        if self._labels and best is not None and below is not None and as_probable(below, best):
            return origin * _STEP ** (at - 1)
        left, top, right = (known.get(at + i, -math.inf) for i in (-1, 0, 1))
        bend = left - 2.0 * top + right
        vertex = 0.5 * (left - right) / bend if -math.inf < bend < 0.0 else 0.0
        return float(origin * _STEP ** (at + vertex))

    def _is_worth(self, noise: float) -> bool:
        """Whether a noise gains enough over none."""
        some, none = self.parts[noise], self.parts[0.0]
        return none is None or some is None or gains(some, none)

    def _value(self, noise: float) -> float:
        """The value at a noise; minus infinity where the matrix is singular."""
        if noise not in self.parts:
            self.parts[noise] = None
            with suppress(NumericalError):
                self.parts[noise] = self._tried(noise)
        parts = self.parts[noise]
        return -math.inf if parts is None else float(parts.sum())

    def _tried(self, noise: float) -> Vector | None:
        """The parts of a noise; NumericalError where the matrix is singular."""
        if self.output is None:
            return self._of(self._trial(noise, self._targets))
        if noise not in self._of_outputs:
            self._of_outputs[noise] = None
            fit, rows = self._trial(noise, self._targets), len(self._targets)
            quadratic = np.einsum("nc,nc->c", self._targets, fit.alpha)
            logs = fit.log_determinant or 0.0
            self._of_outputs[noise] = np.array(
                [profiled_evidence(part, logs, rows) for part in quadratic[:, None]]
            )
        values = self._of_outputs[noise]
        return None if values is None else values[self.output : self.output + 1]

    def _of(self, fit: Fit) -> Vector:
        targets, rows = self._targets, len(self._targets)
        if self._labels:
            variance = 1.0 / fit.system.inverse_diagonal(np.arange(rows))
            left_out = targets - fit.alpha * variance[:, None]
            return label_likelihoods(left_out, targets.argmax(axis=1))
        quadratic = np.einsum("nc,nc->c", targets, fit.alpha)
        return np.array([profiled_evidence(quadratic, fit.log_determinant or 0.0, rows)])


def _on_grid(noise: float) -> float:
    """The power of _STEP that is nearest to a noise above 0."""
    return float(_STEP ** round(math.log(noise, _STEP)))
