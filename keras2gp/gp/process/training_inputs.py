"""The arguments of `fit`: the training covariance, and the rows that have a target."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np

from keras2gp._util.arrays import GramLike, Images, NoiseLike, TargetsLike, Vector, VectorLike
from keras2gp._util.checks import one_of
from keras2gp.errors import InputError
from keras2gp.gp.arguments.inputs import check_length
from keras2gp.gp.arguments.kernel_function import KernelLike, kernel_values
from keras2gp.gp.arguments.noise import BY_OUTPUT
from keras2gp.gp.arguments.positions import AtPositions, Positioned, by_row, require_room
from keras2gp.gp.arguments.rows import (
    RowNoise,
    UsedRows,
    observed_rows,
    row_noise,
    seen_targets,
    weights_of_rows,
)
from keras2gp.gp.solvers.choice import inducing_rows
from keras2gp.gp.solvers.system import SolverLike
from keras2gp.gp.solvers.training import Training
from keras2gp.gp.solvers.training_of import training_of

__all__ = ["training_of_images", "used_rows"]


def training_of_images(
    kernel: KernelLike,
    images: Images | None,
    gram: GramLike,
    positions: tuple[int, ...],
    solver: SolverLike,
) -> Training:
    """The training covariance of images, or of images at positions, and `gram` if it is given.

    Args:
        kernel: the estimator's kernel.
        images: inputs; None for a precomputed kernel.
        gram: the matrix, if it exists already, square or of a solver's inducing inputs; between
            positions it is of rows, or has axes of positions.
        positions: sizes of the axes of positions of the kernel's output.
        solver: the estimator's setting.

    Raises:
        InputError: the arguments do not fit each other, or a matrix between positions is not
            given and does not fit the memory.
    """
    rows: Any = images
    if images is not None and positions:
        gram = _matrix_of_rows(kernel, gram, len(images), positions)
        kernel, rows = AtPositions(kernel), Positioned(images, math.prod(positions))
    given = gram is not None and rows is not None
    inducing = inducing_rows(solver, len(rows)) if given else None
    return training_of(kernel, rows, gram, inducing)


def _matrix_of_rows(
    kernel: KernelLike, gram: GramLike, images: int, positions: tuple[int, ...]
) -> Any:
    """A matrix between positions as one of rows; None is compared with the memory, and stays."""
    if gram is None:
        size = np.dtype(getattr(kernel, "dtype", np.float64)).itemsize
        require_room(images, positions, size)
    elif getattr(gram, "ndim", 2) != 2:
        rows = images * math.prod(positions)
        whole = (images, *positions, images, *positions)
        what = "gram, which between positions is keras2gp.gram(kernel, X, positions='all'),"
        return kernel_values(gram, whole, what).reshape(rows, rows)
    return gram


def used_rows(
    training: Training,
    y: TargetsLike,
    weights: VectorLike,
    noise: NoiseLike,
    positions: tuple[int, ...],
    *,
    missing: str,
    outputs: bool,
) -> tuple[Training, Any, UsedRows]:
    """The rows that have a target and a weight: covariance, targets, and which they are.

    Args:
        training: the covariance of all rows.
        y: targets or labels, as `fit` received them.
        weights: as `fit` received them.
        noise: the estimator's setting `noise_variance`.
        positions: sizes of the axes of positions of the kernel's output.
        missing: the estimator's setting.
        outputs: whether there may be an axis of outputs.

    Raises:
        InputError: an argument does not fit.
    """
    one_of("missing", missing, ("refuse", "ignore"))
    images = len(training) // math.prod(positions)
    y = by_row(y, positions, images, outputs=outputs)
    given = weights_of_rows(weights, positions, images)
    if y is not None and (given is not None or missing != "refuse"):
        check_length(training, np.atleast_1d(np.asarray(y)), "targets" if outputs else "labels")
    of_all = _noise_of_rows(noise, y, given, len(training), outputs=outputs)
    y, rows = observed_rows(y, missing, given)
    seen = seen_targets(y) if outputs and missing == "ignore" and y is not None else None
    x = training.x.images if isinstance(training.x, Positioned) else training.x
    used = UsedRows(of_all.of(rows), rows, x, len(training), seen)
    return training.of_rows(rows), y, used


def _noise_of_rows(
    setting: NoiseLike, y: TargetsLike, weights: Vector | None, rows: int, *, outputs: bool
) -> RowNoise:
    """The noise of rows, or of outputs where y has an axis of them; InputError if none fits."""
    if not outputs and isinstance(setting, str) and setting == BY_OUTPUT:
        raise InputError(
            f'noise_variance="{BY_OUTPUT}" is of a regression: the classes of a label are told '
            'apart by one noise. Try: noise_variance="auto"'
        )
    shape: tuple[int, ...] = ()
    with suppress(ValueError):  # check_targets says what is wrong with it
        shape = np.asarray(y).shape if outputs else ()
    columns = shape[1] if len(shape) == 2 else None
    return row_noise(setting, weights, rows, columns)
