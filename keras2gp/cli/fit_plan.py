"""fit --dry-run: what a fit would take, found out from a few images; nothing is written."""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np
import scipy.linalg

from keras2gp._util.arrays import Images
from keras2gp._util.progress import stage
from keras2gp._util.text import duration_text, size_text
from keras2gp.gp.noise.pilot import noise_memory
from keras2gp.gp.solvers.choice import chosen_solver, inducing_rows
from keras2gp.gp.solvers.training import Training
from keras2gp.kernel.kernel import Kernel
from keras2gp.matrices.api import estimate
from keras2gp.matrices.speed import Speed, speed_of, tried_images

__all__ = ["plan_fit", "plan_lines"]

_FACTORED = 1000
"""Rows of the matrix whose factor is timed."""
_CUBIC = {"cholesky": 1.0, "tensorflow": 1.0, "mixed": 0.5}
"""Solvers that take a factor, and their time in that of a float64 factor."""


def plan_fit(
    kernel: Kernel, x: Images, outputs: int, solver: Any, options: argparse.Namespace
) -> dict[str, Any]:
    """Time, memory and disk that a fit to images x would take, as data for JSON.

    Args:
        kernel: the kernel.
        x: the training images.
        outputs: the number of classes, or 1.
        solver: the setting of the estimator.
        options: `gram` and `noise_variance`.

    Raises:
        InputError: the solver needs more memory than there is.
    """
    positions = math.prod(kernel.positions)
    count, inducing = len(x) * positions, inducing_rows(solver, len(x) * positions)
    columns = None if inducing is None else -(-len(inducing) // positions)
    needed = estimate(kernel, len(x), columns, options.gram, positions="all")
    given = None
    if options.gram is not None:
        sides = (count, count if inducing is None else len(inducing))
        given = np.broadcast_to(np.zeros(1, kernel.dtype), sides)
    if inducing is None:
        training = Training(kernel, None, given, count)
    else:
        training = Training(kernel, None, None, count, rectangle=given)
    chosen, reason = chosen_solver(solver, training, outputs)
    chosen.require(training, outputs)
    memory = chosen.memory(training, outputs)
    if inducing is not None:  # the estimate has them
        memory -= training.rectangle_bytes(len(inducing))
    elif options.noise_variance == "auto":
        memory = max(memory, noise_memory(count, outputs))
    with stage("timing the kernel"):
        speed = speed_of(kernel, x[: tried_images(kernel)], whole=count)
    factor = _CUBIC.get(chosen.name)
    return {
        "estimate": needed.to_dict(),
        "solver": {"name": chosen.name, "reason": reason, "memory": memory},
        **speed.to_dict(needed.pairs),
        "factor_seconds": None if factor is None else factor * _factor_seconds(count),
    }


def _factor_seconds(count: int) -> float:
    """Seconds that a float64 Cholesky factor of `count` rows takes."""
    matrix = np.eye(_FACTORED) + 0.1
    began = time.perf_counter()
    scipy.linalg.cholesky(matrix, lower=True, check_finite=False)
    return (time.perf_counter() - began) * (count / _FACTORED) ** 3


def plan_lines(plan: dict[str, Any], options: argparse.Namespace) -> list[tuple[str, str]]:
    """The plan in words: names and values."""
    needed, solver = plan["estimate"], plan["solver"]
    of_kernel = Speed(plan["compilation_seconds"], plan["pairs_per_second"]).stated(needed["pairs"])
    if options.gram is not None:
        of_kernel += f"; less for what {options.gram} holds"
    memory = f"{size_text(needed['memory'] + solver['memory'])} of "
    memory += f"{size_text(needed['memory_available'])} available"
    lines = [("kernel", of_kernel), ("memory", memory)]
    lines.append(("solver", f"{solver['name']}: {solver['reason']}"))
    if plan["factor_seconds"] is not None:
        factor = f"about {duration_text(plan['factor_seconds'])} for one factor"
        if options.noise_variance == "auto":
            factor += "; the choice of the noise takes several times as long"
        lines.append(("solve", factor))
    return lines
