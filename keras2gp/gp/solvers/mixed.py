"""The solver in mixed precision: a float32 Cholesky factor, and solves refined in float64."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from keras2gp._util import memory
from keras2gp._util.arrays import Array, Indices, Matrix, Targets, Vector
from keras2gp._util.checks import whole_number
from keras2gp._util.text import received_text, size_text
from keras2gp.errors import InputError, ModelFileError, NumericalError
from keras2gp.gp.solvers.cholesky import factorize
from keras2gp.gp.solvers.direct import Cholesky
from keras2gp.gp.solvers.iterative import ConjugateGradients
from keras2gp.gp.solvers.jitter import check_jitter, check_range
from keras2gp.gp.solvers.lanczos import LogDeterminant
from keras2gp.gp.solvers.lower import LowerTriangle
from keras2gp.gp.solvers.matrices import Progress
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.refinement import Refined, refine
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep, is_number
from keras2gp.gp.solvers.single import SingleFactor, factorize_single, single_memory
from keras2gp.gp.solvers.system import PROBE, Fit, LinearSystem, Origin
from keras2gp.gp.solvers.training import Training

__all__ = ["MixedPrecision", "MixedSystem"]

_HINT = "fewer training images, solver='cg', or solver='nystroem'"
_MOST_CORRECTIONS = 8
_PROBES = 8
# Rows whose leave-one-out variance is compared with a refined one, half of them the smallest; the
# largest error found on them has to stay below the accuracy by this factor.
_COMPARED, _MARGIN = 32, 2.0
# So many entries of the diagonal of the inverse are solved for, which is as cheap as all of them.
_FEW = 256
_SINGLE = float(np.finfo(np.float32).eps)


class MixedSystem:
    """A = K + added I, with P = L L^T ~ A in float32, and products with K in float64.

    Math: x = P^-1 b;  r = b - A x;  b^T A^-1 b = (b + r)^T x + r^T A^-1 r
        r^T A^-1 r ~ r^T P^-1 r, with an error of |I - P^-1 A| relative to it

    Each correction x += P^-1 r makes r smaller by the factor |I - P^-1 A|, which the terms show:
    they are corrected until the error is below that of the kernel's entries.

    Args:
        settings: tolerance, accuracy and iterations.
        training: has the matrix, or the kernel and inputs to compute it.
        factor: L.
        added: the sum of noise and jitter on the diagonal.
        corner: the first rows and columns of K, if they are known without the matrix.
    """

    closed_form: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("single.npy", "unit.npy", "leading.npy")

    def __init__(
        self,
        settings: MixedPrecision,
        training: Training,
        factor: SingleFactor,
        added: float,
        corner: Matrix | None = None,
    ) -> None:
        self._settings = settings
        self._training = training
        self._factor = factor
        self._added = added
        self._corner = corner

    @property
    def basis(self) -> int:
        """N."""
        return self._factor.panels.size

    @cached_property
    def matrix(self) -> LowerTriangle:
        """K; computed at the first use after a fit was loaded.

        Raises:
            InputError: there is no matrix, or too little memory to compute it.
        """
        panel = LowerTriangle.memory(self.basis, held=self._training.given is None)
        self._training.require(panel, "products with it", _HINT)
        return LowerTriangle(self._training.matrix())

    @property
    def _entry_error(self) -> float:
        return relative_error(self.matrix.dtype, self.basis)

    def solved(self, targets: Targets) -> tuple[Refined, LogDeterminant]:
        """A^-1 Y for targets [N, C], if it converged, and an estimate of log det A.

        Math: log det A = log det P + tr log(I + D),  D = L^-1 A L^-T - I
            z^T log(I + D) z ~ z^T D z - z^T D^2 z / 2

        The trace is the mean over random signs z. Its error is the standard error of that mean, and
        a bound on what the series leaves out, |D| z^T D^2 z / 3 or less.
        """
        settings, outputs = self._settings, targets.shape[1]
        # Powers of two keep every digit, and squares away from overflow and underflow.
        unit = np.ldexp(1.0, np.frexp(np.abs(targets).max(axis=0, initial=0.0))[1])
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(self.basis, _PROBES))
        scaled = targets / unit
        first = self._factor.apply(scaled)
        # One pass over the matrix serves both.
        product = self._apply(np.hstack([first, self._factor.back_solve(signs)]))
        found = refine(
            self._apply,
            scaled,
            first,
            product[:, :outputs],
            self._factor.apply,
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
        )
        excess = self._factor.half_solve(product[:, outputs:]) - signs
        squares = np.einsum("nc,nc->c", excess, excess)
        values = np.einsum("nc,nc->c", signs, excess) - squares / 2.0
        spread = float(values.std(ddof=1)) / math.sqrt(_PROBES)
        error = math.hypot(spread, found.rate * float(squares.mean()) / 3.0)
        value = self._factor.log_determinant + float(values.mean())
        with np.errstate(over="ignore"):  # what is beyond float64 is refused with the fit
            found = replace(found, x=found.x * unit)
        return found, LogDeterminant(value, error, 1)

    def explained(self, cross: Matrix) -> Vector:
        """diag(k* A^-1 k*^T), [M], for k* of shape [M, N].

        |L^-1 k*^T|^2 in float32, if refined values of some rows differ from it by less than
        twice the error of the kernel's entries; otherwise all are refined, to that error.
        """
        if len(cross) > _COMPARED and self._entry_error >= _SINGLE:
            half = self._factor.half_solve(cross.T)
            rough: Vector = np.einsum("nm,nm->m", half, half)
            compared = np.random.default_rng(0).permutation(len(cross))[:_COMPARED]
            exact = self._refined_explained(cross[compared])
            gap = np.abs(rough[compared] - exact)
            if (gap <= 2.0 * self._entry_error * exact).all():
                return rough
        return self._refined_explained(cross)

    def _refined_explained(self, cross: Matrix) -> Vector:
        x, rest, half = self._refined(cross.T)
        result: Vector = np.einsum("nm,nm->m", cross.T + rest, x)
        result += np.einsum("nm,nm->m", half, half)
        return result

    def explained_covariance(self, cross: Matrix) -> Matrix:
        """k* A^-1 k*^T, [M, M], for k* of shape [M, N]."""
        x, rest, half = self._refined(cross.T)
        product = (cross + rest.T) @ x + half.T @ half
        result: Matrix = (product + product.T) / 2.0
        return result

    def inverse_diagonal(self, rows: Indices) -> Vector:
        """Entries of the diagonal of A^-1, [rows].

        A few are solved for. More come from L alone, in float32, and some of them are compared
        with solutions: where those differ by more than half the accuracy, all are computed
        from a factor in float64, or solved for if the memory does not hold that.
        """
        if len(rows) <= _FEW:
            return self._solved_diagonal(rows)
        rough = self._factor.inverse_diagonal()
        compared = _compared_rows(rough)
        exact = self._solved_diagonal(compared)
        gap = np.abs(rough[compared] - exact)
        if (gap * _MARGIN <= self._settings.accuracy * exact).all():
            return rough[rows]
        cholesky = Cholesky()
        available = memory.available_memory()
        if available is None or cholesky.memory(self._training, 1) <= available:
            given = self._training.matrix()
            return factorize(given, self._added, 0.0).inverse_diagonal(rows)
        starts = range(0, len(rows), _FEW)
        return np.concatenate([self._solved_diagonal(rows[i : i + _FEW]) for i in starts])

    def kernel_corner(self, count: int, added: float) -> Matrix:
        """See LinearSystem.kernel_corner."""
        if self._corner is not None:
            return self._corner[:count, :count]
        return self.matrix.corner(min(count, self.basis))

    def state(self) -> dict[str, Array]:
        """See LinearSystem.state; the matrix is not saved: it is computed again when needed."""
        panels = self._factor.panels
        return {
            "single.npy": panels.storage,
            "unit.npy": np.array([panels.tile, self._factor.unit]),
            "leading.npy": self.kernel_corner(PROBE, self._added),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Array], origin: Origin) -> MixedSystem:
        """See LinearSystem.from_state."""
        corner, count = state["leading.npy"], min(PROBE, len(origin.training))
        if corner.shape != (count, count):
            raise ModelFileError("the arrays do not fit each other")
        factor = SingleFactor.from_arrays(
            state["single.npy"], state["unit.npy"], len(origin.training)
        )
        # The settings that "auto" chose are not saved: they are the defaults.
        chosen = isinstance(origin.solver, MixedPrecision)
        settings = origin.solver if chosen else MixedPrecision()
        return cls(settings, origin.training, factor, origin.added, corner)

    def _apply(self, p: Matrix) -> Matrix:
        result = self.matrix.product(p)
        result += self._added * p
        return result

    def _refined(self, b: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        """x ~ A^-1 b, its residual r, and L^-1 r, until b^T A^-1 b is known.

        The terms of b^T A^-1 b show the factor g by which a correction shrinks the error: the
        last one is about g^2 of the whole, and its own error g^3.
        """
        b = np.ascontiguousarray(b)
        error = self._entry_error
        x = self._factor.apply(b)
        for _ in range(_MOST_CORRECTIONS):
            rest = b - self._apply(x)
            half = self._factor.half_solve(rest)
            last = np.einsum("nm,nm->m", half, half)
            whole = np.einsum("nm,nm->m", b + rest, x) + last
            if (last**1.5 <= error * np.maximum(whole, 0.0) ** 1.5).all():
                return x, rest, half
            x += self._factor.back_solve(half)
        raise NumericalError(
            f"the float32 factor leaves a posterior variance unknown after {_MOST_CORRECTIONS} "
            "corrections. Try: solver='cholesky', or a noise_variance"
        )

    def _solved_diagonal(self, rows: Indices) -> Vector:
        unit = np.zeros((len(rows), self.basis))
        unit[np.arange(len(rows)), rows] = 1.0
        return self._refined_explained(unit)


@dataclass(frozen=True)
class MixedPrecision:
    """A float32 Cholesky factor, with solves that float64 products refine; exact to a tolerance.

    The factor takes half the time and half the memory of one in float64, and the matrix is kept.
    It is refused, and the solve done by Cholesky in float64 (or by conjugate gradients, if that
    does not fit in memory), where float32 is not enough: a pivot near its rounding error, which
    includes every matrix that needs jitter, or a tolerance that is not reached.

    The weights meet the tolerance. Posterior variances are refined until they are as exact as the
    kernel's entries (precision.relative_error). Leave-one-out variances are within `accuracy`. The
    log marginal likelihood is an estimate with the standard error solver_report_.evidence_error.

    Args:
        tolerance: bound on the relative residual |y - A alpha| / |y| of each column.
        accuracy: bound on the relative error of leave-one-out variances; it is checked on 32 rows
            each time, with a margin of 2.
        max_iterations: bound on the products with the matrix.

    Raises:
        InputError: a setting is out of range.

    References:
        Higham and Mary (2022), Mixed precision algorithms in numerical linear algebra, section 7.

    >>> import numpy as np
    >>> from keras2gp.gp import GPRegressor, MixedPrecision
    >>> gp = GPRegressor("precomputed", 1.0, solver=MixedPrecision())
    >>> gp.fit(np.eye(3), [2.0, 4.0, 6.0]).predict(np.eye(3)).round(6)
    array([1., 2., 3.])
    >>> gp.solver_report_.solver
    'mixed'
    """

    tolerance: float = 1e-10
    accuracy: float = 1e-3
    max_iterations: int = 20
    name: ClassVar[str] = "mixed"
    system: ClassVar[type[LinearSystem]] = MixedSystem

    def __post_init__(self) -> None:
        for name in ("tolerance", "accuracy"):
            value = getattr(self, name)
            if not is_number(value) or not 0.0 < value < 1.0:
                raise InputError(
                    f"{name} is {received_text(value)}: expected a number between 0 and 1"
                )
        whole_number("max_iterations", self.max_iterations, 1)

    def memory(self, training: Training, outputs: int) -> int:
        """Bytes beyond the kernel matrix: the factor, panels, and a few vectors.

        Args:
            training: the covariance of the training inputs.
            outputs: C.

        Returns:
            The number of bytes.
        """
        count = len(training)
        held = training.given is None or isinstance(training.given, np.ndarray)
        vectors = 8 * (outputs + _PROBES)
        panels = LowerTriangle.memory(count, held=held)
        return single_memory(count) + panels + 8 * count * vectors

    def fit(
        self,
        training: Training,
        targets: Targets,
        noise: float,
        jitter: float | str,
        progress: Progress | None,
    ) -> Fit:
        """See Solver.fit.

        Args:
            training: the covariance of the training inputs.
            targets: Y, [N, C].
            noise: the noise variance.
            jitter: "auto", or a number relative to the mean diagonal.
            progress: called with (steps done, steps in all).

        Returns:
            The fit, with alpha [N, C].
        """
        outputs, extra = targets.shape[1], training.bytes_to_compute
        training.require(self.memory(training, outputs), "the float32 factor", _HINT)
        training = training.with_matrix(training.matrix())
        fit = self._attempt(training, targets, noise, check_jitter(jitter) or 0.0, progress)
        if isinstance(fit, Fit):
            return fit
        solver, why = _in_float64(training, outputs)
        taken = (solver.name, f"float32 is not enough: {fit}{why}")
        found = solver.fit(training, targets, noise, jitter, progress)
        return replace(found, instead=(*taken, solver.memory(training, outputs) + extra))

    def _attempt(
        self,
        training: Training,
        targets: Targets,
        noise: float,
        jitter: float,
        progress: Progress | None,
    ) -> Fit | str:
        """The fit, or the reason why float32 is not enough for it."""
        started = time.perf_counter()
        matrix = LowerTriangle(training.matrix())
        diagonal = matrix.diagonal()
        mean = check_range(diagonal, noise, jitter)
        added = noise + jitter * mean
        factor, smallest, index = factorize_single(training.matrix(), diagonal, added, progress)
        if factor is None:
            return f"the pivot {smallest:.3g}, at row {index}, is near its rounding error"
        system = MixedSystem(self, training, factor, added)
        solution, determinant = system.solved(targets)
        if not solution.converged:
            return (
                f"relative residual {solution.residual:.3g} after {solution.iterations} "
                f"iterations, tolerance {self.tolerance:g}"
            )
        step = JitterStep(jitter, smallest, index)
        return Fit(
            system,
            solution.x,
            solution.x,
            determinant.value,
            CholeskyReport(jitter, mean, (step,), time.perf_counter() - started),
            str(matrix.dtype),
            iterations=solution.iterations,
            residual=solution.residual,
            determinant_error=determinant.error,
        )


def _in_float64(training: Training, outputs: int) -> tuple[Cholesky | ConjugateGradients, str]:
    """The solver that takes over, and the reason if it is not Cholesky."""
    cholesky, available = Cholesky(), memory.available_memory()
    needed = cholesky.memory(training, outputs)
    if available is None or needed <= available:
        return cholesky, ""
    return ConjugateGradients(), (
        f"; a float64 factor needs {size_text(needed)}, and {size_text(available)} is available"
    )


def _compared_rows(inverse: Vector) -> Indices:
    """Rows that are compared: the largest entries of the inverse, and random ones."""
    half = _COMPARED // 2
    largest = np.argpartition(inverse, -half)[-half:]
    return np.union1d(largest, np.random.default_rng(0).permutation(len(inverse))[:half])
