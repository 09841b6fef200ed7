"""A kernel for GPflow."""

from __future__ import annotations

import gpflow
import tensorflow as tf

from keras2gp._util.arrays import InputsLike
from keras2gp.adapters.values import KernelValues, in_graph
from keras2gp.gp.arguments.kernel_function import KernelLike

__all__ = ["NetworkKernel"]


class NetworkKernel(gpflow.kernels.Kernel):  # type: ignore[misc]
    """The kernel of a network, of flattened images [N, features], without parameters."""

    def __init__(self, kernel: KernelLike) -> None:
        super().__init__(name="network_kernel")
        self._values = KernelValues(kernel)

    def K(self, X: InputsLike, X2: InputsLike = None) -> tf.Tensor:  # noqa: N802, N803 (GPflow's names)
        """The matrix, [N, M]."""
        second = X if X2 is None else X2
        values = in_graph(self._values.matrix, X, second)
        values.set_shape([X.shape[0], second.shape[0]])
        return tf.cast(values, gpflow.default_float())

    def K_diag(self, X: InputsLike) -> tf.Tensor:  # noqa: N802, N803
        """The variances, [N]."""
        values = in_graph(self._values.diagonal, X)
        values.set_shape([X.shape[0]])
        return tf.cast(values, gpflow.default_float())
