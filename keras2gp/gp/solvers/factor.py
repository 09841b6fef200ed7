"""The Cholesky factor of a kernel matrix: solves, determinant, inverse diagonal, and its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from keras2gp._util.array_files import array_writer, read_array
from keras2gp._util.arrays import Array, ArrayLike, Indices, Matrix, Noise, Vector
from keras2gp._util.files import write_file
from keras2gp._util.paths import as_path
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp.arguments.noise import noise_of
from keras2gp.gp.solvers.panels import PackedPanels
from keras2gp.gp.solvers.report import CholeskyReport, JitterStep

__all__ = ["PREFIX", "CholeskyFactor"]

# A saved factor is one vector: PREFIX doubles of sizes and report, then the panels.
PREFIX = 32
_FORMAT = 1.0
_MOST_STEPS = (PREFIX - 10) // 3


class CholeskyFactor:
    """Lower triangular L with L L^T = A, A an [N, N] matrix with noise and jitter added.

    Float64 and packed: about N^2 / 2 doubles. Made by `factorize` or `CholeskyFactor.load`.

    Attributes:
        report: jitter and pivots of the factorisation.

    >>> import numpy as np
    >>> from keras2gp.gp import factorize
    >>> factor = factorize(np.array([[4.0, 2.0], [2.0, 5.0]]))
    >>> factor.lower()
    array([[2., 0.],
           [1., 2.]])
    >>> factor.half_solve([2.0, 3.0])
    array([1., 1.])
    """

    closed_form: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("factor.npy",)

    def __init__(self, panels: PackedPanels, report: CholeskyReport) -> None:
        self._panels = panels
        self.report = report

    @property
    def size(self) -> int:
        """N."""
        return self._panels.size

    @property
    def tile(self) -> int:
        """Columns of a panel."""
        return self._panels.tile

    @property
    def nbytes(self) -> int:
        """Bytes that the factor occupies."""
        return int(self._panels.storage.nbytes)

    @property
    def log_determinant(self) -> float:
        """log det A = 2 sum_i log L_ii."""
        return 2.0 * float(np.log(self._panels.diagonal()).sum())

    def half_solve(self, b: ArrayLike) -> Array:
        """L^-1 b as a new array.

        Shapes:
            b [N] or [N, C]; the result is the same.

        Args:
            b: right-hand sides.

        Returns:
            L^-1 b.

        Raises:
            InputError: b has another length, or is not finite.
        """
        work = self._right_hand_side(b)
        self._panels.solve_lower(work)
        return work.reshape(np.shape(b))

    def solve(self, b: ArrayLike) -> Array:
        """A^-1 b as a new array.

        Shapes:
            b [N] or [N, C]; the result is the same.

        Args:
            b: right-hand sides.

        Returns:
            A^-1 b.

        Raises:
            InputError: b has another length, or is not finite.
        """
        work = self._right_hand_side(b)
        self._panels.solve_lower(work)
        self._panels.solve_lower_transposed(work)
        return work.reshape(np.shape(b))

    @property
    def basis(self) -> int:
        """N: predictions use the kernel with all training inputs."""
        return self.size

    def explained(self, cross: Matrix) -> Vector:
        """diag(k* A^-1 k*^T) = |L^-1 k*^T|^2, [M], for k* of shape [M, N].

        Args:
            cross: k*.

        Returns:
            Explained variances, [M].
        """
        half = self.half_solve(cross.T)
        result: Vector = np.einsum("nm,nm->m", half, half)
        return result

    def explained_covariance(self, cross: Matrix) -> Matrix:
        """k* A^-1 k*^T, [M, M], for k* of shape [M, N].

        Args:
            cross: k*.

        Returns:
            Explained covariance, [M, M].
        """
        half = self.half_solve(cross.T)
        product: Matrix = half.T @ half
        return product

    def inverse_diagonal(self, rows: Indices | None = None) -> Vector:
        """The diagonal of A^-1, [N] or [rows], with one panel of columns of L^-1 at a time.

        Math: (A^-1)_ii = sum over k of ((L^-1)_ki)^2

        Args:
            rows: the entries to return; None for all.

        Returns:
            Entries of the diagonal of A^-1.
        """
        result = self._inverse_diagonal
        return result.copy() if rows is None else result[rows]

    @cached_property
    def _inverse_diagonal(self) -> Vector:
        """[N]; it takes as long as the factor did, and several results read it."""
        result = np.empty(self.size)
        for j in range(len(self._panels)):
            start, stop = self._panels.bounds(j)
            columns = np.eye(self.size - start, stop - start)
            self._panels.solve_lower(columns, first=j)
            result[start:stop] = np.einsum("ki,ki->i", columns, columns)
        return result

    def leading(self, count: int) -> Matrix:
        """The first rows and columns of A = L L^T, [count, count].

        Args:
            count: number of rows.

        Returns:
            A corner of A.

        Raises:
            InputError: count is 0, or larger than the tile or the matrix.
        """
        if not 0 < count <= min(self.size, self.tile):
            raise InputError(
                f"the leading block has {count} rows: expected 1 to {min(self.size, self.tile)}"
            )
        lower = np.tril(self._panels.panel(0)[:count, :count])
        product: Matrix = lower @ lower.T
        return product

    def kernel_corner(self, count: int, added: Noise) -> Matrix:
        """See LinearSystem.kernel_corner.

        Args:
            count: number of rows.
            added: the sum of noise and jitter on the diagonal of A.

        Returns:
            The first rows and columns of K, [count, count].
        """
        count = min(count, self.size, self.tile)
        corner = self.leading(count)
        corner[np.diag_indices(count)] -= noise_of(added, slice(0, count))
        return corner

    def lower(self) -> Matrix:
        """L as a dense [N, N] array, zero above the diagonal: N^2 doubles."""
        dense = np.zeros((self.size, self.size))
        for j in range(len(self._panels)):
            start, stop = self._panels.bounds(j)
            dense[start:, start:stop] = self._panels.panel(j)
        return np.tril(dense)

    def panels(self) -> Iterator[Matrix]:
        """Views of the block columns of L, [N - start, width]: a diagonal tile and all rows below.

        The tile is lower triangular; entries above its diagonal have no meaning.
        """
        return (self._panels.panel(j) for j in range(len(self._panels)))

    def save(self, path: str | Path) -> None:
        """Write the factor and its report to one .npy file, without pickle.

        The file has its name only once it is complete.

        Args:
            path: the file; replaced if it exists.

        Raises:
            ModelFileError: it cannot be written.
        """
        write_file(as_path("path", path), array_writer(self.as_vector()), ModelFileError)

    def as_vector(self) -> Vector:
        """The contents of the file: a view of the storage, with its prefix filled in."""
        storage, report = self._panels.storage, self.report
        storage[:PREFIX] = 0.0
        first, second = report.duplicate or (-1, -1)
        head = [_FORMAT, self.size, self.tile, report.jitter, report.mean_diagonal]
        head += [report.seconds, first, second, len(report.steps)]
        for step in report.steps:
            head += [step.jitter, step.smallest_pivot, step.index]
        storage[: len(head)] = head
        return storage

    @classmethod
    def load(cls, path: str | Path) -> CholeskyFactor:
        """Read a factor that `save` wrote.

        Args:
            path: the file.

        Returns:
            The factor.

        Raises:
            ModelFileError: the file is missing, damaged, or no factor.
        """
        path = as_path("path", path, ModelFileError)
        return cls.from_vector(read_array(path, dimensions=1), str(path))

    @classmethod
    def from_vector(cls, storage: Vector, where: str) -> CholeskyFactor:
        """The factor of a vector that `as_vector` returned; its memory is used, not copied.

        Args:
            storage: the vector.
            where: its origin, for messages.

        Returns:
            The factor L, [N, N] in packed form.

        Raises:
            ModelFileError: the vector is no factor.
        """
        wrong_type = storage.ndim != 1 or storage.dtype != np.dtype("<f8")
        if wrong_type or storage.size <= PREFIX or storage[0] != _FORMAT:
            raise ModelFileError(f"{where} is no Cholesky factor of format {_FORMAT:g}")
        size, tile = _whole(storage[1], where), _whole(storage[2], where)
        if size < 1 or tile < 1 or storage.size != PREFIX + PackedPanels.length(size, tile):
            raise ModelFileError(
                f"{where} holds {storage.size - PREFIX} numbers, and says that they are the "
                f"factor of a {size} x {size} matrix in panels of {tile} columns"
            )
        panels = PackedPanels(size, tile, PREFIX, storage)
        if not (panels.diagonal() > 0.0).all():
            raise ModelFileError(f"{where} is no Cholesky factor: its diagonal is not positive")
        return cls(panels, _report(storage[:PREFIX], where))

    def state(self) -> dict[str, Array]:
        """See LinearSystem.state."""
        return {"factor.npy": self.as_vector()}

    @classmethod
    def from_state(cls, state: Mapping[str, Array], origin: Any) -> CholeskyFactor:
        """See LinearSystem.from_state.

        Args:
            state: the arrays: `factor.npy` is the vector that `as_vector` returned, [numbers].
            origin: the facts of the fit.

        Returns:
            The factor.

        Raises:
            ModelFileError: the array is no factor of these training inputs.
        """
        factor = cls.from_vector(state["factor.npy"], "factor.npy")
        if factor.size != len(origin.training):
            raise ModelFileError("factor.npy is the factor of another number of training inputs")
        return factor

    def _right_hand_side(self, b: Any) -> Matrix:
        array = np.asarray(b)
        if array.ndim not in (1, 2) or array.shape[0] != self.size or not array.size:
            raise InputError(
                f"the right-hand side has shape {array.shape}; expected [{self.size}] or "
                f"[{self.size}, C]"
            )
        work = np.array(array.reshape(self.size, -1), dtype=np.float64, order="C")
        if not np.isfinite(work).all():
            raise InputError("the right-hand side holds values that are not finite")
        return work


def _report(head: Vector, where: str) -> CholeskyReport:
    """The report in the prefix of a saved factor."""
    count = _whole(head[8], where)
    if not 1 <= count <= _MOST_STEPS:
        raise ModelFileError(f"{where} is damaged: {count} steps of jitter in its report")
    rows = head[9 : 9 + 3 * count].reshape(count, 3)
    steps = tuple(JitterStep(float(r[0]), float(r[1]), _whole(r[2], where)) for r in rows)
    pair = (_whole(head[6], where), _whole(head[7], where))
    return CholeskyReport(
        jitter=float(head[3]),
        mean_diagonal=float(head[4]),
        steps=steps,
        seconds=float(head[5]),
        duplicate=pair if pair[0] >= 0 else None,
    )


def _whole(value: np.float64, where: str) -> int:
    if value != np.floor(value) or abs(value) > 2**53:
        raise ModelFileError(f"{where} is damaged: {value} where a whole number is expected")
    return int(value)
