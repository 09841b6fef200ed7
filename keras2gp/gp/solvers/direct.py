"""The direct solvers: the tiled Cholesky factorisation, and TensorFlow's on a GPU."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from keras2gp._util.arrays import Images, Matrix, Noise, Targets
from keras2gp._util.memory import require_memory
from keras2gp._util.progress import Advance
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.arguments.noise import check_noises
from keras2gp.gp.solvers.cholesky import cholesky_memory, factorize
from keras2gp.gp.solvers.factor import PREFIX, CholeskyFactor
from keras2gp.gp.solvers.jitter import factor_with_jitter
from keras2gp.gp.solvers.matrices import (
    MatrixLike,
    check_shape,
    check_symmetry,
    read_block,
)
from keras2gp.gp.solvers.panels import PackedPanels
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.system import Fit, LinearSystem, Solver
from keras2gp.gp.solvers.training import Training

__all__ = ["REMEDY", "Cholesky", "TensorFlowCholesky", "dense_matrix", "factorize_tensorflow"]

_TILE = 512
REMEDY = "fewer training images, solver='cg', or solver='nystroem'"
"""The remedy where a factor does not fit in memory."""

# Rounding makes L L^T v differ from A v by about N eps; the array that TensorFlow returns after a
# silent failure differs by far more.
_WRONG_FACTOR = 1e-9


@dataclass(frozen=True)
class Cholesky(Solver):
    """Tiled Cholesky in float64, in half the memory of the matrix, on the CPU. Exact.

    Attributes:
        name: "cholesky".

    >>> import numpy as np
    >>> from keras2gp.gp import Cholesky, GPRegressor
    >>> gp = GPRegressor("precomputed", noise_variance=1.0, solver=Cholesky())
    >>> gp.fit(np.eye(2), [2.0, 4.0]).predict(np.eye(2))
    array([1., 2.])
    """

    name: ClassVar[str] = "cholesky"
    system: ClassVar[type[LinearSystem]] = CholeskyFactor
    takes: ClassVar[str] = "the Cholesky factor"
    remedy: ClassVar[str] = REMEDY

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes beyond the kernel matrix."""
        return cholesky_memory(len(training)) + 16 * len(training) * outputs

    def fit(
        self,
        training: Training,
        targets: Targets,
        noise: Noise,
        jitter: float | str,
        progress: Advance | None,
    ) -> Fit:
        """See Solver.fit."""
        self.require(training, targets.shape[1])
        matrix = training.matrix()
        factor = factorize(matrix, noise, jitter, progress=progress, inputs=training.x)
        return _fit(factor, targets, matrix)


