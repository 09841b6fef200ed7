"""The solution for the targets of a fit: solver, noise, evidence, and the messages about them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from keras2gp._util.arrays import Array, Matrix, Targets
from keras2gp._util.progress import Advance
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.arguments.rows import RowNoise
from keras2gp.gp.noise.choice import choose_noise, choose_noises
from keras2gp.gp.noise.curve import Curves, NoiseCurve
from keras2gp.gp.noise.pilot import noise_memory
from keras2gp.gp.noise.projected import PASSES, choose_projected_noise
from keras2gp.gp.process.intercept import ROWS, chosen_intercept, gainful, shifted_training
from keras2gp.gp.process.pattern_fit import fit_by_pattern
from keras2gp.gp.solvers.by_output import fit_outputs
from keras2gp.gp.solvers.by_pattern import pattern_memory
from keras2gp.gp.solvers.choice import chosen_solver
from keras2gp.gp.solvers.direct import Cholesky, TensorFlowCholesky
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.jitter import LARGEST, check_jitter
from keras2gp.gp.solvers.precision import precision_hint
from keras2gp.gp.solvers.projected import ONE_NOISE, ProjectedProcess
from keras2gp.gp.solvers.report import SolverReport
from keras2gp.gp.solvers.system import Fit, Solver
from keras2gp.gp.solvers.training import Training

__all__ = [
    "FitProblem",
    "Solution",
    "jitter_message",
    "solved",
    "solved_with_intercept",
]

_DIRECT = ("cholesky", "tensorflow")
"""Names of the solvers that make a Cholesky factor in float64."""
_WITHOUT_MATRIX = ("nystroem", "projected")
"""Names of the solvers that take covariances with inducing inputs alone."""


@dataclass(frozen=True)
class FitProblem:
    """The targets to solve for, and the settings.

    Attributes:
        training: the covariance of the training inputs.
        targets: Y, [N, C].
        noise: of the rows; its common factor is None to choose it.
        jitter: "auto", or a number relative to the mean of the kernel's diagonal.
        solver: "auto", a name, or a solver with settings.
        labels: whether the targets are those of a classification.
        reason_for_no_noise: why the noise is 0 where it is not stated; empty to choose it.
        seen: whether a row has a target of an output, [N, C]; None where all have. Targets that
            are missing are 0.
    """

    training: Training
    targets: Targets
    noise: RowNoise
    jitter: float | str
    solver: Any
    labels: bool
    reason_for_no_noise: str
    seen: Array | None = None


Solution = tuple[Fit, SolverReport, Curves]
"""The outcome of a solver, its report, and the choice of the noise."""


def solved_with_intercept(
    problem: FitProblem, progress: Advance | None = None
) -> tuple[Solution, float]:
    """The solution with an intercept where labels gain by it, and the variance of the intercept.

    The variance is the mean of the training inputs'.

    Args:
        problem: of a classification.
        progress: as for `solved`.

    Raises:
        InputError: as `solved`.
        NumericalError: as `solved`.
    """
    training, outputs = problem.training, problem.targets.shape[1]
    check_jitter(problem.jitter)
    solver, reason = chosen_solver(problem.solver, training, outputs)
    started, computed = time.perf_counter(), 0
    if solver.name not in _WITHOUT_MATRIX:
        solver.require(training, outputs)
        computed, training = training.bytes_to_compute, training.computed()
    problem, solution = replace(problem, training=training), None
    if problem.noise.common is not None and len(training) <= ROWS and solver.name in _DIRECT:
        solution = _solved(problem, solver, reason, progress)  # its factor decides, and may stay
        without, mean = solution[0], float(problem.training.diagonal().mean())
        factor = cast("CholeskyFactor", without.system)
        variance = gainful(factor, problem.targets, without.alpha, mean)
    else:
        variance = chosen_intercept(
            problem.training, problem.targets, problem.noise, problem.jitter
        )
    if variance:
        problem = replace(problem, training=shifted_training(problem.training, variance))
    if variance or solution is None:
        solution = _solved(problem, solver, reason, progress)
    fit, report, curve = solution
    seconds = time.perf_counter() - started
    report = replace(report, memory=report.memory + computed, seconds=seconds)
    return (fit, report, curve), variance


def solved(problem: FitProblem, progress: Advance | None = None) -> Solution:
    """The outcome of the chosen solver, its report, and the choice of the noise.

    Args:
        problem: the targets and the settings.
        progress: called with (steps done, steps in all) of the solver; it starts again for each
            noise.

    Raises:
        InputError: settings or memory do not fit.
        NumericalError: the matrix is not positive definite, or the solution beyond float64.
    """
    check_jitter(problem.jitter)
    solver, reason = chosen_solver(problem.solver, problem.training, problem.targets.shape[1])
    return _solved(problem, solver, reason, progress)


def _solved(problem: FitProblem, solver: Solver, reason: str, progress: Advance | None) -> Solution:
    """The outcome of a solver, and the reason for it."""
    training, targets, noise = problem.training, problem.targets, problem.noise.common
    curve: Curves = None
    outputs = targets.shape[1]
    own_matrices = problem.noise.by_output or problem.seen is not None
    if own_matrices:
        _require_factors(solver, reason, problem)
    if problem.noise.relative is not None and isinstance(solver, ProjectedProcess):
        raise InputError(ONE_NOISE)
    memory = solver.memory(training, outputs)
    if problem.seen is not None:
        memory = pattern_memory(training, problem.seen, None)
    if noise is None and not isinstance(solver, ProjectedProcess):
        memory = max(memory, noise_memory(len(training), outputs))
    if solver.name not in _WITHOUT_MATRIX:
        memory += training.bytes_to_compute
    started = time.perf_counter()
    if noise is None and isinstance(solver, ProjectedProcess):
        fit, curve = _projected(problem, solver, progress)
    elif problem.seen is not None:
        given = training, targets, problem.noise, problem.seen, solver
        fit, curve, how = fit_by_pattern(*given, jitter=problem.jitter, progress=progress)
        reason = f"{reason}; {how}"
    elif own_matrices:
        fit, curve, how = _by_output(problem, solver, progress)
        reason = f"{reason}; {how}"
    else:
        if noise is None:
            training, one = _chosen_noise(problem, solver, progress)
            noise, curve = one.chosen, one
        noises = problem.noise.times(cast("float", noise))
        fit = solver.fit(training, targets, noises, problem.jitter, progress)
    _require_range(targets, fit.alpha)
    name, reason, memory = fit.instead or (solver.name, reason, memory)
    report = SolverReport(
        solver=name,
        reason=reason,
        memory=memory,
        seconds=time.perf_counter() - started,
        iterations=fit.iterations,
        residual=fit.residual,
        rank=fit.rank,
        evidence_error=(
            None if fit.determinant_error is None else outputs * fit.determinant_error / 2.0
        ),
    )
    return fit, report, curve


def _chosen_noise(
    problem: FitProblem, solver: Solver, progress: Advance | None
) -> tuple[Training, NoiseCurve]:
    """The training covariance with the matrix that the choice computed, and the choice."""
    training, jitter = problem.training, check_jitter(problem.jitter)
    if problem.reason_for_no_noise:
        return training, NoiseCurve(
            (), (), 0.0, len(training), f"none: {problem.reason_for_no_noise}"
        )
    solver.require(training, problem.targets.shape[1])
    if solver.name not in _WITHOUT_MATRIX:
        training = training.computed()

    def trial(noise: float, targets: Targets) -> Fit:
        return solver.fit(training, targets, problem.noise.times(noise), jitter or 0.0, progress)

    direct = solver.name in _DIRECT
    return training, choose_noise(
        training,
        problem.targets,
        labels=problem.labels,
        jitter=jitter,
        relative=problem.noise.relative,
        trial=trial if direct else None,
        why_not=f'solver "{solver.name}" computes no exact determinant of all',
    )


def _require_factors(solver: Solver, reason: str, problem: FitProblem) -> None:
    """Refuse a solver that is not direct, with an InputError."""
    if not isinstance(solver, Cholesky | TensorFlowCholesky):
        cause = "a noise for each output gives each"
        if problem.seen is not None:
            cause = "outputs of y lack targets in different rows, which gives each"
        raise InputError(
            f'{cause} a matrix of its own, and solver "{solver.name}" ({reason}) solves for all '
            "outputs with one. Try: solver='cholesky'; or a fit for "
            "each column of y, with gram= so that the kernel is computed once"
        )


def _by_output(
    problem: FitProblem, solver: Any, progress: Advance | None
) -> tuple[Fit, tuple[NoiseCurve, ...] | None, str]:
    """A fit whose outputs have noises of their own, the choice of them, and the way in words."""
    training, noises = problem.training, problem.noise.common
    solver.require(training, problem.targets.shape[1])
    training, curves = training.computed(), None

    def trial(noise: float, targets: Targets) -> Fit:
        jitter = check_jitter(problem.jitter) or 0.0
        fit: Fit = solver.fit(training, targets, problem.noise.times(noise), jitter, progress)
        return fit

    if noises is None:
        curves = choose_noises(
            training,
            problem.targets,
            jitter=check_jitter(problem.jitter),
            relative=problem.noise.relative,
            trial=trial,
        )
        noises = np.array([curve.chosen for curve in curves])
    whole = problem.noise.of_outputs(np.asarray(noises))
    fit, how = fit_outputs(
        training, problem.targets, whole, solver, problem.jitter, progress=progress
    )
    return fit, curves, how


def _projected(
    problem: FitProblem, solver: ProjectedProcess, progress: Advance | None
) -> tuple[Fit, NoiseCurve]:
    """A fit from sums over the training inputs that every noise shares, and the choice of it."""
    training, targets = problem.training, problem.targets
    if problem.reason_for_no_noise:
        fit = solver.fit(training, targets, 0.0, problem.jitter, progress)
        return fit, NoiseCurve((), (), 0.0, len(training), f"none: {problem.reason_for_no_noise}")
    steps = solver.steps(training, progress, passes=PASSES if problem.labels else PASSES - 1)
    equations = solver.equations(training, targets, steps)
    jitter = (check_jitter(problem.jitter) or 0.0) * equations.mean
    curve = choose_projected_noise(equations, labels=problem.labels, jitter=jitter, advance=steps)
    return equations.fit(curve.chosen, problem.jitter, steps), curve


def _require_range(targets: Targets, alpha: Matrix) -> None:
    """Refuse a solution that left the range of float64, with a NumericalError."""
    solution, size = np.abs(alpha).max(axis=0), np.abs(targets).max(axis=0)
    lost = (size > 0.0) & (solution < 1.0 / LARGEST)
    if not np.isfinite(solution).all() or lost.any():
        raise NumericalError(
            f"the solution for the targets {'underflows' if lost.any() else 'overflows'} float64: "
            f"targets up to {size.max():.3g}, solution up to {solution.max():.3g}. Try: targets in "
            "another unit, normalize_y=True, or a kernel whose variances are near 1"
        )


def jitter_message(fit: Fit, positions: tuple[int, ...]) -> str:
    """The warning about jitter that "auto" added.

    Args:
        fit: the outcome of the solver.
        positions: of the kernel.
    """
    report, (low, remedy) = fit.report, precision_hint(fit.dtype)
    first = report.steps[0]
    place = f"smallest pivot {first.smallest_pivot:.3g}, at row {first.index} (counted from 0)"
    if first.index < 0:
        place = f"smallest curvature {first.smallest_pivot:.3g}"
    message = (
        f"the kernel matrix is singular ({place}); solved with jitter {report.jitter:g} of its "
        f"mean diagonal, {report.added:.3g}."
    )
    if report.duplicate is not None:
        one, other = report.duplicate
        same = ", of images at positions" if positions else ""
        message += f" Rows {one} and {other} agree{same}, counted from 0: the same input twice."
        low = remedy = ""
    return f"{message}{low} Try: {remedy}a noise_variance, which makes it regular"
