"""Sums, products and scalings of kernels: covariance functions themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from numbers import Real
from operator import mul
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Images, InputsLike, Matrix
from keras2gp._util.paths import as_path
from keras2gp.covariance.program import KernelKind
from keras2gp.errors import InputError, ModelFileError
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.composed_files import function_state, save_composed
from keras2gp.kernel.derivatives import derived
from keras2gp.kernel.inputs import InputSpec, checked
from keras2gp.kernel.operands import (
    OwnKernel,
    checked_kernel,
    checked_number,
    is_ours,
    require_plain,
    require_same_inputs,
)
from keras2gp.kernel.variances import changed_variances, kernel_html
from keras2gp.matrices.composed import ComposedProgram, FunctionProgram, Operation, part_parameters
from keras2gp.matrices.local import diagonal_of, matrix_of

__all__ = ["Algebra", "ComposedKernel", "composed"]


class Algebra(OwnKernel):
    """The operators of kernels: `k1 + k2`, `k1 * k2`, `2.0 * k`, `k / 2.0`, `k + 0.5`."""

    def __add__(self, other: Any) -> ComposedKernel:
        return _composed("sum", self, other)

    def __radd__(self, other: Any) -> ComposedKernel:
        return _composed("sum", self, other, swapped=True)

    def __mul__(self, other: Any) -> ComposedKernel:
        return _composed("product", self, other)

    def __rmul__(self, other: Any) -> ComposedKernel:
        return _composed("product", self, other, swapped=True)

    def __truediv__(self, number: Any) -> ComposedKernel:
        if not isinstance(number, Real) or isinstance(number, bool):
            return NotImplemented
        return _composed("product", self, 1.0 / checked_number("product", float(number)))


class ComposedKernel(Algebra):
    """A sum or product of kernels, and of a number; operators make it, see `Kernel`.

    The sum is the covariance of the sum of independent processes. The product of covariance
    functions is one too. A number is added to all covariances (a random constant of that
    variance), or scales them.

    Math:
        sum: k = number + sum_p k_p;  product: k = number * prod_p k_p

    Attributes:
        operation: "sum" or "product".
        parts: the kernels: of keras2gp, or of scikit-learn on flattened inputs.
        number: the number that is added or multiplied.
        inputs: the inputs that all parts take.
        dtype: type of the entries: float64 if a part has it.

    >>> import keras, keras2gp, numpy
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="out")])
    >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.5)})
    >>> x = numpy.array([[1.0, 3.0], [2.0, 0.0]])
    >>> kernel.matrix(x).tolist()
    [[5.5, 1.5], [1.5, 2.5]]
    >>> (2.0 * kernel + kernel * kernel).matrix(x).tolist()
    [[41.25, 5.25], [5.25, 11.25]]
    """

    positions: tuple[int, ...] = ()
    mean = None

    def __init__(self, operation: Operation, parts: Sequence[Any], number: float) -> None:
        self.operation: Operation = operation
        self.parts = tuple(parts)
        self.number = number
        networks = [part for part in self.parts if is_ours(part)]
        self.inputs: tuple[InputSpec, ...] = networks[0].inputs
        dtypes = {part.dtype for part in networks}
        self.dtype = "float64" if "float64" in dtypes else "float32"

    @property
    def kind(self) -> str:
        """The kind of all parts, "nngp" or "ntk"; "mixed" of several kinds."""
        kinds = {getattr(part, "kind", "nngp") for part in self.parts}
        return kinds.pop() if len(kinds) == 1 else "mixed"

    @property
    def program(self) -> ComposedProgram:
        """Computes the blocks of the kernel's matrices."""
        return self._program(None)

    @property
    def parameters(self) -> dict[str, LayerVariances]:
        """Prior variances by layer; of several parts with their number: "1.dense", "2.dense"."""
        if len(self.parts) == 1:
            return dict(getattr(self.parts[0], "parameters", {}))
        return {
            f"{i}.{layer}": variances
            for i, part in enumerate(self.parts, start=1)
            for layer, variances in getattr(part, "parameters", {}).items()
        }

    def with_parameters(self, changes: Mapping[str, Any]) -> ComposedKernel:
        """The same with other variances, as `Kernel.with_parameters`; nothing is compiled again.

        Args:
            changes: layers, such as "1.dense" of the first part, or patterns, to variances.

        Returns:
            The new kernel.
        """
        parameters, count = changed_variances(self.parameters, changes), len(self.parts)
        parts = [
            part.with_parameters(part_parameters(parameters, i, count))
            if is_ours(part) and hasattr(part, "with_parameters")
            else part
            for i, part in enumerate(self.parts)
        ]
        return ComposedKernel(self.operation, parts, self.number)

    def __call__(
        self, x1: InputsLike, x2: InputsLike = None, get: KernelKind | None = None
    ) -> tf.Tensor:
        """Kernel matrix, [N1, N2]; arguments and errors as of `Kernel`.

        Args:
            x1: the first images.
            x2: the second images; None for x1.
            get: "nngp", "ntk" or "both" of a sum or scaling of networks' kernels: those of the sum
                of the networks, trained together.

        Returns:
            The covariances, a tensor.

        Shapes:
            x1 [N1, *shape], x2 [N2, *shape]; result [N1, N2], or [2, N1, N2] for "both".
        """
        values = tf.constant(self.matrix(x1, x2, get))
        sides = [x1] if x2 is None else [x1, x2]
        return derived(
            values, sides, lambda *x: self._combined([p(*x, get=get) for p in self._own])
        )

    def matrix(
        self, x1: InputsLike, x2: InputsLike = None, get: KernelKind | None = None
    ) -> Matrix:
        """Kernel matrix as a numpy array; see calling the kernel.

        Args:
            x1: the first images.
            x2: the second images; None for x1.
            get: the kind of kernel, as for calling the kernel.

        Returns:
            The covariances, [N1, N2], or [2, N1, N2] for "both".
        """
        first = self.images(x1, "x1")
        second = None if x2 is None else self.images(x2, "x2")
        return matrix_of(self._program(get), self.parameters, first, second)

    def diag(self, x: InputsLike, get: KernelKind | None = None) -> tf.Tensor:
        """The diagonal of kernel(x).

        Args:
            x: images.
            get: the kind of kernel, as for calling the kernel.

        Returns:
            The variances, [N], or [2, N] for "both".
        """
        values = tf.constant(diagonal_of(self._program(get), self.parameters, self.images(x)))
        return derived(
            values, [x], lambda x: self._combined([p.diag(x, get=get) for p in self._own])
        )

    @property
    def _own(self) -> tuple[Any, ...]:
        """The parts, all of which have derivatives by the inputs. Raises: InputError else."""
        for part in self.parts:
            if not is_ours(part):
                raise InputError(
                    f"{part!r} is a kernel of scikit-learn, whose derivatives by the inputs are "
                    "not known here"
                )
        return self.parts

    def _combined(self, values: Sequence[Any]) -> tf.Tensor:
        """Values of the parts as those of the whole; a number that is added has no derivative."""
        values = [tf.cast(value, self.dtype) for value in values]
        if self.operation == "sum":
            return tf.add_n(values)
        return self.number * reduce(mul, values)

    def images(self, x: InputsLike, name: str = "x") -> list[Images]:
        """The data tensors of all parts, one part after another.

        Args:
            x: images, as for calling the kernel.
            name: name of the argument, for messages.

        Returns:
            Arrays [N, *shape].
        """
        tensors: list[Images] = []
        for part in self.parts:
            if is_ours(part):
                tensors += part.images(x, name)
            else:
                tensors += checked(x, self.inputs, self.dtype, name)
        return tensors

    def _program(self, get: KernelKind | None) -> ComposedProgram:
        if get is not None and self.operation == "product" and len(self.parts) > 1:
            raise InputError(
                f"get={get!r}: a product of covariance functions is not that of one network, and "
                "has no tangent kernel. Try: without get="
            )
        programs = tuple(_program_of(part, get, self.dtype) for part in self.parts)
        inputs = tuple(_inputs_of(part) for part in self.parts)
        kinds = {program.kind for program in programs}
        kind = get or (kinds.pop() if len(kinds) == 1 else "mixed")
        return ComposedProgram(self.operation, programs, inputs, self.number, self.dtype, kind)

    def save(self, directory: str | Path) -> None:
        """Write a kernel.json, and each part into a directory of its own; keras2gp.load reads it.

        The part of a network is what `Kernel.save` writes, with a SavedModel of its own. Kernels of
        scikit-learn are written as data, with their settings: those of its own classes whose
        settings are numbers.

        Args:
            directory: where to; a kernel that was saved there before is replaced.

        Raises:
            ModelFileError: the directory exists and holds something else, or a part is of a class
                that a file does not hold.

        >>> import keras, keras2gp, tempfile
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> kernel = 2.0 * keras2gp.convert(model, overrides={"*": (1.0, 0.5)})
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     kernel.save(directory)
        ...     again = keras2gp.load(directory)
        >>> again.matrix([[1.0, 3.0]]).tolist() == kernel.matrix([[1.0, 3.0]]).tolist()
        True
        """
        path = as_path("directory", directory, ModelFileError)
        save_composed(self.operation, self.parts, self.number, path)

    @property
    def unsaved(self) -> Any:
        """The first part that a file does not hold; None where `save` writes all."""
        for part in self.parts:
            if isinstance(part, ComposedKernel):
                if (found := part.unsaved) is not None:
                    return found
            elif not is_ours(part):
                try:
                    function_state(part)
                except ModelFileError:
                    return part
        return None

    def __deepcopy__(self, memo: dict[int, Any]) -> ComposedKernel:
        """A kernel never changes."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return ComposedKernel, (self.operation, self.parts, self.number)

    def _repr_html_(self) -> str:
        """The kernel in a notebook: its parts, and the layers of all with their variances."""
        return kernel_html(self)

    def __repr__(self) -> str:
        sign = " + " if self.operation == "sum" else " * "
        neutral = float(self.operation == "product")
        number = [] if self.number == neutral else [f"{self.number:g}"]
        return f"<{sign.join([*number, *map(repr, self.parts)])}>"


def composed(operation: Operation, parts: Sequence[Any], number: float) -> ComposedKernel:
    """A sum or product of parts that were read from a file.

    Raises:
        InputError: they do not fit each other.
    """
    neutral = float(operation == "product")
    if number != neutral:
        checked_number(operation, number)
    for part in parts:
        require_plain(part)
    if not any(map(is_ours, parts)):
        raise InputError("no part is a network's kernel")
    require_same_inputs(parts)
    return ComposedKernel(operation, parts, number)


def _program_of(part: Any, get: KernelKind | None, dtype: str) -> Any:
    """The program of a part. Raises: InputError for a kind that it has not."""
    if isinstance(part, ComposedKernel):
        return part._program(get)  # noqa: SLF001 (of the same class)
    if is_ours(part):
        return part.program_of(get=get)
    if get in ("ntk", "both"):
        raise InputError(
            f"get={get!r}: {part!r} is no network, and has no tangent kernel. Try: without get="
        )
    return FunctionProgram(part, dtype)


def _inputs_of(part: Any) -> int:
    if isinstance(part, ComposedKernel):
        return sum(map(_inputs_of, part.parts))
    return len(part.graph.inputs) if is_ours(part) else 1


def _composed(
    operation: Operation, kernel: Any, other: Any, *, swapped: bool = False
) -> ComposedKernel:
    """The sum or product of a kernel of ours and a number, or another kernel.

    Raises:
        InputError: the other is neither, or they do not fit each other.
    """
    neutral = float(operation == "product")
    if isinstance(other, Real) and not isinstance(other, bool):
        number = checked_number(operation, float(other))
        require_plain(kernel)
        if isinstance(kernel, ComposedKernel) and kernel.operation == operation:
            combined = number + kernel.number if operation == "sum" else number * kernel.number
            return ComposedKernel(operation, kernel.parts, combined)
        return ComposedKernel(operation, [kernel], number)
    other = checked_kernel(other)
    sides = [other, kernel] if swapped else [kernel, other]
    parts: list[Any] = []
    number = neutral
    for side in sides:
        require_plain(side)
        if isinstance(side, ComposedKernel) and side.operation == operation:
            parts += side.parts
            number = number + side.number if operation == "sum" else number * side.number
        else:
            parts.append(side)
    require_same_inputs(parts)
    return ComposedKernel(operation, parts, number)
