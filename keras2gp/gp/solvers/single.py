"""The Cholesky factor in float32: an approximate inverse, which float64 products correct."""

from __future__ import annotations

import math

import numpy as np

from keras2gp._util.arrays import Matrix, Noise, Vector
from keras2gp._util.progress import Advance
from keras2gp.errors import ModelFileError
from keras2gp.gp.solvers.cholesky import attempt, read_lower
from keras2gp.gp.solvers.matrices import MatrixLike
from keras2gp.gp.solvers.panels import PackedPanels

__all__ = ["SingleFactor", "factorize_single", "single_memory"]

_TILE = 512
_EPSILON = float(np.finfo(np.float32).eps)


class SingleFactor:
    """Lower triangular L in float32 with unit L L^T ~ A, for A of shape [N, N].

    Half the memory of CholeskyFactor, about N^2 / 2 float32 numbers. The right-hand sides of a
    solve are scaled by powers of two, so that none of them leaves the range of float32.

    Attributes:
        panels: L.
        unit: a power of 4 near the mean of the diagonal of A.
    """

    def __init__(self, panels: PackedPanels, unit: float) -> None:
        self.panels = panels
        self.unit = unit

    @classmethod
    def from_arrays(cls, storage: Vector, facts: Vector, size: int) -> SingleFactor:
        """The factor of the arrays of a saved fit; their memory is used, not copied.

        Args:
            storage: the panels.
            facts: columns of a panel, and the unit.
            size: N.

        Raises:
            ModelFileError: the arrays are no factor of a matrix of this size.
        """
        if facts.shape != (2,) or facts.dtype != np.float64 or not np.isfinite(facts).all():
            raise ModelFileError("unit.npy does not describe a float32 factor")
        tile, unit = int(facts[0]), float(facts[1])
        fits = storage.ndim == 1 and storage.dtype == np.float32 and 1 <= tile <= size
        if not fits or unit <= 0.0 or storage.size != PackedPanels.length(size, tile):
            raise ModelFileError(f"single.npy is no float32 factor of a {size} x {size} matrix")
        panels = PackedPanels(size, tile, storage=storage)
        if not (panels.diagonal() > 0.0).all():
            raise ModelFileError("single.npy is no Cholesky factor: its diagonal is not positive")
        return cls(panels, unit)

    @property
    def log_determinant(self) -> float:
        """log det (unit L L^T)."""
        diagonal = self.panels.diagonal().astype(np.float64)
        return 2.0 * float(np.log(diagonal).sum()) + self.panels.size * math.log(self.unit)

    def apply(self, r: Matrix) -> Matrix:
        """(unit L L^T)^-1 r, for r of shape [N, C]."""
        work, scale = _single(r)
        self.panels.solve_lower(work)
        self.panels.solve_lower_transposed(work)
        return work * (scale / self.unit)

    def half_solve(self, r: Matrix) -> Matrix:
        """(sqrt(unit) L)^-1 r, for r of shape [N, C]."""
        work, scale = _single(r)
        self.panels.solve_lower(work)
        return work * (scale / math.sqrt(self.unit))

    def back_solve(self, r: Matrix) -> Matrix:
        """(sqrt(unit) L)^-T r, for r of shape [N, C]."""
        work, scale = _single(r)
        self.panels.solve_lower_transposed(work)
        return work * (scale / math.sqrt(self.unit))

    def inverse_diagonal(self) -> Vector:
        """The diagonal of (unit L L^T)^-1, [N], as CholeskyFactor.inverse_diagonal computes it."""
        result = np.empty(self.panels.size)
        for j in range(len(self.panels)):
            start, stop = self.panels.bounds(j)
            columns = np.eye(self.panels.size - start, stop - start, dtype=np.float32)
            self.panels.solve_lower(columns, first=j)
            # Thousands of squares are summed: in float64.
            result[start:stop] = np.einsum("ki,ki->i", columns, columns, dtype=np.float64)
        result /= self.unit
        return result


def factorize_single(
    matrix: MatrixLike, diagonal: Vector, added: Noise, progress: Advance | None
) -> tuple[SingleFactor | None, float, int]:
    """Factor A = matrix + added I in float32, if A is regular far above rounding in float32.

    A pivot is an entry of the diagonal less a sum of up to N products, each rounded to float32.

    Args:
        matrix: an array, or anything that slices to arrays; its lower triangle is used.
        diagonal: its diagonal, [N].
        added: noise and jitter.
        progress: called with (panels done, panels in all) after each panel.

    Returns:
        The factor, or None where a pivot is at or below 4 eps(float32) sqrt(N) of its entry of
        the diagonal; the smallest pivot; and its row.

    Raises:
        InputError: not finite, or asymmetric, as in `factorize`.
    """
    size = len(diagonal)
    unit = 4.0 ** round(math.log2(max(float(np.mean(diagonal + added)), 1e-300)) / 2.0)
    panels = PackedPanels(size, min(_TILE, size), dtype=np.float32)
    read_lower(matrix, panels, checked=True, unit=unit)
    least = 4.0 * _EPSILON * math.sqrt(size)
    regular, smallest, index = attempt(panels, added / unit, least, progress)
    return SingleFactor(panels, unit) if regular else None, smallest * unit, index


def single_memory(size: int) -> int:
    """Bytes of the factor of an [N, N] matrix."""
    return 4 * PackedPanels.length(size, min(_TILE, size))


def _single(r: Matrix) -> tuple[Matrix, Vector]:
    """Columns in float32, the largest entry of each between 1/2 and 1, and their factors."""
    exponent = np.frexp(np.abs(r).max(axis=0, initial=0.0))[1]
    scale = np.ldexp(1.0, exponent)
    return np.array(r / scale, dtype=np.float32, order="C"), scale
