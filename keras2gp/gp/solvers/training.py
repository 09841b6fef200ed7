"""The covariance of the training inputs, computed only where a solver reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from keras2gp._util.arrays import Images, Indices, Matrix, Vector
from keras2gp._util.memory import require_memory
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import KernelLike, check_variances, kernel_values
from keras2gp.gp.solvers.matrices import MatrixLike, MatrixProduct, check_shape, read_block
from keras2gp.gp.solvers.products import LowerTriangle, product_of

__all__ = ["SAME_VARIANCE", "SLAB", "Training"]

# A matrix of other inputs, or of another kernel, differs from the kernel's variances by more.
SAME_VARIANCE = 1e-3
"""Relative difference of the variances of one kernel, at most: in different precisions, say."""
SLAB = 4096
"""Rows of a rectangle, or of a diagonal, that the kernel computes at once."""


class Training:
    """K of N training inputs: a given matrix, or a kernel and its inputs.

    Args:
        kernel: a function of inputs, or "precomputed".
        x: inputs [N, ...]; None for a precomputed kernel.
        given: the matrix, if it exists already: an array, a store, or a MatrixProduct.
        count: N, where there are neither inputs nor a matrix.
        rectangle: the covariances with the inducing inputs of a solver, [N, M], if they exist
            already: an array or a store.
    """

    def __init__(
        self,
        kernel: KernelLike,
        x: Images | None,
        given: MatrixLike | MatrixProduct | None,
        count: int | None = None,
        rectangle: MatrixLike | None = None,
    ) -> None:
        self._kernel = kernel
        self._count = count
        self.given_rectangle = rectangle
        self.x: Any = x
        self.given = given

    def __len__(self) -> int:
        if self.x is not None:
            return len(self.x)
        return check_shape(self.given) if self._count is None else self._count

    @cached_property
    def _source(self) -> MatrixProduct | None:
        # On demand: a TiledProduct checks the symmetry of an array, which Cholesky does itself.
        return None if self.given is None else product_of(self.given)

    @property
    def _triangle(self) -> LowerTriangle | None:
        """The given matrix, if it can be read by blocks; nothing of it is checked."""
        if self.given is None or not self.whole:
            return None
        return LowerTriangle(self.given)  # type: ignore[arg-type]

    @property
    def whole(self) -> bool:
        """Whether the matrix can be read by blocks, and not only multiplied."""
        return self.given is None or hasattr(self.given, "__getitem__")

    @property
    def bytes_to_compute(self) -> int:
        """Bytes of the matrix if it must be computed; 0 if it is given."""
        if self.given is not None:
            return 0
        return np.dtype(getattr(self._kernel, "dtype", np.float64)).itemsize * len(self) ** 2

    @property
    def dtype(self) -> Any:
        """Type of the entries."""
        if self.given_rectangle is not None:
            return read_block(self.given_rectangle, slice(0, 1), slice(0, 1)).dtype
        source = self._triangle or self._source
        if source is not None:
            return source.dtype
        if hasattr(self._kernel, "dtype"):
            return np.dtype(self._kernel.dtype)
        inputs = self._inputs
        return np.asarray(self._kernel.diag(inputs[:1])).dtype

    def require(self, extra: int, what: str, hint: str) -> None:
        """Refuse a solver for which the memory does not suffice, its matrix included.

        Args:
            extra: bytes beyond the matrix.
            what: the thing that takes them, for the message.
            hint: a remedy, for the message.

        Raises:
            InputError: fewer bytes are available.
        """
        count = len(self)
        matrix = "" if self.given is not None else "the kernel matrix and "
        require_memory(
            self.bytes_to_compute + extra, f"{matrix}{what} of {count} training inputs", hint
        )

    def matrix(self) -> MatrixLike:
        """The matrix, to be read by blocks; it is computed if it was not given.

        Raises:
            InputError: it can only be multiplied, or the kernel gives no matrix.
        """
        if self.given is None:
            count = len(self)
            return kernel_values(self._kernel(self._inputs), (count, count), "the kernel matrix")
        if not self.whole:
            raise InputError(
                f"gram is a {type(self.given).__name__}, of which only products can be had. "
                "Try: solver='cg', or a store"
            )
        return self.given  # type: ignore[return-value]

    def with_matrix(self, matrix: MatrixLike) -> Training:
        """The same inputs with their matrix, which has been computed or read."""
        return Training(self._kernel, self.x, matrix, self._count)

    def plus(
        self,
        of_kernel: Callable[[Any], Any],
        of_matrix: Callable[[Any], Any],
    ) -> Training:
        """The covariance with something added to the kernel, and to matrices that are given.

        Args:
            of_kernel: the kernel with it, of a kernel.
            of_matrix: the matrix with it, of one that can be read, or only multiplied.
        """
        kernel = self._kernel if isinstance(self._kernel, str) else of_kernel(self._kernel)
        given, rectangle = (
            None if matrix is None else of_matrix(matrix)
            for matrix in (self.given, self.given_rectangle)
        )
        return Training(kernel, self.x, given, self._count, rectangle)

    def of_rows(self, rows: Indices | None) -> Training:
        """The covariance of some of the inputs; None for all.

        Raises:
            InputError: the matrix is given, and no array.
        """
        if rows is None:
            return self
        given = self.given
        if given is not None or self.given_rectangle is not None:
            if not isinstance(given, np.ndarray):
                kind = type(self.given_rectangle if given is None else given).__name__
                raise InputError(
                    f"gram is a {kind}, of which rows cannot be left out, and "
                    f"{len(self) - len(rows)} rows have no target or weight. Try: a gram of the "
                    "others, or an array"
                )
            given = given[np.ix_(rows, rows)]
        return Training(self._kernel, None if self.x is None else self.x[rows], given)

    def computed(self) -> Training:
        """The same covariance with its matrix, computed now if it was not given.

        Raises:
            InputError: the kernel gives no matrix, or one that is not symmetric.
        """
        return self if self.given is not None else self.with_matrix(self.matrix())

    def product(self) -> MatrixProduct:
        """The matrix, to be multiplied with vectors."""
        return self._source if self._source is not None else product_of(self.matrix())

    def diagonal(self) -> Vector:
        """Variances of the training inputs, [N]."""
        source = self._triangle or self._source
        if source is not None:
            return np.asarray(source.diagonal(), dtype=np.float64)
        # By slabs: a kernel copies the inputs that it is given.
        inputs, count, what = self._inputs, len(self), "the diagonal of the kernel"
        parts = []
        for start in range(0, count, SLAB):
            part = inputs[start : start + SLAB]
            parts.append(kernel_values(self._kernel.diag(part), (len(part),), what))
        return check_variances(np.concatenate(parts), count, what)

    def columns(self, indices: Sequence[int]) -> Matrix:
        """Covariances of all training inputs with some of them, [N, count]."""
        if self._source is not None:
            return self._source.columns(indices)
        return self._values(self._inputs, indices)

    def corner(self, indices: Sequence[int]) -> Matrix:
        """Covariances of some training inputs with each other, [count, count]."""
        if self._source is not None:
            return self._source.corner(indices)
        return self._values(self._inputs[list(indices)], indices)

    def unchecked_corner(self, indices: Sequence[int]) -> Matrix:
        """As `corner`; of an array that is given, these entries alone are read, and none checked.

        For a question about some rows, before a solver that reads and checks all of them.
        """
        if isinstance(self.given, np.ndarray):
            entries: Matrix = self.given[np.ix_(indices, indices)].astype(np.float64)
            return entries
        return self.corner(indices)

    def among(self, indices: Sequence[int]) -> Matrix:
        """Covariances of some training inputs with each other, symmetric, [count, count]."""
        if self._source is not None:
            return self._source.corner(indices)
        shape = (len(indices), len(indices))
        values = self._kernel(self._inputs[list(indices)])
        return kernel_values(values, shape, "the kernel matrix").astype(np.float64)

    @property
    def slabs(self) -> int:
        """The number of parts in which `rectangle` is computed."""
        there = self.given is not None or self.given_rectangle is not None
        return 0 if there else -(-len(self) // SLAB)

    def rectangle_bytes(self, columns: int) -> int:
        """Bytes that `rectangle` takes with so many columns."""
        if self.given_rectangle is not None:
            return 0
        size = 8 if self.given is not None else np.dtype(self.dtype).itemsize
        return size * columns * (len(self) + min(SLAB, len(self)))

    def rectangle(self, indices: Sequence[int], advance: Callable[[], object]) -> MatrixLike:
        """Covariances of all training inputs with some of them, [N, count], in their own type.

        Args:
            indices: of those inputs.
            advance: called after each of the `slabs`.
        """
        if self.given_rectangle is not None:
            return self.given_rectangle
        if self._source is not None:
            return self._source.columns(indices)
        inputs, count = self._inputs, len(self)
        some = inputs[list(indices)]
        entries = np.empty((count, len(indices)), self.dtype)
        for start in range(0, count, SLAB):
            part = inputs[start : start + SLAB]
            shape = (len(part), len(indices))
            entries[start : start + SLAB] = kernel_values(
                self._kernel(part, some), shape, "the kernel matrix"
            )
            advance()
        return entries

    @property
    def _inputs(self) -> Any:
        if self.x is None:
            raise InputError(
                "the precomputed kernel matrix of the training inputs is not kept with a fit. "
                "Try: gram= with that matrix"
            )
        return self.x

    def _values(self, rows: Any, indices: Sequence[int]) -> Matrix:
        shape = (len(rows), len(indices))
        values = self._kernel(rows, self._inputs[list(indices)])
        return kernel_values(values, shape, "the kernel matrix").astype(np.float64)
