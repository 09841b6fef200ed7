"""The state of a fit as data: settings, facts and arrays, written by `save` and read by `load`.

The functions that read a state check it. Malformed facts raise KeyError, TypeError, ValueError and
the like, and arrays that do not fit each other a ModelFileError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from keras2gp._util.arrays import Array, Images, Indices, Matrix, Noise, NoiseLike, Targets, Vector
from keras2gp._util.checks import finite_number, python_number
from keras2gp.errors import ModelFileError
from keras2gp.gp.arguments.noise import check_noise_setting
from keras2gp.gp.arguments.rows import RowNoise
from keras2gp.gp.noise.curve import Curves, NoiseCurve
from keras2gp.gp.process.posterior import Posterior
from keras2gp.gp.solvers.by_output import system_of
from keras2gp.gp.solvers.choice import SOLVERS, check_solver, solver_from_dict, solver_to_dict
from keras2gp.gp.solvers.jitter import check_jitter
from keras2gp.gp.solvers.system import LinearSystem, Origin, SolverLike
from keras2gp.gp.solvers.training import Training

__all__ = [
    "FittedRows",
    "fit_state",
    "restored_basis",
    "restored_intercept",
    "restored_noise",
    "restored_observed",
    "restored_rows",
    "restored_system",
    "settings_from_state",
    "settings_state",
]

_OF_ROWS = {"file": "noise.npy"}
"""In a saved fit, in the place of a noise variance: it is that of each row, in this file."""


def settings_state(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an estimator without its kernel, as data for JSON.

    Args:
        settings: arguments of the estimator, by name.
    """
    state = {name: value for name, value in settings.items() if name != "kernel"}
    state["solver"] = solver_to_dict(state["solver"])
    if np.ndim(state["noise_variance"]):
        state["noise_variance"] = _OF_ROWS
    return {name: python_number(value) for name, value in state.items()}


