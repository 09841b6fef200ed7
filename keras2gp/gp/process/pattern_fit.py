"""A fit whose outputs lack targets in different rows: the noise, and a factor for each pattern."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Targets, Vector
from keras2gp._util.progress import Advance
from keras2gp.gp.arguments.rows import RowNoise
from keras2gp.gp.noise.choice import Trial
from keras2gp.gp.noise.curve import Curves
from keras2gp.gp.noise.patterns import choose_pattern_noise, choose_pattern_noises
from keras2gp.gp.solvers.by_pattern import fit_patterns, require_pattern_memory
from keras2gp.gp.solvers.jitter import check_jitter
from keras2gp.gp.solvers.system import Fit, Solver
from keras2gp.gp.solvers.training import Training

__all__ = ["fit_by_pattern"]


def fit_by_pattern(
    training: Training,
    targets: Targets,
    noise: RowNoise,
    seen: Array,
    solver: Solver,
    *,
    jitter: float | str,
    progress: Advance | None,
) -> tuple[Fit, Curves, str]:
    """A fit of the targets that are there, the choice of their noise, and the way in words.

    Args:
        training: the covariance of the training inputs.
        targets: Y, [N, C]; 0 where a target is missing.
        noise: of the rows; its common factor is None to choose it.
        seen: whether a row has a target of an output, [N, C].
        solver: a direct solver.
        jitter: "auto", or a number relative to the mean of the kernel's diagonal.
        progress: called with (steps done, steps in all) of each factor.

    Raises:
        InputError: the memory does not suffice, or the matrix is no array.
        NumericalError: a matrix is not positive definite.
    """
    outputs, stated = targets.shape[1], noise.common
    every = noise.of_outputs(
        np.broadcast_to(np.asarray(0.0 if stated is None else stated), (outputs,))
    )
    different = noise.by_output and stated is None  # then each may have a factor of its own
    require_pattern_memory(training, seen, np.arange(outputs)[None] * 1.0 if different else every)
    training = training.computed()
    tried = check_jitter(jitter) or 0.0

    def joint(value: float, some: Targets, there: Array) -> Fit:
        noises = noise.of_outputs(np.full(some.shape[1], value))
        fit, _ = fit_patterns(
            training, some, noises, there, solver, jitter=tried, progress=progress
        )
        return fit

    def separate(part: Training, relative: Vector | None) -> Trial:
        def trial(value: float, some: Targets) -> Fit:
            noises = RowNoise(None, relative).times(value)
            return solver.fit(part, some, noises, tried, progress)

        return trial

    settings: dict[str, Any] = {"jitter": check_jitter(jitter), "relative": noise.relative}
    curves: Curves = None
    if stated is None and noise.by_output:
        curves = choose_pattern_noises(training, targets, seen, trial=separate, **settings)
        every = noise.of_outputs(np.array([curve.chosen for curve in curves]))
    elif stated is None:
        curves = choose_pattern_noise(training, targets, seen, trial=joint, **settings)
        every = noise.of_outputs(np.full(outputs, curves.chosen))
    fit, how = fit_patterns(
        training, targets, every, seen, solver, jitter=jitter, progress=progress
    )
    return fit, curves, how
