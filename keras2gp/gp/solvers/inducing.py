"""Inducing inputs: the settings of solvers that take some training inputs, and their system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import solve_triangular

from keras2gp._util.arrays import Array, Indices, Matrix, Noise, Vector
from keras2gp._util.checks import whole_number
from keras2gp._util.memory import require_memory
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp.solvers.system import LinearSystem, Origin, Solver
from keras2gp.gp.solvers.training import Training

__all__ = ["InducingSolver", "InducingSystem"]

_RANK = 1000


class InducingSystem:
    """The linear system of an inducing-point fit.

    Attributes:
        lower: L, the Cholesky factor of K_mm, [M, M].
        inner: the Cholesky factor of B, [M, M].
        diagonal: the diagonal of A^-1, [N].
    """

    closed_form: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("lower.npy", "inner.npy", "diagonal.npy")

    def __init__(self, lower: Matrix, inner: Matrix, diagonal: Vector) -> None:
        self.lower = lower
        self.inner = inner
        self.diagonal = diagonal

    @property
    def basis(self) -> int:
        """M."""
        return len(self.lower)

    @property
    def log_determinant(self) -> float:
        """log det B."""
        return 2.0 * float(np.log(np.diagonal(self.inner)).sum())

    def inner_solve(self, b: Matrix) -> Matrix:
        """B^-1 b for b of shape [M, C]."""
        half = solve_triangular(self.inner, b, lower=True)
        result: Matrix = solve_triangular(self.inner, half, lower=True, trans=1)
        return result

    def weights(self, b: Matrix) -> Matrix:
        """L^-T B^-1 b for b of shape [M, C]."""
        result: Matrix = solve_triangular(self.lower, self.inner_solve(b), lower=True, trans=1)
        return result

    def draws(self, normal: Matrix) -> Matrix:
        """L^-T chol(B)^-T z: deviations of the weights from their mean, for z [M, draws]."""
        half = solve_triangular(self.inner, normal, lower=True, trans=1)
        result: Matrix = solve_triangular(self.lower, half, lower=True, trans=1)
        return result

    def explained(self, cross: Matrix) -> Vector:
        """|L^-1 km*|^2 - |chol(B)^-1 L^-1 km*|^2, [M*], for k*m of shape [M*, M]."""
        outer, inner = self._solved_columns(cross)
        result: Vector = np.einsum("km,km->m", outer, outer) - np.einsum("km,km->m", inner, inner)
        return result

    def explained_covariance(self, cross: Matrix) -> Matrix:
        """`explained` between all pairs of test inputs, [M*, M*]."""
        outer, inner = self._solved_columns(cross)
        result: Matrix = outer.T @ outer - inner.T @ inner
        return result

    def inverse_diagonal(self, rows: Indices) -> Vector:
        """Entries of the diagonal of A^-1, [rows]."""
        return self.diagonal[rows]

    def kernel_corner(self, count: int, added: Noise) -> Matrix:
        """See LinearSystem.kernel_corner; K_mm has neither noise nor jitter on its diagonal."""
        product: Matrix = self.lower[:count] @ self.lower[:count].T
        return product

    def state(self) -> dict[str, Array]:
        """See LinearSystem.state."""
        return {"lower.npy": self.lower, "inner.npy": self.inner, "diagonal.npy": self.diagonal}

    @classmethod
    def from_state(cls, state: Mapping[str, Array], origin: Origin) -> InducingSystem:
        """See LinearSystem.from_state."""
        lower, inner, diagonal = (state[name] for name in cls.files)
        fits = lower.shape == inner.shape == (len(lower), len(lower))
        fits = fits and diagonal.shape == (len(origin.training),) and bool((diagonal > 0.0).all())
        for factor in (lower, inner):
            fits = fits and bool((np.diagonal(factor) > 0.0).all() and not np.triu(factor, 1).any())
        if not fits:
            raise ModelFileError("the arrays do not fit each other")
        return cls(lower, inner, diagonal)

    def _solved_columns(self, cross: Matrix) -> tuple[Matrix, Matrix]:
        """L^-1 km* and chol(B)^-1 L^-1 km*, [M, M*] each."""
        outer = solve_triangular(self.lower, cross.T, lower=True)
        return outer, solve_triangular(self.inner, outer, lower=True)


@dataclass(frozen=True)
class InducingSolver(Solver):
    """A solver that reads the N x M covariances with inducing inputs alone.

    Args:
        rank: the largest M; None for 1000.
        inducing: rows of the training inputs to take; None for those that the solver chooses.
        seed: seed of that choice.

    Raises:
        InputError: a setting is out of range.
    """

    rank: int | None = None
    inducing: tuple[int, ...] | None = None
    seed: int = 0
    system: ClassVar[type[LinearSystem]] = InducingSystem
    remedy: ClassVar[str] = "a lower rank, or fewer training images"

    def __post_init__(self) -> None:
        whole_number("seed", self.seed)
        if self.rank is not None:
            whole_number("rank", self.rank, 1)
        if self.inducing is not None:
            if not isinstance(self.inducing, Sequence | np.ndarray):
                raise InputError(f"inducing is {received_text(self.inducing)}: expected rows")
            rows = tuple(
                whole_number(f"inducing[{place}]", row) for place, row in enumerate(self.inducing)
            )
            object.__setattr__(self, "inducing", rows)
            if self.rank is not None or not rows:
                raise InputError(
                    "inducing holds the rows of the training inputs to take, 0 or more each and "
                    "at least one, and goes without a rank"
                )

    def rank_for(self, size: int) -> int:
        """The largest number of inducing inputs for N training inputs.

        Args:
            size: N.

        Returns:
            The number M.
        """
        if self.inducing is not None:
            return len(self.inducing)
        return min(_RANK if self.rank is None else self.rank, size)

    def check_rows(self, count: int) -> None:
        """Refuse inducing rows that are not among the training inputs.

        Args:
            count: N.

        Raises:
            InputError: a row is not.
        """
        if self.inducing is not None and max(self.inducing) >= count:
            raise InputError(
                f"inducing holds row {max(self.inducing)}, and there are {count} training inputs, "
                "counted from 0"
            )

    def require(self, training: Training, outputs: int) -> None:
        """See Solver.require; the covariances are a part of the memory."""
        require_memory(
            self.memory(training, outputs),
            f"the covariances of {len(training)} training inputs with "
            f"{self.rank_for(len(training))} inducing ones",
            self.remedy,
        )