def settings_from_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a `settings_state`.

    Raises:
        InputError: a setting is out of range.
    """
    if state["noise_variance"] != _OF_ROWS:
        check_noise_setting(state["noise_variance"])
    check_jitter(state["jitter"])
    return {**state, "solver": solver_from_dict(state["solver"])}


def fit_state(gp: Posterior) -> tuple[dict[str, Any], dict[str, Array]]:
    """The facts of a fit as data for JSON, and its arrays by file name."""
    value = gp.log_marginal_likelihood_value_
    facts: dict[str, Any] = {
        "input_shape": list(gp.input_shape_),
        "kernel_dtype": gp.kernel_dtype_,
        "log_marginal_likelihood": None if math.isnan(value) else value,
        "solver_report": gp.solver_report_.state(),
        "jitter_report": gp.jitter_report_.state(),
    }
    arrays = {"y.npy": gp.targets_, "alpha.npy": gp.alpha_, **gp.system_.state()}
    if gp.inducing_ is not None:
        facts["inducing"] = gp.inducing_.tolist()
        arrays["weights.npy"] = gp.weights_
    if gp.x_train_ is not None:
        arrays["x_train.npy"] = gp.x_train_
    if gp.relative_noise_ is not None:
        arrays["relative_noise.npy"] = gp.relative_noise_
    if gp.observed_targets_ is not None:
        facts["missing_targets"] = int((~gp.observed_targets_).sum())
    if gp.observed_ is not None:
        arrays["observed.npy"] = gp.observed_.astype(np.float64)
    if np.ndim(gp.noise_variance):
        facts["mean_noise"] = float(np.mean(gp.noise_variance_))
        facts["noise_by_output"] = isinstance(gp.noise_variance_, np.ndarray)
        arrays["noise.npy"] = np.asarray(gp.noise_variance, dtype=np.float64)
    if isinstance(gp.noise_curve_, tuple):
        facts["noise_curves"] = [curve.state() for curve in gp.noise_curve_]
    elif gp.noise_curve_ is not None:
        facts["noise_curve"] = gp.noise_curve_.state()
    return facts, arrays


class FittedRows(NamedTuple):
    """The rows of a saved fit.

    Attributes:
        shape: of an input.
        x: training inputs; None for a precomputed kernel.
        observed: numbers of the rows that have a target; None for all.
        targets: Y, [N, C].
        alpha: A^-1 Y, [N, C].
    """

    shape: tuple[int, ...]
    x: Images | None
    observed: Indices | None
    targets: Targets
    alpha: Matrix


def restored_intercept(facts: Mapping[str, Any]) -> float:
    """The variance of the intercept; fits of earlier releases have none."""
    intercept = finite_number(facts.get("intercept", 0.0))
    _require(intercept >= 0.0)
    return intercept


def restored_rows(
    facts: Mapping[str, Any],
    arrays: Mapping[str, Array],
    positions: tuple[int, ...],
    *,
    precomputed: bool,
) -> FittedRows:
    """Inputs and targets of a `fit_state`.

    Args:
        facts: the first part of the state.
        arrays: the second part.
        positions: sizes of the axes of positions of the kernel.
        precomputed: whether the kernel is precomputed.
    """
    targets, alpha = arrays["y.npy"], arrays["alpha.npy"]
    shape, x = tuple(int(n) for n in facts["input_shape"]), arrays.get("x_train.npy")
    fitted_positions = tuple(facts.get("positions", ()))
    if fitted_positions != positions:
        raise ModelFileError(
            f"the kernel has positions {positions}, and that of the fit had {fitted_positions}"
        )
    observed = arrays.get("observed.npy")
    if precomputed:
        fits, received = x is None and len(shape) == 1, shape[0]
    else:
        images = 0 if x is None else len(x)
        fits, received = x is not None and x.shape[1:] == shape, math.prod(positions) * images
    if observed is None:
        fits = fits and received == len(targets)
    else:
        fits = fits and _are_rows(observed, received) and len(observed) == len(targets)
    _require(fits and targets.ndim == 2 and alpha.shape == targets.shape)
    numbers = None if observed is None else observed.astype(np.intp)
    return FittedRows(shape, x, numbers, targets, alpha)


def restored_observed(
    facts: Mapping[str, Any], arrays: Mapping[str, Array], rows: FittedRows, *, labels: bool
) -> Array | None:
    """Whether a row has a target of an output, [N, C]; None where all have.

    Args:
        facts: the first part of a `fit_state`.
        arrays: the second part.
        rows: the rows of the fit.
        labels: whether the targets are those of a classification.
    """
    patterns, factors = (arrays.get(name) for name in ("patterns.npy", "pattern_factors.npy"))
    missing = facts.get("missing_targets")
    _require((patterns is None) == (factors is None) == (missing is None))
    if patterns is None:
        return None
    observed: Array = patterns == 1.0
    _require(not labels and patterns.shape == rows.targets.shape)
    _require(missing == (~observed).sum() > 0)
    _require(not (rows.targets[~observed].any() or rows.alpha[~observed].any()))
    return observed


def restored_noise(
    setting: NoiseLike,
    facts: Mapping[str, Any],
    arrays: Mapping[str, Array],
    targets: Targets,
    *,
    labels: bool,
) -> tuple[NoiseLike, RowNoise, Curves]:
    """The setting `noise_variance`, the noise of the rows, and the choice of it.

    Args:
        setting: of the estimator, as `settings_from_state` gives it.
        facts: the first part of a `fit_state`.
        arrays: the second part.
        targets: Y, [N, C].
        labels: whether the targets are those of a classification.
    """
    relative, curve = arrays.get("relative_noise.npy"), facts.get("noise_curve")
    curves, outputs = facts.get("noise_curves"), targets.shape[1]
    by_output = curves is not None
    common: float | Vector | None
    if setting == _OF_ROWS:
        setting = arrays["noise.npy"]
        common = finite_number(facts["mean_noise"])
        by_output = facts.get("noise_by_output") is True  # earlier releases: of rows
        if by_output:
            noises = setting.reshape(-1)
            _require(len(noises) == outputs > 1)
            common = noises
    else:
        common = check_noise_setting(setting)
    _require((common is None) == (curve is not None or curves is not None))
    _require(not (by_output and labels))
    if relative is not None:
        _require(relative.shape == (len(targets),) and relative.dtype.kind == "f")
        _require(bool((np.isfinite(relative) & (relative >= 0.0)).all()))
    chosen: Curves = None if curve is None else NoiseCurve.from_state(curve)
    if curves is not None:
        chosen = tuple(NoiseCurve.from_state(one) for one in curves)
        _require(curve is None and len(chosen) == outputs > 1)
    return setting, RowNoise(common, relative, by_output), chosen


def restored_system(
    arrays: Mapping[str, Array],
    training: Training,
    setting: SolverLike,
    *,
    used: str,
    added: Noise | None,
    outputs: int,
) -> LinearSystem:
    """The solver's system.

    Args:
        arrays: the second part of a `fit_state`.
        training: the training covariance of the fit.
        setting: the estimator's `solver`.
        used: the name of the solver that was used.
        added: noise and jitter on the diagonal of A; None where each output has a matrix of its
            own, whose systems know it.
        outputs: C.
    """
    kind, asked = SOLVERS[used], check_solver(setting)
    # The settings that "auto" chose are not saved: they are the defaults.
    solver = asked if isinstance(asked, kind) else kind()
    if added is not None:
        return kind.system.from_state(arrays, Origin(training, solver, added))
    system = system_of(arrays, Origin(training, solver, 0.0))
    _require(system.added.shape[1] == outputs)
    return system


def restored_basis(
    facts: Mapping[str, Any], arrays: Mapping[str, Array], alpha: Matrix, count: int
) -> tuple[Indices | None, Matrix]:
    """Numbers of the inducing inputs, None for all rows, and the weights of the basis, [B, C].

    Args:
        facts: the first part of a `fit_state`.
        arrays: the second part.
        alpha: A^-1 Y, [N, C].
        count: the number of inputs of the basis that the solver's system has.
    """
    inducing: Any = facts.get("inducing")
    weights = arrays.get("weights.npy")
    _require((weights is None) == (inducing is None))
    if weights is None:
        _require(count == len(alpha))
        return None, alpha
    rows, outputs = alpha.shape
    _require(isinstance(inducing, list) and len(inducing) == count == len(set(inducing)))
    _require(all(type(row) is int and 0 <= row < rows for row in inducing))
    _require(weights.shape == (count, outputs))
    return np.array(inducing, dtype=np.intp), weights


def _require(condition: bool) -> None:
    if not condition:
        raise ModelFileError("the arrays do not fit each other")


def _are_rows(numbers: Array, count: int) -> bool:
    """Whether these are different rows out of `count`, in their order."""
    whole = numbers.ndim == 1 and numbers.size > 0 and bool((numbers == np.floor(numbers)).all())
    return whole and numbers[0] >= 0 and numbers[-1] < count and bool((np.diff(numbers) > 0).all())
