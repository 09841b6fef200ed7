"""Programs of sums and products: block by block from the programs of their parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np

from keras2gp._util.arrays import Array, Images, Matrix, Vector
from keras2gp.errors import InputError
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.blocks import Block, BlockShape
from keras2gp.matrices.plan import Partition
from keras2gp.matrices.work import BlockProgram

__all__ = ["ComposedProgram", "FunctionProgram", "Operation", "part_parameters"]

Operation = Literal["sum", "product"]

_OPERATIONS: dict[Operation, Callable[[Any, Any], Any]] = {
    "sum": np.add,
    "product": np.multiply,
}


def part_parameters(
    parameters: Mapping[str, LayerVariances], part: int, parts: int
) -> dict[str, LayerVariances]:
    """The variances of one part by its own names of layers: "1.dense" is "dense" of the first.

    A single part keeps its names.
    """
    if parts == 1:
        return dict(parameters)
    start = f"{part + 1}."
    return {k.removeprefix(start): v for k, v in parameters.items() if k.startswith(start)}


@dataclass(frozen=True, eq=False)
class ComposedProgram:
    """The sum or product of the parts' values, and of a number.

    Math:
        sum: k = number + sum_p k_p;  product: k = number * prod_p k_p

    Attributes:
        operation: "sum" or "product".
        programs: of the parts.
        inputs: the number of data tensors of each part.
        number: 0 for a sum without one, 1 for a product.
        dtype: type of the entries.
        kind: the kind of all parts, or "mixed".
    """

    operation: Operation
    programs: tuple[BlockProgram, ...]
    inputs: tuple[int, ...]
    number: float
    dtype: str
    kind: str

    def partition(self, n1: int, n2: int | None, shape: BlockShape | None = None) -> Partition:
        """How a matrix is cut: as the part of the smallest blocks cuts it."""
        cuts = [program.partition(n1, n2, shape) for program in self.programs]
        return min(cuts, key=lambda cut: cut.shape.rows * cut.shape.columns)

    def working_set(self, shape: BlockShape, threads: int) -> int:
        """Entries that threads need: the parts of a block follow one another."""
        most = max(program.working_set(shape, threads) for program in self.programs)
        return most + threads * shape.rows * shape.columns

    def demands(self, shape: BlockShape, available: int) -> tuple[str, str]:
        """The demands of the part that needs most."""
        largest = max(self.programs, key=lambda program: program.working_set(shape, 1))
        return largest.demands(shape, available)

    def identity(self, parameters: Mapping[str, LayerVariances]) -> dict[str, Any]:
        """The architectures and the numbers of all parts, for JSON."""
        parts = [
            program.identity(part_parameters(parameters, i, len(self.programs)))
            for i, program in enumerate(self.programs)
        ]
        kinds = [[program.kind, program.dtype] for program in self.programs]
        return {
            "graph": {self.operation: [part["graph"] for part in parts], "kinds": kinds},
            "parameters": [self.number.hex(), *(part["parameters"] for part in parts)],
        }

    def variances(self, parameters: Mapping[str, LayerVariances]) -> list[Any]:
        """The variances of each part as it takes them."""
        count = len(self.programs)
        return [
            program.variances(part_parameters(parameters, i, count))
            for i, program in enumerate(self.programs)
        ]

    def diagonal(
        self, images: Sequence[Images], start: int, shape: BlockShape, variances: Any
    ) -> Vector:
        """Variances of the images from `start` on."""
        count = min(shape.columns, len(images[0]) - start)
        return self._composed(
            program.diagonal(part, start, shape, of_part)[..., :count]
            for program, part, of_part in zip(
                self.programs, self._parts(images), variances, strict=True
            )
        )

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
        """The values of one block, [block.rows, block.columns], in an array of their own."""
        del into
        sides = zip(self._parts(first), self._parts(second), strict=True)
        return self._composed(
            program.block(*side, block, shape, of_part)
            for program, side, of_part in zip(self.programs, sides, variances, strict=True)
        )

    def _composed(self, values: Any) -> Array:
        cast = (np.asarray(part, dtype=self.dtype) for part in values)
        combined: Array = reduce(_OPERATIONS[self.operation], cast)
        neutral = self.number == float(self.operation == "product")
        number = np.dtype(self.dtype).type(self.number)
        return combined if neutral else _OPERATIONS[self.operation](combined, number)

    def _parts(self, tensors: Sequence[Images]) -> list[Sequence[Images]]:
        """The data tensors of each part."""
        ends = np.cumsum(self.inputs).tolist()
        return [tensors[end - n : end] for end, n in zip(ends, self.inputs, strict=True)]


class FunctionProgram:
    """The blocks of a kernel of scikit-learn on flattened inputs."""

    kind = "nngp"

    def __init__(self, kernel: Any, dtype: str) -> None:
        self._kernel, self.dtype = kernel, dtype

    def partition(self, n1: int, n2: int | None, shape: BlockShape | None = None) -> Partition:
        """How a matrix is cut."""
        columns = n1 if n2 is None else n2
        return Partition(n1, columns, n2 is None, shape or BlockShape(1024, 1024, 1024, 1024))

    def working_set(self, shape: BlockShape, threads: int) -> int:
        """Entries that threads need: scikit-learn computes in float64, with copies."""
        return 6 * threads * shape.rows * shape.columns

    def demands(self, shape: BlockShape, available: int) -> tuple[str, str]:
        """The values of a block in float64."""
        del available
        return f"a block of {shape.rows} x {shape.columns} images", "a machine with more memory"

    def identity(self, parameters: Mapping[str, LayerVariances]) -> dict[str, Any]:
        """The kernel's class and hyperparameters, for JSON."""
        del parameters
        settings = {k: _plain(v) for k, v in self._kernel.get_params(deep=True).items()}
        return {"graph": {"function": _plain(self._kernel)}, "parameters": settings}

    def variances(self, parameters: Mapping[str, LayerVariances]) -> None:
        """None: its hyperparameters are its own."""

    def diagonal(
        self, images: Sequence[Images], start: int, shape: BlockShape, variances: Any
    ) -> Vector:
        """Variances of the images from `start` on, [shape.columns], or fewer at the end."""
        del variances
        values: Vector = self._kernel.diag(_rows(images, start, shape.columns))
        return values

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
        """The values of one block, [block.rows, block.columns], in an array of their own."""
        del shape, variances, into
        sides = _rows(first, block.row, block.rows), _rows(second, block.column, block.columns)
        values: Matrix = self._kernel(*sides)
        return values


def _rows(images: Sequence[Images], start: int, count: int) -> Matrix:
    part = images[0][start : start + count]
    return part.reshape(len(part), -1).astype(np.float64)


def _plain(value: Any) -> Any:
    """A hyperparameter as data for JSON that another value does not share."""
    if isinstance(value, bool | str | int) or value is None:
        return value
    if isinstance(value, float | np.floating):
        return float(value).hex()
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value)
        return f"{data.dtype.str}{data.shape}{hashlib.sha256(data.tobytes()).hexdigest()}"
    if hasattr(value, "program") and hasattr(value, "parameters"):  # a network's, in an adapter
        program = value.program
        return [program.kind, program.dtype, program.identity(value.parameters)]
    if hasattr(value, "get_params"):
        return f"{type(value).__module__}.{type(value).__qualname__}"
    raise InputError(
        f"a hyperparameter of type {type(value).__name__} cannot be told from another one, as a "
        "store has to. Try: numbers and arrays"
    )
