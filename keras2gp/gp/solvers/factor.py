"""A Cholesky factor: what can be asked of it once it is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from keras2gp._util.arrays import Array
from keras2gp._util.files import write_file
from keras2gp.errors import InputError, ModelFileError
from keras2gp.gp.arrays import array_writer, read_array
from keras2gp.gp.solvers.panels import PackedPanels

__all__ = ["PREFIX", "CholeskyFactor", "CholeskyReport", "JitterStep"]

# A saved factor is one vector: PREFIX doubles that say what it is, then the panels.
PREFIX = 32
_FORMAT = 1.0
_MOST_STEPS = (PREFIX - 10) // 3


@dataclass(frozen=True)
class JitterStep:
    """One attempt to factorise.

    jitter:         relative to the mean of the diagonal
    smallest_pivot: the smallest pivot reached, L_ii^2, in the units of the matrix; not positive
                    where the factorisation broke off. Of conjugate gradients the smallest
                    curvature p^T A p / p^T p of a search direction p
    index:          the row of that pivot; -1 where there is none
    """

    jitter: float
    smallest_pivot: float
    index: int


@dataclass(frozen=True)
class CholeskyReport:
    """How a factorisation went.

    jitter:        the jitter in the factor, relative to `mean_diagonal`; 0.0 if none was needed
    mean_diagonal: mean of the diagonal of the matrix as given, before noise and jitter
    steps:         every attempt; the last one is the one that succeeded
    seconds:       wall time, reading and checking the matrix included
    duplicate:     a pair of equal rows, looked for only if the matrix was singular as given
    """

    jitter: float
    mean_diagonal: float
    steps: tuple[JitterStep, ...]
    seconds: float
    duplicate: tuple[int, int] | None = None

    @property
    def smallest_pivot(self) -> float:
        """The smallest pivot of the factor, L_ii^2, in the units of the matrix."""
        return self.steps[-1].smallest_pivot

    @property
    def smallest_pivot_index(self) -> int:
        """The row of the smallest pivot."""
        return self.steps[-1].index

    @property
    def added(self) -> float:
        """What the jitter added to every entry of the diagonal."""
        return self.jitter * self.mean_diagonal


class CholeskyFactor:
    """Lower triangular L with L L^T = A, A an [N, N] matrix with noise and jitter added.

    Float64, packed: about N^2 / 2 doubles. Made by `factorize` or `CholeskyFactor.load`.
    """

    closed_form: ClassVar[bool] = True

    def __init__(self, panels: PackedPanels, report: CholeskyReport) -> None:
        self._panels = panels
        self.report = report

    @property
    def size(self) -> int:
        """N."""
        return self._panels.size

    @property
    def tile(self) -> int:
        """Columns in a panel."""
        return self._panels.tile

    @property
    def nbytes(self) -> int:
        """Bytes that the factor occupies."""
        return int(self._panels.storage.nbytes)

    @property
    def log_determinant(self) -> float:
        """log det A = 2 sum_i log L_ii."""
        return 2.0 * float(np.log(self._panels.diagonal()).sum())

    def half_solve(self, b: Any) -> Array:
        """L^-1 b for b of shape [N] or [N, C]; a new array.

        Raises: InputError if b has another length, or is not finite.
        """
        work = self._right_hand_side(b)
        self._panels.solve_lower(work)
        return work.reshape(np.shape(b))

    def solve(self, b: Any) -> Array:
        """A^-1 b for b of shape [N] or [N, C]; a new array.

        Raises: InputError if b has another length, or is not finite.
        """
        work = self._right_hand_side(b)
        self._panels.solve_lower(work)
        self._panels.solve_lower_transposed(work)
        return work.reshape(np.shape(b))

    @property
    def basis(self) -> int:
        """N: predictions are compared with all training inputs."""
        return self.size

    def explained(self, cross: Array) -> Array:
        """diag(k* A^-1 k*^T) = |L^-1 k*^T|^2 for k* of shape [M, N], [M]."""
        half = self.half_solve(cross.T)
        result: Array = np.einsum("nm,nm->m", half, half)
        return result

    def explained_covariance(self, cross: Array) -> Array:
        """k* A^-1 k*^T for k* of shape [M, N], [M, M]."""
        half = self.half_solve(cross.T)
        product: Array = half.T @ half
        return product

    def inverse_diagonal(self, rows: npt.NDArray[np.intp] | None = None) -> Array:
        """The diagonal of A^-1, [N] or [rows], one panel of columns of L^-1 in memory at a time.

        Math: (A^-1)_ii = sum over k of ((L^-1)_ki)^2
        """
        result = np.empty(self.size)
        for j in range(len(self._panels)):
            start, stop = self._panels.bounds(j)
            columns = np.eye(self.size - start, stop - start)
            self._panels.solve_lower(columns, first=j)
            result[start:stop] = np.einsum("ki,ki->i", columns, columns)
        return result if rows is None else result[rows]

    def leading(self, count: int) -> Array:
        """The first `count` rows and columns of A = L L^T; count is at most the tile."""
        if not 0 < count <= min(self.size, self.tile):
            raise InputError(
                f"the leading block has {count} rows: expected 1 to {min(self.size, self.tile)}"
            )
        lower = np.tril(self._panels.panel(0)[:count, :count])
        product: Array = lower @ lower.T
        return product

    def lower(self) -> Array:
        """L as a dense [N, N] array, zero above the diagonal: N^2 doubles."""
        dense = np.zeros((self.size, self.size))
        for j in range(len(self._panels)):
            start, stop = self._panels.bounds(j)
            dense[start:, start:stop] = self._panels.panel(j)
        return np.tril(dense)

    def panels(self) -> Iterator[Array]:
        """Views of the block columns of L, [N - start, width]: a diagonal tile and what is below.

        The tile is lower triangular; what lies above its diagonal has no meaning.
        """
        return (self._panels.panel(j) for j in range(len(self._panels)))

    def save(self, path: str | Path) -> None:
        """Write the factor and its report to one .npy file, without pickle.

        The file has its name only once it is complete.

        Raises: ModelFileError if it cannot be written.
        """
        write_file(Path(path), array_writer(self.as_vector()), ModelFileError)

    def as_vector(self) -> Array:
        """What `save` writes: a view of the storage, with its prefix filled in."""
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
        """Read what `save` wrote.

        Raises: ModelFileError if the file is missing, damaged, or no factor.
        """
        path = Path(path)
        storage = read_array(path, dimensions=1)
        if storage.dtype != np.dtype("<f8") or storage.size <= PREFIX or storage[0] != _FORMAT:
            raise ModelFileError(f"{path} is no Cholesky factor of format {_FORMAT:g}")
        size, tile = _whole(storage[1], path), _whole(storage[2], path)
        if size < 1 or tile < 1 or storage.size != PREFIX + PackedPanels.length(size, tile):
            raise ModelFileError(
                f"{path} holds {storage.size - PREFIX} numbers, and says that they are the "
                f"factor of a {size} x {size} matrix in panels of {tile} columns"
            )
        panels = PackedPanels(size, tile, PREFIX, storage)
        if not (panels.diagonal() > 0.0).all():
            raise ModelFileError(f"{path} is no Cholesky factor: its diagonal is not positive")
        return cls(panels, _report(storage[:PREFIX], path))

    def _right_hand_side(self, b: Any) -> Array:
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


def _report(head: Array, path: Path) -> CholeskyReport:
    count = _whole(head[8], path)
    if not 1 <= count <= _MOST_STEPS:
        raise ModelFileError(f"{path} is damaged: {count} steps of jitter in its report")
    rows = head[9 : 9 + 3 * count].reshape(count, 3)
    steps = tuple(JitterStep(float(r[0]), float(r[1]), _whole(r[2], path)) for r in rows)
    pair = (_whole(head[6], path), _whole(head[7], path))
    return CholeskyReport(
        jitter=float(head[3]),
        mean_diagonal=float(head[4]),
        steps=steps,
        seconds=float(head[5]),
        duplicate=pair if pair[0] >= 0 else None,
    )


def _whole(value: np.float64, path: Path) -> int:
    if value != np.floor(value) or abs(value) > 2**53:
        raise ModelFileError(f"{path} is damaged: {value} where a whole number is expected")
    return int(value)
