"""A function of arrays as an operation of a TensorFlow graph, for GPflow and TFP."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.errors import InputError

__all__ = ["in_graph"]


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
