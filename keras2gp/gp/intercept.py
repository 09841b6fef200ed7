"""The intercept of a classification: a constant that is added to the kernel, and its choice.

The functions of a network of ReLUs without biases are 0 at x = 0, and keep their sign along a ray
from there: of few features, a class cannot begin away from the origin. A constant c that is added
to a kernel is the variance of a random intercept of each latent function.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras2gp._util.arrays import Targets, Vector
from keras2gp._util.text import received_text
from keras2gp.errors import InputError
from keras2gp.gp.noise_pilot import gains, label_likelihoods
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.jitter import LARGEST
from keras2gp.gp.solvers.matrices import MatrixLike
from keras2gp.gp.solvers.report import is_number
from keras2gp.gp.solvers.training import Training

__all__ = ["ShiftedKernel", "check_intercept", "gains_by_intercept", "shifted_training"]


class ShiftedKernel:
    """k + c, of a kernel k and a variance c."""

    def __init__(self, kernel: Any, variance: float) -> None:
        self._kernel, self._variance = kernel, variance

    @property
    def dtype(self) -> Any:
        """Type of the entries, where the kernel says it."""
        return self._kernel.dtype

    def __call__(self, x1: Any, x2: Any = None, /) -> Any:
        """The matrix [N1, N2], as the kernel gives it."""
        return self._kernel(x1, x2) + self._variance

    def diag(self, x: Any, /) -> Any:
        """The variances [N], as the kernel gives them."""
        return self._kernel.diag(x) + self._variance


class _ShiftedMatrix:
    """K + c, of an array or a store [N, N], block by block as it is read."""

    def __init__(self, matrix: MatrixLike, variance: float) -> None:
        self._matrix, self._variance = matrix, variance
        self.shape = tuple(matrix.shape)
        self.chunks = getattr(matrix, "chunks", self.shape)

    def __getitem__(self, key: Any, /) -> Any:
        """A block, for a pair of slices."""
        return np.asarray(self._matrix[key]) + self._variance


def shifted_training(training: Training, variance: float) -> Training:
    """The training covariance with a constant added to the kernel.

    Raises:
        InputError: the matrix can only be multiplied, or is one of two sets of inputs.
    """
    if not training.whole or training.given_rectangle is not None:
        raise InputError(
            "an intercept is added to the entries of a kernel matrix, and gram is none that can "
            "be read by blocks. Try: intercept=0, or a kernel that has one (kernel + variance)"
        )
    return training.plus(
        lambda kernel: ShiftedKernel(kernel, variance),
        lambda matrix: _ShiftedMatrix(matrix, variance),
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


def gains_by_intercept(factor: CholeskyFactor, targets: Targets, alpha: Targets, c: float) -> bool:
    """Whether labels that are left out gain enough by an intercept of variance c.

    More than 2 nats, and two standard errors of what they gain, as noise has to (gains).

    Math: (A + c 1 1^T)^-1 = A^-1 - g u u^T,  u = A^-1 1,  g = c / (1 + c 1^T u);
        the mean of a target that is left out is y_i - alpha_i / (A^-1)_ii, with both inverses

    Args:
        factor: of A.
        targets: Y, -1 and 1.
        alpha: A^-1 Y.
        c: the variance of the intercept.

    Shapes:
        targets and alpha [N, C].

    References:
        Rasmussen and Williams, equations 5.10 to 5.12, and A.9.
    """
    diagonal = factor.inverse_diagonal()
    u: Vector = factor.solve(np.ones(len(targets)))
    g = c / (1.0 + c * float(u.sum()))
    with_one = alpha - g * np.outer(u, u @ targets)
    columns = targets.argmax(axis=1)
    none, some = (
        label_likelihoods(targets - solved / inverse[:, None], columns)
        for solved, inverse in ((alpha, diagonal), (with_one, diagonal - g * u**2))
    )
    return gains(some, none)
