"""The values of a kernel: matrices, diagonals and derivatives, by its compiled programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Images, InputsLike, Matrix
from keras2gp._util.checks import one_of
from keras2gp.covariance.program import KernelKind
from keras2gp.errors import InputError
from keras2gp.graph.graph import Graph
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.algebra import Algebra
from keras2gp.kernel.data import data_tensors, require_pair
from keras2gp.kernel.derivatives import Derivatives
from keras2gp.kernel.inputs import InputSpec, checked, require_eager
from keras2gp.kernel.positions import Positions, Programs, place_of
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.local import diagonal_of, matrix_of, within_of

__all__ = ["Evaluation"]


class Evaluation(Algebra):
    """The covariances of a network's process at given images; see Kernel.

    Args:
        program: the compiled covariance at equal positions.
        parameters: the prior variances of every random layer.
        inputs: name and shape of every input of the model.
        preprocessor: Keras model of the deterministic layers before the first weights, or None.
        programs: the programs of the same graph at other positions; None to compile them.
    """

    def __init__(
        self,
        program: CompiledProgram,
        parameters: Mapping[str, LayerVariances],
        inputs: Sequence[InputSpec],
        preprocessor: Any | None,
        programs: Programs | None,
    ) -> None:
        self._program = program
        self._programs = Programs(program) if programs is None else programs
        self._parameters = dict(parameters)
        self.inputs = tuple(inputs)
        self.preprocessor = preprocessor

    @property
    def program(self) -> CompiledProgram:
        """The compiled covariance, shared by all kernels of one conversion."""
        return self._program

    @property
    def graph(self) -> Graph:
        """The network as a graph of ops."""
        return self._program.graph

    @property
    def dtype(self) -> str:
        """Type in which entries are computed and returned: "float32" or "float64"."""
        return self._program.dtype

    @property
    def kind(self) -> KernelKind:
        """The kernel's kind: "nngp", covariances of the prior, or "ntk", the tangent kernel."""
        return self._program.kind

    @property
    def positions(self) -> tuple[int, ...]:
        """Sizes of the output's axes of positions, in Keras's order; () for a vector.

        A Flatten at the very end is not taken for one: its units are channels at positions.
        """
        return self.graph.positions

    def __call__(
        self,
        x1: InputsLike,
        x2: InputsLike = None,
        get: KernelKind | None = None,
        *,
        positions: Positions = "equal",
        position: Any = None,
    ) -> tf.Tensor:
        """Kernel matrix.

        Args:
            x1: the first images: an array, or a list of arrays (or a dict by input name) for a
                model with several inputs.
            x2: the second images; None for the matrix of x1 with itself, which is exactly
                symmetric and has an exact diagonal.
            get: "nngp", the covariance of the prior; "ntk", the neural tangent kernel in the
                parameterisation in which every weight and bias contributes its variance; "both",
                of one pass; None for the kernel's own kind.
            positions: where the output has positions, "equal" for the covariances at equal
                positions, or "all" for those between all positions.
            position: one position of the output, as for `at`; None for all of them.

        Returns:
            The covariances, a tensor of the kernel's dtype. A tf.GradientTape that watches a tensor
            among the images has their derivatives by it.

        Raises:
            InputError: arrays that do not fit or are not finite, or a tangent kernel that does
                not exist, or there is no rule for different positions.
            NumericalError: the kernel overflows its dtype.

        Shapes:
            x1 [N1, *shape], x2 [N2, *shape]; result [N1, N2], or [2, N1, N2] for "both", with the
            NNGP kernel first. With positions: [N1, N2, *positions]; between all of them
            [N1, *positions, N2, *positions]; at one of them [N1, N2].

        References:
            Jacot et al., "Neural Tangent Kernel", 2018, for the tangent kernel.

        >>> import keras, keras2gp, numpy
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.5)})
        >>> x1, x2 = numpy.array([[1.0, 3.0]]), numpy.array([[1.0, 1.0], [2.0, 0.0]])
        >>> numpy.asarray(kernel(x1, x2)).tolist()  # w2 x1 . x2 / 2 + b2
        [[2.5, 1.5]]
        """
        values = tf.constant(self.matrix(x1, x2, get, positions=positions, position=position))
        return self._derivatives(positions, position, get).of_matrix(values, x1, x2)

    def matrix(
        self,
        x1: InputsLike,
        x2: InputsLike = None,
        get: KernelKind | None = None,
        *,
        positions: Positions = "equal",
        position: Any = None,
    ) -> Matrix:
        """Kernel matrix as a numpy array; errors as for calling the kernel.

        Args:
            x1: the first images, as for calling the kernel.
            x2: the second images; None for the matrix of x1 with itself.
            get: the kind of kernel, as for calling the kernel.
            positions: "equal" or "all", as for calling the kernel.
            position: one position, as for calling the kernel.

        Returns:
            The covariances, a numpy array of the kernel's dtype.

        Shapes:
            As for calling the kernel.

        >>> import keras, keras2gp, numpy
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.5)})
        >>> kernel.matrix(numpy.array([[1.0, 3.0], [2.0, 0.0]])).tolist()
        [[5.5, 1.5], [1.5, 2.5]]
        """
        program = self.program_of(positions, position, get)
        first = self.images(x1, "x1")
        second = None if x2 is None else self.images(x2, "x2")
        return self.by_positions(matrix_of(program, self._parameters, first, second), program)

    def diag(
        self,
        x: InputsLike,
        get: KernelKind | None = None,
        *,
        positions: Positions = "equal",
        position: Any = None,
    ) -> tf.Tensor:
        """Prior variance of the output for each image: the diagonal of kernel(x).

        Args:
            x: images, as for calling the kernel.
            get: the kind of kernel, as for calling the kernel.
            positions: "equal", or "all" for each image's covariances between all positions.
            position: one position, as for calling the kernel.

        Returns:
            The variances, a tensor of the kernel's dtype.

        Raises:
            InputError: images that do not fit or are not finite, or a tangent kernel that does
                not exist.
            NumericalError: the kernel overflows its dtype.

        Shapes:
            x [N, *shape]; result [N], or [2, N] for "both". With positions: [N, *positions];
            between all of them [N, *positions, *positions]; at one of them [N].

        >>> import keras, keras2gp, numpy
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.5)})
        >>> numpy.asarray(kernel.diag(numpy.array([[1.0, 3.0], [2.0, 0.0]]))).tolist()
        [5.5, 2.5]
        """
        program, images = self.program_of(positions, position, get), self.images(x, "x")
        derivatives = self._derivatives(positions, position, get)
        if not program.graph.between:
            variances = tf.constant(diagonal_of(program, self._parameters, images))
            return derivatives.of_diagonal(variances, x)
        values = within_of(program, self._parameters, images)
        lead = values.shape[: values.ndim - 2 * len(program.graph.positions)]
        within = tf.constant(values.reshape(*lead, *self.positions, *self.positions))
        return derivatives.of_diagonal(within, x)

    def _derivatives(
        self, positions: Positions, position: Any, get: KernelKind | None
    ) -> Derivatives:
        program = self.program_of(positions, position, get)
        return Derivatives(self.inputs, self.preprocessor, program, self._parameters)

    def program_of(
        self, positions: Positions = "equal", position: Any = None, get: KernelKind | None = None
    ) -> CompiledProgram:
        """The compiled covariance at equal positions, between all of them, or at one.

        Args:
            positions: "equal" or "all", as for calling the kernel.
            position: one position, as for calling the kernel.
            get: the kind of kernel, as for calling the kernel.

        Returns:
            The program; kernels of one conversion share it.

        Raises:
            InputError: as for calling the kernel.
        """
        require_eager("a kernel's values")
        one_of("positions", positions, ("equal", "all"))
        if position is not None and positions != "equal":
            raise InputError("positions='all' and position=: at most one of the two")
        require_pair(self.graph, self.dtype)
        place = positions if position is None else place_of(position, self.positions)
        if get is not None:
            one_of("get", get, ("nngp", "ntk", "both"))
        return self._programs.of(place, get or self.kind)

    def by_positions(self, matrix: Matrix, program: CompiledProgram) -> Matrix:
        """A matrix between positions, [.., N1, *positions, N2, *positions]; any other as it is.

        Args:
            matrix: of images at positions, as `program` gives it.
            program: one of `program_of`.

        Returns:
            A view of the matrix.
        """
        if not program.graph.between:
            return matrix
        *lead, n1, n2 = matrix.shape
        n1, n2 = n1 // program.rows, n2 // program.rows
        return matrix.reshape(*lead, n1, *self.positions, n2, *self.positions)

    def images(self, x: InputsLike, name: str = "x") -> list[Images]:
        """The data tensors of x: checked, and run through the deterministic layers by Keras.

        Args:
            x: images, as for calling the kernel.
            name: name of the argument, for messages.

        Returns:
            The input tensors of the graph, arrays of the kernel's dtype, [N, *shape] each.

        Raises:
            InputError: images that do not fit, or values that are not finite.
        """
        return self._tensors(x, name)[: len(self.graph.inputs)]

    def _tensors(self, x: InputsLike, name: str = "x") -> list[Images]:
        """The data tensors of x, and behind them those that the mean alone is made of."""
        arrays = checked(x, self.inputs, self.dtype, name)
        return data_tensors(arrays, self.preprocessor, self.graph, self.dtype, name)
