"""Linear systems of outputs that each have a noise of their own: A_c = K + D_c.

A factor for each distinct noise; or one eigendecomposition K = U diag(t) U^T for all of them, where
D_c is a multiple of the identity. Both give an axis of outputs to everything that depends on A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self, cast

import numpy as np
import scipy.linalg

from keras2gp._util.arrays import Array, Indices, Matrix, Noise, Targets, Vector
from keras2gp._util.progress import Advance
from keras2gp.errors import ModelFileError
from keras2gp.gp.solvers.by_pattern import PatternFactors
from keras2gp.gp.solvers.direct import Cholesky, TensorFlowCholesky, dense_matrix
from keras2gp.gp.solvers.factor import CholeskyFactor
from keras2gp.gp.solvers.jitter import check_jitter, check_range
from keras2gp.gp.solvers.output_factors import (
    NOISES,
    FactorsOfOutputs,
    fit_of,
    noises_of,
    worst_of,
)
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep
from keras2gp.gp.solvers.system import Fit, Origin
from keras2gp.gp.solvers.training import Training

__all__ = [
    "OutputFactors",
    "OutputSpectrum",
    "OutputSystem",
    "distinct",
    "fit_outputs",
    "system_of",
]

_FEW = 16
"""Distinct noises up to which factorisations take less time than the eigenvectors: at 2000 rows 12
of them take 0.7 to 1.4 times as long."""


class OutputFactors(FactorsOfOutputs):
    """A Cholesky factor for each distinct noise.

    Args:
        factors: of K + D, one for each distinct column of `noises`, in the order of `distinct`.
        noises: the noise variances of the outputs, [1, C], or of rows and outputs, [N, C].
    """

    closed_form: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("factors.npy", NOISES)

    def __init__(self, factors: Sequence[CholeskyFactor], noises: Matrix) -> None:
        super().__init__(factors, noises, distinct(noises)[1])

    @property
    def basis(self) -> int:
        """N."""
        return self._factors[0].size

    def explained(self, cross: Matrix) -> Matrix:
        """diag(k* A_c^-1 k*^T), [M, C]."""
        parts = [factor.explained(cross) for factor in self._factors]
        return np.stack(parts, axis=-1)[..., self._of]

    def explained_covariance(self, cross: Matrix) -> Array:
        """k* A_c^-1 k*^T, [M, M, C]."""
        parts = [factor.explained_covariance(cross) for factor in self._factors]
        return np.stack(parts, axis=-1)[..., self._of]

    def inverse_diagonal(self, rows: Indices) -> Matrix:
        """Entries of the diagonals of A_c^-1, [rows, C]."""
        parts = [factor.inverse_diagonal(rows) for factor in self._factors]
        return np.stack(parts, axis=-1)[..., self._of]

    def solve(self, b: Matrix) -> Matrix:
        """A_c^-1 b_c for b of shape [N, C k], the k columns of an output side by side."""
        parts = b.reshape(len(b), len(self._of), -1)
        result = np.empty_like(parts)
        for number, factor in enumerate(self._factors):
            own = self._of == number
            solved = factor.solve(parts[:, own].reshape(len(b), -1))
            result[:, own] = solved.reshape(len(b), int(own.sum()), -1)
        return result.reshape(b.shape)

    def kernel_corner(self, count: int, added: Noise) -> Matrix:
        """See LinearSystem.kernel_corner; `added` is not read: the factors know it."""
        own = self.added[:, int((self._of == 0).argmax())]
        return self._factors[0].kernel_corner(count, own if len(own) > 1 else float(own[0]))

    def state(self) -> dict[str, Array]:
        """See LinearSystem.state."""
        vectors = np.stack([factor.as_vector() for factor in self._factors])
        return {"factors.npy": vectors, NOISES: self._noises}

    @classmethod
    def from_state(cls, state: Mapping[str, Array], origin: Origin) -> Self:
        """See LinearSystem.from_state."""
        noises = noises_of(state, origin)
        vectors = state["factors.npy"]
        if vectors.ndim != 2 or len(vectors) != len(distinct(noises)[0]):
            raise ModelFileError("factors.npy does not hold a factor for each distinct noise")
        factors = [
            CholeskyFactor.from_state({"factor.npy": np.array(vector)}, origin)
            for vector in vectors
        ]
        return cls(factors, noises)


class OutputSpectrum:
    """One eigendecomposition K = U diag(t) U^T, for noises that every row shares.

    Math: A_c^-1 = U diag(1 / (t + s_c)) U^T, s_c noise and jitter

    Args:
        eigenvalues: t, [N].
        vectors: U, [N, N].
        added: s, [1, C].
    """

    closed_form: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("eigenvalues.npy", "eigenvectors.npy", NOISES)

    def __init__(self, eigenvalues: Vector, vectors: Matrix, added: Matrix) -> None:
        self._values, self._vectors, self.added = eigenvalues, vectors, added
        self._inverse: Matrix = 1.0 / (eigenvalues[:, None] + added)

    @property
    def basis(self) -> int:
        """N."""
        return len(self._values)

    @property
    def log_determinants(self) -> Vector:
        """log det A_c, [C]."""
        result: Vector = -np.log(self._inverse).sum(axis=0)
        return result

    def explained(self, cross: Matrix) -> Matrix:
        """diag(k* A_c^-1 k*^T), [M, C]."""
        result: Matrix = (cross @ self._vectors) ** 2 @ self._inverse
        return result

    def explained_covariance(self, cross: Matrix) -> Array:
        """k* A_c^-1 k*^T, [M, M, C]."""
        rotated = cross @ self._vectors
        return np.stack([(rotated * inverse) @ rotated.T for inverse in self._inverse.T], axis=-1)

    def inverse_diagonal(self, rows: Indices) -> Matrix:
        """Entries of the diagonals of A_c^-1, [rows, C]."""
        result: Matrix = self._vectors[rows] ** 2 @ self._inverse
        return result

    def solve(self, b: Matrix) -> Matrix:
        """A_c^-1 b_c for b of shape [N, C k], the k columns of an output side by side."""
        parts = (self._vectors.T @ b).reshape(len(b), self._inverse.shape[1], -1)
        result: Matrix = self._vectors @ (parts * self._inverse[:, :, None]).reshape(b.shape)
        return result

    def kernel_corner(self, count: int, added: Noise) -> Matrix:
        """See LinearSystem.kernel_corner; `added` is not read: the eigenvalues are those of K."""
        rows = self._vectors[:count]
        corner: Matrix = (rows * self._values) @ rows.T
        return corner

    def state(self) -> dict[str, Array]:
        """See LinearSystem.state."""
        arrays = (self._values, self._vectors, self.added)
        return dict(zip(self.files, arrays, strict=True))

    @classmethod
    def from_state(cls, state: Mapping[str, Array], origin: Origin) -> Self:
        """See LinearSystem.from_state."""
        noises, count = noises_of(state, origin), len(origin.training)
        values, vectors = state["eigenvalues.npy"], state["eigenvectors.npy"]
        shapes = values.shape == (count,) and vectors.shape == (count, count) and len(noises) == 1
        if not shapes or not (values.min() + noises > 0.0).all():
            raise ModelFileError("eigenvectors.npy is not of these training inputs")
        # LAPACK leaves eigenvectors in columns: products round as before only in that order.
        return cls(values, np.asfortranarray(vectors), noises)


OutputSystem = OutputFactors | OutputSpectrum | PatternFactors
"""A linear system whose outputs have matrices of their own."""


def distinct(noises: Matrix) -> tuple[Indices, Indices]:
    """The first output of each distinct noise, and the number of the noise of each output, [C]."""
    _, first, of = np.unique(noises, axis=1, return_index=True, return_inverse=True)
    return first, of.reshape(-1)


def system_of(state: Mapping[str, Array], origin: Origin) -> OutputSystem:
    """The system of a state; ModelFileError and KeyError where it is malformed."""
    kind: type[OutputSystem] = OutputFactors
    if "eigenvectors.npy" in state:
        kind = OutputSpectrum
    elif "patterns.npy" in state:
        kind = PatternFactors
    return kind.from_state(state, origin)


def fit_outputs(
    training: Training,
    targets: Targets,
    noises: Matrix,
    solver: Cholesky | TensorFlowCholesky,
    jitter: float | str,
    *,
    progress: Advance | None,
) -> tuple[Fit, str]:
    """Solve for targets [N, C] whose columns have noises of their own; the way, in words.

    More than a few noises that every row shares take one eigendecomposition, and others a
    factorisation for each distinct one.

    Args:
        training: the covariance of the training inputs.
        targets: Y, [N, C].
        noises: of the outputs, [1, C], or of rows and outputs, [N, C].
        solver: the solver of a factor.
        jitter: "auto", or a number relative to the mean diagonal.
        progress: called with (steps done, steps in all); it starts again for each factor.

    Raises:
        InputError: the memory does not suffice.
        NumericalError: a matrix is not positive definite.
    """
    training = training.computed()
    first, of = distinct(noises)
    if len(first) > _FEW and len(noises) == 1 and isinstance(solver, Cholesky):
        fit = _decomposed(training, targets, noises, check_jitter(jitter) or 0.0)
        if fit is not None:
            return fit, f"one eigendecomposition for {len(first)} noises"
    hint = "fewer outputs at a time, with gram= so that the kernel is computed once"
    training.require(
        (len(first) - 1) * Cholesky().memory(training, 1)
        + solver.memory(training, targets.shape[1]),
        f"{len(first)} Cholesky factors",
        hint,
    )
    alpha, factors, dtype = np.empty_like(targets), [], ""
    for number, output in enumerate(first):
        own, noise = of == number, noises[:, output]
        added = noise if len(noise) > 1 else float(noise[0])
        fit = solver.fit(training, targets[:, own], added, jitter, progress)
        alpha[:, own], dtype = fit.alpha, fit.dtype
        factors.append(cast("CholeskyFactor", fit.system))
    system = OutputFactors(factors, noises)
    worst = worst_of([factor.report for factor in factors])
    return fit_of(system, alpha, worst, dtype), f"a factor for each of {len(first)} noises"


def _decomposed(training: Training, targets: Targets, noises: Matrix, jitter: float) -> Fit | None:
    """The fit by eigenvectors; None where a matrix is singular, so that the ladder has to help."""
    count = len(training)
    training.require(
        40 * count * count, "the eigenvectors", "fewer training images, or fewer outputs at a time"
    )
    matrix = training.matrix()
    whole = dense_matrix(matrix)
    mean = check_range(np.diagonal(whole), float(noises.max()), jitter)
    dtype = str(training.dtype)
    values, vectors = scipy.linalg.eigh(whole, overwrite_a=True, check_finite=False)
    added = noises + jitter * mean
    smallest = float(values[0] + added.min())
    if not smallest > relative_error(dtype, count) * mean:
        return None
    system = OutputSpectrum(values, vectors, added)
    report = CholeskyReport(jitter, mean, (JitterStep(jitter, smallest, -1),), 0.0)
    return fit_of(system, system.solve(np.asarray(targets)), report, dtype)
