"""The kernel that empirical_kernel() returns: that of a finite network at its present weights."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Images, InputsLike, Matrix
from keras2gp.empirical.derivatives import Derivatives, Exact, Sketch
from keras2gp.empirical.network import Network
from keras2gp.empirical.program import EmpiricalProgram
from keras2gp.errors import InputError, NumericalError
from keras2gp.kernel.derivatives import derived
from keras2gp.matrices.local import diagonal_of, matrix_of

__all__ = ["EmpiricalKernel", "Kind", "Parameterization"]

Kind = Literal["ntk", "nngp"]
Parameterization = Literal["standard", "ntk"]
_LINEAR = 1e-3
"""Relative departure from a linear function that float32 explains."""


class EmpiricalKernel:
    """The kernel of a finite network at its present weights; keras2gp.empirical_kernel makes it.

    It goes wherever a kernel of keras2gp.convert goes: gram with its stores, GPRegressor and
    GPClassifier. It holds copies of the weights: training the model does not change it.

    Attributes:
        kind: "ntk" or "nngp".
        dtype: type of the entries.
        parameterization: "standard" or "ntk".
        network: the model as a function of its weights.
        weights: how many weights count in the kernel.
        error: standard error of an entry relative to sqrt(k(x, x) k(x', x')), of the draw of a
            sketch's directions: at most sqrt(2 / K). 0 for the exact kernel.

    >>> import keras, keras2gp, numpy
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> kernel = keras2gp.empirical_kernel(model)
    >>> kernel
    <EmpiricalKernel ntk of ..., 3 weights, exact>
    >>> x = numpy.array([[1.0, 2.0], [3.0, -1.0]])
    >>> kernel.matrix(x).tolist()  # derivatives x and 1: x . x' + 1
    [[6.0, 2.0], [2.0, 11.0]]
    """

    def __init__(
        self,
        network: Network,
        kind: Kind,
        deviations: Sequence[float],
        *,
        parameterization: Parameterization,
        unit: int | None,
        dtype: str,
        sketch: int | None,
        seed: int,
    ) -> None:
        self.network, self.kind, self.dtype = network, kind, dtype
        self.parameterization = parameterization
        self._state = (network, kind, tuple(deviations))
        self._settings: dict[str, Any] = {
            "parameterization": parameterization,
            "unit": unit,
            "dtype": dtype,
            "sketch": sketch,
            "seed": seed,
        }
        derivatives: Derivatives = Exact(network, deviations, dtype)
        self.weights = derivatives.width
        self.error = 0.0
        if sketch is not None:
            derivatives = Sketch(network, deviations, dtype, sketch, seed)
            self.error = math.sqrt(2.0 / sketch)
        described = {"deviations": list(deviations), "sketch": sketch, "seed": sketch and seed}
        self._program = EmpiricalProgram(derivatives, kind, dtype, unit, described)
        self._meeting = threading.Lock()

    @property
    def program(self) -> EmpiricalProgram:
        """Computes the blocks of the kernel's matrices."""
        return self._program

    @property
    def parameters(self) -> dict[str, Any]:
        """No prior variances: the weights have values."""
        return {}

    def __call__(self, x1: InputsLike, x2: InputsLike = None) -> tf.Tensor:
        """Kernel matrix.

        Args:
            x1: the first images: an array, or a list of arrays (or a dict) for several inputs.
            x2: the second images; None for the matrix of x1 with itself, which is symmetric.

        Returns:
            The kernel's values, a tensor of the kernel's dtype.

        Raises:
            InputError: images that do not fit, or that the model cannot be called on.
            NumericalError: a value or a derivative is not finite.

        Shapes:
            x1 [N1, *shape], x2 [N2, *shape]; result [N1, N2].
        """
        values = tf.constant(self.matrix(x1, x2))
        return derived(values, [x1] if x2 is None else [x1, x2], _refuse_derivatives)

    def matrix(self, x1: InputsLike, x2: InputsLike = None) -> Matrix:
        """Kernel matrix as a numpy array; errors as for calling the kernel.

        Args:
            x1: the first images, as for calling the kernel.
            x2: the second images; None for the matrix of x1 with itself.

        Returns:
            The kernel's values, a numpy array of the kernel's dtype.

        Shapes:
            x1 [N1, *shape], x2 [N2, *shape]; result [N1, N2].
        """
        first = self.images(x1, "x1")
        second = None if x2 is None else self.images(x2, "x2")
        return matrix_of(self._program, {}, first, second)

    def diag(self, x: InputsLike) -> tf.Tensor:
        """The diagonal of kernel(x); errors as for calling the kernel.

        Args:
            x: images, as for calling the kernel.

        Returns:
            The values k(x, x), a tensor of the kernel's dtype.

        Shapes:
            x [N, *shape]; result [N].
        """
        values = tf.constant(diagonal_of(self._program, {}, self.images(x, "x")))
        return derived(values, [x], _refuse_derivatives)

    def full(self, x1: InputsLike, x2: InputsLike = None) -> Array:
        """The kernel between all pairs of output units; errors as for calling the kernel.

        Math:
            K[i, j, u, v] = sum_p J[i, u, p] J[j, v, p]

        Args:
            x1: the first images, as for calling the kernel.
            x2: the second images; None for x1.

        Returns:
            An array of the kernel's dtype; `unit=` of the kernel does not matter to it.

        Shapes:
            x1 [N1, *shape], x2 [N2, *shape]; result [N1, N2, U, U] for U output units.

        >>> import keras, keras2gp, numpy
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        >>> keras2gp.empirical_kernel(model).full(numpy.array([[1.0, 2.0]])).tolist()
        [[[[6.0, 0.0], [0.0, 6.0]]]]
        """
        first = self.images(x1, "x1")
        second = first if x2 is None else self.images(x2, "x2")
        return self._program.full(first, second)

    def images(self, x: InputsLike, name: str = "x") -> list[Images]:
        """The images of x, checked.

        Args:
            x: images, as for calling the kernel.
            name: name of the argument, for messages.

        Returns:
            An array [N, *shape] for each input of the model.

        Raises:
            InputError: images that do not fit, or that the model cannot be called on.
        """
        with self._meeting:
            arrays = self.network.inputs.arrays(x, name)
            if self.network.units is None:
                self.network.meet(arrays)
                if self.kind == "nngp":
                    _require_linear(self.network, self._state[2], arrays)
        _ = self._program.units  # refuses a unit that the output does not have
        return arrays

    def __deepcopy__(self, memo: dict[int, Any]) -> EmpiricalKernel:
        """A kernel never changes."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (*self._state, self._settings)

    def __repr__(self) -> str:
        sketch = self._settings["sketch"]
        how = "exact" if sketch is None else f"sketch of {sketch}, error {self.error:.2g}"
        return (
            f"<EmpiricalKernel {self.kind} of {self.network.name}, {self.weights} weights, {how}>"
        )


def _restored(
    network: Network, kind: Kind, deviations: Sequence[float], settings: dict[str, Any]
) -> EmpiricalKernel:
    """A kernel from what `EmpiricalKernel.__reduce__` gives."""
    return EmpiricalKernel(network, kind, deviations, **settings)


def _require_linear(
    network: Network, deviations: Sequence[float], images: Sequence[Images]
) -> None:
    """Refuse a model whose output is not linear in the weights of its last layer.

    f(w + d) + f(w - d) = 2 f(w) for random d, and f is 0 where all those weights are 0: also those
    that have no variance, such as biases.
    """
    one = [tf.constant(array[:1]) for array in images]
    random = np.random.default_rng(0)
    held = {id(network.weights[i].layer) for i, s in enumerate(deviations) if s}
    places = [i for i, weight in enumerate(network.weights) if id(weight.layer) in held]

    def output(change: Any) -> Array:
        values = list(network.values)
        for i in places:
            values[i] = tf.constant(change(i, values[i].numpy()))
        result: Array = network.outputs(values, one).numpy()
        return result

    steps = {i: random.normal(size=network.weights[i].shape) for i in places}
    up = output(lambda i, value: value + steps[i].astype(value.dtype))
    down = output(lambda i, value: value - steps[i].astype(value.dtype))
    here, nothing = output(lambda _, value: value), output(lambda _, value: 0.0 * value)
    bound = _LINEAR * max(np.abs(up).max(), np.abs(down).max(), np.abs(here).max())
    if not np.isfinite(up).all() or not np.isfinite(down).all():
        raise NumericalError(f"{network.name} overflows where its last weights are of size 1")
    if np.abs(up + down - 2.0 * here).max() > bound or np.abs(nothing).max() > bound:
        names = ", ".join(network.weights[i].path for i in places)
        raise InputError(
            f"the output of {network.name} is not linear in the weights that are taken for its "
            f"last ones ({names}). Try: logits=True for a model that ends in a softmax or sigmoid, "
            "last= with the name of the last layer, or kind='ntk'"
        )


def _refuse_derivatives(*sides: Any) -> tf.Tensor:
    """Refuse a tape that goes back to the inputs. Raises: InputError always."""
    del sides
    raise InputError(
        "the kernel of a finite network has no derivatives by the inputs here. Try: the kernel of "
        "the infinitely wide one, keras2gp.convert(model)"
    )
