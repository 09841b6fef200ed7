"""The approximate solver by inducing inputs (FITC), for kernel matrices that are too large."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import lapack, solve_triangular

from keras2gp._util.arrays import Array, Indices, Matrix, Noise, Targets, Vector
from keras2gp._util.checks import whole_number
from keras2gp._util.memory import require_memory
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, ModelFileError, NumericalError
from keras2gp.gp.solvers.jitter import check_jitter, check_range
from keras2gp.gp.solvers.matrices import Progress
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.preconditioner import (
    PartialCholesky,
    partial_cholesky,
    randomly_pivoted,
)
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep
from keras2gp.gp.solvers.system import Fit, LinearSystem, Origin
from keras2gp.gp.solvers.training import Training

__all__ = ["InducingSystem", "Nystroem"]

_RANK = 1000
_HINT = "a lower rank, or fewer training images"

# Least conditional variance, relative to the mean variance. The inducing inputs themselves have no
# conditional variance, and without noise their weights in A^-1 would have no bound. The floor is
# above the errors of float32 entries, and small beside the conditional variances of other inputs.
_FLOOR = 1e-6


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
        """The same between all pairs, [M*, M*]."""
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
class Nystroem:
    """Inducing inputs chosen among the training inputs, by the equations of FITC. Approximate.

    Given the values u at the M inducing inputs, the values at all other inputs are modelled as
    independent: K becomes Q + diag(K - Q), Q = K_nm K_mm^-1 K_mn, and only the N x M covariances
    are computed. With M = N it is exact. Variances are never too small: they lie between the
    variances given exact values of u and the prior's.

    Math: L = chol(K_mm), F = K_nm L^-T, D = diag(K_nn - F F^T) + noise + jitter
        B = I + F^T D^-1 F
        mean = k*m L^-T B^-1 F^T D^-1 y
        variance = k** - |L^-1 km*|^2 + |chol(B)^-1 L^-1 km*|^2
        A = F F^T + D;  log det A = log det D + log det B
      With jitter "auto" D is no smaller than 1e-6 of the mean variance, which matters only without
      noise, and for inputs that the inducing ones explain.

    Args:
        rank: the largest M; None for 1000.
        inducing: rows of the training inputs to take; None to choose by randomly pivoted Cholesky.
        seed: seed of that choice.

    Raises:
        InputError: a setting is out of range.

    References:
        Snelson and Ghahramani 2006; Quinonero-Candela and Rasmussen 2005, equation 24.

    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp.gp import GPRegressor, Nystroem
    >>> x = np.linspace(0.0, 3.0, 50)[:, None]
    >>> gp = GPRegressor(RBF(1.0), noise_variance=0.01, solver=Nystroem(rank=10))
    >>> bool(np.abs(gp.fit(x, np.sin(x[:, 0])).predict(x) - np.sin(x[:, 0])).max() < 0.02)
    True
    >>> gp.solver_report_.rank
    10
    """

    rank: int | None = None
    inducing: tuple[int, ...] | None = None
    seed: int = 0
    name: ClassVar[str] = "nystroem"
    system: ClassVar[type[LinearSystem]] = InducingSystem

    def __post_init__(self) -> None:
        whole_number("seed", self.seed)
        if self.rank is not None:
            whole_number("rank", self.rank, 1)
        if self.inducing is not None:
            if not isinstance(self.inducing, Sequence | np.ndarray):
                raise InputError(f"inducing is {received_text(self.inducing)}: expected rows")
            rows = tuple(whole_number("inducing: a row", i) for i in self.inducing)
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

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes that a fit takes: mainly the N x M covariances, three times.

        Args:
            training: the covariance of the training inputs.
            outputs: C.

        Returns:
            The number of bytes.
        """
        count = len(training)
        rank = self.rank_for(count)
        return 8 * (3 * count * rank + 3 * rank * rank + 4 * count * outputs)

    def require(self, training: Training, outputs: int) -> None:
        """See Solver.require.

        Args:
            training: the covariance of the training inputs.
            outputs: C.
        """
        require_memory(
            self.memory(training, outputs),
            f"the covariances of {len(training)} training inputs with "
            f"{self.rank_for(len(training))} inducing ones",
            _HINT,
        )

    def fit(
        self,
        training: Training,
        targets: Targets,
        noise: Noise,
        jitter: float | str,
        progress: Progress | None,
    ) -> Fit:
        """See Solver.fit.

        Args:
            training: the covariance of the training inputs.
            targets: Y, [N, C].
            noise: the noise variance, or that of each row, [N].
            jitter: "auto", or a number relative to the mean diagonal.
            progress: called with (steps done, steps in all).

        Returns:
            The fit, with alpha [N, C].

        Raises:
            NumericalError: a conditional variance is zero, and a jitter is prescribed.
        """
        self.require(training, targets.shape[1])
        started = time.perf_counter()
        partial, dtype = self._chosen(training)
        if progress is not None:
            progress(1, 2)
        mean = float(partial.diagonal.mean())
        relative, conditional = _conditional(partial, noise, jitter)
        system, weighted = _system(partial, conditional)
        log_determinant = float(np.log(conditional).sum()) + system.log_determinant
        alpha = targets / conditional[:, None]
        weights = system.weights(weighted.T @ targets)
        alpha -= weighted @ system.inner_solve(weighted.T @ targets)
        smallest = float(np.diagonal(system.lower).min()) ** 2
        at = partial.pivots[int(np.diagonal(system.lower).argmin())]
        step = JitterStep(relative, smallest, at)
        if progress is not None:
            progress(2, 2)
        return Fit(
            system,
            alpha,
            weights,
            log_determinant,
            CholeskyReport(relative, mean, (step,), time.perf_counter() - started),
            dtype,
            inducing=partial.pivots,
            rank=partial.rank,
        )

    def _chosen(self, training: Training) -> tuple[PartialCholesky, str]:
        """F and L for the inducing inputs, and the type of the kernel's entries."""
        count = len(training)
        if self.inducing is not None and max(self.inducing) >= count:
            raise InputError(
                f"inducing holds row {max(self.inducing)}, and there are {count} training inputs"
            )
        dtype = training.dtype
        error = relative_error(dtype, count)
        if self.inducing is None:
            partial = randomly_pivoted(training, self.rank_for(count), error, self.seed)
        else:
            partial = partial_cholesky(training, self.inducing, error)
        if not partial.rank:
            raise NumericalError("the kernel is zero on all training inputs that may be inducing")
        return partial, str(dtype)


