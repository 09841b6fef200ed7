"""A kernel: what convert() gives. Covariances of the Gaussian process of one Keras model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array
from keras2gp.covariance.program import KernelKind, check_tangent
from keras2gp.errors import InputError, NumericalError, PriorError
from keras2gp.graph.graph import Graph
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.inputs import InputSpec, checked
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.local import diagonal_of, matrix_of
from keras2gp.report import ConversionReport

__all__ = ["Kernel"]


class Kernel:
    """The covariance function of the network at infinite width, for one output unit.

    k(x1, x2) = E[f(x1) f(x2)] under the prior over weights and biases; the mean is zero.
    Made by keras2gp.convert or keras2gp.load, not by hand.
    """

    def __init__(
        self,
        program: CompiledProgram,
        parameters: Mapping[str, LayerVariances],
        inputs: Sequence[InputSpec],
        preprocessor: Any | None,
        report: ConversionReport,
        *,
        siblings: dict[KernelKind, CompiledProgram] | None = None,
    ) -> None:
        self._program = program
        self._siblings = {program.kind: program} if siblings is None else siblings
        self._parameters = dict(parameters)
        self.inputs = tuple(inputs)
        self.preprocessor = preprocessor
        self.report = report

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
        """What entries are computed and returned in: "float32" or "float64"."""
        return self._program.dtype

    @property
    def kind(self) -> KernelKind:
        """What entries are: "nngp", covariances of the prior, or "ntk", the tangent kernel."""
        return self._program.kind

    @property
    def parameters(self) -> dict[str, LayerVariances]:
        """Prior variances of every random layer, by its path in the model (a copy)."""
        return dict(self._parameters)

    def with_parameters(self, changes: Mapping[str, Any]) -> Kernel:
        """Another kernel of the same architecture; nothing is compiled again.

        changes: layer path to LayerVariances, to a (weight, bias) pair, or to a dict with
                 "weight", "bias" or both; layers that are not named keep theirs.
        Raises: PriorError for an unknown layer or a variance that is negative or not finite.
        """
        parameters = self.parameters
        for layer, change in changes.items():
            if layer not in parameters:
                known = ", ".join(parameters)
                raise PriorError(f"{layer!r} is no layer of this kernel. Its layers: {known}")
            parameters[layer] = _changed(layer, parameters[layer], change)
        parts = self.inputs, self.preprocessor, self.report
        return Kernel(self._program, parameters, *parts, siblings=self._siblings)

    def __call__(self, x1: Any, x2: Any = None, get: KernelKind | None = None) -> tf.Tensor:
        """Kernel matrix, [N1, N2].

        x1, x2: [N, *shape] each, or a list of such arrays for a model with several inputs; with
                x2=None the matrix of x1 with itself, exactly symmetric, with an exact diagonal.
        get:    "nngp", the covariance of the prior; "ntk", the neural tangent kernel in the
                parameterisation in which every weight and bias contributes its variance (Jacot
                et al. 2018); or "both", [2, N1, N2] in that order, of one pass. None: the
                kernel's own kind.
        Raises: InputError for arrays that do not fit or are not finite, or for a tangent kernel
                that does not exist; NumericalError if the kernel overflows its dtype.
        """
        return tf.constant(self.matrix(x1, x2, get))

    def matrix(self, x1: Any, x2: Any = None, get: KernelKind | None = None) -> Array:
        """Like calling the kernel, as a numpy array."""
        program = self._of_kind(get)
        first = self.images(x1, "x1")
        second = None if x2 is None else self.images(x2, "x2")
        return _finite(matrix_of(program, self._parameters, first, second), "matrix")

    def diag(self, x: Any, get: KernelKind | None = None) -> tf.Tensor:
        """Prior variance of the output for each image, [N]: the diagonal of kernel(x)."""
        program, images = self._of_kind(get), self.images(x, "x")
        return tf.constant(_finite(diagonal_of(program, self._parameters, images), "diag"))

    def _of_kind(self, kind: KernelKind | None) -> CompiledProgram:
        if kind is None:
            return self._program
        if kind not in ("nngp", "ntk", "both"):
            raise InputError(f"get={kind!r}: expected 'nngp', 'ntk' or 'both'")
        if kind not in self._siblings:
            if kind != "nngp" and (obstacles := check_tangent(self.graph)):
                raise InputError(f"there is no tangent kernel. {obstacles[0]}")
            self._siblings[kind] = CompiledProgram(self.graph, self.dtype, kind=kind)
        return self._siblings[kind]

    def images(self, x: Any, name: str = "x") -> list[Array]:
        """The data tensors of x: checked, and run through the deterministic layers by Keras."""
        arrays = checked(x, self.inputs, self.dtype, name)
        if self.preprocessor is None:
            return arrays
        outputs = [self.preprocessor(batch, training=False) for batch in _batches(arrays)]
        columns = zip(*(o if isinstance(o, list | tuple) else [o] for o in outputs), strict=True)
        images = [np.concatenate([np.asarray(part) for part in parts]) for parts in columns]
        for image in images:
            if not np.isfinite(image).all():
                raise InputError(
                    f"{name}: the layers before the first weights give values that are not finite"
                )
        return [image.astype(self.dtype) for image in images]

    def save(self, directory: str | Path) -> None:
        """Write a SavedModel that runs without keras2gp, and a kernel.json that load() reads."""
        from keras2gp.kernel.saving import save_kernel  # noqa: PLC0415 (it needs this class)

        save_kernel(self, Path(directory))

    def __repr__(self) -> str:
        shapes = ", ".join(str(list(spec.shape)) for spec in self.inputs)
        return f"<Kernel of {self.report.model}, input {shapes}, {len(self._parameters)} layers>"


def _changed(layer: str, old: LayerVariances, change: Any) -> LayerVariances:
    if isinstance(change, LayerVariances):
        return change
    try:
        if isinstance(change, Mapping):
            return replace(old, **change)
        weight, bias = change
        return LayerVariances(weight, bias)
    except (TypeError, ValueError) as error:
        raise PriorError(f"{layer}: {change!r} are no variances: {error}") from error


def _batches(arrays: list[Array], size: int = 1024) -> list[list[Array]]:
    count = len(arrays[0])
    starts = range(0, count, size)
    return [[a[i : i + size] for a in arrays] for i in starts]


def _finite(values: Array, what: str) -> Array:
    if not np.isfinite(values).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise NumericalError(
            f"entry {place} of the kernel's {what} is {values[place]}: variances grow beyond "
            f"{values.dtype}. Try smaller variances, or dtype='float64'"
        )
    return values
