"""The kernel that convert() returns: its variances, its mean, its positions, and how it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras2gp._util.paths import as_path
from keras2gp.errors import ModelFileError, one_line
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.evaluation import Evaluation
from keras2gp.kernel.inputs import InputSpec
from keras2gp.kernel.mean import Mean, MeanFunction
from keras2gp.kernel.parts import KernelParts
from keras2gp.kernel.positions import Programs, place_of
from keras2gp.kernel.saving import save_kernel
from keras2gp.kernel.variances import changed_variances, kernel_html
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.report import ConversionReport

__all__ = ["Kernel"]


class Kernel(Evaluation):
    """The covariance function of the network at infinite width, for one output unit.

    keras2gp.convert and keras2gp.load make kernels; the constructor is not for users. Sums and
    products of kernels, and with numbers and scikit-learn's kernels, are kernels (ComposedKernel):
    `k1 + k2`, `k1 * k2`, `2.0 * k1`, `k1 + RBF(1.0)`.

    Where the output is a map or a sequence the process is over images and positions.

    Math:
        k(x1, x2) = E[f(x1) f(x2)] over the prior of weights and biases, and E[f(x)] = 0.
        With positions: k(x1, x2)[g, h] = E[f_g(x1) f_h(x2)].
        With a mean m, of constants at the output: k is the covariance of f - m.

    Attributes:
        inputs: name and shape of every input of the model.
        preprocessor: Keras model of the deterministic layers before the first weights, or None.
        report: what became of each layer, a ConversionReport.

    >>> import keras, keras2gp, numpy
    >>> model = keras.Sequential([
    ...     keras.Input((2,)),
    ...     keras.layers.Dense(8, activation="relu", name="hidden"),
    ...     keras.layers.Dense(1, name="out"),
    ... ])
    >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.0)}, dtype="float64")
    >>> kernel
    <Kernel of ..., input [2], 2 layers>
    >>> x = numpy.array([[1.0, 1.0], [2.0, 0.0]])
    >>> numpy.asarray(kernel(x)).round(4).tolist()
    [[0.5, 0.5342], [0.5342, 1.0]]
    """

    def __init__(
        self,
        program: CompiledProgram,
        parameters: Mapping[str, LayerVariances],
        inputs: Sequence[InputSpec],
        preprocessor: Any | None,
        report: ConversionReport,
        *,
        mean: Mean | None = None,
        programs: Programs | None = None,
    ) -> None:
        super().__init__(program, parameters, inputs, preprocessor, programs)
        self._mean = mean
        self.report = report

    @classmethod
    def from_parts(cls, parts: KernelParts) -> Kernel:
        """Compile the kernel that the parts determine; they are not checked again.

        Args:
            parts: the parts of a kernel, as `Kernel.parts` gives them.

        Returns:
            The kernel.
        """
        program = CompiledProgram(parts.graph, parts.dtype, kind=parts.kind)
        given = parts.parameters, parts.inputs, parts.preprocessor, parts.report
        return cls(program, *given, mean=parts.mean)

    @property
    def parts(self) -> KernelParts:
        """Everything that determines the kernel, as data."""
        return KernelParts(
            self.graph,
            self.kind,
            self.dtype,
            self.parameters,
            self.inputs,
            self.preprocessor,
            self.report,
            self._mean,
        )

    @property
    def mean(self) -> MeanFunction | None:
        """The mean function of the process, in the units of the model's output; None if it is 0.

        It is what the model adds after its last random layer: constant biases of the output, a
        Rescaling's offset, a beta, numbers and arrays; or its input, where f(x) + x is the output.
        GPRegressor takes it as the mean of the prior.

        >>> import keras, keras2gp, numpy
        >>> x = keras.Input((2,))
        >>> kernel = keras2gp.convert(keras.Model(x, keras.layers.Dense(1)(x) + 3.0))
        >>> kernel.mean, kernel.mean(numpy.zeros((1, 2))).tolist()
        (<mean 3>, [[3.0]])
        """
        if self._mean is None:
            return None
        return MeanFunction(self._mean, self.inputs, self.dtype, self._tensors)

    def without_mean(self) -> Kernel:
        """The kernel of the process less its mean: the same covariances, and no mean.

        Returns:
            The kernel; nothing is compiled again.

        >>> import keras, keras2gp
        >>> x = keras.Input((2,))
        >>> kernel = keras2gp.convert(keras.Model(x, keras.layers.Dense(1)(x) + 3.0))
        >>> kernel.without_mean().mean is None
        True
        """
        parts = self.inputs, self.preprocessor, self.report
        return Kernel(self._program, self._parameters, *parts, programs=self._programs)

    @property
    def parameters(self) -> dict[str, LayerVariances]:
        """Prior variances of every random layer, by its path in the model (a copy)."""
        return dict(self._parameters)

    def with_parameters(self, changes: Mapping[str, Any]) -> Kernel:
        """Another kernel of the same architecture; nothing is compiled again.

        Args:
            changes: layer path to LayerVariances, to a (weight, bias) pair, or to a dict with
                "weight", "bias" or both. A path may be a pattern: * any text, ? one character,
                [ab] a choice; later ones win. Layers that are not named keep their variances.

        Returns:
            The new kernel; this one is not changed.

        Raises:
            PriorError: an unknown layer, or a variance that is negative or not finite.

        >>> import keras, keras2gp, numpy
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="out")])
        >>> kernel = keras2gp.convert(model, overrides={"out": (1.0, 0.0)})
        >>> wider = kernel.with_parameters({"out": {"bias": 3.0}})
        >>> numpy.asarray(wider.diag(numpy.ones((1, 2)))).tolist()
        [4.0]
        """
        parameters = changed_variances(self._parameters, changes)
        parts = self.inputs, self.preprocessor, self.report
        return Kernel(self._program, parameters, *parts, mean=self._mean, programs=self._programs)

    def at(self, position: Any) -> Kernel:
        """The kernel of the output at one position: a number for each image, as of a vector.

        Args:
            position: an index for each of the output's axes of positions; a number for one axis.

        Returns:
            The kernel, with the variances of this one.

        Raises:
            InputError: there is no such position.

        >>> import keras, keras2gp, numpy
        >>> model = keras.Sequential([keras.Input((3, 1)), keras.layers.Conv1D(1, 1)])
        >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.0)})
        >>> x = numpy.array([[[1.0], [2.0], [3.0]]])
        >>> kernel.positions, kernel.at(2).positions
        ((3,), ())
        >>> numpy.asarray(kernel(x)).tolist(), numpy.asarray(kernel.at(2)(x)).tolist()
        ([[[1.0, 4.0, 9.0]]], [[9.0]])
        """
        place = place_of(position, self.positions)
        note = f"the kernel is of the output at position {place}"
        report = replace(self.report, notes=(*self.report.notes, note), positions=())
        program = self._programs.of(place, self.kind)
        mean = None if self._mean is None else self._mean.at(place)
        parts = self.inputs, self.preprocessor, report
        return Kernel(program, self._parameters, *parts, mean=mean)

    def save(self, directory: str | Path) -> None:
        """Write a SavedModel that runs without keras2gp, and a kernel.json that load() reads.

        The SavedModel gives covariances; a mean stands in kernel.json.

        Args:
            directory: where to; a kernel that was saved there before is replaced.

        Raises:
            ModelFileError: the directory exists and holds something else.

        >>> import keras, keras2gp, pathlib, tempfile
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     keras2gp.convert(model).save(directory)
        ...     sorted(file.name for file in pathlib.Path(directory).glob("*.*"))
        ['fingerprint.pb', 'kernel.json', 'saved_model.pb']
        """
        save_kernel(self.parts, as_path("directory", directory, ModelFileError))

    def __deepcopy__(self, memo: dict[int, Any]) -> Kernel:
        """A kernel never changes, so that a copy shares the compiled program."""
        return self.with_parameters({})

    def __reduce__(self) -> tuple[Any, ...]:
        return Kernel.from_parts, (self.parts,)

    def _repr_html_(self) -> str:
        """The kernel in a notebook: its layers with their variances, and notes."""
        return kernel_html(self, self.report.notes)

    def __repr__(self) -> str:
        shapes = ", ".join(str(list(spec.shape)) for spec in self.inputs)
        name, count = one_line(self.report.model), len(self._parameters)
        output = f", positions {list(self.positions)}" if self.positions else ""
        output += "" if self._mean is None else f", mean {self._mean.text}"
        return f"<Kernel of {name}, input {shapes}{output}, {count} layers>"