def _conditional(
    partial: PartialCholesky, noise: Noise, jitter: float | str
) -> tuple[float, Vector]:
    """The jitter, relative to the mean variance, and the diagonal of D, [N]."""
    fixed = check_jitter(jitter)
    mean = check_range(partial.diagonal, noise, fixed)
    bare = partial.residual + noise
    if fixed is None:
        conditional = np.maximum(bare, _FLOOR * mean)
        return (0.0 if (conditional == bare).all() else _FLOOR), conditional
    conditional = bare + fixed * mean
    if not (conditional > 0.0).all():
        raise NumericalError(
            f"training input {int(conditional.argmin())} has no conditional variance given the "
            'inducing inputs, and without noise its weight has no bound. Try: jitter="auto", or '
            "a noise_variance"
        )
    return fixed, conditional


def _system(partial: PartialCholesky, conditional: Vector) -> tuple[InducingSystem, Matrix]:
    """The factors, and D^-1 F, [N, M].

    Math: (A^-1)_ii = 1 / D_i - |chol(B)^-1 F_i / D_i|^2
    """
    weighted = partial.factor / conditional[:, None]
    inner = partial.factor.T @ weighted
    inner[np.diag_indices_from(inner)] += 1.0
    lower, info = lapack.dpotrf(inner, lower=1, clean=1)
    if info:
        raise NumericalError(
            f"the matrix of the inducing inputs is not positive definite (row {info - 1}): "
            "conditional variances of very different size. Try: a noise_variance or a jitter"
        )
    half = solve_triangular(lower, weighted.T, lower=True)
    diagonal = 1.0 / conditional - np.einsum("kn,kn->n", half, half)
    if not (diagonal > 0.0).all():
        raise NumericalError(
            "rounding takes a diagonal entry of the inverse below zero: conditional variances of "
            'very different size. Try: jitter="auto", or a noise_variance'
        )
    chosen = list(partial.pivots)
    return InducingSystem(partial.factor[chosen].copy(), lower, diagonal), weighted
