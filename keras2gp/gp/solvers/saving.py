"""What each solver keeps, as arrays of a saved estimator, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras2gp._util.arrays import Array
from keras2gp.errors import ModelFileError
from keras2gp.gp.base import GaussianProcess
from keras2gp.gp.solvers.choice import SOLVERS
from keras2gp.gp.solvers.cholesky import check_jitter
from keras2gp.gp.solvers.factor import CholeskyFactor, CholeskyReport, JitterStep
from keras2gp.gp.solvers.iterative import ConjugateGradients
from keras2gp.gp.solvers.iterative_system import IterativeSystem, RecomputedSystem
from keras2gp.gp.solvers.nystroem import InducingSystem
from keras2gp.gp.solvers.system import SolverReport
from keras2gp.gp.solvers.training import Training, training_of

__all__ = ["PROBE", "probed", "restore_system", "system_arrays", "system_names"]

# So many training inputs are compared with the kernel that a fit is loaded with.
PROBE = 8

_DIRECT = ("factor.npy",)
_ARRAYS = {
    "cholesky": _DIRECT,
    "tensorflow": _DIRECT,
    "cg": ("leading.npy",),
    "nystroem": ("weights.npy", "lower.npy", "inner.npy", "diagonal.npy"),
}


def system_names(head: Mapping[str, Any]) -> tuple[str, ...]:
    """Files of the solver of a saved estimator. Raises: KeyError for an unknown one."""
    return _ARRAYS[head["solver_report"]["solver"]]


def system_arrays(estimator: GaussianProcess) -> dict[str, npt.NDArray[Any]]:
    """What the solver keeps, by file name."""
    system = estimator.system_
    if isinstance(system, CholeskyFactor):
        return {"factor.npy": system.as_vector()}
    if isinstance(system, InducingSystem):
        return {
            "weights.npy": estimator.weights_,
            "lower.npy": system.lower,
            "inner.npy": system.inner,
            "diagonal.npy": system.diagonal,
        }
    if isinstance(system, IterativeSystem | RecomputedSystem):
        return {"leading.npy": system.leading(min(PROBE, system.basis))}
    raise ModelFileError(f"a system of type {type(system).__name__} cannot be saved")


def restore_system(
    estimator: GaussianProcess, head: Mapping[str, Any], arrays: Mapping[str, Any], gram: Any
) -> None:
    """Set what a solver leaves; ValueError, KeyError and the like where the files are malformed.

    Raises: ModelFileError, InputError.
    """
    estimator.solver_report_ = SolverReport.restored(dict(head["solver_report"]), list(SOLVERS))
    targets = estimator.targets_
    estimator.inducing_ = None
    estimator.weights_ = estimator.alpha_
    if "factor.npy" in arrays:
        factor: CholeskyFactor = arrays["factor.npy"]
        _require(factor.size == len(targets))
        estimator.system_, estimator.jitter_report_ = factor, factor.report
        return
    report = _report(head["jitter_report"])
    estimator.jitter_report_ = report
    if "lower.npy" in arrays:
        _restore_inducing(estimator, head["inducing"], arrays)
        return
    leading = arrays["leading.npy"]
    count = min(PROBE, len(targets))
    _require(leading.shape == (count, count))
    training = (
        Training(estimator.kernel, estimator.x_train_, None, len(targets))
        if gram is None
        else training_of(estimator.kernel, estimator.x_train_, gram)
    )
    # What "auto" chose is not kept with its settings, since they are the usual ones.
    asked = estimator.solver
    options = asked if isinstance(asked, ConjugateGradients) else ConjugateGradients()
    added = float(estimator.noise_variance) + report.added
    estimator.system_ = RecomputedSystem(options, training, added, leading)


def probed(estimator: GaussianProcess) -> tuple[npt.NDArray[Any], Array]:
    """A few training inputs, and the kernel matrix that the fit had for them.

    Raises: ModelFileError if the estimator has no inputs.
    """
    if estimator.x_train_ is None or estimator.basis_ is None:
        raise ModelFileError("a fit with a precomputed kernel has no inputs")
    system = estimator.system_
    count = min(PROBE, system.basis)
    if isinstance(system, CholeskyFactor):
        count = min(count, system.tile)
        added = float(estimator.noise_variance) + estimator.jitter_report_.added
        return estimator.x_train_[:count], system.leading(count) - added * np.eye(count)
    if isinstance(system, InducingSystem | IterativeSystem | RecomputedSystem):
        return estimator.basis_[:count], system.leading(count)
    raise ModelFileError(f"a system of type {type(system).__name__} has no leading block")


def _restore_inducing(estimator: GaussianProcess, rows: Any, arrays: Mapping[str, Any]) -> None:
    lower, inner, weights = (arrays[f"{name}.npy"] for name in ("lower", "inner", "weights"))
    count, outputs = estimator.targets_.shape
    rank = len(lower)
    _require(
        isinstance(rows, list)
        and len(rows) == rank == len(set(rows))
        and all(type(row) is int and 0 <= row < count for row in rows)
    )
    _require(lower.shape == inner.shape == (rank, rank) and weights.shape == (rank, outputs))
    _require(arrays["diagonal.npy"].shape == (count,) and (arrays["diagonal.npy"] > 0.0).all())
    for factor in (lower, inner):
        _require((np.diagonal(factor) > 0.0).all() and not np.triu(factor, 1).any())
    estimator.inducing_ = np.array(rows, dtype=np.intp)
    estimator.weights_ = weights
    estimator.system_ = InducingSystem(lower, inner, arrays["diagonal.npy"])


def _require(condition: Any) -> None:
    if not condition:
        raise ModelFileError("the arrays do not fit each other")


def _report(described: Mapping[str, Any]) -> CholeskyReport:
    steps = tuple(
        JitterStep(_number(s["jitter"]), _number(s["smallest_pivot"]), int(s["index"]))
        for s in described["steps"]
    )
    if not steps:
        raise ValueError("no step of jitter")
    return CholeskyReport(
        jitter=float(check_jitter(_number(described["jitter"])) or 0.0),
        mean_diagonal=_number(described["mean_diagonal"]),
        steps=steps,
        seconds=_number(described["seconds"]),
    )


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} where a finite number is expected")
    return float(value)
