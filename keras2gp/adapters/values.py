"""A kernel's values as arrays of float64, and as an operation of a TensorFlow graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras2gp._util.arrays import Array, Tensor
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import (
    KernelLike,
    check_kernel,
    check_variances,
    kernel_values,
)
from keras2gp.gp.process.prior_mean import has_mean

__all__ = ["KernelValues", "in_graph"]

_ROWS = 32


class KernelValues:
    """Matrix, diagonal and pairs of a kernel, as float64 arrays.

    The matrix of the last inputs with themselves is kept: while other hyperparameters are
    trained, it is asked for at every step.
    """

    def __init__(self, kernel: KernelLike) -> None:
        if isinstance(kernel, str):
            raise InputError(f"kernel is {kernel!r}: expected a kernel such as keras2gp.convert")
        check_kernel(kernel)
        if positions := getattr(kernel, "positions", ()):
            raise InputError(
                f"the kernel's output has positions {positions}, and other libraries take one "
                "number for each pair of images. Try: kernel.at(position), of one of them"
            )
        if has_mean(kernel):
            raise InputError(
                "the kernel's process has a mean, which other libraries keep apart from kernels. "
                "Try: kernel.without_mean(), with targets less kernel.mean(x)"
            )
        self._kernel = kernel
        self._kept: tuple[Array, Array] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy, without the matrix that is kept."""
        return {**vars(self), "_kept": None}

    def matrix(self, x1: Array, x2: Array | None = None) -> Array:
        """[N1, N2]; x2=None is x1 with itself. Raises: InputError, NumericalError."""
        if x2 is not None and not _equal(x1, x2):
            return self._computed(x1, x2)
        if self._kept is None or not _equal(self._kept[0], x1):
            values = self._computed(x1, None)
            values.flags.writeable = False
            self._kept = (np.array(x1), values)
        return self._kept[1]

    def diagonal(self, x: Array) -> Array:
        """[N]. Raises: InputError, NumericalError."""
        return check_variances(self._kernel.diag(x), len(x), "the diagonal of the kernel")

    def pairs(self, x1: Array, x2: Array) -> Array:
        """k(x1_n, x2_n), [N]. Raises: InputError, NumericalError."""
        if _equal(x1, x2):
            return self.diagonal(x1)
        starts = range(0, len(x1), _ROWS)
        blocks = [self._computed(x1[i : i + _ROWS], x2[i : i + _ROWS]) for i in starts]
        return np.concatenate([np.diagonal(block) for block in blocks])

    def _computed(self, x1: Array, x2: Array | None) -> Array:
        values = self._kernel(x1) if x2 is None else self._kernel(x1, x2)
        shape = (len(x1), len(x1 if x2 is None else x2))
        return kernel_values(values, shape, "the kernel matrix").astype(np.float64)


def _equal(one: Array, other: Array) -> bool:
    return one is other or (one.shape == other.shape and bool((one == other).all()))


def in_graph(function: Any, *inputs: Tensor) -> Tensor:
    """A function of arrays as an operation of TensorFlow, without a gradient.

    Its gradient in the inputs raises InputError, and is NaN in a compiled function: there
    TensorFlow asks for it whether it is used or not.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def operation(*tensors: tf.Tensor) -> Any:
        values = tf.numpy_function(function, tensors, tf.float64, stateful=False)

        def gradient(*_: Any) -> Any:
            if tf.executing_eagerly():
                raise InputError(
                    "a kernel of keras2gp is not differentiable in its inputs here. Try: inputs "
                    "that are constants; inducing points that are not trainable"
                )
            return [tf.fill(tf.shape(x), tf.cast(float("nan"), x.dtype)) for x in tensors]

        return values, gradient

    return operation(*inputs)
