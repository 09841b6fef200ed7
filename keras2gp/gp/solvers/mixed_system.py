"""The linear system of a float32 Cholesky factor, whose solves are refined in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from keras2gp._util import memory
from keras2gp._util.arrays import Array, Indices, Matrix, Noise, Targets, Vector
from keras2gp.errors import ModelFileError
from keras2gp.gp.arguments.noise import column_of
from keras2gp.gp.solvers.cholesky import factorize
from keras2gp.gp.solvers.direct import Cholesky
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.lanczos import LogDeterminant
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.products import LowerTriangle
from keras2gp.gp.solvers.refinement import Refined, refine
from keras2gp.gp.solvers.single import SingleFactor
from keras2gp.gp.solvers.system import PROBE, Origin
from keras2gp.gp.solvers.training import Training

__all__ = ["PROBES", "MixedSystem"]

PROBES = 8
"""Random vectors of the estimate of log det A."""

_HINT = "fewer training images, solver='cg', or solver='nystroem'"
_TOLERANCE = 1e-10
_MOST_CORRECTIONS = 8
# Rows whose leave-one-out variance is compared with a refined one, half of them those of the
# smallest; the largest error found on them has to stay below the accuracy by this factor.
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
        training: has the matrix, or the kernel and inputs to compute it.
        factor: L.
        added: the sum of noise and jitter on the diagonal.
        accuracy: of leave-one-out variances, relative.
        rate: |I - P^-1 A| as the solve for the targets has shown it; at least eps(float32).
        corner: the first rows and columns of K, if they are known without the matrix.
    """

    closed_form: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("single.npy", "unit.npy", "leading.npy")

    def __init__(
        self,
        training: Training,
        factor: SingleFactor,
        added: Noise,
        accuracy: float,
        *,
        rate: float = 1.0,
        corner: Matrix | None = None,
    ) -> None:
        self._training = training
        self._factor = factor
        self._added = added
        self._accuracy = accuracy
        self._rate = max(rate, _SINGLE)
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
        self._training = self._training.with_matrix(self._training.matrix())
        return LowerTriangle(self._training.matrix())

    @cached_property
    def _exact(self) -> CholeskyFactor:
        """The factor in float64, for what this one is too rough for."""
        return factorize(self.matrix.whole, self._added, 0.0)

    @property
    def _entry_error(self) -> float:
        return relative_error(self.matrix.dtype, self.basis)

    def solved(
        self, targets: Targets, tolerance: float, max_iterations: int
    ) -> tuple[Refined, LogDeterminant]:
        """A^-1 Y for targets [N, C], if it converged, and an estimate of log det A.

        Math: log det A = log det P + tr log(I + D),  D = L^-1 A L^-T - I
            z^T log(I + D) z ~ z^T D z - z^T D^2 z / 2

        The trace is the mean over random signs z. Its error is the standard error of that mean, and
        a bound on what the series leaves out, |D| z^T D^2 z / 3 or less.
        """
        outputs = targets.shape[1]
        # Powers of two keep every digit, and squares away from overflow and underflow.
        unit = np.ldexp(1.0, np.frexp(np.abs(targets).max(axis=0, initial=0.0))[1])
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(self.basis, PROBES))
        scaled = targets / unit
        first = self._factor.apply(scaled)
        # One pass over the matrix serves both.
        product = self._apply(np.hstack([first, self._factor.back_solve(signs)]))
        solution = refine(
            self._apply,
            scaled,
            first,
            product[:, :outputs],
            self._factor.apply,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
        excess = self._factor.half_solve(product[:, outputs:]) - signs
        squares = np.einsum("nc,nc->c", excess, excess)
        values = np.einsum("nc,nc->c", signs, excess) - squares / 2.0
        spread = float(values.std(ddof=1)) / math.sqrt(PROBES)
        self._rate = max(solution.rate, _SINGLE)
        error = math.hypot(spread, self._rate * float(squares.mean()) / 3.0)
        value = self._factor.log_determinant + float(values.mean())
        with np.errstate(over="ignore"):  # what is beyond float64 is refused with the fit
            solution = replace(solution, x=solution.x * unit)
        return solution, LogDeterminant(value, error, 1)

    def solve(self, b: Matrix) -> Matrix:
        """A^-1 b for b of shape [N, C], to a residual of 1e-10; by a float64 factor if need be."""
        refined, _ = self.solved(b, _TOLERANCE, _MOST_CORRECTIONS)
        return refined.x if refined.converged else self._exact.solve(b)

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
        found = self._refined(cross.T)
        if found is None:
            return self._exact.explained(cross)
        x, rest, half = found
        result: Vector = np.einsum("nm,nm->m", cross.T + rest, x)
        result += np.einsum("nm,nm->m", half, half)
        return result

    def explained_covariance(self, cross: Matrix) -> Matrix:
        """k* A^-1 k*^T, [M, M], for k* of shape [M, N]."""
        found = self._refined(cross.T)
        if found is None:
            return self._exact.explained_covariance(cross)
        x, rest, half = found
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
        if (gap * _MARGIN <= self._accuracy * exact).all():
            return rough[rows]
        cholesky = Cholesky()
        available = memory.available_memory()
        if available is None or cholesky.memory(self._training, 1) <= available:
            return self._exact.inverse_diagonal(rows)
        starts = range(0, len(rows), _FEW)
        return np.concatenate([self._solved_diagonal(rows[i : i + _FEW]) for i in starts])

    def kernel_corner(self, count: int, added: Noise) -> Matrix:
        """See LinearSystem.kernel_corner."""
        if self._corner is not None:
            return self._corner[:count, :count]
        return self.matrix.corner(min(count, self.basis))

    def state(self) -> dict[str, Array]:
        """See LinearSystem.state; the matrix is not saved: it is computed again when needed."""
        panels, numbers = self._factor.panels, (self._factor.unit, self._rate, self._accuracy)
        return {
            "single.npy": panels.storage,
            "unit.npy": np.array([panels.tile, *numbers]),
            "leading.npy": self.kernel_corner(PROBE, self._added),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Array], origin: Origin) -> MixedSystem:
        """See LinearSystem.from_state."""
        corner, count = state["leading.npy"], min(PROBE, len(origin.training))
        if corner.shape != (count, count):
            raise ModelFileError("the arrays do not fit each other")
        facts, size = state["unit.npy"], len(origin.training)
        if facts.shape != (4,) or not ((facts[2:] > 0.0) & (facts[2:] < 1.0)).all():
            raise ModelFileError("unit.npy does not describe a float32 factor")
        factor = SingleFactor.from_arrays(state["single.npy"], facts[:2], size)
        rate, accuracy = float(facts[2]), float(facts[3])
        return cls(origin.training, factor, origin.added, accuracy, rate=rate, corner=corner)

    def _apply(self, p: Matrix) -> Matrix:
        result = self.matrix.product(p)
        result += column_of(self._added) * p
        return result

    def _refined(self, b: Matrix) -> tuple[Matrix, Matrix, Matrix] | None:
        """x ~ A^-1 b, its residual r, and L^-1 r, so that b^T A^-1 b is known; None if too rough.

        Its last term has the relative error |I - P^-1 A|, which has to be below that of entries.
        """
        b = np.ascontiguousarray(b)
        error = self._entry_error
        x = self._factor.apply(b)
        for _ in range(_MOST_CORRECTIONS):
            rest = b - self._apply(x)
            half = self._factor.half_solve(rest)
            last = np.einsum("nm,nm->m", half, half)
            whole = np.einsum("nm,nm->m", b + rest, x) + last
            if (self._rate * last <= error * whole).all():
                return x, rest, half
            x += self._factor.back_solve(half)
        return None

    def _solved_diagonal(self, rows: Indices) -> Vector:
        unit = np.zeros((len(rows), self.basis))
        unit[np.arange(len(rows)), rows] = 1.0
        return self._refined_explained(unit)


def _compared_rows(inverse: Vector) -> Indices:
    """Rows that are compared: the largest entries of the inverse, and random ones."""
    half = _COMPARED // 2
    largest = np.argpartition(inverse, -half)[-half:]
    return np.union1d(largest, np.random.default_rng(0).permutation(len(inverse))[:half])
