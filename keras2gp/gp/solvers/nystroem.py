"""Inducing inputs: for when even the kernel matrix is too much. An approximation (FITC)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack, solve_triangular

from keras2gp._util.arrays import Array
from keras2gp._util.memory import require_memory
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.solvers.cholesky import check_jitter
from keras2gp.gp.solvers.factor import CholeskyReport, JitterStep
from keras2gp.gp.solvers.matrices import Progress
from keras2gp.gp.solvers.pivoted import PartialCholesky, partial_cholesky, randomly_pivoted
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.system import Fit
from keras2gp.gp.solvers.training import Training

__all__ = ["InducingSystem", "Nystroem"]

_RANK = 1000
_HINT = "a lower rank, or fewer training images"

# Relative to the mean variance: the inducing inputs themselves have no conditional variance, and
# without noise A would give them weights without bound. Above the errors of float32 entries, and
# small beside the conditional variances of other inputs.
_FLOOR = 1e-6


@dataclass(frozen=True)
class Nystroem:
    """Inducing inputs chosen among the training inputs, by the equations of FITC. Approximate.

    Given the values u at the M inducing inputs, all others are taken to be independent: K becomes
    Q + diag(K - Q), Q = K_nm K_mm^-1 K_mn, and the N x M covariances are all that is computed.
    With M = N it is exact. Variances are never too small: they lie between those that u known
    exactly would leave and the prior's.

    rank:     M at most; None for 1000
    inducing: rows of the training inputs to take; None to choose by randomly pivoted Cholesky
    seed:     of that choice

    Math: L = chol(K_mm), F = K_nm L^-T, D = diag(K_nn - F F^T) + noise + jitter
        B = I + F^T D^-1 F
        mean = k*m L^-T B^-1 F^T D^-1 y
        variance = k** - |L^-1 km*|^2 + |chol(B)^-1 L^-1 km*|^2
        A = F F^T + D;  log det A = log det D + log det B
      With jitter "auto" D is no smaller than 1e-6 of the mean variance, which matters only without
      noise, and for inputs that the inducing ones explain.

    Reference: Snelson and Ghahramani 2006; Quinonero-Candela and Rasmussen 2005, equation 24.
    """

    rank: int | None = None
    inducing: tuple[int, ...] | None = None
    seed: int = 0
    name: ClassVar[str] = "nystroem"

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise InputError(f"rank is {self.rank!r}: expected a whole number, 1 or more")
        if self.inducing is not None:
            object.__setattr__(self, "inducing", tuple(int(i) for i in self.inducing))
            if self.rank is not None or not self.inducing or min(self.inducing) < 0:
                raise InputError(
                    "inducing holds the rows of the training inputs to take, 0 or more each and "
                    "at least one, and goes without a rank"
                )

    def rank_for(self, size: int) -> int:
        """The number of inducing inputs for N training inputs, at most."""
        if self.inducing is not None:
            return len(self.inducing)
        return min(_RANK if self.rank is None else self.rank, size)

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes that a fit takes: the N x M covariances three times, and little else."""
        count = len(training)
        rank = self.rank_for(count)
        return 8 * (3 * count * rank + 3 * rank * rank + 4 * count * outputs)

    def fit(
        self,
        training: Training,
        targets: Array,
        noise: float,
        jitter: float | str,
        progress: Progress | None,
    ) -> Fit:
        """See Solver.fit.

        Raises: NumericalError if a conditional variance is zero, and a jitter is prescribed.
        """
        require_memory(
            self.memory(training, targets.shape[1]),
            f"the covariances of {len(training)} training inputs with "
            f"{self.rank_for(len(training))} inducing ones",
            _HINT,
        )
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


class InducingSystem:
    """What predictions need of an inducing-point fit.

    lower:    L, the Cholesky factor of K_mm, [M, M]
    inner:    the Cholesky factor of B, [M, M]
    diagonal: of A^-1, [N]
    """

    closed_form: ClassVar[bool] = True

    def __init__(self, lower: Array, inner: Array, diagonal: Array) -> None:
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

    def inner_solve(self, b: Array) -> Array:
        """B^-1 b for b of shape [M, C]."""
        half = solve_triangular(self.inner, b, lower=True)
        result: Array = solve_triangular(self.inner, half, lower=True, trans=1)
        return result

    def weights(self, b: Array) -> Array:
        """L^-T B^-1 b for b of shape [M, C]."""
        result: Array = solve_triangular(self.lower, self.inner_solve(b), lower=True, trans=1)
        return result

    def explained(self, cross: Array) -> Array:
        """|L^-1 km*|^2 - |chol(B)^-1 L^-1 km*|^2 for k*m of shape [M*, M], [M*]."""
        outer, inner = self._halves(cross)
        result: Array = np.einsum("km,km->m", outer, outer) - np.einsum("km,km->m", inner, inner)
        return result

    def explained_covariance(self, cross: Array) -> Array:
        """As `explained`, between all pairs, [M*, M*]."""
        outer, inner = self._halves(cross)
        result: Array = outer.T @ outer - inner.T @ inner
        return result

    def inverse_diagonal(self, rows: npt.NDArray[np.intp]) -> Array:
        """Entries of the diagonal of A^-1, [rows]."""
        return self.diagonal[rows]

    def leading(self, count: int) -> Array:
        """The first `count` rows and columns of K_mm."""
        product: Array = self.lower[:count] @ self.lower[:count].T
        return product

    def _halves(self, cross: Array) -> tuple[Array, Array]:
        outer = solve_triangular(self.lower, cross.T, lower=True)
        return outer, solve_triangular(self.inner, outer, lower=True)


def _conditional(
    partial: PartialCholesky, noise: float, jitter: float | str
) -> tuple[float, Array]:
    """The jitter, relative to the mean variance, and the diagonal of D, [N]."""
    mean = float(partial.diagonal.mean())
    fixed = check_jitter(jitter)
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


def _system(partial: PartialCholesky, conditional: Array) -> tuple[InducingSystem, Array]:
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
    chosen = list(partial.pivots)
    return InducingSystem(partial.factor[chosen].copy(), lower, diagonal), weighted
