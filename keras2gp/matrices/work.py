"""The work that computes one matrix, and the interfaces of those that do it and keep it."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np

from keras2gp._util.arrays import Array, Images, Matrix, Vector
from keras2gp.errors import NumericalError
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.blocks import Block, BlockShape
from keras2gp.matrices.plan import Partition

__all__ = ["BlockProgram", "Executor", "ExecutorLike", "Sink", "Work", "finish", "require_finite"]


class BlockProgram(Protocol):
    """Computes the blocks of a matrix: the program of a graph, or that of a finite network."""

    @property
    def dtype(self) -> str:
        """Type of the entries."""

    @property
    def kind(self) -> str:
        """The kernel's kind; the arrays of "both" have a leading axis [2]."""

    def partition(self, n1: int, n2: int | None, shape: BlockShape | None = None) -> Partition:
        """How a matrix is cut; n2=None for the symmetric matrix of n1 images."""

    def working_set(self, shape: BlockShape, threads: int) -> int:
        """Entries that threads need, each at a block of its own."""

    def demands(self, shape: BlockShape, available: int) -> tuple[str, str]:
        """The reason for the memory of a block that does not fit, and what would need less."""

    def identity(self, parameters: Mapping[str, LayerVariances]) -> dict[str, Any]:
        """The architecture ("graph") and the numbers ("parameters") of the kernel, for JSON."""

    def variances(self, parameters: Mapping[str, LayerVariances]) -> Any:
        """The variances as `diagonal` and `block` take them."""

    def diagonal(
        self, images: Sequence[Images], start: int, shape: BlockShape, variances: Any
    ) -> Vector:
        """Variances of the images from `start` on, [shape.columns], or fewer at the end."""

    def block(
        self,
        first: Sequence[Images],
        second: Sequence[Images],
        block: Block,
        shape: BlockShape,
        variances: Any,
        *,
        into: Matrix | None = None,
    ) -> Matrix:
        """The values of one block, [block.rows, block.columns], in `into` or in another array."""


@dataclass(frozen=True)
class Work:
    """Everything that the blocks of one matrix have in common.

    A block is a pure function of the work and its place, so that every executor gives the same
    matrix, in whatever order blocks are finished.

    Attributes:
        program: the compiled kernel, or the finite network.
        parameters: its variances, by layer.
        first: data tensors of the rows, [N1, *shape] each.
        second: data tensors of the columns; None for the symmetric matrix of `first`.
        partition: how the matrix is cut.
    """

    program: BlockProgram
    parameters: Mapping[str, LayerVariances]
    first: Sequence[Images]
    second: Sequence[Images] | None
    partition: Partition

    @classmethod
    def of(
        cls,
        program: BlockProgram,
        parameters: Mapping[str, LayerVariances],
        first: Sequence[Images],
        second: Sequence[Images] | None,
        shape: BlockShape | None = None,
    ) -> Work:
        """The work, cut by the plan unless a shape is given."""
        n2 = None if second is None else len(second[0])
        partition = program.partition(len(first[0]), n2, shape)
        return cls(program, parameters, first, second, partition)

    def compute(self, block: Block, into: Matrix | None = None) -> Matrix:
        """The values of one block, [block.rows, block.columns], in `into` or in another array."""
        second = self.first if self.second is None else self.second
        shape, variances = self.partition.shape, self._variances
        return self.program.block(self.first, second, block, shape, variances, into=into)

    @cached_property
    def diagonal(self) -> Vector:
        """Variances of the rows, [N1, *positions]; of both kernels, [2, N1, *positions].

        Raises:
            NumericalError: one is not finite.
        """
        count, shape = self.partition.n1, self.partition.shape
        starts = range(0, count, shape.columns)
        parts = [self.program.diagonal(self.first, i, shape, self._variances) for i in starts]
        rows = int(self.program.kind == "both")
        diagonal: Array = np.concatenate(parts, axis=rows)
        diagonal = diagonal[:, :count] if rows else diagonal[:count]
        require_finite(np.moveaxis(diagonal, rows, -1), column=None)
        return diagonal

    @cached_property
    def _variances(self) -> Any:
        return self.program.variances(self.parameters)


class Sink(Protocol):
    """Where finished blocks go; called from several threads at once."""

    @property
    def memory(self) -> int:
        """Bytes of memory that it takes, beside the blocks at work."""

    def holds(self, block: Block) -> bool:
        """Whether the block is there already, so that it need not be computed."""

    def place(self, block: Block) -> Matrix | None:
        """Where the values of a block may be put; None for nowhere."""

    def write(self, block: Block, values: Matrix) -> None:
        """Keep the values of a block. Raises: NumericalError if one is not finite."""


class Executor(Protocol):
    """Something that computes blocks."""

    def run(self, work: Work, missing: Sequence[Block], sink: Sink) -> Generator[Block, None, None]:
        """Compute blocks into the sink; yields each when it is kept, in any order.

        The first fault ends the run: it is raised once no block is in progress any more. Closing
        the generator does the same.
        """


ExecutorLike: TypeAlias = Any
"""What a user states: a name, the address of a scheduler, a tf.distribute.Strategy, an Executor."""


def finish(work: Work, block: Block, sink: Sink) -> None:
    """Compute and keep one block, unless another process has finished it in the meantime."""
    if not sink.holds(block):
        sink.write(block, work.compute(block, sink.place(block)))


def require_finite(values: Array, row: int = 0, column: int | None = 0) -> None:
    """Refuse values that are NaN or infinite.

    row, column: place of the values in the matrix, for the message; column=None for a diagonal

    Raises: NumericalError naming the first entry of the matrix that is not finite.
    """
    finite = np.isfinite(values)
    if finite.all():
        return
    first = [int(i) for i in np.argwhere(~finite)[0]]
    value = values[tuple(first)]
    place = (row + first[-2], column + first[-1]) if column is not None else (row + first[-1],) * 2
    wider = "" if values.dtype == np.float64 else "dtype='float64', or "
    raise NumericalError(
        f"entry {place} of the kernel's matrix is {value}, although its images have finite "
        f"variances: {values.dtype} loses the values on the way to it. Try: {wider}smaller inputs"
    )
