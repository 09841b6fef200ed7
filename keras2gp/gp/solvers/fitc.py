"""The approximate solver by inducing inputs (FITC), for kernel matrices that are too large."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import lapack, solve_triangular

from keras2gp._util.arrays import Matrix, Noise, Targets, Vector
from keras2gp._util.progress import Advance
from keras2gp.errors import NumericalError
from keras2gp.gp.solvers.inducing import InducingSolver, InducingSystem
from keras2gp.gp.solvers.jitter import check_jitter, check_range
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.preconditioner import PartialCholesky, partial_cholesky, randomly_pivoted
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep
from keras2gp.gp.solvers.system import Fit
from keras2gp.gp.solvers.training import Training

__all__ = ["Nystroem"]

# Least conditional variance, relative to the mean variance. The inducing inputs themselves have no
# conditional variance, and without noise their weights in A^-1 would have no bound. The floor is
# above the errors of float32 entries, and small beside the conditional variances of other inputs.
_FLOOR = 1e-6


@dataclass(frozen=True)
class Nystroem(InducingSolver):
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

    name: ClassVar[str] = "nystroem"

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes that a fit takes: mainly the N x M covariances, three times."""
        count = len(training)
        rank = self.rank_for(count)
        return 8 * (3 * count * rank + 3 * rank * rank + 4 * count * outputs)

    def fit(
        self,
        training: Training,
        targets: Targets,
        noise: Noise,
        jitter: float | str,
        progress: Advance | None,
    ) -> Fit:
        """See Solver.fit.

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
        self.check_rows(count)
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
            f"training input {int(conditional.argmin())} (counted from 0) has no conditional "
            "variance given the inducing inputs, and without noise its weight has no bound. Try: "
            'jitter="auto", or a noise_variance'
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
            "the matrix of the inducing inputs is not positive definite (row "
            f"{info - 1}, counted from 0): conditional variances of very different size. Try: a "
            "noise_variance or a jitter"
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
