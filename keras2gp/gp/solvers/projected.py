"""The approximate solver for many training inputs: one pass over N x M covariances at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import blas, lapack

from keras2gp._util.arrays import Indices, Matrix, Noise, Targets, Vector
from keras2gp._util.progress import Advance
from keras2gp.errors import InputError, NumericalError
from keras2gp.gp.solvers.inducing import InducingSolver, InducingSystem
from keras2gp.gp.solvers.jitter import check_jitter, check_range
from keras2gp.gp.solvers.matrices import rows_at_once
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.rectangle import Features, features_of
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep
from keras2gp.gp.solvers.system import Fit
from keras2gp.gp.solvers.training import Training

__all__ = ["NormalEquations", "ProjectedProcess", "Steps"]

_PANELS = 4
"""Panels of rows at once: as read, in float64, and two triangular solves."""
ONE_NOISE = (
    'solver "projected" sums over the training inputs once, for one noise of all of them: it takes '
    "no noise or weight of single rows. Try: solver='nystroem', or 'cg'"
)
"""Why there is no noise of single rows."""

# Least noise, relative to the mean variance: without any, A is singular.
_FLOOR = 1e-6


class Steps:
    """The steps of a fit: parts of the covariances that are computed, and panels that are read."""

    def __init__(self, progress: Advance | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self) -> None:
        """Report one step more to the progress."""
        self._done += 1
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


@dataclass(frozen=True)
class NormalEquations:
    """The sums over all training inputs that a fit at any noise begins with.

    Attributes:
        features: F, to be read again.
        products: F^T F, [M, M], its lower triangle.
        moments: F^T Y, [M, C].
        targets: Y, [N, C].
        mean: the mean prior variance.
        dtype: type of the kernel's entries.
    """

    features: Features
    products: Matrix
    moments: Matrix
    targets: Targets
    mean: float
    dtype: str

    def added(self, noise: float, jitter: float | str) -> float:
        """The jitter, in the units of the kernel: "auto" keeps the noise from vanishing.

        Raises:
            NumericalError: there is neither noise nor jitter.
        """
        fixed = check_jitter(jitter)
        if fixed is None:
            return max(_FLOOR * self.mean - noise, 0.0)
        if not noise + fixed * self.mean > 0.0:
            raise NumericalError(
                "the projected process has no noise and no jitter, and its covariance Q of rank "
                f"{self.features.rank} is singular for {len(self.targets)} targets. Try: a "
                'noise_variance, jitter="auto", or solver="nystroem"'
            )
        return fixed * self.mean

    def fit(self, noise: float, jitter: float | str, advance: Callable[[], object]) -> Fit:
        """The fit at one noise, by one pass over the features.

        Math: D = noise + jitter;  B = I + F^T F / D;  beta = B^-1 F^T Y / D
            alpha = (Y - F beta) / D;  (A^-1)_ii = (1 - |chol(B)^-1 F_i|^2 / D) / D
            log det A = N log D + log det B
        """
        started = time.perf_counter()
        check_range(np.array([self.mean]), noise, check_jitter(jitter))
        jitter_added = self.added(noise, jitter)
        variance = noise + jitter_added
        inner = self.products / variance
        inner[np.diag_indices_from(inner)] += 1.0
        chol, info = lapack.dpotrf(inner, lower=1, clean=1, overwrite_a=1)
        if info:
            raise NumericalError(
                f"the normal equations are not positive definite (row {info - 1}, counted from 0): "
                f"the noise, {variance:.3g}, is too small. Try: a larger noise_variance or jitter"
            )
        count = len(self.targets)
        lower = np.ascontiguousarray(self.features.lower)
        system = InducingSystem(lower, chol, np.empty(count))
        beta = system.inner_solve(self.moments) / variance
        alpha = np.empty_like(self.targets)
        for rows, part in self.features:
            alpha[rows] = (self.targets[rows] - part.T @ beta) / variance
            length = np.einsum("mn,mn->n", part, part)
            half = blas.dtrsm(1.0, chol, part, side=0, lower=1, overwrite_b=1)
            left = 1.0 - np.einsum("mn,mn->n", half, half) / variance
            # (A^-1)_ii is at least 1 / A_ii, whatever rounding leaves of the difference.
            system.diagonal[rows] = np.maximum(left / variance, 1.0 / (variance + length))
            advance()
        weights = system.weights(self.moments / variance)
        log_determinant = count * float(np.log(variance)) + system.log_determinant
        pivots = np.diagonal(lower)
        at = self.features.pivots[int(pivots.argmin())]
        relative = jitter_added / self.mean if self.mean else 0.0
        step = JitterStep(relative, float(pivots.min()) ** 2, at)
        report = CholeskyReport(relative, self.mean, (step,), time.perf_counter() - started)
        return Fit(
            system,
            alpha,
            weights,
            log_determinant,
            report,
            self.dtype,
            inducing=self.features.pivots,
            rank=self.features.rank,
        )


@dataclass(frozen=True)
class ProjectedProcess(InducingSolver):
    """The projected process (subset of regressors, DTC) by streaming passes. Approximate.

    Of N training inputs M are inducing, drawn evenly. The function is modelled as the regression on
    the M covariances with them, with the posterior of Gaussian process weights, and the N x M
    covariances are read a panel of rows at a time: from memory, or from a store that
    keras2gp.gram(kernel, X, X[solver.rows(N)], out=...) wrote, given as gram. A fit takes two
    passes; the choice of a noise one more. Memory beyond the covariances does not grow with N, but
    for the targets.

    The variance is that of the projected process. It is the prior's far from the inducing inputs;
    what the inducing inputs do not explain of the data counts as if it were known, so that it is
    smaller than the exact variance there, unlike that of Nystroem().

    Math: Q = K_nm K_mm^-1 K_mn, A = Q + D, D = noise + jitter
        mean = k*m (D K_mm + K_mn K_nm)^-1 K_mn y
        variance = k** - k*m K_mm^-1 km* + D k*m (D K_mm + K_mn K_nm)^-1 km*

    Args:
        rank: the largest M; None for 1000.
        inducing: rows of the training inputs to take; None to draw them evenly.
        seed: seed of that draw.

    Raises:
        InputError: a setting is out of range.

    References:
        Quinonero-Candela and Rasmussen 2005, section 5; Rudi, Carratino and Rosasco 2017 (FALKON),
        whose normal equations these are.

    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp.gp import GPRegressor, ProjectedProcess
    >>> x = np.linspace(0.0, 3.0, 500)[:, None]
    >>> gp = GPRegressor(RBF(1.0), noise_variance=0.01, solver=ProjectedProcess(rank=20))
    >>> bool(np.abs(gp.fit(x, np.sin(x[:, 0])).predict(x) - np.sin(x[:, 0])).max() < 0.02)
    True
    """

    name: ClassVar[str] = "projected"
    remedy: ClassVar[str] = (
        "a lower rank, or the covariances on disk, gram=keras2gp.gram(kernel, X, "
        "X[solver.rows(len(X))], out='K_NM.zarr')"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inducing is not None and len(set(self.inducing)) < len(self.inducing):
            raise InputError("inducing holds a row twice: expected none twice")

    def rows(self, count: int) -> Indices:
        """Rows of the training inputs that are inducing: the columns of a matrix given as gram.

        Args:
            count: N.

        Returns:
            The rows, [M].

        Raises:
            InputError: a row is not among the N.

        >>> from keras2gp.gp import ProjectedProcess
        >>> ProjectedProcess(rank=4).rows(10)
        array([2, 4, 6, 7])
        """
        self.check_rows(count)
        if self.inducing is None:
            chosen = np.random.default_rng(self.seed).permutation(count)[: self.rank_for(count)]
            return np.sort(chosen)
        return np.array(self.inducing, dtype=np.intp)

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes that a fit takes: the covariances unless they are on disk, and a few M x M."""
        count = len(training)
        rank = self.rank_for(count)
        panel = min(rows_at_once(training.given_rectangle, count), count)
        sums = 6 * rank * rank + _PANELS * panel * rank + count * (4 * outputs + 4)
        return training.rectangle_bytes(rank) + 8 * sums

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
            NumericalError: there is neither noise nor jitter.
        """
        steps = self.steps(training, progress, passes=2)
        if isinstance(noise, np.ndarray):
            raise InputError(ONE_NOISE)
        return self.equations(training, targets, steps).fit(noise, jitter, steps)

    def steps(self, training: Training, progress: Advance | None, passes: int) -> Steps:
        """The steps of a fit of so many passes.

        Args:
            training: the covariance of the training inputs.
            progress: called with (steps done, steps in all).
            passes: how often the covariances are read.

        Returns:
            The steps.
        """
        panels = -(-len(training) // rows_at_once(training.given_rectangle, len(training)))
        return Steps(progress, training.slabs + passes * panels)

    def equations(
        self, training: Training, targets: Targets, advance: Callable[[], object]
    ) -> NormalEquations:
        """The normal equations, by one pass over the covariances.

        Args:
            training: the covariance of the training inputs.
            targets: Y, [N, C].
            advance: called after each step.

        Returns:
            The equations.

        Raises:
            InputError: the memory does not suffice, or the given covariances are others.
            NumericalError: the kernel is zero on the inducing inputs.
        """
        self.require(training, targets.shape[1])
        dtype, count = training.dtype, len(training)
        diagonal: Vector = training.diagonal()
        mean = check_range(diagonal, 0.0, None)
        rows = self.rows(count)
        features = features_of(training, rows, relative_error(dtype, len(rows)), advance)
        products = np.zeros((features.rank, features.rank), order="F")
        moments = np.zeros((features.rank, targets.shape[1]))
        for part, columns in features:
            products = blas.dsyrk(1.0, columns, beta=1.0, c=products, lower=1, overwrite_c=1)
            moments += columns @ targets[part]
            advance()
        return NormalEquations(features, products, moments, targets, mean, str(dtype))
