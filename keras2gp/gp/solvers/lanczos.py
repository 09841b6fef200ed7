"""A stochastic estimate of the log determinant from products with the matrix, and its error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal

from keras2gp._util.arrays import Matrix, Vector
from keras2gp.errors import NumericalError
from keras2gp.gp.solvers.conjugate_gradients import Apply
from keras2gp.gp.solvers.preconditioner import Preconditioner

__all__ = ["LogDeterminant", "log_determinant"]

# The quadrature has converged where _CHECKED more steps change the mean over all probes by less
# than _SHARE of its standard error.
_CHECKED, _SHARE = 5, 0.01
# An exhausted Krylov space, relative to the largest entry of T; rounding error, relative to N.
_EXHAUSTED, _ROUNDING = 1e-10, 1e-12


@dataclass(frozen=True)
class LogDeterminant:
    """An estimate of log det A.

    Attributes:
        value: in nats.
        error: its standard error, from the spread of the probes.
        steps: products with A, of all probes at once.
    """

    value: float
    error: float
    steps: int


def log_determinant(
    apply: Apply,
    preconditioner: Preconditioner,
    size: int,
    *,
    probes: int,
    max_steps: int,
    seed: int,
) -> LogDeterminant:
    """log det A by stochastic Lanczos quadrature on the preconditioned matrix.

    Math: log det A = log det P + tr log M,  M = P^-1/2 A P^-1/2
        tr log M ~ mean over z of z^T log M z,  z random signs
        z^T log M z ~ N e_1^T log(T) e_1,  T [m, m] of m Lanczos steps from z / |z|
      The mean is unbiased. Its variance is 2 (|L|_F^2 - |diag L|^2) / probes with L = log M, which
      a better preconditioner makes smaller. Lost orthogonality repeats Ritz values, and leaves the
      sum of their weights as it is.

    Args:
        apply: p -> A p, for p of shape [N, C].
        preconditioner: P.
        size: N.
        probes: the number of z, 2 or more.
        max_steps: the largest m.
        seed: seed of the probes.

    Raises:
        NumericalError: a Ritz value is not positive, or max_steps do not suffice.

    References:
        Ubaru, Chen and Saad (2017), Fast estimation of tr(f(A)) via stochastic Lanczos
        quadrature; Gardner et al. (2018), GPyTorch, section 4; Wenger et al. (2022),
        Preconditioning for scalable Gaussian process hyperparameter optimization.
    """
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(size, probes))
    q, before = signs / math.sqrt(size), np.zeros((size, probes))
    diagonal, beside = np.empty((probes, 0)), np.empty((probes, 0))
    beta, last = np.zeros(probes), math.inf
    for step in range(1, max_steps + 1):
        w = preconditioner.root(apply(preconditioner.root(q))) - beta * before
        alpha = np.einsum("nc,nc->c", q, w)
        w -= alpha * q
        beta = np.linalg.norm(w, axis=0)
        diagonal = np.column_stack([diagonal, alpha])
        # An exhausted space leaves zeros: the rows of T after it are a block of zero weight.
        scale = np.maximum(np.abs(diagonal).max(axis=1), beside.max(axis=1, initial=0.0))
        beta[beta <= _EXHAUSTED * scale] = 0.0
        if step % _CHECKED == 0 or step == max_steps or not beta.any():
            values = size * _quadratures(diagonal, beside)
            mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(probes)
            enough = max(_SHARE * error, _ROUNDING * size)
            if abs(mean - last) <= enough or not beta.any():
                return LogDeterminant(preconditioner.log_determinant + mean, error, step)
            last = mean
        beside = np.column_stack([beside, beta])
        before, q = q, np.divide(w, beta, out=np.zeros_like(w), where=beta > 0.0)
    raise NumericalError(
        f"the log determinant is not known after {max_steps} Lanczos steps: it still changes by "
        f"more than {_SHARE:.0%} of its standard error, {error:.3g}. Try: a larger rank or "
        "max_iterations, or probes=0 for a fit without log marginal likelihood"
    )


def _quadratures(diagonal: Matrix, beside: Matrix) -> Vector:
    """e_1^T log(T) e_1 for each T, [probes].

    Shapes:
        diagonal [probes, m], beside [probes, m - 1].
    """
    result = np.empty(len(diagonal))
    for c, (on, off) in enumerate(zip(diagonal, beside, strict=True)):
        # The block of the first vector ends where a coupling is zero.
        stop = 1 + (int(np.argmin(off)) if (off == 0.0).any() else len(off))
        values, vectors = eigh_tridiagonal(on[:stop], off[: stop - 1])
        if values[0] <= 0.0:
            raise NumericalError(
                f"the preconditioned kernel matrix has the Ritz value {values[0]:.3g}: it is not "
                "positive definite to the precision of its entries, and has no log determinant. "
                "Try: a noise_variance, or probes=0 for a fit without log marginal likelihood"
            )
        result[c] = vectors[0] ** 2 @ np.log(values)
    return result
