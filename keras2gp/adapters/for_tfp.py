"""A kernel for TensorFlow Probability."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras2gp.adapters.values import KernelValues, in_graph
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import KernelLike

__all__ = ["NetworkKernel"]


class NetworkKernel(tfp.math.psd_kernels.PositiveSemidefiniteKernel):  # type: ignore[misc]
    """The kernel of a network, without parameters."""

    def __init__(self, kernel: KernelLike, feature_ndims: int | None = None) -> None:
        values = KernelValues(kernel)
        inputs = getattr(kernel, "inputs", None)
        axes = None if inputs is None else len(inputs[0].shape)
        if feature_ndims is None:
            feature_ndims = axes or 1
        if feature_ndims not in (1, axes):
            raise InputError(f"feature_ndims is {feature_ndims!r}: expected {axes}, or 1: flat")
        super().__init__(
            feature_ndims=feature_ndims, dtype=tf.float64, name="NetworkKernel", parameters={}
        )
        self._values = values

    @classmethod
    def _parameter_properties(cls, dtype: Any) -> dict[str, Any]:  # noqa: ARG003 (TFP's)
        return {}

    def _matrix(self, x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
        self._refuse_batches(x1, x2)
        values = in_graph(self._values.matrix, x1, x2)
        values.set_shape([x1.shape[0], x2.shape[0]])
        return values

    def _apply(self, x1: tf.Tensor, x2: tf.Tensor, example_ndims: int = 0) -> tf.Tensor:
        shape = tf.broadcast_dynamic_shape(tf.shape(x1), tf.shape(x2))
        rows = tf.concat([[-1], shape[tf.rank(x1) - self.feature_ndims :]], 0)
        pairs = [tf.reshape(tf.broadcast_to(x, shape), rows) for x in (x1, x2)]
        values = in_graph(self._values.pairs, *pairs)
        static = tf.broadcast_static_shape(x1.shape, x2.shape)
        result = tf.reshape(values, shape[: tf.size(shape) - self.feature_ndims])
        result.set_shape(static[: static.rank - self.feature_ndims])
        return result

    def _refuse_batches(self, *tensors: tf.Tensor) -> None:
        for x in tensors:
            if x.shape.rank != 1 + self.feature_ndims:
                raise InputError(
                    f"index points have shape {x.shape}: expected [N, *image] with "
                    f"{self.feature_ndims} axes of an image (feature_ndims), and no batches"
                )
