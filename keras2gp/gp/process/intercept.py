"""The intercept of a classification: a constant that is added to the kernel, and its choice.

The functions of a network of ReLUs without biases are 0 at x = 0, and keep their sign along a ray
from there: of few features, a class cannot begin away from the origin. A constant c that is added
to a kernel is the variance of a random intercept of each latent function.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from keras2gp._util.arrays import InputsLike, Matrix, Targets
from keras2gp._util.checks import is_number
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.arguments.kernel_function import KernelLike
from keras2gp.gp.arguments.rows import RowNoise
from keras2gp.gp.noise.pilot import NoisePilot, drawn_rows
from keras2gp.gp.noise.spectra import label_likelihoods, plus_constant
from keras2gp.gp.solvers.cholesky import factorize
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.jitter import LARGEST, check_jitter
from keras2gp.gp.solvers.matrices import MatrixLike, MatrixProduct
from keras2gp.gp.solvers.products import product_of
from keras2gp.gp.solvers.training import Training

__all__ = [
    "ROWS",
    "ShiftedKernel",
    "check_intercept",
    "chosen_intercept",
    "gain_by_intercept",
    "gainful",
    "shifted_training",
]

GAIN = 0.05
"""Nats that labels have to gain. An intercept where there is none costs little: among 1116 fits of
24 tasks, any gain makes an error of 7.78%, none 9.55%, and one that is always there 7.75%."""
ROWS = 512
"""Rows that decide, at most: the larger the data, the less an intercept matters."""


class ShiftedKernel:
    """k + c, of a kernel k and a variance c."""

    def __init__(self, kernel: KernelLike, variance: float) -> None:
        self._kernel, self._variance = kernel, variance

    @property
    def dtype(self) -> Any:
        """Type of the entries, where the kernel says it."""
        return self._kernel.dtype

    def __call__(self, x1: InputsLike, x2: InputsLike = None, /) -> Any:
        """The matrix [N1, N2], as the kernel gives it."""
        return _plus(self._kernel(x1, x2), self._variance)

    def diag(self, x: InputsLike, /) -> Any:
        """The variances [N], as the kernel gives them."""
        return _plus(self._kernel.diag(x), self._variance)


def _plus(values: Any, variance: float) -> Any:
    """The sum: of tensors a tensor, and of what can only be read as an array, an array."""
    try:
        return values + variance
    except TypeError:
        return np.asarray(values) + variance


class _ShiftedProduct:
    """K + c, of a matrix [N, N] that can be multiplied: its products and some of its entries.

    Math: (K + c 1 1^T) b = K b + c 1 (1^T b)
    """

    def __init__(self, matrix: MatrixLike | MatrixProduct, variance: float) -> None:
        self._matrix: Any = matrix
        self._variance, self.shape = variance, tuple(matrix.shape)

    @cached_property
    def _product(self) -> MatrixProduct:
        return product_of(self._matrix)

    @property
    def dtype(self) -> Any:
        """Type of the entries."""
        return self._product.dtype

    def diagonal(self) -> Any:
        """Variances, [N]."""
        return self._product.diagonal() + self._variance

    def columns(self, indices: Sequence[int], /) -> Matrix:
        """Columns by their indices, [N, count]."""
        return self._product.columns(indices) + self._variance

    def corner(self, indices: Sequence[int], /) -> Matrix:
        """The entries between these rows and the same columns, [count, count]."""
        return self._product.corner(indices) + self._variance

    def product(self, b: Matrix, /) -> Matrix:
        """The matrix times b, [N, C]."""
        result: Matrix = self._product.product(b) + self._variance * b.sum(axis=0)
        return result


class _ShiftedMatrix(_ShiftedProduct):
    """K + c, of an array or a store, which is read block by block as well."""

    def __init__(self, matrix: MatrixLike, variance: float) -> None:
        super().__init__(matrix, variance)
        self.chunks = getattr(matrix, "chunks", self.shape)

    def __getitem__(self, key: Any, /) -> Any:
        """A block, for a pair of slices."""
        return np.asarray(self._matrix[key]) + self._variance


def shifted_training(training: Training, variance: float) -> Training:
    """The training covariance with a constant added to the kernel, and to what is given of it."""
    return training.plus(
        lambda kernel: ShiftedKernel(kernel, variance),
        lambda matrix: (
            _ShiftedMatrix(matrix, variance)
            if hasattr(matrix, "__getitem__")
            else _ShiftedProduct(matrix, variance)
        ),
    )


def check_intercept(value: Any) -> float | None:
    """The stated variance; None for "auto".

    Raises:
        InputError: it is neither "auto" nor a number from 0.
    """
    if isinstance(value, str) and value == "auto":
        return None
    if not is_number(value) or not 0.0 <= float(value) < LARGEST:
        raise InputError(
            f'intercept is {received_text(value)}: expected "auto" or a finite number, 0 or more'
        )
    return float(value)


def chosen_intercept(
    training: Training, targets: Targets, noise: RowNoise, jitter: float | str
) -> float:
    """The mean variance of the training inputs where labels gain by it as an intercept; else 0.

    Labels that are left out have to gain more than GAIN; a noise that is to be chosen is the best
    one with the intercept, and the best one without it. Of more than ROWS rows as many are drawn.

    Args:
        training: the covariance.
        targets: Y, -1 and 1, [N, C].
        noise: of the rows; its common factor is None where it is to be chosen.
        jitter: "auto", or a number relative to the mean of the kernel's diagonal.

    Raises:
        InputError: the matrix is no kernel's.
    """
    variance = float(training.diagonal().mean())
    rows = drawn_rows(training, ROWS)
    some, targets = noise.of(rows), targets[rows]
    if some.common is None:
        corner = training.corner(rows.tolist()).astype(training.dtype)
        part, stated = Training("precomputed", None, corner), check_jitter(jitter)
        pilot = NoisePilot(part, targets, labels=True, jitter=stated, relative=some.relative)
        return variance if pilot.gain_by(variance) > GAIN else 0.0
    corner = training.unchecked_corner(rows.tolist()).astype(training.dtype)
    try:
        factor = factorize(corner, some.times(float(some.common)), jitter)
    except (InputError, NumericalError):  # the solver names the place in the whole matrix
        return 0.0
    return gainful(factor, targets, factor.solve(targets), variance)


def gainful(factor: CholeskyFactor, targets: Targets, alpha: Targets, c: float) -> float:
    """c where left-out labels gain more than GAIN by an intercept of that variance; else 0.

    Args:
        factor: of A, [N, N].
        targets: Y, -1 and 1, [N, C].
        alpha: A^-1 Y, [N, C].
        c: the variance of the intercept.
    """
    return c if gain_by_intercept(factor, targets, alpha, c) > GAIN else 0.0


def gain_by_intercept(factor: CholeskyFactor, targets: Targets, alpha: Targets, c: float) -> float:
    """The gain of labels that are left out by an intercept of variance c, in nats.

    Args:
        factor: of A, [N, N].
        targets: Y, -1 and 1, [N, C].
        alpha: A^-1 Y, [N, C].
        c: the variance of the intercept.
    """
    columns, ones = targets.argmax(axis=1), np.ones(len(targets))
    inverse = alpha, factor.inverse_diagonal(), factor.solve(ones)
    with_one = plus_constant(*inverse, ones, c)
    some, none = (
        label_likelihoods(targets - alpha / diagonal[:, None], columns)
        for alpha, diagonal in (with_one, inverse[:2])
    )
    return float(some.sum() - none.sum())