@dataclass(frozen=True)
class TensorFlowCholesky(Solver):
    """TensorFlow's Cholesky in float64, with a check of the result. Exact.

    Args:
        device: such as "GPU:0"; None for the choice of TensorFlow, a GPU if there is one.

    >>> import numpy as np
    >>> from keras2gp.gp import GPRegressor, TensorFlowCholesky
    >>> gp = GPRegressor("precomputed", noise_variance=1.0, solver=TensorFlowCholesky("CPU:0"))
    >>> gp.fit(np.eye(2), [2.0, 4.0]).predict(np.eye(2))
    array([1., 2.])
    """

    device: str | None = None
    name: ClassVar[str] = "tensorflow"
    system: ClassVar[type[LinearSystem]] = CholeskyFactor
    takes: ClassVar[str] = "TensorFlow's Cholesky factor"
    remedy: ClassVar[str] = REMEDY

    def __post_init__(self) -> None:
        if self.device is not None and not isinstance(self.device, str):
            raise InputError(
                f"device is {received_text(self.device)}: expected a name such as 'GPU:0', or None"
            )

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes beyond the kernel matrix: dense, shifted, and its factor, dense and packed."""
        count = len(training)
        return 24 * count * count + cholesky_memory(count) + 16 * count * outputs

    def fit(
        self,
        training: Training,
        targets: Targets,
        noise: Noise,
        jitter: float | str,
        progress: Advance | None,
    ) -> Fit:
        """See Solver.fit."""
        self.require(training, targets.shape[1])
        matrix = training.matrix()
        factor = factorize_tensorflow(
            matrix, noise, jitter, self.device, progress, inputs=training.x
        )
        return _fit(factor, targets, matrix)


def _fit(factor: CholeskyFactor, targets: Targets, matrix: MatrixLike) -> Fit:
    alpha = factor.solve(targets)
    dtype = read_block(matrix, slice(0, 1), slice(0, 1)).dtype
    return Fit(factor, alpha, alpha, factor.log_determinant, factor.report, str(dtype))


def factorize_tensorflow(
    matrix: MatrixLike,
    noise_variance: Noise = 0.0,
    jitter: float | str = "auto",
    device: str | None = None,
    progress: Advance | None = None,
    *,
    inputs: Images | None = None,
) -> CholeskyFactor:
    """The factor of `factorize`, by tf.linalg.cholesky in float64 on TensorFlow's device.

    TensorFlow raises nothing, and returns NaN or uninitialised values, where a matrix is not
    positive definite. A factor counts only if it is finite, every pivot is above rounding error,
    and L L^T v = A v for a random vector v. The pivot of a failed step is given as 0, at the first
    wrong row.

    Raises:
        InputError: as `factorize`; or there is no TensorFlow, no such device, or not enough memory
            on it.
        NumericalError: as `factorize`.
    """
    size = check_shape(matrix)
    noise = check_noises(noise_variance, size)
    require_memory(
        24 * size * size + cholesky_memory(size), f"the factor of a {size} x {size} matrix", REMEDY
    )
    started = time.perf_counter()
    error = relative_error(read_block(matrix, slice(0, 1), slice(0, 1)).dtype, size)
    dense = dense_matrix(matrix)
    diagonal = np.diagonal(dense).copy()
    lower = dense

    def attempt(added: Noise) -> tuple[bool, float, int]:
        nonlocal lower
        np.fill_diagonal(dense, diagonal + added)
        lower = _tensorflow_lower(dense, device)
        if progress is not None:
            progress(1, 1)
        return _checked_pivots(lower, dense, error)

    report = factor_with_jitter(matrix, diagonal, noise, jitter, attempt, inputs=inputs)
    panels = PackedPanels(size, min(_TILE, size), PREFIX)
    for j in range(len(panels)):
        start, stop = panels.bounds(j)
        panels.panel(j)[...] = lower[start:, start:stop]
    return CholeskyFactor(panels, replace(report, seconds=time.perf_counter() - started))


def dense_matrix(matrix: MatrixLike) -> Matrix:
    """The matrix in float64, checked, with its lower triangle mirrored onto the upper."""
    size = check_shape(matrix)
    dense = np.empty((size, size))
    for start in range(0, size, _TILE):
        rows = slice(start, min(start + _TILE, size))
        dense[rows] = read_block(matrix, rows, slice(0, size))
    check_symmetry(dense)
    for start in range(0, size, _TILE):
        stop = min(start + _TILE, size)
        dense[start:stop, stop:] = dense[stop:, start:stop].T
        corner = dense[start:stop, start:stop]
        corner[...] = np.tril(corner) + np.tril(corner, -1).T
    return dense


def _tensorflow_lower(dense: Matrix, device: str | None) -> Matrix:
    """The array that TensorFlow's Cholesky returns; NaN where it reports a failure."""
    try:
        import tensorflow as tf  # noqa: PLC0415 (slow, and only this solver needs it)
    except ModuleNotFoundError as error:
        raise InputError(f"solver='tensorflow': {error}") from error
    try:
        with tf.device(device):
            lower: Matrix = tf.linalg.cholesky(tf.constant(dense)).numpy()
    except tf.errors.ResourceExhaustedError as error:
        raise InputError(
            f"the device's memory does not hold a {len(dense)} x {len(dense)} matrix and its "
            f"factor in float64. Try: solver='cholesky'. {error.message}"
        ) from error
    except tf.errors.InvalidArgumentError as error:
        if "ecomposition was not successful" in str(error):
            return np.full_like(dense, np.nan)
        raise InputError(f"solver='tensorflow', device={device!r}: {error.message}") from error
    except tf.errors.OpError as error:
        raise NumericalError(f"TensorFlow's Cholesky failed: {error.message}") from error
    return lower


def _checked_pivots(lower: Matrix, dense: Matrix, error: float) -> tuple[bool, float, int]:
    """Whether L is a factor of A, its smallest pivot, and the row of that pivot."""
    wrong = ~np.isfinite(lower).all(axis=1)
    pivots = np.diagonal(lower).copy()
    wrong |= ~(pivots > 0.0)
    if wrong.any():
        return False, 0.0, int(wrong.argmax())
    pivots **= 2
    at = int(pivots.argmin())
    vector = np.random.default_rng(0).standard_normal(len(dense))
    expected = dense @ vector
    gap = np.abs(np.tril(lower) @ (np.tril(lower).T @ vector) - expected).max()
    if gap > _WRONG_FACTOR * np.abs(expected).max():
        return False, 0.0, at
    return bool((pivots > error * np.diagonal(dense)).all()), float(pivots[at]), at
