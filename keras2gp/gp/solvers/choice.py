"""The choice of a solver: by name, as an object with settings, or by the memory of the machine."""

from __future__ import annotations

import sys
from typing import Any, cast

from keras2gp._util import memory
from keras2gp._util.arrays import Indices
from keras2gp._util.text import did_you_mean, received_text, size_text
from keras2gp.errors import InputError
from keras2gp.gp.solvers.direct import Cholesky, TensorFlowCholesky
from keras2gp.gp.solvers.fitc import Nystroem
from keras2gp.gp.solvers.iterative import ConjugateGradients
from keras2gp.gp.solvers.mixed import MixedPrecision
from keras2gp.gp.solvers.projected import ProjectedProcess
from keras2gp.gp.solvers.system import Solver, SolverLike
from keras2gp.gp.solvers.training import Training

__all__ = [
    "SOLVERS",
    "check_solver",
    "chosen_solver",
    "inducing_rows",
    "solver_from_dict",
    "solver_to_dict",
]

SOLVERS: dict[str, type[Solver]] = {
    kind.name: kind
    for kind in (
        *(Cholesky, MixedPrecision, TensorFlowCholesky, ConjugateGradients, Nystroem),
        ProjectedProcess,
    )
}

# Below this size the transfer and the start of the GPU cost more than they save.
_WORTH_A_GPU = 4000


def check_solver(solver: SolverLike) -> Solver | None:
    """The solver of a setting, or None for "auto".

    Raises:
        InputError: the setting is no solver.
    """
    if isinstance(solver, str) and solver == "auto":
        return None
    if isinstance(solver, str) and solver in SOLVERS:
        return SOLVERS[solver]()
    if isinstance(solver, tuple(SOLVERS.values())):
        return cast("Solver", solver)
    names = ", ".join(f'"{name}"' for name in SOLVERS)
    classes = ", ".join(f"{kind.__name__}()" for kind in SOLVERS.values())
    close = did_you_mean(solver, ("auto", *SOLVERS)) if isinstance(solver, str) else ""
    raise InputError(
        f'solver is {received_text(solver)}: expected "auto", {names}, or one of {classes} with '
        f"settings.{close}"
    )


def inducing_rows(solver: SolverLike, count: int) -> Indices | None:
    """Rows of the inducing inputs where the solver takes the covariances with them as a matrix.

    Raises:
        InputError: the setting is no solver, or its rows are not among the N.
    """
    found = check_solver(solver)
    return found.rows(count) if isinstance(found, ProjectedProcess) else None


def chosen_solver(solver: SolverLike, training: Training, outputs: int) -> tuple[Solver, str]:
    """The solver, and the reason for it.

    "auto" takes an exact solver: TensorFlow's Cholesky where TensorFlow has a GPU and N is large,
    otherwise the tiled Cholesky. Where that factor does not fit in memory it takes one in float32
    with refined solves, and where that does not fit either, or where the matrix can only be
    multiplied, conjugate gradients. It never takes an approximation.

    Raises:
        InputError: the setting is no solver.
    """
    asked = check_solver(solver)
    if asked is not None:
        return asked, "asked for"
    if not training.whole:
        return ConjugateGradients(), "the matrix can only be multiplied"
    count, direct = len(training), Cholesky()
    total = direct.memory(training, outputs) + training.bytes_to_compute
    available = memory.available_memory() if total > memory.NEGLIGIBLE else None
    gpu = TensorFlowCholesky()
    if count >= _WORTH_A_GPU and _has_gpu() and _fits(gpu, training, outputs, available):
        return gpu, f"TensorFlow has a GPU, and N = {count}"
    needed = size_text(total)
    if available is None:
        return direct, f"exact; it needs {needed}"
    if _fits(direct, training, outputs, available):
        return direct, f"exact, and its {needed} fit in the {size_text(available)} available"
    short = f"a Cholesky factor needs {needed}, and {size_text(available)} is available"
    mixed = MixedPrecision()
    if _fits(mixed, training, outputs, available):
        return mixed, short
    return ConjugateGradients(), short


def solver_to_dict(solver: SolverLike) -> dict[str, Any]:
    """The setting `solver` as data for JSON."""
    if isinstance(solver, str):
        return {"name": solver}
    return {"name": solver.name, "settings": vars(solver)}


def solver_from_dict(described: dict[str, Any]) -> Any:
    """The setting of a `solver_to_dict`; KeyError, TypeError and the like if it is malformed.

    Raises:
        InputError: settings out of range.
    """
    name, settings = described["name"], described.get("settings")
    if settings is None:
        check_solver(name)
        return name
    if "inducing" in settings and settings["inducing"] is not None:
        settings = {**settings, "inducing": tuple(settings["inducing"])}
    return SOLVERS[name](**settings)


def _fits(solver: Solver, training: Training, outputs: int, available: int | None) -> bool:
    needed = solver.memory(training, outputs) + training.bytes_to_compute
    return available is None or needed <= available


def _has_gpu() -> bool:
    """Whether TensorFlow is in use already and sees a GPU; it is not imported to find out."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and bool(tensorflow.config.list_physical_devices("GPU"))
